//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use http::{HeaderMap, HeaderName, HeaderValue};
use lambda_http::aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use sentinel_config::Hmac;
use sentinel_core::UnixMs;

use crate::auth::{Authenticator, Credentials};
use crate::lambda::plain;
use crate::sns;

/// The secret of every credential here.
const SECRET: &str = "swordfish-1234";
/// The topic that is listed here.
const TOPIC: &str = "arn:aws:sns:eu-west-1:000000000000:alerts";

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

/// Takes one credential of each kind.
fn all() -> Authenticator {
    Authenticator::new(Credentials {
        allow_anonymous: true,
        bearer: vec![SECRET.into()],
        basic: vec![("prometheus".to_owned(), SECRET.into())],
        header: vec![("X-Token".to_owned(), SECRET.into())],
        hmac: vec![Hmac { secret: SECRET.into(), header: "x-signature".to_owned(), timestamp_header: None }],
        sns: vec![TOPIC.to_owned()],
    })
}

/// Whatever a request shows opens only where it shows a secret; the answer to the others knows what would be taken.
///
/// # Panics
/// Where that does not hold.
pub fn credentials(body: &[u8]) {
    let text = String::from_utf8_lossy(body);
    let (head, body) = text.split_once("\n\n").unwrap_or((&*text, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().take(100).filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let all = all();
    match (all.check(&headers), all.check_signed(&headers, body.as_bytes(), UnixMs::new(1_795_176_000_000))) {
        (Ok(name), signed) => {
            // A password is shown in base64, which begins alike however it is padded.
            assert!(
                head.contains(SECRET)
                    || (name == "basic:prometheus" && head.contains("cHJvbWV0aGV1czpzd29yZGZpc2gtMTIzN"))
            );
            assert!(signed.is_ok_and(|signed| signed == name));
        }
        (Err(refused), _) => assert_eq!(refused.response().status(), 401),
    }
}

/// A body is a message of Amazon SNS that has a text to be signed, which names its topic, or none; whatever it is, no
/// address but those of SNS would be asked for its sake.
///
/// # Panics
/// Where that does not hold.
pub fn topic_message(body: &[u8]) {
    let Some(message) = sns::Message::read(body) else { return };
    let signed = message.signed();
    assert!(signed.starts_with("Message\n") && signed.ends_with('\n'));
    assert!(signed.contains(&format!("\nTopicArn\n{}\nType\n", message.topic)));
    let certificate = sns::addresses::certificate(&message.signing_cert_url);
    let subscription = message.subscribe_url.as_deref();
    let subscription = subscription.and_then(|url| sns::addresses::subscription(url, &message.topic));
    for url in certificate.into_iter().chain(subscription) {
        let host = url.host_str().unwrap_or_default();
        assert!(url.scheme() == "https" && host.starts_with("sns."), "{url}");
        assert!(host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"), "{url}");
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

    fn messages() -> Vec<String> {
        [include_str!("../tests/sns/alarm.json"), include_str!("../tests/sns/subscribe.json")]
            .map(str::to_owned)
            .into()
    }

    #[test]
    fn the_seeds_are_messages() {
        assert!(messages().iter().all(|message| sns::Message::read(message.as_bytes()).is_some()));
    }

    fn requests() -> Vec<String> {
        let signature = "0".repeat(64);
        vec![
            format!("authorization: Bearer {SECRET}\nx-token: no\n\n{{}}"),
            "authorization: Basic cHJvbWV0aGV1czpzd29yZGZpc2gtMTIzNA==\n\n{}".to_owned(),
            format!("X-Token: {SECRET}\n\n"),
            format!("x-signature: {signature}\nx-grafana-alerting-timestamp: 1795176000\n\n{{}}"),
        ]
    }

    #[test]
    fn the_seeds_show_secrets_of_each_kind() {
        for (request, name) in requests().iter().zip(["bearer[0]", "basic:prometheus", "header:x-token"]) {
            let (header, _) = request.split_once('\n').unwrap();
            let (header, value) = header.split_once(": ").unwrap();
            let header: HeaderName = header.parse().unwrap();
            let headers = [(header, HeaderValue::from_str(value).unwrap())].into_iter().collect();
            assert_eq!(all().check(&headers).unwrap(), name);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_request_shows_opens_only_where_it_shows_a_secret(body in near(requests())) {
            credentials(&body);
        }

        #[test]
        fn any_message_of_a_topic_asks_sns_alone(body in near(messages())) {
            topic_message(&body);
        }

        #[test]
        fn any_event_is_a_request_or_refused(body in near(events())) {
            event(&body);
        }
    }
}
