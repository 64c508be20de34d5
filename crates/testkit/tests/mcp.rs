//! The fake MCP server speaks the protocol, and refuses what a real one would.
#![expect(clippy::unwrap_used, reason = "a helper that cannot do its work fails the test")]

use reqwest::{RequestBuilder, StatusCode};
use sentinel_testkit::mcp::{Answer, FakeMcp};
use serde_json::{Value, json};

fn post(mcp: &FakeMcp, method: &str, params: &Value) -> RequestBuilder {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client
        .post(mcp.url())
        .header("accept", "application/json, text/event-stream")
        .json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
}

async fn initialized(mcp: &FakeMcp) -> String {
    let response = post(mcp, "initialize", &json!({"protocolVersion": "2025-06-18"})).send().await.unwrap();
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body.pointer("/result/protocolVersion"), Some(&json!("2025-06-18")));
    session
}

async fn result(request: RequestBuilder) -> Value {
    request.send().await.unwrap().json().await.unwrap()
}

fn echo() -> sentinel_testkit::mcp::Builder {
    FakeMcp::builder().tool("echo", json!({"type": "object"}), "Says it again", |arguments| {
        Answer::text(arguments.to_string())
    })
}

#[tokio::test]
async fn a_tool_is_called_in_a_session_and_the_call_is_kept() {
    let mcp = echo().start().await;
    let session = initialized(&mcp).await;
    let call = json!({"name": "echo", "arguments": {"a": 1}});
    let answer = result(post(&mcp, "tools/call", &call).header("mcp-session-id", &session)).await;
    assert_eq!(answer.pointer("/result/content/0/text"), Some(&json!("{\"a\":1}")));
    let unknown =
        result(post(&mcp, "tools/call", &json!({"name": "rm"})).header("mcp-session-id", &session)).await;
    assert_eq!(unknown.pointer("/error/code"), Some(&json!(-32602)));
    mcp.wait_for_calls(2).await;
    let calls = mcp.calls();
    assert_eq!((calls[0].tool.as_str(), &calls[0].arguments), ("echo", &json!({"a": 1})));
    assert_eq!(calls[0].headers["mcp-session-id"], session);
    assert_eq!(calls[1].tool, "rm");
}

#[tokio::test]
async fn tools_are_listed_in_pages() {
    let tool = |n: usize| json!({"name": format!("t{n}"), "inputSchema": {"type": "object"}});
    let builder =
        (0..5).fold(FakeMcp::builder().page_size(2), |b, n| b.tool_defined(tool(n), |_| Answer::text("")));
    let mcp = builder.start().await;
    let session = initialized(&mcp).await;
    let (mut names, mut params) = (vec![], json!({}));
    loop {
        let page = result(post(&mcp, "tools/list", &params).header("mcp-session-id", &session)).await;
        let tools = page.pointer("/result/tools").and_then(Value::as_array).unwrap();
        assert!(tools.len() <= 2);
        names.extend(tools.iter().map(|t| t["name"].as_str().unwrap().to_owned()));
        match page.pointer("/result/nextCursor") {
            Some(cursor) => params = json!({"cursor": cursor}),
            None => break,
        }
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
}

#[tokio::test]
async fn requests_without_credentials_session_or_accept_header_are_refused() {
    let mcp = echo().require_header("Authorization", "Bearer t").start().await;
    let status = async |request: RequestBuilder| request.send().await.unwrap().status();
    let list = || post(&mcp, "tools/list", &json!({}));
    assert_eq!(status(list()).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(list().bearer_auth("t")).await, StatusCode::BAD_REQUEST);
    assert_eq!(status(list().bearer_auth("t").header("mcp-session-id", "x")).await, StatusCode::NOT_FOUND);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let no_accept = client.post(mcp.url()).bearer_auth("t").json(&json!({"id": 1, "method": "initialize"}));
    assert_eq!(status(no_accept).await, StatusCode::NOT_ACCEPTABLE);
    assert_eq!(status(client.get(mcp.url())).await, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_expired_session_is_404_and_a_new_one_goes_on() {
    let mcp = echo().event_stream().start().await;
    let ping = |session: String| post(&mcp, "ping", &json!({})).header("mcp-session-id", session);
    let response = post(&mcp, "initialize", &json!({})).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let text = ping(session.clone()).send().await.unwrap().text().await.unwrap();
    assert_eq!(text, "event: message\ndata: {\"id\":1,\"jsonrpc\":\"2.0\",\"result\":{}}\n\n");
    mcp.expire_sessions();
    assert_eq!(ping(session).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let again = post(&mcp, "initialize", &json!({})).send().await.unwrap();
    let session = again.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    assert_eq!(ping(session).send().await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn tools_and_methods_fail_as_scripted() {
    let schema = json!({"type": "object"});
    let mcp = FakeMcp::builder()
        .tool("fails", schema.clone(), "", |_| Answer::error("no such pod"))
        .tool("breaks", schema.clone(), "", |_| Answer::RpcError(-32000, "broken".to_owned()))
        .tool("babbles", schema.clone(), "", |_| Answer::Garbage(b"{\"jsonrpc\"".to_vec()))
        .tool("cuts", schema, "", |_| Answer::Close)
        .on("tools/list", Answer::Status(503, "later".to_owned()))
        .start()
        .await;
    let session = initialized(&mcp).await;
    let call = async |tool: &str| {
        let request = post(&mcp, "tools/call", &json!({"name": tool})).header("mcp-session-id", &session);
        request.send().await?.text().await
    };
    let parsed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    assert_eq!(parsed(call("fails").await.unwrap()).pointer("/result/isError"), Some(&json!(true)));
    assert_eq!(parsed(call("breaks").await.unwrap()).pointer("/error/code"), Some(&json!(-32000)));
    assert_eq!(call("babbles").await.unwrap(), "{\"jsonrpc\"");
    assert!(call("cuts").await.is_err());
    let list = post(&mcp, "tools/list", &json!({})).header("mcp-session-id", &session).send().await.unwrap();
    assert_eq!(list.status(), StatusCode::SERVICE_UNAVAILABLE);
}
