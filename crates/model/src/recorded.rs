//! Recorded runs: a model's turns and the tools' outputs from a file, behind the same ports as the real ones.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::ToolId;
use sentinel_investigation::ports::{
    self as investigated, Api, FunctionCall, Item, Model, ModelError, Said, ToolBox, ToolDefinition,
    ToolError, ToolOutput, TurnRequest, TurnResponse, TurnUsage,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

/// The only version of the file format.
const VERSION: u32 = 1;

/// A run from a file. As a model it answers turn n with the n-th recorded one; as a tool box it gives the recorded
/// outputs. It keeps nothing between calls, so a run that is resumed goes on at the right turn.
#[derive(Clone, PartialEq, Debug)]
pub struct Recorded {
    name: String,
    run: Run,
}

/// The file. The crate's README describes it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    version: u32,
    about: String,
    model: String,
    #[serde(default)]
    tools: BTreeMap<String, Vec<Tool>>,
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    turns: Vec<Turn>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    #[serde(default)]
    description: String,
    input_schema: Map<String, Value>,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    tool: String,
    #[serde(default)]
    arguments: Map<String, Value>,
    text: String,
    #[serde(default)]
    is_error: bool,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    #[serde(default)]
    text: String,
    #[serde(default)]
    calls: Vec<Call>,
    #[serde(default)]
    usage: TurnUsage,
}

#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    name: String,
    #[serde(default)]
    arguments: Value,
}

/// Why a recorded run cannot be used. Reading it again gives the same.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RecordedError {
    /// Not JSON, or not of the format.
    #[error("{file}:{line}:{column}: {path}: {reason}")]
    Format {
        /// The file's name, as given.
        file: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// Where in the document, e.g. `turns[2].calls[0].name`; `?` where that cannot be said.
        path: String,
        /// What is wrong there.
        reason: String,
    },
    /// Well-formed, but it makes no sense.
    #[error("{file}: {path}: {reason}")]
    Meaning {
        /// The file's name, as given.
        file: String,
        /// Where in the document.
        path: String,
        /// What is wrong there.
        reason: String,
    },
}

impl RecordedError {
    /// Whether the same call may work later: never.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Recorded {
    /// Reads a run. `name` is what errors call the file.
    pub fn read(text: &str, name: &str) -> Result<Self, RecordedError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let format = |path: String, error: &serde_json::Error| {
            let (line, column) = (error.line(), error.column());
            // serde_json's own text ends in the place, which stands in front here.
            let reason = error.to_string();
            let reason = reason.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&reason);
            RecordedError::Format { file: name.to_owned(), line, column, path, reason: reason.to_owned() }
        };
        let run: Run = serde_path_to_error::deserialize(&mut json)
            .map_err(|error| format(error.path().to_string(), error.inner()))?;
        json.end().map_err(|error| format("?".to_owned(), &error))?;
        check(&run).map_err(|(path, reason)| RecordedError::Meaning {
            file: name.to_owned(),
            path,
            reason,
        })?;
        Ok(Self { name: name.to_owned(), run })
    }

    /// What the file says about itself, for people.
    pub fn about(&self) -> &str {
        &self.run.about
    }

    /// The model whose turns these are, by the file's word.
    pub fn model(&self) -> &str {
        &self.run.model
    }

    /// How many turns it has.
    pub fn turns(&self) -> usize {
        self.run.turns.len()
    }

    fn no(&self, what: &str) -> ToolError {
        ToolError::RespondToModel(format!("{what} is not in the recorded run {}", self.name))
    }
}

/// The rules that the types cannot say.
fn check(run: &Run) -> Result<(), (String, String)> {
    if run.version != VERSION {
        return Err(("version".to_owned(), format!("{} is not known, only {VERSION}", run.version)));
    }
    for (n, output) in run.outputs.iter().enumerate() {
        if !output.tool.split_once('.').is_some_and(|(server, tool)| !server.is_empty() && !tool.is_empty()) {
            return Err((format!("outputs[{n}].tool"), format!("{:?} is not `server.tool`", output.tool)));
        }
        let same = |other: &Output| other.tool == output.tool && other.arguments == output.arguments;
        if let Some(first) = run.outputs.iter().take(n).position(same) {
            return Err((
                format!("outputs[{n}]"),
                format!("has the tool and the arguments of outputs[{first}]"),
            ));
        }
    }
    for (n, turn) in run.turns.iter().enumerate() {
        if let Some(k) = turn.calls.iter().position(|call| call.name.is_empty()) {
            return Err((format!("turns[{n}].calls[{k}].name"), "is empty".to_owned()));
        }
    }
    Ok(())
}

