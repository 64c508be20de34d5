//! What an investigation tells while it runs, for people who watch.

use sentinel_core::incident::IncidentId;
use sentinel_core::report::Verdict;
use serde::Serialize;

/// Where progress goes. Unbounded, so that nobody who watches holds an investigation up; one event is small.
pub type EventSender = tokio::sync::mpsc::UnboundedSender<Progress>;

/// One step of one investigation.
#[derive(Clone, PartialEq, Debug, Serialize)]
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
    /// The model is asked.
    Asking {
        /// Whose.
        incident: IncidentId,
        /// From 1.
        turn: u32,
        /// The model.
        model: String,
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
    /// It goes on later.
    PutOff {
        /// Whose.
        incident: IncidentId,
        /// Why.
        reason: String,
    },
}
