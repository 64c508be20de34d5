//! What is taken out, what stays, and what always holds.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn redacted(text: &str) -> String {
    Redactor::default().redact(text).into_owned()
}

#[test]
fn configured_values_go_wherever_they_turn_up() {
    let r = Redactor::new(["hunter2hunter2".to_owned(), "abc".to_owned()]);
    assert_eq!(r.redact("x hunter2hunter2 y abc"), "x [redacted: configured-secret] y abc");
    assert_eq!(format!("{r:?}"), "Redactor(1 configured values)");
}

#[test]
fn of_two_configured_values_of_which_one_begins_or_ends_the_other_the_longer_goes_whole() {
    let values = ["ember-lamp", "ember-lamp-quartz-9", "old-ember-lamp"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let r = Redactor::new(order.map(|at| values[at].to_owned()));
        for value in values {
            assert_eq!(r.redact(&format!("x {value} y")), "x [redacted: configured-secret] y");
        }
    }
}

#[test]
fn a_configured_word_that_stands_for_no_secret_is_not_searched_for() {
    let r = Redactor::new(["ollama".to_owned(), "not-needed".to_owned(), "sk-no-key-required".to_owned()]);
    assert_eq!(
        r.redact("ollama is not-needed: sk-no-key-required"),
        "ollama is not-needed: sk-no-key-required"
    );
    assert!(is_searched_for("hunter22") && !is_searched_for("Ollama") && !is_searched_for("short"));
}

#[test]
fn credentials_are_taken_out_and_what_stands_around_them_stays() {
    for (text, want) in [
        ("id AKIAABCDEFGHIJKLMNOP.", "id [redacted: aws-key]."),
        ("AKIAABCDEFGHIJKLMNOP AKIAABCDEFGHIJKLMNOQ", "[redacted: aws-key] [redacted: aws-key]"),
        ("Authorization: Bearer abcdefghijklmnop1", "Authorization: Bearer [redacted: authorization]"),
        (
            "authorization: Basic dXNlcjpodW50ZXIy\r\nhost: x",
            "authorization: Basic [redacted: authorization]\r\nhost: x",
        ),
        ("postgres://app:s3cr3t@db:5432/x", "postgres://app:[redacted: url-password]@db:5432/x"),
        (
            r#"{"db_password":"correct-horse", "a" : 1.50}"#,
            r#"{"db_password":"[redacted: password]", "a" : 1.50}"#,
        ),
        ("xoxb-123456789012-abc", "[redacted: slack-token]"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nok",
            "[redacted: private-key]\nok",
        ),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[redacted: private-key]"),
        ("using password: hunter22! next", "using password: [redacted: password] next"),
        (
            "DB_PASSWORD:          Tr0ub4dor\n  DB_HOST:  db",
            "DB_PASSWORD:          [redacted: password]\n  DB_HOST:  db",
        ),
        (
            "- name: DB_PASSWORD\n  value: changeme\n- name: HOST",
            "- name: DB_PASSWORD\n  value: [redacted: password]\n- name: HOST",
        ),
        ("- value: changeme\n  name: DB_PASSWORD\n", "- value: [redacted: password]\n  name: DB_PASSWORD\n"),
        (
            "kind: Secret\ndata:\n  a: aHVudGVyMg==\nmetadata:\n  name: x",
            "kind: Secret\ndata:\n  a: [redacted: k8s-secret]\nmetadata:\n  name: x",
        ),
        (
            "items:\n- data:\n    a: aHVudGVyMg==\n  kind: Secret\n- data:\n    b: c\n  kind: ConfigMap\n",
            "items:\n- data:\n    a: [redacted: k8s-secret]\n  kind: Secret\n- data:\n    b: c\n  kind: ConfigMap\n",
        ),
        (
            "docker run -e DB_PASSWORD=changeme -e A=b x",
            "docker run -e DB_PASSWORD=[redacted: password] -e A=b x",
        ),
        (
            "{Name:DB_PASSWORD Value:changeme ValueFrom:nil}",
            "{Name:DB_PASSWORD Value:[redacted: password] ValueFrom:nil}",
        ),
        ("password: |\n  one two\n  three\nuser: x", "password: |\n  [redacted: password]\nuser: x"),
        (
            "{'X-Api-Key': 'a8f5f167f44f4964e6c998dee827110c', 'A': 'b'}",
            "{'X-Api-Key': '[redacted: key]', 'A': 'b'}",
        ),
        (
            "('Authorization', 'Bearer a8f5f167f44f4964')",
            "('Authorization', 'Bearer [redacted: authorization]')",
        ),
    ] {
        assert_eq!(redacted(text), want);
    }
}

