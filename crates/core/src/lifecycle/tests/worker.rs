//! Rows Claim, Paid, Yield, Commit and Fail.

use super::*;

#[test]
fn a_claim_of_nothing_or_of_another_generation_is_acknowledged() {
    let mut s = Story::new();
    assert_eq!(s.take(&Claim { generation: Gen(START), owner: "w1".into() }), Claimed::Acknowledge);
    let mut s = Story::pending();
    assert_eq!(s.take(&Claim { generation: Gen(START - 1), owner: "w1".into() }), Claimed::Acknowledge);
    assert!(!s.wrote);
}

#[test]
fn a_claim_of_what_is_over_and_told_is_acknowledged() {
    let mut s = Story::done();
    assert_eq!(s.claim("w2"), Claimed::Acknowledge);
    assert!(!s.wrote);
}

#[test]
fn a_claim_of_what_is_over_delivers_what_is_due() {
    let (mut s, fence) = Story::running();
    let _ = s.commit(fence);
    assert_eq!(s.claim("w2"), Claimed::Deliver(vec![key(Event::Findings)]));
    assert_eq!(s.state(), State::Done);
}

#[test]
fn a_claim_that_is_too_early_sends_the_job_for_later() {
    let mut s = Story::with(Rules { wait: secs(120), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.at(50).claim("w1"), Claimed::Deferred);
    assert_eq!((s.wrote, s.sent), (false, Some(secs(70))));
    assert!(matches!(s.at(120).claim("w1"), Claimed::Investigate(_)));
}

#[test]
fn a_live_lease_is_left_to_its_holder() {
    let (mut s, _) = Story::running();
    assert_eq!(s.at(59).claim("w2"), Claimed::Acknowledge);
    assert_eq!((s.wrote, s.sent), (false, None), "the sweeper comes back");
}

#[test]
fn a_claim_whose_reply_was_lost_recognises_itself() {
    let (mut s, fence) = Story::running();
    assert_eq!(s.at(5).claim("w1"), Claimed::Investigate(fence));
    assert!(!s.wrote);
    assert_eq!(s.head().attempts, 1);
}

#[test]
fn a_claim_takes_the_lease_under_the_next_epoch() {
    let mut s = Story::pending();
    assert_eq!(s.at(10).begin("w1"), Fence { generation: Gen(START), epoch: 1 });
    let head = s.head();
    assert_eq!((head.state, head.attempts, head.owner.as_deref()), (State::Running, 1, Some("w1")));
    assert_eq!(head.lease_until, Some(at(70)));
}

#[test]
fn a_lease_that_is_over_is_taken_by_another() {
    let (mut s, _) = Story::running();
    assert_eq!(s.at(60).begin("w2"), Fence { generation: Gen(START), epoch: 2 });
    assert_eq!(s.head().attempts, 2);
}

#[test]
fn after_its_last_attempt_an_incident_fails_and_says_why() {
    let mut s = Story::pending();
    for n in 0..3 {
        let _ = s.at(n * 60).begin("w");
        s.edit().owner = Some(format!("gone {n}"));
    }
    assert_eq!(s.at(200).claim("w4"), Claimed::Deliver(vec![key(Event::Failed)]));
    assert_eq!((s.state(), s.head().lease_until), (State::Failed, None));
    assert_eq!(s.head().reason.as_deref(), Some("gave up after 3 attempts: the worker did not come back"));
}

#[test]
fn giving_up_names_the_last_reason_and_tells_a_resolve_too() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    let _ = s.put_off(fence, 5);
    let _ = s.at(6).tell(&[ended(1, 0, 5)]);
    s.edit().attempts = 3;
    assert_eq!(s.claim("w2"), Claimed::Deliver(vec![key(Event::Failed), key(Event::Resolved)]));
    assert_eq!(s.head().reason.as_deref(), Some("gave up after 3 attempts: the model is out"));
}

#[test]
fn giving_up_where_nobody_is_told_is_settled_at_once() {
    let mut s = Story::pending();
    s.rules.sinks.clear();
    s.edit().attempts = 3;
    assert_eq!(s.claim("w"), Claimed::Acknowledge);
    assert_eq!(s.head().ttl, Some(at(0).plus(s.rules.retention)));
}

#[test]
fn a_lease_outlives_the_call_it_was_granted_for_by_the_margin() {
    let (mut s, fence) = Story::running();
    assert_eq!(s.at(10).pay(fence, 1, 120), PaidOutcome::Granted { until: at(130) });
    assert_eq!((s.head().turn, s.head().lease_until), (1, Some(at(160))));
    assert_eq!(s.at(159).claim("w2"), Claimed::Acknowledge);
    assert!(matches!(s.at(160).claim("w2"), Claimed::Investigate(_)));
}

