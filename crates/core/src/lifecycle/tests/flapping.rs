//! Generations an hour.

use super::*;
use crate::incident::Openings;

const HOUR: i64 = 3_600;

/// At most two generations an hour.
fn story() -> Story {
    Story::with(Rules { generations_per_hour: Some(2), sinks: vec![of_all("log")], ..rules() })
}

/// Fires at `second`, is investigated, and resolves; gives what became of it and what was told.
fn episode(s: &mut Story, second: i64) -> (Taken, Vec<Event>) {
    let taken = s.at(second).tell(&[fires(1, second)]);
    if taken == Taken::Accepted {
        let fence = s.begin(&format!("w{second}"));
        let _ = s.commit(fence);
    }
    let mut told = s.deliver_all();
    let _ = s.at(second + 10).tell(&[ended(1, second, second + 10)]);
    told.extend(s.deliver_all());
    (taken, told)
}

#[test]
fn one_notice_stands_for_what_comes_after_the_limit_of_the_hour() {
    let mut s = story();
    let ends = [Event::Findings, Event::Resolved];
    assert_eq!(episode(&mut s, 0), (Taken::Accepted, ends.to_vec()));
    assert_eq!(episode(&mut s, WINDOW), (Taken::Accepted, ends.to_vec()));
    assert_eq!(episode(&mut s, 2 * WINDOW), (Taken::Joined, vec![Event::Flapping]));
    assert_eq!(episode(&mut s, 3 * WINDOW), (Taken::Joined, vec![]));
    assert_eq!(s.state(), State::Done);
    // The next hour has its own.
    assert_eq!(episode(&mut s, HOUR), (Taken::Accepted, ends.to_vec()));
    assert_eq!(s.head().openings, Some(Openings { since: at(HOUR), count: 1 }));
}

#[test]
fn an_episode_that_outlasts_the_hour_is_investigated_at_its_next_repeat() {
    let mut s = story();
    let _ = episode(&mut s, 0);
    let _ = episode(&mut s, WINDOW);
    let start = 2 * WINDOW;
    assert_eq!(s.at(start).tell(&[fires(1, start)]), Taken::Joined);
    assert_eq!(s.deliver_all(), [Event::Flapping]);
    assert_eq!(s.at(start + 60).tell(&[fires(1, start)]), Taken::Duplicate, "a repeat tells nothing new");
    assert_eq!(s.sent, None);
    assert_eq!(s.at(HOUR).tell(&[fires(1, start)]), Taken::Accepted);
}

#[test]
fn what_resolves_by_itself_again_and_again_flaps_too() {
    let mut s = Story::with(Rules { wait: secs(120), ..story().rules });
    for (second, taken) in
        [(0, Taken::Accepted), (40, Taken::Accepted), (80, Taken::Joined), (120, Taken::Joined)]
    {
        assert_eq!(s.at(second).tell(&[fires(1, second)]), taken, "{second}");
        let _ = s.at(second + 20).tell(&[ended(1, second, second + 20)]);
        assert_eq!(s.state(), State::Suppressed);
    }
    assert_eq!(s.owed(), [Event::Suppressed, Event::Flapping]);
    assert_eq!(s.at(HOUR).tell(&[fires(1, HOUR)]), Taken::Accepted);
}

#[test]
fn without_a_limit_nothing_flaps() {
    let mut s = Story::with(Rules { generations_per_hour: None, ..story().rules });
    for n in 0..6 {
        assert_eq!(episode(&mut s, n * WINDOW).0, Taken::Accepted);
    }
}
