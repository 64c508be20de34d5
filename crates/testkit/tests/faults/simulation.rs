//! Random schedules of the same house: alerts that come, go and come again, two Alertmanagers that do not agree, a queue
//! that loses, doubles, delays and reorders, clocks that are off, and any fault at any call.
//!
//! `SENTINEL_EPISODES=10000000` plays more, from `SENTINEL_SEED` on; `SENTINEL_SEED` alone plays that one seed and tells
//! what happened in it.

use std::time::{Duration, Instant};

use sentinel_testkit::faults::{Fate, Faults, Kind};

use crate::cases::{in_virtual_time, on_all_processors, switch};
use crate::checks::at_the_end;
use crate::dice::Dice;
use crate::sender::{Fact, Webhook, at};
use crate::world::{Action, Setting, World};

/// Episodes of a run by hand. `tests/run.sh` and `tests/proof.sh` play a hundred thousand.
const EPISODES: usize = 500;
/// Seeds that are played before it is looked whether that was enough.
const ROUND: u64 = 50;

/// How one seed went.
struct PlayedSeed {
    seed: u64,
    episodes: usize,
    investigations: usize,
    faults: usize,
    broken: Vec<String>,
    story: String,
}

/// Nothing, or how often of a thousand calls something goes wrong.
const RATES: &[u64] = &[0, 5, 20, 60];

fn setting(dice: &Dice) -> Setting {
    let (rate, fates) = (dice.one_of(RATES), dice.clone());
    let faults = Faults::chosen(move |_, _| {
        let slow = if fates.chance(20) { 3_000 } else { 50 };
        let latency = fates.up_to(Duration::from_millis(slow));
        Fate { latency, fault: fates.chance(rate).then(|| fates.one_of(&Kind::ALL)) }
    });
    let (copies, lossy) = (dice.clone(), dice.one_of(&[0, 50, 200]));
    let carry = move || match () {
        () if copies.chance(lossy) => vec![],
        () if copies.chance(lossy) => vec![copies.up_to(Duration::from_mins(5)), Duration::ZERO],
        () => vec![copies.up_to(Duration::from_secs(20))],
    };
    let (skews, skewed) = (dice.clone(), dice.chance(500));
    let out = |dice: &Dice| at(if dice.chance(150) { dice.below(360) } else { 0 });
    Setting {
        carry: Box::new(carry),
        comes_back: dice.chance(500).then_some(Duration::from_secs(30)),
        model_out_until: out(dice),
        sink_down_until: out(dice),
        skew: Box::new(
            move |_, _| if skewed { i64::try_from(skews.below(10_001)).unwrap() - 5_000 } else { 0 },
        ),
        ..Setting::of(faults)
    }
}

/// An alert that fired, by seconds since the start.
#[derive(Clone, Copy, Debug)]
struct Episode {
    pod: &'static str,
    from: u64,
    until: u64,
}

fn episodes(dice: &Dice) -> Vec<Episode> {
    let mut all = vec![];
    for pod in dice.first_of(&["a", "b", "c", "d"]) {
        let mut from = dice.below(600);
        for _ in 0..=dice.below(4) {
            let until = from + 20 + dice.below(900);
            all.push(Episode { pod, from, until });
            from = until + 5 + dice.below(2_400);
        }
    }
    all
}

/// What an Alertmanager says of a group at some second: who fires, and who has just ceased to.
fn facts(episodes: &[Episode], now: u64) -> Vec<Fact> {
    let mut latest: Vec<&Episode> = vec![];
    for episode in episodes.iter().filter(|e| e.from <= now) {
        latest.retain(|known| known.pod != episode.pod);
        latest.push(episode);
    }
    let told = latest.into_iter().filter(|e| e.until + 300 > now);
    told.map(|e| Fact { pod: e.pod, starts_at: at(e.from), ends_at: (e.until <= now).then(|| at(e.until)) })
        .collect()
}

