//! Storm notices.

use super::*;
use crate::lifecycle::{GATHER, Note, notice_id};

const HOUR: i64 = 3_600;

fn note(entry: &str) -> Note {
    Note {
        id: notice_id("log"),
        sink: "log".into(),
        entry: entry.into(),
        reason: "the budget overall is used up (30 investigations an hour)".into(),
    }
}

#[test]
fn a_notice_is_due_once_the_storm_had_time_to_gather() {
    let mut s = Story::new();
    s.take(&note("a-1"));
    assert!(s.appended && s.head().is_notice());
    assert_eq!((s.state(), s.sent), (State::Done, Some(GATHER)));
    s.at(30).take(&note("b-1"));
    assert_eq!((s.appended, s.sent, s.owed()), (true, None, vec![Event::Storm]));
    assert_eq!(s.deliver_all(), [], "not yet");
    assert_eq!(s.at(60).deliver_all(), [Event::Storm]);
    assert!(s.head().ttl.is_some());
}

#[test]
fn the_next_notice_is_told_an_hour_after_the_last_one() {
    let mut s = Story::new();
    s.take(&note("a-1"));
    assert_eq!(s.at(60).deliver_all(), [Event::Storm]);
    let first = s.head().generation;
    s.at(120).take(&note("b-1"));
    assert!(s.head().generation > first && s.appended && s.head().ttl.is_none());
    assert_eq!(s.sent, Some(secs(3_540)));
    assert_eq!(s.at(HOUR).deliver_all(), []);
    assert_eq!(s.at(HOUR + 60).deliver_all(), [Event::Storm]);
    // A quiet day later it is as the first.
    s.at(30 * HOUR).take(&note("c-1"));
    assert_eq!(s.sent, Some(GATHER));
}

#[test]
fn what_is_noted_while_a_notice_is_told_is_told_once_more() {
    let mut s = Story::new();
    s.take(&note("a-1"));
    s.at(60);
    assert!(matches!(s.claim_delivery(Event::Storm, "d"), DeliveryClaimed::Tell { .. }));
    s.take(&note("b-1"));
    assert!(s.appended);
    assert_eq!(s.delivered(Event::Storm, "d"), DeliveryRecorded::Recorded);
    assert_eq!(s.deliver_all(), [Event::Storm]);
    assert_eq!(s.deliver_all(), []);
}

#[test]
fn a_worker_that_claims_a_notice_tells_it() {
    let mut s = Story::new();
    s.take(&note("a-1"));
    assert_eq!(s.at(10).claim("w"), Claimed::Acknowledge);
    assert!(matches!(s.at(60).claim("w"), Claimed::Deliver(due) if due.len() == 1));
    assert_eq!(due_at(s.head()), Some(at(60)));
}
