//! What an investigation tells while it runs: one stream for everybody who watches, and the same steps again from what
//! is stored, for who comes late.

use std::path::PathBuf;

use sentinel_core::incident::{Child, Head, IncidentId, State};
use sentinel_core::redact::Redactor;
use sentinel_core::report::Verdict;
use sentinel_core::without_secrets::redact_text;
use serde::{Deserialize, Serialize};

use crate::refusal::RefusalReason;
use crate::transcript::Stored;

/// Where progress goes: all investigations of a process tell the same stream, and whoever wants it subscribes. Nobody
/// who watches holds an investigation up: a reader that is more than [`HELD`] steps behind loses them, and is told so.
pub type EventSender = tokio::sync::broadcast::Sender<Progress>;

/// How many steps are kept for the slowest reader.
pub const HELD: usize = 1024;

/// A new stream without a reader.
pub fn events() -> EventSender {
    EventSender::new(HELD)
}

/// One step of one investigation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Progress {
    /// It has begun, or goes on.
    Started {
        /// Whose.
        incident: IncidentId,
        /// The card's name.
        card: String,
        /// How many alerts it is about.
        alerts: usize,
        /// Model turns that are stored already.
        turns: usize,
        /// Evidence that is stored already.
        evidence: usize,
    },
    /// A server was asked for its tools.
    Listed {
        /// Whose.
        incident: IncidentId,
        /// The server.
        server: String,
        /// How many of its tools the card allows.
        tools: usize,
        /// Why there are none.
        error: Option<String>,
    },
    /// The card's prompt asks for something that is not there.
    Unshown {
        /// Whose.
        incident: IncidentId,
        /// The card's name.
        card: String,
        /// The file in which the prompt stands.
        file: PathBuf,
        /// The line of that file, from 1.
        line: u32,
        /// As it is written, `labels.queue`.
        variable: String,
        /// What is wrong with it, for people.
        reason: String,
    },
    /// A tool call leaves.
    Calling {
        /// Whose.
        incident: IncidentId,
        /// The evidence that it will be, `E1`.
        id: String,
        /// `server.tool`.
        tool: String,
    },
    /// A call that the card makes before the model is asked has ended and is stored.
    Evidence {
        /// Whose.
        incident: IncidentId,
        /// `E1`.
        id: String,
        /// `server.tool`.
        tool: String,
        /// Whether the tool gave what it was asked for.
        ok: bool,
        /// The output's size.
        bytes: u64,
        /// How long it took.
        ms: u64,
    },
    /// A call that the model asked for has ended and is stored.
    Called {
        /// Whose.
        incident: IncidentId,
        /// `E1`.
        id: String,
        /// `server.tool`.
        tool: String,
        /// Whether the tool gave what it was asked for.
        ok: bool,
        /// The output's size.
        bytes: u64,
        /// How long it took.
        ms: u64,
    },
    /// A call was asked for and is not made.
    Refused {
        /// Whose.
        incident: IncidentId,
        /// The turn that asked; 0: the card.
        turn: u32,
        /// The tool, as it was asked for. Untrusted text.
        tool: String,
        /// Why.
        reason: RefusalReason,
    },
    /// The model is asked.
    Asking {
        /// Whose.
        incident: IncidentId,
        /// From 1.
        turn: u32,
        /// The model.
        model: String,
    },
    /// The model's service does not take the request, and would not take it later: a wrong key, nothing left on the
    /// account, no such model.
    ModelRefused {
        /// Whose.
        incident: IncidentId,
        /// From 1.
        turn: u32,
        /// The model.
        model: String,
        /// What the service said.
        reason: String,
    },
    /// The model has answered, and the answer is stored.
    Answered {
        /// Whose.
        incident: IncidentId,
        /// From 1.
        turn: u32,
        /// The functions that it calls.
        calls: Vec<String>,
        /// Tokens sent.
        input_tokens: u64,
        /// Tokens received.
        output_tokens: u64,
        /// How long it took.
        ms: u64,
    },
    /// The model's report was checked.
    Checked {
        /// Whose.
        incident: IncidentId,
        /// Quotes that stand in the evidence which they cite.
        found: usize,
        /// Quotes.
        quotes: usize,
        /// Whether the model is asked to mend it.
        repair: bool,
    },
    /// The report is there.
    Concluded {
        /// Whose.
        incident: IncidentId,
        /// Its verdict.
        verdict: Verdict,
    },
    /// The budget is used up: no model is asked (any more).
    BudgetUsedUp {
        /// Whose.
        incident: IncidentId,
        /// Which limit, for people.
        limit: String,
    },
    /// It goes on later.
    PutOff {
        /// Whose.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
    /// The incident has ended, and its head says so. Nothing follows.
    Ended {
        /// Whose.
        incident: IncidentId,
        /// How.
        state: State,
        /// Why, where it is not done.
        reason: Option<String>,
    },
}

