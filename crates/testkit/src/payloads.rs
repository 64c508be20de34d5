//! Webhooks in which one field is what nobody expects there: null, of a wrong type, empty, huge or odd.

/// One such webhook.
#[derive(Clone, Debug)]
pub struct Payload {
    /// The field: `alerts[0].labels`.
    pub field: String,
    /// What stands there: `null`, `wrong type`, `empty`, `huge` or `odd`.
    pub kind: &'static str,
    /// The body, whose alert nobody else's has the labels of.
    pub body: String,
}

/// The kinds, in the order of a table.
pub const KINDS: [&str; 5] = ["null", "wrong type", "empty", "huge", "odd"];

/// The fields of the envelope with what usually stands there, as JSON. `alerts` stands beside them.
const ENVELOPE: [(&str, &str); 16] = [
    ("receiver", r#""sentinel""#),
    ("status", r#""firing""#),
    ("version", r#""4""#),
    ("groupKey", r#""{}:{alertname=\"Odd\"}""#),
    ("groupLabels", r#"{"alertname":"Odd","n":"NAME"}"#),
    ("commonLabels", r#"{"alertname":"Odd"}"#),
    ("commonAnnotations", r#"{"summary":"s"}"#),
    ("externalURL", r#""https://alertmanager.example.com""#),
    ("truncatedAlerts", "0"),
    ("notification_reason", r#""new alerts""#),
    ("routeLabels", r#"{"team":"a"}"#),
    ("orgId", "1"),
    ("title", r#""[FIRING:1] Odd""#),
    ("state", r#""alerting""#),
    ("message", r#""text""#),
    ("unknown", r#""x""#),
];

/// The fields of an alert, likewise; `NAME` is replaced by what tells it from others.
const ALERT: [(&str, &str); 13] = [
    ("status", r#""firing""#),
    ("labels", r#"{"alertname":"Odd","n":"NAME"}"#),
    ("annotations", r#"{"summary":"s"}"#),
    ("startsAt", r#""2026-11-22T11:00:00Z""#),
    ("endsAt", r#""0001-01-01T00:00:00Z""#),
    ("generatorURL", r#""https://prometheus.example.com/graph""#),
    ("fingerprint", r#""00f1a2b3c4d5e6f7""#),
    ("values", r#"{"A":1.5}"#),
    ("valueString", r#""[ var='A' value=1.5 ]""#),
    ("dashboardURL", r#""https://grafana.example.com/d/q""#),
    ("silenceURL", r#""https://grafana.example.com/alerting/silence/new""#),
    ("imageURL", r#""https://grafana.example.com/image.png""#),
    ("unknown", r#""x""#),
];

/// What is put into a field, as JSON.
fn values() -> Vec<(&'static str, String)> {
    let many = |entry: &dyn Fn(usize) -> String, count| (0..count).map(entry).collect::<Vec<_>>().join(",");
    let mut values: Vec<(&str, String)> = [
        ("null", "null"),
        ("wrong type", "7"),
        ("wrong type", "-0.5"),
        ("wrong type", "true"),
        ("wrong type", r#""a text""#),
        ("wrong type", r#"["a",1]"#),
        ("wrong type", r#"{"a":1}"#),
        ("wrong type", r#"{"a":{"b":[null,{}]}}"#),
        ("empty", r#""""#),
        ("empty", r#"" ""#),
        ("empty", "[]"),
        ("empty", "{}"),
        ("empty", "[null]"),
        ("empty", "[{}]"),
        ("empty", r#"{"":""}"#),
        ("empty", r#"{"a":null}"#),
        ("huge", "1e400"),
        ("huge", "123456789012345678901234567890123456789012345"),
        ("odd", r#"{"":"x"}"#),
        ("odd", r#"{"alertname":"Odd","":"x","n":"NAME"}"#),
        ("odd", r#""\ud800""#),
        ("odd", r#"{"\udc00":"\ud83d"}"#),
        ("odd", r#"{"a\u0000b":"\u0000"}"#),
        ("odd", r#"{"a":"1","a":"2"}"#),
        ("odd", r#""\u202e\u2028""#),
        ("odd", r#""9999-12-31T23:59:59.9999999Z""#),
        ("odd", r#""0000-00-00T00:00:00""#),
        ("odd", r#""-009999-01-01T00:00:00Z""#),
        ("odd", r#""2026-11-22 11:00:00 +0000 UTC""#),
        ("odd", r#""resolved""#),
        ("odd", r#"{"pk":"INC#1","sk":"HEAD","version":"1"}"#),
    ]
    .map(|(kind, json)| (kind, json.to_owned()))
    .into();
    values.extend([
        ("huge", format!("\"{}\"", "x".repeat(400_000))),
        ("huge", format!("\"{}\"", "\\u0001😀".repeat(20_000))),
        ("huge", format!("{{\"{}\":\"v\"}}", "k".repeat(70_000))),
        ("huge", format!("{{{}}}", many(&|n| format!("\"k{n}\":\"{}\"", "v".repeat(50)), 2_000))),
        ("huge", format!("[{}]", many(&|n| n.to_string(), 10_000))),
        ("huge", format!("{}{}", "[".repeat(55), "]".repeat(55))),
    ]);
    values
}

/// Every field × every value: a few hundred of each kind. Each alert but those whose labels are the field stays apart
/// from all others by its label `n`.
pub fn payloads() -> Vec<Payload> {
    let values = values();
    let mut payloads = Vec::new();
    let fields =
        ENVELOPE.iter().map(|(name, _)| (*name, false)).chain([("alerts", false), ("alerts[0]", false)]);
    for (field, of_alert) in fields.chain(ALERT.iter().map(|(name, _)| (*name, true))) {
        for (kind, value) in &values {
            let name = payloads.len().to_string();
            let field_of = |fields: &[(&str, &str)], here: bool| {
                let pairs = fields.iter().map(|(key, usual)| {
                    format!("\"{key}\":{}", if here && *key == field { value } else { *usual })
                });
                pairs.collect::<Vec<_>>().join(",")
            };
            let alert = format!("{{{}}}", field_of(&ALERT, of_alert));
            let alerts = match field {
                "alerts" => value.clone(),
                "alerts[0]" => format!("[{value}]"),
                _ => format!("[{alert}]"),
            };
            let body = format!("{{{},\"alerts\":{alerts}}}", field_of(&ENVELOPE, !of_alert));
            let body = body.replace("NAME", &name);
            let field = if of_alert { format!("alerts[0].{field}") } else { field.to_owned() };
            payloads.push(Payload { field, kind, body });
        }
    }
    payloads
}
