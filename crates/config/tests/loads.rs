//! Configurations of every origin that load, and what they come to.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;
use sentinel_config::{Level, Loaded, Mode, RequireApproval, SinkKind, Source, WatcherKind, load};
use sentinel_core::card::{Card, DedupeBy, Otherwise, PromptSource, ToolId};

fn fixture(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    loaded(&Source::read(&path, Path::new(".")).unwrap())
}

fn inline(text: &str) -> Loaded {
    loaded(&Source {
        name: PathBuf::from("config.yaml"),
        text: text.into(),
        base_dir: Some(PathBuf::from(".")),
    })
}

/// Every variable is set to its own name in small letters.
fn loaded(source: &Source) -> Loaded {
    load(source, &|name| Some(name.to_ascii_lowercase())).unwrap()
}

fn tool(server: &str, tool: &str) -> ToolId {
    ToolId { server: server.into(), tool: tool.into() }
}

fn tools(loaded: &Loaded, card: usize) -> Vec<String> {
    loaded.settings.cards.get(card).unwrap().tools.iter().map(ToString::to_string).collect()
}

fn warnings(loaded: &Loaded) -> String {
    loaded
        .warnings
        .iter()
        .map(|w| format!("{} {}: {}", w.line, w.key, w.message))
        .collect::<Vec<_>>()
        .join("\n")
}

fn sinks(card: &Card) -> Vec<&str> {
    card.sinks.iter().map(|s| s.sink.as_str()).collect()
}

#[test]
fn the_example_loads_with_every_key_and_names_what_is_not_built() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/config.example.yaml");
    let loaded = loaded(&Source::read(&path, Path::new(".")).unwrap());
    insta::assert_snapshot!(warnings(&loaded), @r#"
    123 mcp-servers[0].require-approval: asks for a person's approval, and no person is asked
    157 watchers[0].endpoint: plain http is refused unless the host is listed
    "#);

    let s = &loaded.settings;
    assert_eq!((s.debug, s.log_level), (false, Level::Info));
    assert_eq!(s.ingest.bearer[0].expose_secret(), "sentinel_token");
    assert_eq!(s.models.timeout, Duration::from_secs(90));
    assert_eq!(s.audit_retention, Duration::from_hours(9_600));
    assert_eq!(
        s.budget.to_string(),
        "30 investigations and $5.00 an hour, 200 investigations and $20.00 a day"
    );
    let card = &s.cards[0];
    assert!(matches!(&card.prompt.source, PromptSource::File(f) if f.ends_with("kube-pod-not-ready.md.j2")));
    assert!(card.tools.contains(&tool("prom", "execute_query")));
    assert_eq!(sinks(card), ["log", "slack:oncall-web", "room:!web:matrix.example"]);
    assert_eq!(card.budget.to_string(), "10 investigations an hour, $5.00 a day");
    assert_eq!(card.generations_per_hour, Some(6));
    assert_eq!((card.max_iterations, card.attempts), (12, 3));
    assert_eq!(card.dedupe_by, DedupeBy::Group);
    assert_eq!(card.wait, Duration::from_mins(1));
    assert_eq!(card.dedupe_ttl, Duration::from_mins(10));
    assert_eq!(card.reinvestigate_after, None);
    assert!(
        card.evidence[0].arguments["query"].as_str().unwrap().contains("{{ labels.namespace | promql }}")
    );
    assert_eq!(card.checklist[0].otherwise, Otherwise::Warn);
    let rule = &card.policy[0];
    assert_eq!(
        (&rule.tool, rule.allow.as_str()),
        (&tool("k8s", "pods_get"), "args.namespace == labels.namespace")
    );
    assert_eq!((rule.allowed.len(), rule.denied.len()), (1, 1));
    assert_eq!(rule.denied[0].args["namespace"], "kube-system");
    assert_eq!(rule.denied[0].labels["namespace"], "web");
    let slack = &s.sink("slack:oncall-web").unwrap().kind;
    assert!(
        matches!(slack, SinkKind::Slack { channel: Some(c), api: None, .. } if c == "oncall"),
        "{slack:?}"
    );
    assert!(!format!("{:?}", s.sinks).contains("xoxb"), "a token is never shown");
    let room = &s.sink("room:!web:matrix.example").unwrap().kind;
    assert!(
        matches!(room, SinkKind::Matrix { room: Some(r), homeserver, .. }
            if r == "!id:matrix.example" && homeserver.host_str() == Some("matrix.example")),
        "{room:?}"
    );
    let labels = |ns: &str| {
        [("alertname", "KubePodNotReady"), ("namespace", ns)].map(|(k, v)| (k.into(), v.into())).into()
    };
    assert!(card.resource.matches(&labels("web")));
    assert!(!card.resource.matches(&labels("kube-system")));

    s.refuse_unread_secrets().unwrap();
}

