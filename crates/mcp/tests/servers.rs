//! The tool box against MCP servers on the loopback.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use futures::future::join_all;
use sentinel_core::card::ToolId;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{ToolBox, ToolError, ToolOutput};
use sentinel_mcp::{Credential, Endpoint, Reach, ServerSpec, Servers};
use sentinel_testkit::gate::Gate;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use serde_json::{Value, json};

const TOKEN: &str = "hunter2";
/// Long enough for a loaded machine to connect in, and what the tests of time-outs wait for in full.
const CUT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_mins(1);

fn spec(url: &str) -> ServerSpec {
    ServerSpec {
        name: "k8s".to_owned(),
        reach: Reach::Http(Endpoint {
            url: url.to_owned(),
            headers: vec![("X-Scope".to_owned(), "readonly".into())],
            credential: Credential::Token(TOKEN.into()),
        }),
        timeout: LONG,
    }
}

fn servers(specs: Vec<ServerSpec>) -> Servers {
    Servers::new(specs, &Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]))))
}

fn one(url: &str) -> Servers {
    servers(vec![spec(url)])
}

fn tool(name: &str) -> ToolId {
    ToolId { server: "k8s".to_owned(), tool: name.to_owned() }
}

async fn call(servers: &Servers, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
    servers.call(&tool(name), arguments.as_object().unwrap(), LONG).await
}

/// What the model is told; nothing else may come of a server's fault.
fn told<T: std::fmt::Debug>(result: Result<T, ToolError>) -> String {
    let Err(ToolError::RespondToModel(told)) = result else { panic!("not told to the model: {result:?}") };
    assert!(told.contains("k8s"), "{told}");
    assert!(!told.contains(TOKEN) && !told.contains("127.0.0.1"), "{told}");
    told
}

fn echo() -> sentinel_testkit::mcp::Builder {
    FakeMcp::builder().tool("echo", json!({"type": "object"}), "Says it again.", |arguments| {
        Answer::text(arguments.to_string())
    })
}

fn count(server: &FakeMcp, method: &str) -> usize {
    server.requests().iter().filter(|request| request.method() == method).count()
}

