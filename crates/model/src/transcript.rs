//! Stored investigations, run again offline: the transcript is a cache of what the tools said, and of the model's turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::{ModelId, ToolId};
use sentinel_core::redact::Redactor;
use sentinel_investigation::ports::{
    Item, Model, ModelError, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest, TurnResponse,
};
use sentinel_investigation::{CallStatus, EvidenceRecord, TurnRecord, function_names};
use serde_json::{Map, Value, json};

/// What is stored of one investigation. As a tool box it answers a call by its server, tool and arguments, whatever
/// their order; one that it does not hold is a miss: the model is told, and it is counted. As a model it answers turn n
/// with the n-th stored response.
#[derive(Debug)]
pub struct Transcript {
    turns: Vec<TurnRecord>,
    outputs: Vec<EvidenceRecord>,
    definitions: BTreeMap<String, Vec<ToolDefinition>>,
    redactor: Redactor,
    misses: Mutex<Vec<String>>,
}

impl Transcript {
    /// A transcript for a card that allows `tools`. Those that it does not know are offered with a schema that takes
    /// everything, so that asking for them is a miss and not a gap. Arguments are compared without their secrets, as
    /// `redactor` takes them out: that is how they are stored.
    pub fn new(
        turns: Vec<TurnRecord>,
        outputs: Vec<EvidenceRecord>,
        tools: &BTreeSet<ToolId>,
        redactor: Redactor,
    ) -> Self {
        let opening = turns.first().and_then(|turn| turn.opening.as_ref());
        let allowed: BTreeSet<ToolId> = opening
            .iter()
            .flat_map(|opening| &opening.allowed)
            .map(|(server, tool)| ToolId { server: server.clone(), tool: tool.clone() })
            .collect();
        let specs = opening.map(|opening| opening.tools.as_slice()).unwrap_or_default();
        let mut known: BTreeMap<ToolId, ToolDefinition> = function_names(&allowed)
            .into_iter()
            .filter_map(|(name, id)| {
                let spec = specs.iter().find(|spec| spec.name == name)?;
                Some((id.clone(), definition(&id, spec.description.clone(), spec.parameters.clone())))
            })
            .collect();
        for id in tools {
            known.entry(id.clone()).or_insert_with(|| {
                definition(id, "Not in the transcript.".to_owned(), json!({"type": "object"}))
            });
        }
        let mut definitions: BTreeMap<String, Vec<ToolDefinition>> = BTreeMap::new();
        for (id, definition) in known {
            definitions.entry(id.server).or_default().push(definition);
        }
        Self { turns, outputs, definitions, redactor, misses: Mutex::default() }
    }

    /// The calls that it did not hold, in the order in which they were made.
    pub fn misses(&self) -> Vec<String> {
        self.misses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn definition(id: &ToolId, description: String, input_schema: Value) -> ToolDefinition {
    ToolDefinition {
        tool: id.tool.clone(),
        description,
        input_schema,
        read_only_hint: None,
        destructive_hint: None,
        more: Map::new(),
    }
}

#[async_trait]
impl Model for Transcript {
    async fn respond(&self, request: &TurnRequest, _within: Duration) -> Result<TurnResponse, ModelError> {
        let answered = request.input.iter().filter(|item| matches!(item, Item::Response { .. })).count();
        let turn = self.turns.get(answered).ok_or_else(|| {
            ModelError::Refused(format!(
                "the transcript ends after {} turns, and this run asks for one more",
                self.turns.len()
            ))
        })?;
        Ok(turn.response.clone())
    }

    fn hosts(&self, _model: &ModelId, server: &str) -> Option<String> {
        let opening = self.turns.first()?.opening.as_ref()?;
        opening.hosted.iter().find(|hosted| hosted.server == server).map(|hosted| hosted.label.clone())
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

#[async_trait]
impl ToolBox for Transcript {
    async fn list(&self, server: &str, _within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        self.definitions
            .get(server)
            .cloned()
            .ok_or_else(|| ToolError::RespondToModel(format!("the transcript knows no server {server}")))
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        _within: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let name = tool.to_string();
        let mut asked = Value::Object(arguments.clone());
        self.redactor.redact_json(&mut asked);
        // A call that got no answer may have been made again: the one that did goes first.
        let rank = |output: &&EvidenceRecord| match output.status {
            CallStatus::Answered => 0,
            CallStatus::ToolError => 1,
            CallStatus::NoAnswer | CallStatus::Refused => 2,
        };
        let held = self
            .outputs
            .iter()
            // Objects are compared by their members, whatever their order.
            .filter(|o| o.tool == name && asked.as_object() == Some(&o.arguments))
            .filter(|o| o.status != CallStatus::Refused)
            .min_by_key(rank);
        match held {
            Some(output) if output.status == CallStatus::NoAnswer => {
                Err(ToolError::RespondToModel(output.text.clone()))
            }
            Some(output) => {
                Ok(ToolOutput { text: output.shown(), is_error: output.status == CallStatus::ToolError })
            }
            None => {
                let miss = format!("{name} {asked}");
                let told = format!("{miss} is not in the transcript that this run is answered from");
                self.misses.lock().unwrap_or_else(PoisonError::into_inner).push(miss);
                Err(ToolError::RespondToModel(told))
            }
        }
    }
}