impl Turn {
    /// The turn as a service would have answered it. `n` counts from 1.
    fn as_response(&self, n: usize, model: &str) -> TurnResponse {
        let text = Some(&self.text).filter(|text| !text.is_empty());
        let text = text.map(|text| investigated::Output::plain(Said::Text { text: text.clone() }));
        let calls = self.calls.iter().zip(1..).map(|(call, k)| {
            let arguments = match &call.arguments {
                // A text is what the model wrote, JSON or not.
                Value::String(written) => written.clone(),
                Value::Null => "{}".to_owned(),
                value => value.to_string(),
            };
            let call_id = format!("call_{n}_{k}");
            let call = FunctionCall { call_id, name: call.name.clone(), arguments };
            investigated::Output::plain(Said::Call(call))
        });
        TurnResponse {
            model: model.to_owned(),
            api: Api::Responses,
            outputs: text.into_iter().chain(calls).collect(),
            incomplete: None,
            usage: self.usage,
            left_out: Vec::new(),
        }
    }
}

#[async_trait]
impl Model for Recorded {
    async fn respond(&self, request: &TurnRequest, _within: Duration) -> Result<TurnResponse, ModelError> {
        let answered = request.input.iter().filter(|item| matches!(item, Item::Response { .. })).count();
        let turn = self.run.turns.get(answered).ok_or_else(|| {
            ModelError::Refused(format!(
                "the recorded run {} has only {} turns",
                self.name,
                self.run.turns.len()
            ))
        })?;
        Ok(turn.as_response(answered + 1, &self.run.model))
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

#[async_trait]
impl ToolBox for Recorded {
    async fn list(&self, server: &str, _within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        let tools = self.run.tools.get(server).ok_or_else(|| self.no(&format!("the server {server}")))?;
        let definition = |tool: &Tool| ToolDefinition {
            tool: tool.name.clone(),
            description: tool.description.clone(),
            input_schema: Value::Object(tool.input_schema.clone()),
            read_only_hint: None,
            destructive_hint: None,
            more: Map::new(),
            unusable: None,
        };
        Ok(tools.iter().map(definition).collect())
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        _within: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let name = tool.to_string();
        // Objects are compared by their members, so the order in which a model wrote them does not matter.
        let recorded = self.run.outputs.iter().find(|o| o.tool == name && o.arguments == *arguments);
        match recorded {
            Some(output) => {
                Ok(ToolOutput { text: output.text.clone(), is_error: output.is_error, remarks: Vec::new() })
            }
            None => Err(self.no(&format!("{name} with the arguments {}", Value::Object(arguments.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RUN: &str = r#"{
        "version": 1, "about": "a test", "model": "gpt-6.1-terra",
        "tools": {"k8s": [{"name": "pods_get", "description": "One pod.", "input_schema": {"type": "object"}}]},
        "outputs": [{"tool": "k8s.pods_get", "arguments": {"name": "a", "namespace": "web"}, "text": "phase: Pending"}],
        "turns": [
            {"calls": [{"name": "k8s__pods_get", "arguments": {"namespace": "web", "name": "a"}}],
             "usage": {"input_tokens": 900, "cached_tokens": 100, "output_tokens": 30}},
            {"text": "done", "calls": [{"name": "submit_report", "arguments": "not JSON"}]}
        ]
    }"#;

    fn request(input: Vec<Item>) -> TurnRequest {
        TurnRequest {
            model: "another".into(),
            instructions: String::new(),
            input,
            tools: vec![],
            hosted: vec![],
            max_hosted_calls: 16,
            force: None,
            max_output_tokens: 1_000,
            cache_key: String::new(),
        }
    }

    fn answered(turn: TurnResponse) -> Item {
        Item::Response { asked: "another".into(), api: turn.api, outputs: turn.outputs }
    }

    async fn answer(run: &Recorded, input: Vec<Item>) -> Result<TurnResponse, ModelError> {
        run.respond(&request(input), Duration::ZERO).await
    }

    #[tokio::test]
    async fn a_turn_is_chosen_by_the_responses_before_it_and_looks_like_the_real_one() {
        let run = Recorded::read(RUN, "run.json").unwrap();
        assert!(run.is_recorded());
        let user = Item::User { text: "look".to_owned() };
        let first = answer(&run, vec![user.clone()]).await.unwrap();
        assert_eq!(first.model, "gpt-6.1-terra");
        assert_eq!(
            first.usage,
            TurnUsage { input_tokens: 900, cached_tokens: 100, output_tokens: 30, ..TurnUsage::default() }
        );
        let call = FunctionCall {
            call_id: "call_1_1".to_owned(),
            name: "k8s__pods_get".to_owned(),
            arguments: r#"{"name":"a","namespace":"web"}"#.to_owned(),
        };
        assert_eq!(first.outputs, [investigated::Output::plain(Said::Call(call))]);
        let resumed = vec![user, answered(first)];
        let second = answer(&run, resumed.clone()).await.unwrap();
        assert_eq!(
            (second.text().as_str(), second.calls().next().unwrap().arguments.as_str()),
            ("done", "not JSON")
        );
        let beyond = answer(&run, [resumed, vec![answered(second.clone())]].concat()).await.unwrap_err();
        assert_eq!(
            beyond.to_string(),
            "the model refused the request: the recorded run run.json has only 2 turns"
        );
    }

    #[tokio::test]
    async fn outputs_are_found_by_tool_and_arguments_in_any_order() {
        let run = Recorded::read(RUN, "run.json").unwrap();
        let tool = ToolId { server: "k8s".to_owned(), tool: "pods_get".to_owned() };
        let call =
            async |arguments: Value| run.call(&tool, arguments.as_object().unwrap(), Duration::ZERO).await;
        let output = call(json!({"namespace": "web", "name": "a"})).await.unwrap();
        assert_eq!(
            output,
            ToolOutput { text: "phase: Pending".to_owned(), is_error: false, remarks: Vec::new() }
        );
        let absent = call(json!({"name": "b"})).await.unwrap_err();
        assert!(matches!(absent, ToolError::RespondToModel(_)));
        assert_eq!(
            absent.to_string(),
            r#"k8s.pods_get with the arguments {"name":"b"} is not in the recorded run run.json"#
        );
        assert_eq!(run.list("k8s", Duration::ZERO).await.unwrap()[0].tool, "pods_get");
        assert!(matches!(run.list("prom", Duration::ZERO).await, Err(ToolError::RespondToModel(_))));
    }

    #[test]
    fn a_bad_file_is_refused_with_its_place() {
        let told = |text: &str| Recorded::read(text, "run.json").unwrap_err().to_string();
        insta::assert_snapshot!(told("{\n  \"version\": 1,"), @"run.json:2:15: ?: EOF while parsing a value");
        let head = r#""version": 1, "about": "", "model": "m""#;
        insta::assert_snapshot!(told(&format!("{{{head},\n \"turns\": [{{\"calls\": [{{\"nme\": 1}}]}}]}}")), @"run.json:2:28: turns[0].calls[0].nme: unknown field `nme`, expected `name` or `arguments`");
        insta::assert_snapshot!(told(&format!("{{{head}}} x")), @"run.json:1:43: ?: trailing characters");
        insta::assert_snapshot!(told(r#"{"version": 2, "about": "", "model": "m"}"#), @"run.json: version: 2 is not known, only 1");
        let outputs = |list: &str| told(&format!("{{{head}, \"outputs\": [{list}]}}"));
        insta::assert_snapshot!(outputs(r#"{"tool": "pods", "text": ""}"#), @r#"run.json: outputs[0].tool: "pods" is not `server.tool`"#);
        insta::assert_snapshot!(outputs(r#"{"tool": "a.b", "text": ""}, {"tool": "a.b", "text": "x"}"#), @"run.json: outputs[1]: has the tool and the arguments of outputs[0]");
        insta::assert_snapshot!(told(&format!("{{{head}, \"turns\": [{{\"calls\": [{{\"name\": \"\"}}]}}]}}")), @"run.json: turns[0].calls[0].name: is empty");
    }
}
