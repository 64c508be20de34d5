//! What is said about a configuration that is wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};

use sentinel_config::{Problems, Severity, Source, load};

fn source(text: &str) -> Source {
    let base_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Source { name: PathBuf::from("config.yaml"), text: text.into(), base_dir: Some(base_dir) }
}

fn env(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "hunter2-secret".into())
}

fn problems(text: &str) -> Problems {
    load(&source(text), &env).unwrap_err()
}

fn warnings(text: &str) -> String {
    let loaded = load(&source(text), &env).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn all_problems_are_told_at_once_each_with_its_place() {
    insta::assert_snapshot!(problems(include_str!("fixtures/broken.yaml")), @r#"
    config.yaml:1:12: error: log-level: `loud` is none of the choices; write one of: error, warn, info, debug, trace, warning, critical
    config.yaml:2:23: error: openai.temperature: 2.5 is out of range; write a number from 0 to 2
    config.yaml:2:38: error: openai.base-url: is not an http or https address; write an address such as https://host.example/path
    config.yaml:2:83: error: openai.max-output-tokens: expected a number from 16 to 1000000, found text; write a number from 16 to 1000000
    config.yaml:3:34: error: dispatcher.dedupe-ttl-seconds: 5 is out of range; write a number from 10 to 3600
    config.yaml:3:57: error: dispatcher.worker-concurrency: 33 is out of range; write a number from 1 to 32
    config.yaml:3:73: error: dispatcher.queue-size: 0 is out of range; write a number from 1 to 1000
    config.yaml:5:12: error: ingest.bearer[0]: `NOT_SET` is not set in the environment; set it, or remove the key
    config.yaml:6:3: error: ingest.baerer: unknown key; did you mean `bearer`?
    config.yaml:8:39: error: resources[0].filters.namespace: is not a regular expression: unclosed group; write RE2 syntax after `=~` or `!~`
    config.yaml:9:12: error: resources[1].name: a second resource is named `pods`; the first is in line 8; give each its own name
    config.yaml:11:29: error: mcp-servers[0].server-url: is not an address: relative URL without a base; write an address such as https://host.example/path
    config.yaml:12:5: error: mcp-servers[1].server-url: is missing; give the server a `server-url`, or a `connector-id`, a `tunnel-id` or a `command`
    config.yaml:13:12: error: mcp-servers[2].name: a second server is named `k8s`; the first is in line 11; give each its own name
    config.yaml:13:65: error: mcp-servers[2].timeout: is not a duration; write a number and a unit: 250ms, 15s, 10m, 4h, 1h30m, 400d; a bare number is seconds
    config.yaml:15:23: error: sinks[0].type: `loger` is none of the choices; did you mean `logger`? write one of: logger, slack, webhook, jira, matrix, email, log
    config.yaml:19:13: error: incident-cards[0].prompt: the prompt file `prompts/missing.md` cannot be read: No such file or directory (os error 2); its path is relative to the folder of this file
    config.yaml:20:13: error: incident-cards[0].tools[0]: no server is named `k9s`; did you mean `k8s`?
    config.yaml:20:27: error: incident-cards[0].tools[1]: `k8s pods` is not a tool; write `server.tool`, or `server` for its default-allowed-tools
    config.yaml:20:39: error: incident-cards[0].tools[2]: `k8s.` is not a tool; write `server.tool`, or `server` for its default-allowed-tools
    config.yaml:20:45: error: incident-cards[0].tools[3]: `.x` is not a tool; write `server.tool`, or `server` for its default-allowed-tools
    config.yaml:20:49: error: incident-cards[0].tools[4]: expected text, found a number; put it in quotes
    config.yaml:21:13: error: incident-cards[0].sinks[0]: no sink is named `lag`; did you mean `log`?
    config.yaml:22:21: error: incident-cards[0].max-iterations: 21 is out of range; write a number from 1 to 20
    config.yaml:23:5: error: incident-cards[0].max_iteration: unknown key; did you mean `max-iterations`?
    config.yaml:24:11: error: incident-cards[1].name: a second card is named `one`; the first is in line 17; give each its own name
    config.yaml:27:12: error: incident-cards[1].tools: expected a list, found text; write it in brackets, [a, b], or one item a line, each after a dash
    config.yaml:28:11: error: incident-cards[1].wait: expected a duration, found a map; write a number and a unit: 250ms, 15s, 10m, 4h, 1h30m, 400d; a bare number is seconds
    config.yaml:29:16: error: incident-cards[1].dedupe-by: is none of the choices; write `group`, `alert`, or a list of labels such as [namespace, deployment]
    config.yaml:30:23: error: incident-cards[1].evidence[0].tool: the card does not allow `k8s.other`; add it to the card's `tools`
    config.yaml:30:35: error: incident-cards[1].evidence[1].tool: is missing; write `server.tool`
    config.yaml:31:17: error: incident-cards[1].checklist[0].rule: is missing; write a CEL expression that is true where the check passes
    config.yaml:31:38: error: incident-cards[1].checklist[0].otherwise: `maybe` is none of the choices; write one of: warn, inconclusive, escalate
    config.yaml:32:5: error: incident-cards[2].name: is missing; give it a name; the name becomes part of each incident's identity
    config.yaml:32:5: error: incident-cards[2].prompt: is missing; write the task for the model, or the path of a .md, .txt or .j2 file
    config.yaml:32:5: warning: incident-cards[2]: has no tools, so the model sees nothing but the alert and its report stays inconclusive; list what may be called under `tools`
    config.yaml:32:15: warning: incident-cards[2].resource: no resource is named `Unknown`; it means the alert of that name; define it in `resources`
    config.yaml:33:21: error: incident-cards[2].max-iterations: 0 is out of range; write a number from 1 to 20
    "#);
}

#[test]
fn a_syntax_error_is_told_with_its_place() {
    for (text, place) in [
        ("openai:\n\tmodel: x\n", "config.yaml:2:2: error: not readable as YAML"),
        ("ingest: {bearer: [a, b\n", "config.yaml:1:18: error: not readable as YAML"),
        (
            "debug: true\ndebug: false\n",
            "config.yaml:2:1: error: the key `debug` stands twice in one map, first in line 1",
        ),
        ("debug: true\n---\ndebug: true\n", "config.yaml:2:1: error: a second document"),
        ("sinks: *nowhere\n", "config.yaml:1:8: error: not readable as YAML"),
        ("a: &a [*a]\n", "config.yaml:1:8: error: an alias inside the value that it names"),
        ("debug: !!python/object true\n", "config.yaml:1:"),
        ("? [a]\n: b\n", "config.yaml:1:3: error: a key is not text"),
        ("[]\n", "config.yaml:1:1: error: expected a map of keys and values, found a list"),
        ("just words\n", "config.yaml:1:1: error: expected a map of keys and values, found text"),
    ] {
        let told = problems(text).to_string();
        assert!(told.starts_with(place), "{text:?}: {told}");
    }
}

#[test]
fn one_key_in_two_spellings_is_given_twice() {
    let told = problems("log-level: info\nlog_level: debug\n").to_string();
    assert!(
        told.starts_with(
            "config.yaml:2:1: error: log-level: is given twice, as `log-level` and as `log_level`"
        ),
        "{told}"
    );
    let told = problems("sentinel: {debug: true}\ndebug: false\n").to_string();
    assert!(told.contains("debug: is given twice"), "{told}");
}

#[test]
fn bounds_hold_at_both_ends() {
    for (key, least, most) in [
        ("dispatcher: {dedupe-ttl-seconds: N}", 10, 3600),
        ("dispatcher: {worker-concurrency: N}", 1, 32),
        ("dispatcher: {queue-size: N}", 1, 1000),
        ("defaults: {max-iterations: N}", 1, 20),
        ("defaults: {max-tokens: N}", 1_000, 1_000_000_000),
        ("openai: {temperature: N}", 0, 2),
    ] {
        let with = |n: i32| load(&source(&key.replace('N', &n.to_string())), &env);
        assert!(with(least).is_ok() && with(most).is_ok(), "{key}");
        for n in [least - 1, most + 1] {
            let told = with(n).unwrap_err().to_string();
            assert!(told.contains("is out of range; write a number from"), "{told}");
        }
    }
}

#[test]
fn a_fraction_where_a_count_belongs_is_told_as_such() {
    let told = problems("defaults: {max-iterations: 2.5}").to_string();
    assert!(told.ends_with("2.5 is not a whole number; write a number from 1 to 20"), "{told}");
}

#[test]
fn a_later_card_that_an_earlier_one_covers_is_unreachable() {
    let cards = |wide: &str, more: &str, narrow: &str| {
        warnings(&format!(
            "resources: [{{name: w, filters: {wide}}}, {{name: n, filters: {narrow}}}]\n\
             mcp-servers: [{{name: s, server-url: 'https://s.example/mcp'}}]\n\
             incident-cards:\n\
             - {{name: first, resource: w, prompt: look, tools: [s.t]{more}}}\n\
             - {{name: second, resource: n, prompt: look, tools: [s.t]}}\n"
        ))
    };
    for (wide, narrow) in [
        ("{}", "{a: x}"),
        ("{a: x}", "{a: x, b: y}"),
        ("{a: '=~x.*'}", "{a: xyz}"),
        ("{a: '!~x.*'}", "{a: abc}"),
        ("{a: '!=x'}", "{a: y}"),
        ("{a: '=~x.*'}", "{a: '=~x.*', b: z}"),
    ] {
        assert_eq!(
            cards(wide, "", narrow),
            "config.yaml:5:10: warning: incident-cards[1].name: no alert reaches this card: `first` above takes them all; \
             move it above `first`, narrow `first`, or give `first` `continue: true`",
            "{wide} {narrow}"
        );
        assert_eq!(cards(wide, ", continue: true", narrow), "", "{wide} {narrow}");
    }
    for (wide, narrow) in [
        ("{a: x}", "{}"),
        ("{a: x}", "{b: x}"),
        ("{a: '=~x.*'}", "{a: abc}"),
        ("{a: '=~x.*'}", "{a: '=~x'}"),
        ("{a: x, b: y}", "{a: x}"),
    ] {
        assert_eq!(cards(wide, "", narrow), "", "{wide} {narrow}");
    }
}

#[test]
fn a_value_whose_secret_was_not_read_refuses_the_start() {
    for (text, key) in [
        ("ingest: {bearer: [\"${secret:arn:aws:secretsmanager:x#key}\"]}", "ingest.bearer[0]"),
        ("openai: {api-key: \"${secret:arn:aws:x}\"}", "openai.api-key"),
    ] {
        let loaded = load(&source(text), &env).unwrap();
        assert!(loaded.warnings.iter().any(|w| w.key == key && w.severity == Severity::Warning), "{text}");
        let refused = loaded.settings.refuse_unread_secrets().unwrap_err();
        assert_eq!(refused.diagnostics.len(), 1, "{text}");
        assert_eq!(
            (refused.diagnostics[0].key.as_str(), refused.diagnostics[0].severity),
            (key, Severity::Error)
        );
    }
    for harmless in ["tools: {require-lock: false}", "ingest: {hmac: []}", "ingest: {bearer: [a]}", "budget:"]
    {
        load(&source(harmless), &env).unwrap().settings.refuse_unread_secrets().unwrap();
    }
}

#[test]
fn a_wrong_budget_is_told_with_its_place_and_what_would_be_right() {
    let told = problems(
        "budget: {per-hour: -1, usd-per-day: much, generations-per-hour: 0, per-minute: 3}\n\
         incident-cards: [{name: c, resource: X, prompt: look, budget: {per-hour: 1.5}}]",
    )
    .to_string();
    for place in [
        "budget.per-hour",
        "budget.usd-per-day",
        "budget.generations-per-hour",
        "budget.per-minute",
        "incident-cards[0].budget.per-hour",
    ] {
        assert!(told.contains(place), "{place}\n{told}");
    }
    let loaded = load(&source("budget: {per-hour: 30, per-day: 20}"), &env).unwrap();
    let warned: Vec<_> = loaded.warnings.iter().filter(|w| w.key == "budget.per-hour").collect();
    assert_eq!(warned[0].message, "is more than `per-day`, which is used up first");
}

#[test]
fn an_unset_model_key_is_absent_and_any_other_stops() {
    for text in ["openai: {api-key: \"${NOT_SET}\"}", "openai: {api-key: ''}", "debug: false"] {
        assert!(load(&source(text), &env).unwrap().settings.openai.api_key.is_none(), "{text}");
    }
    assert!(
        load(&source("openai: {api-key: \"${TOKEN}\"}"), &env).unwrap().settings.openai.api_key.is_some()
    );
    let told = problems("openai: {model: \"${A}-${B}\"}").to_string();
    assert!(told.contains("openai.model: `A`, `B` are not set in the environment"), "{told}");
}

#[test]
fn a_secret_is_in_no_diagnostic_and_in_no_debug_output() {
    let text = "log-level: \"${TOKEN}\"\nopenai: {temperature: \"${TOKEN}\", base-url: \"${TOKEN}\", timeout: \"${TOKEN}\"}\n\
                mcp-servers: [{name: \"${TOKEN}\", server-url: 'https://u:${TOKEN}@h.example', mode: \"${TOKEN}\"}]\n\
                resources: [{name: r, filters: {a: \"=~${TOKEN}(\"}}]\n\
                incident-cards: [{name: c, resource: r, prompt: x, tools: [\"${TOKEN} x\"], max-iterations: \"${TOKEN}\"}]";
    let told = problems(text);
    assert!(told.diagnostics.len() >= 8, "{told}");
    assert!(!format!("{told} {told:?}").contains("hunter2"), "{told}");

    let text = "ingest: {bearer: [\"${TOKEN}\"], basic: [{user: u, password: \"${TOKEN}\"}], header: [{name: X-Key, value: \"${TOKEN}\"}]}\n\
                openai: {api-key: \"${TOKEN}\"}\n\
                mcp-servers: [{name: s, server-url: 'https://h.example/mcp?key=${TOKEN}', authorization: \"${TOKEN}\", headers: {X-A: \"${TOKEN}\"}}]";
    let loaded = load(&source(text), &env).unwrap();
    assert_eq!(loaded.settings.secrets().len(), 7);
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn a_value_from_the_environment_adds_no_yaml() {
    let env = |_: &str| Some("x, y]\nopenai: {model: evil}\n".to_owned());
    let settings = load(&source("openai: {model: \"${NAME}\"}\ningest: {bearer: [\"${NAME}\"]}"), &env)
        .unwrap()
        .settings;
    assert!(settings.openai.model.starts_with("x, y]"));
    assert_eq!(settings.ingest.bearer.len(), 1);
}

#[test]
fn what_will_not_work_as_hoped_is_warned_about() {
    let told = warnings(
        "mcp-servers:\n\
         - {name: plain, server-url: 'http://10.0.0.7/mcp'}\n\
         - {name: local, server-url: 'http://localhost:1/mcp'}\n\
         - {name: hosted, server-url: 'https://h.example/mcp', mode: hosted, require-approval: always}\n\
         - {name: program, command: [npx, server]}\n\
         network: {allow-insecure-hosts: [LOCALHOST], allow-private-hosts: [localhost]}\n\
         openai: {model: unpriced, service-tier: odd}\n\
         ingest: {allow-anonymous: true, bearer: [a]}\n\
         resources: [{name: kube-pod}]\n\
         incident-cards:\n\
         - {name: c, resource: kube-pad, prompt: look, tools: [plain, plain.x], sinks: [log, log], fallback-models: [m]}\n",
    );
    insta::assert_snapshot!(told, @r#"
    config.yaml:2:29: warning: mcp-servers[0].server-url: plain http is refused unless the host is listed; use https, or add `10.0.0.7` to `network.allow-insecure-hosts`
    config.yaml:2:29: warning: mcp-servers[0].server-url: a private address is refused unless the host is listed; add `10.0.0.7` to `network.allow-private-hosts`
    config.yaml:4:87: warning: mcp-servers[2].require-approval: asks for a person's approval, and no person is asked; the tool policy answers each call: the card's `tools`, then its `policy`
    config.yaml:7:41: warning: openai.service-tier: is none of the words that OpenAI knows; it is sent as it is; usual: auto, default, flex, scale, priority, fast, ultrafast
    config.yaml:8:27: warning: ingest.allow-anonymous: lets everybody in, so that the credentials beside it mean nothing; keep one of the two
    config.yaml:11:3: warning: incident-cards[0]: the model `unpriced` has no price, so its cost will read "unknown" and no limit in dollars holds it; add it to `openai.prices`
    config.yaml:11:23: warning: incident-cards[0].resource: no resource is named `kube-pad`; it means the alert of that name; did you mean `kube-pod`?
    config.yaml:11:55: warning: incident-cards[0].tools[0]: allows nothing: the server `plain` has no default-allowed-tools, and what is not named is denied; list the tools there, or name them here as `server.tool`
    config.yaml:11:85: warning: incident-cards[0].sinks[1]: names `log` a second time; each is told once
    config.yaml:11:108: warning: incident-cards[0].fallback-models: the model `m` has no price, so its cost will read "unknown" and no limit in dollars holds it; add it to `openai.prices`
    "#);
}

#[test]
fn a_destination_without_what_it_needs_stops() {
    let told = problems(
        "sinks:\n\
         - {name: a, type: webhook, secret: s}\n\
         - {name: b, type: slack, channel: oncall}\n\
         - {name: c, type: slack, token: xoxb-1}\n\
         incident-cards: [{name: x, resource: X, prompt: look, sinks: [a, 'c', 'c:here']}]\n",
    );
    insta::assert_snapshot!(told);
    let told = warnings(
        "sinks:\n\
         - {name: a, type: webhook, url: 'http://hooks.example/x'}\n\
         - {name: b, type: jira}\n",
    );
    insta::assert_snapshot!(told);
}

#[test]
fn a_key_of_another_destination_and_a_spoilt_signing_secret_are_told() {
    let told = warnings(
        "sinks:\n\
         - {name: a, type: webhook, url: 'https://hooks.example/x', secret: whsec_AAAA, channel: oncall}\n\
         - {name: b, type: logger, token: t}\n\
         - {name: c, type: slack, token: xoxb-1, level: info}\n\
         - {name: d, type: jira, token: t}\n\
         incident-cards: [{name: x, resource: X, prompt: look}]\n",
    );
    insta::assert_snapshot!(told);
    let told =
        problems("sinks: [{name: a, type: webhook, url: 'https://h.example', secret: 'whsec_no base64'}]\n");
    insta::assert_snapshot!(told);
    assert!(!told.to_string().contains("whsec_no"), "a secret is never shown: {told}");
}

#[test]
fn a_server_that_nobody_can_call_as_it_is_written_stops() {
    let told = problems(
        "mcp-servers:\n\
         - {name: inner, server-url: 'https://localhost/mcp', mode: hosted}\n\
         - {name: drive, connector-id: connector_googledrive, mode: direct}\n\
         - {name: tokens, server-url: 'https://h.example/mcp', mode: hosted, oauth: {client-id: a, client-secret: b, token-url: 'https://t.example/'}}\n\
         - {name: tunnel, tunnel-id: tunnel_1}\n\
         - {name: 7up, server-url: 'https://h.example/mcp', mode: hosted}\n\
         - {name: one, server-url: 'https://h.example/mcp'}\n\
         - {name: two, server-url: 'https://h.example/mcp', server-label: one}\n\
         - {name: docs, connector-id: connector_dropbox}\n\
         incident-cards:\n\
         - {name: c, resource: X, prompt: look, tools: [docs.fetch], evidence: [{tool: docs.fetch}]}\n",
    );
    let errors = told.diagnostics.iter().filter(|d| d.severity == Severity::Error);
    insta::assert_snapshot!(errors.map(ToString::to_string).collect::<Vec<_>>().join("\n"), @r"
    config.yaml:2:60: error: mcp-servers[0].mode: cannot be hosted: `localhost` is a private address, which OpenAI cannot reach; write `mode: direct`, or give it a `tunnel-id`
    config.yaml:3:60: error: mcp-servers[1].mode: a connector or a tunnel cannot be called directly; write `mode: hosted`, or a `server-url`
    config.yaml:4:61: error: mcp-servers[2].mode: cannot be hosted: its OAuth tokens are fetched by Sentinel; write `mode: direct`, or an `authorization`
    config.yaml:5:29: error: mcp-servers[3].tunnel-id: is not a tunnel's id; write it as OpenAI shows it: `tunnel_` and 32 letters and digits
    config.yaml:6:10: error: mcp-servers[4].name: OpenAI takes no label such as `7up`; give it a `server-label` that begins with a letter and holds letters, digits, `-` and `_` only
    config.yaml:8:66: error: mcp-servers[6].server-label: a second hosted server has the label `one`; the first is in line 7; give each its own `server-label`
    config.yaml:11:79: error: incident-cards[0].evidence[0].tool: the card's own calls are made by Sentinel, which cannot call a connector or a tunnel; give the server a `server-url` too, or let the model call it
    ");
    let chat = problems("openai: {api: chat}\nmcp-servers: [{name: d, connector-id: connector_dropbox}]")
        .to_string();
    assert!(chat.contains("cannot be reached: Chat Completions hosts no MCP servers"), "{chat}");
}

#[test]
fn diagnostics_are_json_for_validate() {
    let told = serde_json::to_value(problems("debug: perhaps")).unwrap();
    assert_eq!(
        told,
        serde_json::json!({"diagnostics": [{
            "severity": "error", "file": "config.yaml", "line": 1, "column": 8, "key": "debug",
            "message": "expected true or false, found text", "help": "write true or false"
        }]})
    );
}

/// `tools.lock` with this text (none: no such file) beside a configuration with this first line; its card allows `s.a`
/// and `s.b`.
fn beside(lock: Option<&str>, first: &str) -> Result<sentinel_config::Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    if let Some(text) = lock {
        std::fs::write(folder.path().join("tools.lock"), text).unwrap();
    }
    let text = format!(
        "{first}\n\
         mcp-servers: [{{name: s, server-url: 'https://s.example/mcp'}}]\n\
         incident-cards: [{{name: c, resource: X, prompt: look, tools: [s.a, s.b]}}]"
    );
    load(&Source { base_dir: Some(folder.path().to_path_buf()), ..source(&text) }, &env)
}

fn locked(lock: Option<&str>) -> Result<sentinel_config::Loaded, Problems> {
    beside(lock, "tools: {require-lock: true}")
}

#[test]
fn a_lock_that_is_there_counts_unless_the_file_says_otherwise() {
    let lock = sentinel_core::tools_lock::ToolsLock::default().to_text();
    for first in ["", "tools: {}", "tools:"] {
        let is_held = |lock| beside(lock, first).unwrap().settings.cards[0].lock.is_some();
        assert!(is_held(Some(&lock)) && !is_held(None), "{first:?}");
        let told = beside(Some("{"), first).unwrap_err().to_string();
        assert!(told.contains("error: tools: tools.lock cannot be used"), "{told}");
    }
    let loose = beside(Some("{"), "tools: {require-lock: false}").unwrap();
    assert!(loose.settings.cards[0].lock.is_none());
}

#[test]
fn a_lock_that_is_required_and_missing_holds_nothing_and_that_is_told() {
    let loaded = locked(None).unwrap();
    assert_eq!(
        loaded.warnings[0].to_string(),
        "config.yaml:1:23: warning: tools.require-lock: there is no tools.lock beside this file, so that every tool is \
         refused; look at the tools and write it with `sentinel tools lock`"
    );
    let card = &loaded.settings.cards[0];
    assert_eq!(card.lock.as_ref().unwrap().names().count(), 0);
    loaded.settings.refuse_unread_secrets().unwrap();
    assert!(!warnings("tools: {require-lock: false}").contains("lock"));
}

#[test]
fn a_lock_that_cannot_be_used_is_an_error_and_one_that_lacks_a_tool_is_told() {
    for (text, want) in [("{", "it cannot be read"), (r#"{"version": 9, "tools": {}}"#, "its version is 9")] {
        let told = locked(Some(text)).unwrap_err().to_string();
        assert!(
            told.contains("tools.require-lock: tools.lock cannot be used: ") && told.contains(want),
            "{told}"
        );
        assert!(told.contains("remove it and write it anew"), "{told}");
    }
    let mut lock = sentinel_core::tools_lock::ToolsLock::default();
    let tool = sentinel_core::card::ToolId { server: "s".into(), tool: "a".into() };
    lock.pin(&tool, "reads", &serde_json::json!({"type": "object"}));
    let loaded = locked(Some(&lock.to_text())).unwrap();
    let told: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert!(
        told.iter().any(|w| w.contains("tools.lock does not hold `s.b`, so that they are refused")),
        "{told:?}"
    );
    assert!(loaded.settings.cards[0].lock.as_ref().unwrap().holds(&tool));
}

#[test]
fn what_is_wrong_with_a_policy_is_told_with_its_place() {
    let text = "mcp-servers: [{name: s, server-url: 'https://s.example/mcp'}]\n\
                incident-cards:\n\
                - name: c\n\
                  \x20 resource: X\n\
                  \x20 prompt: look\n\
                  \x20 tools: [s.a]\n\
                  \x20 policy:\n\
                  \x20 - {tool: s.a}\n\
                  \x20 - {tool: s, allow: 'true'}\n\
                  \x20 - {tool: s.a, allow: 'true', allowed: [{args: [1]}], denied: [{arg: {}}]}\n";
    insta::assert_snapshot!(problems(text), @"
    config.yaml:4:13: warning: incident-cards[0].resource: no resource is named `X`; it means the alert of that name; define it in `resources`
    config.yaml:8:5: error: incident-cards[0].policy[0].allow: is missing; write a CEL expression such as args.namespace == labels.namespace
    config.yaml:9:12: error: incident-cards[0].policy[1].tool: names a server where one tool is needed; write `server.tool`
    config.yaml:10:49: error: incident-cards[0].policy[2].allowed[0].args: expected a map of keys and values, found a list; write `{key: value}`, or one key a line, indented
    config.yaml:10:66: error: incident-cards[0].policy[2].denied[0].arg: unknown key; did you mean `args`?
    ");
    let unused = text.replace("  - {tool: s.a}\n", "").replace("  - {tool: s, allow: 'true'}\n", "");
    let unused = unused
        .replace("allowed: [{args: [1]}], denied: [{arg: {}}]", "allowed: []")
        .replace("{tool: s.a", "{tool: s.z");
    assert!(
        warnings(&unused)
            .contains("policy[0].tool: the card does not allow `s.z`, so the rule is never asked"),
        "{}",
        warnings(&unused)
    );
}

#[test]
fn what_is_wrong_with_a_program_or_with_oauth_is_told() {
    let told = problems(
        "mcp-servers:\n\
         - {name: a, command: []}\n\
         - {name: b, command: [npx, x], mode: hosted}\n\
         - {name: c, command: [npx], server-url: 'https://c.example/mcp'}\n\
         - {name: d, server-url: 'https://d.example/mcp', env: {A: b}}\n\
         - {name: e, command: [npx], env: {'A=B': c}}\n\
         - {name: f, command: [npx], oauth: {client-id: i, client-secret: s, token-url: 'https://t.example/'}}\n\
         - {name: g, server-url: 'https://g.example/mcp', authorization: x, oauth: {client-id: i}}\n\
         - {name: h, server-url: 'https://h.example/mcp', oauth: {client-id: i, client-secret: s, token-url: nowhere}}\n",
    );
    insta::assert_snapshot!(told, @r#"
    config.yaml:2:22: error: mcp-servers[0].command: is empty; write the program and its arguments, such as [npx, some-mcp-server]
    config.yaml:3:38: error: mcp-servers[1].mode: cannot be hosted: a program on this machine cannot be hosted; leave `mode` out
    config.yaml:4:22: error: mcp-servers[2].command: stands beside an address; a server has a `server-url` or a `command`, not both
    config.yaml:5:55: error: mcp-servers[3].env: needs a `command`; only a program has an environment: remove it
    config.yaml:6:42: error: mcp-servers[4].env.A=B: is not the name of a variable; write a name without `=`
    config.yaml:7:36: error: mcp-servers[5].oauth: needs a `server-url`; Sentinel takes the token to the server that it calls itself
    config.yaml:8:75: error: mcp-servers[6].oauth: stands beside another credential; keep `oauth` or the `authorization`
    config.yaml:8:75: error: mcp-servers[6].oauth.client-secret: is missing; write "${NAME}", and set that variable in the environment
    config.yaml:8:75: error: mcp-servers[6].oauth.token-url: is missing; write the address that gives tokens
    config.yaml:9:101: error: mcp-servers[7].oauth.token-url: is not an address: relative URL without a base; write an address such as https://host.example/path
    "#);
}

#[test]
fn a_function_runs_no_program() {
    let text = "mcp-servers: [{name: a, command: [npx]}]";
    let told = sentinel_config::load_for(
        sentinel_config::Reading::Worker,
        &source(text),
        &env,
        &std::collections::BTreeMap::default(),
    );
    let told = told.unwrap_err().to_string();
    assert!(told.contains("mcp-servers[0].command: is a program, and a function runs none"), "{told}");
}

#[test]
fn a_program_finds_only_what_every_program_needs_and_what_is_written() {
    let env = |name: &str| {
        Some(format!("of {name}")).filter(|_| ["PATH", "HOME", "OPENAI_API_KEY", "KEY"].contains(&name))
    };
    let text =
        "mcp-servers: [{name: a, command: [npx, some-server], env: {TOKEN: \"${KEY}\", PATH: /opt/bin}}]";
    let loaded = load(&source(text), &env).unwrap();
    let names: Vec<&str> = loaded.settings.servers[0].env.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["PATH", "HOME", "TOKEN", "PATH"], "what is written wins, as it is last");
    assert!(!format!("{loaded:?}").contains("of KEY"));
    assert!(loaded.settings.secrets().iter().any(|s| secrecy::ExposeSecret::expose_secret(s) == "of KEY"));
}
