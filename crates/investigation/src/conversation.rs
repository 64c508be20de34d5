//! The conversation, rebuilt from what is stored: a pure function of the opening, the turns and the outputs. A run
//! that goes on after a crash is therefore the same run, and each request begins with the bytes of the one before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use sentinel_core::canonical::canonical;
use sentinel_core::card::{Card, ToolId};
use serde_json::{Map, Value};

use crate::arguments;
use crate::evidence::{self, CallStatus, EvidenceRecord, OwnCall, id_of};
use crate::fence::{clip, fenced};
use crate::hosted::{self, HostedOutput};
use crate::policy::Policy;
use crate::ports::{Approval, FunctionCall, HostedRequest, Incomplete, Item};
use crate::quotes::Searchable;
use crate::refusal::{Refusal, RefusalReason, Refused};
use crate::report::{self, Draft};
use crate::tools::READ_EVIDENCE;
use crate::transcript::{Forced, Opening, TurnRecord};

mod ending;
mod hosted_calls;

pub(crate) use ending::reminder;
use ending::{CUT_OFF, Handed, ended_by, last_words, nudge};

/// The most tool calls of one turn that leave; the model is told about the rest.
pub(crate) const MOST_CALLS: usize = 16;
/// The most calls of one turn that are looked at at all, and the most of them that read evidence.
pub(crate) const MOST_ASKED: usize = 32;
pub(crate) const MOST_READ: usize = 16;
/// The same call as often as this gets a hint.
const HINT_AT: u32 = 3;
/// What calls are answered where nothing but the report is due.
pub(crate) const REPORT_IS_DUE: &str = "Not called: the report is due now.";
/// What other calls of a turn that reports are answered.
const REPORTED_INSTEAD: &str = "Not called: a report was submitted in the same turn.";
/// What stands in place of an answer of `read_evidence` that did not fit any more.
const READ_BEFORE: &str = "[left out to make room: read_evidence shows it again]";
/// A model that asks for the same call as often as this has to report.
const LOOP_AT: u32 = 4;

/// What a conversation is rebuilt from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'a> {
    pub(crate) opening: &'a Opening,
    pub(crate) card: &'a Card,
    pub(crate) policy: &'a Policy<'a>,
    pub(crate) turns: &'a [TurnRecord],
    pub(crate) outputs: &'a BTreeMap<u32, EvidenceRecord>,
    pub(crate) readings: &'a Readings,
    /// The evidence up to this number is shown as its ids: the whole did not fit into the model's context.
    pub(crate) cut: u32,
}

/// What `read_evidence` gave, by turn and place. A conversation is rebuilt after each of its turns, and its searches
/// would be made anew each time.
#[derive(Debug, Default)]
pub(crate) struct Readings(Mutex<BTreeMap<(u32, usize), String>>);

impl Readings {
    fn get(&self, turn: u32, place: usize, read: impl FnOnce() -> String) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry((turn, place)).or_insert_with(read).clone()
    }
}

/// A tool call that may leave.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Planned {
    pub(crate) number: u32,
    pub(crate) turn: u32,
    /// Which of the card's own calls it is.
    pub(crate) own: Option<OwnCall>,
    pub(crate) tool: ToolId,
    pub(crate) arguments: Map<String, Value>,
    /// What it gave, where the model's service made it already: it only has to become evidence.
    pub(crate) given: Option<HostedOutput>,
}

/// The answer to a hosted call that asks to be made, as the policy gives it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Pending {
    /// Which tool; `None`: none that is allowed.
    pub(crate) tool: Option<ToolId>,
    pub(crate) answer: Approval,
}

/// What comes next.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Next {
    /// These calls of the last turn have no output yet.
    Call(Vec<Planned>),
    /// The model is to be asked.
    Ask { turn: u32, forced: Option<Forced> },
    /// The model's last word. `Err`: it has none, with the reason.
    Finish(Result<Box<Draft>, String>),
}

