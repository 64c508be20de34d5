//! Hosted MCP: what is stored of the calls that the model's own service makes.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::redact::Redactor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::arguments;
use crate::evidence::{CallStatus, Kept};
use crate::fence::clip;
use crate::ports::{HostedCall, HostedList, HostedRequest, Output, Said, ToolDefinition};

/// What all hosted outputs of one turn may be together, as JSON strings: the turn is one stored item of at most 400 KB.
const MOST_HOSTED: usize = 256 * 1024;
/// A server's list of tools that is longer than this is not kept. It is stored with the first turn.
const LARGEST_LIST: usize = 96 * 1024;
/// How much of an error goes back with its call, in characters: its words are in the evidence.
const LONGEST_ERROR: usize = 500;

/// What a hosted call gave.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HostedOutput {
    /// How it ended.
    pub status: CallStatus,
    /// What is kept of its output.
    pub kept: Kept,
}

/// Takes secrets out of a response's hosted items and bounds them. The outputs of its calls are taken out whole and
/// given back by the calls' ids: they are stored once, and sent back as evidence is shown. What the model wrote of a
/// call stays as it is, unless it holds a credential; then it is redacted, and the second map holds its id and the
/// credential's kind.
pub(crate) fn take_outputs(
    outputs: &mut [Output],
    redactor: &Redactor,
) -> (BTreeMap<String, HostedOutput>, BTreeMap<String, String>) {
    let calls = outputs.iter().filter(|output| matches!(output.said, Said::HostedCall(_))).count();
    let (mut taken, mut credentials) = (BTreeMap::new(), BTreeMap::new());
    for Output { said, raw } in outputs {
        match said {
            Said::HostedRequest(request) => {
                if let Some(kind) = take_credential(&mut request.arguments, redactor) {
                    credentials.insert(request.id.clone(), kind);
                }
            }
            Said::HostedList(list) => bound_list(list, redactor),
            Said::HostedCall(call) => {
                take_credential(&mut call.arguments, redactor);
                let kept = Kept::of(received(call), redactor, MOST_HOSTED / calls);
                taken.insert(call.id.clone(), HostedOutput { status: call.status, kept });
                call.output = call.output.take().map(|_| String::new());
                if let Some(error) = &mut call.error {
                    *error = clip(&redactor.redact(error), LONGEST_ERROR);
                }
            }
            Said::Text { .. }
            | Said::Refusal { .. }
            | Said::Call(_)
            | Said::Reasoning { .. }
            | Said::Other => {
                continue;
            }
        }
        raw.values_mut().for_each(|value| redactor.redact_json(value));
    }
    (taken, credentials)
}

/// What a call gave, in words: what went wrong, before what came all the same.
fn received(call: &HostedCall) -> &str {
    let said = call.error.as_deref().filter(|words| !words.is_empty()).or(call.output.as_deref());
    said.unwrap_or("the server gave no output")
}

fn bound_list(list: &mut HostedList, redactor: &Redactor) {
    if let Some(error) = &mut list.error {
        *error = clip(&redactor.redact(error), LONGEST_ERROR);
    }
    let mut tools = json!(list.tools);
    redactor.redact_json(&mut tools);
    let short = tools.to_string().len() <= LARGEST_LIST;
    if let Some(tools) = Some(tools).filter(|_| short).and_then(|tools| serde_json::from_value(tools).ok()) {
        list.tools = tools;
    } else {
        list.tools = Vec::new();
        list.error = Some("its list of tools is too long".to_owned());
    }
}

/// Takes the credentials out of arguments, where they hold one beyond doubt, and gives the kind of the first.
pub(crate) fn take_credential(written: &mut String, redactor: &Redactor) -> Option<String> {
    let kind = arguments::credential(written, redactor)?;
    *written = arguments::without_credentials(written, redactor);
    Some(kind)
}

