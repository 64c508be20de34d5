//! What there is at one moment: the store, the queue, the senders, the workers, the sweeper, the truth about the
//! alerts, and what a witness has noted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::incident::{DeliveryKey, Fence, Gen, Head, MemberId, Members};

use crate::rule::{Answer, Asked};
use crate::witness::Witness;

/// Second 0.
const START: i64 = 1_795_348_800_000;

/// The instant that second.
pub(crate) fn at(second: i64) -> UnixMs {
    UnixMs::new(START + second * 1000)
}

/// The second of that instant, rounded up.
pub(crate) fn second(at: UnixMs) -> i64 {
    (at.get() - START + 999).div_euclid(1000)
}

/// Who acts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Who {
    Sender(usize),
    Worker(usize),
    Sweeper,
    Operator,
}

/// One input on its way through the shell: `drive`, step by step.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Drive {
    pub(crate) asked: Asked,
    pub(crate) phase: Phase,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Phase {
    /// The head is to be read.
    Load,
    /// Decided: the head is to be written, its snapshot first unless it is a new head.
    Write { next: Arc<Head>, creating: bool, append: bool, send: Option<Duration>, answer: Answer },
    /// The head is written, or stays; what remains can be done in any order.
    After { head: Option<Arc<Head>>, append: bool, send: Option<Duration>, answer: Answer },
}

/// One call of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Call {
    Load,
    Append,
    Write,
    Send,
}

/// One alert, as it truly is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Truth {
    /// 0: it never fired.
    pub(crate) episode: u8,
    pub(crate) start: i64,
    pub(crate) end: Option<i64>,
}

impl Truth {
    pub(crate) fn fires(self) -> bool {
        self.episode > 0 && self.end.is_none()
    }
}

/// What a sender's last answered notification said of an alert.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) enum Acked {
    #[default]
    Nothing,
    Fires(u8),
    Ended,
}

/// One alert in a notification.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Told {
    pub(crate) alert: usize,
    pub(crate) episode: u8,
    pub(crate) start: i64,
    /// `None`: it fires.
    pub(crate) end: Option<i64>,
}

/// A notification on its way; without a drive it waits to be tried again.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Post {
    pub(crate) told: Vec<Told>,
    pub(crate) drive: Option<Drive>,
    /// Whether its snapshot is stored, and its job was accepted, since this try began.
    pub(crate) stored: bool,
    pub(crate) sent: bool,
    /// It is on the list of a notice that it created, and it is looked whether that was told without it.
    pub(crate) looks_again: bool,
}

#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Sender {
    pub(crate) acked: [Acked; 2],
    pub(crate) post: Option<Post>,
}

/// An investigation that a worker has in hand.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Run {
    pub(crate) fence: Fence,
    pub(crate) head: Arc<Head>,
    pub(crate) turn: u32,
}

/// Where a worker stands.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) enum Stand {
    #[default]
    Idle,
    Claiming {
        drive: Drive,
    },
    Reading {
        run: Run,
    },
    Paying {
        run: Run,
        drive: Drive,
    },
    Granted {
        run: Run,
        until: UnixMs,
    },
    InCall {
        run: Run,
        until: UnixMs,
    },
    Answered {
        run: Run,
    },
    Reporting {
        run: Run,
    },
    Ending {
        drive: Drive,
    },
    ClaimingDelivery {
        key: DeliveryKey,
        claimer: String,
        rest: Vec<DeliveryKey>,
        listed: Vec<String>,
        drive: Drive,
    },
    /// What a storm notice lists is read under its claim.
    Listing {
        key: DeliveryKey,
        claimer: String,
        rest: Vec<DeliveryKey>,
        head: Arc<Head>,
    },
    Telling {
        key: DeliveryKey,
        claimer: String,
        rest: Vec<DeliveryKey>,
        listed: Vec<String>,
        head: Arc<Head>,
    },
    Recording {
        rest: Vec<DeliveryKey>,
        drive: Drive,
    },
    /// What is stored of an incident that fires again is read before its next generation is opened about that.
    ReadingAgain {
        head: Arc<Head>,
    },
    Reopening {
        drive: Drive,
    },
    /// One half of a worker that investigates and tells of the start at the same time: it waits for the other.
    HalfDone,
    /// Both are done: what had to wait for the start is looked for.
    LookingAgain,
}

impl Stand {
    pub(crate) fn run(&self) -> Option<&Run> {
        match self {
            Self::Reading { run }
            | Self::Paying { run, .. }
            | Self::Granted { run, .. }
            | Self::InCall { run, .. }
            | Self::Answered { run }
            | Self::Reporting { run } => Some(run),
            _ => None,
        }
    }

