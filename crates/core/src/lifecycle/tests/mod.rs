//! The table of the lifecycle, row by row, as calls of `decide`. Every module is one part of the table; `histories`
//! are the sequences that broke earlier drafts of it, `properties` what no sequence may break.

mod aborting;
mod again;
mod deleting;
mod delivering;
mod due;
mod edges;
mod flapping;
mod histories;
mod notice;
mod notify;
mod properties;
mod resolve;
mod size;
mod starting;
mod worker;

use std::time::Duration;

use super::*;
use crate::incident::{Gen, IncidentId, MemberId, Members};
use crate::report::Verdict;
use crate::test_support::labels;

/// Second 0 of every test.
const START: i64 = 1_795_348_800_000;
/// The longest an episode of these tests counts as the same: the dedupe TTL.
const WINDOW: i64 = 600;

/// The instant `seconds` after the start of the test.
fn at(seconds: i64) -> UnixMs {
    UnixMs::new(START + seconds * 1000)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A member that fires since that second.
fn fires(id: u64, since: i64) -> Member {
    Member { id: MemberId(id), firing: true, starts_at: Some(at(since)), ends_at: None }
}

/// A member that fires, of which the payload does not say since when.
fn fires_undated(id: u64) -> Member {
    Member { id: MemberId(id), firing: true, starts_at: None, ends_at: None }
}

/// A member that fired from one second to another.
fn ended(id: u64, since: i64, until: i64) -> Member {
    Member { id: MemberId(id), firing: false, starts_at: Some(at(since)), ends_at: Some(at(until)) }
}

fn arrival(members: &[Member]) -> Arrival {
    Arrival {
        id: IncidentId::new("ab".repeat(32)),
        card: "pods".into(),
        labels: labels(&[("alertname", "PodDown")]),
        members: members.to_vec(),
        truncated: false,
    }
}

fn rules() -> Rules {
    Rules { dedupe_ttl: secs(WINDOW.unsigned_abs()), sinks: vec!["log".into()], ..Rules::of_no_card() }
}

/// One incident, and the shell that `decide` is run in: what it decides is written at once.
struct Story {
    rules: Rules,
    now: UnixMs,
    head: Option<Head>,
    /// What the last decision asked for.
    wrote: bool,
    appended: bool,
    sent: Option<Duration>,
}

impl Story {
    fn new() -> Self {
        Self::with(rules())
    }

    fn with(rules: Rules) -> Self {
        Self { rules, now: at(0), head: None, wrote: false, appended: false, sent: None }
    }

    /// An incident of member 1, firing since second 0, that waits for a worker.
    fn pending() -> Self {
        let mut story = Self::new();
        assert_eq!(story.tell(&[fires(1, 0)]), Taken::Accepted);
        story
    }

    /// The same, which a worker investigates.
    fn running() -> (Self, Fence) {
        let mut story = Self::pending();
        let fence = story.begin("w1");
        (story, fence)
    }

    /// The same, whose findings are told.
    fn done() -> Self {
        let (mut story, fence) = Self::running();
        let _ = story.commit(fence);
        story.deliver_all();
        story
    }

    fn at(&mut self, seconds: i64) -> &mut Self {
        self.now = at(seconds);
        self
    }

    fn take<I: Input>(&mut self, input: &I) -> I::Outcome {
        let before = self.head.clone();
        let decision = decide(before.as_ref(), input, &self.rules, self.now);
        self.wrote = decision.next.is_some();
        self.appended = decision.append;
        self.sent = decision.send;
        if let Some(mut next) = decision.next {
            let (version, writer) = before.map_or((0, String::new()), |h| (h.version, h.writer));
            assert_eq!(
                (next.version, &next.writer),
                (version, &writer),
                "version and writer are the shell's"
            );
            next.version += 1;
            self.head = Some(next);
        }
        decision.outcome
    }

    fn head(&self) -> &Head {
        self.head.as_ref().expect("a head")
    }

    fn edit(&mut self) -> &mut Head {
        self.head.as_mut().expect("a head")
    }

    fn state(&self) -> State {
        self.head().state
    }

    fn tell(&mut self, members: &[Member]) -> Taken {
        self.take(&arrival(members)).taken
    }

    /// What came of each of them.
    fn tell_each(&mut self, members: &[Member]) -> Vec<Taken> {
        self.take(&arrival(members)).each
    }

    /// A worker finds that the window is over.
    fn window_over(&mut self) -> Reopened {
        let generation = self.head().generation;
        self.take(&WindowOver { generation, firing: vec![] })
    }

    fn claim(&mut self, owner: &str) -> Claimed {
        let generation = self.head().generation;
        self.take(&Claim { generation, owner: owner.into() })
    }

    /// Claims, and expects the lease.
    fn begin(&mut self, owner: &str) -> Fence {
        match self.claim(owner) {
            Claimed::Investigate(fence) => fence,
            other => panic!("no lease: {other:?}"),
        }
    }

    fn pay(&mut self, fence: Fence, turn: u32, seconds: u64) -> PaidOutcome {
        self.take(&Paid { fence, turn, timeout: secs(seconds) })
    }

    fn put_off(&mut self, fence: Fence, until: i64) -> Yielded {
        self.take(&Yield { fence, not_before: at(until), reason: "the model is out".into() })
    }

    fn commit(&mut self, fence: Fence) -> Ended {
        self.take(&Commit { fence, verdict: Verdict::NoAction })
    }

    fn give_up(&mut self, fence: Fence) -> Ended {
        self.take(&Fail { fence, reason: "no tool answered".into() })
    }

    fn abort(&mut self) -> Aborted {
        self.take(&Abort { who: "an operator".into() })
    }

    fn claim_delivery(&mut self, event: Event, claimer: &str) -> DeliveryClaimed {
        let generation = self.head().generation;
        self.take(&ClaimDelivery { generation, key: key(event), claimer: claimer.into() })
    }

    fn delivered(&mut self, event: Event, claimer: &str) -> DeliveryRecorded {
        let generation = self.head().generation;
        self.take(&Delivered {
            generation,
            key: key(event),
            claimer: claimer.into(),
            remote: Some("r-1".into()),
            amiss: None,
        })
    }

    fn missed(&mut self, event: Event, claimer: &str, retry: Option<Duration>) -> DeliveryRecorded {
        let generation = self.head().generation;
        let error = "the destination is down".into();
        self.take(&Missed {
            generation,
            key: key(event),
            claimer: claimer.into(),
            retry,
            error,
            remote: None,
        })
    }

    /// Tells everything that is due, and gives what it was.
    fn deliver_all(&mut self) -> Vec<Event> {
        let due = self.head().due_deliveries(self.now);
        due.into_iter()
            .map(|k| {
                assert!(matches!(self.claim_delivery(k.event, "d"), DeliveryClaimed::Tell { .. }));
                assert_eq!(self.delivered(k.event, "d"), DeliveryRecorded::Recorded);
                k.event
            })
            .collect()
    }

    /// What is owed to the log.
    fn owed(&self) -> Vec<Event> {
        self.head().deliveries.iter().filter(|d| !d.is_settled()).map(|d| d.key.event).collect()
    }

    fn delivery(&self, event: Event) -> &Delivery {
        self.head().deliveries.iter().find(|d| d.key.event == event).expect("such a delivery")
    }
}

/// A sink that is told of everything.
fn of_all(sink: &str) -> Subscription {
    Subscription { sink: sink.into(), events: Event::ALL.into() }
}

fn key(event: Event) -> DeliveryKey {
    DeliveryKey { event, sink: "log".into() }
}

fn members(ids: impl IntoIterator<Item = u64>) -> Members {
    ids.into_iter().map(MemberId).collect()
}
