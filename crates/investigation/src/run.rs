//! The loop: load, open, ask and call by turns, conclude. Every step is stored before the next one, so a run that is
//! begun again goes on where the last one ended.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::budget::{Held, Limits, Scope, UsedUp};
use sentinel_core::card::{ModelId, ToolId};
use sentinel_core::chain::{Sealed, unsealed};
use sentinel_core::incident::{Fence, Head, IncidentId};
use sentinel_core::lifecycle::Rules;
use sentinel_core::ports::{Ports, StoreError};
use sentinel_core::price::Price;
use sentinel_core::redact::Redactor;
use sentinel_core::report::Report;
use sentinel_core::without_secrets::redact_text;
use serde_json::{Value, json};

use crate::aside::aside;
use crate::checklist;
use crate::conversation::{Case, Next, Planned, Readings, Replayed, replay};
use crate::error::InvestigateError;
use crate::playbook::Playbook;
use crate::policy::Policy;
use crate::ports::{Model, ToolBox};
use crate::progress::{EventSender, Progress};
use crate::refusal::{RefusalReason, Refused};
use crate::report::{Draft, Facts, conclude, evidence_only};
use crate::situation::Situation;
use crate::transcript::{Forced, Opening, Stored};
use crate::usage;

mod bounds;
mod budget;
mod calls;
mod model;
mod notes;
mod opening;

use model::{Asked, Asking};

/// How often a run that finds no snapshot looks again, and how long it waits in between.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// Then it goes on this much later.
const NO_SNAPSHOT_WAIT: Duration = Duration::from_secs(5);
/// With less time than this before the deadline, nothing is begun.
const LEAST_TIME: Duration = Duration::from_secs(2);

/// One investigation, or what is left of it.
#[derive(Debug)]
pub struct Run<'a> {
    /// The store, the queue and the time.
    pub ports: &'a Ports,
    /// The head as the claim left it.
    pub head: Head,
    /// The lease.
    pub fence: Fence,
    /// The card's rules.
    pub rules: &'a Rules,
    /// The card.
    pub playbook: &'a Playbook,
    /// Who concludes; `None`: nobody, the report holds the evidence only.
    pub model: Option<&'a dyn Model>,
    /// The tools.
    pub tools: &'a dyn ToolBox,
    /// What takes secrets out, as the incident's own placeholders show them.
    pub redactor: &'a Redactor,
    /// What models cost, by their names in the configuration.
    pub prices: &'a BTreeMap<ModelId, Price>,
    /// Who limits what is paid for, the card's own limits first. Empty: nobody.
    pub budget: &'a [(Scope, Limits)],
    /// The most tokens of one answer: what a call is reserved for.
    pub max_output_tokens: u32,
    /// Nothing runs past it: the invocation's end less its margin.
    pub deadline: UnixMs,
    /// The longest one model call may take.
    pub model_timeout: Duration,
    /// Why there is no model, for the report.
    pub no_model_reason: Option<String>,
    /// Where progress is told.
    pub events: Option<&'a EventSender>,
}

/// How a run ended. The head is the one that the last write left.
#[must_use]
#[derive(Debug)]
pub enum Outcome {
    /// The checked report: store it, then commit.
    Report {
        /// The report.
        report: Box<Report>,
        /// The head.
        head: Head,
        /// What the run stored that no entry of the record's chain seals yet.
        unsealed: Vec<Sealed>,
    },
    /// Go on later.
    Yield {
        /// Not before.
        not_before: UnixMs,
        /// Why.
        reason: String,
        /// The head.
        head: Head,
        /// As of a report.
        unsealed: Vec<Sealed>,
    },
    /// It cannot succeed.
    Fail {
        /// Why, for people.
        reason: String,
        /// The head.
        head: Head,
        /// As of a report.
        unsealed: Vec<Sealed>,
    },
    /// Somebody else holds the incident: publish nothing.
    LeaseLost,
}

/// Investigates.
///
/// # Errors
/// The store or the queue. What was paid for is stored; running again does not pay for it again.
pub async fn investigate(run: Run<'_>) -> Result<Outcome, InvestigateError> {
    let mut session = Session::new(run);
    let ended = session.go().await;
    // Whoever goes on later finds it reserved, and what fails does so before it reserves or after its first answer.
    if ended.is_ok() {
        session.settle_investigation(false).await;
    }
    let unsealed = session.take_unsealed();
    let stop = match ended {
        Ok(report) => {
            return Ok(Outcome::Report { report: Box::new(report), head: session.run.head, unsealed });
        }
        Err(stop) => stop,
    };
    let head = session.run.head;
    match stop {
        Stop::Yield { not_before, reason } => Ok(Outcome::Yield { not_before, reason, head, unsealed }),
        Stop::Fail(reason) => Ok(Outcome::Fail { reason, head, unsealed }),
        // `go` makes a report of it.
        Stop::UsedUp(limit) => Ok(Outcome::Fail { reason: limit.to_string(), head, unsealed }),
        Stop::NoRoom(short) => Ok(Outcome::Fail { reason: short.to_string(), head, unsealed }),
        Stop::LeaseLost => Ok(Outcome::LeaseLost),
        Stop::Error(e) => Err(*e),
    }
}