    pub(crate) fn drive(&self) -> Option<&Drive> {
        match self {
            Self::Claiming { drive }
            | Self::Paying { drive, .. }
            | Self::Ending { drive }
            | Self::Reopening { drive }
            | Self::ClaimingDelivery { drive, .. }
            | Self::Recording { drive, .. } => Some(drive),
            _ => None,
        }
    }

    /// Whether a call was made whose answer is not stored yet.
    pub(crate) fn would_waste(&self) -> bool {
        matches!(self, Self::InCall { .. } | Self::Answered { .. })
    }
}

/// A queue message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Message {
    pub(crate) generation: Gen,
    pub(crate) visible: i64,
}

/// What may still go wrong or happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) faults: u8,
    pub(crate) repeats: u8,
    pub(crate) yields: u8,
    pub(crate) failures: u8,
    pub(crate) aborts: u8,
    pub(crate) deletions: u8,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct World {
    pub(crate) now: i64,
    pub(crate) head: Option<Arc<Head>>,
    pub(crate) snapshots: Vec<(Gen, String)>,
    pub(crate) turns: Vec<(Gen, u32)>,
    pub(crate) reports: Vec<Gen>,
    pub(crate) queue: Vec<Message>,
    pub(crate) truth: [Truth; 2],
    /// How much of the scenario's script has happened.
    pub(crate) happened: usize,
    pub(crate) senders: Vec<Sender>,
    pub(crate) workers: Vec<Stand>,
    pub(crate) sweep: Option<Drive>,
    pub(crate) next_sweep: i64,
    pub(crate) abort: Option<Drive>,
    pub(crate) left: Budget,
    pub(crate) witness: Witness,
}

impl World {
    pub(crate) fn drive_of(&self, who: Who) -> Option<&Drive> {
        match who {
            Who::Sender(n) => self.senders[n].post.as_ref()?.drive.as_ref(),
            Who::Worker(n) => self.workers[n].drive(),
            Who::Sweeper => self.sweep.as_ref(),
            Who::Operator => self.abort.as_ref(),
        }
    }

    pub(crate) fn send(&mut self, generation: Gen, visible: i64) {
        /// Losing a message is always possible, so a longer queue tells nothing new.
        const MOST: usize = 3;
        self.queue.push(Message { generation, visible });
        self.queue.sort_unstable();
        self.queue.truncate(MOST);
    }
}

/// Which of two worlds are the same: everything that can make a difference to what follows, and no more. Versions and
/// writers are compared only as "the same as the stored one", names of senders and workers not at all.
impl Hash for World {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.now, &self.snapshots, &self.turns, &self.reports, &self.queue).hash(to);
        (self.truth, self.happened, self.left, self.next_sweep.max(self.now)).hash(to);
        hash_head(self.head.as_deref(), to);
        let mut senders: Vec<u64> =
            self.senders.iter().map(|s| alone(|to| self.hash_sender(s, to))).collect();
        let mut workers: Vec<u64> =
            self.workers.iter().map(|w| alone(|to| self.hash_worker(w, to))).collect();
        if self.workers.len() > self.witness.workers {
            // The halves of one worker belong together.
            let tellers = workers.split_off(self.witness.workers);
            let halves = workers.iter().zip(tellers);
            workers = halves.map(|halves| alone(|to| halves.hash(to))).collect();
        }
        if !self.witness.tells_apart {
            senders.sort_unstable();
            workers.sort_unstable();
        }
        (senders, workers).hash(to);
        for drive in [&self.sweep, &self.abort] {
            self.hash_drive(drive.as_ref(), to);
        }
        self.witness.hash(to);
    }
}

fn alone(what: impl FnOnce(&mut DefaultHasher)) -> u64 {
    let mut hasher = DefaultHasher::new();
    what(&mut hasher);
    hasher.finish()
}

impl World {
    fn hash_sender<H: Hasher>(&self, sender: &Sender, to: &mut H) {
        sender.acked.hash(to);
        let Some(post) = &sender.post else { return false.hash(to) };
        (&post.told, post.stored, post.sent, post.looks_again).hash(to);
        self.hash_drive(post.drive.as_ref(), to);
    }

    fn hash_worker<H: Hasher>(&self, stand: &Stand, to: &mut H) {
        std::mem::discriminant(stand).hash(to);
        if let Some(run) = stand.run() {
            (run.fence.generation, run.fence.epoch, run.turn).hash(to);
            self.hash_copy(&run.head, to);
        }
        self.hash_drive(stand.drive(), to);
        match stand {
            Stand::Granted { until, .. } | Stand::InCall { until, .. } => until.hash(to),
            Stand::ClaimingDelivery { key, claimer, rest, listed, .. }
            | Stand::Telling { key, claimer, rest, listed, .. } => {
                (key, rest, listed, self.has_claimed(claimer)).hash(to);
            }
            Stand::Listing { key, claimer, rest, .. } => (key, rest, self.has_claimed(claimer)).hash(to),
            Stand::Recording { rest, .. } => rest.hash(to),
            _ => {}
        }
        if let Stand::Telling { head, .. } | Stand::Listing { head, .. } | Stand::ReadingAgain { head } =
            stand
        {
            self.hash_copy(head, to);
        }
    }

