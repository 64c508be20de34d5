//! Sequences each of which broke an earlier draft of the table without any crash.

use super::*;

const DAY: i64 = 86_400;

#[test]
fn a_re_fire_after_suppressed() {
    let mut s = Story::pending();
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Suppressed);
    assert_eq!(
        s.at(60).tell(&[fires(1, 50)]),
        Taken::Accepted,
        "within the window, with its notice still owed"
    );
    let fence = s.begin("w1");
    assert_eq!(s.commit(fence), Ended::Ended(vec![key(Event::Findings)]));
}

#[test]
fn a_re_fire_days_later_whose_resolve_was_never_sent() {
    let mut s = Story::done();
    assert_eq!(s.at(3 * DAY).tell(&[fires(1, 3 * DAY - 60)]), Taken::Accepted);
    assert_eq!(s.head().began, Some(at(3 * DAY - 60)));
}

#[test]
fn a_late_copy_of_an_old_firing_after_its_resolve() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(1, 0)]), Taken::Duplicate);
    // By its sender's word it fires, so that nobody is told any longer that it does not; but nobody pays for it again.
    assert_eq!((s.state(), s.head().again, s.head().resolved()), (State::Done, None, None));
    assert_eq!(s.deliver_all(), [Event::Updated]);
    assert_eq!(s.tell(&[ended(1, 0, 20)]), Taken::Resolved);
    assert_eq!((s.deliver_all(), s.head().resolved()), (vec![Event::Resolved], Some(at(20))));
    assert_eq!(s.at(800).tell(&[fires(1, 750)]), Taken::Accepted, "the real next one is");
}

#[test]
fn an_old_resolve_arriving_after_the_next_episode_began() {
    let mut s = Story::done();
    assert_eq!(s.at(700).tell(&[fires(1, 680)]), Taken::Accepted);
    assert_eq!(s.at(710).tell(&[ended(1, 0, 300)]), Taken::Duplicate);
    assert_eq!((s.state(), s.head().resolved_at, &s.head().firing), (State::Pending, None, &members([1])));
}

#[test]
fn two_alertmanagers_that_see_different_members_of_one_group() {
    let mut s = Story::new();
    assert_eq!(s.tell(&[fires(1, 0)]), Taken::Accepted);
    assert_eq!(s.at(1).tell(&[fires(2, 0)]), Taken::Joined);
    assert_eq!(s.at(20).tell(&[ended(1, 0, 15)]), Taken::Resolved, "the other one still sees member 2");
    assert_eq!((s.state(), &s.head().firing), (State::Pending, &members([2])));
    assert_eq!(s.at(30).tell(&[ended(2, 0, 25)]), Taken::Suppressed);
}

#[test]
fn a_resolve_a_yield_then_a_re_fire_before_the_commit() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    let _ = s.at(20).tell(&[ended(1, 0, 15)]);
    assert_eq!(s.put_off(fence, 60), Yielded::Yielded);
    assert_eq!(s.at(50).tell(&[fires(1, 40)]), Taken::Joined);
    let fence = s.at(60).begin("w2");
    let due = vec![key(Event::Findings), key(Event::Updated)];
    assert_eq!(
        s.commit(fence),
        Ended::Ended(due),
        "it fires: no `resolved`, and the run had begun without it"
    );
    assert_eq!(s.at(80).tell(&[ended(1, 40, 70)]), Taken::Resolved);
    assert_eq!(s.deliver_all(), [Event::Findings, Event::Updated, Event::Resolved]);
}

#[test]
fn the_same_resolve_twice() {
    let (mut s, fence) = Story::running();
    let _ = s.tell(&[ended(1, 0, 20)]);
    let _ = s.commit(fence);
    assert_eq!(s.tell(&[ended(1, 0, 20)]), Taken::Duplicate);
    assert_eq!(s.deliver_all(), [Event::Findings, Event::Resolved]);
    assert_eq!(s.tell(&[ended(1, 0, 20)]), Taken::Duplicate);
    assert_eq!(s.owed(), []);
}

#[test]
fn a_holder_paused_past_its_lease_before_its_call() {
    let (mut s, old) = Story::running();
    let PaidOutcome::Granted { until } = s.pay(old, 1, 120) else { panic!("granted") };
    // It sleeps. When another takes over, the time of its call is up, by the margin.
    let new = s.at(150).begin("w2");
    assert!(until.plus(LEASE_MARGIN) <= at(150));
    assert_eq!(s.pay(old, 1, 120), PaidOutcome::NotMine);
    assert!(matches!(s.pay(new, 1, 120), PaidOutcome::Granted { .. }));
    assert_eq!(s.commit(old), Ended::NotMine);
}

#[test]
fn a_head_that_expired_under_a_continuing_alert() {
    let mut s = Story::done();
    let first = s.head().generation;
    // It is repeated every four hours: the record is renewed for as long as that goes on.
    for hour in (0..90 * 24).step_by(4) {
        assert_eq!(s.at(hour * 3600).tell(&[fires(1, 0)]), Taken::Duplicate);
        assert!(s.head().ttl.is_some_and(|ttl| ttl > s.now));
    }
    // Silence for longer than that: the store has collected it, and the next generation is later.
    s.head = None;
    assert_eq!(s.at(200 * DAY).tell(&[fires(1, 0)]), Taken::Accepted);
    assert!(s.head().generation > first);
    assert_eq!(s.take(&Claim { generation: first, owner: "old job".into() }), Claimed::Acknowledge);
}

