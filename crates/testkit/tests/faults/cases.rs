//! Runs cases: each in a runtime of its own whose time stands still, many at once on the machine's processors.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sentinel_testkit::faults::{Faults, Kind, Point};

use crate::scenarios::Scenario;
use crate::world::{House, Setting};

/// How long every call takes.
pub(crate) const LATENCY: Duration = Duration::from_millis(2);

/// Faults by the number of the call that they happen to.
pub(crate) type Plan = Vec<(usize, Kind)>;

/// How a case went.
pub(crate) struct Played {
    pub(crate) points: Vec<Point>,
    pub(crate) injected: Vec<(Point, Kind)>,
    pub(crate) broken: Vec<String>,
}

/// Runs what needs a runtime, in virtual time and always in the same order.
pub(crate) fn in_virtual_time<T>(case: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(case())
}

/// Plays a scenario with these faults.
pub(crate) fn play(scenario: &Scenario, plan: Plan, house: House) -> Played {
    in_virtual_time(async || {
        let setting = Setting { house, ..Setting::of(Faults::planned(LATENCY, plan)) };
        let world = scenario.play(setting).await;
        Played {
            points: world.faults().points(),
            injected: world.faults().injected(),
            broken: world.broken.all(),
        }
    })
}

/// Does `work` for every item, on all processors; the results are in the order of the items.
pub(crate) fn on_all_processors<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = work(item);
                    done.lock().unwrap().push((at, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What a suite prints, and what it found.
pub(crate) struct Table {
    columns: usize,
    sums: Vec<usize>,
    violations: Vec<String>,
}

impl Table {
    pub(crate) fn titled(title: &str, columns: &[&str]) -> Self {
        println!("\n{title:32}{}", in_columns(columns));
        Self { columns: columns.len(), sums: vec![0; columns.len()], violations: vec![] }
    }

    /// Keeps what is wrong with these cases; gives in how many something is.
    pub(crate) fn violations(&mut self, scenario: &Scenario, played: &[Played]) -> usize {
        let wrong = played.iter().filter(|played| !played.broken.is_empty());
        let before = self.violations.len();
        self.violations.extend(
            wrong.map(|played| format!("{}: {:?}: {:#?}", scenario.name, played.injected, played.broken)),
        );
        self.violations.len() - before
    }

    pub(crate) fn row(&mut self, name: &str, cells: &[usize]) {
        assert_eq!(cells.len(), self.columns);
        println!("{name:32}{}", in_columns(cells));
        self.sums.iter_mut().zip(cells).for_each(|(sum, cell)| *sum += cell);
    }

    /// Prints the sums, and fails the test if anything was wrong.
    pub(crate) fn close(self, began: Instant) {
        println!("{:32}{}  in {:.0} s", "all", in_columns(&self.sums), began.elapsed().as_secs_f32());
        let first = self.violations.iter().take(3).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.violations.is_empty(), "{} violations, the first:\n{first}", self.violations.len());
    }
}

fn in_columns(cells: &[impl Display]) -> String {
    cells.iter().fold(String::new(), |line, cell| format!("{line}{cell:>12}"))
}

/// What the caller of the tests asks for.
#[expect(clippy::disallowed_methods, reason = "how much is played is the caller's to say")]
pub(crate) fn switch(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