#[test]
fn letters_beyond_ascii_hide_no_credential() {
    let long = "üä".repeat(150);
    for (text, want) in [
        ("passwörter: db_password=Überraschung!", "passwörter: db_password=[redacted: password]"),
        ("schlüsselAKIAABCDEFGHIJKLMNOP", "schlüsselAKIAABCDEFGHIJKLMNOP"),
        ("schlüsseläAKIAABCDEFGHIJKLMNOP\u{a0}", "schlüsselä[redacted: aws-key]\u{a0}"),
        (&format!("amqp://ü:{long}@mq"), "amqp://ü:[redacted: url-password]@mq"),
        ("-----BEGIN PRIVATE KEY-----\nß\n-----END PRIVATE KEY-----é", "[redacted: private-key]é"),
    ] {
        assert_eq!(redacted(text), want);
    }
}

/// Lines of which nothing is a secret.
const BENIGN: &str = include_str!("../../tests/data/benign.txt");

#[test]
fn ordinary_operational_text_is_left_alone() {
    for line in BENIGN.lines() {
        assert_eq!(redacted(line), line);
        let quoted = json!({"log": line}).to_string();
        assert_eq!(redacted(&quoted), quoted);
    }
    assert_eq!(redacted(BENIGN), BENIGN);
}

#[test]
fn an_arn_says_where_a_secret_is_and_stays() {
    for text in [
        "reading secret arn:aws:secretsmanager:eu-central-1:123456789012:secret:team/model-AbCdEf: AccessDenied",
        "no such arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:password-of-db-x9Yw3q",
        r#"{"error":"reading secret arn:aws:secretsmanager:eu-central-1:123456789012:secret:token: denied"}"#,
    ] {
        assert_eq!(redacted(text), text);
    }
    let beside =
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-x9Yw3q password=Zx9Qw7Lk2Pv5Tn8R";
    let shown = redacted(beside);
    assert!(shown.contains(":secret:db-x9Yw3q ") && !shown.contains("Zx9Qw7Lk2Pv5Tn8R"), "{shown}");
    let no_arn = "not-arn:aws:a:b:c:password:Zx9Qw7Lk2Pv5Tn8R";
    assert!(!redacted(no_arn).contains("Zx9Qw7Lk2Pv5Tn8R"), "{}", redacted(no_arn));
}

#[test]
fn what_looks_like_a_placeholder_is_one_only_where_its_kind_is_known() {
    for text in
        ["[redacted: password a1f3]", "password=[redacted: password]", "[redacted: k8s-secret 0000] x"]
    {
        assert_eq!(redacted(text), text);
    }
    let r = Redactor::new(["hunter2hunter2".to_owned()]);
    assert!(!r.redact("[redacted: hunter2hunter2]").contains("hunter2"));
}

