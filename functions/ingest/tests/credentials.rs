//! Who may come in.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use sentinel_ingest::{Authenticator, Credentials};

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn all_kinds() -> Credentials {
    Credentials {
        allow_anonymous: false,
        bearer: vec!["old-token".into(), "new-token".into()],
        basic: vec![("am".into(), "pass:word".into()), ("am2".into(), "geheim-ü".into())],
        header: vec![("x-api-key".into(), "key-1".into()), ("X-Api-Key".into(), "key-2".into())],
        hmac: vec![],
        sns: vec![],
    }
}

#[test]
fn any_configured_credential_is_enough_and_nothing_else_is() {
    let auth = Authenticator::new(all_kinds());
    for (name, value, want) in [
        ("authorization", "Bearer old-token", true),
        ("authorization", "Bearer new-token", true),
        ("AUTHORIZATION", "bEARER   new-token ", true),
        ("authorization", "Bearer new-toke", false),
        ("authorization", "Bearer new-tokenn", false),
        ("authorization", "Bearer NEW-TOKEN", false),
        ("authorization", "Bearer ", false),
        ("authorization", "Bearer", false),
        ("authorization", "new-token", false),
        ("authorization", "Token new-token", false),
        ("authorization", "Bearer key-1", false),
        // am:pass:word
        ("authorization", "Basic YW06cGFzczp3b3Jk", true),
        // am2:geheim-ü, with and without padding
        ("authorization", "basic YW0yOmdlaGVpbS3DvA==", true),
        ("authorization", "Basic YW0yOmdlaGVpbS3DvA", true),
        // am:wrong, am, am2:pass:word
        ("authorization", "Basic YW06d3Jvbmc=", false),
        ("authorization", "Basic YW0=", false),
        ("authorization", "Basic YW0yOnBhc3M6d29yZA==", false),
        ("authorization", "Basic not base64!", false),
        ("authorization", "Basic ", false),
        ("X-API-KEY", "key-1", true),
        ("x-api-key", "key-2", true),
        ("x-api-key", "key-3", false),
        ("x-api-key", "", false),
        ("x-other", "key-1", false),
    ] {
        assert_eq!(auth.check(&headers(&[(name, value)])).is_ok(), want, "{name}: {value}");
    }
    assert!(auth.check(&HeaderMap::new()).is_err());
}

#[test]
fn a_wrong_credential_beside_a_right_one_does_no_harm() {
    let auth = Authenticator::new(all_kinds());
    let two = headers(&[("authorization", "Bearer wrong"), ("x-api-key", "key-1")]);
    assert!(auth.check(&two).is_ok());
}

