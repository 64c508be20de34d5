//! What has to hold in every case, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sentinel_core::UnixMs;
use sentinel_core::chain;
use sentinel_core::incident::{ChildName, DeliveryState, Event, Gen, Head, IncidentId, Openings, State};
use sentinel_testkit::faults::Kind;

use crate::parts::{Broken, Told};
use crate::spending;
use crate::world::{Taken, World};

/// `dedupe-ttl-seconds` of the cards.
const WINDOW: Duration = Duration::from_mins(10);

/// At every write of a head.
pub(crate) fn write(before: Option<&Head>, after: &Head, now: UnixMs, most_skew: Duration, broken: &Broken) {
    let wrong = |what: &str| broken.say(format!("{now}: {what}: {before:?} -> {after:?}"));
    let settled = after.state.is_terminal() && after.is_settled() && after.again.is_none();
    if after.ttl.is_some() != settled {
        wrong("a time to live stands on what is over and told, and only there");
    }
    // A storm notice is made of what has ended.
    let first = if after.is_notice() { State::Done } else { State::Pending };
    let Some(before) = before else {
        if after.version != 1 || after.state != first {
            wrong("it begins otherwise than as it should");
        }
        return;
    };
    if after.version != before.version + 1 {
        wrong("a write was overwritten");
    }
    if after.epoch < before.epoch || after.generation < before.generation || after.seen < before.seen {
        wrong("an epoch, a generation or what was seen went back");
    }
    let same = after.generation == before.generation;
    if same && before.state.is_terminal() && after.state != before.state {
        wrong("what had ended changed");
    }
    let begins =
        before.state.is_terminal() && after.state == first && (before.is_settled() || !after.is_notice());
    let deletes = after.deleted.is_some() && before.state.is_terminal() && before.is_settled();
    if !(same || begins || deletes) {
        wrong("a generation began beside another");
    }
    if after.state == State::Running && after.epoch != before.epoch {
        let over = before.lease_until.is_none_or(|until| until <= now.plus(most_skew));
        if !over {
            wrong("two leases at once");
        }
    }
    if same && after.state == State::Suppressed && after.turn > 0 {
        wrong("what was paid for was suppressed");
    }
}

/// When a webhook is answered with 200.
pub(crate) fn answered(world: &World, taken: &Taken) {
    let now = world.now();
    for id in &taken.incidents {
        let Some(head) = world.store.head(id) else {
            world.broken.unless(!taken.firing, || format!("{now}: 200, and nothing is stored"));
            continue;
        };
        // Of a webhook in which nothing fires nothing can be lost: whoever opened what waits here has yet to be answered.
        if head.state != State::Pending || !taken.firing {
            continue;
        }
        // A resolve may have changed the digest since.
        let written = world.written.lock().unwrap();
        let mut digests = written
            .iter()
            .filter(|(_, h)| (&h.id, h.generation) == (id, head.generation))
            .map(|(_, h)| &h.digest);
        let snapshot = |digest: &String| ChildName::Snapshot(digest.clone());
        let stored = digests.any(|digest| world.store.body(id, head.generation, &snapshot(digest)).is_some());
        world.broken.unless(stored, || format!("{now}: 200 before the snapshot is stored: {head:?}"));
        let sent = world.queue.has_taken(id, head.generation);
        world.broken.unless(sent, || format!("{now}: 200 before the job is sent: {head:?}"));
    }
}

/// How each generation of an incident ended: its last head.
pub(crate) fn generations(world: &World) -> BTreeMap<(IncidentId, Gen), Head> {
    let written = world.written.lock().unwrap();
    let heads = written.iter().map(|(_, head)| head).filter(|head| !head.is_notice());
    heads.map(|head| ((head.id.clone(), head.generation), head.clone())).collect()
}

