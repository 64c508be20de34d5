//! Calls that are not made: why, in words for the model and the record, and as one of a few labels for the metric.

use std::collections::BTreeMap;
use std::fmt;

use sentinel_core::card::ToolId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::fence::clip;

/// Why a call was not made: the label of the record and of the metric.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// The run does not offer such a tool.
    NotOffered,
    /// The arguments are no JSON object, break the tool's schema, or cannot be rendered.
    Arguments,
    /// A key stands twice in the arguments.
    DuplicateKeys,
    /// The arguments hold a credential.
    Secret,
    /// The card's policy does not allow the call, or could not be applied.
    Policy,
    /// The tool is not as it was pinned, or not as it was when the investigation began.
    Changed,
    /// The server says that the tool does more than read.
    Annotations,
    /// The tool's definition cannot be used: listed twice, no usable schema.
    Definition,
    /// The same call was made before.
    Repeated,
    /// More calls than one turn may make.
    TooMany,
    /// The report was submitted or due: nothing is called any more.
    ReportDue,
    /// The server did not list its tools, or is out.
    ServerOut,
    /// The request of a hosted call has no id, so that nobody could say what an answer is about.
    NoId,
    /// A hosted call that was not approved in this run is said to have been made.
    NotApproved,
}

impl RefusalReason {
    /// The label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOffered => "not_offered",
            Self::Arguments => "arguments",
            Self::DuplicateKeys => "duplicate_keys",
            Self::Secret => "secret",
            Self::Policy => "policy",
            Self::Changed => "changed",
            Self::Annotations => "annotations",
            Self::Definition => "definition",
            Self::Repeated => "repeated",
            Self::TooMany => "too_many",
            Self::ReportDue => "report_due",
            Self::ServerOut => "server_out",
            Self::NoId => "no_id",
            Self::NotApproved => "not_approved",
        }
    }

    /// What happened, for people.
    const fn words(self) -> &'static str {
        match self {
            Self::NotOffered => "the card does not allow it, or its server does not offer it",
            Self::Arguments => "its arguments are not what the tool takes",
            Self::DuplicateKeys => "a key stands twice in its arguments",
            Self::Secret => "its arguments hold a credential",
            Self::Policy => "the card's policy does not allow it",
            Self::Changed => "the tool is not the one that was pinned or offered",
            Self::Annotations => "its server says that it does more than read",
            Self::Definition => "its definition cannot be used",
            Self::Repeated => "it was made before",
            Self::TooMany => "too many calls in one turn",
            Self::ReportDue => "the report was submitted or due",
            Self::ServerOut => "its server was out",
            Self::NoId => "the request has no id",
            Self::NotApproved => "the model's service says that it was made, and it was not approved",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call is not made, as the model and the record are told.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Refusal {
    #[error("Error: {name:?} is not allowed here and was not called. Allowed are: {}.", .known.join(", "))]
    NotOffered { name: String, known: Vec<String> },
    #[error("Error: there is no server {0:?} here.")]
    NoServer(String),
    #[error("{0} was not called: the card does not allow it, or its server does not offer it")]
    NotThere(ToolId),
    #[error("{0} was not called: the card does not allow it")]
    NotOnCard(ToolId),
    #[error("Error: {0} was not called: its server never listed it.")]
    NeverListed(ToolId),
    #[error("Error: the arguments of {name} are not JSON and it was not called: {why}")]
    NotJson { name: String, why: String },
    #[error("Error: the arguments of {0} are not an object and it was not called.")]
    NoObject(String),
    #[error(
        "Error: the key {key:?} stands twice in the arguments of {name} and it was not called: nobody could say which \
         of the two is meant. Write each key once."
    )]
    DuplicateKey { name: String, key: String },
    #[error(
        "Error: the arguments of {name} hold a credential ({kind}) and it was not called. Where something was taken \
         out, you were shown a placeholder; ask without it."
    )]
    Secret { name: String, kind: String },
    #[error("Error: the arguments of {name} break its schema and it was not called: {}", .problems.join("; "))]
    BreaksSchema { name: String, problems: Vec<String> },
    #[error("{tool} was not called: its arguments break its schema: {}", .problems.join("; "))]
    OwnBreaksSchema { tool: ToolId, problems: Vec<String> },
    #[error("{tool} was not called: its arguments cannot be rendered: {why}")]
    NotRendered { tool: ToolId, why: String },
    #[error("{tool} was not called: {why}")]
    Policy { tool: ToolId, why: String },
    #[error("{tool} was not called: {unfit}")]
    Unfit { tool: ToolId, unfit: Unfit },
    #[error("Error: {tool} was not called: {unfit}.")]
    UnfitHosted { tool: ToolId, unfit: Unfit },
    #[error("{tool} was not called: {why}")]
    ServerOut { tool: ToolId, why: String },
    #[error("{0}{1}")]
    Hinted(Box<Refusal>, &'static str),
    #[error("{0}")]
    Repeated(String),
    #[error("Error: not called: at most {0} tools are called in one turn.")]
    TooMany(usize),
    #[error("Error: not looked at: {0}.")]
    NotLookedAt(String),
    #[error("{0}")]
    ReportDue(&'static str),
}

impl Refusal {
    pub(crate) fn reason(&self) -> RefusalReason {
        match self {
            Self::Hinted(refusal, _) => refusal.reason(),
            Self::NotOffered { .. }
            | Self::NoServer(_)
            | Self::NotThere(_)
            | Self::NotOnCard(_)
            | Self::NeverListed(_) => RefusalReason::NotOffered,
            Self::NotJson { .. }
            | Self::NoObject(_)
            | Self::BreaksSchema { .. }
            | Self::OwnBreaksSchema { .. }
            | Self::NotRendered { .. } => RefusalReason::Arguments,
            Self::DuplicateKey { .. } => RefusalReason::DuplicateKeys,
            Self::Secret { .. } => RefusalReason::Secret,
            Self::Policy { .. } => RefusalReason::Policy,
            Self::Unfit { unfit, .. } | Self::UnfitHosted { unfit, .. } => unfit.reason(),
            Self::ServerOut { .. } => RefusalReason::ServerOut,
            Self::Repeated(_) => RefusalReason::Repeated,
            Self::TooMany(_) | Self::NotLookedAt(_) => RefusalReason::TooMany,
            Self::ReportDue(_) => RefusalReason::ReportDue,
        }
    }
}

/// Why a tool may not be called as its server defines it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Unfit {
    /// Its server, this one, does not list it.
    #[error("server {0} does not offer it")]
    NotListed(String),
    /// It stands in the list more than once.
    #[error("its server lists it more than once, so that nobody knows which one would be called")]
    ListedTwice,
    /// `destructiveHint: true`.
    #[error("its server calls it destructive")]
    Destructive,
    /// `readOnlyHint: false` without `destructiveHint: false`, and the card does not take it.
    #[error(
        "its server says that it does not only read (readOnlyHint: false) and does not say that it destroys nothing; \
         the card can take that upon itself under `accept-not-read-only`"
    )]
    NotReadOnly,
    /// It is not as it was pinned.
    #[error("{0}")]
    Drifted(sentinel_core::tools_lock::Drift),
    /// Its schema is of no use, for this reason.
    #[error("its schema {0}")]
    Schema(String),
    /// Its server lists it in a way that cannot be read, for this reason.
    #[error("{0}")]
    Unreadable(String),
    /// Its server shows it differently than before.
    #[error("its server changed its definition during the investigation")]
    ChangedMeanwhile,
    /// It is not what the run offers.
    #[error("its server changed what it is after this investigation had begun")]
    ChangedSince,
}