#[test]
fn a_short_call_beside_a_long_one_does_not_shorten_its_lease() {
    let (mut s, fence) = Story::running();
    assert_eq!(s.pay(fence, 1, 120), PaidOutcome::Granted { until: at(120) });
    assert_eq!(s.at(1).pay(fence, 1, 10), PaidOutcome::Granted { until: at(11) });
    assert_eq!(s.at(100).claim("w2"), Claimed::Acknowledge, "the long call may still be running");
}

#[test]
fn turns_never_go_back() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 3, 10);
    let _ = s.pay(fence, 2, 10);
    assert_eq!(s.head().turn, 3);
}

#[test]
fn a_holder_that_lost_its_lease_may_do_nothing_more() {
    let (mut s, old) = Story::running();
    let _ = s.at(60).begin("w2");
    let before = s.head().clone();
    assert_eq!(s.pay(old, 1, 10), PaidOutcome::NotMine);
    assert_eq!(s.put_off(old, 100), Yielded::NotMine);
    assert_eq!(s.commit(old), Ended::NotMine);
    assert_eq!(s.give_up(old), Ended::NotMine);
    assert_eq!(*s.head(), before);
}

#[test]
fn of_no_head_nothing_is_mine() {
    let mut s = Story::new();
    let fence = Fence { generation: Gen(START), epoch: 0 };
    assert_eq!(s.pay(fence, 1, 10), PaidOutcome::NotMine);
    assert_eq!(s.put_off(fence, 100), Yielded::NotMine);
    assert_eq!(s.commit(fence), Ended::NotMine);
    assert_eq!(s.give_up(fence), Ended::NotMine);
    assert!(s.head.is_none());
}

#[test]
fn a_yield_costs_a_slice_and_no_attempt() {
    let (mut s, fence) = Story::running();
    s.edit().sent_at = Some(at(-5));
    assert_eq!(s.at(10).put_off(fence, 130), Yielded::Yielded);
    let head = s.head();
    assert_eq!((head.state, head.attempts, head.slices), (State::Pending, 0, 1));
    assert_eq!((head.not_before, head.sent_at), (at(130), None));
    assert_eq!((&head.owner, head.lease_until, s.sent), (&None, None, Some(secs(120))));
    assert_eq!(s.at(130).begin("w2").epoch, 2);
}

#[test]
fn what_is_put_off_too_often_fails() {
    let (mut s, fence) = Story::running();
    s.edit().slices = s.rules.max_slices;
    assert_eq!(s.put_off(fence, 60), Yielded::Failed);
    assert_eq!((s.state(), s.owed(), s.sent), (State::Failed, vec![Event::Failed], None));
    assert!(s.head().reason.as_deref().is_some_and(|r| r.ends_with("the model is out")));
}

#[test]
fn a_commit_ends_the_lease_and_owes_the_findings() {
    let (mut s, fence) = Story::running();
    assert_eq!(s.commit(fence), Ended::Ended(vec![key(Event::Findings)]));
    let head = s.head();
    assert_eq!((head.state, head.verdict), (State::Done, Some(Verdict::NoAction)));
    assert_eq!((&head.owner, head.lease_until, head.ttl), (&None, None, None));
}

#[test]
fn a_commit_counts_once() {
    let (mut s, fence) = Story::running();
    let _ = s.commit(fence);
    assert_eq!(s.commit(fence), Ended::NotMine);
}

#[test]
fn every_sink_of_the_card_is_owed_the_findings() {
    let (mut s, fence) = Story::running();
    s.rules.sinks = vec!["log".into(), "slack".into()];
    let Ended::Ended(due) = s.commit(fence) else { panic!("mine") };
    assert_eq!(due.iter().map(|k| k.sink.as_str()).collect::<Vec<_>>(), ["log", "slack"]);
}

#[test]
fn a_failure_says_why_and_tells_a_resolve_too() {
    let (mut s, fence) = Story::running();
    let _ = s.tell(&[ended(1, 0, 20)]);
    assert_eq!(s.give_up(fence), Ended::Ended(vec![key(Event::Failed), key(Event::Resolved)]));
    assert_eq!((s.state(), s.head().reason.as_deref()), (State::Failed, Some("no tool answered")));
}

#[test]
fn a_reason_is_cut_so_that_the_head_stays_small() {
    let (mut s, fence) = Story::running();
    let _ = s.take(&Fail { fence, reason: "→".repeat(5000) });
    assert!(s.head().reason.as_deref().is_some_and(|r| r.len() <= 203 && r.ends_with('…')));
}
