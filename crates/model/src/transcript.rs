//! Stored investigations, run again offline: the transcript is a cache of what the tools said, and of the model's turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::{ModelId, ToolId};
use sentinel_core::incident::IncidentId;
use sentinel_core::ports::{IncidentStore, StoreError};
use sentinel_core::redact::Redactor;
use sentinel_investigation::ports::{
    FunctionCall, Item, Model, ModelError, Output, Said, ToolBox, ToolDefinition, ToolError, ToolOutput,
    TurnRequest, TurnResponse,
};
use sentinel_investigation::{
    CallStatus, EvidenceRecord, READ_EVIDENCE, SUBMIT_REPORT, TurnRecord, evidence_of, function_names,
};
use serde_json::{Map, Value, json};

/// What is stored of one investigation. As a tool box it answers a call by its server, tool and arguments, whatever
/// their order; one that it does not hold is a miss: the model is told, and it is counted. As a model it answers turn n
/// with the n-th stored response, whose ids of evidence are made those of this run: what was called with the same arguments
/// is the same evidence, whatever its number.
#[derive(Debug)]
pub struct Transcript {
    turns: Vec<TurnRecord>,
    outputs: Vec<EvidenceRecord>,
    definitions: BTreeMap<String, Vec<ToolDefinition>>,
    redactor: Redactor,
    misses: Mutex<Vec<String>>,
    /// Where the run that it answers keeps its evidence.
    store: Arc<dyn IncidentStore>,
    /// What the stored turns name and this run does not have.
    gone: Mutex<BTreeSet<String>>,
    has_ended: AtomicBool,
}

impl Transcript {
    /// A transcript for a card that allows `tools`. Those that it does not know are offered with a schema that takes
    /// everything, so that asking for them is a miss and not a gap. Arguments are compared without their secrets, as
    /// `redactor` takes them out: that is how they are stored. `store` is that of the run which is answered.
    pub fn new(
        turns: Vec<TurnRecord>,
        outputs: Vec<EvidenceRecord>,
        tools: &BTreeSet<ToolId>,
        redactor: Redactor,
        store: Arc<dyn IncidentStore>,
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
        Self {
            turns,
            outputs,
            definitions,
            redactor,
            misses: Mutex::default(),
            store,
            gone: Mutex::default(),
            has_ended: AtomicBool::default(),
        }
    }

    /// What the stored turns rest on and this run does not have, in words.
    pub fn gone(&self) -> Vec<String> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Whether it was asked for a turn more than it has.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    /// How many turns it has.
    pub fn turns(&self) -> usize {
        self.turns.len()
    }

    /// What is called and with what: the same evidence in any run.
    fn identity(&self, output: &EvidenceRecord) -> (String, Value) {
        let mut arguments = Value::Object(output.arguments.clone());
        self.redactor.redact_json(&mut arguments);
        (output.tool.clone(), arguments)
    }

    /// The ids that the stored evidence has in the run of that incident.
    async fn ids(&self, incident: &IncidentId) -> Result<BTreeMap<String, String>, StoreError> {
        let Some(head) = self.store.load(incident).await? else { return Ok(BTreeMap::new()) };
        let mut now = evidence_of(&self.store.children(incident, head.generation).await?);
        let mut ids = BTreeMap::new();
        for then in &self.outputs {
            // What was called twice was called in this order.
            let identity = self.identity(then);
            if let Some(at) = now.iter().position(|output| self.identity(output) == identity) {
                ids.insert(then.id.clone(), now.remove(at).id);
            }
        }
        Ok(ids)
    }

    /// A stored answer, with the ids that its evidence has now.
    fn translated(&self, mut response: TurnResponse, ids: &BTreeMap<String, String>) -> TurnResponse {
        for output in &mut response.outputs {
            let Said::Call(call) = &output.said else { continue };
            if ![READ_EVIDENCE, SUBMIT_REPORT].contains(&call.name.as_str()) {
                continue;
            }
            let Ok(mut arguments) = serde_json::from_str::<Value>(&call.arguments) else { continue };
            if self.translate(&mut arguments, ids) {
                let call = FunctionCall { arguments: arguments.to_string(), ..call.clone() };
                *output = Output::plain(Said::Call(call));
            }
        }
        response
    }

    /// Translates every `id` in arguments; whether one is another now.
    fn translate(&self, value: &mut Value, ids: &BTreeMap<String, String>) -> bool {
        match value {
            Value::Array(items) => items.iter_mut().fold(false, |any, item| self.translate(item, ids) | any),
            Value::Object(map) => map.iter_mut().fold(false, |any, (key, item)| match item {
                Value::String(id) if key == "id" => self.translate_id(id, ids) | any,
                item => self.translate(item, ids) | any,
            }),
            _ => false,
        }
    }

    fn translate_id(&self, id: &mut String, ids: &BTreeMap<String, String>) -> bool {
        let Some(then) = self.outputs.iter().find(|output| output.id == *id) else { return false };
        let now = ids.get(id).cloned().unwrap_or_else(|| {
            let (tool, arguments) = self.identity(then);
            let what =
                format!("the stored turns rest on {id}, {tool} {arguments}, which this run does not have");
            self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(what);
            // Not another output that has the number now.
            format!("{id} of the stored run")
        });
        let is_other = now != *id;
        *id = now;
        is_other
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
        unusable: None,
    }
}

#[async_trait]
impl Model for Transcript {
    async fn respond(&self, request: &TurnRequest, _within: Duration) -> Result<TurnResponse, ModelError> {
        let answered = request.input.iter().filter(|item| matches!(item, Item::Response { .. })).count();
        let turn = self.turns.get(answered).ok_or_else(|| {
            self.has_ended.store(true, Ordering::Relaxed);
            ModelError::Refused(format!(
                "the transcript ends after {} turns, and this run asks for one more",
                self.turns.len()
            ))
        })?;
        let ids = self.ids(&IncidentId::new(request.cache_key.clone())).await.map_err(|error| {
            ModelError::Refused(format!("the evidence of this run cannot be read: {error}"))
        })?;
        Ok(self.translated(turn.response.clone(), &ids))
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
            Some(output) => Ok(ToolOutput {
                text: output.shown(),
                is_error: output.status == CallStatus::ToolError,
                remarks: Vec::new(),
            }),
            None => {
                let miss = format!("{name} {asked}");
                let told = format!("{miss} is not in the transcript that this run is answered from");
                self.misses.lock().unwrap_or_else(PoisonError::into_inner).push(miss);
                Err(ToolError::RespondToModel(told))
            }
        }
    }
}
