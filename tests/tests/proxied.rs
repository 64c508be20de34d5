//! Everything that leaves goes through the configured proxy, and nothing else does.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::net::SocketAddr;
use std::path::PathBuf;

use sentinel_testkit::hook::{HookServer, Receives};
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{ScriptedOpenAi, function_call, function_calls};
use sentinel_testkit::proxy::{FakeProxy, Proxied};
use sentinel_testkit::tls::{AUTHORITY, TlsFront};
use sentinel_tests::Home;
use sentinel_tests::wire::{openai, report, trouble};
use serde_json::json;

const NAMES: [&str; 3] = ["mcp.example", "hook.example", "model.example"];

/// The address in an URL of the loopback.
fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap()
}

/// Investigates an alert with a server, a model and a sink whose names the proxy alone knows. Gives what the proxy was
/// asked.
async fn investigated(with_tls: bool) -> Vec<Proxied> {
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
    let mut urls = [mcp.url(), hook.url(), model.base_url()];
    let mut behind = urls.each_ref().map(|url| address(url));
    let mut fronts = Vec::new();
    for ((url, behind), name) in urls.iter_mut().zip(&mut behind).zip(NAMES) {
        *url = url.replace(&behind.to_string(), name);
        if with_tls {
            *url = url.replace("http:", "https:");
            let front = TlsFront::to(*behind).await;
            *behind = front.address;
            fronts.push(front);
        }
    }
    let [mcp_url, hook_url, model_url] = urls;
    let [at_mcp, at_hook, at_model] = behind;
    let proxy =
        FakeProxy::to([("mcp.example", at_mcp), ("hook.example", at_hook), ("model.example", at_model)])
            .await;
    let in_the_clear = if with_tls { "" } else { "mcp.example, hook.example, model.example" };
    let home = Home::with(&format!(
        "network: {{proxy: \"http://sentinel:${{PROXY_PASSWORD}}@{}\", allow-private-hosts: [127.0.0.1], \
         allow-insecure-hosts: [{in_the_clear}]}}\n{}\
         mcp-servers: [{{name: fake, server-url: \"{mcp_url}\", mode: direct}}]\n\
         sinks: [{{name: hook, type: webhook, url: \"{hook_url}\"}}]\n\
         incident-cards: [{{name: trouble, resource: Trouble, prompt: Find out why., tools: [fake.look], sinks: [hook]}}]\n",
        proxy.address,
        openai(&model_url),
    ))
    .env("PROXY_PASSWORD", "swordfish")
    .env("SSL_CERT_FILE", AUTHORITY);
    let up = home.up().await;
    let id = up.open(&trouble("one")).await;
    let done = up.ended(&id).await;
    assert_eq!((&done["state"], &done["evidence"][0]["ok"]), (&json!("done"), &json!(true)), "{done:#}");
    hook.wait_for(1).await;
    model.finish();
    let seen = proxy.requests();
    for name in NAMES {
        assert!(seen.iter().any(|request| request.line.contains(name)), "{name}: {seen:#?}");
    }
    // `sentinel:swordfish`.
    let told = "proxy-authorization: basic c2vudgluzww6c3dvcmrmaxno";
    let is_told = |headers: &[String]| headers.iter().any(|header| header.to_ascii_lowercase() == told);
    assert!(seen.iter().all(|request| is_told(&request.headers)), "{seen:#?}");
    drop(up);
    assert_eq!(home.data_files_with("swordfish"), Vec::<PathBuf>::new(), "a secret was stored");
    seen
}

#[tokio::test]
async fn models_servers_and_sinks_are_reached_through_the_proxy_alone() {
    let seen = investigated(false).await;
    assert!(seen.iter().all(|request| !request.line.starts_with("CONNECT")), "{seen:#?}");
}

#[tokio::test]
async fn through_its_tunnels_models_servers_and_sinks_are_spoken_to_in_tls_alone() {
    let seen = investigated(true).await;
    // A record of TLS's handshake begins with these two bytes (RFC 8446, 5.1).
    let is_tls = |request: &Proxied| request.tunnelled.starts_with(&[22, 3]);
    assert!(seen.iter().all(|request| request.line.starts_with("CONNECT ") && is_tls(request)), "{seen:#?}");
}
