//! What servers do wrong, and what the model and the report are told of it.
#![expect(clippy::panic, reason = "a test that cannot be set up has failed")]

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sentinel_core::card::ToolId;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{Remark, ToolBox, ToolError, ToolOutput};
use sentinel_mcp::{Credential, Endpoint, Reach, ServerSpec, Servers};
use sentinel_testkit::mcp::{Answer, FakeMcp};
use serde_json::{Value, json};

/// Long enough for a loaded machine to connect in, and what the tests of time-outs wait for in full.
const CUT: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_mins(1);

fn of(server: &FakeMcp, timeout: Duration) -> Servers {
    let http = HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]));
    let reach = Reach::Http(Endpoint { url: server.url(), headers: vec![], credential: Credential::None });
    Servers::new(vec![ServerSpec { name: "k8s".to_owned(), reach, timeout }], &Arc::new(http))
}

async fn call(servers: &Servers, name: &str) -> Result<ToolOutput, ToolError> {
    let tool = ToolId { server: "k8s".to_owned(), tool: name.to_owned() };
    servers.call(&tool, &serde_json::Map::new(), LONG).await
}

async fn told(servers: &Servers, name: &str) -> String {
    match call(servers, name).await {
        Err(ToolError::RespondToModel(told)) => told,
        other => panic!("not told to the model: {other:?}"),
    }
}

fn answering(answer: Answer) -> sentinel_testkit::mcp::Builder {
    FakeMcp::builder().tool("bad", json!({"type": "object"}), "Bad.", move |_| answer.clone()).tool(
        "good",
        json!({"type": "object"}),
        "Good.",
        |_| Answer::text("fine"),
    )
}

fn count(server: &FakeMcp, method: &str) -> usize {
    server.requests().iter().filter(|request| request.method() == method).count()
}

#[tokio::test]
async fn a_stream_of_too_many_events_or_bytes_ends_with_a_reason() {
    let event = |said: &str| {
        let params = json!({"level": "info", "data": said});
        let message = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
        format!("event: message\ndata: {message}\n\n")
    };
    for stream in [event("a").repeat(1001), event(&"x".repeat(11 << 20)).repeat(3)] {
        let server = answering(Answer::Events(stream.into_bytes())).start().await;
        let servers = of(&server, LONG);
        let told = told(&servers, "bad").await;
        assert!(told.contains("more than 1,000 events, or of more than 32 MB"), "{told}");
        assert_eq!(call(&servers, "good").await.unwrap().text, "fine");
    }
}

#[tokio::test]
async fn a_result_of_20_mb_is_refused_however_it_is_sent() {
    let large = Answer::text("x".repeat(20 << 20));
    for builder in [answering(large.clone()), answering(large).event_stream()] {
        let server = builder.start().await;
        let servers = of(&server, LONG);
        let told = told(&servers, "bad").await;
        assert!(told.starts_with("the MCP server k8s did not answer bad: "), "{told}");
        assert!(told.contains("larger than 16 MB"), "{told}");
        assert_eq!(call(&servers, "good").await.unwrap().text, "fine");
    }
    let server = answering(Answer::text("x".repeat(9 << 20))).start().await;
    let told = told(&of(&server, LONG), "bad").await;
    assert_eq!(told, "the MCP server k8s did not answer bad: its output is larger than 8 MB; ask for less");
}

