use sentinel_investigation::ports::ToolSpec;
use serde_json::json;

use super::*;

fn refused(param: Option<&str>, message: &str) -> Failure {
    let (param, message) = (param.map(str::to_owned), message.to_owned());
    Failure::Status { status: 400, code: None, param, message, retry_after: None }
}

fn request(tools: &[&str], force: Option<&str>) -> TurnRequest {
    let spec = |name: &&str| ToolSpec {
        name: (*name).to_owned(),
        description: String::new(),
        parameters: json!({"type": "object", "properties": {}}),
    };
    TurnRequest {
        model: "m".into(),
        instructions: String::new(),
        input: Vec::new(),
        tools: tools.iter().map(spec).collect(),
        hosted: Vec::new(),
        max_hosted_calls: 0,
        force: force.map(str::to_owned),
        max_output_tokens: 16_000,
        cache_key: String::new(),
    }
}

fn body() -> Value {
    json!({
        "model": "m", "messages": [], "temperature": 0.1, "max_tokens": 16_000,
        "parallel_tool_calls": true, "stream": false, "store": false, "prompt_cache_key": "k", "include": ["x"],
        "reasoning": {"effort": "low"},
    })
}

fn learned(failure: &Failure) -> (Adapted, Option<String>) {
    let mut adapted = Adapted::default();
    let said = adapted.learn(failure, &body(), &request(&[], None));
    (adapted, said)
}

#[test]
fn an_option_is_recognised_by_param_or_by_its_name_in_whatever_words() {
    for (param, message, option) in [
        (Some("temperature"), "Unsupported parameter: 'temperature'", "temperature"),
        (Some("reasoning.effort"), "Unsupported value: 'low'", "reasoning"),
        (Some("include[0]"), "Encrypted content is not supported with this model.", "include"),
        (
            None,
            "litellm.UnsupportedParamsError: m does not support parameters: ['parallel_tool_calls']",
            "parallel_tool_calls",
        ),
        (
            None,
            "[{'type': 'extra_forbidden', 'loc': ('body', 'prompt_cache_key'), 'msg': 'Extra inputs are not permitted'}]",
            "prompt_cache_key",
        ),
        (None, "Unrecognized request argument supplied: store", "store"),
        (None, "`temperature` is deprecated for this model.", "temperature"),
        (None, "reasoning_effort: invalid field", "reasoning"),
    ] {
        let (adapted, said) = learned(&refused(param, message));
        assert!(said.is_some() && !adapted.takes(option), "{message}: {said:?}");
    }
}

#[test]
fn what_is_about_something_else_teaches_nothing() {
    for (param, message) in [
        (Some("messages"), "the temperature outside is 'temperature'"),
        (
            None,
            "This model's maximum context length is 8192 tokens. Please reduce the length of the messages.",
        ),
        (None, "Incorrect API key provided"),
        (None, "The store where you include a stream of words"),
    ] {
        let (adapted, said) = learned(&refused(param, message));
        assert_eq!((adapted, said), (Adapted::default(), None), "{message}");
    }
    let other = Failure::Status {
        status: 404,
        code: None,
        param: Some("temperature".to_owned()),
        message: String::new(),
        retry_after: None,
    };
    assert_eq!(learned(&other).1, None);
}

#[test]
fn an_option_is_refused_once_and_a_second_refusal_is_the_answer() {
    let mut adapted = Adapted::default();
    let failure = refused(Some("temperature"), "no");
    assert!(adapted.learn(&failure, &body(), &request(&[], None)).is_some());
    assert!(adapted.learn(&failure, &body(), &request(&[], None)).is_none());
}

#[test]
fn the_bound_of_an_answer_is_sent_by_its_other_name_then_lowered_then_not_at_all() {
    let mut adapted = Adapted::default();
    let said = "'max_tokens' is not taken here, use 'max_completion_tokens'";
    assert!(adapted.learn(&refused(None, said), &body(), &request(&[], None)).is_some());
    assert_eq!(adapted.bound("max_tokens"), Some("max_completion_tokens"));
    let newer = json!({"max_completion_tokens": 16_000});
    let said =
        "max_completion_tokens is too large: 16000. This model supports at most 8192 completion tokens";
    assert!(adapted.learn(&refused(None, said), &newer, &request(&[], None)).is_some());
    assert_eq!(adapted.output_tokens(16_000), 8192);
    let newer = json!({"max_completion_tokens": 8192});
    let said = "Unknown parameter: max_completion_tokens";
    assert!(adapted.learn(&refused(None, said), &newer, &request(&[], None)).is_some());
    assert_eq!(adapted.bound("max_tokens"), None);
    assert!(adapted.learn(&refused(None, said), &newer, &request(&[], None)).is_none());
}

#[test]
fn a_choice_that_is_not_taken_becomes_required_then_auto_then_nothing_and_the_tools_stay() {
    let asked = request(&["look", "submit"], Some("submit"));
    let failure = refused(None, "tool_choice: only auto, none and required");
    let mut adapted = Adapted::default();
    let mut choices = Vec::new();
    for choice in [json!({"type": "function"}), json!("required"), json!("auto")] {
        choices.push(adapted.choice());
        assert!(adapted.learn(&failure, &json!({"tool_choice": choice}), &asked).is_some());
    }
    choices.push(adapted.choice());
    let wanted = [Some(ForcedTurn::Named), Some(ForcedTurn::Required), Some(ForcedTurn::Auto), None];
    assert_eq!(choices, wanted);
    let fit = adapted.fit(&asked);
    assert_eq!(fit.tools, asked.tools);
    assert!(matches!(&fit.input[..], [Item::User { text }] if text.contains("submit")));
    assert!(adapted.learn(&failure, &json!({}), &asked).is_none());
}

#[test]
fn a_model_that_is_offered_the_report_alone_has_no_other_function() {
    let asked = request(&["look", "submit"], Some("submit"));
    let fit = Adapted::new(ForcedTurn::Alone).fit(&asked);
    assert_eq!(fit.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["submit"]);
    let free = request(&["look", "submit"], None);
    assert!(matches!(Adapted::new(ForcedTurn::Alone).fit(&free), Cow::Borrowed(same) if *same == free));
}

#[test]
fn a_function_that_is_not_taken_is_left_out_by_its_place_or_its_name_and_named() {
    let asked = request(&["k8s__pods", "k8s__pods_get", "submit"], None);
    let tools: Vec<Value> = asked.tools.iter().map(|t| json!({"function": {"name": t.name}})).collect();
    let body = json!({"tools": tools});
    for (failure, name) in [
        (refused(Some("tools[1].function.parameters"), "Invalid schema"), "k8s__pods_get"),
        (refused(None, "tools.0.custom.input_schema: JSON schema is invalid"), "k8s__pods"),
        (
            refused(None, "Invalid schema for function 'k8s__pods_get': object schema missing properties"),
            "k8s__pods_get",
        ),
    ] {
        let mut adapted = Adapted::default();
        assert!(adapted.learn(&failure, &body, &asked).is_some());
        assert_eq!(adapted.left_out(&asked).iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), [name]);
        assert_eq!(adapted.fit(&asked).tools.len(), 2);
    }
    let mut adapted = Adapted::default();
    let about_none = refused(None, "the schema of function k8s__other is not taken");
    assert_eq!(adapted.learn(&about_none, &body, &asked), None);
    let due = request(&["k8s__pods", "submit"], Some("submit"));
    let about_due = refused(None, "Invalid schema for function 'submit'");
    assert_eq!(adapted.learn(&about_due, &body, &due), None, "what has to be called is not left out");
}
