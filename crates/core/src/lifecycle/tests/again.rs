//! What fires again: how it is shown, and when it is investigated.

use super::*;
use crate::incident::Again;

/// Member 1 of an incident whose end is told, which fires again at second 50.
fn fires_again() -> Story {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    let _ = s.deliver_all();
    assert_eq!((s.head().resolved(), s.head().again), (Some(at(20)), None));
    assert_eq!(s.at(55).tell(&[fires(1, 50)]), Taken::Joined);
    s
}

#[test]
fn what_fires_again_is_not_resolved_and_says_since_when_and_when_it_is_investigated() {
    let mut s = fires_again();
    assert_eq!(s.head().resolved(), None);
    assert_eq!(s.head().again, Some(Again { since: at(50), not_before: at(WINDOW) }));
    assert_eq!((s.head().ttl, s.owed()), (None, vec![Event::Updated]));
    assert_eq!(due_at(s.head()), Some(at(55)), "first it is told");
    let _ = s.deliver_all();
    assert_eq!((s.sent, due_at(s.head())), (Some(secs(545)), Some(at(WINDOW))));
}

#[test]
fn the_end_of_the_window_opens_it_without_another_word_of_its_sender() {
    let mut s = fires_again();
    let _ = s.deliver_all();
    let (generation, digest) = (s.head().generation, s.head().digest.clone());
    assert_eq!(s.at(WINDOW - 1).claim("w"), Claimed::Acknowledge);
    assert_eq!(s.window_over(), Reopened::Left);
    assert_eq!(s.at(WINDOW).claim("w"), Claimed::WindowOver);
    assert_eq!(s.window_over(), Reopened::Reopened);
    let head = s.head();
    assert!(head.generation > generation && s.appended && s.sent == Some(Duration::ZERO));
    assert_eq!(
        (head.state, head.again, head.began, head.seen),
        (State::Pending, None, Some(at(50)), Some(at(50)))
    );
    assert_eq!((&head.firing, &head.known, &head.digest), (&members([1]), &members([1]), &digest));
    assert_eq!(s.tell(&[fires(1, 50)]), Taken::Duplicate, "the sender's next repeat is nothing new to it");
    let fence = s.begin("w2");
    let _ = s.commit(fence);
    let _ = s.deliver_all();
    assert_eq!((s.at(2 * WINDOW).claim("w3"), s.head().ttl.is_some()), (Claimed::Acknowledge, true));
}

#[test]
fn a_window_that_ends_twice_opens_one_generation() {
    let mut s = fires_again();
    let _ = s.deliver_all();
    let over = WindowOver { generation: s.head().generation, firing: vec![] };
    assert_eq!(s.at(WINDOW).take(&over), Reopened::Reopened);
    assert_eq!(s.take(&over), Reopened::Left);
    assert!(!s.wrote);
}

#[test]
fn what_has_ended_by_then_is_not_investigated() {
    let mut s = fires_again();
    let _ = s.deliver_all();
    assert_eq!(s.at(90).tell(&[ended(1, 50, 80)]), Taken::Resolved);
    assert_eq!((s.head().resolved(), s.head().again), (Some(at(80)), None));
    assert_eq!(s.deliver_all(), [Event::Resolved]);
    assert_eq!((s.at(WINDOW).claim("w"), s.window_over()), (Claimed::Acknowledge, Reopened::Left));
    assert!(s.head().ttl.is_some());
}

#[test]
fn an_end_that_is_still_to_be_told_is_not_told_where_it_fires_again() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    assert_eq!(s.owed(), [Event::Resolved]);
    let _ = s.at(55).tell(&[fires(1, 50)]);
    assert_eq!(s.deliver_all(), [Event::Updated]);
    let _ = s.at(90).tell(&[ended(1, 50, 80)]);
    assert_eq!(s.deliver_all(), [Event::Resolved]);
}

#[test]
fn an_end_whose_telling_failed_or_was_lost_is_not_told_again_where_it_fires_again() {
    for lost in [false, true] {
        let mut s = Story::done();
        let _ = s.at(30).tell(&[ended(1, 0, 20)]);
        let _ = s.claim_delivery(Event::Resolved, "d1");
        let _ = s.at(55).tell(&[fires(1, 50)]);
        if !lost {
            let _ = s.missed(Event::Resolved, "d1", Some(Duration::ZERO));
        }
        s.now = at(400);
        if lost {
            assert_eq!(s.claim_delivery(Event::Resolved, "d2"), DeliveryClaimed::NotDue);
        }
        assert_eq!(s.deliver_all(), [Event::Updated], "{lost}");
        assert!(s.head().deliveries.iter().all(|d| d.key.event != Event::Resolved));
    }
}

#[test]
fn one_that_fires_again_while_it_is_investigated_is_investigated_again() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 60);
    let _ = s.at(20).tell(&[ended(1, 0, 15)]);
    assert_eq!(s.at(30).tell(&[fires(1, 25)]), Taken::Joined);
    let _ = s.commit(fence);
    assert_eq!(s.head().again, Some(Again { since: at(25), not_before: at(WINDOW) }));
    assert_eq!(s.deliver_all(), [Event::Findings, Event::Updated]);
    assert_eq!(s.at(WINDOW).claim("w"), Claimed::WindowOver);
}