impl Unfit {
    const fn reason(&self) -> RefusalReason {
        match self {
            Self::NotListed(_) => RefusalReason::NotOffered,
            Self::ListedTwice | Self::Schema(_) | Self::Unreadable(_) => RefusalReason::Definition,
            Self::Destructive | Self::NotReadOnly => RefusalReason::Annotations,
            Self::Drifted(_) | Self::ChangedMeanwhile | Self::ChangedSince => RefusalReason::Changed,
        }
    }
}

/// A call that was not made, for the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    /// The turn that asked; 0: the card.
    pub(crate) turn: u32,
    /// Which tool, as it was asked for. Untrusted text.
    pub(crate) tool: String,
    pub(crate) reason: RefusalReason,
}

/// The most refused calls that a report names one by one.
const MOST_NAMED: usize = 10;

/// The notes of a report about calls that were not made: one for each tool and reason, the first ones by name, the rest
/// counted.
pub(crate) fn notes(refused: &[Refused]) -> Vec<String> {
    let mut groups: Vec<(&Refused, u32)> = Vec::new();
    for one in refused {
        match groups.iter_mut().find(|(first, _)| first.tool == one.tool && first.reason == one.reason) {
            Some((_, times)) => *times = times.saturating_add(1),
            None => groups.push((one, 1)),
        }
    }
    let line = |(one, times): &(&Refused, u32)| {
        let by = if one.turn == 0 { "the card".to_owned() } else { format!("turn {}", one.turn) };
        let times = if *times == 1 { String::new() } else { format!(", {times} times") };
        let (tool, reason) = (clip(&one.tool, 80), one.reason);
        format!("Refused ({reason}): {tool:?}, asked for by {by}{times}: {}.", reason.words())
    };
    let mut notes: Vec<String> = groups.iter().take(MOST_NAMED).map(line).collect();
    let mut rest: BTreeMap<RefusalReason, u32> = BTreeMap::new();
    for (one, times) in groups.iter().skip(MOST_NAMED) {
        let count = rest.entry(one.reason).or_default();
        *count = count.saturating_add(*times);
    }
    if !rest.is_empty() {
        let all: u32 = rest.values().sum();
        let by_reason: Vec<String> = rest.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        notes.push(format!("Refused besides: {all} calls more ({}).", by_reason.join(", ")));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_first_refused_calls_and_counts_the_rest() {
        let one = |n: usize| Refused { turn: 1, tool: format!("t{n}"), reason: RefusalReason::NotOffered };
        let mut all: Vec<Refused> = (0..14).map(one).collect();
        all.push(one(0));
        let told = notes(&all);
        assert_eq!(told.len(), MOST_NAMED + 1);
        assert!(
            told[0].starts_with("Refused (not_offered): \"t0\", asked for by turn 1, 2 times: "),
            "{told:?}"
        );
        assert_eq!(told[MOST_NAMED], "Refused besides: 4 calls more (not_offered 4).");
    }

    #[test]
    fn a_tool_name_of_any_length_and_kind_is_one_short_line() {
        let told = notes(&[Refused { turn: 0, tool: "x\n".repeat(900), reason: RefusalReason::Secret }]);
        assert!(told[0].len() < 300 && !told[0].contains('\n'), "{told:?}");
    }
}
