//! Hosted MCP: what the Responses API's items say of the calls that the model's own service makes, and what of them is
//! stored. (OpenAI's API description 2.3.0: `MCPListTools`, `MCPApprovalRequest`, `MCPToolCall`.)

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::redact::Redactor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::arguments;
use crate::evidence::{CallStatus, Kept};
use crate::fence::clip;
use crate::ports::ToolDefinition;

/// What all hosted outputs of one turn may be together, as JSON strings: the turn is one stored item of at most 400 KB.
const MOST_HOSTED: usize = 256 * 1024;
/// A server's list of tools that is longer than this is not kept. It is stored with the first turn.
const LARGEST_LIST: usize = 96 * 1024;

/// What a hosted call gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostedOutput {
    /// How it ended.
    pub status: CallStatus,
    /// What is kept of its output.
    pub kept: Kept,
}

/// One step of a hosted server, as the response tells it. Untrusted.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event<'a> {
    /// The tools that the service offers to the model.
    Listed { label: &'a str, tools: Vec<ToolDefinition>, error: Option<String> },
    /// A call wants to be made.
    Asked { id: &'a str, label: &'a str, tool: &'a str, arguments: &'a str },
    /// A call was made, after this request was approved.
    Called { id: &'a str, label: &'a str, tool: &'a str, arguments: &'a str, request: Option<&'a str> },
}

fn text<'a>(item: &'a Value, key: &str) -> &'a str {
    item.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn kind(item: &Value) -> &str {
    text(item, "type")
}

/// What the items of a response say of hosted servers, in their order.
pub(crate) fn events(items: &[Value]) -> impl Iterator<Item = Event<'_>> {
    items.iter().filter_map(|item| {
        let (id, label) = (text(item, "id"), text(item, "server_label"));
        let (tool, arguments) = (text(item, "name"), text(item, "arguments"));
        match kind(item) {
            "mcp_list_tools" => {
                let tools = item.get("tools").and_then(Value::as_array).into_iter().flatten();
                let error = item.get("error").filter(|e| !e.is_null());
                let error = error.map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned));
                Some(Event::Listed {
                    label,
                    tools: tools.cloned().map(ToolDefinition::read).collect(),
                    error,
                })
            }
            "mcp_approval_request" => Some(Event::Asked { id, label, tool, arguments }),
            "mcp_call" => {
                let request = item.get("approval_request_id").and_then(Value::as_str);
                Some(Event::Called { id, label, tool, arguments, request })
            }
            _ => None,
        }
    })
}

/// Takes secrets out of a response's hosted items and bounds them. The outputs of its calls are taken out whole and
/// given back by the calls' ids: they are stored once, and sent back as evidence is shown. What the model wrote of a
/// call stays as it is, unless it holds a credential; then it is redacted, and the second map holds its id and the
/// credential's kind.
pub(crate) fn take_outputs(
    items: &mut [Value],
    redactor: &Redactor,
) -> (BTreeMap<String, HostedOutput>, BTreeMap<String, String>) {
    let calls = items.iter().filter(|item| kind(item) == "mcp_call").count();
    let (mut outputs, mut credentials) = (BTreeMap::new(), BTreeMap::new());
    for item in items {
        match kind(item) {
            "mcp_approval_request" => {
                if let Some(kind) = take_credential(item, redactor) {
                    credentials.insert(text(item, "id").to_owned(), kind);
                }
            }
            "mcp_list_tools" => {
                redact(item, "tools", redactor);
                redact(item, "error", redactor);
                if item.get("tools").is_some_and(|tools| tools.to_string().len() > LARGEST_LIST) {
                    set(item, "tools", json!([]));
                    set(item, "error", json!("its list of tools is too long"));
                }
            }
            "mcp_call" => {
                take_credential(item, redactor);
                let (status, received) = ended(item);
                let kept = Kept::of(&received, redactor, MOST_HOSTED / calls);
                if item.get("output").is_some_and(|o| !o.is_null()) {
                    set(item, "output", json!(""));
                }
                bound_error(item, redactor);
                outputs.insert(text(item, "id").to_owned(), HostedOutput { status, kept });
            }
            _ => {}
        }
    }
    (outputs, credentials)
}