#[test]
fn one_that_fires_again_before_anything_is_paid_for_is_investigated_once() {
    // It ended and fires again: while a worker had it that came to nothing, or while it waited after that.
    for while_running in [true, false] {
        let (mut s, fence) = Story::running();
        let _ = s.at(20).tell(&[ended(1, 0, 15)]);
        if while_running {
            assert_eq!(s.at(30).tell(&[fires(1, 25)]), Taken::Joined);
            let _ = s.put_off(fence, 60);
        } else {
            let _ = s.put_off(fence, 60);
            assert_eq!(s.at(30).tell(&[fires(1, 25)]), Taken::Joined);
        }
        let fence = s.at(90).begin("w2");
        assert_eq!((s.head().again, s.head().began), (None, Some(at(25))), "{while_running}");
        let _ = s.pay(fence, 1, 60);
        let _ = s.commit(fence);
        let _ = s.deliver_all();
        assert_eq!(s.at(200).tell(&[fires(1, 25)]), Taken::Duplicate, "{while_running}");
        assert_eq!(
            (s.head().again, s.at(WINDOW).claim("w3")),
            (None, Claimed::Acknowledge),
            "{while_running}"
        );
        assert_eq!(s.at(900).tell(&[fires(1, 25)]), Taken::Duplicate, "{while_running}");
    }
}

#[test]
fn a_member_that_joins_findings_waits_for_the_window_for_as_long_as_it_fires() {
    let mut s = Story::done();
    assert_eq!(s.at(100).tell(&[fires(1, 0), fires(2, 90)]), Taken::Joined);
    assert_eq!(s.head().again, Some(Again { since: at(90), not_before: at(WINDOW) }));
    let _ = s.deliver_all();
    assert_eq!(s.at(200).tell_each(&[fires(1, 0), ended(2, 90, 190)]), [Taken::Duplicate, Taken::Resolved]);
    assert_eq!((s.head().again, s.head().resolved()), (None, None), "what was investigated goes on");
    assert_eq!(s.at(WINDOW).claim("w"), Claimed::Acknowledge);
}

#[test]
fn the_window_of_what_flaps_is_its_hour() {
    let rules = Rules { generations_per_hour: Some(1), ..rules() };
    let mut s = Story::with(rules);
    let _ = s.tell(&[fires(1, 0)]);
    let fence = s.begin("w");
    let _ = s.commit(fence);
    let _ = s.deliver_all();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(1, 690)]), Taken::Joined);
    assert_eq!(s.head().again, Some(Again { since: at(690), not_before: at(3600) }));
    assert_eq!(s.deliver_all(), [Event::Flapping]);
    assert_eq!((s.at(3599).claim("w"), s.at(3600).claim("w")), (Claimed::Acknowledge, Claimed::WindowOver));
    assert_eq!(s.window_over(), Reopened::Reopened);
}

#[test]
fn a_card_that_allows_fewer_generations_by_now_keeps_the_window_shut_for_the_hour() {
    let mut s = fires_again();
    let _ = s.deliver_all();
    s.rules.generations_per_hour = Some(1);
    s.edit().openings = Some(crate::incident::Openings { since: at(0), count: 1 });
    assert_eq!(s.at(WINDOW).window_over(), Reopened::Left);
    assert_eq!(s.head().again.map(|again| again.not_before), Some(at(3600)));
    assert_eq!(s.at(3600).window_over(), Reopened::Reopened);
}

#[test]
fn nobody_begins_beside_a_call_of_an_aborted_run() {
    let (mut s, fence) = Story::running();
    let _ = s.at(590).pay(fence, 1, 120);
    let _ = s.at(595).abort();
    let _ = s.at(596).tell(&[ended(1, 0, 595)]);
    let _ = s.at(598).tell(&[fires(1, 597)]);
    let _ = s.deliver_all();
    let until = s.head().lease_until.expect("a lease");
    assert!(until > at(WINDOW));
    assert_eq!((s.head().reopens_at(), s.at(WINDOW).claim("w")), (Some(until), Claimed::Acknowledge));
    s.now = until;
    assert_eq!(s.claim("w"), Claimed::WindowOver);
}

#[test]
fn of_a_crowd_those_fire_who_are_stored_to_fire() {
    let crowd: Vec<Member> = (1..=70).map(|id| fires(id, 0)).collect();
    let mut s = Story::new();
    let _ = s.tell(&crowd);
    let fence = s.begin("w");
    let _ = s.commit(fence);
    let _ = s.deliver_all();
    let _ = s.at(700).take(&Abort { who: "nobody".into() });
    s.edit().reopen_after = at(900);
    let _ = s.at(710).tell(&[fires(3, 700)]);
    let _ = s.deliver_all();
    let over = WindowOver { generation: s.head().generation, firing: vec![MemberId(3)] };
    assert_eq!(s.at(900).take(&over), Reopened::Reopened);
    assert_eq!(s.head().firing, members([3]));
}

#[test]
fn each_alert_is_counted_as_what_it_is() {
    use Taken::{Duplicate, Joined, Resolved};
    let mut s = Story::done();
    let each = |s: &mut Story, second, members: &[Member]| s.at(second).tell_each(members);
    assert_eq!(each(&mut s, 10, &[fires(1, 0), fires(2, 5)]), [Duplicate, Joined]);
    assert_eq!(each(&mut s, 11, &[fires(1, 0), fires(2, 5)]), [Duplicate, Duplicate]);
    assert_eq!(each(&mut s, 20, &[fires(1, 0), ended(2, 5, 15)]), [Duplicate, Resolved]);
    assert_eq!(each(&mut s, 21, &[fires(1, 0), ended(2, 5, 15)]), [Duplicate, Duplicate]);
    assert_eq!(each(&mut s, 30, &[ended(1, 0, 25), ended(2, 5, 15)]), [Resolved, Resolved]);
    assert_eq!(each(&mut s, 40, &[fires(1, 35), ended(2, 5, 15)]), [Joined, Duplicate]);
    assert_eq!(each(&mut s, 41, &[fires(1, 35), ended(2, 5, 15)]), [Duplicate, Duplicate]);
}
