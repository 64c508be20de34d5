//! Rows Resolve.

use super::*;

#[test]
fn a_resolve_of_nothing_is_stale() {
    let mut s = Story::new();
    assert_eq!(s.tell(&[ended(1, 0, 5)]), Taken::Duplicate);
    assert_eq!((s.head.is_none(), s.wrote, s.appended, s.sent), (true, false, false, None));
}

#[test]
fn a_resolve_from_before_the_latest_start_is_stale() {
    let (mut s, _) = Story::running();
    let _ = s.at(60).tell(&[fires(1, 0), fires(2, 50)]);
    assert_eq!(s.tell(&[ended(1, 0, 49), ended(2, 0, 40)]), Taken::Duplicate);
    assert!(!s.wrote);
    assert_eq!(s.tell(&[ended(1, 0, 49), ended(2, 50, 50)]), Taken::Resolved, "the latest end counts");
}

#[test]
fn a_second_copy_of_a_resolve_changes_nothing() {
    let mut s = Story::done();
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
    let _ = s.deliver_all();
    assert_eq!(s.tell(&[ended(1, 0, 20)]), Taken::Duplicate);
    assert_eq!((s.wrote, s.owed()), (false, vec![]));
}

#[test]
fn the_recorded_end_never_falls() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    assert_eq!(s.tell(&[ended(1, 0, 10)]), Taken::Duplicate);
    assert_eq!(s.head().resolved_at, Some(at(20)));
}

#[test]
fn a_resolve_that_is_not_later_still_takes_its_members_out_of_the_firing() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    assert_eq!(s.tell(&[fires(1, 0)]), Taken::Duplicate, "a late copy of the old firing");
    assert_eq!(s.head().firing, members([1]));
    assert_eq!(s.tell(&[ended(1, 0, 20)]), Taken::Resolved);
    assert!(s.head().firing.is_empty());
}

#[test]
fn while_others_fire_a_part_of_them_ends() {
    for turn in 0..2 {
        let (mut s, fence) = Story::running();
        let _ = s.pay(fence, turn, 10);
        let _ = s.tell(&[fires(1, 0), fires(2, 0)]);
        assert_eq!(s.at(30).tell(&[ended(2, 0, 20)]), Taken::Resolved);
        assert_eq!((s.head().resolved_at, &s.head().firing), (None, &members([1])));
        assert_eq!((s.appended, s.sent), (true, None));
        assert_eq!(s.tell(&[ended(2, 0, 20)]), Taken::Duplicate);
        assert!(!s.wrote);
    }
}

#[test]
fn a_resolve_during_wait_suppresses_and_nothing_is_spent() {
    let mut s = Story::with(Rules { wait: secs(120), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Suppressed);
    assert_eq!((s.state(), s.head().resolved_at), (State::Suppressed, Some(at(20))));
    assert_eq!((s.head().turn, s.head().attempts), (0, 0));
    assert_eq!(s.owed(), [Event::Suppressed]);
    assert_eq!(s.at(120).claim("w1"), Claimed::Deliver(vec![key(Event::Suppressed)]));
}

#[test]
fn a_resolve_before_the_first_claim_suppresses_without_a_wait_too() {
    assert_eq!(Story::pending().at(30).tell(&[ended(1, 0, 20)]), Taken::Suppressed);
}

#[test]
fn what_the_sender_truncated_is_not_suppressed() {
    let mut s = Story::pending();
    let mut a = arrival(&[ended(1, 0, 20)]);
    a.truncated = true;
    assert_eq!(s.at(30).take(&a).taken, Taken::Resolved);
    assert_eq!((s.state(), s.head().resolved_at), (State::Pending, Some(at(20))));
    let mut s = Story::new();
    let _ = s.take(&Arrival { truncated: true, ..arrival(&[fires(1, 0)]) });
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved, "who else fires is not known");
    assert_eq!(s.state(), State::Pending);
}

#[test]
fn of_many_firing_members_none_can_resolve_all() {
    let mut s = Story::new();
    let _ = s.tell(&(1..=65).map(|n| fires(n, 0)).collect::<Vec<_>>());
    assert_eq!(s.at(30).tell(&(1..=65).map(|n| ended(n, 0, 20)).collect::<Vec<_>>()), Taken::Resolved);
    assert_eq!((s.state(), s.head().resolved_at), (State::Pending, None));
}

#[test]
fn a_pending_one_that_was_paid_for_is_not_suppressed() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    let _ = s.put_off(fence, 60);
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
    assert_eq!((s.state(), s.head().resolved_at, s.owed()), (State::Pending, Some(at(20)), vec![]));
}

#[test]
fn a_pending_one_that_only_made_evidence_calls_is_suppressed() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 0, 10);
    let _ = s.put_off(fence, 60);
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Suppressed);
}

#[test]
fn a_resolve_during_a_run_goes_with_its_findings() {
    let (mut s, fence) = Story::running();
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
    assert_eq!((s.state(), s.owed()), (State::Running, vec![]));
    let _ = s.commit(fence);
    assert_eq!(s.owed(), [Event::Findings, Event::Resolved]);
}

#[test]
fn a_resolve_after_any_end_of_a_run_is_told() {
    let mut ends = vec![Story::done()];
    let (mut failed, fence) = Story::running();
    let _ = failed.give_up(fence);
    ends.push(failed);
    let (mut aborted, _) = Story::running();
    let _ = aborted.abort();
    ends.push(aborted);
    for mut s in ends {
        let _ = s.deliver_all();
        let state = s.state();
        assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
        assert_eq!((s.state(), s.head().resolved_at, s.owed()), (state, Some(at(20)), vec![Event::Resolved]));
        assert_eq!((s.appended, s.sent, s.head().ttl), (true, Some(Duration::ZERO), None));
    }
}

