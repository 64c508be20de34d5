//! Every rule about an incident's life, as one pure function: [`decide`].
//!
//! An input is a type, its outcome another, so that a caller cannot ignore what came of it. [`crate::drive`] is the
//! shell that runs a decision; a model checker runs the same function. There is no second copy of a rule.
//!
//! Where the head is absent, `decide` is given `None`. `now` is the time of the caller; all tests of *episodes* use
//! the payload's own times instead, because senders and receivers do not share a clock.

mod arrival;
mod delete;
mod delivery;
mod notice;
mod opening;
mod run;
mod sweep;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use arrival::strongest;
pub use arrival::{Arrival, Member, Received, Taken};
pub use delete::{Delete, Deletion};
pub use delivery::{ClaimDelivery, Delivered, DeliveryClaimed, DeliveryRecorded, Missed};
pub use notice::{BETWEEN_NOTICES, GATHER, Note, notice_id};
pub use opening::{Reopened, WindowOver};
pub use run::{Abort, Aborted, Claim, Claimed, Commit, Ended, Fail, Paid, PaidOutcome, Yield, Yielded};
pub use sweep::{Restart, Sweep, Swept};

use crate::UnixMs;
use crate::card::{Card, Subscription};
use crate::chain::Happened;
use crate::incident::{Delivery, DeliveryKey, DeliveryState, Event, Fence, Head, State};

/// The longest a fresh claim may be silent before it grants its first call.
pub const FIRST_LEASE: Duration = Duration::from_mins(1);
/// A lease outlives the call that it was taken for by this much: time to store the answer.
pub const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// How long a delivery may take before another may try it.
pub const DELIVERY_LEASE: Duration = Duration::from_mins(2);
/// The most bytes of a reason on the head.
const MOST_REASON: usize = 200;
/// The most bytes of who deleted an incident on its tombstone.
const MOST_WHO: usize = 100;
/// The longest that a queue holds a message back. Whoever has to wait longer is sent for by the sweeper, when it is time.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
pub const LONGEST_HOP: Duration = Duration::from_mins(15);
/// The most bytes of a sink's last error on the head.
const MOST_ERROR: usize = 92;
/// The longest id of a destination that the head keeps, in bytes; of a longer one nothing is kept.
pub const MOST_REMOTE: usize = 32;

/// What the card says about an incident's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How long to wait for the alert to resolve by itself.
    pub wait: Duration,
    /// The shortest time between two generations.
    pub dedupe_ttl: Duration,
    /// Investigate again an alert that merely goes on for this long; `None`: never.
    pub reinvestigate_after: Option<Duration>,
    /// The most generations of one incident an hour; `None`: any number.
    pub generations_per_hour: Option<u32>,
    /// How often an investigation is begun before it is given up.
    pub max_attempts: u32,
    /// How often it may be put off (deadline near, model out).
    pub max_slices: u32,
    /// How often one delivery is tried.
    pub max_tries: u32,
    /// How long a settled head is kept.
    pub retention: Duration,
    /// Who is told, and what.
    pub sinks: Vec<Subscription>,
}

impl Rules {
    /// Slices of one generation.
    pub const MAX_SLICES: u32 = 20;
    /// Tries of one delivery: with [`Rules::delivery_backoff`] about an hour.
    pub const MAX_TRIES: u32 = 8;
    /// How long a settled head is kept.
    pub const RETENTION: Duration = Duration::from_hours(30 * 24);
    /// How long the record of a generation is kept from its opening where nobody says otherwise: `defaults.audit-retention`.
    pub const AUDIT_RETENTION: Duration = Duration::from_hours(400 * 24);

    /// The rules of a card.
    pub fn of(card: &Card) -> Self {
        Self {
            wait: card.wait,
            dedupe_ttl: card.dedupe_ttl,
            reinvestigate_after: card.reinvestigate_after,
            generations_per_hour: card.generations_per_hour,
            max_attempts: card.attempts,
            sinks: card.sinks.clone(),
            ..Self::of_no_card()
        }
    }

    /// The rules of an incident whose card is no longer configured: it is ended, and nobody is told.
    pub fn of_no_card() -> Self {
        Self {
            wait: Duration::ZERO,
            dedupe_ttl: Duration::from_mins(10),
            reinvestigate_after: None,
            generations_per_hour: None,
            max_attempts: 3,
            max_slices: Self::MAX_SLICES,
            max_tries: Self::MAX_TRIES,
            retention: Self::RETENTION,
            sinks: Vec::new(),
        }
    }

    /// How long to wait after the `tries`-th failed try of a delivery: 30 s, doubled each time.
    pub fn delivery_backoff(tries: u32) -> Duration {
        Duration::from_secs(30).saturating_mul(1 << tries.saturating_sub(1).min(10))
    }
}

