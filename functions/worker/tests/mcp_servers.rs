//! What MCP servers do in practice, and what becomes of it: of their list of tools, of a call, and, where the model's own
//! service calls them, of what it shows. One table, which this prints:
//!
//! ```sh
//! cargo nextest run -p sentinel-worker -E 'test(behaviours)' --no-capture
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test part that cannot do its work fails the test"
)]
#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use sentinel_core::card::{FIRST_SERVICE, ToolId};
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::hosted_tools;
use sentinel_investigation::ports::{
    Api, HostedServer, Item, Model, Remark, Said, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest,
};
use sentinel_mcp::{Credential, Endpoint, Program, Reach, ServerSpec, Servers};
use sentinel_model::{Auth, HostedPlace, HostedSpec, ServiceSettings, Services};
use sentinel_testkit::mcp::{Answer, Builder, FakeMcp, Request};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, mcp_call_item, response};
use serde_json::{Map, Value, json};

/// What every call but those of hanging servers has.
const LONG: Duration = Duration::from_mins(1);
/// What is waited for in full where nothing is answered.
const CUT: Duration = Duration::from_secs(2);
const SAID: &str = "node pool gamma is full";

/// One behaviour, and what becomes of it.
struct Row {
    what: String,
    list: &'static str,
    call: &'static str,
    hosted: &'static str,
    /// What was seen.
    seen: [String; 3],
}

fn http() -> Arc<HttpClient> {
    Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])))
}

fn servers(reach: Reach, timeout: Duration) -> Servers {
    Servers::new(vec![ServerSpec { name: "k8s".to_owned(), reach, timeout }], &http())
}

fn at(url: &str, timeout: Duration) -> Servers {
    servers(
        Reach::Http(Endpoint { url: url.to_owned(), headers: vec![], credential: Credential::None }),
        timeout,
    )
}

