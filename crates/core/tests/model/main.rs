//! The lifecycle's rules and the order of the shells' steps, explored completely in bounded worlds.
//!
//! `cargo test -p sentinel-core --test model -- --nocapture` prints the table: for each world the states that there
//! are, for each wrong design the shortest way to the promise that it breaks. `--ignored` allows one fault more in each world,
//! and takes hours.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: what cannot be fails it, and what it found is printed"
)]

mod model;
mod rule;
mod scenario;
mod sender;
mod shell;
mod witness;
mod worker;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use model::Action;
use rule::Mutant;
use scenario::{Scenario, all};
use world::World;

/// What exploring a world found.
struct Found {
    states: usize,
    depth: usize,
    took: Duration,
    /// The broken promise and the shortest way to it.
    broken: Option<(&'static str, Path<World, Action>)>,
}

fn search(scenario: &Scenario, depth: usize) -> Found {
    let began = Instant::now();
    // In one thread, so that the counts are the same each time.
    let checker =
        scenario.clone().checker().threads(1).finish_when(HasDiscoveries::Any).target_max_depth(depth);
    let checker = checker.spawn_bfs().join();
    let broken = checker.discoveries().into_iter().min_by_key(|(_, path)| length(path));
    Found { states: checker.unique_state_count(), depth: checker.max_depth(), took: began.elapsed(), broken }
}

/// Breadth first. Of several ways to break a promise stateright tells the last one of a block: it is searched again
/// for a shorter one, until there is none.
fn explore(scenario: &Scenario) -> Found {
    let mut found = search(scenario, usize::MAX);
    while let Some((_, path)) = &found.broken {
        let shorter = search(scenario, length(path) + 1);
        if shorter.broken.is_none() {
            break;
        }
        found = shorter;
    }
    found
}

/// How many steps a way has.
fn length(path: &Path<World, Action>) -> usize {
    path.clone().into_actions().len()
}

/// Does `job` for each of `all`, two at once.
fn each<T: Sync, R: Send>(all: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let n = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(one) = all.get(n)
                {
                    let result = job(one);
                    done.lock().unwrap().push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

fn steps(path: &Path<World, Action>) -> String {
    let actions = path.clone().into_actions();
    actions.iter().fold(String::new(), |all, action| all + &format!("    {action:?}\n"))
}

#[test]
fn every_promise_is_kept_in_every_state_of_every_world() {
    keep_their_promises(&all(false));
}

#[test]
#[ignore = "takes hours and much memory"]
fn every_promise_is_kept_where_one_fault_more_is_allowed() {
    keep_their_promises(&all(true));
}

fn keep_their_promises(worlds: &[Scenario]) {
    let states = each(worlds, |scenario| {
        let found = explore(scenario);
        println!(
            "{:>9} states, {:>3} steps deep, {:>3} s: {}",
            found.states,
            found.depth,
            found.took.as_secs(),
            scenario.name
        );
        if let Some((promise, path)) = found.broken {
            let last = path.last_state();
            let (name, steps) = (scenario.name, steps(&path));
            panic!("{name}: {promise:?} is broken by\n{steps}{:#?}\n{:#?}", last.head, last.witness);
        }
        found.states
    });
    println!("{:>9} states in {} worlds, 0 violations", states.iter().sum::<usize>(), states.len());
}

#[test]
fn every_wrong_design_is_rejected() {
    let worlds = all(false);
    let told = each(&Mutant::ALL, |(mutant, name, world)| {
        let scenario = worlds.iter().find(|scenario| scenario.name == *world).unwrap();
        let found = explore(&Scenario { mutant: Some(*mutant), ..scenario.clone() });
        let (promise, path) =
            found.broken.unwrap_or_else(|| panic!("nothing tells {name:?} from the right design"));
        let length = length(&path);
        format!("{name}: breaks {promise:?} in {length} steps ({world})\n{}", steps(&path))
    });
    println!("{}", told.concat());
    println!("{} wrong designs, {} rejected", Mutant::ALL.len(), told.len());
}
