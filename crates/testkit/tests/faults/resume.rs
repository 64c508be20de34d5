//! How long it takes until another worker goes on with what a crashed one had begun.

use std::time::Duration;

use sentinel_core::incident::State;
use sentinel_core::ports::Clock as _;
use sentinel_testkit::faults::{Faults, Kind};

use crate::cases::{LATENCY, in_virtual_time, play};
use crate::scenarios::all;
use crate::world::{House, Setting};

/// The longest that a worker asks for at once: the tool calls of one turn.
const LONGEST_CALL: Duration = Duration::from_mins(2);
/// What a lease has beyond its call.
const MARGIN: Duration = Duration::from_secs(30);
/// How often the sweeper comes, and what it and the next worker need to get to work.
const SWEEP: Duration = Duration::from_secs(61);

#[test]
fn a_crashed_investigation_goes_on_within_a_calls_time_out_thirty_seconds_and_a_sweep() {
    let scenarios = all();
    let first_alert = &scenarios[0];
    let points = play(first_alert, vec![], House::Whole).points;
    let (mut count, mut longest, mut shortest) = (0, Duration::ZERO, Duration::MAX);
    for (n, point) in points.iter().enumerate().filter(|(_, point)| point.process == "worker") {
        for kind in [Kind::CrashBefore, Kind::CrashAfter] {
            let resumed = in_virtual_time(async || {
                let world = first_alert.play(Setting::of(Faults::planned(LATENCY, vec![(n, kind)]))).await;
                let crashed = world.faults().crashes()[0];
                let crashed = world.clock.now().minus(crashed.elapsed());
                let written = world.written.lock().unwrap();
                let (_, before) = written.iter().rfind(|(at, _)| *at <= crashed)?;
                // Nothing was begun yet, or only deliveries were left.
                let lease = before.lease_until.filter(|_| before.state == State::Running)?;
                assert!(
                    lease <= crashed.plus(LONGEST_CALL + MARGIN),
                    "{point}, {kind}: a lease of {before:?}"
                );
                let next = written.iter().find(|(_, head)| head.epoch > before.epoch);
                let (resumed, _) = next.unwrap_or_else(|| panic!("{point}, {kind}: never resumed"));
                let late = resumed.since(lease);
                assert!(late <= SWEEP, "{point}, {kind}: resumed {late:?} after the lease's end");
                Some(resumed.since(crashed))
            });
            if let Some(resumed) = resumed {
                count += 1;
                longest = longest.max(resumed);
                shortest = shortest.min(resumed);
            }
        }
    }
    let bound = LONGEST_CALL + MARGIN + SWEEP;
    println!(
        "\n{count} crashes of a worker that held a lease: resumed after {:.0} s to {:.0} s, never after more than {} s",
        shortest.as_secs_f32(),
        longest.as_secs_f32(),
        bound.as_secs()
    );
    assert!(count > 20 && longest <= bound, "{count} crashes, {longest:?}");
}
