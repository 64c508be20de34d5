//! Rows Deliver, Delivered and Missed, and what they mean for the time to live.

use super::*;

/// An incident whose findings are owed.
fn owing() -> Story {
    let (mut s, fence) = Story::running();
    let _ = s.commit(fence);
    s
}

#[test]
fn a_delivery_is_claimed_for_two_minutes() {
    let mut s = owing();
    assert_eq!(s.claim_delivery(Event::Findings, "d1"), DeliveryClaimed::Tell { remote: None });
    let d = s.delivery(Event::Findings);
    assert_eq!((d.state, d.at, d.tries), (DeliveryState::Claimed, at(120), 1));
    assert_eq!(s.claim_delivery(Event::Findings, "d2"), DeliveryClaimed::NotDue);
    assert_eq!(s.claim_delivery(Event::Findings, "d1"), DeliveryClaimed::Tell { remote: None }, "its own");
    assert_eq!(s.delivery(Event::Findings).tries, 1);
    assert_eq!(s.at(120).claim_delivery(Event::Findings, "d2"), DeliveryClaimed::Tell { remote: None });
    assert_eq!(s.delivery(Event::Findings).tries, 2);
}

#[test]
fn nothing_is_delivered_of_another_generation_or_before_the_end() {
    let (mut s, fence) = Story::running();
    let _ = s.tell(&[fires(2, 0)]);
    assert_eq!(s.claim_delivery(Event::Updated, "d1"), DeliveryClaimed::NotDue);
    let _ = s.commit(fence);
    let other = ClaimDelivery { generation: Gen(START - 1), key: key(Event::Findings), claimer: "d".into() };
    assert_eq!(s.take(&other), DeliveryClaimed::NotDue);
    assert_eq!(s.claim_delivery(Event::Resolved, "d1"), DeliveryClaimed::NotDue, "nobody armed it");
}

#[test]
fn what_was_told_is_settled_with_the_destinations_id() {
    let mut s = owing();
    let _ = s.claim_delivery(Event::Findings, "d1");
    assert_eq!(s.at(3).delivered(Event::Findings, "d1"), DeliveryRecorded::Recorded);
    let d = s.delivery(Event::Findings);
    assert_eq!((d.state, d.at, d.remote.as_deref()), (DeliveryState::Sent, at(3), Some("r-1")));
    assert_eq!(s.delivered(Event::Findings, "d1"), DeliveryRecorded::NotMine);
}

#[test]
fn only_the_claimer_records_how_it_went() {
    let mut s = owing();
    let _ = s.claim_delivery(Event::Findings, "d1");
    let _ = s.at(120).claim_delivery(Event::Findings, "d2");
    assert_eq!(s.delivered(Event::Findings, "d1"), DeliveryRecorded::NotMine);
    assert_eq!(s.missed(Event::Findings, "d1", None), DeliveryRecorded::NotMine);
    assert_eq!(s.delivered(Event::Findings, "d2"), DeliveryRecorded::Recorded);
}

#[test]
fn a_miss_is_tried_again_later_and_later() {
    let mut s = owing();
    let mut now = 0;
    let mut waits = Vec::new();
    for n in 0..8 {
        assert!(matches!(
            s.at(now).claim_delivery(Event::Findings, &n.to_string()),
            DeliveryClaimed::Tell { .. }
        ));
        let _ = s.missed(Event::Findings, &n.to_string(), Some(Duration::ZERO));
        let due = (s.delivery(Event::Findings).at.get() - START) / 1000;
        waits.push(due - now);
        assert_eq!(s.at(due - 1).claim_delivery(Event::Findings, "early"), DeliveryClaimed::NotDue);
        now = due;
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 0]);
    assert_eq!(s.delivery(Event::Findings).state, DeliveryState::Failed);
    assert!(s.head().ttl.is_some());
}

#[test]
fn a_destinations_own_wish_is_kept_where_it_is_longer() {
    let mut s = owing();
    let _ = s.claim_delivery(Event::Findings, "d1");
    let _ = s.missed(Event::Findings, "d1", Some(secs(300)));
    assert_eq!(s.delivery(Event::Findings).at, at(300));
}

