//! An incident's record: the head item, its deliveries and its children.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::UnixMs;
use crate::alert::Labels;
use crate::chain::Signature;
pub use crate::members::{MemberId, Members};
use crate::report::Verdict;

/// The dedupe key: 64 hexadecimal digits of SHA-256.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(String);

impl IncidentId {
    /// An id as the store holds it.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One episode of an incident: its opening time in milliseconds, at least the previous one's + 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Gen(pub i64);

impl fmt::Display for Gen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an incident stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for a worker.
    Pending,
    /// A worker holds its lease.
    Running,
    /// Its report is stored.
    Done,
    /// It ended without a report; `reason` says why.
    Failed,
    /// It resolved by itself before anything was spent.
    Suppressed,
    /// A person stopped it.
    Aborted,
}

impl State {
    /// Whether nothing more is investigated in this generation.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Suppressed | Self::Aborted)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Suppressed => "suppressed",
            Self::Aborted => "aborted",
        })
    }
}

/// What a sink is told, in the order in which one sink is told it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A worker has begun to investigate.
    Started,
    /// The report is there.
    Findings,
    /// The investigation failed, with its reason.
    Failed,
    /// A person stopped the investigation.
    Aborted,
    /// The alert resolved by itself before anything was spent.
    Suppressed,
    /// Alerts joined after the findings, or while they were being made.
    Updated,
    /// The alerts have resolved.
    Resolved,
    /// It comes and goes more often in an hour than its card lets it be investigated: this stands for the rest.
    Flapping,
    /// The budget is used up: these incidents ended on their evidence alone. Told of a notice, not of an incident.
    Storm,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Started,
        Self::Findings,
        Self::Failed,
        Self::Aborted,
        Self::Suppressed,
        Self::Updated,
        Self::Resolved,
        Self::Flapping,
        Self::Storm,
    ];

    /// Whether it says how a generation ended. There is one such event a generation.
    pub const fn is_ending(self) -> bool {
        matches!(self, Self::Findings | Self::Failed | Self::Aborted | Self::Suppressed)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "started",
            Self::Findings => "findings",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Suppressed => "suppressed",
            Self::Updated => "updated",
            Self::Resolved => "resolved",
            Self::Flapping => "flapping",
            Self::Storm => "storm",
        })
    }
}

/// Which delivery: one event to one sink.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// What is told.
    #[serde(rename = "e")]
    pub event: Event,
    /// The sink's name in the configuration.
    #[serde(rename = "s")]
    pub sink: String,
}

/// How far a delivery is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// To be made from `at` on.
    Due,
    /// Being made by `claimer`, until `at`.
    Claimed,
    /// Made.
    Sent,
    /// Given up.
    Failed,
}

/// One delivery of the current generation. Its stored names are short, because a head holds up to four a sink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// What is told, and to whom.
    #[serde(rename = "k")]
    pub key: DeliveryKey,
    /// How far it is.
    #[serde(rename = "s")]
    pub state: DeliveryState,
    /// Due from, claimed until, or settled at.
    #[serde(rename = "t")]
    pub at: UnixMs,
    /// How often it was tried.
    #[serde(rename = "n")]
    pub tries: u32,
    /// Who makes it now.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub claimer: Option<String>,
    /// The destination's own id of what was delivered.
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// More to tell came up while it was claimed: it is due again once that ends.
    #[serde(rename = "a", default, skip_serializing_if = "std::ops::Not::not")]
    pub rearmed: bool,
    /// When an `updated` or a `resolved` was armed: each arming is a telling of its own.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub armed: Option<UnixMs>,
    /// Why its last try failed, or why it was told in another form than it was meant to be; cut. Of each sink only the
    /// latest is kept.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Delivery {
    /// Whether nothing remains to be done about it.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, DeliveryState::Sent | DeliveryState::Failed)
    }

    /// Whether it may be claimed at `now`: due, or claimed by someone whose time is over.
    pub fn is_due(&self, now: UnixMs) -> bool {
        !self.is_settled() && self.at <= now
    }
}