#[test]
fn an_empty_file_has_the_defaults_of_the_example() {
    let s = inline("").settings;
    assert_eq!((s.models.default.name.as_str(), s.models.first.temperature), ("gpt-6.1-terra", None));
    assert_eq!(s.models.first.base_url.as_str(), "https://api.openai.com/v1");
    assert_eq!(s.models.first.api_key.unwrap().expose_secret(), "openai_api_key");
    assert_eq!(
        (s.models.max_output_tokens, s.models.first.reasoning_effort.as_deref()),
        (16_000, Some("low"))
    );
    assert_eq!((s.dispatcher.worker_concurrency, s.dispatcher.queue_size), (4, 100));
    assert_eq!(s.dispatcher.dedupe_ttl, Duration::from_mins(10));
    assert_eq!(s.audit_retention, Duration::from_hours(400 * 24));
    assert_eq!(
        s.budget.to_string(),
        "30 investigations and $5.00 an hour, 200 investigations and $20.00 a day"
    );
    assert!(!s.ingest.allow_anonymous && !s.ingest.has_credentials());
    assert!(matches!(s.sinks[0].kind, SinkKind::Log { level: Level::Info }));
}

#[test]
fn a_card_has_the_defaults_of_the_example() {
    let loaded = inline("incident-cards: [{name: c, resource: X, prompt: look}]");
    let card = &loaded.settings.cards[0];
    assert_eq!((card.max_iterations, card.attempts, card.max_tool_output_tokens), (6, 3, 2_000));
    assert_eq!((card.timeout, card.wait), (Duration::from_mins(10), Duration::ZERO));
    assert_eq!((card.max_tokens, card.max_usd.to_string().as_str()), (1_000_000, "$1.00"));
    assert_eq!(card.dedupe_by, DedupeBy::Group);
    let ignored: Vec<&str> = card.ignore_labels.iter().map(String::as_str).collect();
    assert_eq!(ignored, ["__replica__", "prometheus", "prometheus_replica", "replica"]);
    assert_eq!(sinks(card), ["log"]);
    assert!(!card.continues && card.reinvestigate_after.is_none() && card.tools.is_empty());
    assert!(card.budget.is_none());
    assert_eq!(card.generations_per_hour, Some(6));
}

#[test]
fn a_budget_limits_what_it_names_and_a_card_has_one_of_its_own() {
    let loaded = inline(
        "budget: {per-hour: 30, usd-per-day: 20, generations-per-hour: 3}\n\
         incident-cards:\n\
         - {name: a, resource: X, prompt: look}\n\
         - {name: b, resource: X, prompt: look, budget: {usd_per_hour: 0.5, generations-per-hour: 2}}",
    );
    let s = &loaded.settings;
    assert_eq!(s.budget.to_string(), "30 investigations an hour, $20.00 a day");
    let of: Vec<_> = s.cards.iter().map(|c| (c.budget.to_string(), c.generations_per_hour)).collect();
    assert_eq!(of, [("not limited".to_owned(), Some(3)), ("$0.50 an hour".to_owned(), Some(2))]);
    s.refuse_unread_secrets().unwrap();
}

#[test]
fn the_original_kubernetes_shape_loads() {
    let loaded = fixture("kubernetes.yaml");
    let s = &loaded.settings;
    assert_eq!((s.debug, s.log_level), (true, Level::Debug));
    assert_eq!(s.watchers[0].poll_interval, Duration::from_secs(5));
    assert_eq!(s.watchers[0].resources, ["pod-not-ready"]);
    let card = &s.cards[0];
    assert_eq!(card.max_iterations, 10);
    assert_eq!(card.prompt.source, PromptSource::Inline);
    assert!(card.prompt.text.contains("${resource_name}"), "placeholders are not the environment's");
    assert_eq!(tools(&loaded, 0), ["cluster.events_list", "cluster.namespaces_list", "cluster.pods_get"]);
    s.refuse_unread_secrets().unwrap();
}