#[test]
fn what_is_not_worth_another_try_fails_at_once() {
    let mut s = owing();
    let _ = s.claim_delivery(Event::Findings, "d1");
    let _ = s.missed(Event::Findings, "d1", None);
    assert_eq!(s.delivery(Event::Findings).state, DeliveryState::Failed);
    assert_eq!(s.owed(), []);
}

#[test]
fn a_delivery_whose_tellers_never_come_back_is_given_up() {
    // Otherwise the head would never settle, and no later episode would ever open.
    let mut s = owing();
    for n in 0..8 {
        let claimed = s.at(n * 120).claim_delivery(Event::Findings, &format!("d{n}"));
        assert!(matches!(claimed, DeliveryClaimed::Tell { .. }));
    }
    assert_eq!(s.at(960).claim_delivery(Event::Findings, "d9"), DeliveryClaimed::NotDue);
    assert_eq!(
        (s.delivery(Event::Findings).state, s.delivery(Event::Findings).tries),
        (DeliveryState::Failed, 8)
    );
    assert!(s.head().ttl.is_some());
    assert_eq!(s.tell(&[fires(1, 900)]), Taken::Accepted);
}

#[test]
fn news_during_the_last_try_has_its_own_tries() {
    let mut s = Story::done();
    let _ = s.tell(&[fires(2, 0)]);
    s.edit().deliveries.iter_mut().for_each(|d| d.tries = if d.is_settled() { d.tries } else { 7 });
    let _ = s.claim_delivery(Event::Updated, "d1");
    let _ = s.at(5).tell(&[fires(3, 0)]);
    let _ = s.missed(Event::Updated, "d1", Some(Duration::ZERO));
    let d = s.delivery(Event::Updated);
    assert_eq!((d.state, d.tries, d.at), (DeliveryState::Due, 0, at(5)));
    // The same where the last teller does not come back.
    s.edit().deliveries.iter_mut().for_each(|d| d.tries = if d.is_settled() { d.tries } else { 7 });
    let _ = s.claim_delivery(Event::Updated, "d2");
    let _ = s.at(6).tell(&[fires(4, 0)]);
    assert!(matches!(s.at(200).claim_delivery(Event::Updated, "d3"), DeliveryClaimed::Tell { .. }));
    assert_eq!(s.delivery(Event::Updated).tries, 1);
}

#[test]
fn whoever_takes_a_claim_over_tells_the_latest_once() {
    let mut s = Story::done();
    let _ = s.tell(&[fires(2, 0)]);
    let _ = s.claim_delivery(Event::Updated, "d1");
    let _ = s.tell(&[fires(3, 0)]);
    let _ = s.at(120).claim_delivery(Event::Updated, "d2");
    let _ = s.delivered(Event::Updated, "d2");
    assert_eq!(s.owed(), []);
}

#[test]
fn a_time_to_live_starts_when_the_last_delivery_settles() {
    let mut s = owing();
    s.rules.sinks = vec!["log".into()];
    let _ = s.tell(&[ended(1, 0, 20)]);
    assert_eq!(s.owed(), [Event::Findings, Event::Resolved]);
    let _ = s.claim_delivery(Event::Findings, "d1");
    let _ = s.delivered(Event::Findings, "d1");
    assert_eq!(s.head().ttl, None);
    let _ = s.at(40).claim_delivery(Event::Resolved, "d1");
    let _ = s.at(50).delivered(Event::Resolved, "d1");
    assert_eq!(s.head().ttl, Some(at(50).plus(s.rules.retention)));
}

#[test]
fn a_destination_that_asks_for_a_year_is_tried_again_within_the_hour() {
    let mut s = owing();
    let _ = s.claim_delivery(Event::Findings, "d1");
    let _ = s.missed(Event::Findings, "d1", Some(Duration::from_hours(24 * 365)));
    assert_eq!(s.delivery(Event::Findings).at, at(3600));
}
