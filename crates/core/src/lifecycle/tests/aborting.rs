//! Row Abort.

use super::*;

#[test]
fn an_abort_of_nothing_is_unknown() {
    assert_eq!(Story::new().abort(), Aborted::Unknown);
}

#[test]
fn an_abort_fences_the_worker_off_and_leaves_the_lease() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 120);
    assert_eq!(s.abort(), Aborted::Aborted);
    let head = s.head();
    assert_eq!((head.state, head.epoch, head.lease_until), (State::Aborted, 2, Some(at(150))));
    assert_eq!(head.reason.as_deref(), Some("aborted by an operator"));
    assert_eq!((s.owed(), s.sent), (vec![Event::Aborted], Some(Duration::ZERO)));
    assert_eq!(s.commit(fence), Ended::NotMine);
    assert_eq!(s.pay(fence, 2, 10), PaidOutcome::NotMine);
}

#[test]
fn a_pending_one_is_aborted_too_and_a_resolve_is_told_with_it() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    let _ = s.put_off(fence, 60);
    let _ = s.tell(&[ended(1, 0, 20)]);
    assert_eq!(s.abort(), Aborted::Aborted);
    assert_eq!(s.owed(), [Event::Aborted, Event::Resolved]);
}

#[test]
fn what_has_ended_is_not_aborted() {
    let mut s = Story::done();
    assert_eq!(s.abort(), Aborted::AlreadyEnded(State::Done));
    assert!(!s.wrote);
}