#[test]
fn the_original_ceph_shape_loads() {
    let loaded = fixture("ceph.yaml");
    let s = &loaded.settings;
    assert_eq!(s.dispatcher.dedupe_ttl, Duration::from_mins(15));
    assert_eq!(s.models.first.temperature, Some(0.1));
    assert_eq!(s.watchers[0].timeout, Duration::from_secs(5));
    assert_eq!(s.cards[0].resource.annotations["team"], "storage");
    assert_eq!(s.servers[0].authorization.as_ref().unwrap().expose_secret(), "ceph_mcp_token");
    assert_eq!(
        tools(&loaded, 0),
        ["storage-mcp.ceph_health_detail", "storage-mcp.ceph_osd_tree", "storage-mcp.juju_status"]
    );
    s.refuse_unread_secrets().unwrap();
}

#[test]
fn the_snake_case_shape_of_spec_002_loads() {
    let loaded = fixture("spec-002.yaml");
    let s = &loaded.settings;
    assert_eq!((s.cards[0].max_iterations, s.cards[0].attempts), (4, 2));
    assert_eq!(s.cards[1].max_iterations, 7);
    assert!(s.cards[0].prompt.text.starts_with("Requests are slow."));
    assert_eq!(s.cards[0].resource.matchers[0].to_string(), r#"alertname="web-tier""#);
    assert_eq!(sinks(&s.cards[0]), ["slack:oncall-web"]);
    assert_eq!((s.watchers[0].name.as_str(), s.watchers[0].kind), ("prometheus", WatcherKind::Prometheus));
    s.refuse_unread_secrets().unwrap();
}

#[test]
fn a_matrix_sink_takes_the_keys_that_every_destination_has_too() {
    let text = "sinks:\n\
                - {name: a, sink_type: matrix, api_url: 'https://m.example', token: t0ken, target: '!r:m.example'}\n\
                - {name: b, type: matrix, homeserver: 'https://m.example', access_token: t0ken, room_id: '!r:m.example'}\n";
    let source = Source { name: "c.yaml".into(), text: text.into(), base_dir: None };
    let settings = load(&source, &|_| None).unwrap().settings;
    for sink in ["a", "b"] {
        let SinkKind::Matrix { homeserver, token, room } = &settings.sink(sink).unwrap().kind else {
            panic!("{sink}")
        };
        let read = (homeserver.as_str(), token.expose_secret(), room.as_deref());
        assert_eq!(read, ("https://m.example/", "t0ken", Some("!r:m.example")), "{sink}");
    }
}

#[test]
fn every_alias_means_its_key() {
    let loaded = fixture("aliases.yaml");
    let s = &loaded.settings;
    assert_eq!(s.models.default.name, "some-model");
    assert!(
        (s.models.first.prices["some-model"].cached_input - 1.0).abs() < f64::EPSILON,
        "no price of its own"
    );
    let a = s.server("a").unwrap();
    assert_eq!((a.label.as_str(), a.description.as_deref()), ("alpha", Some("the first")));
    assert_eq!(a.url.as_ref().unwrap().as_str(), "https://a.example/mcp");
    assert_eq!(a.authorization.as_ref().unwrap().expose_secret(), "token");
    assert_eq!((a.mode, &a.require_approval), (Mode::Auto, &RequireApproval::Always));
    assert_eq!(a.headers[0].0, "X-Scope");
    assert_eq!(s.server("b").unwrap().label, "beta");
    assert_eq!(tools(&loaded, 0), ["a.one", "a.two"]);
    assert_eq!(tools(&loaded, 1), ["b.x"]);
    assert_eq!(sinks(&s.cards[0]), ["out"]);
    assert_eq!(sinks(&s.cards[1]), ["out", "chat:here"]);
    assert!(matches!(s.sinks[0].kind, SinkKind::Log { level: Level::Warn }));
    assert_eq!(s.cards[0].resource.kind, "thing");
    assert_eq!(s.cards[0].resource.annotations["team"], "x");
    assert_eq!(s.cards[1].resource.matchers[0].to_string(), r#"alertname="B""#);
    assert_eq!(
        (s.watchers[0].poll_interval, s.watchers[0].timeout),
        (Duration::from_secs(30), Duration::from_secs(4))
    );
    assert_eq!(
        (s.watchers[1].poll_interval, s.watchers[1].timeout),
        (Duration::from_secs(31), Duration::from_secs(5))
    );
}

#[test]
fn json_is_yaml_and_anchors_merge() {
    let json =
        inline(r#"{"incident-cards": [{"name": "c", "resource": "X", "prompt": "look", "wait": "5m"}]}"#);
    assert_eq!(json.settings.cards[0].wait, Duration::from_mins(5));
    let merged = inline(
        "incident-cards:\n  - &base {name: a, resource: A, prompt: look, wait: 5m}\n  - {<<: *base, name: b, resource: B}\n",
    );
    assert_eq!(merged.settings.cards[1].name, "b");
    assert_eq!(merged.settings.cards[1].wait, Duration::from_mins(5));
}

#[test]
fn a_resource_matches_by_all_four_comparisons_anchored() {
    let loaded = inline(
        "resources: [{name: r, filters: {a: '=~w.b', b: '!~x|y', c: '!=no', d: '=yes', e: 5}}]\n\
         incident-cards: [{name: c, resource: r, prompt: look}]",
    );
    let resource = &loaded.settings.cards[0].resource;
    let labels = |a: &str, b: &str, c: &str| {
        [("a", a), ("b", b), ("c", c), ("d", "yes"), ("e", "5")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into()
    };
    assert!(resource.matches(&labels("web", "z", "")));
    assert!(!resource.matches(&labels("webs", "z", "")), "anchored at the end");
    assert!(!resource.matches(&labels("web", "y", "")), "an alternative is anchored as a whole");
    assert!(resource.matches(&labels("web", "yy", "")));
    assert!(!resource.matches(&labels("web", "z", "no")));
}

#[test]
fn each_part_that_is_compiled_later_knows_its_place() {
    let loaded = fixture("kubernetes.yaml");
    let prompt = &loaded.places[0].prompt;
    assert_eq!((prompt.line, prompt.key.as_str()), (32, "incident-cards[0].prompt"));
    let text = prompt.error("does not compile", "close the bracket").to_string();
    assert!(text.ends_with(
        "kubernetes.yaml:32:7: error: incident-cards[0].prompt: does not compile; close the bracket"
    ));

    let loaded = inline(
        "incident-cards:\n  - name: c\n    resource: X\n    prompt: look\n    checklist:\n      - {name: n, rule: 'a'}\n      - {name: m, rule: 'b'}\n",
    );
    assert_eq!(loaded.places[0].rules[1].key, "incident-cards[0].checklist[1].rule");
    assert_eq!((loaded.places[0].rules[1].line, loaded.places[0].rules[1].column), (7, 25));
}

#[test]
fn the_redactor_gets_secrets_and_not_ordinary_words() {
    let loaded = fixture("aliases.yaml");
    let secrets: Vec<String> =
        loaded.settings.secrets().iter().map(|s| s.expose_secret().to_owned()).collect();
    for secret in ["token", "literal-key", "openai_api_key"] {
        assert!(secrets.iter().any(|s| s == secret), "{secret}");
    }
    assert!(!secrets.iter().any(|s| s == "readonly"));
}

/// Who calls each server, and why.
fn reach(loaded: &Loaded) -> String {
    let line = |s: &sentinel_config::Server| format!("{}: {:?}, {}", s.name, s.reach.caller, s.reach.why);
    loaded.settings.servers.iter().map(line).collect::<Vec<_>>().join("\n")
}

const SERVERS: &str = "mcp-servers:\n\
    - {name: public, server-url: 'https://mcp.example.com/mcp'}\n\
    - {name: inner, server-url: 'https://mcp.tools.svc/mcp'}\n\
    - {name: plain, server-url: 'http://mcp.example.com/mcp'}\n\
    - {name: kept, server-url: 'https://mcp.example.com/mcp', mode: direct}\n\
    - {name: tunneled, server-url: 'https://10.0.0.1/mcp', tunnel-id: tunnel_0123456789abcdef0123456789abcdef}\n\
    - {name: program, command: [npx, server]}\n";

#[test]
fn who_calls_a_server_follows_from_its_mode_its_address_and_the_model() {
    let drive = "- {name: drive, connector-id: connector_googledrive, authorization: t}\n";
    insta::assert_snapshot!(reach(&inline(&format!("{SERVERS}{drive}"))), @r"
    public: ModelService(Url), its address is public and the model is OpenAI's
    inner: Sentinel, `mcp.tools.svc` is a private address, which OpenAI cannot reach
    plain: Sentinel, `mcp.example.com` is plain http, and OpenAI calls https only
    kept: Sentinel, `mode: direct`
    tunneled: ModelService(Tunnel), it has a tunnel to the model's service
    program: Sentinel, a program on this machine cannot be hosted
    drive: ModelService(Connector), only the model's service can call a connector
    ");
    let chat = reach(&inline(&format!("openai: {{api: chat}}\n{SERVERS}")));
    assert!(!chat.contains("ModelService"), "{chat}");
    assert!(chat.starts_with("public: Sentinel, Chat Completions hosts no MCP servers"), "{chat}");

    let other = "openai: {base-url: 'https://llm.example/v1'}\n";
    let hosted = "- {name: hosted, server-url: 'https://mcp.example.com/mcp', mode: hosted}\n";
    let told = reach(&inline(&format!("{other}{SERVERS}{hosted}")));
    assert!(told.starts_with("public: Sentinel, the model is not OpenAI's"), "{told}");
    assert!(told.ends_with("hosted: ModelService(Url), `mode: hosted`"), "{told}");
}

#[test]
fn evidence_arguments_keep_their_types() {
    let loaded = inline(
        "mcp-servers: [{name: s, server-url: 'https://s.example/mcp'}]\n\
         incident-cards:\n  - {name: c, resource: X, prompt: look, tools: [s.t], evidence: [{tool: s.t, arguments: {tail: 100, ratio: 0.5, previous: true, none: ~, quoted: '100', list: [a, {b: '${HOST}'}]}}]}",
    );
    let arguments = serde_json::Value::Object(loaded.settings.cards[0].evidence[0].arguments.clone());
    assert_eq!(
        arguments,
        serde_json::json!({"tail": 100, "ratio": 0.5, "previous": true, "none": null, "quoted": "100", "list": ["a", {"b": "host"}]})
    );
}

#[test]
fn a_watcher_asks_a_prometheus_or_an_alertmanager() {
    let loaded = inline(
        "watchers:\n\
         - {endpoint: 'https://prom.example'}\n\
         - {type: alertmanager, endpoint: 'https://am.example/api/v2', poll-interval: 1m}\n\
         - {type: Alertmanager, name: second, endpoint: 'https://am.example/?key=k'}\n",
    );
    let all: Vec<_> = loaded.settings.watchers.iter().map(|w| (w.name.as_str(), w.kind)).collect();
    assert_eq!(
        all,
        [
            ("prometheus", WatcherKind::Prometheus),
            ("alertmanager", WatcherKind::Alertmanager),
            ("second", WatcherKind::Alertmanager),
        ]
    );
    assert_eq!(loaded.settings.watchers[0].poll_interval, Duration::from_secs(15));
    assert_eq!(loaded.settings.watchers[1].poll_interval, Duration::from_mins(1));
    assert!(!format!("{:?}", loaded.settings).contains("key=k"));
}

#[test]
fn a_cards_own_bounds_of_one_investigation_win() {
    let loaded = inline(
        "defaults: {max_tokens: 50000, max-usd: 0.25}\n\
         incident-cards:\n\
         - {name: a, resource: X, prompt: look, max-tokens: 20000}\n\
         - {name: b, resource: Y, prompt: look, max_usd: 0.05}\n",
    );
    let bounds: Vec<_> =
        loaded.settings.cards.iter().map(|c| (c.max_tokens, c.max_usd.to_string())).collect();
    assert_eq!(bounds, [(20_000, "$0.25".to_owned()), (50_000, "$0.05".to_owned())]);
}

#[test]
fn how_incidents_are_shown_is_read_with_what_resources_say_of_their_alerts() {
    let shown = |text: &str| inline(text).settings.view();
    let usual = shown("debug: false");
    assert_eq!((usual.zone.iana_name(), usual.link_hosts.len(), usual.console), (Some("UTC"), 0, None));
    let own = shown(
        "display: {timezone: Europe/Berlin, link-hosts: [CI.example], console-url: 'https://sentinel.example/x'}\n\
         resources: [{name: r, annotations: {runbook: 'https://wiki.example/r'}}]\n\
         incident-cards: [{name: c, resource: r, prompt: Look.}]",
    );
    assert_eq!(
        (own.zone.iana_name(), own.link_hosts),
        (Some("Europe/Berlin"), vec!["ci.example".to_owned()])
    );
    assert_eq!(own.console.unwrap().as_str(), "https://sentinel.example/x");
    assert_eq!(own.annotations["c"]["runbook"], "https://wiki.example/r");
}
