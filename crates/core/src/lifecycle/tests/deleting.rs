//! Row Delete, and what a tombstone makes of what comes after it.

use super::*;
use crate::incident::Deleted;

impl Story {
    fn delete(&mut self) -> Deletion {
        self.take(&Delete { who: "an operator".into() })
    }
}

#[test]
fn nothing_and_a_notice_are_not_deleted() {
    assert_eq!(Story::new().delete(), Deletion::Unknown);
    let mut s = Story::done();
    s.edit().card = String::new();
    assert_eq!(s.delete(), Deletion::Notice);
    assert!(!s.wrote);
}

#[test]
fn what_waits_runs_or_is_still_to_be_told_is_left() {
    let mut s = Story::pending();
    assert_eq!(s.delete(), Deletion::NotOver(State::Pending));
    let (mut s, fence) = Story::running();
    assert_eq!(s.delete(), Deletion::NotOver(State::Running));
    let _ = s.commit(fence);
    assert_eq!(s.delete(), Deletion::NotOver(State::Done), "its findings are not told");
    let _ = s.claim_delivery(Event::Findings, "d");
    assert_eq!(s.delete(), Deletion::NotOver(State::Done), "they are being told");
    let _ = s.delivered(Event::Findings, "d");
    assert_eq!(s.delete(), Deletion::Deleted);
}

#[test]
fn a_call_that_an_abort_left_under_way_is_waited_for() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 120);
    let _ = s.abort();
    s.deliver_all();
    assert_eq!(s.at(149).delete(), Deletion::NotOver(State::Aborted));
    assert_eq!(s.at(150).delete(), Deletion::Deleted);
}

#[test]
fn what_fires_again_and_waits_for_its_window_is_left() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[fires(2, 30)]);
    s.deliver_all();
    assert!(s.head().again.is_some());
    assert_eq!(s.delete(), Deletion::NotOver(State::Done));
}

#[test]
fn a_tombstone_says_who_and_when_and_nothing_else_of_what_there_was() {
    let mut s = Story::done();
    let before = s.head().clone();
    assert_eq!(s.at(60).delete(), Deletion::Deleted);
    let head = s.head();
    assert_eq!(head.deleted, Some(Deleted { at: at(60), who: "an operator".into() }));
    assert_eq!((head.generation, head.epoch), (Gen(at(60).get()), before.epoch), "a generation of its own");
    assert!(head.labels.is_empty() && head.deliveries.is_empty());
    assert_eq!((head.verdict, &head.reason), (None, &None));
    assert_eq!((due_at(head), head.ttl), (None, Some(at(60).plus(Rules::RETENTION))));
    assert_eq!(s.delete(), Deletion::Deleted, "once more, for what a crash has left");
    assert!(!s.wrote && s.sent.is_none());
    // A clock that is behind makes no generation old.
    let mut s = Story::done();
    let before = s.head().generation;
    assert_eq!(s.at(-60).delete(), Deletion::Deleted);
    assert_eq!(s.head().generation, Gen(before.0 + 1));
    // Who it was stays short.
    let mut s = Story::done();
    let _ = s.take(&Delete { who: "x".repeat(5_000) });
    assert!(s.head().deleted.as_ref().is_some_and(|d| d.who.len() <= 110));
}

#[test]
fn what_goes_on_after_its_deletion_is_not_paid_for_again_and_its_end_is_told() {
    let mut s = Story::done();
    let _ = s.at(60).delete();
    assert_eq!(s.at(4_000).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!(s.state(), State::Done);
    assert_eq!(s.at(5_000).tell(&[ended(1, 0, 4_990)]), Taken::Resolved);
    assert_eq!(s.owed(), [Event::Resolved]);
    assert_eq!(s.head().labels, labels(&[("alertname", "PodDown")]), "under its name");
    s.deliver_all();
    assert!(s.head().ttl.is_some() && s.head().deleted.is_some());
}

#[test]
fn a_later_episode_is_an_incident_like_any_other() {
    let mut s = Story::done();
    let _ = s.at(60).delete();
    let _ = s.at(100).tell(&[ended(1, 0, 90)]);
    s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(1, 690)]), Taken::Accepted);
    let head = s.head();
    assert_eq!((head.state, head.deleted.as_ref()), (State::Pending, None));
    assert_eq!(head.labels, labels(&[("alertname", "PodDown")]));
}

#[test]
fn what_fires_again_within_the_window_is_investigated_when_it_is_over_under_its_name() {
    let mut s = Story::done();
    let _ = s.at(60).delete();
    assert_eq!(s.at(100).tell(&[fires(2, 100)]), Taken::Joined);
    assert_eq!(s.owed(), [Event::Updated]);
    s.deliver_all();
    assert_eq!(s.sent, Some(secs(500)), "at the window's end");
    assert_eq!(s.at(600).claim("w"), Claimed::WindowOver);
    assert_eq!(s.window_over(), Reopened::Reopened);
    let head = s.head();
    assert_eq!((head.state, head.deleted.as_ref()), (State::Pending, None));
    assert_eq!(head.labels, labels(&[("alertname", "PodDown")]));
    let _ = s.begin("w");
}

#[test]
fn a_job_from_before_the_deletion_is_done_with() {
    let mut s = Story::done();
    let old = s.head().generation;
    let _ = s.at(60).delete();
    assert_eq!(s.take(&Claim { generation: old, owner: "w".into() }), Claimed::Acknowledge);
    assert_eq!(s.claim("w"), Claimed::Acknowledge);
    assert_eq!(s.abort(), Aborted::AlreadyEnded(State::Done));
}