impl Progress {
    /// Whose step it is.
    pub fn incident(&self) -> &IncidentId {
        match self {
            Self::Started { incident, .. }
            | Self::Listed { incident, .. }
            | Self::Unshown { incident, .. }
            | Self::Calling { incident, .. }
            | Self::Evidence { incident, .. }
            | Self::Called { incident, .. }
            | Self::Refused { incident, .. }
            | Self::Asking { incident, .. }
            | Self::ModelRefused { incident, .. }
            | Self::Answered { incident, .. }
            | Self::Checked { incident, .. }
            | Self::Concluded { incident, .. }
            | Self::BudgetUsedUp { incident, .. }
            | Self::PutOff { incident, .. }
            | Self::Ended { incident, .. } => incident,
        }
    }

    /// What it is called in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Listed { .. } => "listed",
            Self::Unshown { .. } => "unshown",
            Self::Calling { .. } => "calling",
            Self::Evidence { .. } => "evidence",
            Self::Called { .. } => "called",
            Self::Refused { .. } => "refused",
            Self::Asking { .. } => "asking",
            Self::ModelRefused { .. } => "model_refused",
            Self::Answered { .. } => "answered",
            Self::Checked { .. } => "checked",
            Self::Concluded { .. } => "concluded",
            Self::BudgetUsedUp { .. } => "budget_used_up",
            Self::PutOff { .. } => "put_off",
            Self::Ended { .. } => "ended",
        }
    }

    /// Takes secrets out of what others wrote: servers, the model and its service, whoever stops an incident. The names
    /// of cards, servers and models are the configuration's.
    pub fn redact(&mut self, redactor: &Redactor) {
        let redact = |text: &mut String| redact_text(text, redactor);
        match self {
            Self::Started { .. } | Self::Asking { .. } | Self::Checked { .. } | Self::Concluded { .. } => {}
            Self::Listed { error, .. } => error.iter_mut().for_each(redact),
            Self::Calling { tool, .. }
            | Self::Evidence { tool, .. }
            | Self::Called { tool, .. }
            | Self::Refused { tool, .. } => {
                redact(tool);
            }
            Self::Answered { calls, .. } => calls.iter_mut().for_each(redact),
            Self::BudgetUsedUp { limit: text, .. }
            | Self::PutOff { reason: text, .. }
            | Self::Unshown { reason: text, .. }
            | Self::ModelRefused { reason: text, .. } => {
                redact(text);
            }
            Self::Ended { reason, .. } => reason.iter_mut().for_each(redact),
        }
    }

    /// The step of an incident that has ended; `None` while it has not.
    pub fn end_of(head: &Head) -> Option<Self> {
        let ended = Self::Ended { incident: head.id.clone(), state: head.state, reason: head.reason.clone() };
        head.state.is_terminal().then_some(ended)
    }

    /// Whether both tell of the same stored thing: one from the store, one as it happened.
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Evidence { id, .. } | Self::Called { id, .. }, Self::Evidence { id: other, .. })
            | (Self::Evidence { id, .. } | Self::Called { id, .. }, Self::Called { id: other, .. }) => {
                id == other
            }
            (Self::Answered { turn, .. }, Self::Answered { turn: other, .. }) => turn == other,
            (Self::Concluded { .. }, Self::Concluded { .. }) | (Self::Ended { .. }, Self::Ended { .. }) => {
                true
            }
            _ => false,
        }
    }
}

/// The steps of a generation as far as they are stored, in their order.
pub fn told_before(head: &Head, children: &[Child]) -> Vec<Progress> {
    let stored = Stored::read(children);
    let incident = || head.id.clone();
    let mut told = Vec::new();
    if !stored.turns.is_empty() || !stored.outputs.is_empty() {
        told.push(Progress::Started {
            incident: incident(),
            card: head.card.clone(),
            alerts: stored.snapshots.iter().map(|(_, n)| n.alerts.len()).max().unwrap_or(0),
            turns: 0,
            evidence: 0,
        });
    }
    let outputs = |turn: u32| {
        stored.outputs.values().filter(move |o| o.turn == turn).map(move |o| {
            let (incident, id, tool) = (head.id.clone(), o.id.clone(), o.tool.clone());
            let (ok, bytes, ms) = (o.ok, o.bytes, o.ms);
            if turn == 0 {
                Progress::Evidence { incident, id, tool, ok, bytes, ms }
            } else {
                Progress::Called { incident, id, tool, ok, bytes, ms }
            }
        })
    };
    told.extend(outputs(0));
    for record in &stored.turns {
        told.push(Progress::Answered {
            incident: incident(),
            turn: record.turn,
            calls: record.response.calls().map(|c| c.name.clone()).collect(),
            input_tokens: record.response.usage.input_tokens,
            output_tokens: record.response.usage.output_tokens,
            ms: record.ms,
        });
        told.extend(outputs(record.turn));
    }
    told.extend(
        stored.report.map(|report| Progress::Concluded { incident: incident(), verdict: report.verdict }),
    );
    told.extend(Progress::end_of(head));
    told
}