/// A list, in words: the tools that can be used, and why others cannot.
fn listed(listed: Result<Vec<ToolDefinition>, ToolError>) -> String {
    match listed {
        Ok(tools) => {
            let one = |tool: &ToolDefinition| match &tool.unusable {
                None if tool.input_schema.is_object() => tool.tool.clone(),
                None => format!("({}: no schema)", tool.tool),
                Some(why) => format!("({}: {why})", tool.tool),
            };
            tools.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Err(error) => told(&error.to_string()),
    }
}

fn called(called: Result<ToolOutput, ToolError>) -> String {
    match called {
        Ok(output) => {
            let remarks: Vec<String> = output
                .remarks
                .iter()
                .map(|remark| match remark {
                    Remark::Lost(what) => format!(" [lost: {what}]"),
                    Remark::Noted(what) => format!(" [noted: {what}]"),
                })
                .collect();
            format!("{}{}", output.text.replace('\n', " / "), remarks.join(""))
        }
        Err(error) => told(&error.to_string()),
    }
}

/// Without what is said of every server, and without what differs from run to run.
fn told(error: &str) -> String {
    let port = |word: &str| {
        word.split_once("127.0.0.1:").map_or_else(
            || word.to_owned(),
            |(before, after)| {
                format!("{before}HERE{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
            },
        )
    };
    let words: Vec<String> = error.split(' ').map(port).collect();
    words.join(" ").replace("the MCP server k8s ", "")
}

fn definition() -> Value {
    json!({"name": "pods_get", "inputSchema": {"type": "object"}})
}

/// A server with one tool that says what is the matter, and answers as `first` says where that says anything.
fn builder() -> Builder {
    FakeMcp::builder().tool_defined(definition(), |_| Answer::text(SAID))
}

fn result(result: &str) -> Answer {
    Answer::Raw(200, vec![], format!(r#"{{"jsonrpc": "2.0", "id": $id, "result": {result}}}"#))
}

fn text(text: &str) -> String {
    format!(r#"{{"content": [{{"type": "text", "text": "{text}"}}]}}"#)
}

/// What a session's loss looks like.
fn lost(status: u16, id: &str, message: &str) -> Answer {
    let error = json!({"code": -32000, "message": message});
    Answer::Raw(status, vec![], format!(r#"{{"jsonrpc": "2.0"{id}, "error": {error}}}"#))
}

/// Answers the first request of a method so.
fn once(method: &'static str, answer: Answer) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    let times = AtomicUsize::new(0);
    move |request| {
        (request.method() == method && times.fetch_add(1, Ordering::SeqCst) == 0).then(|| answer.clone())
    }
}

fn always(
    method: &'static str,
    answer: Answer,
) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    move |request| (request.method() == method).then(|| answer.clone())
}

fn tools(all: &[Value]) -> String {
    json!({"tools": all}).to_string()
}

/// The server lists, and is called, once each.
async fn direct(builder: Builder, timeout: Duration) -> (String, String) {
    let server = builder.start().await;
    let servers = at(&server.url(), timeout);
    both(&servers).await
}

async fn both(servers: &Servers) -> (String, String) {
    let list = listed(servers.list("k8s", LONG).await);
    let tool = ToolId { server: "k8s".to_owned(), tool: "pods_get".to_owned() };
    let arguments = Map::from_iter([("name".to_owned(), json!("web-1"))]);
    (list, called(servers.call(&tool, &arguments, LONG).await))
}

/// What the model's service shows: these items of its answer.
async fn hosted(items: Vec<Value>) -> String {
    let scripted =
        Scripted::Garbage(response(items).to_string().replace("\\\\ud83d", "\\ud83d").into_bytes());
    let service = ScriptedOpenAi::answering([scripted]).await;
    let settings = ServiceSettings {
        name: FIRST_SERVICE.to_owned(),
        api: Api::Responses,
        base_url: service.base_url(),
        auth: Auth::Bearer("k".into()),
        temperature: None,
        reasoning_effort: None,
        service_tier: None,
        timeout: LONG,
        attempts: 1,
        backoff: Duration::from_millis(1),
        random: || 0,
        forced_turns: BTreeMap::new(),
    };
    let place = HostedPlace::Url("https://mcp.example.com/mcp".to_owned());
    let (name, label) = ("k8s".to_owned(), "k8s".to_owned());
    let spec = HostedSpec { name, label, place, authorization: None, headers: vec![], description: None };
    let services = Services::new(vec![settings], vec![spec], &http()).unwrap();
    let request = TurnRequest {
        model: "gpt-4.1-mini".into(),
        instructions: "You investigate.".to_owned(),
        input: vec![Item::User { text: "PodStuck".to_owned() }],
        tools: vec![],
        hosted: vec![HostedServer {
            server: "k8s".to_owned(),
            label: "k8s".to_owned(),
            tools: vec!["pods_get".to_owned()],
        }],
        max_hosted_calls: 16,
        force: None,
        max_output_tokens: 4096,
        cache_key: "incident-1".to_owned(),
    };
    let answer = match services.respond(&request, LONG).await {
        Ok(answer) => answer,
        Err(error) => return error.to_string(),
    };
    let mut shown: Vec<String> = answer
        .outputs
        .iter()
        .filter_map(|output| match &output.said {
            Said::HostedCall(call) => {
                let words = call.output.clone().or_else(|| call.error.clone()).unwrap_or_default();
                Some(format!("{:?}: {words}", call.status))
            }
            _ => None,
        })
        .collect();
    if answer.outputs.iter().any(|output| matches!(output.said, Said::HostedList(_))) {
        shown.push(match hosted_tools(answer.outputs, "k8s", &Redactor::default()) {
            Ok(tools) => listed(Ok(tools)),
            Err(why) => why,
        });
    }
    shown.join("; ")
}

fn hosted_list(tools: &Value, error: &Value) -> Value {
    json!({"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "k8s", "tools": tools, "error": error})
}

fn hosted_call(gave: Result<&str, Value>) -> Value {
    mcp_call_item("k8s", "pods_get", &json!({"name": "web-1"}), "mcpr_1", gave)
}

struct Table(Vec<Row>);

impl Table {
    fn add(
        &mut self,
        what: impl Into<String>,
        expected: [&'static str; 3],
        (list, call): (String, String),
        hosted: String,
    ) {
        let [l, c, h] = expected;
        self.0.push(Row { what: what.into(), list: l, call: c, hosted: h, seen: [list, call, hosted] });
    }

    async fn direct(
        &mut self,
        what: impl Into<String>,
        list: &'static str,
        call: &'static str,
        builder: Builder,
    ) {
        let seen = direct(builder, LONG).await;
        self.add(what, [list, call, "—"], seen, "—".to_owned());
    }

    fn print(&self) -> Vec<String> {
        println!("\n| server | list | call | hosted |\n|---|---|---|---|");
        let mut wrong = Vec::new();
        for Row { what, list, call, hosted, seen } in &self.0 {
            println!("| {what} | {} | {} | {} |", seen[0], seen[1], seen[2]);
            for (column, (want, saw)) in
                ["list", "call", "hosted"].iter().zip([list, call, hosted].iter().zip(seen))
            {
                if **want != saw {
                    wrong.push(format!("{what}, {column}:\n  want {want}\n  saw  {saw}"));
                }
            }
        }
        println!("{} behaviours", self.0.len());
        wrong
    }
}

#[tokio::test]
async fn the_table_of_server_behaviours() {
    let mut table = Table(Vec::new());
    sessions(&mut table).await;
    handshakes(&mut table).await;
    odd_lists(&mut table).await;
    odd_outputs(&mut table).await;
    odd_streams(&mut table).await;
    redirects(&mut table).await;
    programs(&mut table).await;
    let wrong = table.print();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const GOOD: &str = "pods_get";

/// Sessions that the server lost, and errors that are an answer.
async fn sessions(table: &mut Table) {
    for (what, answer) in [
        ("404 to an old session", Answer::Status(404, "no such session".to_owned())),
        (
            "400 to an old session, error with id null",
            lost(400, r#", "id": null"#, "Bad Request: No valid session ID provided"),
        ),
        ("400 to an old session, error without id", lost(400, "", "Bad Request: Server not initialized")),
        ("410 to an old session, plain text", Answer::Status(410, "Session is gone".to_owned())),
        ("200 to an old session, error with id null", lost(200, r#", "id": null"#, "Session not found")),
    ] {
        for method in ["tools/list", "tools/call"] {
            let builder = builder().first(once(method, answer.clone()));
            table.direct(format!("{what}, at {method}"), GOOD, SAID, builder).await;
        }
    }
    table
        .direct(
            "400 with an error of id null that is about the arguments",
            GOOD,
            "did not answer pods_get: it answered with an error: name is missing",
            builder().first(always("tools/call", lost(400, r#", "id": null"#, "name is missing"))),
        )
        .await;
    table
        .direct(
            "200 with an error without id",
            GOOD,
            "did not answer pods_get: it answered with an error: name is missing",
            builder().first(always("tools/call", lost(200, "", "name is missing"))),
        )
        .await;
    table
        .direct(
            "an answer whose id is the number as text",
            GOOD,
            SAID,
            builder().first(always(
                "tools/call",
                Answer::Raw(
                    200,
                    vec![],
                    format!(r#"{{"jsonrpc": "2.0", "id": "$id", "result": {}}}"#, text(SAID)),
                ),
            )),
        )
        .await;
    table
        .direct(
            "an answer to another request",
            GOOD,
            "did not answer pods_get: it answered another request than it was asked",
            builder().first(always(
                "tools/call",
                Answer::Raw(
                    200,
                    vec![],
                    format!(r#"{{"jsonrpc": "2.0", "id": 4711, "result": {}}}"#, text(SAID)),
                ),
            )),
        )
        .await;
    let hangs = builder().first(once("tools/call", Answer::Hang));
    let server = hangs.start().await;
    let servers = at(&server.url(), CUT);
    let (list, first) = both(&servers).await;
    assert_eq!(first, "did not answer pods_get within 2s; the request was cancelled");
    let (_, second) = both(&servers).await;
    let sessions = server.requests().iter().filter(|r| r.method() == "initialize").count();
    assert_eq!(sessions, 2, "a time-out forgets the session");
    table.add("hangs once: the call after it", [GOOD, SAID, "—"], (list, second), "—".to_owned());
}

/// Servers that are away for a moment, and what refuses a handshake.
async fn handshakes(table: &mut Table) {
    for (what, answer) in [
        ("503 to the first handshake", Answer::Status(503, "no backend".to_owned())),
        ("502 to the first handshake", Answer::Status(502, String::new())),
    ] {
        let times = AtomicUsize::new(0);
        // Both questions of one handshake.
        let first = move |request: &Request| {
            let is_handshake = matches!(request.method(), "server/discover" | "initialize");
            (is_handshake && times.fetch_add(1, Ordering::SeqCst) < 2).then(|| answer.clone())
        };
        table.direct(what, GOOD, SAID, builder().first(first)).await;
    }
    let breaks = builder().first(once("server/discover", Answer::Close));
    table.direct("breaks off the first handshake", GOOD, SAID, breaks).await;
    let server = builder().start().await;
    server.go_away().await;
    let servers = at(&server.url(), LONG);
    let back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.come_back().await;
    };
    let (seen, ()) = futures::join!(both(&servers), back);
    table.add("refuses connections for a moment", [GOOD, SAID, "—"], seen, "—".to_owned());

    let message =
        "Error retrieving tool list from MCP server: 'k8s'. Http status code: 503 (Service Unavailable)";
    let refused = "cannot be reached: it answered HTTP 503: no backend";
    let seen = direct(builder().first(|_| Some(Answer::Status(503, "no backend".to_owned()))), LONG).await;
    let shown = hosted(vec![hosted_list(&json!([]), &json!(message))]).await;
    table.add("503 to every request", [refused, refused, message], seen, shown);

    let refused = "cannot be reached: it refused the credentials (HTTP 401)";
    table
        .direct("401", refused, refused, builder().first(|_| Some(Answer::Status(401, String::new()))))
        .await;

    let sse = |request: &Request| {
        Some(match request.http_method.as_str() {
            "GET" => Answer::Events(b"event: endpoint\ndata: /messages?sessionId=1\n\n".to_vec()),
            _ => Answer::Status(405, String::new()),
        })
    };
    let refused = "cannot be reached: it speaks HTTP+SSE, MCP's transport of 2024, which this client does not: configure \
                   its address for streamable HTTP, which often ends in /mcp";
    table.direct("speaks HTTP+SSE only", refused, refused, builder().at("/sse").first(sse)).await;
    let refused = "cannot be reached: it answered HTTP 404";
    table
        .direct(
            "is somewhere else (404)",
            refused,
            refused,
            builder()
                .at("/other")
                .first(|r| (r.path == "/other").then(|| Answer::Status(404, String::new()))),
        )
        .await;
}

/// Lists of which something cannot be read.
async fn odd_lists(table: &mut Table) {
    let hello = json!({"name": "hello", "description": "says hello"});
    let no_schema = "pods_get, (hello: its server lists it without an input schema)";
    let seen =
        direct(builder().first(always("tools/list", result(&tools(&[definition(), hello.clone()])))), LONG)
            .await;
    let shown = hosted(vec![hosted_list(
        &json!([{"name": "pods_get", "input_schema": {"type": "object"}}, {"name": "hello"}]),
        &Value::Null,
    )])
    .await;
    table.add("one tool without a schema", [no_schema, SAID, "pods_get, (hello: no schema)"], seen, shown);
    let mut odd = definition();
    odd["annotations"] = json!({"title": 5, "readOnlyHint": true, "openWorldHint": "often", "mood": "good"});
    odd["icons"] = json!("none");
    odd["execution"] = json!(7);
    let seen = direct(builder().first(always("tools/list", result(&tools(&[odd.clone()])))), LONG).await;
    let schema = odd.as_object_mut().unwrap().remove("inputSchema").unwrap();
    odd["input_schema"] = schema;
    let shown = hosted(vec![hosted_list(&json!([odd]), &Value::Null)]).await;
    table.add("annotations, icons and fields that nobody knows", [GOOD, SAID, GOOD], seen, shown);

    for (what, cursor) in [("a cursor that stays", "\"again\""), ("an empty cursor that stays", "\"\"")] {
        let page = format!(r#"{{"tools": [{}], "nextCursor": {cursor}}}"#, definition());
        table.direct(what, GOOD, SAID, builder().first(always("tools/list", result(&page)))).await;
    }
    table
        .direct(
            "a tool that is no object, and one without a name",
            "pods_get, (: what its server lists is no tool), (: its server lists it without a name)",
            SAID,
            builder().first(always("tools/list", result(&tools(&[definition(), json!("pods"), json!({})])))),
        )
        .await;
    let mut bad = definition();
    bad["name"] = json!("bad");
    bad["inputSchema"]["properties"] = json!({"n": {"type": "string", "x-mcp-header": "two words"}});
    table
        .direct(
            "2026-07-28, x-mcp-header that is no header",
            "pods_get, (bad: the x-mcp-header annotations in its input schema are not as the protocol has them)",
            SAID,
            builder().modern().tool_defined(bad, |_| Answer::text("")),
        )
        .await;
    let mut named = definition();
    named["inputSchema"]["properties"] = json!({"name": {"type": "string", "x-mcp-header": "Pod"}});
    let strict = |request: &Request| {
        let is_named = request.headers.get("mcp-param-pod").is_some_and(|pod| pod == "web-1");
        (request.method() == "tools/call" && !is_named)
            .then(|| lost(400, r#", "id": $id"#, "missing Mcp-Param-Pod header for `name`"))
    };
    for (what, stream) in
        [("2026-07-28, x-mcp-header", false), ("2026-07-28, x-mcp-header, as a stream", true)]
    {
        let builder =
            FakeMcp::builder().modern().tool_defined(named.clone(), |_| Answer::text(SAID)).first(strict);
        table.direct(what, GOOD, SAID, if stream { builder.event_stream() } else { builder }).await;
    }
}

/// Outputs of which something cannot be read.
async fn odd_outputs(table: &mut Table) {
    let call = |answer: Answer| builder().first(always("tools/call", answer));
    let block =
        |block: Value| result(&json!({"content": [{"type": "text", "text": SAID}, block]}).to_string());
    table
        .direct(
            "an annotation of an unknown role",
            GOOD,
            SAID,
            call(result(
                &json!({"content": [{"type": "text", "text": SAID, "annotations": {"audience": ["system"]}}]})
                    .to_string(),
            )),
        )
        .await;
    let want = "node pool gamma is full / [content of the kind hologram, not shown] [lost: content of the kind hologram \
                is not shown]";
    table
        .direct("a block of an unknown kind", GOOD, want, call(block(json!({"type": "hologram", "data": 1}))))
        .await;
    table
        .direct(
            "a block that is a text alone",
            GOOD,
            "node pool gamma is full / since noon",
            call(block(json!("since noon"))),
        )
        .await;
    let seen = direct(call(result(&text(&format!("{SAID} \\ud83d")))), LONG).await;
    let shown = hosted(vec![hosted_call(Ok(&format!("{SAID} \\ud83d")))]).await;
    table.add(
        "half an emoji",
        [
            GOOD,
            "node pool gamma is full \u{fffd} [noted: half a character or more of its output could not be read; U+FFFD \
             stands there]",
            "Answered: node pool gamma is full \u{fffd}",
        ],
        seen,
        shown,
    );
    let mut promising = definition();
    promising["outputSchema"] = json!({"type": "object", "required": ["phase"]});
    table
        .direct(
            "no structured content, although it is promised",
            GOOD,
            "node pool gamma is full [noted: it gave no structured content, although its output schema promises it]",
            FakeMcp::builder().tool_defined(promising, |_| Answer::text(SAID)),
        )
        .await;
    table
        .direct(
            "isError as text",
            GOOD,
            SAID,
            call(result(&format!(
                r#"{{"isError": "false", "content": {{"type": "text", "text": "{SAID}"}}}}"#
            ))),
        )
        .await;
}

/// Answers that come as a stream, and those that are not what they are called.
async fn odd_streams(table: &mut Table) {
    let event = |data: &str| format!("event: message\ndata: {data}\n\n");
    let call = |answer: Answer| builder().first(always("tools/call", answer));
    let answer = format!(r#"{{"jsonrpc": "2.0", "id": $id, "result": {}}}"#, text(SAID));
    let with_id = |stream: String| {
        move |request: &Request| {
            let id = request.body["id"].to_string();
            (request.method() == "tools/call")
                .then(|| Answer::Events(stream.replace("$id", &id).into_bytes()))
        }
    };
    for (what, before) in [
        ("an event that is a keep-alive", "event: ping\ndata: alive\n\n: comment\n\n".to_owned()),
        ("an event that is no JSON before the answer", event("starting")),
        ("an event with a field that nobody knows", "mood: good\nevent: message\ndata:\n\n".to_owned()),
    ] {
        let stream = before + &event(&answer);
        table.direct(what, GOOD, SAID, builder().first(with_id(stream))).await;
    }
    table
        .direct(
            "a stream that ends without an answer",
            GOOD,
            "did not answer pods_get: its answer broke off before it was whole",
            builder().first(with_id("event: ping\ndata: alive\n\n".to_owned())),
        )
        .await;
    table
        .direct(
            "a stream whose error has the id null",
            GOOD,
            "did not answer pods_get: it answered with an error: no such pod",
            builder().first(with_id(event(
                r#"{"jsonrpc": "2.0", "id": null, "error": {"code": -32000, "message": "no such pod"}}"#,
            ))),
        )
        .await;
    table
        .direct(
            "JSON that is called text",
            GOOD,
            SAID,
            builder().first(move |request| {
                let body = answer.replace("$id", &request.body["id"].to_string());
                let headers = vec![("content-type", "text/plain".to_owned())];
                (request.method() == "tools/call").then(|| Answer::Raw(200, headers, body))
            }),
        )
        .await;
    table
        .direct(
            "no JSON",
            GOOD,
            "did not answer pods_get: it answered something that is not MCP: no JSON (expected value at line 1 column 1): \
             <html>",
            call(Answer::Garbage(b"<html>".to_vec())),
        )
        .await;
    let seen = direct(call(Answer::Status(500, "boom".to_owned())), LONG).await;
    let error = json!({"type": "http_error", "code": 500, "message": "boom"});
    let shown = hosted(vec![hosted_call(Err(error))]).await;
    table.add(
        "500 to a call",
        [
            GOOD,
            "did not answer pods_get: it answered HTTP 500: boom",
            "NoAnswer: the server did not answer the model's service: boom (http_error 500)",
        ],
        seen,
        shown,
    );
    let mut reads = definition();
    reads["annotations"] = json!({"readOnlyHint": true});
    for (what, answer) in [
        ("502 to a call that only reads, once", Answer::Status(502, String::new())),
        ("breaks off a call that only reads, once", Answer::Close),
    ] {
        let builder = FakeMcp::builder().tool_defined(reads.clone(), |_| Answer::text(SAID));
        table.direct(what, GOOD, SAID, builder.first(once("tools/call", answer))).await;
    }
}

async fn redirects(table: &mut Table) {
    for (what, status) in [
        ("301 to the same address with a slash", 301),
        ("302 to the same address with a slash", 302),
        ("307 to the same address with a slash", 307),
        ("308 to the same address with a slash", 308),
    ] {
        let elsewhere = move |request: &Request| {
            (request.path == "/mcp")
                .then(|| Answer::Raw(status, vec![("location", "/mcp/".to_owned())], String::new()))
        };
        let server = builder().at("/mcp/").first(elsewhere).start().await;
        let seen = both(&at(server.url().trim_end_matches('/'), LONG)).await;
        table.add(what, [GOOD, SAID, "—"], seen, "—".to_owned());
    }
    for (what, status, location, want) in [
        (
            "302 to a page for people to log in",
            302,
            "https://login.example.com/sign-in?next=secret",
            "cannot be reached: it redirects to https://login.example.com/sign-in, which is not followed; if that is its \
             address, configure it",
        ),
        (
            "303, which asks another question",
            303,
            "/mcp/status",
            "cannot be reached: it redirects to http://HERE/mcp/status, which is not followed; if that is its address, \
             configure it",
        ),
        ("307 to itself", 307, "/mcp", "cannot be reached: it redirects in a circle"),
    ] {
        let elsewhere = move |_: &Request| {
            Some(Answer::Raw(status, vec![("location", location.to_owned())], String::new()))
        };
        table.direct(what, want, want, builder().first(elsewhere)).await;
    }
}

fn python(source: &str) -> Servers {
    let command = ["python3", "-c", source].map(str::to_owned).to_vec();
    let env = vec![("PATH".to_owned(), "/usr/bin:/bin:/usr/local/bin".into())];
    servers(Reach::Program(Program { command, env }), LONG)
}

async fn programs(table: &mut Table) {
    let ends = "import sys\nprint('reading', file=sys.stderr)\nprint('no kubeconfig: set KUBECONFIG', file=sys.stderr)\nsys.exit(3)";
    let want = "cannot be reached: its program ended (exit status: 3): no kubeconfig: set KUBECONFIG";
    let seen = both(&python(ends)).await;
    table.add("a program that ends at once", [want, want, "—"], seen, "—".to_owned());
    let serves = |call: &str| {
        format!(
            r#"
import json, os, signal, sys
print("serving", file=sys.stderr, flush=True)
print("a banner that is no JSON", flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    said = {{"initialize": {{"protocolVersion": "2025-11-25", "capabilities": [], "serverInfo": "p"}},
            "tools/list": {{"tools": [{{"name": "pods_get", "inputSchema": {{"type": "object"}}}}, {{"name": "hello"}}]}}}}.get(m["method"])
    if m["method"] == "tools/call":
        {call}
    body = {{"result": said}} if said else {{"error": {{"code": -32601, "message": "no"}}}}
    print(json.dumps({{"jsonrpc": "2.0", "id": m["id"], **body}}), flush=True)
"#
        )
    };
    let list = "pods_get, (hello: its server lists it without an input schema)";
    let block =
        r#"said = {"content": [{"type": "text", "text": "node pool gamma is full"}, {"type": "hologram"}]}"#;
    let seen = both(&python(&serves(block))).await;
    let want = "node pool gamma is full / [content of the kind hologram, not shown] [lost: content of the kind hologram \
                is not shown]";
    table.add(
        "a program with a banner, odd capabilities, tools and blocks",
        [list, want, "—"],
        seen,
        "—".to_owned(),
    );
    let killed =
        r#"print("out of memory", file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGKILL)"#;
    let seen = both(&python(&serves(killed))).await;
    let want = "did not answer pods_get: its program ended (signal: 9 (SIGKILL)): out of memory";
    table.add("a program that is killed during a call", [list, want, "—"], seen, "—".to_owned());
}

/// A server that is replaced, again and again, while it is in use.
#[tokio::test]
async fn callers_of_a_server_that_goes_away_for_a_moment_all_have_their_answer() {
    let server = builder().start().await;
    let servers = at(&server.url(), LONG);
    let (_, before) = both(&servers).await;
    assert_eq!(before, SAID);
    for _ in 0..3 {
        server.go_away().await;
        let back = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.come_back().await;
        };
        let (all, ()) = futures::join!(join_all((0..4).map(|_| both(&servers))), back);
        assert!(all.iter().all(|(list, call)| list == GOOD && call == SAID), "{all:?}");
    }
}