/// A conversation so far.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Replayed {
    pub(crate) input: Vec<Item>,
    pub(crate) next: Next,
    /// What the last turn's hosted calls are to be answered, at the end of the input.
    pub(crate) pending: Vec<Pending>,
    /// The calls that were not made and are no evidence, in the order of the turns.
    pub(crate) refused: Vec<Refused>,
    /// What hosted servers turned out to lack, and which bound ended the run.
    pub(crate) gaps: Vec<String>,
    /// What can be shown of a report that did not pass.
    pub(crate) rejected: Option<Draft>,
    /// The last check of a report, where the last turn held one.
    pub(crate) checked: Option<(usize, usize)>,
}

impl Case<'_> {
    /// What the model is shown of an evidence; `None`: there is none of this number.
    fn shown(&self, number: u32) -> Option<String> {
        let output = self.outputs.get(&number)?;
        let whole = number > self.cut;
        Some(if whole { output.for_model(self.card.max_tool_output_tokens) } else { output.as_id() })
    }
}

/// Rebuilds the conversation.
pub(crate) fn replay(case: Case<'_>) -> Replayed {
    let mut replay = Replay::new(case);
    for record in case.turns {
        if let Some(next) = replay.turn(record) {
            return replay.ended(next);
        }
    }
    let turn = u32::try_from(case.turns.len()).unwrap_or(u32::MAX).saturating_add(1);
    let forced = if replay.again {
        Some(Forced::Again)
    } else if replay.repairing {
        Some(Forced::Repair)
    } else if turn >= case.card.max_iterations {
        Some(Forced::LastTurn)
    } else {
        replay.looping.then_some(Forced::Looping)
    };
    let is_over = turn > case.card.max_iterations && !replay.again;
    let next = if is_over { replay.give_up() } else { Next::Ask { turn, forced } };
    replay.ended(next)
}

struct Seen {
    number: u32,
    turn: u32,
    times: u32,
}

enum Answer {
    Text(String),
    Output(Planned, Option<&'static str>),
    /// `read_evidence`: its arguments, and the number of the first evidence that was not there yet.
    Read(String, u32),
}

struct Replay<'a> {
    case: Case<'a>,
    input: Vec<Item>,
    alert: Searchable,
    /// Which call was made under which number.
    seen: BTreeMap<String, Seen>,
    next_number: u32,
    /// How often each hosted call asked to be made.
    asks: BTreeMap<String, u32>,
    /// What became of the definitions that hosted servers showed.
    judged: BTreeMap<ToolId, hosted_calls::Judged>,
    pending: Vec<Pending>,
    refused: Vec<Refused>,
    /// The hosted calls that asked to be made: the turn's requests by their ids, over the whole run.
    requests: BTreeMap<String, Vec<HostedRequest>>,
    /// The requests that were approved.
    approved: BTreeSet<String>,
    gaps: Vec<String>,
    /// The model asks for the same call over and over.
    looping: bool,
    /// A report did not pass: the next turn is its repair.
    repairing: bool,
    /// A turn that had to report did not: the next one offers nothing else.
    again: bool,
    /// What of that report can be shown.
    rejected: Option<Draft>,
    checked: Option<(usize, usize)>,
}

impl<'a> Replay<'a> {
    fn new(case: Case<'a>) -> Self {
        let mut seen = BTreeMap::new();
        for number in 1..=case.opening.evidence_calls {
            if let Some(output) = case.outputs.get(&number) {
                let key = format!("{} {}", output.tool, canonical(&Value::Object(output.arguments.clone())));
                seen.entry(key).or_insert(Seen { number, turn: 0, times: 1 });
            }
        }
        Self {
            input: vec![Item::User { text: first_item(case) }],
            alert: Searchable::new(&case.opening.alert),
            seen,
            next_number: case.opening.evidence_calls.saturating_add(1),
            asks: BTreeMap::new(),
            judged: BTreeMap::new(),
            pending: Vec::new(),
            refused: Vec::new(),
            requests: BTreeMap::new(),
            approved: BTreeSet::new(),
            gaps: Vec::new(),
            looping: false,
            repairing: false,
            again: false,
            rejected: None,
            checked: None,
            case,
        }
    }

