//! Everything that leaves goes through the configured proxy, and nothing else does.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::net::SocketAddr;

use sentinel_testkit::hook::{HookServer, Receives};
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call, function_calls};
use sentinel_testkit::proxy::FakeProxy;
use sentinel_tests::Home;
use sentinel_tests::wire::{openai, report, trouble};
use serde_json::json;

/// The address in an URL of the loopback, and the URL with a name that only the proxy knows.
fn behind(url: &str, name: &str) -> (SocketAddr, String) {
    let address = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    (address.parse().unwrap(), url.replace("127.0.0.1", name))
}

#[tokio::test]
async fn models_servers_and_sinks_are_reached_through_the_proxy_alone() {
    let mcp = FakeMcp::builder()
        .tool("look", json!({"type": "object"}), "Looks", |_| Answer::text("all is well here"))
        .start()
        .await;
    let hook = HookServer::start([Receives::Takes, Receives::Takes]).await;
    let model = ScriptedOpenAi::answering([
        function_calls(&[("fake__look", json!({}), "c1")]),
        function_call("submit_report", &report("E1", "all is well here"), "c2"),
    ])
    .await;
    let (at_mcp, mcp_url) = behind(&mcp.url(), "mcp.example");
    let (at_hook, hook_url) = behind(&hook.url(), "hook.example");
    let (at_model, model_url) = behind(&model.base_url(), "model.example");
    let proxy =
        FakeProxy::to([("mcp.example", at_mcp), ("hook.example", at_hook), ("model.example", at_model)])
            .await;
    let home = Home::with(&format!(
        "network: {{proxy: \"http://sentinel:${{PROXY_PASSWORD}}@{}\", allow-private-hosts: [127.0.0.1], \
         allow-insecure-hosts: [mcp.example, hook.example, model.example]}}\n{}\
         mcp-servers: [{{name: fake, server-url: \"{mcp_url}\"}}]\n\
         sinks: [{{name: hook, type: webhook, url: \"{hook_url}\"}}]\n\
         incident-cards: [{{name: trouble, resource: Trouble, prompt: Find out why., tools: [fake.look], sinks: [hook]}}]\n",
        proxy.address,
        openai(&model_url),
    ))
    .env("PROXY_PASSWORD", "swordfish");
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    let done = up.ended(&id).await;
    assert_eq!((&done["state"], &done["evidence"][0]["ok"]), (&json!("done"), &json!(true)), "{done:#}");
    hook.wait_for(1).await;
    model.finish();
    let seen = proxy.requests();
    for name in ["mcp.example", "hook.example", "model.example"] {
        assert!(seen.iter().any(|request| request.line.contains(name)), "{name}: {seen:#?}");
    }
    // `sentinel:swordfish`.
    let told = "proxy-authorization: basic c2vudgluzww6c3dvcmrmaxno";
    let is_told = |headers: &[String]| headers.iter().any(|header| header.to_ascii_lowercase() == told);
    assert!(seen.iter().all(|request| is_told(&request.headers)), "{seen:#?}");
    drop(up);
    assert_eq!(home.data_files_with("swordfish"), Vec::<std::path::PathBuf>::new(), "a secret was stored");
}
