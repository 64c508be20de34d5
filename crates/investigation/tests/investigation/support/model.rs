//! A scripted model, and what it answers.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::ModelId;
use sentinel_investigation::ports::{
    Api, FunctionCall, Model, ModelError, Output, Said, TurnRequest, TurnResponse, TurnUsage,
};
use serde_json::{Value, json};

/// One scripted answer.
pub(crate) type Answer = Result<TurnResponse, ModelError>;

/// Answers turn n, which it tells from the request as a server would, by the script; keeps all requests.
pub(crate) struct Script {
    turns: Box<dyn Fn(&TurnRequest) -> Answer + Send + Sync>,
    requests: Mutex<Vec<TurnRequest>>,
    recorded: bool,
    hangs: Option<&'static str>,
    hosts: Option<&'static str>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    pub(crate) fn new(turns: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Self::by(move |request| turns(turn_of(request)))
    }

    /// Answers by what is asked.
    pub(crate) fn by(turns: impl Fn(&TurnRequest) -> Answer + Send + Sync + 'static) -> Self {
        Self { turns: Box::new(turns), requests: Mutex::default(), recorded: false, hangs: None, hosts: None }
    }

    /// Its service calls this server itself.
    pub(crate) fn that_hosts(self, server: &'static str) -> Self {
        Self { hosts: Some(server), ..self }
    }

    /// It does not answer where this model is asked.
    pub(crate) fn that_hangs_for(self, model: &'static str) -> Self {
        Self { hangs: Some(model), ..self }
    }

    pub(crate) fn that_is_recorded(self) -> Self {
        Self { recorded: true, ..self }
    }

    pub(crate) fn that_hangs(self) -> Self {
        self.that_hangs_for("gpt-4.1-mini")
    }

    /// These answers, in order.
    pub(crate) fn of(turns: Vec<TurnResponse>) -> Self {
        Self::new(move |n| {
            Ok(turns.get(n - 1).unwrap_or_else(|| panic!("turn {n} is not in the script")).clone())
        })
    }

    pub(crate) fn requests(&self) -> Vec<TurnRequest> {
        self.requests.lock().unwrap().clone()
    }
}

/// The turn that a request asks for.
pub(crate) fn turn_of(request: &TurnRequest) -> usize {
    let answered = |i: &&sentinel_investigation::ports::Item| {
        matches!(i, sentinel_investigation::ports::Item::Response { .. })
    };
    request.input.iter().filter(answered).count() + 1
}

#[async_trait]
impl Model for Script {
    async fn respond(&self, request: &TurnRequest, _: Duration) -> Result<TurnResponse, ModelError> {
        self.requests.lock().unwrap().push(request.clone());
        if self.hangs == Some(request.model.name.as_str()) {
            std::future::pending::<()>().await;
        }
        (self.turns)(request)
    }

    fn hosts(&self, _: &ModelId, server: &str) -> Option<String> {
        self.hosts.filter(|hosts| *hosts == server).map(|server| format!("{server}-label"))
    }

    fn is_recorded(&self) -> bool {
        self.recorded
    }
}

/// A response that calls these functions.
pub(crate) fn calls(calls: &[(&str, Value)]) -> TurnResponse {
    raw_calls(&calls.iter().map(|(name, arguments)| (*name, arguments.to_string())).collect::<Vec<_>>())
}

pub(crate) fn raw_calls(calls: &[(&str, String)]) -> TurnResponse {
    let call = |(i, (name, arguments)): (usize, &(&str, String))| {
        let (call_id, name) = (format!("call_{i}"), (*name).to_owned());
        Output::plain(Said::Call(FunctionCall { call_id, name, arguments: arguments.clone() }))
    };
    TurnResponse {
        model: "gpt-4.1-mini-2025".into(),
        api: Api::Responses,
        outputs: calls.iter().enumerate().map(call).collect(),
        incomplete: None,
        usage: TurnUsage { input_tokens: 1000, cached_tokens: 400, cache_write_tokens: 0, output_tokens: 50 },
        left_out: vec![],
    }
}

pub(crate) fn says(text: &str) -> TurnResponse {
    let outputs =
        if text.is_empty() { vec![] } else { vec![Output::plain(Said::Text { text: text.into() })] };
    TurnResponse { outputs, ..calls(&[]) }
}

/// What `submit_report` is called with: one hypothesis with these citations.
pub(crate) fn submission(verdict: &str, citations: &[(&str, &str)]) -> Value {
    let evidence: Vec<Value> =
        citations.iter().map(|(id, quote)| json!({"id": id, "quote": quote})).collect();
    json!({
        "verdict": verdict, "title": "The api pod cannot start", "summary": "Its secret is missing.",
        "hypotheses": [{"statement": "The secret api-db does not exist.", "confidence": 0.9, "evidence": evidence}],
        "ruled_out": [], "gaps": ["Who removed the secret."],
        "next_steps": [{"action": "kubectl -n web get secret api-db", "why": "It shows whether it is back."}]
    })
}

pub(crate) fn submits(verdict: &str, citations: &[(&str, &str)]) -> TurnResponse {
    calls(&[("submit_report", submission(verdict, citations))])
}