fn unreadable(what: &str) -> Stop {
    Stop::Fail(format!("what is stored of it cannot be read by this version: {what}"))
}

/// Why a run ends without a report.
#[derive(Debug)]
enum Stop {
    Yield {
        not_before: UnixMs,
        reason: String,
    },
    Fail(String),
    UsedUp(UsedUp),
    /// What the card allows one investigation leaves no room for the next turn.
    NoRoom(bounds::Short),
    LeaseLost,
    Error(Box<InvestigateError>),
}

impl<E: Into<InvestigateError>> From<E> for Stop {
    fn from(e: E) -> Self {
        Self::Error(Box::new(e.into()))
    }
}

struct Session<'a> {
    run: Run<'a>,
    id: IncidentId,
    stored: Stored,
    /// When the first attempt began.
    began: UnixMs,
    /// A call was made in this slice: yielding now is progress.
    worked: bool,
    /// Hosted servers that are out, with what the model's service said.
    without: BTreeMap<String, String>,
    /// The evidence up to this number is shown as its ids.
    cut: u32,
    /// The turn for which it was last cut.
    cut_at: Option<u32>,
    /// What counts this investigation, until its first answer is stored.
    investigation: Option<Held>,
    /// A call may be billed that was not answered.
    billed: bool,
    readings: Readings,
    /// What is stored and no entry of the record's chain seals yet: the next grant does.
    unsealed: Mutex<Vec<Sealed>>,
}

impl<'a> Session<'a> {
    fn new(run: Run<'a>) -> Self {
        let id = run.head.id.clone();
        let began = run.ports.clock.now();
        Self {
            run,
            id,
            stored: Stored::default(),
            began,
            worked: false,
            without: BTreeMap::new(),
            cut: 0,
            cut_at: None,
            investigation: None,
            billed: false,
            readings: Readings::default(),
            unsealed: Mutex::default(),
        }
    }