#[tokio::test]
async fn a_call_carries_the_credential_the_headers_and_the_arguments() {
    let server = echo()
        .require_header("authorization", &format!("Bearer {TOKEN}"))
        .require_header("x-scope", "readonly")
        .start()
        .await;
    let servers = one(&server.url());
    let output = call(&servers, "echo", json!({"a": [1]})).await.unwrap();
    assert_eq!(output, ToolOutput { text: r#"{"a":[1]}"#.to_owned(), is_error: false, remarks: vec![] });
    let initialize = server.requests().into_iter().find(|r| r.method() == "initialize").unwrap();
    assert_eq!(initialize.body["params"]["clientInfo"]["name"], "sentinel");
    assert_eq!(initialize.headers["x-scope"], "readonly");
    assert!(!format!("{servers:?}").contains(TOKEN));
}

#[tokio::test]
async fn answers_as_an_event_stream_are_read() {
    let server = echo().event_stream().start().await;
    assert_eq!(call(&one(&server.url()), "echo", json!({})).await.unwrap().text, "{}");
}

#[tokio::test]
async fn concurrent_callers_share_one_session_and_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let held = gate.clone();
    let server = echo()
        .tool("held", json!({"type": "object"}), "Waits.", move |_| {
            Answer::After(held.clone(), Box::new(Answer::text("at last")))
        })
        .start()
        .await;
    let servers = one(&server.url());
    let quick = async {
        server.wait_for_calls(1).await;
        let all = join_all((0..8).map(|n| call(&servers, "echo", json!({"n": n})))).await;
        gate.open();
        all
    };
    let (slow, quick) = futures::join!(call(&servers, "held", json!({})), quick);
    assert_eq!(slow.unwrap().text, "at last");
    assert!(quick.iter().all(Result::is_ok));
    assert_eq!(count(&server, "initialize"), 1);
}

#[tokio::test]
async fn tools_are_listed_over_all_pages_once_a_session() {
    let mut builder = FakeMcp::builder().page_size(2);
    for n in 0..5 {
        let definition = json!({
            "name": format!("t{n}"), "description": "d", "inputSchema": {"type": "object"},
            "annotations": {"readOnlyHint": true, "destructiveHint": false},
        });
        builder = builder.tool_defined(definition, |_| Answer::text(""));
    }
    let server = builder.start().await;
    let servers = one(&server.url());
    let tools = servers.list("k8s", LONG).await.unwrap();
    assert_eq!(tools.iter().map(|t| t.tool.as_str()).collect::<Vec<_>>(), ["t0", "t1", "t2", "t3", "t4"]);
    assert_eq!((tools[0].read_only_hint, tools[0].destructive_hint), (Some(true), Some(false)));
    assert_eq!(servers.list("k8s", LONG).await.unwrap(), tools);
    assert_eq!(count(&server, "tools/list"), 3);
}

#[tokio::test]
async fn a_tool_that_changed_without_a_word_is_seen_after_five_minutes_or_when_its_server_says() {
    let changed = json!({"name": "echo", "description": "Sends it on.", "inputSchema": {"type": "object"}});
    let a_day = 24 * 3_600 * 1_000;
    for (builder, is_seen_at_once) in
        [(echo(), false), (echo().modern().ttl_ms(a_day), false), (echo().modern().ttl_ms(0), true)]
    {
        let server = builder.start().await;
        let servers = one(&server.url());
        let before = servers.list("k8s", LONG).await.unwrap();
        server.redefine(changed.clone());
        // Neither a call nor a look makes a list that is still good be asked for.
        call(&servers, "echo", json!({})).await.unwrap();
        assert_eq!(count(&server, "tools/list"), 1);
        let seen_at_once = servers.list("k8s", LONG).await.unwrap() != before;
        assert_eq!(seen_at_once, is_seen_at_once);
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(5 * 60 + 1)).await;
        tokio::time::resume();
        assert_eq!(servers.list("k8s", LONG).await.unwrap()[0].description, "Sends it on.");
    }
}