#[tokio::test]
async fn what_is_no_character_is_one_that_says_so_and_what_is_no_json_is_told() {
    let mut bytes =
        br#"{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"text","text":"pool \ud83d"#.to_vec();
    bytes.extend([0xff, 0xc3, 0x28]);
    bytes.extend(br#""}]}}"#);
    let mut event = [b"data: ", &bytes[..], b"\n\n"].concat();
    event.splice(0..0, *b"event: message\n");
    for answer in [Answer::Garbage(bytes), Answer::Events(event)] {
        let server = answering(answer).start().await;
        let output = call(&of(&server, LONG), "bad").await.unwrap();
        assert_eq!(output.text, "pool \u{fffd}\u{fffd}\u{fffd}(");
        assert_eq!(
            output.remarks,
            [Remark::Noted(
                "half a character or more of its output could not be read; U+FFFD stands there".into()
            )]
        );
    }
    for (answer, what) in [
        (Answer::Events(b"data: <html>\n\n".to_vec()), "no JSON (expected value at line 1 column 1): <html>"),
        (Answer::Garbage(b"<html>".to_vec()), "no JSON (expected value at line 1 column 1): <html>"),
    ] {
        let server = answering(answer).start().await;
        let servers = of(&server, LONG);
        let told = told(&servers, "bad").await;
        let want = "the MCP server k8s did not answer bad: it answered something that is not MCP: ";
        assert_eq!(told, format!("{want}{what}"));
        assert_eq!(call(&servers, "good").await.unwrap().text, "fine");
    }
}

#[tokio::test]
async fn an_output_that_breaks_its_tools_own_output_schema_is_kept_and_the_breach_noted() {
    let schema = json!({
        "type": "object", "properties": {"pods": {"type": "integer"}}, "required": ["pods"]
    });
    let define = |name: &str, schema: &Value| json!({"name": name, "inputSchema": {"type": "object"}, "outputSchema": schema});
    let result = |structured: Value| {
        Answer::Result(
            json!({"content": [{"type": "text", "text": "pods"}], "structuredContent": structured}),
        )
    };
    let (good, bad) = (result(json!({"pods": 3})), result(json!({"pods": "three"})));
    let server = FakeMcp::builder()
        .tool_defined(define("good", &schema), move |_| good.clone())
        .tool_defined(define("bad", &schema), move |_| bad.clone())
        .tool_defined(define("none", &schema), |_| Answer::text("pods: 3"))
        .tool_defined(define("failed", &schema), |_| Answer::error("no such namespace"))
        .tool_defined(define("unusable", &json!({"type": "object", "required": 5})), |_| {
            Answer::text("pods: 3")
        })
        .start()
        .await;
    let servers = of(&server, LONG);
    assert_eq!(call(&servers, "good").await.unwrap().text, "pods");
    assert!(call(&servers, "failed").await.unwrap().is_error);
    for (name, text, words) in [
        ("bad", "pods", "its structured content breaks its own output schema: /pods: "),
        ("none", "pods: 3", "it gave no structured content, although its output schema promises it"),
        ("unusable", "pods: 3", "its output schema cannot be used: "),
    ] {
        let output = call(&servers, name).await.unwrap();
        assert_eq!(output.text, text, "the text is what counts");
        assert!(matches!(&*output.remarks, [Remark::Noted(noted)] if noted.starts_with(words)), "{output:?}");
    }
    assert_eq!(count(&server, "initialize"), 1, "a wrong answer says nothing about the session");
}

#[tokio::test]
async fn a_server_that_hangs_again_and_again_is_left_alone() {
    let server = answering(Answer::Hang).start().await;
    let servers = of(&server, CUT);
    assert!(call(&servers, "good").await.is_ok());
    let all = join_all((0..3).map(|_| told(&servers, "bad"))).await;
    for one in all {
        assert_eq!(one, "the MCP server k8s did not answer bad within 2s; the request was cancelled");
    }
    let left = told(&servers, "good").await;
    assert_eq!(
        left,
        "the MCP server k8s cannot be reached: its last requests failed; it did not answer bad within 2s; the request was \
         cancelled"
    );
    server.wait_for("notifications/cancelled", 3).await;
    assert_eq!(server.calls().len(), 4, "nothing more was sent");
}

#[tokio::test]
async fn errors_of_the_protocol_and_answers_between_failures_leave_a_server_in_use() {
    let server = answering(Answer::RpcError(-32603, "broken".to_owned()))
        .tool("close", json!({"type": "object"}), "Breaks.", |_| Answer::Close)
        .start()
        .await;
    let servers = of(&server, LONG);
    for _ in 0..4 {
        assert!(told(&servers, "bad").await.contains("it answered with an error: broken"));
    }
    for _ in 0..4 {
        told(&servers, "close").await;
        assert!(call(&servers, "good").await.is_ok());
    }
}

#[tokio::test]
async fn a_changed_list_is_asked_for_again_with_the_next_session() {
    let server = answering(Answer::text("was bad")).start().await;
    let servers = of(&server, LONG);
    assert_eq!(servers.list("k8s", LONG).await.unwrap()[0].description, "Bad.");
    server.redefine(json!({"name": "bad", "description": "Worse.", "inputSchema": {"type": "object"}}));
    assert_eq!(servers.list("k8s", LONG).await.unwrap()[0].description, "Bad.", "the session's list is kept");
    servers.close().await;
    assert_eq!(servers.list("k8s", LONG).await.unwrap()[0].description, "Worse.");
}
