//! Secrets of the secret store, and who needs to know what.

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use sentinel_config::{Loaded, Problems, Reading, Source, load, load_for};

const TOKEN: &str = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:token-AbCdEf";
const MODEL: &str = "arn:aws:secretsmanager:eu-west-1:000000000000:secret:model-AbCdEf";

fn source() -> Source {
    let text = format!(
        "ingest: {{bearer: ['${{secret:{TOKEN}#current}}', '${{secret:{TOKEN}#previous}}']}}\n\
         openai: {{api-key: '${{secret:{MODEL}}}'}}\n\
         mcp-servers: [{{name: k8s, server-url: 'https://k8s.example/mcp', authorization: '${{K8S_TOKEN}}'}}]\n\
         sinks: [{{name: hook, type: webhook, url: '${{HOOK}}'}}]\n\
         incident-cards: [{{name: c, resource: X, prompt: look, tools: [k8s.pods_get], sinks: [hook]}}]\n"
    );
    Source { name: PathBuf::from("config.yaml"), text, base_dir: Some(PathBuf::from(".")) }
}

fn read(reading: Reading, secrets: &[(&str, &str)]) -> Result<Loaded, Problems> {
    let secrets: BTreeMap<String, SecretString> =
        secrets.iter().map(|(id, text)| ((*id).to_owned(), (*text).into())).collect();
    load_for(reading, &source(), &|_| None, &secrets)
}