/// Lists these tools on every page, and always another page.
fn without_end(tools: Value) -> sentinel_testkit::mcp::Builder {
    let pages = AtomicUsize::new(0);
    FakeMcp::builder().first(move |request| {
        let cursor = pages.load(Ordering::Relaxed).to_string();
        (request.method() == "tools/list").then(|| {
            pages.fetch_add(1, Ordering::Relaxed);
            let result = json!({"tools": tools, "nextCursor": cursor});
            Answer::Raw(200, vec![], format!(r#"{{"jsonrpc": "2.0", "id": $id, "result": {result}}}"#))
        })
    })
}

#[tokio::test]
async fn a_list_of_many_megabytes_is_refused() {
    let tool = |n: usize| json!({"name": format!("t{n}"), "description": "d".repeat(100_000), "inputSchema": {"type": "object"}});
    let server = without_end(json!((0..15).map(tool).collect::<Vec<_>>())).start().await;
    let told = told(one(&server.url()).list("k8s", LONG).await);
    assert!(told.ends_with("its list of tools is larger than 4 MB"), "{told}");
    assert_eq!(count(&server, "tools/list"), 3);
}

#[tokio::test]
async fn a_list_without_end_is_refused() {
    let server = without_end(json!([{"name": "t", "inputSchema": {"type": "object"}}])).start().await;
    let told = told(one(&server.url()).list("k8s", LONG).await);
    assert!(told.ends_with("it lists more than 1000 tools or 50 pages of them"), "{told}");
    assert_eq!(count(&server, "tools/list"), 50);
}

#[tokio::test]
async fn a_tools_own_error_is_an_output() {
    let server = FakeMcp::builder()
        .tool("broken", json!({"type": "object"}), "Fails.", |_| Answer::error("no such pod"))
        .start()
        .await;
    let output = call(&one(&server.url()), "broken", json!({})).await.unwrap();
    assert_eq!(output, ToolOutput { text: "no such pod".to_owned(), is_error: true, remarks: Vec::new() });
}

#[tokio::test]
async fn a_tool_that_hangs_is_cut_off_and_cancelled_and_the_next_call_has_another_session() {
    let server = echo().tool("hang", json!({"type": "object"}), "Hangs.", |_| Answer::Hang).start().await;
    let servers = one(&server.url());
    let arguments = serde_json::Map::new();
    let cut = servers.call(&tool("hang"), &arguments, CUT).await;
    assert_eq!(told(cut), "the MCP server k8s did not answer hang within 2s; the request was cancelled");
    assert!(call(&servers, "echo", json!({})).await.is_ok());
    assert_eq!(count(&server, "initialize"), 2);
    server.wait_for("notifications/cancelled", 1).await;
    assert_eq!(count(&server, "notifications/cancelled"), 1);
}

#[tokio::test]
async fn the_servers_own_time_out_holds_where_the_caller_has_more() {
    let server = echo().tool("hang", json!({"type": "object"}), "Hangs.", |_| Answer::Hang).start().await;
    let servers = servers(vec![ServerSpec { timeout: CUT, ..spec(&server.url()) }]);
    let cut = told(call(&servers, "hang", json!({})).await);
    assert!(cut.contains("within 2s"), "{cut}");
}

#[tokio::test]
async fn an_expired_session_is_opened_again_and_the_call_is_made_once() {
    let server = echo().start().await;
    let servers = one(&server.url());
    call(&servers, "echo", json!({"n": 1})).await.unwrap();
    server.expire_sessions();
    assert_eq!(call(&servers, "echo", json!({"n": 2})).await.unwrap().text, r#"{"n":2}"#);
    assert_eq!(count(&server, "initialize"), 2);
}

#[tokio::test]
async fn a_broken_answer_is_told_and_the_next_call_connects_anew() {
    let server = echo().tool("close", json!({"type": "object"}), "Breaks.", |_| Answer::Close).start().await;
    let servers = one(&server.url());
    let broke = told(call(&servers, "close", json!({})).await);
    assert!(broke.starts_with("the MCP server k8s did not answer close: "), "{broke}");
    assert!(call(&servers, "echo", json!({})).await.is_ok());
    assert_eq!(
        server.calls().iter().filter(|call| call.tool == "close").count(),
        1,
        "it may have been executed"
    );
}

#[tokio::test]
async fn garbage_and_errors_are_told_in_plain_words() {
    for (answer, words) in [
        (Answer::Garbage(b"<html>".to_vec()), "it answered something that is not MCP: "),
        (Answer::Garbage(vec![]), "it answered something that is not MCP: "),
        (Answer::Status(500, "boom".to_owned()), "it answered HTTP 500"),
        (Answer::Status(403, "no".to_owned()), "it does not allow the request (HTTP 403): no"),
        (
            Answer::RpcError(-32602, "name is\nmissing".to_owned()),
            "it answered with an error: name is missing",
        ),
    ] {
        let shown = format!("{answer:?}");
        let server = FakeMcp::builder()
            .tool("bad", json!({"type": "object"}), "Bad.", move |_| answer.clone())
            .start()
            .await;
        let told = told(call(&one(&server.url()), "bad", json!({})).await);
        assert!(
            told.starts_with(&format!("the MCP server k8s did not answer bad: {words}")),
            "{shown}: {told}"
        );
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_connected_to_is_asked_once_more_where_it_is_away_and_then_left_alone() {
    for (answer, words, times) in [
        (Answer::Garbage(b"<html>".to_vec()), "it answered something that is not MCP", 1),
        (Answer::Status(503, String::new()), "it answered HTTP 503", 2),
        (Answer::RpcError(-32600, "not today".to_owned()), "it refused the session: not today", 1),
    ] {
        let server = echo().on("initialize", answer).start().await;
        let servers = one(&server.url());
        let first = told(call(&servers, "echo", json!({})).await);
        assert!(first.starts_with(&format!("the MCP server k8s cannot be reached: {words}")), "{first}");
        assert_eq!(told(call(&servers, "echo", json!({})).await), first);
        assert_eq!((count(&server, "server/discover"), count(&server, "initialize")), (times, times));
    }
}

#[tokio::test]
async fn a_wrong_credential_is_told_without_it() {
    let server = echo().require_header("authorization", "Bearer another").start().await;
    let refused = told(call(&one(&server.url()), "echo", json!({})).await);
    assert_eq!(refused, "the MCP server k8s cannot be reached: it refused the credentials (HTTP 401)");
}

#[tokio::test]
async fn a_server_that_does_not_answer_costs_one_time_out_for_all_its_callers() {
    let server = echo().on("initialize", Answer::Hang).start().await;
    let servers = servers(vec![ServerSpec { timeout: CUT, ..spec(&server.url()) }]);
    let all = join_all((0..4).map(|_| call(&servers, "echo", json!({})))).await;
    assert!(all.into_iter().all(|result| told(result).contains("no connection within 2s")));
    let later = told(call(&servers, "echo", json!({})).await);
    assert!(later.contains("no connection within 2s"), "{later}");
    assert_eq!(
        count(&server, "initialize"),
        1,
        "all of them waited for one attempt, and the later one for none"
    );
}

#[tokio::test]
async fn one_server_that_is_down_keeps_no_other_waiting() {
    let address = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let down = ServerSpec { name: "prom".to_owned(), ..spec(&format!("http://{address}/mcp")) };
    let server = echo().start().await;
    let servers = servers(vec![down, spec(&server.url())]);
    assert!(call(&servers, "echo", json!({})).await.is_ok());
    let refused = servers.list("prom", LONG).await.unwrap_err().to_string();
    assert!(refused.starts_with("the MCP server prom cannot be reached: no connection: "), "{refused}");
    assert_eq!(servers.list("docs", LONG).await.unwrap_err().to_string(), "there is no MCP server docs");
}

#[tokio::test]
async fn a_redirect_to_another_origin_is_told_with_its_target_which_is_never_called() {
    let server = echo().start().await;
    let target = server.url();
    let away = Router::new()
        .fallback(move || async move { (StatusCode::TEMPORARY_REDIRECT, [("location", target)]) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, away).await });
    let servers = one(&format!("http://{address}/mcp"));
    let Err(ToolError::RespondToModel(refused)) = call(&servers, "echo", json!({})).await else {
        panic!("it followed")
    };
    let want = format!(
        "it redirects to {}, which is not followed; if that is its address, configure it",
        server.url()
    );
    assert!(refused.ends_with(&want), "{refused}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_never_called() {
    let server = echo().start().await;
    for (policy, words) in [
        (AddressPolicy::new(["127.0.0.1"], []), "allow-private-hosts"),
        (AddressPolicy::new([], ["127.0.0.1"]), "allow-insecure-hosts"),
    ] {
        let servers = Servers::new(vec![spec(&server.url())], &Arc::new(HttpClient::new(policy)));
        let refused = call(&servers, "echo", json!({})).await.unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn closing_ends_the_session_on_the_server() {
    let server = echo().start().await;
    let servers = one(&server.url());
    call(&servers, "echo", json!({})).await.unwrap();
    servers.close().await;
    server.wait_until(|all| all.iter().any(|r| r.http_method == "DELETE")).await;
}

#[tokio::test]
async fn calls_of_many_investigations_do_not_wait_for_each_other() {
    const CALLS: usize = 100;
    let gate = Gate::new();
    let held = gate.clone();
    let mcp = FakeMcp::builder()
        .tool("slow", json!({"type": "object"}), "Takes its time.", move |_| {
            Answer::After(held.clone(), Box::new(Answer::text("done")))
        })
        .start()
        .await;
    let servers = one(&mcp.url());
    let calls = join_all((0..CALLS).map(|n| call(&servers, "slow", json!({ "n": n }))));
    let all_arrive = async {
        // None of them is answered before the last has left.
        mcp.wait_for_calls(CALLS).await;
        gate.open();
    };
    let (ended, ()) = futures::join!(calls, all_arrive);
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
}
