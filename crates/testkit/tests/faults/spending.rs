//! What has to hold of the money, and of who is told when there is none: nothing is paid that was not reserved, nothing is
//! reserved beyond a limit, and what ends without a model for it is on a notice.

use std::collections::{BTreeMap, BTreeSet};

use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Entry, MicroUsd, Scope, Spent};
use sentinel_core::incident::{ChildName, Event, Gen, Head};
use sentinel_core::lifecycle::BETWEEN_NOTICES;
use sentinel_core::report::{Report, ReportSource};
use sentinel_investigation::ports::TurnUsage;
use sentinel_testkit::memory::MemoryStore;

use crate::base::BASE;
use crate::parts::{Broken, Turn};
use crate::world::World;

/// What the model counts of each turn, …
pub(crate) const A_TURN: TurnUsage =
    TurnUsage { cache_write_tokens: 0, input_tokens: 1_000, cached_tokens: 0, output_tokens: 50 };
/// … and what that comes to at the price of the cards' model, in millionths of a dollar: $0.40 and $1.60 a million tokens.
const ITS_PRICE: u64 = 480;

/// At every entry of a budget: no limit is exceeded, at no moment.
pub(crate) fn entered(entry: &Entry, spent: &Spent, broken: &Broken) {
    let Entry::Reserve { reservation, limits } = entry else { return };
    let anything = Amount { investigations: 1, usd: MicroUsd(1) };
    for (window, limit) in limits.on(anything) {
        let within = Some(limit.counted(spent.of(window))) <= limit.most_before(Amount::NOTHING);
        broken.unless(within, || format!("{:?}: more than {limit} is spent: {spent:?}", reservation.scope));
    }
}

/// When a turn is paid for: it was reserved, in every scope that has limits.
pub(crate) fn charged(store: &MemoryStore, paid: &[Turn], broken: &Broken) {
    let Some(last) = paid.last() else { return };
    let worker = &BASE.worker;
    let own = worker.playbooks.get(&last.card).map(|playbook| playbook.card().budget).unwrap_or_default();
    for (scope, limits) in [(Scope::Overall, worker.budget), (Scope::Card(last.card.clone()), own)] {
        let of = || paid.iter().filter(|turn| scope == Scope::Overall || turn.card == last.card);
        // What was never answered is given back, unless its caller knows that it may be billed.
        let answered = |turn: &&Turn| {
            *turn == last || store.body(&turn.incident, turn.generation, &ChildName::Turn(1)).is_some()
        };
        // One that an earlier version began was counted nowhere.
        let begun: BTreeSet<_> = of()
            .filter(|turn| turn.number == 1)
            .filter(answered)
            .map(|turn| (&turn.incident, turn.generation))
            .collect();
        let (turns, begun) = (of().count() as u64, begun.len() as u64);
        let counted = store.counters().total(&scope);
        if limits.usd_per_hour.or(limits.usd_per_day).is_some() {
            broken.unless(turns * ITS_PRICE <= counted.usd.0, || {
                format!("{turns} turns are paid for, and {} is reserved of the budget {scope}", counted.usd)
            });
        }
        if limits.per_hour.or(limits.per_day).is_some() {
            broken.unless(begun <= counted.investigations.into(), || {
                format!("{begun} investigations are paid for, and counted are {counted:?} {scope}")
            });
        }
    }
}

/// The incidents and generations that ended without a model because a budget was used up, by their names on a notice.
pub(crate) fn refused<'a>(
    world: &World,
    generations: impl IntoIterator<Item = &'a Head>,
) -> BTreeSet<String> {
    let ended = generations.into_iter().filter(|head| {
        let Some(body) = world.store.body(&head.id, head.generation, &ChildName::Report) else {
            return false;
        };
        body.contains("is used up") && {
            let report: Report = serde_json::from_str(&body).unwrap();
            report.source == ReportSource::EvidenceOnly && report.summary.contains("is used up")
        }
    });
    ended.map(|head| format!("{}-{}", head.id, head.generation)).collect()
}

/// When nothing happens any more: all that was refused is on a notice to each sink, and there was no more than one an hour.
pub(crate) fn at_the_end(world: &World, refused: &BTreeSet<String>) {
    let told = world.told();
    for sink in world.sinks() {
        let notices = || told.iter().filter(|t| t.event == Event::Storm && t.sink == *sink);
        let listed: BTreeSet<&String> = notices().flat_map(|t| &t.listed).collect();
        for refused in refused {
            world.broken.unless(listed.contains(refused), || {
                format!("{refused} was refused, and {sink} never heard of it: {told:?}")
            });
        }
        let mut firsts: BTreeMap<Gen, UnixMs> = BTreeMap::new();
        for t in notices() {
            firsts.entry(t.generation).or_insert(t.at);
        }
        let at: Vec<UnixMs> = firsts.into_values().collect();
        for pair in at.windows(2) {
            let apart = pair[1].since(pair[0]);
            let good = apart + world.most_skew() >= BETWEEN_NOTICES;
            world.broken.unless(good, || format!("two notices to {sink} within {apart:?}: {told:?}"));
        }
    }
}