#[test]
fn a_resolve_is_told_once_for_each_start_that_was_seen() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    assert_eq!(s.deliver_all(), [Event::Resolved]);
    assert_eq!(s.at(31).tell(&[ended(1, 0, 25)]), Taken::Resolved, "another sender names a later end");
    assert_eq!((s.head().resolved_at, s.owed()), (Some(at(25)), vec![]));
    let _ = s.at(50).tell(&[fires(1, 40)]);
    assert_eq!(s.deliver_all(), [Event::Updated]);
    let _ = s.at(70).tell(&[ended(1, 40, 60)]);
    assert_eq!(s.deliver_all(), [Event::Resolved]);
}

#[test]
fn a_later_resolve_of_a_suppressed_one_is_only_recorded() {
    let mut s = Story::pending();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    assert_eq!(s.tell(&[ended(1, 0, 25)]), Taken::Resolved);
    assert_eq!((s.state(), s.head().resolved_at), (State::Suppressed, Some(at(25))));
    assert_eq!(s.owed(), [Event::Suppressed]);
}

#[test]
fn a_sender_that_missed_the_latest_start_suppresses_nothing() {
    let mut s = Story::new();
    let _ = s.tell(&[fires(1, 100), fires(2, 0)]);
    // The other sender still believes in the first episode of 1, and tells both ends.
    assert_eq!(s.tell(&[ended(1, 0, 50), ended(2, 0, 120)]), Taken::Resolved);
    assert_eq!((s.state(), s.head().resolved_at), (State::Pending, None));
    assert_eq!(s.tell(&[ended(1, 100, 130), ended(2, 0, 120)]), Taken::Suppressed);
}

#[test]
fn what_resolved_before_its_run_spent_anything_is_suppressed_when_the_run_is_put_off() {
    let (mut s, fence) = Story::running();
    assert_eq!(s.at(10).tell(&[ended(1, 0, 5)]), Taken::Resolved);
    assert_eq!(s.put_off(fence, 900), Yielded::Yielded);
    assert_eq!(s.sent, Some(Duration::ZERO), "nobody has to wait for that");
    assert_eq!(s.claim("w2"), Claimed::Deliver(vec![key(Event::Suppressed)]));
    assert_eq!((s.state(), s.head().turn), (State::Suppressed, 0));
    assert_eq!(s.at(60).tell(&[fires(1, 50)]), Taken::Accepted, "what fires again opens it again");
}

#[test]
fn what_resolved_before_its_run_spent_anything_is_suppressed_when_the_worker_is_lost() {
    let (mut s, fence) = Story::running();
    let _ = s.at(10).tell(&[ended(1, 0, 5)]);
    assert_eq!(s.at(70).claim("w2"), Claimed::Deliver(vec![key(Event::Suppressed)]));
    assert_eq!(s.pay(fence, 1, 60), PaidOutcome::NotMine, "the first one only slept");
}

#[test]
fn what_fires_again_before_its_run_spent_anything_is_not_suppressed() {
    let (mut s, fence) = Story::running();
    let _ = s.at(10).tell(&[ended(1, 0, 5)]);
    assert_eq!(s.at(12).tell(&[fires(1, 11)]), Taken::Joined);
    let _ = s.put_off(fence, 60);
    let _ = s.at(60).begin("w2");
    // Nor where the one who told the end had missed the latest start.
    let mut s = Story::new();
    let _ = s.tell(&[fires(1, 100), fires(2, 0)]);
    let fence = s.begin("w1");
    assert_eq!(s.tell(&[ended(1, 0, 50), ended(2, 0, 120)]), Taken::Resolved);
    let _ = s.put_off(fence, 60);
    let _ = s.at(60).begin("w2");
}

#[test]
fn more_members_than_are_told_apart_do_not_keep_the_next_generation_from_ending() {
    let all: Vec<Member> = (1..=70).map(|id| fires(id, 0)).collect();
    let mut s = Story::new();
    let _ = s.tell(&all);
    assert!(s.head().firing.is_many());
    let fence = s.begin("w1");
    let _ = s.commit(fence);
    s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(1, 650)]), Taken::Accepted);
    assert_eq!(s.head().firing, members([1]));
    assert!(s.head().known.is_many(), "those that go on are no news, and nobody pays for them again");
    assert_eq!(s.at(710).tell(&[ended(1, 650, 705)]), Taken::Suppressed);
}

/// Kept as it is: only a start for each member could tell this end from a late copy of an older one, and a head has
/// no room for 64. What fires is never taken for ended; the price is that this group's end is not told.
#[test]
fn a_part_that_ended_before_another_began_stays_where_its_end_comes_late() {
    let mut s = Story::done();
    assert_eq!(s.at(110).tell(&[fires(2, 100)]), Taken::Joined);
    s.deliver_all();
    assert_eq!(s.at(120).tell(&[ended(1, 0, 50)]), Taken::Duplicate);
    assert_eq!(s.at(210).tell(&[ended(2, 100, 200)]), Taken::Resolved);
    assert_eq!((&s.head().firing, s.head().resolved_at), (&members([1]), None));
    assert_eq!(
        s.at(800).tell(&[fires(2, 790)]),
        Taken::Accepted,
        "the next episode is investigated all the same"
    );
}