/// Takes the credentials out of an item's arguments, where they hold one beyond doubt, and gives the kind of the first.
pub(crate) fn take_credential(item: &mut Value, redactor: &Redactor) -> Option<String> {
    match item.get_mut("arguments")? {
        Value::String(written) => {
            let kind = arguments::credential(written, redactor)?;
            *written = arguments::without_credentials(written, redactor);
            Some(kind)
        }
        // Some services write the value itself.
        value => {
            let kind = arguments::credential(&value.to_string(), redactor)?;
            redactor.redact_json(value);
            Some(kind)
        }
    }
}

/// The tools of a hosted server, as a response shows them and as they are held against `tools.lock`. `Err`: why there are
/// none.
pub fn hosted_tools(
    mut items: Vec<Value>,
    label: &str,
    redactor: &Redactor,
) -> Result<Vec<ToolDefinition>, String> {
    take_outputs(&mut items, redactor);
    let shown = events(&items).find_map(|event| match event {
        Event::Listed { label: of, tools, error } if of == label => Some(error.map_or(Ok(tools), Err)),
        _ => None,
    });
    shown.unwrap_or_else(|| Err("the model's service did not show its tools".to_owned()))
}

fn redact(item: &mut Value, key: &str, redactor: &Redactor) {
    if let Some(value) = item.get_mut(key) {
        redactor.redact_json(value);
    }
}

fn set(item: &mut Value, key: &str, value: Value) {
    if let Some(fields) = item.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}

/// How a call ended, and its words. An error that the tool itself reports is the tool's; any other is the service's.
fn ended(item: &Value) -> (CallStatus, String) {
    let error = item.get("error").filter(|e| !e.is_null());
    let output = item.get("output").and_then(Value::as_str);
    match (error, output) {
        (None, Some(output)) if !matches!(text(item, "status"), "failed" | "incomplete") => {
            (CallStatus::Answered, output.to_owned())
        }
        (None, Some(output)) => (CallStatus::ToolError, output.to_owned()),
        (None, None) => (CallStatus::NoAnswer, "the server gave no output".to_owned()),
        (Some(error), output) if kind(error) == "mcp_tool_execution_error" => {
            let words = error.get("content").map(words).filter(|w| !w.is_empty());
            let words = words.or_else(|| output.map(str::to_owned)).unwrap_or_else(|| error.to_string());
            (CallStatus::ToolError, words)
        }
        (Some(error), _) => {
            let message = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
            let code = error.get("code").map(|c| format!(" ({} {c})", kind(error))).unwrap_or_default();
            let message = message.map_or_else(|| error.to_string(), str::to_owned);
            (CallStatus::NoAnswer, format!("the server did not answer the model's service: {message}{code}"))
        }
    }
}

/// The words of an MCP result's content: its text blocks.
fn words(content: &Value) -> String {
    match content {
        Value::String(words) => words.clone(),
        Value::Array(blocks) => blocks.iter().map(|block| text(block, "text")).collect::<Vec<_>>().join("\n"),
        other => other.to_string(),
    }
}

/// The error goes back with the call, so that the model sees that it failed; its words are in the evidence.
fn bound_error(item: &mut Value, redactor: &Redactor) {
    if let Some(error) = item.get_mut("error") {
        redactor.redact_json(error);
        if let Some(fields) = error.as_object_mut() {
            if let Some(Value::String(message)) = fields.get_mut("message") {
                *message = clip(message, 500);
            }
            if let Some(content) = fields.get_mut("content") {
                *content = json!([{"type": "text", "text": clip(&words(content), 500)}]);
            }
        }
    }
}

/// The items as they are sent back: each call's output is what the model is shown of the evidence that it became. A
/// request without an id cannot be answered and stays here, as does a second one under one id, which has the first one's
/// answer; so does whatever is hosted where nothing is.
pub(crate) fn shown(
    items: &[Value],
    has_hosted: bool,
    evidence: impl Fn(&str) -> Option<String>,
) -> Vec<Value> {
    let mut asked = BTreeSet::new();
    let stays = |item: &&Value| match kind(item) {
        "mcp_approval_request" => {
            let id = text(item, "id");
            has_hosted && !id.is_empty() && asked.insert(id.to_owned())
        }
        "mcp_list_tools" | "mcp_call" => has_hosted,
        _ => true,
    };
    let mut items: Vec<Value> = items.iter().filter(stays).cloned().collect();
    for item in &mut items {
        let has_output = item.get("output").is_some_and(|o| !o.is_null());
        if kind(item) == "mcp_call"
            && has_output
            && let Some(shown) = evidence(text(item, "id"))
        {
            set(item, "output", json!(shown));
        }
    }
    items
}

