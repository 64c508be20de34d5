//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use futures::StreamExt;
use rmcp::model::{RequestId, ServerJsonRpcMessage, ServerResult};
use sentinel_core::card::ToolId;
use sentinel_core::tools_lock::ToolsLock;
use sentinel_investigation::schema::Schema;
use serde_json::{Value, json};

use crate::events;
use crate::oauth;
use crate::output::render;
use crate::reading::{self, Noted, Read};
use crate::session::{Promise, definition, keeps};

/// A tool's result becomes a text, or a reason; and it keeps its tool's output schema, or there is a reason.
///
/// # Panics
/// Where that does not hold.
pub fn result(body: &[u8]) {
    let Some(ServerResult::CallToolResult(mut result)) = answered(body) else { return };
    let remarks = Noted::take(result.meta.as_mut()).remarks;
    match render(&result, remarks) {
        Ok(output) => assert_eq!(output.is_error, result.is_error == Some(true)),
        Err(reason) => assert!(!reason.is_empty()),
    }
    let promised = Promise::new(json!({"type": "object", "properties": {"a": {"type": "integer"}}}));
    if let Err(reason) = keeps(&promised, &result) {
        assert!(!reason.is_empty());
    }
}

/// What is read of an answer that holds this result. It is a message, or there is a reason.
fn answered(result: &[u8]) -> Option<ServerResult> {
    let body = [br#"{"jsonrpc": "2.0", "id": null, "result": "#, result, b"}"].concat();
    match reading::message(&body, Some(&RequestId::Number(7))) {
        Ok(Some(Read { message: ServerJsonRpcMessage::Response(response), .. })) => {
            assert_eq!(response.id, RequestId::Number(7));
            Some(response.result)
        }
        Ok(_) => None,
        Err(reason) => {
            assert!(!reason.is_empty());
            None
        }
    }
}

/// A list of tools becomes definitions, whatever their schemas are; pinned, each is what it was, by its file too.
///
/// # Panics
/// Where that does not hold.
pub fn tools(body: &[u8]) {
    let Some(ServerResult::ListToolsResult(mut listed)) = answered(body) else { return };
    let noted = Noted::take(listed.meta.as_mut());
    assert_eq!(noted.names.len(), listed.tools.len());
    assert!(noted.unusable.iter().all(|(_, why)| !why.is_empty()));
    for tool in listed.tools {
        if let Some(schema) = &tool.output_schema
            && let Err(reason) = Schema::new(&Value::Object((**schema).clone()))
        {
            assert!(!reason.is_empty());
        }
        let defined = definition(tool);
        assert!(defined.input_schema.is_object());
        let id = ToolId { server: "s".to_owned(), tool: defined.tool.clone() };
        let mut lock = ToolsLock::default();
        lock.pin(&id, defined.said());
        assert_eq!(ToolsLock::parse(&lock.to_text()), Ok(lock.clone()));
        assert_eq!(lock.diff(&id, defined.said()), Ok(Vec::new()));
    }
}

/// A stream that answers a request ends in one answer, whatever is in it.
///
/// # Panics
/// Where that does not hold.
pub fn event(body: &[u8]) {
    let events = events::that_answer(events::of_text(body.to_vec()), RequestId::Number(7));
    let events: Vec<_> = futures::executor::block_on(events.collect());
    let data = events.iter().flatten().filter_map(|event| event.data.as_deref());
    let answers = data.filter(|data| {
        let message = serde_json::from_str::<ServerJsonRpcMessage>(data);
        assert!(message.is_ok(), "{data}");
        matches!(message, Ok(ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_)))
    });
    // Where the stream has ids, rmcp may go on with it elsewhere.
    let may_resume = events.iter().flatten().any(|event| event.id.is_some());
    assert!(answers.count() == 1 || may_resume);
}

/// A token endpoint's answer holds a token that a header can carry and that lives a day at most, or there is a reason.
///
/// # Panics
/// Where that does not hold.
pub fn token(body: &[u8]) {
    // The first byte chooses the status.
    let (status, body) = match body.split_first() {
        Some((first, body)) if first % 4 == 0 => (401, body),
        Some((_, body)) => (200, body),
        None => (200, body),
    };
    match oauth::read(status, body) {
        Ok((token, life)) => {
            assert!(status == 200 && !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()));
            assert!(life.as_secs() <= 86_400);
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_testkit::inputs::near;

    use super::*;

    fn results() -> Vec<String> {
        let blocks = json!([
            {"type": "text", "text": "pods"},
            {"type": "image", "data": "aGk=", "mimeType": "image/png"},
            {"type": "resource", "resource": {"uri": "file:///a", "text": "t"}},
            {"type": "resource", "resource": {"uri": "file:///b", "blob": "aGk="}},
            {"type": "resource_link", "uri": "file:///c", "name": "c"},
        ]);
        let whole = json!({"content": blocks, "structuredContent": {"a": 1}, "isError": true});
        vec![whole.to_string(), json!({"content": [], "structuredContent": {"a": "b"}}).to_string()]
    }

    fn lists() -> Vec<String> {
        let tool = json!({
            "name": "pods_get", "description": "d", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}},
            "outputSchema": {"type": "object", "$ref": "#"}, "annotations": {"readOnlyHint": true},
        });
        vec![json!({"tools": [tool], "nextCursor": "1", "ttlMs": 5, "cacheScope": "private"}).to_string()]
    }

    fn streams() -> Vec<String> {
        let answer = json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "pods \u{e9}"}]}});
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "a"}});
        vec![
            format!("event: ping\ndata: alive\n\n: x\nid: 1\nevent: message\ndata: {answer}\n\n"),
            format!("data: {log}\n\nretry: 5\ndata: {answer}\n\n"),
        ]
    }

    fn answers() -> Vec<String> {
        let token =
            json!({"access_token": "abc", "token_type": "bearer", "expires_in": "60", "scope": "read"});
        vec![
            format!("1{token}"),
            "0{\"error\": \"invalid_client\", \"error_description\": \"no\"}".to_owned(),
        ]
    }

    proptest! {
        #[test]
        fn any_result_becomes_a_text_or_a_reason(body in near(results())) {
            result(&body);
        }

        #[test]
        fn any_list_of_tools_becomes_definitions(body in near(lists())) {
            tools(&body);
        }

        #[test]
        fn any_stream_ends_in_one_answer(body in near(streams())) {
            event(&body);
        }

        #[test]
        fn any_answer_of_a_token_endpoint_is_a_token_or_a_reason(body in near(answers())) {
            token(&body);
        }
    }
}