/// What one Alertmanager posts of a group: soon after each change, and again while something fires.
fn posts(
    sender: &'static str,
    alertname: &'static str,
    episodes: &[Episode],
    dice: &Dice,
) -> Vec<(u64, Action)> {
    let changes = episodes.iter().flat_map(|e| [e.from, e.until]);
    let repeats = episodes.iter().flat_map(|e| (e.from..e.until).step_by(240).skip(1));
    let mut seconds: Vec<u64> = changes.chain(repeats).map(|second| second + dice.below(15)).collect();
    seconds.sort_unstable();
    seconds.dedup();
    // Some never arrive: the network lies between, or the other one has told it already.
    let told = seconds.into_iter().filter(|_| !dice.chance(100)).map(|now| (now, facts(episodes, now)));
    let told = told.filter(|(_, facts)| !facts.is_empty());
    told.map(|(now, facts)| {
        let ms = now * 1_000 + dice.below(30_000);
        (ms, Action::Post(Webhook { sender, alertname, facts }))
    })
    .collect()
}

fn schedule(dice: &Dice) -> (Vec<(u64, Action)>, usize) {
    let (mut actions, mut count) = (vec![], 0);
    for alertname in dice.first_of(&["PodDown", "MeteredPod", "DiskFull", "DearDisk"]) {
        let episodes = episodes(dice);
        count += episodes.len();
        for sender in dice.first_of(&["am-1", "am-2"]) {
            actions.extend(posts(sender, alertname, &episodes, dice));
        }
    }
    let (hours, some) = (2 * 3_600_000, |of_a_thousand| dice.chance(of_a_thousand));
    actions.extend(some(100).then(|| (dice.below(hours), Action::Abort)));
    actions.extend(some(150).then(|| (dice.below(hours), Action::Restart)));
    actions.extend(some(50).then(|| (dice.below(hours), Action::Garbage)));
    actions.sort_by_key(|(ms, _)| *ms);
    (actions, count)
}

fn play(seed: u64, tell: bool) -> PlayedSeed {
    in_virtual_time(async || {
        let dice = Dice::of(seed);
        let mut world = World::new(setting(&dice));
        let (script, episodes) = schedule(&dice);
        let mut story = vec![];
        if tell {
            story.extend(script.iter().map(|(ms, action)| format!("{ms:>9} ms {action:?}")));
        }
        world.script(script);
        world.play().await;
        at_the_end(&world, true);
        let written = world.written.lock().unwrap();
        if tell {
            let heads = written.iter().map(|(at, head)| format!("{at} {head:?}"));
            story.extend(heads.chain(world.told().iter().map(|told| format!("{told:?}"))));
            story.push(format!("{:#?}", world.faults().injected()));
        }
        PlayedSeed {
            seed,
            episodes,
            investigations: crate::checks::investigations(&written),
            faults: world.faults().injected().len(),
            broken: world.broken.all(),
            story: story.join("\n"),
        }
    })
}

fn number(name: &str) -> Option<u64> {
    let text = switch(name)?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}: it is a number")))
}

#[test]
fn random_schedules_lose_no_alert_and_pay_for_none_twice() {
    let began = Instant::now();
    let (seed, wanted) = (number("SENTINEL_SEED"), number("SENTINEL_EPISODES"));
    if let (Some(seed), None) = (seed, wanted) {
        let played = play(seed, true);
        println!("{}\nseed {seed}: {} episodes, {} faults", played.story, played.episodes, played.faults);
        assert!(played.broken.is_empty(), "seed {seed}: {:#?}", played.broken);
        return;
    }
    let wanted = wanted.map_or(EPISODES, |wanted| usize::try_from(wanted).unwrap());
    let first = seed.unwrap_or(1);
    let (mut next, mut episodes, mut investigations, mut faults) = (first, 0, 0, 0);
    let mut broken = vec![];
    while episodes < wanted && broken.is_empty() {
        let seeds: Vec<u64> = (next..next + ROUND).collect();
        next += ROUND;
        for played in on_all_processors(&seeds, |seed| play(*seed, false)) {
            episodes += played.episodes;
            investigations += played.investigations;
            faults += played.faults;
            if !played.broken.is_empty() {
                broken.push(format!("SENTINEL_SEED={} shows it again: {:#?}", played.seed, played.broken));
            }
        }
    }
    println!(
        "\nsimulation, seeds {first} to {}: {episodes} episodes, {investigations} investigations, {faults} faults, {} violations, in {:.0} s",
        next - 1,
        broken.len(),
        began.elapsed().as_secs_f32()
    );
    assert!(broken.is_empty(), "{} violations, the first:\n{}", broken.len(), broken[0]);
}

#[test]
fn a_seed_is_the_same_schedule_every_time() {
    for seed in 1..20 {
        assert_eq!(play(seed, true).story, play(seed, true).story, "seed {seed}");
    }
}