/// The tools of a hosted server, as a response shows them and as they are held against `tools.lock`. `Err`: why there are
/// none.
pub fn hosted_tools(
    mut outputs: Vec<Output>,
    label: &str,
    redactor: &Redactor,
) -> Result<Vec<ToolDefinition>, String> {
    take_outputs(&mut outputs, redactor);
    let shown = outputs.into_iter().find_map(|output| match output.said {
        Said::HostedList(list) if list.label == label => Some(list.error.map_or(Ok(list.tools), Err)),
        _ => None,
    });
    shown.unwrap_or_else(|| Err("the model's service did not show its tools".to_owned()))
}

/// The items as they are sent back: each call's output is what the model is shown of the evidence that it became. A
/// request without an id cannot be answered and stays here, as does a second one under one id, which has the first one's
/// answer; so does whatever is hosted where nothing is.
pub(crate) fn shown(
    outputs: &[Output],
    has_hosted: bool,
    evidence: impl Fn(&str) -> Option<String>,
) -> Vec<Output> {
    let mut asked = BTreeSet::new();
    let stays = |output: &&Output| match &output.said {
        Said::HostedRequest(HostedRequest { id, .. }) => {
            has_hosted && !id.is_empty() && asked.insert(id.clone())
        }
        Said::HostedList(_) | Said::HostedCall(_) => has_hosted,
        _ => true,
    };
    let mut outputs: Vec<Output> = outputs.iter().filter(stays).cloned().collect();
    for output in &mut outputs {
        if let Said::HostedCall(call) = &mut output.said
            && call.output.is_some()
            && let Some(shown) = evidence(&call.id)
        {
            call.output = Some(shown);
        }
    }
    outputs
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

    fn call(id: &str, output: &str) -> Output {
        Output::plain(Said::HostedCall(HostedCall {
            id: id.to_owned(),
            label: "k8s".to_owned(),
            tool: "pods_get".to_owned(),
            arguments: "{}".to_owned(),
            request: None,
            status: CallStatus::Answered,
            output: Some(output.to_owned()),
            error: None,
        }))
    }

    #[test]
    fn outputs_are_taken_out_without_secrets_bounded_and_put_back_as_evidence() {
        let redactor = Redactor::new(["swordfish".to_owned()]);
        let mut first = call("mcp_1", "token swordfish");
        if let Said::HostedCall(call) = &mut first.said {
            call.arguments = r#"{"t":"swordfish"}"#.to_owned();
        }
        first.raw.insert("more".to_owned(), json!({"t": "swordfish"}));
        let mut outputs = vec![first, call("mcp_2", &"x".repeat(400 * 1024))];
        let (taken, _) = take_outputs(&mut outputs, &redactor);
        assert!(!json!(outputs).to_string().contains("swordfish"));
        assert_eq!(taken["mcp_1"].kept.text, "token [redacted: configured-secret]");
        let second = &taken["mcp_2"].kept;
        assert_eq!(second.bytes, 400 * 1024);
        assert!(second.text.len() <= 128 * 1024 && second.left_out > 0, "{}", second.text.len());
        let back = shown(&outputs, true, |id| Some(format!("[E] {id}")));
        let output = |at: usize| match &back[at].said {
            Said::HostedCall(call) => call.output.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!((output(0).as_deref(), output(1).as_deref()), (Some("[E] mcp_1"), Some("[E] mcp_2")));
    }

    #[test]
    fn a_list_that_is_too_long_is_none() {
        let tool = ToolDefinition::read(json!({
            "name": "a", "input_schema": {"type": "object", "title": "x".repeat(100 * 1024)},
        }));
        let list = HostedList { label: "k8s".to_owned(), tools: vec![tool], error: None };
        let outputs = vec![Output::plain(Said::HostedList(list))];
        let refused = hosted_tools(outputs, "k8s", &Redactor::default()).unwrap_err();
        assert_eq!(refused, "its list of tools is too long");
    }

    #[test]
    fn arguments_of_a_call_that_was_made_are_kept_whatever_they_are() {
        assert_eq!(any_arguments(r#"{"a":1}"#)["a"], 1);
        assert!(any_arguments("").is_empty() && any_arguments("null").is_empty());
        assert_eq!(any_arguments("[1")["(unreadable)"], "[1");
    }
}