#[test]
fn json_stays_json_whatever_a_string_says() {
    for said in [
        "client said \"password: required\"",
        "password=changeme",
        "a\\password=x\\\"y",
        "Bearer a8f5f167f44f4964\n",
    ] {
        let text = json!({"summary": said, "n": [1, null]}).to_string();
        let out = redacted(&text);
        let parsed: Value = serde_json::from_str(&out).expect(&out);
        assert_eq!(parsed["n"], json!([1, null]));
    }
    assert_eq!(
        redacted(r#"{"a":"x","a":"password=changeme"}"#),
        r#"{"a":"x","a":"password=[redacted: password]"}"#
    );
}

#[test]
fn names_in_json_are_redacted_and_two_stay_two() {
    let mut v = json!({"AKIAABCDEFGHIJKLMNOP": 1, "AKIAABCDEFGHIJKLMNOQ": 2, "a": [{"b": "Bearer abcdefghijklmnopqrst1"}]});
    Redactor::default().redact_json(&mut v);
    assert_eq!(
        v,
        json!({"[redacted: aws-key]": 1, "[redacted: aws-key] 2": 2, "a": [{"b": "Bearer [redacted: authorization]"}]})
    );
}

#[test]
fn one_secret_has_one_tag_however_it_is_encoded() {
    let r = Redactor::new(["swordfish-1234".to_owned()])
        .with_tag_keys(Some(Arc::new(TagKey::new([7; 32]).into())));
    let r = r.for_incident(&IncidentId::new("i"));
    let plain = r.redact("swordfish-1234").into_owned();
    for other in
        ["c3dvcmRmaXNoLTEyMzQ=", "73776f7264666973682d31323334", "swordfish%2D1234", "sword\u{200b}fish-1234"]
    {
        assert_eq!(r.redact(other).trim_end_matches('='), plain, "{other}");
    }
    let (a, b) = (r.redact("password=changeme").into_owned(), r.redact("password=changeyou").into_owned());
    assert_ne!(a, b);
    let secret = r.redact("kind: Secret\ndata:\n  a: Y2hhbmdlbWU=").into_owned();
    let tag = |text: &str| text.rsplit_once(' ').unwrap().1.to_owned();
    assert_eq!(tag(&secret), tag(&a));
}

#[test]
fn a_name_beside_a_value_counts() {
    let r = Redactor::default();
    assert_eq!(r.redact_named("db_password", "changeme"), "[redacted: password]");
    assert_eq!(
        r.redact_named("authorization", "Bearer a8f5f167f44f4964"),
        "Bearer [redacted: authorization]"
    );
    assert_eq!(r.redact_named("namespace", "changeme"), "changeme");
}

#[test]
fn only_what_is_beyond_doubt_is_unmistakable() {
    let r = Redactor::new(["swordfish-1234".to_owned()]);
    for text in [
        "password: changeme",
        r#"{"secret":"db-credentials"}"#,
        "|= `password: incorrect`",
        "postgres://a:b2@c",
    ] {
        assert_eq!(r.is_unmistakable(text), None, "{text}");
    }
    assert_eq!(r.is_unmistakable("x swordfish-1234").as_deref(), Some("configured-secret"));
    assert_eq!(r.is_unmistakable(r#"{"a":"\u0041KIAABCDEFGHIJKLMNOP"}"#).as_deref(), Some("aws-key"));
}

#[test]
fn patterns_of_the_configuration_count_and_must_not_match_everything() {
    let r = Redactor::default().with_patterns(vec![Pattern::new("badge", "badge ([0-9]{4})").unwrap()]);
    assert_eq!(r.redact("badge 1234, badge 99999"), "badge [redacted: badge], badge [redacted: badge]9");
    for (name, pattern) in [
        ("x", ".*"),
        ("x", "a*"),
        ("x", "(?s)."),
        ("x", "["),
        ("x", r"\w{1,900}\w{900}"),
        ("X", "a1"),
        ("", "a1"),
        ("x", r"\S+"),
    ] {
        assert!(Pattern::new(name, pattern).is_err(), "{name} {pattern}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn redacting_twice_gives_the_same_as_once(
        text in "[ -~\n]{0,120}",
        name in "(password|DB_TOKEN|Authorization: Bearer|sk-|data:\n  a|- name: X_SECRET\n  value|https://u|--password|Cookie: a)",
        tail in "[:= @]{0,2}[\"']?[a-zA-Z0-9/+=@&,;-]{0,40}[\"' }]?",
        more in "[ -~\n]{0,40}",
    ) {
        let r = Redactor::new(["swordfish".to_owned()]).with_tag_keys(Some(Arc::new(TagKey::new([1; 32]).into())));
        let r = r.for_incident(&IncidentId::new("i"));
        let once = r.redact(&format!("{text}{name}{tail}{more}")).into_owned();
        prop_assert_eq!(r.redact(&once).into_owned(), once.clone());
    }

    #[test]
    fn json_stays_json_of_the_same_shape(texts in prop::collection::vec("[ -~\n]{0,40}(password[=:] ?[ -~]{0,12})?", 1..5), name in "[a-z_]{0,8}(password|token)?") {
        let value = json!({"list": texts, name: {"x": texts[0].clone(), "n": 1.5}});
        let out = redacted(&value.to_string());
        let parsed: Value = serde_json::from_str(&out).expect(&out);
        prop_assert_eq!(shape(&parsed), shape(&value));
        let mut parsed_first = value;
        Redactor::default().redact_json(&mut parsed_first);
        prop_assert_eq!(shape(&parsed), shape(&parsed_first));
    }

    #[test]
    fn a_configured_secret_survives_in_no_encoding_at_no_place(
        secret in "[a-zA-Z0-9!$*_./+-]{8,40}",
        before in "[ -~]{0,9}",
        after in "[ -~]{0,9}",
        coding in 0..7_usize,
    ) {
        use base64::Engine as _;
        use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
        prop_assume!(is_searched_for(&secret));
        let whole = format!("{before}{secret}{after}");
        let hex = |text: &str| text.bytes().fold(String::new(), |all, b| format!("{all}{b:02x}"));
        let text = match coding {
            0 => whole,
            1 => BASE64_STANDARD.encode(&whole),
            2 => BASE64_URL_SAFE.encode(&whole),
            3 => hex(&whole),
            4 => whole.bytes().fold(String::new(), |all, b| format!("{all}%{b:02X}")),
            5 => Value::String(Value::String(whole).to_string()).to_string(),
            _ => whole.chars().fold(String::new(), |all, c| format!("{all}{c}\u{200b}")),
        };
        let out = Redactor::new([secret.clone()]).redact(&text).into_owned();
        prop_assert!(out.contains("[redacted: "), "{} -> {}", text, out);
        for said in [out.clone(), out.replace('\u{200b}', ""), out.replace('\\', "")] {
            prop_assert!(!said.contains(&secret));
        }
    }

    #[test]
    fn any_text_is_redacted_without_a_panic(text in any::<String>()) {
        let _ = redacted(&text);
    }
}

/// A value with its texts left out.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(_) => json!(""),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(map) => map.values().map(shape).collect(),
        other => other.clone(),
    }
}