#[test]
fn a_crash_between_create_and_snapshot_then_a_retry() {
    let mut s = Story::new();
    let _ = s.tell(&[fires(1, 0)]);
    let (generation, digest) = (s.head().generation, s.head().digest.clone());
    // The head is written; neither snapshot nor message are. The sender got no 200 and tries again.
    assert_eq!(s.at(2).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert!(s.appended && s.sent == Some(Duration::ZERO));
    assert_eq!((s.head().generation, &s.head().digest), (generation, &digest), "under the name that it had");
}

#[test]
fn a_re_fire_joined_to_a_finished_incident_then_a_late_copy_of_the_first_resolve() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    let _ = s.deliver_all();
    assert_eq!(s.at(60).tell(&[fires(1, 50)]), Taken::Joined);
    assert_eq!(s.deliver_all(), [Event::Updated]);
    assert_eq!(s.tell(&[ended(1, 0, 21)]), Taken::Duplicate);
    assert_eq!((s.owed(), &s.head().firing), (vec![], &members([1])));
    assert_eq!(s.at(700).tell(&[fires(1, 50)]), Taken::Accepted);
}

#[test]
fn two_resolves_whose_ends_differ_by_sender() {
    let mut s = Story::done();
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
    assert_eq!(s.tell(&[ended(1, 0, 23)]), Taken::Resolved);
    assert_eq!(s.deliver_all(), [Event::Resolved], "once");
    // A copy of the firing that began between them by one clock is of the old episode.
    assert_eq!(s.at(700).tell(&[fires(1, 22)]), Taken::Joined, "it has not been seen");
    assert_eq!((s.state(), s.head().again), (State::Done, None));
}

#[test]
fn an_abort_in_the_middle_of_a_paid_call_then_a_re_fire() {
    let (mut s, fence) = Story::running();
    let _ = s.at(590).pay(fence, 1, 120);
    assert_eq!(s.at(595).abort(), Aborted::Aborted);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(1, 690)]), Taken::Joined, "the aborted call may still be running");
    assert_eq!(s.deliver_all(), [Event::Updated]);
    assert_eq!(s.at(740).tell(&[fires(1, 690)]), Taken::Accepted);
    assert!(s.begin("w2").epoch > fence.epoch);
    assert_eq!(s.commit(fence), Ended::NotMine);
}

#[test]
fn a_claim_whose_reply_was_lost_at_the_last_attempt() {
    let mut s = Story::pending();
    s.edit().attempts = s.rules.max_attempts - 1;
    let fence = s.begin("w1");
    // The write was done, the reply lost. The same claim comes again.
    assert_eq!(s.claim("w1"), Claimed::Investigate(fence));
    assert!(matches!(s.commit(fence), Ended::Ended(_)));
}

#[test]
fn an_episode_that_begins_after_the_window_while_the_run_goes_on() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 900);
    assert_eq!(s.at(700).tell(&[fires(1, 650)]), Taken::Joined);
    let _ = s.at(800).commit(fence);
    assert_eq!(s.deliver_all(), [Event::Findings, Event::Updated]);
    assert_eq!(s.at(900).tell(&[fires(1, 650)]), Taken::Accepted, "its next repeat is investigated");
}

#[test]
fn two_senders_that_see_different_parts_of_a_group_for_ever() {
    let mut s = Story::done();
    let mut opened = 0;
    let mut updates = 0;
    for step in 1..=500 {
        let id = 1 + u64::from(step % 2 == 1);
        if s.at(step * 20).tell(&[fires(id, 0)]) == Taken::Accepted {
            opened += 1;
            let fence = s.begin("w");
            let _ = s.commit(fence);
        }
        updates += s.deliver_all().iter().filter(|e| **e == Event::Updated).count();
    }
    assert_eq!(opened, 1, "the part that joined a finished incident is investigated once, and never again");
    assert_eq!(updates, 1);
}

#[test]
fn a_later_episode_that_arrives_while_a_paid_run_is_put_off() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    assert_eq!(s.put_off(fence, 900), Yielded::Yielded);
    assert_eq!(s.at(700).tell(&[fires(1, 650)]), Taken::Joined);
    assert_eq!(s.tell(&[fires(1, 650)]), Taken::Duplicate, "told again, it is no more news");
    let fence = s.at(900).begin("w2");
    let _ = s.commit(fence);
    assert_eq!(s.deliver_all(), [Event::Findings, Event::Updated]);
    assert_eq!(s.at(1000).tell(&[fires(1, 650)]), Taken::Accepted, "its next repeat is investigated");
}

#[test]
fn a_late_copy_of_what_has_ended_is_not_investigated_again_although_its_card_wants_repeats() {
    let mut s = Story::with(Rules { reinvestigate_after: Some(secs(3600)), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    let fence = s.begin("w1");
    let _ = s.commit(fence);
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    let _ = s.deliver_all();
    assert_eq!(s.at(4000).tell(&[fires(1, 0)]), Taken::Duplicate, "a late copy");
    assert_eq!((s.state(), s.deliver_all()), (State::Done, vec![Event::Updated]));
    assert_eq!(s.at(8000).tell(&[fires(1, 7000)]), Taken::Accepted, "the next one is investigated");
}
