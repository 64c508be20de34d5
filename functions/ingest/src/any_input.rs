//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use crate::lambda::plain;

/// An event of API Gateway, or of a function URL, is a plain request, or it is refused before it comes here.
pub fn event(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let Ok(event) = serde_json::from_str::<serde_json::Value>(text) else { return };
    // API Gateway writes the base64 itself. Over any other aws_lambda_events panics, which the runtime makes one failed
    // invocation.
    if event.get("isBase64Encoded").is_some_and(|is| is != false) {
        return;
    }
    if let Ok(request) = lambda_http::request::from_str(text) {
        drop(plain(request));
    }
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
