//! The parts of OpenAI's and Anthropic's contracts that Sentinel speaks, as validators.
//!
//! The descriptions are `tests/contracts/openai.json` and `anthropic.json` (the README there says where they come from and
//! how they were sharpened): unknown fields are errors, so that a misspelt one is found here and not by the service.

use std::fmt;
use std::sync::OnceLock;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::{Value, json};

const OPENAI: &str = include_str!("../../../tests/contracts/openai.json");
const ANTHROPIC: &str = include_str!("../../../tests/contracts/anthropic.json");

/// Checks the body of `POST /v1/responses`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn create_response(request: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(OPENAI, "CreateResponse")), request)
}

/// Checks an answer of `POST /v1/responses`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn response(answer: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(OPENAI, "Response")), answer)
}

/// Checks the body of `POST /v1/chat/completions`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn create_chat_completion_request(request: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(OPENAI, "CreateChatCompletionRequest")), request)
}

/// Checks an answer of `POST /v1/chat/completions`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn create_chat_completion_response(answer: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(OPENAI, "CreateChatCompletionResponse")), answer)
}

/// Checks the body of `POST /v1/messages`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn create_message(request: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(ANTHROPIC, "CreateMessage")), request)
}

/// Checks an answer of `POST /v1/messages`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn message(answer: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(ANTHROPIC, "Message")), answer)
}

/// Checks an error's body of `POST /v1/messages`.
///
/// # Errors
/// One line for each violation: the instance path, then what is wrong with it.
pub fn message_error(answer: &Value) -> Result<(), Vec<String>> {
    static VALIDATOR: OnceLock<Validator> = OnceLock::new();
    check(VALIDATOR.get_or_init(|| compile(ANTHROPIC, "ErrorResponse")), answer)
}

fn compile(contract: &str, name: &str) -> Validator {
    let mut schema: Value = serde_json::from_str(contract).expect("a contract is JSON");
    let components = schema.get_mut("components").expect("the contract has components").take();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{name}"),
        "components": components,
    });
    jsonschema::validator_for(&schema).expect("the contract is a JSON Schema")
}

fn check(validator: &Validator, instance: &Value) -> Result<(), Vec<String>> {
    let mut found = Vec::new();
    for error in validator.iter_errors(instance) {
        explain(&error, &mut found);
    }
    // A part that fails leaves all of its fields unevaluated: above a fault, that says nothing new.
    let is_echo = |line: &Violation| {
        line.unevaluated
            && found.iter().any(|o| o.path.len() > line.path.len() && o.path.starts_with(&line.path))
    };
    let mut lines: Vec<String> =
        found.iter().filter(|line| !is_echo(line)).map(ToString::to_string).collect();
    lines.dedup();
    if lines.is_empty() { Ok(()) } else { Err(lines) }
}

/// One thing that is wrong.
struct Violation {
    path: String,
    text: String,
    unevaluated: bool,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.path.is_empty() { "/" } else { &self.path }, self.text)
    }
}

/// Where nothing of an `anyOf` fits, says what is wrong with the variant that was most likely meant: one whose
/// `type` fits, and among those the one that fits furthest down.
fn explain(error: &ValidationError<'_>, found: &mut Vec<Violation>) {
    if let ValidationErrorKind::AnyOf { context } = error.kind() {
        let here = error.instance_path().as_str().len();
        let meant = context.iter().max_by_key(|variant| {
            let is_other_type = variant.iter().any(|e| is_about_the_type(e, here));
            (
                !is_other_type,
                variant.iter().map(|e| e.instance_path().as_str().len()).max(),
                usize::MAX - variant.len(),
            )
        });
        if let Some(meant) = meant {
            for inner in meant {
                explain(inner, found);
            }
            return;
        }
    }
    let mut text = error.to_string();
    if text.len() > 400 {
        text = format!("{}…", text.chars().take(400).collect::<String>());
    }
    let unevaluated = matches!(error.kind(), ValidationErrorKind::UnevaluatedProperties { .. });
    found.push(Violation { path: error.instance_path().as_str().to_owned(), text, unevaluated });
}

/// Whether the error says that the instance is another kind of thing: not of this JSON type, or another `type` field.
fn is_about_the_type(error: &ValidationError<'_>, here: usize) -> bool {
    let below = error.instance_path().as_str().get(here..).unwrap_or("");
    below == "/type"
        || (below.is_empty() && matches!(error.kind(), ValidationErrorKind::Type { .. }))
        || (below.is_empty()
            && matches!(error.kind(), ValidationErrorKind::Required { property } if property == "type"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(input: &Value) -> Value {
        json!({"model": "gpt-4.1-mini", "input": input, "store": false})
    }

    #[test]
    fn a_request_with_a_tool_call_and_its_output_is_on_the_contract() {
        let request = request(&json!([
            {"type": "message", "role": "user", "content": "why?"},
            {"type": "function_call", "call_id": "c1", "name": "prom__query", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "[E1] 0"},
        ]));
        assert_eq!(create_response(&request), Ok(()));
    }

    #[test]
    fn a_misspelt_field_deep_inside_is_named_with_its_path() {
        let errors = create_response(&request(&json!([
            {"type": "message", "role": "user", "content": "why?"},
            {"type": "function_call", "call_id": "c1", "name": "q", "argument": "{}"},
        ])))
        .unwrap_err();
        let unknown = "/input/1: Unevaluated properties are not allowed ('argument' was unexpected)";
        assert_eq!(errors, ["/input/1: \"arguments\" is a required property", unknown]);
    }

    #[test]
    fn a_misspelt_field_at_the_top_is_refused() {
        let errors = create_response(&json!({"model": "m", "input": "x", "max_tokens": 5})).unwrap_err();
        assert!(errors.iter().any(|e| e.contains("max_tokens")), "{errors:#?}");
    }

    #[test]
    fn chat_requests_and_answers_have_their_own_contract() {
        let request = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        assert_eq!(create_chat_completion_request(&request), Ok(()));
        assert!(create_response(&request).is_err());
        assert!(create_chat_completion_response(&json!({"id": "x"})).is_err());
    }
}
