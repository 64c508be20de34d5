//! What is said about MCP servers, their tools, the lock that pins them and the policy that decides their calls.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use sentinel_config::{Problems, Severity, Source, load};
use support::{env, problems, source, warnings};

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
    let (schema, more) = (serde_json::json!({"type": "object"}), serde_json::Map::new());
    let said = sentinel_core::tools_lock::Said { description: "reads", input_schema: &schema, more: &more };
    lock.pin(&tool, said);
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