/// A call's arguments, whatever they are, for telling calls apart.
pub(crate) fn any_arguments(written: &str) -> Map<String, Value> {
    match serde_json::from_str(written) {
        Ok(Value::Object(map)) => map,
        Ok(Value::Null) => Map::new(),
        _ if written.trim().is_empty() => Map::new(),
        Ok(_) | Err(_) => Map::from_iter([("(unreadable)".to_owned(), json!(clip(written, 600)))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(fields: &Value) -> Value {
        let mut item = json!({
            "type": "mcp_call", "id": "mcp_1", "server_label": "k8s", "name": "pods_get", "arguments": "{}",
        });
        item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        item
    }

    fn ends(fields: &Value) -> (CallStatus, String) {
        ended(&call(fields))
    }

    #[test]
    fn every_way_in_which_a_call_can_end_is_told_apart() {
        assert_eq!(ends(&json!({"output": "fine"})), (CallStatus::Answered, "fine".into()));
        assert_eq!(ends(&json!({"output": "", "error": null})), (CallStatus::Answered, String::new()));
        assert_eq!(ends(&json!({"output": "no", "status": "failed"})), (CallStatus::ToolError, "no".into()));
        let content = json!([{"type": "text", "text": "no such pod"}, {"type": "text", "text": "web-1"}]);
        let failed =
            json!({"output": null, "error": {"type": "mcp_tool_execution_error", "content": content}});
        assert_eq!(ends(&failed), (CallStatus::ToolError, "no such pod\nweb-1".into()));
        let down = json!({"error": {"type": "http_error", "code": 502, "message": "bad gateway"}});
        assert_eq!(
            ends(&down),
            (
                CallStatus::NoAnswer,
                "the server did not answer the model's service: bad gateway (http_error 502)".into()
            )
        );
        assert_eq!(ends(&json!({})).0, CallStatus::NoAnswer);
        assert_eq!(ends(&json!({"error": "odd"})).0, CallStatus::NoAnswer);
    }

    #[test]
    fn outputs_are_taken_out_without_secrets_bounded_and_put_back_as_evidence() {
        let redactor = Redactor::new(["swordfish".to_owned()]);
        let long = "x".repeat(400 * 1024);
        let mut items = vec![
            call(&json!({"output": "token swordfish", "arguments": "{\"t\":\"swordfish\"}"})),
            json!({"type": "mcp_call", "id": "mcp_2", "server_label": "k8s", "name": "b", "arguments": "{}", "output": long}),
        ];
        let (outputs, _) = take_outputs(&mut items, &redactor);
        assert!(!Value::Array(items.clone()).to_string().contains("swordfish"));
        assert_eq!(outputs["mcp_1"].kept.text, "token [redacted: configured-secret]");
        let second = &outputs["mcp_2"].kept;
        assert_eq!(second.bytes, 400 * 1024);
        assert!(second.text.len() <= 128 * 1024 && second.left_out > 0, "{}", second.text.len());
        let back = shown(&items, true, |id| Some(format!("[E] {id}")));
        assert_eq!((&back[0]["output"], &back[1]["output"]), (&json!("[E] mcp_1"), &json!("[E] mcp_2")));
    }

    #[test]
    fn a_list_that_is_too_long_is_none() {
        let tool = json!({"name": "a", "input_schema": {"type": "object", "title": "x".repeat(100 * 1024)}});
        let mut items =
            [json!({"type": "mcp_list_tools", "id": "l", "server_label": "k8s", "tools": [tool]})];
        take_outputs(&mut items, &Redactor::default());
        let Some(Event::Listed { tools, error, .. }) = events(&items).next() else { panic!("no list") };
        assert_eq!((tools.len(), error.as_deref()), (0, Some("its list of tools is too long")));
    }

    #[test]
    fn arguments_of_a_call_that_was_made_are_kept_whatever_they_are() {
        assert_eq!(any_arguments(r#"{"a":1}"#)["a"], 1);
        assert!(any_arguments("").is_empty() && any_arguments("null").is_empty());
        assert_eq!(any_arguments("[1")["(unreadable)"], "[1");
    }
}