    fn ended(self, next: Next) -> Replayed {
        Replayed {
            input: self.input,
            next,
            pending: self.pending,
            refused: self.refused,
            gaps: self.gaps,
            rejected: self.rejected,
            checked: self.checked,
        }
    }

    fn gap(&mut self, gap: String) {
        if !self.gaps.contains(&gap) {
            self.gaps.push(gap);
        }
    }

    fn refuse(&mut self, turn: u32, tool: &str, reason: RefusalReason) {
        self.refused.push(Refused { turn, tool: clip(tool, 80), reason });
    }

    /// The evidence of this id, where its number is `below` another.
    fn find(&self, id: &str, below: u32) -> Option<&'a EvidenceRecord> {
        let number: u32 = id.strip_prefix('E')?.parse().ok()?;
        self.case.outputs.get(&number).filter(|_| number < below)
    }

    fn turn(&mut self, record: &TurnRecord) -> Option<Next> {
        self.checked = None;
        // What was answered then stands, whatever would be answered today.
        self.pending.clear();
        self.answered(record);
        self.input.extend(record.approvals.iter().cloned().map(Item::Approval));
        self.input.extend(reminder(record.forced));
        if let Some(gap) = record.forced.and_then(|forced| ended_by(forced, record.turn, self.case.card)) {
            self.gap(gap);
        }
        for left_out in &record.response.left_out {
            self.gap(format!(
                "{} was not offered to the model, whose service did not take it: {}",
                left_out.name,
                clip(&left_out.reason, 300)
            ));
        }
        let made = self.made(record);
        let owed = |planned: &&Planned| !self.case.outputs.contains_key(&planned.number);
        let owed: Vec<Planned> = made.iter().map(|(_, p)| p).filter(owed).cloned().collect();
        if !owed.is_empty() {
            return Some(Next::Call(owed));
        }
        if let Some(handed) = Handed::of(record) {
            return self.submission(record, &handed, &made);
        }
        let answers = self.plan(record);
        self.judge_requests(record);
        let missing: Vec<Planned> = answers
            .iter()
            .filter_map(|(_, answer)| match answer {
                Answer::Output(planned, _) if !self.case.outputs.contains_key(&planned.number) => {
                    Some(planned.clone())
                }
                Answer::Output(..) | Answer::Text(_) | Answer::Read(..) => None,
            })
            .collect();
        // A turn that had to report and did not: nothing that it asks for matters any more.
        if record.forced.is_some() {
            for planned in &missing {
                self.refuse(record.turn, &planned.tool.to_string(), RefusalReason::ReportDue);
            }
            // Once more, with nothing else to call and more room, unless there is something to show already.
            if self.again || self.repairing {
                self.left_unanswered(record);
                return Some(self.give_up());
            }
            self.again = true;
            self.input.push(self.response(record, &made));
            self.input.extend(
                answers
                    .into_iter()
                    .map(|(call_id, _)| Item::CallOutput { call_id, output: REPORT_IS_DUE.to_owned() }),
            );
            self.input.extend(self.naming(record, &made));
            self.deny_requests(record, &Refusal::ReportDue(REPORT_IS_DUE));
            return None;
        }
        if !missing.is_empty() {
            return Some(Next::Call(missing));
        }
        self.input.push(self.response(record, &made));
        for (place, (call_id, answer)) in answers.into_iter().enumerate() {
            let output = match answer {
                Answer::Text(text) => text,
                Answer::Read(arguments, below) => {
                    let tokens = self.case.card.max_tool_output_tokens;
                    let find = |id: &str| self.find(id, below);
                    let is_cut = below.saturating_sub(1) <= self.case.cut;
                    if is_cut {
                        READ_BEFORE.to_owned()
                    } else {
                        self.case.readings.get(record.turn, place, || {
                            evidence::read(&arguments, find, tokens)
                                .unwrap_or_else(|refusal| refusal.to_string())
                        })
                    }
                }
                Answer::Output(planned, hint) => {
                    let shown = self.case.shown(planned.number).unwrap_or_default();
                    hint.map_or_else(|| shown.clone(), |hint| format!("{shown}\n{hint}"))
                }
            };
            self.input.push(Item::CallOutput { call_id, output });
        }
        self.input.extend(self.naming(record, &made));
        if record.response.calls().next().is_none() && self.pending.is_empty() && made.is_empty() {
            self.input.push(Item::User { text: nudge(record) });
        }
        None
    }

    /// The response as it is sent back: hosted outputs as the evidence that they became.
    fn response(&self, record: &TurnRecord, made: &[(String, Planned)]) -> Item {
        let evidence = |id: &str| {
            let (_, planned) = made.iter().find(|(call, _)| call == id)?;
            self.case.shown(planned.number)
        };
        let has_hosted = !self.case.opening.hosted.is_empty();
        let outputs = hosted::shown(&record.response.outputs, has_hosted, evidence);
        Item::Response { asked: record.asked(), api: record.response.api, outputs }
    }

    /// Decides about each call of a turn, in order: numbers depend on nothing but what is stored.
    fn plan(&mut self, record: &TurnRecord) -> Vec<(String, Answer)> {
        let (mut left, mut read) = (0usize, 0usize);
        let mut answers = Vec::new();
        for (place, call) in record.response.calls().enumerate() {
            let is_reading = call.name == READ_EVIDENCE;
            read += usize::from(is_reading);
            let answer = if place >= MOST_ASKED || read > MOST_READ {
                Err(Refusal::NotLookedAt(format!(
                    "in one turn, {MOST_ASKED} calls at most are, and {MOST_READ} of {READ_EVIDENCE}"
                )))
            } else {
                self.answer(call, record, &mut left)
            };
            let answer = answer.unwrap_or_else(|refusal| {
                self.refuse(record.turn, &call.name, refusal.reason());
                Answer::Text(refusal.to_string())
            });
            answers.push((call.call_id.clone(), answer));
        }
        answers
    }

    fn answer(
        &mut self,
        call: &FunctionCall,
        record: &TurnRecord,
        left: &mut usize,
    ) -> Result<Answer, Refusal> {
        let turn = record.turn;
        if let Some(kind) = record.credentials.get(&call.call_id) {
            return Err(Refusal::Secret { name: clip(&call.name, 80), kind: kind.clone() });
        }
        if call.name == READ_EVIDENCE {
            arguments::object(READ_EVIDENCE, &call.arguments)?;
            return Ok(Answer::Read(call.arguments.clone(), self.next_number));
        }
        let (tool, arguments) = self.case.policy.check(&call.name, &call.arguments)?;
        let key = format!("{tool} {}", canonical(&Value::Object(arguments.clone())));
        let mut hint = None;
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.times = seen.times.saturating_add(1);
            hint = (seen.times >= HINT_AT).then_some(
                "You have asked this three times or more. Ask something else, or conclude from what there is.",
            );
            self.looping |= seen.times >= LOOP_AT;
            let held = self.case.outputs.get(&seen.number);
            // What a server did not answer may be asked again, but not twice in one breath.
            if seen.turn == turn || held.is_some_and(|o| o.status != CallStatus::NoAnswer) {
                let id = id_of(seen.number);
                let text = if held.is_some_and(|o| o.status == CallStatus::Refused) {
                    format!("[{id}] This very call was refused before, and is again: {id} above says why.")
                } else {
                    format!(
                        "[{id}] This very call was made before and was not made again: its output is {id} above. \
                         read_evidence looks further into it."
                    )
                };
                return Ok(Answer::Text(hint.map_or_else(|| text.clone(), |hint| format!("{text}\n{hint}"))));
            }
        }
        if *left >= MOST_CALLS {
            return Err(Refusal::TooMany(MOST_CALLS));
        }
        *left += 1;
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        let times = self.seen.get(&key).map_or(1, |s| s.times);
        self.seen.insert(key, Seen { number, turn, times });
        Ok(Answer::Output(Planned { number, turn, own: None, tool, arguments, given: None }, hint))
    }

    fn submission(
        &mut self,
        record: &TurnRecord,
        handed: &Handed<'_>,
        made: &[(String, Planned)],
    ) -> Option<Next> {
        self.not_made_beside_the_report(record, handed);
        let (draft, problems) = match report::read(handed.report()) {
            Ok(submission) => {
                let draft = report::check(submission, |id| self.find(id, u32::MAX), &self.alert);
                self.checked = Some((draft.found, draft.quotes));
                let problems = draft.problems.clone();
                (Some(draft), problems)
            }
            Err(problems) => (None, problems),
        };
        if let Some(draft) = draft.as_ref().filter(|d| d.problems.is_empty()) {
            self.left_unanswered(record);
            return Some(Next::Finish(Ok(Box::new(draft.clone()))));
        }
        // One repair, and only where a turn is left for it; a report that was cut off is asked for once more in any case.
        let cut_off =
            draft.is_none() && record.response.incomplete == Some(Incomplete::NoRoom) && !self.again;
        let no_more = record.forced.is_some_and(|forced| forced != Forced::Looping)
            || record.turn >= self.case.card.max_iterations;
        if self.repairing || (no_more && !cut_off) {
            let earlier = self.rejected.take();
            self.left_unanswered(record);
            return Some(Next::Finish(
                draft
                    .or(earlier)
                    .map(Box::new)
                    .ok_or_else(|| format!("the model's report could not be read: {}", problems.join("; "))),
            ));
        }
        if no_more {
            self.again = true;
        } else {
            self.repairing = true;
        }
        self.rejected = draft;
        let told = if cut_off {
            CUT_OFF.to_owned()
        } else {
            format!(
                "The report was not accepted:\n- {}\nCall submit_report once more, mended: copy quotes from the \
                 evidence character by character, and drop or weaken what no quote supports. What still fails \
                 is shown as unsupported.",
                problems.join("\n- ")
            )
        };
        self.input.push(self.response(record, made));
        for (index, call) in record.response.calls().enumerate() {
            let output = if handed.is_call(index) { told.clone() } else { REPORTED_INSTEAD.to_owned() };
            self.input.push(Item::CallOutput { call_id: call.call_id.clone(), output });
        }
        if matches!(handed, Handed::Text(_)) {
            self.input.push(Item::User { text: told });
        }
        self.input.extend(self.naming(record, made));
        self.deny_requests(record, &Refusal::ReportDue(REPORTED_INSTEAD));
        None
    }

    /// The calls that a turn asks for beside its report are not made.
    fn not_made_beside_the_report(&mut self, record: &TurnRecord, handed: &Handed<'_>) {
        for (index, call) in record.response.calls().enumerate() {
            if !handed.is_call(index) {
                self.refuse(record.turn, &call.name, RefusalReason::ReportDue);
            }
        }
        self.note_requests(record);
    }

    fn give_up(&mut self) -> Next {
        let earlier = self.rejected.take().map(Box::new);
        let turns = self.case.turns;
        let last = turns.last().map_or_else(String::new, |turn| format!("; {}", last_words(turn)));
        Next::Finish(
            earlier
                .ok_or_else(|| format!("the model submitted no report within {} turns{last}", turns.len())),
        )
    }
}

fn first_item(case: Case<'_>) -> String {
    let opening = case.opening;
    let mut text = format!(
        "{}\n\n# The alerts, as they were sent\n\n{}\n\n# Evidence gathered so far\n\n",
        opening.task,
        fenced(&opening.alert)
    );
    let held: Vec<String> = (1..=opening.evidence_calls).filter_map(|number| case.shown(number)).collect();
    if held.is_empty() {
        text.push_str("None yet.");
    } else {
        text.push_str(&held.join("\n\n"));
    }
    if !opening.gaps.is_empty() {
        text.push_str("\n\n# What is missing\n\n");
        text.push_str(&fenced(&opening.gaps.join("\n")));
    }
    text
}
