//! What is said about a configuration that is wrong.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;
use sentinel_config::{Severity, load};
use support::{env, problems, source, warnings};

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
    config.yaml:15:23: error: sinks[0].type: `loger` is none of the choices; did you mean `logger`? write one of: logger, slack, webhook, teams, matrix, jira, email, log
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
        assert!(load(&source(text), &env).unwrap().settings.models.first.api_key.is_none(), "{text}");
    }
    assert!(
        load(&source("openai: {api-key: \"${TOKEN}\"}"), &env)
            .unwrap()
            .settings
            .models
            .first
            .api_key
            .is_some()
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
    let secrets: BTreeSet<_> =
        loaded.settings.secrets().iter().map(|s| s.expose_secret().to_owned()).collect();
    assert_eq!(secrets.len(), 2, "the token, and as it is sent with its user: {secrets:?}");
    assert!(!format!("{loaded:?}").contains("hunter2"));
}

#[test]
fn a_value_from_the_environment_adds_no_yaml() {
    let env = |_: &str| Some("x, y]\nopenai: {model: evil}\n".to_owned());
    let settings = load(&source("openai: {model: \"${NAME}\"}\ningest: {bearer: [\"${NAME}\"]}"), &env)
        .unwrap()
        .settings;
    assert!(settings.models.default.name.starts_with("x, y]"));
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
    config.yaml:7:41: warning: openai.service-tier: is none of the words that OpenAI knows; it is sent as it is; usual: auto, default, flex, scale, priority, fast, ultrafast, standard_only
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
fn teams_and_matrix_without_what_they_need_stop_and_say_what_to_write() {
    let told = problems(
        "sinks:\n\
         - {name: a, type: teams}\n\
         - {name: b, type: matrix}\n\
         - {name: c, type: matrix, homeserver: 'https://m.example', access-token: t, room: '#ops:m.example'}\n\
         - {name: d, type: matrix, homeserver: 'https://m.example', access-token: t}\n\
         incident-cards: [{name: x, resource: X, prompt: look, sinks: [d, 'd:ops', 'd:!web:m.example']}]\n",
    );
    insta::assert_snapshot!(told);
    let told = warnings(
        "sinks:\n\
         - {name: a, type: teams, url: 'https://flows.example/x', token: t, room: '!r'}\n\
         - {name: b, type: matrix, homeserver: 'https://m.example', url: 'https://n.example', token: t, room: '!r', level: info}\n\
         - {name: c, type: slack, token: xoxb-1, access-token: t}\n\
         incident-cards: [{name: x, resource: X, prompt: look}]\n",
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
fn a_topic_is_a_standard_topic_by_its_arn() {
    let good = ["arn:aws:sns:eu-west-1:123456789012:alerts", "arn:aws-cn:sns:cn-north-1:123456789012:a_b-c"];
    let text = |topic: &str| format!("ingest: {{sns: ['{topic}']}}");
    for topic in good {
        let loaded = load(&source(&text(topic)), &env).unwrap();
        assert_eq!(loaded.settings.ingest.sns, [topic]);
        assert!(loaded.settings.ingest.has_credentials());
    }
    for topic in [
        "alerts",
        "arn:aws:sqs:eu-west-1:123456789012:alerts",
        "arn:aws:sns:eu-west-1:123456789012:alerts.fifo",
        "arn:aws:sns:eu-west-1:12345:alerts",
        "arn:aws:sns:eu-west-1:123456789012:alerts:0f1c2a52-7a54-4b5f",
        "arn:aws:sns:eu-west-1:123456789012:*",
    ] {
        let told = problems(&text(topic)).to_string();
        assert!(told.contains("ingest.sns[0]: is not the ARN of a standard topic"), "{told}");
    }
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

#[test]
fn a_proxy_may_carry_a_password_which_is_a_secret_and_nothing_else() {
    let file = source(
        "network: {proxy: 'http://sentinel:sword%40fish@proxy.example:3128', no-proxy: [.inside.example, 10.0.0.0/8, '::1']}\n",
    );
    let settings = load(&file, &env).unwrap().settings;
    assert_eq!(settings.network.proxy.as_ref().unwrap().host_str(), Some("proxy.example"));
    assert_eq!(settings.network.no_proxy, [".inside.example", "10.0.0.0/8", "::1"]);
    assert!(!format!("{settings:?}").contains("fish"));
    let told =
        settings.redactor().redact("sword@fish, sword%40fish, c2VudGluZWw6c3dvcmRAZmlzaA==").into_owned();
    assert!(!told.contains("fish") && !told.contains("c2Vud"), "{told}");
}

#[test]
fn what_is_no_proxy_is_refused_and_a_private_one_that_is_not_listed_is_warned_about() {
    for (section, told) in [
        ("proxy: 'socks5://proxy.example'", "network.proxy: is not the http or https address of a proxy"),
        ("proxy: 'http://proxy.example/path'", "network.proxy: has more than a host and a port"),
        (
            "proxy: 'http://p.example', no-proxy: ['*.example']",
            "network.no-proxy[0]: is no host and no network",
        ),
        (
            "proxy: 'http://p.example', no-proxy: [10.0.0.0/99]",
            "network.no-proxy[0]: is no host and no network",
        ),
    ] {
        let problems = problems(&format!("network: {{{section}}}\n")).to_string();
        assert!(problems.contains(told), "{problems}");
    }
    let warned = warnings("network: {proxy: 'http://10.0.0.7:3128'}\n");
    assert!(warned.contains("add `10.0.0.7` to `network.allow-private-hosts`"), "{warned}");
    let warned = warnings("network: {no-proxy: [a.example]}\n");
    assert!(warned.contains("network.no-proxy: says what goes past a proxy, and there is none"), "{warned}");
}

#[test]
fn a_zone_that_no_calendar_knows_and_what_is_no_host_are_told_with_their_places() {
    let told = problems("display: {timezone: Berlin, link-hosts: [\"https://ci.example\"]}\n").to_string();
    for part in [
        "config.yaml:1:21: error: display.timezone: is `Berlin`, which is no zone",
        "display.link-hosts[0]: is not a host",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}
