//! Hosted calls in a conversation: definitions are judged as servers show them, calls that ask to be made are answered
//! by the policy, and calls that were made become evidence.

use std::collections::BTreeSet;

use sentinel_core::card::ToolId;
use serde_json::Value;

use sentinel_core::canonical::canonical;

use super::{HINT_AT, LOOP_AT, MOST_ASKED, MOST_CALLS, Pending, Planned, Replay, Seen};
use crate::arguments;
use crate::evidence::{CallStatus, id_of};
use crate::fence::clip;
use crate::hosted;
use crate::ports::{Approval, HostedCall, HostedList, HostedRequest, Item, Said, ToolDefinition};
use crate::refusal::{Refusal, RefusalReason, Unfit};
use crate::schema::Schema;
use crate::transcript::TurnRecord;

/// A definition that a hosted server showed, and what became of it.
pub(super) struct Judged {
    definition: Option<ToolDefinition>,
    verdict: Result<Schema, Unfit>,
}

/// Whether a call that was made is this request's: server, tool, and arguments as parsed values. Arguments that could mean
/// two things are never the same.
fn is_asked(request: &HostedRequest, call: &HostedCall) -> bool {
    let value = |written: &str| arguments::object(&call.tool, written).ok();
    let arguments = value(&request.arguments);
    request.label == call.label
        && request.tool == call.tool
        && arguments.is_some()
        && arguments == value(&call.arguments)
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
        for output in &record.response.outputs {
            match &output.said {
                Said::HostedList(list) => self.listed(list),
                Said::HostedCall(call) => {
                    // One call has one number, also where the service tells of it twice.
                    if made.iter().any(|(id, _): &(String, Planned)| *id == call.id) {
                        continue;
                    }
                    let Some(given) = record.hosted.get(&call.id) else { continue };
                    let Some(tool) = self.approved_call(call) else {
                        let tool = format!("{}.{}", clip(&call.label, 64), clip(&call.tool, 64));
                        self.gap(format!(
                            "The model's service says that it called {tool}, and no such call was approved in this \
                             investigation. What it gave is no evidence."
                        ));
                        self.refuse(record.turn, &tool, RefusalReason::NotApproved);
                        continue;
                    };
                    let number = self.next_number;
                    self.next_number = number.saturating_add(1);
                    let (turn, arguments) = (record.turn, hosted::any_arguments(&call.arguments));
                    let key = format!("{tool} {}", canonical(&Value::Object(arguments.clone())));
                    let times = self.seen.get(&key).map_or(1, |s| s.times);
                    self.seen.insert(key, Seen { number, turn, times });
                    let given = Some(given.clone());
                    made.push((call.id.clone(), Planned { number, turn, own: None, tool, arguments, given }));
                }
                Said::HostedRequest(_)
                | Said::Text { .. }
                | Said::Refusal { .. }
                | Said::Call(_)
                | Said::Reasoning { .. }
                | Said::Other => {}
            }
        }
        made
    }

    /// The tool of a call that was made, if that very call was approved in this run and not made before.
    fn approved_call(&mut self, call: &HostedCall) -> Option<ToolId> {
        let id = self.hosted_tool(&call.label, &call.tool)?;
        let request = call.request.as_deref()?;
        let is_it = self.requests.get(request)?.iter().any(|asked| is_asked(asked, call));
        // One approval is for one call.
        (is_it && self.approved.remove(request)).then_some(id)
    }

    /// Tells the model which evidence the hosted calls of a turn became, and which are none.
    pub(super) fn naming(&self, record: &TurnRecord, made: &[(String, Planned)]) -> Option<Item> {
        if self.case.opening.hosted.is_empty() {
            return None;
        }
        let line = |(id, p): &(String, Planned)| {
            format!("[{}] is the output of mcp call {} ({})", id_of(p.number), clip(id, 80), p.tool)
        };
        let mut lines: Vec<String> = made.iter().map(line).collect();
        for HostedCall { id, .. } in record.response.hosted_calls() {
            if !made.iter().any(|(call, _)| call == id) {
                lines.push(format!("mcp call {} was not approved here and is no evidence", clip(id, 80)));
            }
        }
        (!lines.is_empty()).then(|| Item::User { text: format!("{}.", lines.join("; ")) })
    }

    /// What the requests of the turn before were answered in this turn's request: that stands.
    pub(super) fn answered(&mut self, record: &TurnRecord) {
        for answer in &record.approvals {
            if answer.approve {
                self.approved.insert(answer.request_id.clone());
                continue;
            }
            // Records of before do not say.
            let reason = answer.refusal.unwrap_or(RefusalReason::Policy);
            let asked = self.requests.get(&answer.request_id).and_then(|all| all.first());
            let tool = asked.map_or_else(String::new, |r| format!("{}.{}", r.label, r.tool));
            self.refuse(record.turn.saturating_sub(1), &tool, reason);
        }
    }

    /// The run ends with this turn: what it asks for is answered by nobody, and so not made.
    pub(super) fn left_unanswered(&mut self, record: &TurnRecord) {
        if self.case.opening.hosted.is_empty() {
            return;
        }
        for HostedRequest { label, tool, .. } in
            record.response.hosted_requests().filter(|r| !r.id.is_empty())
        {
            self.refuse(record.turn, &format!("{label}.{tool}"), RefusalReason::ReportDue);
        }
    }

    /// Keeps what the requests of a turn ask for. One without an id cannot be answered, and none is where nothing is
    /// hosted.
    pub(super) fn note_requests(&mut self, record: &TurnRecord) {
        for request in record.response.hosted_requests() {
            let HostedRequest { id, label, tool, .. } = request;
            let reason = if self.case.opening.hosted.is_empty() {
                Some(RefusalReason::NotOffered)
            } else if id.is_empty() {
                Some(RefusalReason::NoId)
            } else {
                None
            };
            if let Some(reason) = reason {
                self.refuse(record.turn, &format!("{label}.{tool}"), reason);
                continue;
            }
            let all = self.requests.entry(id.clone()).or_default();
            if !all.contains(request) {
                all.push(request.clone());
            }
        }
    }

    fn listed(&mut self, HostedList { label, tools, error }: &HostedList) {
        let Some(server) = self.case.opening.hosted.iter().find(|h| h.label == *label) else { return };
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
                    before.verdict = Err(Unfit::ChangedMeanwhile);
                    self.gap(format!("Tool {tool} was not there any more: {}.", Unfit::ChangedMeanwhile));
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
        self.note_requests(record);
        if self.case.opening.hosted.is_empty() {
            return;
        }
        let mut asked = BTreeSet::new();
        let mut judged: Vec<&HostedRequest> = Vec::new();
        for request in record.response.hosted_requests() {
            let HostedRequest { id, label, tool, arguments } = request;
            // A request that stands there twice, word by word, is one.
            if id.is_empty() || judged.contains(&request) {
                continue;
            }
            let name = self.hosted_tool(label, tool);
            let refusal = match &name {
                _ if judged.len() >= MOST_ASKED => {
                    Some(Refusal::NotLookedAt(format!("at most {MOST_ASKED} calls of one turn are")))
                }
                None => Some(Refusal::NoServer(clip(label, 64))),
                Some(name) => match record.credentials.get(id) {
                    Some(kind) => Some(Refusal::Secret { name: name.to_string(), kind: kind.clone() }),
                    None => self.objection(name, arguments, &mut asked).err(),
                },
            };
            if judged.len() < MOST_ASKED {
                judged.push(request);
            }
            self.answer_request(id, name, refusal.as_ref());
        }
    }

    /// Denies each of them.
    pub(super) fn deny_requests(&mut self, record: &TurnRecord, refusal: &Refusal) {
        if self.case.opening.hosted.is_empty() {
            return;
        }
        for request in record.response.hosted_requests().filter(|request| !request.id.is_empty()) {
            self.answer_request(&request.id, None, Some(refusal));
        }
    }

    /// One id has one answer, which counts for all that ask under it: it is a denial, if one of them is.
    fn answer_request(&mut self, id: &str, tool: Option<ToolId>, refusal: Option<&Refusal>) {
        let place = self.pending.iter().position(|p| p.answer.request_id == id);
        let answer = Approval { request_id: id.to_owned(), approve: true, reason: None, refusal: None };
        let answer = match refusal {
            Some(refusal) => answer.denied(refusal),
            None => answer,
        };
        match place.and_then(|at| self.pending.get_mut(at)) {
            None => self.pending.push(Pending { tool, answer }),
            Some(before) if before.answer.approve && !answer.approve => before.answer = answer,
            Some(_) => {}
        }
    }

    /// Why a call may not be made. How often it was asked for depends on nothing but what is stored; whether it may be
    /// made is about now.
    fn objection(
        &mut self,
        tool: &ToolId,
        written: &str,
        asked: &mut BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let policy = self.case.policy;
        let key = format!("{tool} {}", canonical(&Value::Object(hosted::any_arguments(written))));
        let times = self.asks.entry(key.clone()).or_default();
        *times = times.saturating_add(1);
        self.looping |= *times >= LOOP_AT;
        let hint = if *times >= HINT_AT { " Ask something else, or conclude." } else { "" };
        let judged = self.judged.get(tool).map(|judged| &judged.verdict);
        policy
            .check_hosted(tool, judged, written)
            .and_then(|arguments| policy.decide(tool, &arguments))
            .map_err(|refusal| Refusal::Hinted(Box::new(refusal), hint))?;
        if let Some(seen) = self.seen.get(&key) {
            let held = self.case.outputs.get(&seen.number);
            if held.is_some_and(|o| o.status != CallStatus::NoAnswer) {
                let id = id_of(seen.number);
                return Err(Refusal::Repeated(format!(
                    "This very call was made before: its output is {id} above. read_evidence looks further into \
                     it.{hint}"
                )));
            }
        }
        if asked.len() >= MOST_CALLS {
            return Err(Refusal::TooMany(MOST_CALLS));
        }
        if asked.insert(key) {
            Ok(())
        } else {
            Err(Refusal::Repeated("This very call was asked for twice in the same turn.".to_owned()))
        }
    }
}