    fn take_unsealed(&self) -> Vec<Sealed> {
        std::mem::take(&mut *self.unsealed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add_unsealed(&self, children: impl IntoIterator<Item = Sealed>) {
        self.unsealed.lock().unwrap_or_else(PoisonError::into_inner).extend(children);
    }

    fn now(&self) -> UnixMs {
        self.run.ports.clock.now()
    }

    fn tell(&self, mut progress: Progress) {
        if let Some(events) = self.run.events {
            progress.redact(self.run.redactor);
            // Nobody watches any more: nothing to do about it.
            let _ = events.send(progress);
        }
    }

    /// Tells of a call that is not made.
    fn tell_refused(&self, refused: &Refused) {
        let Refused { turn, tool, reason } = refused;
        let (turn, reason) = (*turn, *reason);
        if reason == RefusalReason::NotApproved {
            tracing::error!(turn, ?tool, %reason, "the model's service says that it made a call that was not approved");
        } else {
            tracing::warn!(turn, ?tool, %reason, "a tool call is refused");
        }
        self.tell(Progress::Refused { incident: self.id.clone(), turn, tool: tool.clone(), reason });
    }

    async fn go(&mut self) -> Result<Report, Stop> {
        let situation = self.load().await?;
        if let Some(report) = self.stored.report.take() {
            return Ok(report);
        }
        let playbook = self.run.playbook;
        let card = playbook.card();
        self.tell(Progress::Started {
            incident: self.id.clone(),
            card: card.name.clone(),
            alerts: situation.alerts.len(),
            turns: self.stored.turns.len(),
            evidence: self.stored.outputs.len(),
        });
        let opening = match self.stored.opening() {
            Some(opening) => opening.clone(),
            None => self.open(&situation).await?,
        };
        let allowed = opening
            .allowed
            .iter()
            .map(|(server, tool)| ToolId { server: server.clone(), tool: tool.clone() });
        let allowed = allowed.collect();
        let policy = aside(|| {
            Policy::new(card, playbook.tool_rules(), &situation, &allowed, &opening.tools)
                .with_hosted(&opening.hosted)
        })
        .await;
        self.without = self.servers_out(&opening);
        self.cut = self.stored.turns.last().map_or(0, |turn| turn.cut);
        // What is stored was told when it happened.
        let mut told = None;
        loop {
            let case = Case {
                opening: &opening,
                card,
                policy: &policy,
                turns: &self.stored.turns,
                outputs: &self.stored.outputs,
                readings: &self.readings,
                cut: self.cut,
            };
            let replayed = aside(|| replay(case)).await;
            let new = replayed.refused.iter().skip(told.unwrap_or(replayed.refused.len()));
            new.for_each(|refused| self.tell_refused(refused));
            told = Some(replayed.refused.len());
            if let Some((found, quotes)) = replayed.checked {
                let repair = matches!(replayed.next, Next::Ask { .. });
                self.tell(Progress::Checked { incident: self.id.clone(), found, quotes, repair });
            }
            let ended = match (&replayed.next, self.run.model) {
                (Next::Finish(Ok(draft)), _) => Some(Ok((**draft).clone())),
                (Next::Finish(Err(reason)), _) => Some(Err(reason.clone())),
                (_, None) => {
                    let reason = self.run.no_model_reason.as_deref().unwrap_or("none is configured");
                    Some(Err(format!("no model was asked: {reason}")))
                }
                // What the model's service called is paid for: to store it costs nothing.
                (Next::Call(planned), _) if planned.iter().all(|p| p.given.is_some()) => {
                    self.call(planned.iter().map(|p| (p.clone(), None)).collect(), None).await?;
                    None
                }
                (_, Some(_)) if self.is_over() => Some(Err(self.over())),
                (Next::Call(planned), Some(_)) => {
                    // The configuration may have changed since the run began, and the alerts that rules speak of.
                    let decided = |p: &Planned| (p.clone(), policy.decide(&p.tool, &p.arguments).err());
                    let batch = aside(|| planned.iter().map(decided).collect()).await;
                    self.call(batch, Some(&policy)).await?;
                    None
                }
                (Next::Ask { turn, forced }, Some(model)) => {
                    let forced = forced.or_else(|| self.is_nearly_over().then_some(Forced::TimeNearlyOver));
                    let asking =
                        Asking { model, turn: *turn, forced, opening: &opening, replayed: &replayed };
                    match self.ask(&asking).await {
                        Ok(Asked::Answered | Asked::Cut) => None,
                        Ok(Asked::GivenUp(reason)) => Some(Err(reason)),
                        Err(Stop::UsedUp(limit)) => Some(Err(self.used_up(&limit).await?)),
                        Err(Stop::NoRoom(short)) => Some(Err(short.to_string())),
                        Err(stop) => return Err(stop),
                    }
                }
            };
            if let Some(draft) = ended {
                return aside(|| self.report(draft, &situation, &opening, &policy, replayed)).await;
            }
        }
    }

    /// Reads what is stored. A job may arrive before the snapshot of its alert can be read.
    async fn load(&mut self) -> Result<Situation, Stop> {
        for look in 1..=LOOKS {
            let children = match self.run.ports.store.children(&self.id, self.run.fence.generation).await {
                // Damaged for good: another attempt would find the same.
                Err(StoreError::Unreadable { item, reason }) => {
                    return Err(unreadable(&format!("{item}: {reason}")));
                }
                children => children?,
            };
            let redactor = self.run.redactor;
            self.stored = aside(|| {
                let mut stored = Stored::read(&children);
                // Who took the alerts in may know fewer secrets than whoever investigates them.
                for (_, notification) in &mut stored.snapshots {
                    notification.redact(redactor);
                }
                stored
            })
            .await;
            self.take_unsealed();
            let left_behind = aside(|| unsealed(&self.run.head, &children)).await;
            self.add_unsealed(left_behind);
            if let Some(child) = self.stored.unreadable.first() {
                return Err(unreadable(child));
            }
            self.began = self.stored.began().unwrap_or(self.began);
            if let Some(situation) = Situation::of(&self.stored.snapshots, &self.run.head) {
                return Ok(situation);
            }
            if let Some(snapshot) = self.stored.unreadable_snapshots.first() {
                return Err(unreadable(snapshot));
            }
            if look < LOOKS {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Err(self.put_off(NO_SNAPSHOT_WAIT, "the alert's snapshot cannot be read yet".to_owned()))
    }

    fn put_off(&self, wait: Duration, mut reason: String) -> Stop {
        redact_text(&mut reason, self.run.redactor);
        self.tell(Progress::PutOff { incident: self.id.clone(), reason: reason.clone() });
        Stop::Yield { not_before: self.now().plus(wait), reason }
    }

    /// What is left of the card's time-out.
    fn time_left(&self) -> Duration {
        self.began.plus(self.run.playbook.card().timeout).since(self.now())
    }

    fn is_over(&self) -> bool {
        self.time_left().is_zero()
    }

    fn over(&self) -> String {
        let timeout = self.run.playbook.card().timeout.as_secs();
        let turns = self.stored.turns.len();
        let last = self
            .run
            .head
            .reason
            .as_ref()
            .map_or_else(String::new, |r| format!("; it was put off because {r}"));
        format!("the card's time-out of {timeout} s was over after {turns} model turns{last}")
    }

    /// Whether the next model call is the last that can end in time.
    fn is_nearly_over(&self) -> bool {
        self.time_left() <= self.run.model_timeout.min(self.run.playbook.card().timeout / 4)
    }

    /// Makes the report, holds it against the checklist, and takes secrets out of it.
    fn report(
        &self,
        draft: Result<Draft, String>,
        situation: &Situation,
        opening: &Opening,
        policy: &Policy<'_>,
        replayed: Replayed,
    ) -> Result<Report, Stop> {
        let card = self.run.playbook.card();
        let ms = u64::try_from(self.now().since(self.began).as_millis()).unwrap_or(u64::MAX);
        let outputs: Vec<_> = self.stored.outputs.values().collect();
        let (lost, noted) = notes::of_outputs(&outputs);
        let mut gaps = [&*opening.gaps, &*replayed.gaps, &*lost].concat();
        // A report that there was no turn left to mend is better than none.
        let draft = match (draft, replayed.rejected) {
            (Err(reason), Some(rejected)) => {
                gaps.push(format!("The model could not mend its report: {reason}."));
                Ok(rejected)
            }
            (draft, _) => draft,
        };
        let facts = Facts {
            situation,
            gaps: &gaps,
            model: self.stored.turns.last().map(|t| t.response.model.clone()),
            usage: usage::sum(
                &self.stored.turns,
                outputs.iter().copied(),
                |turn| self.price(&turn.asked()),
                ms,
            ),
            outputs,
        };
        let recorded = self.run.model.is_some_and(Model::is_recorded);
        let annotations = situation.annotations(card);
        let mut report = match draft {
            Ok(draft) => conclude(draft, facts, recorded),
            Err(reason) => evidence_only(&reason, &annotations, facts),
        };
        let facts = self.facts(&report, situation, policy);
        let refused = self.stored.outputs.values().filter_map(|output| {
            let reason = output.refusal?;
            Some(Refused { turn: output.turn, tool: output.tool.clone(), reason })
        });
        let mut refused: Vec<Refused> = refused.chain(replayed.refused).collect();
        refused.sort_by_key(|r| r.turn);
        report.notes = notes::of(&self.stored.turns, opening, card, &refused);
        report.notes.extend(noted);
        report.checklist = self.run.playbook.checklist().run(&facts);
        report.verdict = checklist::verdict(&report.checklist, report.verdict);
        let encode = |source| InvestigateError::Encode { what: "the report", source };
        let report = report.redacted(self.run.redactor).map_err(encode)?;
        self.tell(Progress::Concluded { incident: self.id.clone(), verdict: report.verdict });
        Ok(report)
    }

    /// The hosted servers that the last turn did without, and those that the model's service does not call any more.
    fn servers_out(&self, opening: &Opening) -> BTreeMap<String, String> {
        let last = self.stored.turns.last().map(|turn| turn.without.as_slice()).unwrap_or_default();
        let mut out: BTreeMap<String, String> =
            last.iter().map(|w| (w.server.clone(), w.reason.clone())).collect();
        let first = &self.run.playbook.card().model;
        for hosted in &opening.hosted {
            if self.run.model.is_some_and(|model| model.hosts(first, &hosted.server).is_none()) {
                let reason = "the configuration changed: the model's service does not call it any more";
                out.insert(hosted.server.clone(), reason.to_owned());
            }
        }
        out
    }

    /// What a model costs; records that do not say which one was asked mean the card's.
    fn price(&self, model: &ModelId) -> Option<Price> {
        let model = if model.name.is_empty() { &self.run.playbook.card().model } else { model };
        self.run.prices.get(model).copied()
    }

    /// What checklist rules speak of.
    fn facts(&self, report: &Report, situation: &Situation, policy: &Policy<'_>) -> Value {
        let evidence: Vec<Value> = self
            .stored
            .outputs
            .values()
            .map(
                |e| json!({"id": e.id, "tool": e.tool, "ok": e.ok, "arguments": e.arguments, "text": e.text}),
            )
            .collect();
        json!({
            "alert": situation.alert_json(),
            "labels": situation.labels(),
            "evidence": evidence,
            "tools": policy.offered().chain(policy.hosted()).map(ToString::to_string).collect::<Vec<_>>(),
            "report": report,
            "alert_verified": situation.verified,
        })
    }
}
