//! What an investigation concludes: as the model submits it, and as it is stored and shown once code has checked it.

use serde::{Deserialize, Serialize};

/// What the on-call should make of the incident.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Someone has to do something.
    ActionRequired,
    /// Nobody has to.
    NoAction,
    /// The evidence does not say.
    Inconclusive,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::ActionRequired => "action_required",
            Self::NoAction => "no_action",
            Self::Inconclusive => "inconclusive",
        })
    }
}

/// A quote, and the evidence that it is said to stand in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Citation {
    /// The evidence's id, `E1`.
    pub id: String,
    /// Text that stands in it.
    pub quote: String,
    /// Whether it does, by code. `None` only in what the model submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<bool>,
}

/// A statement with its evidence: a hypothesis or something ruled out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Statement {
    /// What is claimed.
    pub statement: String,
    /// 0 to 1; only hypotheses have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// What it rests on.
    #[serde(default)]
    pub evidence: Vec<Citation>,
    /// Whether at least one quote stands where it is said to and none is invented, by code. `None` only in what
    /// the model submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supported: Option<bool>,
}

/// Something that a person could do next.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NextStep {
    /// What.
    pub action: String,
    /// Why.
    pub why: String,
}

/// How one checklist rule ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Check {
    /// The rule's name.
    pub name: String,
    /// Whether it holds. A rule that could not be evaluated does not.
    pub passed: bool,
    /// What its failure does.
    pub otherwise: crate::card::Otherwise,
    /// The rule's error, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Where a report's conclusions come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportSource {
    /// A model concluded it.
    Model,
    /// No model was asked, or none answered: only the evidence calls were made.
    EvidenceOnly,
    /// The model's turns and the tools' outputs come from a file.
    Recorded,
}

/// What an investigation took.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Model turns.
    pub turns: u32,
    /// Tool calls that left.
    pub tool_calls: u32,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens of those that the model's cache held.
    pub cached_tokens: u64,
    /// Tokens of those that were written to it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cache_write_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// US dollars; `None`: the model has no price in the configuration.
    pub usd: Option<f64>,
    /// Wall time in milliseconds, over all attempts.
    pub ms: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The checked conclusion of one investigation.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What the on-call should make of it.
    pub verdict: Verdict,
    /// One line.
    pub title: String,
    /// A few sentences.
    pub summary: String,
    /// Possible causes, the likeliest first.
    pub hypotheses: Vec<Statement>,
    /// Causes that the evidence speaks against.
    pub ruled_out: Vec<Statement>,
    /// What could not be found out.
    pub gaps: Vec<String>,
    /// What a person could do.
    pub next_steps: Vec<NextStep>,
    /// How the card's rules ended.
    pub checklist: Vec<Check>,
    /// How the investigation differed from what the card describes, and what a reader should know of how it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Where the conclusions come from.
    pub source: ReportSource,
    /// The model that concluded them.
    pub model: Option<String>,
    /// What it took.
    pub usage: Usage,
    /// Alerts that the sender left out of its payload: the report cannot speak of them.
    #[serde(default)]
    pub truncated_alerts: u64,
}