    fn has_claimed(&self, claimer: &str) -> bool {
        let deliveries = self.head.iter().flat_map(|h| &h.deliveries);
        deliveries.into_iter().any(|d| d.claimer.as_deref() == Some(claimer))
    }

    /// A copy of the head that somebody goes on with.
    fn hash_copy<H: Hasher>(&self, copy: &Head, to: &mut H) {
        let fresh = self.head.as_ref().is_some_and(|h| h.version == copy.version);
        fresh.hash(to);
        if !fresh {
            hash_head(Some(copy), to);
        }
    }

    fn hash_drive<H: Hasher>(&self, drive: Option<&Drive>, to: &mut H) {
        let Some(drive) = drive else { return false.hash(to) };
        std::mem::discriminant(&drive.phase).hash(to);
        self.hash_asked(&drive.asked, to);
        match &drive.phase {
            Phase::Load => {}
            Phase::Write { next, creating, append, send, answer } => {
                let stored = self.head.as_deref();
                let mine = stored.is_some_and(|h| h.writer == next.writer);
                let fresh = stored.map_or(0, |h| h.version) + 1 == next.version;
                (mine, fresh, creating, append, send).hash(to);
                if fresh {
                    hash_head(Some(next), to);
                } else if mine {
                    hash_answer(answer, to);
                }
                if *append {
                    (next.generation, &next.digest).hash(to);
                }
            }
            Phase::After { head, append, send, answer } => {
                (append, send).hash(to);
                hash_answer(answer, to);
                if let Some(head) = head {
                    (head.generation, &head.digest).hash(to);
                    self.hash_copy(head, to);
                }
            }
        }
    }

    fn hash_asked<H: Hasher>(&self, asked: &Asked, to: &mut H) {
        std::mem::discriminant(asked).hash(to);
        match asked {
            Asked::Arrival(_)
            | Asked::Note(_)
            | Asked::Abort(_)
            | Asked::Delete(_)
            | Asked::Sweep
            | Asked::Fail(_) => {}
            Asked::Claim(c) => {
                let mine = self.head.as_ref().is_some_and(|h| h.owner.as_ref() == Some(&c.owner));
                (c.generation, mine).hash(to);
            }
            Asked::Paid(p) => (p.fence.generation, p.fence.epoch, p.turn).hash(to),
            Asked::Yield(y) => (y.fence.generation, y.fence.epoch, y.not_before).hash(to),
            Asked::Commit(c) => (c.fence.generation, c.fence.epoch).hash(to),
            Asked::ClaimDelivery(c) => (c.generation, &c.key, self.has_claimed(&c.claimer)).hash(to),
            Asked::Delivered(d) => (d.generation, &d.key, self.has_claimed(&d.claimer)).hash(to),
            Asked::WindowOver(o) => o.generation.hash(to),
            Asked::Missed(m) => (m.generation, &m.key, m.retry, self.has_claimed(&m.claimer)).hash(to),
        }
    }
}

fn hash_answer<H: Hasher>(answer: &Answer, to: &mut H) {
    std::mem::discriminant(answer).hash(to);
    if let Answer::Taken(taken) = answer {
        taken.hash(to);
    }
    if let Answer::Paid(sentinel_core::lifecycle::PaidOutcome::Granted { until }) = answer {
        until.hash(to);
    }
}

fn hash_members<H: Hasher>(members: &Members, to: &mut H) {
    members.is_many().hash(to);
    members.iter().for_each(|m: MemberId| m.hash(to));
    u8::MAX.hash(to);
}

fn hash_head<H: Hasher>(head: Option<&Head>, to: &mut H) {
    let Some(h) = head else { return false.hash(to) };
    (h.state, h.generation, h.epoch, h.owner.is_some(), h.lease_until, h.attempts, h.slices, h.turn).hash(to);
    (h.not_before, h.sent_at, h.sends, h.reopen_after, h.began, h.seen, h.resolved_at, h.again, &h.digest)
        .hash(to);
    (h.truncated, h.ttl.is_some(), h.deleted.is_some(), h.openings.map(|o| (o.since, o.count))).hash(to);
    hash_members(&h.known, to);
    hash_members(&h.firing, to);
    for d in &h.deliveries {
        (&d.key, d.state, d.at, d.tries, d.claimer.is_some(), d.rearmed).hash(to);
    }
    u8::MAX.hash(to);
}
