//! How a conversation comes to its report: what the model is told when it is due, what it hands over, and what is said where
//! it does not.

use sentinel_core::card::Card;

use crate::fence::clip;
use crate::ports::Item;
use crate::report;
use crate::tools::SUBMIT_REPORT;
use crate::transcript::{Forced, TurnRecord};

/// What a report that had no room is answered.
pub(super) const CUT_OFF: &str = "The report was cut off: it had no room. Call submit_report once more and be brief; there is more \
                       room now.";

/// What the model is told before a turn that has to be its report.
pub(crate) fn reminder(forced: Option<Forced>) -> Option<Item> {
    let why = match forced? {
        Forced::LastTurn => "This is the last turn.",
        Forced::TimeNearlyOver => "The time is nearly over.",
        Forced::TokensNearlyUsedUp | Forced::MoneyNearlyUsedUp => {
            "What this investigation may spend is nearly used up."
        }
        Forced::Looping => "The same call was asked for again and again.",
        Forced::Again => "Nothing that can be read as a report was handed over.",
        // The rejected report's own answer says it.
        Forced::Repair => return None,
    };
    Some(Item::User { text: format!("{why} Call submit_report now, with what the evidence shows so far.") })
}

/// What a reader of the report should know of a turn that had to be it.
pub(super) fn ended_by(forced: Forced, turn: u32, card: &Card) -> Option<String> {
    let why = match forced {
        Forced::LastTurn => format!("with turn {turn}, the last that `max-iterations` permits"),
        Forced::TimeNearlyOver => {
            format!("with turn {turn}: its time-out of {} s was nearly over", card.timeout.as_secs())
        }
        Forced::TokensNearlyUsedUp => {
            format!("with turn {turn}: its `max-tokens` ({}) were nearly used up", card.max_tokens)
        }
        Forced::MoneyNearlyUsedUp => {
            format!("with turn {turn}: its `max-usd` ({}) was nearly used up", card.max_usd)
        }
        Forced::Looping => {
            format!("with turn {turn}: the model had asked for the same call again and again")
        }
        Forced::Repair | Forced::Again => return None,
    };
    Some(format!("The investigation had to end {why}. There may be more to find."))
}

/// A report as it was handed over.
pub(super) enum Handed<'r> {
    /// As the call of this place, with these arguments.
    Call(usize, &'r str),
    /// In words: services that offer no tools well, and models that take a schema for a form.
    Text(String),
}

impl<'r> Handed<'r> {
    pub(super) fn of(record: &'r TurnRecord) -> Option<Self> {
        let mut calls = record.response.calls().enumerate().peekable();
        if calls.peek().is_none() {
            let text = record.response.text();
            return report::in_text(&text).map(|report| Self::Text(report.to_owned()));
        }
        let (at, call) = calls.find(|(_, call)| call.name == SUBMIT_REPORT)?;
        Some(Self::Call(at, &call.arguments))
    }

    pub(super) fn report(&self) -> &str {
        match self {
            Self::Call(_, arguments) => arguments,
            Self::Text(report) => report,
        }
    }

    pub(super) fn is_call(&self, place: usize) -> bool {
        matches!(self, Self::Call(at, _) if *at == place)
    }
}

/// What a turn says that should have been a report, for people.
pub(super) fn last_words(record: &TurnRecord) -> String {
    let response = &record.response;
    match (&response.incomplete, response.text().trim()) {
        (Some(why), _) => format!("its last answer ended early ({why})"),
        (None, "") if response.calls().next().is_none() => "its last answer was empty".to_owned(),
        (None, "") => "it called another tool".to_owned(),
        (None, text) => format!("it said: {}", clip(text, 300)),
    }
}

/// What a turn without any call is answered.
pub(super) fn nudge(record: &TurnRecord) -> String {
    let what = match (&record.response.incomplete, record.response.text().trim().is_empty()) {
        (Some(why), _) => format!("Your answer ended early ({why}) and calls no tool."),
        (None, true) => "Your answer was empty.".to_owned(),
        (None, false) => "Text alone is not read by anyone.".to_owned(),
    };
    format!("{what} Call a tool to find out more, or submit_report to conclude.")
}