/// When nothing happens any more. `may_fail`: an investigation may end as failed, having said so.
pub(crate) fn at_the_end(world: &World, may_fail: bool) {
    let broken = &world.broken;
    let generations = generations(world);
    for taken in world.taken.iter().filter(|taken| taken.firing) {
        let kept = taken.incidents.iter().all(|id| generations.keys().any(|(known, _)| known == id));
        broken.unless(kept, || "an alert that got its 200 is lost".to_owned());
    }
    let told: BTreeSet<_> =
        world.told().into_iter().map(|t| (t.incident, t.generation, t.event, t.sink)).collect();
    for ((id, generation), head) in &generations {
        // A tombstone tells nobody anything: what was deleted was told before.
        if head.deleted.is_some() {
            continue;
        }
        let last = match head.state {
            State::Done => Event::Findings,
            State::Failed => Event::Failed,
            State::Aborted => Event::Aborted,
            State::Suppressed => Event::Suppressed,
            State::Pending | State::Running => {
                broken.say(format!("it never ended: {head:?}"));
                continue;
            }
        };
        broken.unless(may_fail || head.state != State::Failed, || format!("it failed: {head:?}"));
        // What is suppressed and fires again before that is told begins anew instead.
        let cancelled = head.state == State::Suppressed
            && generations.keys().any(|(other, later)| other == id && later > generation);
        for sink in world.sinks().iter().filter(|_| !cancelled) {
            let told = told.contains(&(id.clone(), *generation, last, *sink));
            broken.unless(told, || format!("{sink} was never told of {last}: {head:?}"));
        }
        if !cancelled {
            let sent = head.deliveries.iter().all(|d| d.state == DeliveryState::Sent);
            broken.unless(sent, || format!("something was not delivered: {head:?}"));
        }
        let deleted = generations
            .iter()
            .any(|((other, later), head)| other == id && later > generation && head.deleted.is_some());
        if deleted {
            let left = world.store.record(id).children.iter().filter(|c| c.generation == *generation).count();
            // What its writer gave up, or did not hear of, may be stored late: its own end takes it away.
            let late = |kind: Kind| matches!(kind, Kind::TimedOut | Kind::SlowCall | Kind::SlowReply);
            let late = world.faults().injected().iter().any(|(at, kind)| at.writes && late(*kind));
            broken.unless(left == 0 || late, || {
                format!("{left} items of a deleted generation are left: {head:?}")
            });
        } else if head.state == State::Done {
            let stored = world.store.body(id, *generation, &ChildName::Report).is_some();
            broken.unless(stored, || format!("a commit without a report: {head:?}"));
        }
    }
    for head in world.incidents() {
        let fires = !head.firing.is_empty();
        let told = world.told();
        for sink in world.sinks() {
            let mut last = told.iter().filter(|t| (&t.incident, t.sink) == (&head.id, *sink));
            let over = last.next_back().is_some_and(|t| t.generation == head.generation && t.over);
            broken.unless(!(fires && over), || {
                format!("it fires, and {sink} was told last that it is over: {head:?}")
            });
        }
        broken
            .unless(!(fires && head.resolved().is_some()), || format!("it fires, and is resolved: {head:?}"));
        broken.unless(head.again.is_none(), || format!("what fires again waits for ever: {head:?}"));
    }
    for notice in world.store.heads().iter().filter(|head| head.is_notice()) {
        let sent = notice.deliveries.iter().all(|d| d.state == DeliveryState::Sent);
        broken.unless(sent, || format!("a notice was not delivered: {notice:?}"));
    }
    spending::at_the_end(world, &spending::refused(world, generations.values()));
    commits(world);
    twice(world);
    swallowed(world);
    records(world);
}

/// Of cases with several faults, which are a hundred thousand, every so-manieth record is looked through.
const RECORDS_OF_EVERY: usize = 8;

/// Each incident's record fits its chain, whatever was lost on the way.
fn records(world: &World) {
    let faults = world.faults();
    if faults.injected().len() > 1 && !faults.points().len().is_multiple_of(RECORDS_OF_EVERY) {
        return;
    }
    for head in world.store.heads() {
        let verified = chain::verify(&world.store.record(&head.id), None);
        let breaches: Vec<_> = verified.breaches().collect();
        world
            .broken
            .unless(breaches.is_empty(), || format!("a record does not verify: {breaches:?}: {head:?}"));
        world.broken.unless(verified.n > 0, || format!("no record was kept: {head:?}"));
    }
}

/// One commit a generation.
fn commits(world: &World) {
    let mut ended: BTreeMap<(IncidentId, Gen), u32> = BTreeMap::new();
    let written = world.written.lock().unwrap();
    let mut last: BTreeMap<&IncidentId, &Head> = BTreeMap::new();
    for (_, head) in written.iter().filter(|(_, head)| !head.is_notice()) {
        let before = last.insert(&head.id, head);
        let was = before.is_some_and(|b| b.generation == head.generation && b.state == State::Done);
        if head.state == State::Done && !was {
            *ended.entry((head.id.clone(), head.generation)).or_default() += 1;
        }
    }
    world.broken.unless(ended.values().all(|n| *n == 1), || format!("committed twice: {ended:?}"));
}