#[test]
fn ingest_needs_its_own_secrets_and_no_others() {
    let first = read(Reading::Ingest, &[]).unwrap();
    assert_eq!(first.secret_ids, [TOKEN.to_owned()].into());
    let refused = first.settings.refuse_unread_secrets().unwrap_err();
    assert_eq!(refused.diagnostics.len(), 2);
    assert_eq!(refused.diagnostics.first().unwrap().key, "ingest.bearer[0]");

    let loaded = read(Reading::Ingest, &[(TOKEN, r#"{"current": "new", "previous": "old"}"#)]).unwrap();
    loaded.settings.refuse_unread_secrets().unwrap();
    let bearer: Vec<&str> = loaded.settings.ingest.bearer.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(bearer, ["new", "old"]);
    assert!(loaded.settings.models.first.api_key.is_none());
    let known = loaded.settings.secrets();
    assert!(known.iter().any(|s| s.expose_secret() == "new"), "{}", known.len());
}

#[test]
fn a_worker_needs_its_own_secrets_and_variables_and_no_others() {
    let problems = read(Reading::Worker, &[]).unwrap_err();
    let keys: Vec<&str> = problems.diagnostics.iter().map(|d| d.key.as_str()).collect();
    assert!(keys.contains(&"mcp-servers[0].authorization") && keys.contains(&"sinks[0].url"), "{keys:?}");
    assert!(!keys.contains(&"ingest.bearer[0]"), "{keys:?}");

    let secrets = [(MODEL.to_owned(), "sk-model".into())].into();
    let set = |_: &str| Some("https://hook.example/x".to_owned());
    let loaded = load_for(Reading::Worker, &source(), &set, &secrets).unwrap();
    assert_eq!(loaded.secret_ids, [MODEL.to_owned()].into());
    assert_eq!(loaded.settings.models.first.api_key.unwrap().expose_secret(), "sk-model");
    assert!(loaded.settings.ingest.bearer.is_empty());
}

#[test]
fn the_rules_alone_need_no_secret_and_no_variable() {
    for reading in [Reading::Sweeper, Reading::Watcher] {
        let loaded = read(reading, &[]).unwrap();
        assert!(loaded.secret_ids.is_empty());
        loaded.settings.refuse_unread_secrets().unwrap();
        assert_eq!(loaded.settings.cards.len(), 1);
    }
}

#[test]
fn without_the_secret_store_a_person_is_told_and_nothing_starts() {
    let set = |_: &str| Some("https://hook.example/x".to_owned());
    let loaded = load(&source(), &set).unwrap();
    assert_eq!(loaded.secret_ids.len(), 2);
    assert!(loaded.warnings.iter().any(|w| w.message.contains("from the secret store at the start")));
    assert!(loaded.settings.refuse_unread_secrets().is_err());
}

#[test]
fn a_secret_without_the_key_is_told_by_place_and_never_shown() {
    for text in ["swordfish", r#"{"other": "swordfish"}"#] {
        let problems = read(Reading::Ingest, &[(TOKEN, text)]).unwrap_err().to_string();
        assert!(problems.contains("config.yaml:1:"), "{problems}");
        assert!(problems.contains("the secret has no key `current`"), "{problems}");
        assert!(!problems.contains("swordfish"), "{problems}");
    }
}

#[test]
fn a_signature_has_grafanas_header_unless_the_file_names_another() {
    let read = |text: &str| {
        let source = Source { name: "c.yaml".into(), text: text.into(), base_dir: None };
        load(&source, &|name| Some(name.to_lowercase())).unwrap()
    };
    let loaded =
        read("ingest: {hmac: [{secret: '${A}'}, {secret: '${B}', header: X-Sig, timestamp-header: X-Time}]}");
    let [first, second] = loaded.settings.ingest.hmac.as_slice() else { unreachable!() };
    assert_eq!(
        (first.header.as_str(), first.timestamp_header.as_deref()),
        ("x-grafana-alerting-signature", None)
    );
    assert_eq!((second.header.as_str(), second.timestamp_header.as_deref()), ("x-sig", Some("x-time")));
    assert_eq!(second.secret.expose_secret(), "b");
    let warned: Vec<&str> = loaded.warnings.iter().map(|w| w.key.as_str()).collect();
    assert!(warned.contains(&"ingest.hmac[0]") && !warned.contains(&"ingest.hmac[1]"), "{warned:?}");
    loaded.settings.refuse_unread_secrets().unwrap();
}

#[test]
fn whatever_comes_from_the_environment_into_addresses_programs_and_headers_is_known_to_the_redactor() {
    let text = "openai: {base-url: 'https://gw.example/${GATEWAY}/v1', api-key: '${KEY}'}\n\
                ingest: {bearer: ['${BEARER}'], basic: [{user: u, password: '${PASSWORD}'}]}\n\
                mcp-servers:\n\
                - {name: p, command: [sh, -c, 'echo my token is ${TOK} >&2'], env: {REGION: '${REGION}'}}\n\
                - {name: a, server-url: 'https://a.example/mcp?k=${QUERY}', authorization: 'Bearer ${AUTH}', \
                headers: {X-Tenant: '${TENANT}'}}\n\
                sinks:\n\
                - {name: hook, type: webhook, url: '${HOOK}'}\n\
                - {name: chat, type: teams, url: '${WORKFLOW}'}\n\
                resources: [{name: r, filters: {cluster: '${CLUSTER}'}}]\n";
    let values = [
        ("GATEWAY", "gw-0a1b2c3d4e5f"),
        ("KEY", "key-0a1b2c3d4e5f"),
        ("BEARER", "bearer-0a1b2c3d4e5f"),
        ("PASSWORD", "pw-0a1b2c3d4e5f"),
        ("TOK", "cmdarg-9f8e7d6c5b4a"),
        ("REGION", "eu-west-1"),
        ("QUERY", "query-0a1b2c3d4e5f"),
        ("AUTH", "auth-0a1b2c3d4e5f"),
        ("TENANT", "tenant-0a1b2c3d4e5f"),
        ("HOOK", "https://hooks.example/services/T0A1B2C3D/x9y8z7w6v5"),
        ("WORKFLOW", "https://flows.example/workflows/0f3a/invoke?sp=run&sig=s1g-8hGf2kQ0aZx7"),
        ("CLUSTER", "prod-0a1b2c3d4e5f"),
    ];
    let source = Source { name: "c.yaml".into(), text: text.into(), base_dir: None };
    let env = |name: &str| values.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    let known = load(&source, &env).unwrap().settings.secrets();
    let known: Vec<&str> = known.iter().map(ExposeSecret::expose_secret).collect();
    for (name, value) in values {
        let secret = match name {
            "REGION" | "CLUSTER" => {
                assert!(!known.contains(&value), "{name} is plainly none, or stands where none belongs");
                continue;
            }
            "HOOK" => "x9y8z7w6v5",
            "WORKFLOW" => "s1g-8hGf2kQ0aZx7",
            _ => value,
        };
        assert!(known.contains(&secret), "{name}: {known:?}");
    }
    assert!(known.contains(&"dTpwdy0wYTFiMmMzZDRlNWY="), "user and password as they are sent");
}

/// Every place where a secret belongs, with `SECRET` in it.
const PLACES: &[(&str, &str)] = &[
    ("ingest.bearer[0]", "ingest: {bearer: [SECRET]}"),
    ("ingest.basic[0].password", "ingest: {basic: [{user: u, password: SECRET}]}"),
    ("ingest.header[0].value", "ingest: {header: [{name: X-Key, value: SECRET}]}"),
    ("ingest.hmac[0].secret", "ingest: {hmac: [{secret: SECRET}]}"),
    ("api.read[0]", "api: {read: [SECRET]}"),
    ("api.operate[0].token", "api: {operate: [{name: desk, token: SECRET}]}"),
    ("openai.api-key", "openai: {api-key: SECRET}"),
    (
        "model-services[0].api-key",
        "model-services: [{name: other, base-url: 'https://m.example/v1', api-key: SECRET}]",
    ),
    (
        "mcp-servers[0].authorization",
        "mcp-servers: [{name: a, server-url: 'https://a.example', authorization: SECRET}]",
    ),
    (
        "mcp-servers[0].headers.X-Api-Key",
        "mcp-servers: [{name: a, server-url: 'https://a.example', headers: {X-Api-Key: SECRET}}]",
    ),
    ("mcp-servers[0].env.PGPASSWORD", "mcp-servers: [{name: a, command: [x], env: {PGPASSWORD: SECRET}}]"),
    (
        "mcp-servers[0].oauth.client-secret",
        "mcp-servers: [{name: a, server-url: 'https://a.example', oauth: {client-id: i, client-secret: SECRET, token-url: 'https://a.example/t'}}]",
    ),
    ("sinks[0].token", "sinks: [{name: s, type: slack, channel: c, token: SECRET}]"),
    (
        "sinks[0].access-token",
        "sinks: [{name: s, type: matrix, homeserver: 'https://m.example', room: '!r', access-token: SECRET}]",
    ),
    ("sinks[0].secret", "sinks: [{name: s, type: webhook, url: 'https://a.example', secret: SECRET}]"),
];

fn placed(text: &str, secret: &str) -> Result<Loaded, Problems> {
    let text = text.replace("SECRET", secret);
    load(&Source { name: "c.yaml".into(), text, base_dir: None }, &|name| {
        (name == "T").then(|| "abc-123\r\n".into())
    })
}

#[test]
fn wherever_a_secret_belongs_a_variable_without_braces_is_an_error_that_says_how_to_write_it() {
    for (key, text) in PLACES {
        for secret in ["$T_OKEN", "\"$T_OKEN\"", "\"Bearer $T_OKEN\"", "\"$(T_OKEN)\""] {
            let problems = placed(text, secret).unwrap_err();
            let told = problems.diagnostics.iter().find(|d| d.key == *key);
            assert!(told.is_some_and(|d| d.help.contains("\"${T_OKEN}\"")), "{key} {secret}: {problems}");
        }
    }
}

#[test]
fn wherever_a_secret_belongs_the_line_ends_around_it_are_trimmed() {
    for (key, text) in PLACES {
        for secret in ["'${T}'", "\"abc-123\\n\"", "\"\\r\\nabc-123\\n\\n\"", "\"${T}\\n\""] {
            let settings = placed(text, secret).unwrap_or_else(|e| panic!("{key} {secret}: {e}")).settings;
            let shown: Vec<String> = secrets_of(&settings);
            assert_eq!(shown, ["abc-123"], "{key} {secret}");
        }
    }
}

/// The secrets that stand in the settings themselves, not those that the redactor knows.
fn secrets_of(settings: &sentinel_config::Settings) -> Vec<String> {
    let ingest = &settings.ingest;
    let mut all: Vec<&SecretString> =
        ingest.bearer.iter().chain(ingest.hmac.iter().map(|key| &key.secret)).collect();
    all.extend(ingest.basic.iter().chain(&ingest.header).map(|(_, secret)| secret));
    all.extend(settings.api.read.iter().chain(&settings.api.operate).map(|token| &token.token));
    all.extend(settings.models.first.api_key.iter());
    all.extend(settings.models.others.iter().filter_map(|service| service.api_key.as_ref()));
    for server in &settings.servers {
        all.extend(server.headers.iter().chain(&server.env).map(|(_, secret)| secret));
        all.extend(
            server.authorization.iter().chain(server.oauth.as_ref().map(|oauth| &oauth.client_secret)),
        );
    }
    for sink in &settings.sinks {
        match &sink.kind {
            sentinel_config::SinkKind::Slack { token, .. }
            | sentinel_config::SinkKind::Matrix { token, .. } => all.push(token),
            sentinel_config::SinkKind::Webhook { secret, .. } => all.extend(secret),
            _ => {}
        }
    }
    all.into_iter().map(|secret| secret.expose_secret().to_owned()).collect()
}

#[test]
fn credentials_in_an_address_are_refused_with_a_key_that_is_there() {
    for (text, key, advice) in [
        ("openai: {base-url: URL}", "openai.base-url", "`openai.api-key`"),
        (
            "model-services: [{name: o, base-url: URL}]",
            "model-services[0].base-url",
            "`model-services[0].api-key`",
        ),
        (
            "mcp-servers: [{name: a, server-url: URL}]",
            "mcp-servers[0].server-url",
            "`authorization` or `headers`",
        ),
        ("sinks: [{name: s, type: webhook, url: URL}]", "sinks[0].url", "`secret`"),
        ("sinks: [{name: s, type: matrix, homeserver: URL}]", "sinks[0].homeserver", "`access-token`"),
        ("watchers: [{endpoint: URL}]", "watchers[0].endpoint", "an address that needs none"),
    ] {
        let problems = placed(&text.replace("URL", "'https://u:swordfish@m.example/v1'"), "").unwrap_err();
        let told = problems.diagnostics.iter().find(|d| d.key == key).unwrap();
        assert!(told.help.contains(advice), "{problems}");
        assert!(!problems.to_string().contains("swordfish"), "{problems}");
    }
}
