//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use sentinel_core::card::FIRST_SERVICE;
use sentinel_investigation::ports::{Item, TurnRequest, TurnResponse};
use serde_json::Value;

use crate::adapt::Adapted;
use crate::failure::Failure;
use crate::{Auth, Recorded, ServiceSettings, chat, messages, responses};

/// An answer of the Responses API is read, or refused with a reason.
///
/// # Panics
/// Where that does not hold.
pub fn of_responses(body: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return };
    check(responses::answer::read(answer));
}

/// An answer of Chat Completions is read, or refused with a reason.
///
/// # Panics
/// Where that does not hold.
pub fn of_chat(body: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return };
    check(chat::answer::read(answer, &HashSet::from(["call_1".to_owned()]), 1));
}

/// An answer of the Messages API is read, or refused with a reason.
///
/// # Panics
/// Where that does not hold.
pub fn of_messages(body: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return };
    check(messages::answer::read(answer, &HashSet::from(["call_1".to_owned()]), 1));
}

/// A recorded run is read, or refused with a reason.
///
/// # Panics
/// Where that does not hold.
pub fn recorded(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    if let Err(refused) = Recorded::read(text, "run.json") {
        assert!(!refused.to_string().is_empty());
    }
}

/// What was read can be answered, and sent back by each interface.
fn check(read: Result<TurnResponse, Failure>) {
    let turn = match read {
        Ok(turn) => turn,
        Err(failure) => {
            assert!(!failure.to_string().is_empty());
            return;
        }
    };
    assert!(turn.calls().all(|call| !call.call_id.is_empty() && !call.name.is_empty()), "{turn:?}");
    let settings = ServiceSettings {
        name: FIRST_SERVICE.to_owned(),
        api: turn.api,
        base_url: "https://api.openai.com/v1".to_owned(),
        auth: Auth::Bearer("key".into()),
        temperature: None,
        reasoning_effort: None,
        service_tier: None,
        timeout: Duration::ZERO,
        attempts: 1,
        backoff: Duration::ZERO,
        random: || 0,
        forced_turns: BTreeMap::new(),
    };
    for model in ["one", "another"] {
        let next = TurnRequest {
            model: model.into(),
            instructions: String::new(),
            input: vec![Item::Response { asked: "one".into(), api: turn.api, outputs: turn.outputs.clone() }],
            tools: Vec::new(),
            hosted: Vec::new(),
            max_hosted_calls: 0,
            force: None,
            max_output_tokens: 1_000,
            cache_key: String::new(),
        };
        let adapted = Adapted::default();
        assert!(
            responses::request::body(&settings, &BTreeMap::new(), &next, &[], &adapted)
                .get("input")
                .is_some()
        );
        assert!(chat::request::body(&settings, &next, &[], &adapted).get("messages").is_some());
        assert!(messages::request::body(&settings, &next, &[], &adapted).get("messages").is_some());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_testkit::anthropic;
    use sentinel_testkit::inputs::near;
    use sentinel_testkit::openai::{
        cut_off, function_call, mcp_approval_request_item, mcp_call_item, mcp_list_item, message, response,
    };
    use serde_json::json;

    use super::*;

    fn answers() -> Vec<String> {
        let hosted = response(vec![
            mcp_list_item("k8s", &[("pod", json!({"readOnlyHint": true}))]),
            mcp_approval_request_item("k8s", "pod", &json!({}), "mcpr_1"),
            mcp_call_item("k8s", "pod", &json!({}), "mcpr_1", Ok("Pending")),
        ]);
        let call = function_call("submit_report", &json!({"verdict": "no_action"}), "call_1");
        let failed = json!({"status": "failed", "error": {"code": "server_error", "message": "m"}});
        [message("hello"), cut_off(message("half")), call, hosted, failed].map(|a| a.to_string()).to_vec()
    }

    fn of_a_chat() -> Vec<String> {
        let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let message = json!({"role": "assistant", "content": "hm", "refusal": null, "tool_calls": [call]});
        let choice = json!({"index": 0, "finish_reason": "tool_calls", "message": message});
        let usage = json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3});
        let whole = json!({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage});
        let bare = json!({"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}}]});
        let error = json!({"error": {"message": "upstream", "code": 502}});
        vec![whole.to_string(), bare.to_string(), error.to_string()]
    }

    fn of_messages_api() -> Vec<String> {
        let blocks = vec![
            anthropic::thinking("hm"),
            anthropic::redacted_thinking("x"),
            anthropic::tool_use("f", &json!({"a": 1}), "toolu_1"),
        ];
        let answers =
            [anthropic::message(blocks, "tool_use"), anthropic::text("x"), anthropic::refusal("no")];
        let error = anthropic::error_body("overloaded_error", "Overloaded");
        answers.iter().map(Value::to_string).chain([error]).collect()
    }

    fn runs() -> Vec<String> {
        vec![include_str!("../../../events/runs/watchdog.json").to_owned()]
    }

    proptest! {
        #[test]
        fn any_answer_of_the_responses_api_is_read_or_refused(body in near(answers())) {
            of_responses(&body);
        }

        #[test]
        fn any_answer_of_chat_completions_is_read_or_refused(body in near(of_a_chat())) {
            of_chat(&body);
        }

        #[test]
        fn any_answer_of_the_messages_api_is_read_or_refused(body in near(of_messages_api())) {
            of_messages(&body);
        }

        #[test]
        fn any_recorded_run_is_read_or_refused(body in near(runs())) {
            recorded(&body);
        }
    }
}