#[test]
fn of_several_headers_of_one_name_each_is_looked_at() {
    let auth = Authenticator::new(all_kinds());
    let several = |name: &str, values: [&str; 3]| {
        let mut headers = HeaderMap::new();
        for value in values {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        auth.check(&headers)
    };
    for place in 0..3 {
        for (name, right) in [("x-api-key", "key-1"), ("authorization", "Bearer new-token")] {
            let mut values = ["of a proxy"; 3];
            assert!(several(name, values).is_err());
            values[place] = right;
            assert!(several(name, values).is_ok(), "{name}: {values:?}");
        }
    }
}

#[test]
fn nothing_configured_refuses_all_unless_it_is_said_or_the_listener_is_on_loopback() {
    let nothing = || Authenticator::new(Credentials::default());
    assert!(nothing().check(&HeaderMap::new()).is_err());
    assert!(nothing().is_shut() && !nothing().is_open());
    assert!(nothing().or_loopback().check(&HeaderMap::new()).is_ok());
    assert!(nothing().or_loopback().is_open());
    let said = Authenticator::new(Credentials { allow_anonymous: true, ..Credentials::default() });
    assert!(said.check(&HeaderMap::new()).is_ok());
    assert!(said.is_open() && !said.is_shut());
}

#[test]
fn configured_credentials_hold_on_loopback_and_beside_allow_anonymous() {
    let auth = Authenticator::new(Credentials { allow_anonymous: true, ..all_kinds() });
    assert!(!auth.is_open() && !auth.is_shut());
    assert!(auth.check(&HeaderMap::new()).is_err());
    let auth = auth.or_loopback();
    assert!(auth.check(&HeaderMap::new()).is_err());
    assert!(auth.check(&headers(&[("authorization", "Bearer old-token")])).is_ok());
}

#[test]
fn an_empty_secret_lets_nobody_in_and_opens_nothing() {
    let auth = Authenticator::new(Credentials {
        allow_anonymous: true,
        bearer: vec!["".into()],
        basic: vec![("am".into(), "".into())],
        header: vec![("x-api-key".into(), "".into())],
        hmac: vec![],
        sns: vec![],
    })
    .or_loopback();
    for (name, value) in
        [("authorization", "Bearer "), ("authorization", "Basic YW06"), ("x-api-key", ""), ("x-other", "")]
    {
        assert!(auth.check(&headers(&[(name, value)])).is_err(), "{name}: {value}");
    }
}

#[test]
fn the_401_names_the_schemes_that_are_taken() {
    let challenges = |credentials: Credentials| -> Vec<String> {
        let refused = Authenticator::new(credentials).check(&HeaderMap::new()).unwrap_err();
        assert!(!refused.is_retryable());
        let response = refused.response();
        assert_eq!(response.status(), 401);
        response.headers().get_all(WWW_AUTHENTICATE).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    };
    let bearer = r#"Bearer realm="sentinel""#;
    let basic = r#"Basic realm="sentinel", charset="UTF-8""#;
    assert_eq!(challenges(all_kinds()), [bearer, basic]);
    assert_eq!(challenges(Credentials { bearer: vec![], ..all_kinds() }), [basic]);
    assert_eq!(challenges(Credentials { bearer: vec![], basic: vec![], ..all_kinds() }), [bearer]);
    assert_eq!(challenges(Credentials::default()), [bearer]);
}

#[test]
fn no_secret_is_in_a_debug_output() {
    let auth = Authenticator::new(all_kinds());
    let refused = auth.check(&HeaderMap::new()).unwrap_err();
    let text = format!("{auth:?} {refused:?} {refused} {:?}", all_kinds());
    for secret in ["token", "pass", "geheim", "key-1"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn who_came_in_is_named_by_the_credentials_place_and_never_by_its_value() {
    let auth = Authenticator::new(Credentials { bearer: vec!["".into(), "new-token".into()], ..all_kinds() });
    for (name, value, want) in [
        ("authorization", "Bearer new-token", "bearer[1]"),
        ("authorization", "Basic YW06cGFzczp3b3Jk", "basic:am"),
        ("X-API-KEY", "key-2", "header:x-api-key"),
    ] {
        assert_eq!(auth.check(&headers(&[(name, value)])).unwrap(), want);
    }
    let open = Authenticator::new(Credentials::default()).or_loopback();
    let shown = headers(&[("authorization", "Bearer of-nobody")]);
    assert_eq!(open.check(&shown).unwrap(), sentinel_ingest::NOBODY);
}

#[test]
fn a_listed_topic_closes_the_door_to_everybody_else() {
    let auth = Authenticator::new(Credentials {
        allow_anonymous: true,
        sns: vec!["arn:aws:sns:eu-west-1:000000000000:alerts".to_owned()],
        ..Credentials::default()
    });
    for auth in [auth.clone(), auth.or_loopback()] {
        assert!(!auth.is_open() && !auth.is_shut() && auth.takes_signatures());
        assert!(auth.check(&HeaderMap::new()).is_err());
        assert!(auth.check_signed(&HeaderMap::new(), b"{}", sentinel_core::UnixMs::new(0)).is_err());
    }
}
