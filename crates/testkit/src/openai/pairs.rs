//! Tool calls and their outputs have to come in pairs, and so do requests for approval and their answers: the service
//! refuses a request where one is missing.

use std::collections::HashMap;

use serde_json::Value;

/// What of a Responses request is out of order: an output without an earlier call, a call without an output, one of
/// them twice. With `previous_response_id` the calls may stand in what the service stored, so that outputs alone are
/// in order.
pub(super) fn in_responses(request: &Value) -> Vec<String> {
    let mut pairs = Pairs::default();
    for (n, item) in items(request, "input") {
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        let path = format!("/input/{n}");
        match text("type") {
            "function_call" => pairs.call(text("call_id"), &path),
            "function_call_output" => pairs.output(text("call_id"), &path),
            "mcp_approval_request" => pairs.call(text("id"), &path),
            "mcp_approval_response" => pairs.output(text("approval_request_id"), &path),
            _ => {}
        }
    }
    let calls_may_be_stored = request.get("previous_response_id").is_some_and(Value::is_string);
    pairs.faults(calls_may_be_stored)
}

/// The same of a Chat Completions request, where calls stand in assistant messages and outputs are tool messages.
pub(super) fn in_chat(request: &Value) -> Vec<String> {
    let mut pairs = Pairs::default();
    for (n, message) in items(request, "messages") {
        for (k, call) in items(message, "tool_calls") {
            let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
            pairs.call(id, &format!("/messages/{n}/tool_calls/{k}"));
        }
        if message.get("role").and_then(Value::as_str) == Some("tool") {
            let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
            pairs.output(id, &format!("/messages/{n}"));
        }
    }
    pairs.faults(false)
}

fn items<'a>(of: &'a Value, field: &str) -> impl Iterator<Item = (usize, &'a Value)> {
    of.get(field).and_then(Value::as_array).into_iter().flatten().enumerate()
}

#[derive(Default)]
struct Pairs {
    /// Where each call stands, and whether its output was seen.
    calls: HashMap<String, (String, bool)>,
    orphans: Vec<String>,
    faults: Vec<String>,
}

impl Pairs {
    fn call(&mut self, id: &str, path: &str) {
        if let Some((first, _)) = self.calls.insert(id.to_owned(), (path.to_owned(), false)) {
            self.faults.push(format!("{path}: call {id:?} stands at {first} already"));
        }
    }

    fn output(&mut self, id: &str, path: &str) {
        match self.calls.get_mut(id) {
            None => {
                self.orphans
                    .push(format!("{path}: an output of call {id:?}, which does not stand before it"));
            }
            Some((_, true)) => self.faults.push(format!("{path}: a second output of call {id:?}")),
            Some((_, answered)) => *answered = true,
        }
    }

    fn faults(self, calls_may_be_stored: bool) -> Vec<String> {
        let mut faults = self.faults;
        if !calls_may_be_stored {
            faults.extend(self.orphans);
        }
        let open = self.calls.into_iter().filter(|(_, (_, answered))| !answered);
        faults.extend(open.map(|(id, (path, _))| format!("{path}: call {id:?} has no output")));
        faults.sort();
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(id: &str) -> Value {
        json!({"type": "function_call", "call_id": id})
    }

    fn output(id: &str) -> Value {
        json!({"type": "function_call_output", "call_id": id})
    }

    #[test]
    fn pairs_in_order_are_no_fault() {
        let input = json!([{"role": "user", "content": "x"}, call("a"), call("b"), output("b"), output("a")]);
        assert!(in_responses(&json!({"input": input})).is_empty());
        assert!(in_responses(&json!({"input": "text"})).is_empty());
        let stored = json!({"input": [output("a")], "previous_response_id": "resp_1"});
        assert!(in_responses(&stored).is_empty());
    }

    #[test]
    fn orphans_doubles_and_a_wrong_order_are_faults() {
        for (input, fault) in [
            (json!([output("a")]), "/input/0: an output of call \"a\", which does not stand before it"),
            (json!([call("a")]), "/input/0: call \"a\" has no output"),
            (json!([call("a"), output("a"), output("a")]), "/input/2: a second output of call \"a\""),
            (json!([call("a"), call("a"), output("a")]), "/input/1: call \"a\" stands at /input/0 already"),
        ] {
            assert_eq!(in_responses(&json!({"input": input})), [fault]);
        }
        assert_eq!(in_responses(&json!({"input": [output("a"), call("a")]})).len(), 2);
    }

    #[test]
    fn requests_for_approval_are_held_to_the_same() {
        let asks = json!({"type": "mcp_approval_request", "id": "r"});
        let answer = json!({"type": "mcp_approval_response", "approval_request_id": "r", "approve": true});
        assert!(in_responses(&json!({"input": [asks, answer]})).is_empty());
        for input in [json!([asks]), json!([answer]), json!([asks, answer, answer])] {
            assert_eq!(in_responses(&json!({"input": input})).len(), 1, "{input}");
        }
    }

    #[test]
    fn chat_messages_are_held_to_the_same() {
        let call = json!({"role": "assistant", "tool_calls": [{"id": "a"}]});
        let output = json!({"role": "tool", "tool_call_id": "a"});
        assert!(in_chat(&json!({"messages": [call, output]})).is_empty());
        assert_eq!(
            in_chat(&json!({"messages": [call]})),
            ["/messages/0/tool_calls/0: call \"a\" has no output"]
        );
        assert_eq!(in_chat(&json!({"messages": [output]})).len(), 1);
    }
}