/// What is to be done about a head: the shell writes, then acts.
#[must_use]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision<T> {
    /// The head to write; `None`: it stays as it is (or absent).
    pub next: Option<Head>,
    /// The notification's snapshot is to be stored, under the resulting head's generation and digest.
    pub append: bool,
    /// The job is to be sent, visible after this long.
    pub send: Option<Duration>,
    /// What came of it, for the caller.
    pub outcome: T,
}

impl<T> Decision<T> {
    /// Nothing is written and nothing is sent.
    fn keep(outcome: T) -> Self {
        Self { next: None, append: false, send: None, outcome }
    }

    /// The head is written.
    fn write(next: Head, outcome: T) -> Self {
        Self { next: Some(next), append: false, send: None, outcome }
    }

    fn and_append(mut self) -> Self {
        self.append = true;
        self
    }

    fn and_send(mut self, delay: Duration) -> Self {
        self.send = Some(delay);
        self
    }
}

/// Something that happens to an incident.
pub trait Input: Send + Sync {
    /// What can come of it.
    type Outcome: Send;

    /// The rows of the table for this input. Called through [`decide`], which adds what holds for every input.
    #[doc(hidden)]
    fn rows(&self, head: Option<&Head>, rules: &Rules, now: UnixMs) -> Decision<Self::Outcome>;

    /// What the record says of it, where it changed the head.
    fn happened(&self, outcome: &Self::Outcome) -> Happened;
}

/// Decides what becomes of an incident (`head`, `None` where there is none) when `input` happens to it at `now`.
///
/// Pure: no clock, no store. The result's `next` has the `version` and `writer` of `head`; the shell sets both.
pub fn decide<I: Input>(head: Option<&Head>, input: &I, rules: &Rules, now: UnixMs) -> Decision<I::Outcome> {
    let mut decision = input.rows(head, rules, now);
    if let Some(next) = &mut decision.next {
        // Garbage collection never touches what is still owed.
        if !(next.state.is_terminal() && next.is_settled() && next.again.is_none()) {
            next.ttl = None;
        } else if next.ttl.is_none() {
            next.ttl = Some(now.plus(rules.retention));
        }
        // The sweeper would come by when it is time to open it again; the job is there sooner.
        if let Some(at) = next.reopens_at()
            && decision.send.is_none()
            && head.and_then(Head::reopens_at) != Some(at)
        {
            decision.send = Some(at.since(now));
        }
        if head == Some(&*next) {
            decision.next = None;
        }
    }
    decision
}

/// How much hurry there is for the sweeper with a head that is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owed {
    /// Its lease has ended, somebody is to be told, its window is over: nobody else may come for it.
    Soon,
    /// It waits to be begun: most likely its message is in the queue, however long that is.
    Queued,
}

impl Owed {
    /// All, those first that are served first.
    pub const ALL: [Self; 2] = [Self::Soon, Self::Queued];

    /// Of this head, when it is due.
    pub const fn of(head: &Head) -> Self {
        match head.state {
            State::Pending => Self::Queued,
            State::Running | State::Done | State::Failed | State::Suppressed | State::Aborted => Self::Soon,
        }
    }
}

/// When the sweeper has to look at a head again; `None`: never.
///
/// A pending one that waited so long that no message is on its way when it may start; any other pending one 2, 4, 8 … 15 minutes after it was last sent or may start; a running one when its lease ends, or when
/// somebody is to be told that it started; a terminal one when the next delivery of a sink is due or its claim over, and
/// then, where it fires again, when it may be opened again.
pub fn due_at(head: &Head) -> Option<UnixMs> {
    match head.state {
        State::Pending if waits_without_a_message(head) => Some(head.not_before),
        State::Pending => {
            let sent = head.sent_at.map_or(head.not_before, |s| s.max(head.not_before));
            let minutes = 2u64.saturating_pow(head.sends.saturating_add(1)).min(15);
            Some(sent.plus(Duration::from_mins(minutes)))
        }
        State::Running => {
            let lease = head.lease_until.unwrap_or(head.not_before);
            Some(next_telling(head).map_or(lease, |at| at.min(lease)))
        }
        State::Done | State::Failed | State::Suppressed | State::Aborted => {
            next_telling(head).or_else(|| head.reopens_at())
        }
    }
}

/// Whether a head's first message has come back too early, to be dropped, by the time that it may start.
fn waits_without_a_message(head: &Head) -> bool {
    let opened = UnixMs::new(head.generation.0);
    head.sent_at.is_none() && head.slices == 0 && head.not_before.since(opened) > LONGEST_HOP
}

