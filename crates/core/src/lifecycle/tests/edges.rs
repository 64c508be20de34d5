//! Values at the edge of a row, and what one step must leave for the next one.

use super::*;
use crate::lifecycle::{Note, notice_id};

#[test]
fn a_start_at_the_very_instant_of_the_end_is_the_episode_that_ended() {
    let mut s = Story::done();
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
    let _ = s.deliver_all();
    let generation = s.head().generation;
    assert_ne!(s.at(700).tell(&[fires(1, 20)]), Taken::Accepted);
    assert_eq!((s.state(), s.head().generation), (State::Done, generation), "nobody pays for it again");
    assert_eq!(
        (s.head().again, s.deliver_all()),
        (None, vec![Event::Updated]),
        "by its sender's word it fires"
    );
    assert_eq!(s.tell(&[fires(1, 21)]), Taken::Accepted, "one second later is another");
}

#[test]
fn a_whole_notification_does_not_say_that_an_earlier_one_was_whole() {
    let mut s = Story::with(Rules { wait: secs(120), ..rules() });
    let _ = s.take(&Arrival { truncated: true, ..arrival(&[fires(1, 0)]) });
    assert_eq!(s.at(10).tell(&[fires(1, 0), fires(2, 5)]), Taken::Joined);
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20), ended(2, 5, 20)]), Taken::Resolved);
    assert_eq!((s.state(), s.owed()), (State::Pending, vec![]), "what was left out may fire still");
}

#[test]
fn an_incident_that_is_done_does_not_say_why_an_attempt_stopped() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    let _ = s.put_off(fence, 60);
    assert_eq!(s.head().reason.as_deref(), Some("the model is out"));
    let fence = s.at(60).begin("w2");
    let _ = s.commit(fence);
    assert_eq!((s.state(), s.head().reason.as_deref()), (State::Done, None));
}

#[test]
fn an_ended_one_is_due_with_the_sink_that_can_be_told_first() {
    let sinks = vec![of_all("chat"), of_all("log")];
    for state in [State::Done, State::Failed, State::Suppressed, State::Aborted] {
        let mut s = Story::with(Rules { sinks: sinks.clone(), ..rules() });
        let _ = s.tell(&[fires(1, 0)]);
        let fence = s.begin("w1");
        let _ = s.commit(fence);
        s.edit().state = state;
        assert!(matches!(s.claim_delivery(Event::Findings, "d1"), DeliveryClaimed::Tell { .. }));
        assert_eq!(due_at(s.head()), Some(at(0)), "the log is being told until 120, the chat waits");
        assert_eq!(s.take(&Sweep), Swept::Sent);
    }
}

#[test]
fn a_sinks_later_events_belong_to_what_it_was_told_last() {
    let mut s = Story::done();
    let remote = |s: &Story| s.head().latest_remote("log").map(str::to_owned);
    assert_eq!(remote(&s).as_deref(), Some("r-1"));
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Resolved);
    assert!(matches!(s.claim_delivery(Event::Resolved, "d"), DeliveryClaimed::Tell { .. }));
    let generation = s.head().generation;
    let told = Delivered {
        generation,
        key: key(Event::Resolved),
        claimer: "d".into(),
        remote: Some("a-later-one".into()),
        amiss: None,
    };
    assert_eq!(s.take(&told), DeliveryRecorded::Recorded);
    assert_eq!(remote(&s).as_deref(), Some("a-later-one"));
    assert_eq!(s.head().latest_remote("chat"), None, "each sink has its own");
}

#[test]
fn a_notice_after_a_clock_went_back_is_another_generation() {
    let note = |entry: &str| Note {
        id: notice_id("log"),
        sink: "log".into(),
        entry: entry.into(),
        reason: "the budget overall is used up".into(),
    };
    let mut s = Story::new();
    s.take(&note("a-1"));
    assert_eq!(s.at(60).deliver_all(), [Event::Storm]);
    let first = s.head().generation;
    s.at(-50).take(&note("b-1"));
    assert_eq!(s.head().generation, Gen(first.0 + 1), "or its list would be that of the notice before it");
    assert_eq!(s.owed(), [Event::Storm]);
}
