//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequest;

use crate::lambda::plain;

/// An event of API Gateway, or of a function URL, is a plain request; only a body that is said to be base64 may not be.
///
/// # Panics
/// Where that does not hold.
pub fn event(body: &[u8]) {
    let Ok(event) = serde_json::from_slice::<ApiGatewayV2httpRequest>(body) else { return };
    let encoded = event.is_base64_encoded;
    let (_, body) = plain(event);
    let decoded = body.decoded();
    assert!(decoded.is_ok() || encoded, "{decoded:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_testkit::inputs::near;

    use super::*;

    fn events() -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../events/lambda");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        files.map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn any_event_is_a_request_or_refused(body in near(events())) {
            event(&body);
        }
    }
}