/// The lifecycle record of one dedupe key. At most 4 KB, and 5 with the
/// entries of its record that it holds; everything large is a [`Child`].
///
/// Field names are the stored names. The record's chain holds digests of this as JSON, so a field that is added later is
/// left out of it where it has its default. `version` and `writer` belong to [`crate::drive`], everything else to
/// [`crate::lifecycle`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The record's shape; see [`Head::SCHEMA`].
    pub schema: u32,
    /// The dedupe key.
    pub id: IncidentId,
    /// The incident card's name.
    pub card: String,
    /// The labels of the dedupe key, each value cut for display.
    pub labels: Labels,
    /// Counts every write; a swap names the version that it read.
    pub version: u64,
    /// Who made the last write: unique to it, so that a writer recognises its own.
    pub writer: String,
    /// Where it stands.
    pub state: State,
    /// The current generation.
    #[serde(rename = "gen")]
    pub generation: Gen,
    /// Counts the leases of all time; (gen, epoch) is a fence.
    pub epoch: u64,
    /// The claim that holds the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// When the lease ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<UnixMs>,
    /// How often this generation was begun and not yielded.
    pub attempts: u32,
    /// How often it was yielded for later.
    pub slices: u32,
    /// The last model turn that was granted; 0: nothing was spent.
    pub turn: u32,
    /// Nobody starts before.
    pub not_before: UnixMs,
    /// When the sweeper last sent the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<UnixMs>,
    /// How often the sweeper sent it.
    pub sends: u32,
    /// No new generation before: opening + dedupe TTL.
    pub reopen_after: UnixMs,
    /// The latest firing `startsAt` of the generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<UnixMs>,
    /// The latest firing `startsAt` of all, later joins included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<UnixMs>,
    /// The latest `endsAt` of a full resolve of this generation; whether it still is the end says [`Head::resolved`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<UnixMs>,
    /// What fires, and is not what was investigated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Again>,
    /// Hash of the last notification's members, their status and when they began.
    pub digest: String,
    /// Members seen in this generation.
    pub known: Members,
    /// Members last seen firing, over all senders.
    pub firing: Members,
    /// The sender left alerts out of a notification of this generation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// What is to be told to whom.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<Delivery>,
    /// The committed report's verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Why the last attempt stopped, or why it failed or was aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many generations were opened lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub openings: Option<Openings>,
    /// When the store may collect it: only ever set on a terminal, settled head.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<UnixMs>,
    /// Who deleted what there was, and when: then this is no more than a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Deleted>,
    /// The newest entries of the record's chain, the oldest first, as text: see [`crate::chain`]. Belongs to
    /// [`crate::drive`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The newest signature over an entry of the chain, where the deployment has a key. Belongs to [`crate::drive`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signature>,
}

/// A person's deletion of an incident.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// When.
    #[serde(rename = "t")]
    pub at: UnixMs,
    /// Who, as they said; cut.
    #[serde(rename = "w")]
    pub who: String,
}

/// An incident whose findings say nothing of what fires now, because that came up later: it is investigated when the
/// window is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Again {
    /// Since when it fires, by the payload, or when it was told where that does not say.
    #[serde(rename = "s")]
    pub since: UnixMs,
    /// It is not investigated again before.
    #[serde(rename = "n")]
    pub not_before: UnixMs,
}

/// Generations that were opened within one hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Openings {
    /// When the first of them was: the hour begins there.
    pub since: UnixMs,
    /// How many.
    pub count: u32,
}

impl Openings {
    /// Over which time generations are counted.
    pub const WINDOW: Duration = Duration::from_hours(1);

    /// With one more, opened at `now`.
    pub fn after(before: Option<Self>, now: UnixMs) -> Self {
        match before {
            Some(Self { since, count }) if since.plus(Self::WINDOW) > now => {
                Self { since, count: count.saturating_add(1) }
            }
            _ => Self { since: now, count: 1 },
        }
    }
}

impl Head {
    /// The record's current shape. An older one is read forward; a newer one is refused by the store.
    pub const SCHEMA: u32 = 2;

    /// Whether every delivery is sent or given up.
    pub fn is_settled(&self) -> bool {
        self.deliveries.iter().all(Delivery::is_settled)
    }

    /// When all of its alerts had ended. `None`: some fire, whatever was said of their end before.
    pub fn resolved(&self) -> Option<UnixMs> {
        self.resolved_at.filter(|_| self.firing.is_empty())
    }

    /// When the next generation may begin without another word of a sender, of what is over and told and fires again.
    pub fn reopens_at(&self) -> Option<UnixMs> {
        let again = self.again.filter(|_| self.state.is_terminal() && self.is_settled())?;
        Some(self.lease_until.map_or(again.not_before, |until| until.max(again.not_before)))
    }

    /// Whether this can be told in the state that the incident is in: while it runs that it has started, and the rest
    /// once it has ended.
    fn may_tell(&self, event: Event) -> bool {
        self.state.is_terminal() || (self.state == State::Running && event == Event::Started)
    }

