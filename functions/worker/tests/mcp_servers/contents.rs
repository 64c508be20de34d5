//! What a server says: its list, its outputs, its streams.

use sentinel_testkit::mcp::{Answer, FakeMcp, Request};
use serde_json::{Value, json};

use crate::support::*;

/// Lists of which something cannot be read.
pub(crate) async fn odd_lists(table: &mut Table) {
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
pub(crate) async fn odd_outputs(table: &mut Table) {
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
pub(crate) async fn odd_streams(table: &mut Table) {
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
