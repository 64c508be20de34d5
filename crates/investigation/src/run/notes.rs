//! What a reader of the report should know of how it was made.

use std::collections::BTreeMap;

use sentinel_core::card::Card;
use sentinel_core::tools_lock::FILE;

use crate::evidence::{EvidenceRecord, id_of};
use crate::ports::Remark;
use crate::refusal::{self, Refused};
use crate::transcript::{Forced, Opening, TurnRecord};

/// The notes of a run.
pub(super) fn of(turns: &[TurnRecord], opening: &Opening, card: &Card, refused: &[Refused]) -> Vec<String> {
    let mut notes: Vec<String> = opening
        .unshown
        .iter()
        .map(|what| format!("In the card's prompt, line {}: {what}.", what.line))
        .collect();
    notes.extend(stretches(turns).into_iter().map(|(from, to, asked, why)| {
        let turns =
            if from == to { format!("Turn {from} was") } else { format!("Turns {from} to {to} were") };
        format!("{turns} answered by the fallback model {asked}: {why}.")
    }));
    let called = |label: &str| {
        turns.iter().flat_map(|turn| turn.response.hosted_calls()).any(|call| call.label == label)
    };
    let servers: Vec<&str> =
        opening.hosted.iter().filter(|h| called(&h.label)).map(|h| h.server.as_str()).collect();
    if !servers.is_empty() {
        notes.push(format!(
            "The tools of {} were called by the model's own service: it saw their outputs before secrets were taken \
             out of them, and a call whose answer was lost may have been made twice.",
            servers.join(", ")
        ));
    }
    notes.extend(not_taken(turns));
    notes.extend(refusal::notes(refused));
    if card.lock_undecided && !card.tools.is_empty() {
        notes.push(format!(
            "There is no {FILE}: a server that changes what its tools say of themselves is not noticed from one \
             investigation to the next. `sentinel tools lock` writes it; `require-lock` says whether it has to be there."
        ));
    }
    notes
}

/// What is remarked of outputs, one sentence for each tool and remark: what was lost, and what is odd.
pub(super) fn of_outputs(outputs: &[&EvidenceRecord]) -> (Vec<String>, Vec<String>) {
    let mut ids: BTreeMap<(&str, &Remark), Vec<&str>> = BTreeMap::new();
    for output in outputs {
        for remark in &output.remarks {
            let ids = ids.entry((&output.tool, remark)).or_default();
            if ids.last() != Some(&output.id.as_str()) {
                ids.push(&output.id);
            }
        }
    }
    let (mut lost, mut noted) = (Vec::new(), Vec::new());
    for ((tool, remark), ids) in ids {
        let of = |text: &str| format!("The output of {tool} ({}): {text}.", ids.join(", "));
        match remark {
            Remark::Lost(text) => lost.push(of(text)),
            Remark::Noted(text) => noted.push(of(text)),
        }
    }
    (lost, noted)
}

/// What did not fit into a model's context, and what was asked for twice.
fn not_taken(turns: &[TurnRecord]) -> Vec<String> {
    let mut notes: Vec<String> = Vec::new();
    let mut cut = 0;
    for turn in turns {
        if turn.cut > cut {
            cut = turn.cut;
            notes.push(format!(
                "From turn {} on, the outputs up to {} were shown as their ids: all of them did not fit into the context \
                 of {}.",
                turn.turn,
                id_of(cut),
                turn.asked()
            ));
        }
        if turn.estimated {
            notes.push(format!("What turn {} took is an estimate: {} did not say.", turn.turn, turn.asked()));
        }
        if turn.forced == Some(Forced::Again) {
            notes.push(format!(
                "Turn {} was offered nothing but the report, which the turn before it owed.",
                turn.turn
            ));
        }
    }
    notes
}

/// Turns in a row that one fallback model answered for one reason: first, last, model, reason.
fn stretches(turns: &[TurnRecord]) -> Vec<(u32, u32, &str, &str)> {
    let mut stretches: Vec<(u32, u32, &str, &str)> = Vec::new();
    for turn in turns {
        let Some(why) = &turn.instead else { continue };
        match stretches.last_mut() {
            Some((_, to, asked, reason))
                if *asked == turn.asked && *reason == why && to.saturating_add(1) == turn.turn =>
            {
                *to = turn.turn;
            }
            _ => stretches.push((turn.turn, turn.turn, &turn.asked, why)),
        }
    }
    stretches
}