    /// What each sink is to be told next. A sink is told one thing at a time, in the order of [`Event`]: whatever is
    /// behind waits until what is before it is told or given up.
    pub fn next_deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter().filter(|d| !d.is_settled() && self.may_tell(d.key.event)).filter(|d| {
            let of_sink = |other: &&Delivery| other.key.sink == d.key.sink && !other.is_settled();
            self.deliveries.iter().filter(of_sink).all(|other| in_turn(d) <= in_turn(other))
        })
    }

    /// The deliveries that may be claimed at `now`, in the order in which they can be: the next of each sink where it
    /// is due, and what is due behind it.
    pub fn due_deliveries(&self, now: UnixMs) -> Vec<DeliveryKey> {
        let open: Vec<&str> =
            self.next_deliveries().filter(|d| d.is_due(now)).map(|d| d.key.sink.as_str()).collect();
        let mut due: Vec<&Delivery> = self
            .deliveries
            .iter()
            .filter(|d| d.is_due(now) && self.may_tell(d.key.event) && open.contains(&d.key.sink.as_str()))
            .collect();
        due.sort_by_key(|d| in_turn(d));
        due.into_iter().map(|d| d.key.clone()).collect()
    }

    /// The destination's id of the latest thing that a sink was told in this generation, where it gave one: what its
    /// later events belong to.
    pub fn latest_remote(&self, sink: &str) -> Option<&str> {
        let told = self.deliveries.iter().filter(|d| d.key.sink == sink);
        told.filter_map(|d| Some((d.at, d.remote.as_deref()?))).max().map(|(_, remote)| remote)
    }
}

/// The order in which a sink's deliveries come: one that is being made, or was when its teller was lost, is first.
fn in_turn(d: &Delivery) -> (bool, Event) {
    (d.state != DeliveryState::Claimed, d.key.event)
}

/// One lease of one generation: what a writer must still hold for its write to count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fence {
    /// The generation.
    pub generation: Gen,
    /// The lease's number.
    pub epoch: u64,
}

/// The queue message: a pointer, never data.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Which incident.
    pub incident: IncidentId,
    /// Which generation of it; an older one is acknowledged and forgotten.
    #[serde(rename = "gen")]
    pub generation: Gen,
}

/// What kind of child an item is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChildName {
    /// A notification, named by its digest.
    Snapshot(String),
    /// A model response, by turn (from 1).
    Turn(u32),
    /// A tool output, by evidence number (`E1` is 1).
    Output(u32),
    /// The checked report.
    Report,
    /// Entries of the record's chain, up to this number.
    Entries(u64),
    /// The same, stored by intake, which cannot write into the record.
    IntakeEntries(u64),
    /// A list of children that one entry of the chain seals, by its digest.
    List(String),
}

impl ChildName {
    /// Whether intake writes it. Everything else is the record of an investigation, which intake can neither read nor
    /// write.
    pub const fn is_intakes(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::IntakeEntries(_))
    }

    /// Whether the chain seals it: it is no part of the chain itself.
    pub const fn is_sealed(&self) -> bool {
        matches!(self, Self::Snapshot(_) | Self::Turn(_) | Self::Output(_) | Self::Report)
    }

    /// The child of this name; `by_intake` as [`ChildName::is_intakes`] says.
    pub fn parse(name: &str, by_intake: bool) -> Option<Self> {
        match name.split_once('#') {
            Some(("SNAP", digest)) => Some(Self::Snapshot(digest.into())),
            Some(("TURN", n)) => n.parse().ok().map(Self::Turn),
            Some(("OUT", n)) => n.parse().ok().map(Self::Output),
            Some(("AUD", n)) if by_intake => n.parse().ok().map(Self::IntakeEntries),
            Some(("AUD", n)) => n.parse().ok().map(Self::Entries),
            Some(("LIST", digest)) => Some(Self::List(digest.into())),
            None if name == "REPORT" => Some(Self::Report),
            _ => None,
        }
    }
}

/// The name as it is stored.
impl fmt::Display for ChildName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(digest) => write!(f, "SNAP#{digest}"),
            Self::Turn(n) => write!(f, "TURN#{n:06}"),
            Self::Output(n) => write!(f, "OUT#{n:06}"),
            Self::Report => f.write_str("REPORT"),
            Self::Entries(n) | Self::IntakeEntries(n) => write!(f, "AUD#{n:012}"),
            Self::List(digest) => write!(f, "LIST#{digest}"),
        }
    }
}

/// A large part of an incident: written once, never changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Child {
    /// The generation that it belongs to.
    pub generation: Gen,
    /// What it is.
    pub name: ChildName,
    /// JSON text.
    pub body: String,
}