/// Since when somebody should have done something about a head that is due; `None`: it waits for nobody. Unlike [`due_at`]
/// it does not move when the sweeper sends the job once more.
pub fn waits_since(head: &Head) -> Option<UnixMs> {
    match head.state {
        State::Pending => Some(head.not_before),
        _ => due_at(head),
    }
}

/// When the next delivery of any sink is due, or its claim over.
fn next_telling(head: &Head) -> Option<UnixMs> {
    head.next_deliveries().map(|d| d.at).min()
}

/// Whether `fence` still is the incident's lease.
fn holds(head: &Head, fence: Fence) -> bool {
    head.state == State::Running && head.generation == fence.generation && head.epoch == fence.epoch
}

/// Ends the lease.
fn release(head: &mut Head) {
    head.owner = None;
    head.lease_until = None;
}

/// Makes `event` due to every sink of the card that wants it.
fn arm(head: &mut Head, event: Event, rules: &Rules, now: UnixMs) {
    for subscription in rules.sinks.iter().filter(|s| s.events.contains(&event)) {
        let sink = &subscription.sink;
        if event.is_ending() {
            // What was not told of the start by now is not worth telling beside the end.
            head.deliveries.retain(|d| !(is_start_of(d, sink) && d.state == DeliveryState::Due));
        }
        let of_sink = |d: &Delivery| d.key.sink == *sink;
        // A head has room for four events a sink, and where a thread goes on has to be known.
        let remote = match event {
            Event::Flapping => head.latest_remote(sink).map(str::to_owned),
            _ => None,
        };
        head.deliveries.retain(|d| !(of_sink(d) && d.is_settled() && gives_way(d.key.event, event)));
        let key = DeliveryKey { event, sink: sink.clone() };
        let armed = matches!(event, Event::Updated | Event::Resolved).then_some(now);
        let due = Delivery {
            key: key.clone(),
            state: DeliveryState::Due,
            at: now,
            tries: 0,
            claimer: None,
            remote,
            rearmed: false,
            armed,
            error: None,
        };
        match head.deliveries.iter_mut().find(|d| d.key == key) {
            None => head.deliveries.push(due),
            // What is still to be told will tell the latest.
            Some(d) if d.state == DeliveryState::Due => d.armed = armed,
            // Being told without the latest: once more, when that ends.
            Some(d) if d.state == DeliveryState::Claimed => {
                d.rearmed = true;
                d.armed = armed;
            }
            Some(d) => *d = Delivery { remote: d.remote.take(), ..due },
        }
    }
}

/// Whether what was told of `old` is of no account once `new` is told: that it flaps stands for what it did before, until
/// its hour is over.
fn gives_way(old: Event, new: Event) -> bool {
    match new {
        Event::Flapping => matches!(old, Event::Updated | Event::Resolved),
        Event::Updated | Event::Resolved => old == Event::Flapping,
        _ => false,
    }
}

/// Whether this tells the sink that an investigation has started.
fn is_start_of(d: &Delivery, sink: &str) -> bool {
    d.key.event == Event::Started && d.key.sink == sink
}

/// Ends a generation: the lease is over, `event` is due and, where the alerts have resolved meanwhile, that too.
fn finish(head: &mut Head, state: State, event: Event, rules: &Rules, now: UnixMs) {
    head.state = state;
    arm(head, event, rules, now);
    if head.resolved().is_some() {
        arm(head, Event::Resolved, rules, now);
    }
}

/// Whether all has resolved before anything was spent: nobody investigates that.
fn is_over_unpaid(head: &Head) -> bool {
    head.turn == 0 && head.resolved().is_some() && !head.truncated
}

/// Makes a generation for which nothing was paid yet one about all that fires by now: whoever investigates it reads
/// the latest notification. Nothing of that waits for the window, to be paid for once more.
fn take_in(head: &mut Head) {
    head.again = None;
    head.began = head.began.max(head.seen);
    let firing = head.firing.clone();
    head.known.extend(&firing);
}

/// Ends a generation that nobody investigates.
fn suppress(head: &mut Head, rules: &Rules, now: UnixMs) {
    head.state = State::Suppressed;
    head.reason = None;
    release(head);
    arm(head, Event::Suppressed, rules, now);
}

/// Ends a generation without a report.
fn fail(head: &mut Head, reason: &str, rules: &Rules, now: UnixMs) {
    head.reason = Some(clip(reason, MOST_REASON));
    release(head);
    finish(head, State::Failed, Event::Failed, rules, now);
}

/// A reason short enough for the head: at most `most` bytes, and a sign where it was cut.
fn clip(text: &str, most: usize) -> String {
    if text.len() <= most { text.to_owned() } else { format!("{}…", arrival::cut(text, most)) }
}
