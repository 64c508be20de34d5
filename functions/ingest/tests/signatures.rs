//! Grafana's signature. The expected values were computed with Python's `hmac`.
#![expect(clippy::unwrap_used, reason = "a test part that cannot do its work fails the test")]

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use sentinel_config::Hmac;
use sentinel_core::UnixMs;
use sentinel_ingest::{Authenticator, Credentials};

const BODY: &[u8] = br#"{"status":"firing"}"#;
const AT: i64 = 1_800_000_000;
/// Of `{"status":"firing"}` with `one`, and with `two`.
const BODY_ONE: &str = "93ffe17cf126568531744008b710069458fc98d040708cbe0ff686a48fe36ac8";
const BODY_TWO: &str = "5ee705c92f433922b1d2b48c0bf88cfe0efad5d66f68f327cb04c342347e55fa";
/// Of `1800000000:{"status":"firing"}` with `one`.
const TIMED_ONE: &str = "663dbeb1ecb1834d8416651e0af564024675be83f8e90fcafe8e34c8ea04caab";

const SIGNATURE: &str = "x-grafana-alerting-signature";

fn auth(timestamp_header: Option<&str>) -> Authenticator {
    let key = |secret: &str| Hmac {
        secret: secret.into(),
        header: SIGNATURE.into(),
        timestamp_header: timestamp_header.map(Into::into),
    };
    Authenticator::new(Credentials { hmac: vec![key("one"), key("two"), key("")], ..Credentials::default() })
}

fn comes_in(auth: &Authenticator, pairs: &[(&str, &str)], body: &[u8], seconds: i64) -> bool {
    let headers: HeaderMap = pairs
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect();
    auth.check_signed(&headers, body, UnixMs::new(seconds * 1_000)).is_ok()
}

#[test]
fn a_signed_body_comes_in_with_either_key_and_no_other_does() {
    let auth = auth(None);
    assert!(comes_in(&auth, &[(SIGNATURE, BODY_ONE)], BODY, AT));
    assert!(comes_in(&auth, &[(SIGNATURE, BODY_TWO)], BODY, AT));
    assert!(comes_in(&auth, &[(SIGNATURE, &BODY_ONE.to_uppercase())], BODY, AT));
    assert!(!comes_in(&auth, &[(SIGNATURE, BODY_ONE)], br#"{"status":"resolved"}"#, AT));
    assert!(!comes_in(&auth, &[(SIGNATURE, &BODY_ONE[..63])], BODY, AT));
    assert!(!comes_in(&auth, &[(SIGNATURE, "")], BODY, AT));
    assert!(!comes_in(&auth, &[("x-other", BODY_ONE)], BODY, AT));
    assert!(!comes_in(&auth, &[], BODY, AT));
    // Of no key: HMAC-SHA256 with an empty one.
    assert!(!comes_in(
        &auth,
        &[(SIGNATURE, "95e1ed6c84ae0ea4cabf5ca4b7cc71a878fb69f50cb5f13171ff54f03b9cced6")],
        BODY,
        AT
    ));
}

#[test]
fn a_signed_time_may_be_five_minutes_off_and_no_more() {
    let time = "x-time";
    let auth = auth(Some(time));
    let shown = [(SIGNATURE, TIMED_ONE), (time, "1800000000")];
    for (now, want) in [(AT, true), (AT + 300, true), (AT - 300, true), (AT + 301, false), (AT - 301, false)]
    {
        assert_eq!(comes_in(&auth, &shown, BODY, now), want, "{now}");
    }
    assert!(!comes_in(&auth, &[(SIGNATURE, TIMED_ONE), (time, "1800000001")], BODY, AT));
    for bad in ["", "now", "-1", "99999999999999999999", "9223372036854775807"] {
        assert!(!comes_in(&auth, &[(SIGNATURE, TIMED_ONE), (time, bad)], BODY, AT), "{bad}");
    }
    assert!(!comes_in(&auth, &[(SIGNATURE, TIMED_ONE), (time, "1800000000"), (time, "1")], BODY, AT));
}

#[test]
fn where_the_configuration_names_its_header_a_time_must_be_signed() {
    assert!(!comes_in(&auth(Some("x-time")), &[(SIGNATURE, BODY_ONE)], BODY, AT));
    // Where it names none, a time under the usual name counts all the same.
    let usual = [(SIGNATURE, TIMED_ONE), ("x-grafana-alerting-timestamp", "1800000000")];
    assert!(comes_in(&auth(None), &usual, BODY, AT));
    assert!(!comes_in(&auth(None), &usual, BODY, AT + 301));
    assert!(!comes_in(&auth(None), &[usual[0]], BODY, AT));
}

#[test]
fn a_signature_is_no_credential_without_its_body() {
    let headers: HeaderMap = [(SIGNATURE.parse::<HeaderName>().unwrap(), HeaderValue::from_static(BODY_ONE))]
        .into_iter()
        .collect();
    assert!(auth(None).check(&headers).is_err());
    assert!(!auth(None).is_open());
    assert!(!auth(None).or_loopback().is_open());
}
