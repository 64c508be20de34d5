//! Hosted calls in a conversation: definitions are judged as servers show them, calls that ask to be made are answered
//! by the policy, and calls that were made become evidence.

use std::collections::BTreeSet;

use sentinel_core::card::ToolId;
use serde_json::Value;

use sentinel_core::canonical::canonical;

use super::{HINT_AT, LOOP_AT, MOST_ASKED, MOST_CALLS, Pending, Planned, Replay, Seen};
use crate::evidence::{CallStatus, id_of};
use crate::fence::clip;
use crate::hosted::{self, Event};
use crate::ports::{Approval, Item, ToolDefinition};
use crate::schema::Schema;
use crate::transcript::TurnRecord;

/// A definition that a hosted server showed, and what became of it.
pub(super) struct Judged {
    definition: Option<ToolDefinition>,
    verdict: Result<Schema, String>,
}

/// Tells the model which evidence the hosted calls of a turn became.
pub(super) fn naming(made: &[(String, Planned)]) -> Option<Item> {
    if made.is_empty() {
        return None;
    }
    let lines: Vec<String> = made
        .iter()
        .map(|(id, p)| {
            format!("[{}] is the output of mcp call {} ({})", id_of(p.number), clip(id, 80), p.tool)
        })
        .collect();
    Some(Item::User { text: format!("{}.", lines.join("; ")) })
}