/// How often a worker was cut off, or left in the dark.
pub(crate) fn disturbances(world: &World) -> usize {
    let injected = world.faults().injected();
    world.restarts + injected.iter().filter(|(at, _)| at.process == "worker").count()
}

/// What is paid for, and told, more often than once: of an incident never more turns than its worker was disturbed,
/// because only the one that was in flight is paid for again; and never more messages than something went wrong.
fn twice(world: &World) {
    let injected = world.faults().injected();
    let disturbed = disturbances(world);
    // A request that its sender gave up, or did not survive, may arrive at any time; so may the answer in the store.
    let late = |kind: Kind| matches!(kind, Kind::TimedOut | Kind::SlowCall);
    let turn = |call: &str| matches!(call, "respond" | "append");
    let late = injected.iter().filter(|(at, kind)| turn(at.call) && late(*kind)).count();
    let stored = world.paid().iter().filter(|turn| turn.was_stored).count();
    world.broken.unless(stored <= late, || format!("paid for again, and stored: {:?}", world.paid()));
    let mut paid: BTreeMap<IncidentId, Vec<_>> = BTreeMap::new();
    for turn in world.paid() {
        paid.entry(turn.incident).or_default().push((turn.generation, turn.number));
    }
    for turns in paid.values() {
        let again = more_than_once(turns);
        world.broken.unless(again <= disturbed, || {
            format!("{again} turns paid for again after {disturbed} disturbances: {turns:?}")
        });
    }
    let told = world.told();
    let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
    // That a member is back is told again where a late copy of its resolve came between; by its key it is known.
    for t in told.iter().filter(|t| t.event != Event::Updated) {
        keys.entry((&t.incident, t.sink)).or_default().push(&t.key);
    }
    for keys in keys.values() {
        let again = more_than_once(keys);
        world.broken.unless(again <= disturbed, || {
            format!("{again} messages again after {disturbed} disturbances: {keys:?}")
        });
    }
    // A receiver that goes by the key sees each thing once, and misses none.
    let (mut keys, mut things) = (BTreeMap::new(), BTreeMap::new());
    for t in &told {
        let thing = (&t.incident, t.generation, t.event, &t.about, t.sink);
        let (key, seen) = (keys.entry(thing).or_insert(&t.key), things.entry(&t.key).or_insert(thing));
        let same = *key == &t.key && *seen == thing;
        world.broken.unless(same, || format!("a key does not stand for one thing: {told:?}"));
    }
}

fn more_than_once<T: Ord>(all: impl IntoIterator<Item = T>) -> usize {
    let mut seen = BTreeSet::new();
    all.into_iter().map(|one| usize::from(!seen.insert(one))).sum()
}

/// How many generations there were that got as far as an investigation.
pub(crate) fn investigations(written: &[(UnixMs, Head)]) -> usize {
    let begun = written.iter().filter(|(_, head)| head.state == State::Running);
    begun.map(|(_, head)| (&head.id, head.generation)).collect::<BTreeSet<_>>().len()
}

/// An episode of which a sender was told 200 is a part of a generation, or was told as an update, or goes on from one
/// that had not ended.
fn swallowed(world: &World) {
    let (written, told) = (world.written.lock().unwrap(), world.told());
    for taken in &world.taken {
        for (id, start) in
            taken.incidents.iter().flat_map(|id| taken.starts.iter().map(move |start| (id, *start)))
        {
            let mut heads = written.iter().map(|(_, head)| head).filter(|head| head.id == *id);
            let kept = heads.any(|head| {
                let part = head.began.is_some_and(|began| began >= start);
                let within = head.began.is_some_and(|began| start <= began.plus(WINDOW));
                part || (within && head.resolved_at.is_none_or(|end| start <= end))
            });
            let update = |t: &Told| t.incident == *id && t.event == Event::Updated && t.seen >= Some(start);
            // One notice stands for whatever comes in the rest of its hour.
            let quiet = || {
                let flapping = |t: &&Told| t.incident == *id && t.event == Event::Flapping;
                let hours = told.iter().filter(flapping).filter_map(|t| {
                    let mut heads = written.iter().map(|(_, head)| head);
                    heads.find(|head| head.id == *id && head.generation == t.generation)?.openings
                });
                hours.into_iter().any(|hour| start <= hour.since.plus(Openings::WINDOW))
            };
            world.broken.unless(kept || told.iter().any(update) || quiet(), || {
                format!("the episode of {start} was swallowed: {:?}", world.store.head(id))
            });
        }
    }
}