impl Replay<'_> {
    /// The tool that an item means, and whether the run has a server of this label.
    fn hosted_tool(&self, label: &str, tool: &str) -> Option<ToolId> {
        let server = self.case.opening.hosted.iter().find(|h| h.label == label)?;
        Some(ToolId { server: server.server.clone(), tool: tool.to_owned() })
    }

    /// Judges what servers show, and numbers the calls that the service made in this turn.
    pub(super) fn made(&mut self, record: &TurnRecord) -> Vec<(String, Planned)> {
        for without in &record.without {
            self.gap(format!(
                "Hosted server {} was out and its tools were not there: {}",
                without.server,
                clip(&without.reason, 300)
            ));
        }
        let mut made = Vec::new();
        for event in hosted::events(&record.response.items) {
            match event {
                Event::Listed { label, tools, error } => self.listed(label, &tools, error.as_deref()),
                Event::Called { id, label, tool, arguments, request } => {
                    // One call has one number, also where the service tells of it twice.
                    if made.iter().any(|(call, _): &(String, Planned)| call == id) {
                        continue;
                    }
                    let Some(given) = record.hosted.get(id) else { continue };
                    let tool = self
                        .hosted_tool(label, tool)
                        .unwrap_or_else(|| ToolId { server: clip(label, 64), tool: clip(tool, 64) });
                    let allowed = |a: &Approval| a.approve && request.is_none_or(|r| r == a.request_id);
                    if !record.approvals.iter().any(allowed) {
                        self.gap(format!(
                            "The model's service called {tool} without having been allowed to."
                        ));
                    }
                    let number = self.next_number;
                    self.next_number = number.saturating_add(1);
                    let (turn, arguments) = (record.turn, hosted::arguments(arguments));
                    let key = format!("{tool} {}", canonical(&Value::Object(arguments.clone())));
                    let times = self.seen.get(&key).map_or(1, |s| s.times);
                    self.seen.insert(key, Seen { number, turn, times });
                    let given = Some(given.clone());
                    made.push((id.to_owned(), Planned { number, turn, tool, arguments, given }));
                }
                Event::Asked { .. } => {}
            }
        }
        made
    }

    fn listed(&mut self, label: &str, tools: &[ToolDefinition], error: Option<&str>) {
        let Some(server) = self.case.opening.hosted.iter().find(|h| h.label == label) else { return };
        if let Some(error) = error {
            self.gap(format!(
                "The tools of hosted server {} were not there: {}",
                server.server,
                clip(error, 300)
            ));
            return;
        }
        for name in &server.tools {
            let tool = ToolId { server: server.server.clone(), tool: name.clone() };
            let definition = tools.iter().find(|d| d.tool == *name);
            if let Some(before) = self.judged.get_mut(&tool) {
                // What was judged once must not become something else behind the same name.
                if before.verdict.is_ok() && before.definition.as_ref() != definition {
                    let reason = "its server changed its definition during the investigation";
                    before.verdict = Err(reason.to_owned());
                    self.gap(format!("Tool {tool} was not there any more: {reason}."));
                }
                continue;
            }
            let verdict = self.case.policy.judge(&tool, tools);
            if let Err(reason) = &verdict {
                self.gap(format!("Tool {tool} was not there: {reason}."));
            }
            self.judged.insert(tool, Judged { definition: definition.cloned(), verdict });
        }
    }

    /// Answers each hosted call of a turn that asks to be made.
    pub(super) fn judge_requests(&mut self, record: &TurnRecord) {
        let mut asked = BTreeSet::new();
        let mut looked_at = 0;
        for event in hosted::events(&record.response.items) {
            let Event::Asked { id, label, tool, arguments } = event else { continue };
            let tool = self.hosted_tool(label, tool);
            looked_at += 1;
            let reason = match &tool {
                _ if looked_at > MOST_ASKED => {
                    Some(format!("Error: not looked at: at most {MOST_ASKED} calls of one turn are."))
                }
                None => Some(format!("Error: there is no server {:?} here.", clip(label, 64))),
                Some(tool) => self.objection(tool, arguments, &mut asked),
            };
            self.answer_request(id, tool, reason);
        }
    }

    /// Denies each of them.
    pub(super) fn deny_requests(&mut self, record: &TurnRecord, reason: &str) {
        for event in hosted::events(&record.response.items) {
            if let Event::Asked { id, .. } = event {
                self.answer_request(id, None, Some(reason.to_owned()));
            }
        }
    }

    fn answer_request(&mut self, id: &str, tool: Option<ToolId>, reason: Option<String>) {
        // A request that stands there twice has one answer.
        if self.pending.iter().any(|p| p.answer.request_id == id) {
            return;
        }
        let answer = Approval { request_id: id.to_owned(), approve: reason.is_none(), reason };
        self.pending.push(Pending { tool, answer });
    }

    /// Why a call may not be made. How often it was asked for depends on nothing but what is stored; whether it may be
    /// made is about now.
    fn objection(&mut self, tool: &ToolId, written: &str, asked: &mut BTreeSet<String>) -> Option<String> {
        let policy = self.case.policy;
        let key = format!("{tool} {}", canonical(&Value::Object(hosted::arguments(written))));
        let times = self.asks.entry(key.clone()).or_default();
        *times = times.saturating_add(1);
        self.looping |= *times >= LOOP_AT;
        let hint = if *times >= HINT_AT { " Ask something else, or conclude." } else { "" };
        let judged = self.judged.get(tool).map(|judged| &judged.verdict);
        let allowed =
            policy.check_hosted(tool, judged, written).and_then(|arguments| policy.decide(tool, &arguments));
        if let Err(reason) = allowed {
            return Some(format!("{reason}{hint}"));
        }
        if let Some(seen) = self.seen.get(&key) {
            let held = self.case.outputs.get(&seen.number);
            if held.is_some_and(|o| o.status != CallStatus::NoAnswer) {
                let id = id_of(seen.number);
                return Some(format!(
                    "This very call was made before: its output is {id} above. read_evidence looks further into \
                     it.{hint}"
                ));
            }
        }
        if asked.len() >= MOST_CALLS {
            return Some(format!("Error: not called: at most {MOST_CALLS} tools are called in one turn."));
        }
        let first = asked.insert(key);
        (!first).then(|| "This very call was asked for twice in the same turn.".to_owned())
    }
}
