//! What a sink is told while an investigation runs, and how that goes with what it is told at the end.

use super::*;

/// An incident of member 1 which a worker investigates, and whose start the log wants to hear of.
fn started() -> (Story, Fence) {
    let mut s = Story::with(Rules { sinks: vec![of_all("log")], ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    let fence = s.begin("w1");
    (s, fence)
}

/// The events on the record, and how far each is.
fn recorded(s: &Story) -> Vec<(Event, DeliveryState)> {
    s.head().deliveries.iter().map(|d| (d.key.event, d.state)).collect()
}

#[test]
fn the_first_claim_of_a_generation_owes_its_start() {
    let (s, _) = started();
    assert_eq!(s.head().due_deliveries(s.now), [key(Event::Started)]);
    assert_eq!(due_at(s.head()), Some(at(0)));
}

#[test]
fn nobody_is_owed_what_nobody_wants() {
    let (s, _) = Story::running();
    assert_eq!((s.owed(), due_at(s.head())), (vec![], Some(at(60))));
    let mut s = Story::with(Rules {
        sinks: vec![Subscription { sink: "log".into(), events: [Event::Failed].into() }],
        ..rules()
    });
    let _ = s.tell(&[fires(1, 0)]);
    let fence = s.begin("w1");
    assert_eq!(s.commit(fence), Ended::Ended(vec![]));
    assert!(s.head().ttl.is_some(), "settled at once");
}

#[test]
fn an_investigation_that_goes_on_is_no_new_start() {
    let (mut s, fence) = started();
    assert_eq!(s.deliver_all(), [Event::Started]);
    let _ = s.at(5).put_off(fence, 30);
    let _ = s.at(30).begin("w2");
    let _ = s.at(95).begin("w3");
    assert_eq!(recorded(&s), [(Event::Started, DeliveryState::Sent)]);
    // The next generation is one.
    let fence = Fence { generation: s.head().generation, epoch: s.head().epoch };
    let _ = s.commit(fence);
    s.deliver_all();
    let _ = s.at(WINDOW + 1).tell(&[fires(1, WINDOW + 1)]);
    let _ = s.begin("w4");
    assert_eq!(recorded(&s), [(Event::Started, DeliveryState::Due)]);
}

#[test]
fn a_start_is_told_while_the_investigation_runs() {
    let (mut s, fence) = started();
    assert!(matches!(s.claim_delivery(Event::Started, "d1"), DeliveryClaimed::Tell { remote: None }));
    assert_eq!(s.pay(fence, 1, 10), PaidOutcome::Granted { until: at(10) }, "nothing waits for it");
    assert_eq!(s.at(2).delivered(Event::Started, "d1"), DeliveryRecorded::Recorded);
    assert_eq!(s.commit(fence), Ended::Ended(vec![key(Event::Findings)]));
    assert_eq!(s.head().latest_remote("log"), Some("r-1"));
}

#[test]
fn a_start_that_was_missed_is_told_by_whoever_comes_by() {
    let (mut s, _) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let _ = s.missed(Event::Started, "d1", Some(secs(40)));
    assert_eq!(due_at(s.head()), Some(at(40)), "before the lease ends");
    assert_eq!(s.at(39).claim("w2"), Claimed::Acknowledge);
    assert_eq!(s.at(40).take(&Sweep), Swept::Sent);
    assert_eq!(s.claim("w2"), Claimed::Deliver(vec![key(Event::Started)]));
    assert_eq!(s.state(), State::Running, "its holder goes on");
}

#[test]
fn a_start_that_nobody_was_told_of_is_dropped_where_the_end_is_owed() {
    let (mut s, fence) = started();
    assert_eq!(s.commit(fence), Ended::Ended(vec![key(Event::Findings)]));
    assert_eq!(recorded(&s), [(Event::Findings, DeliveryState::Due)]);
    assert_eq!(s.claim_delivery(Event::Started, "d1"), DeliveryClaimed::NotDue);
}

#[test]
fn an_end_waits_for_a_start_that_is_being_told() {
    let (mut s, fence) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    assert_eq!(s.at(5).commit(fence), Ended::Ended(vec![]));
    assert_eq!(due_at(s.head()), Some(at(120)), "when that claim is over");
    assert_eq!(s.claim_delivery(Event::Findings, "d2"), DeliveryClaimed::NotDue);
    assert_eq!(s.at(7).delivered(Event::Started, "d1"), DeliveryRecorded::Recorded);
    assert_eq!(due_at(s.head()), Some(at(5)));
    assert_eq!(s.deliver_all(), [Event::Findings]);
    assert!(s.head().ttl.is_some());
}

#[test]
fn a_start_that_fails_beside_the_end_is_dropped() {
    let (mut s, fence) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let _ = s.commit(fence);
    assert_eq!(s.missed(Event::Started, "d1", Some(Duration::ZERO)), DeliveryRecorded::Recorded);
    assert_eq!(recorded(&s), [(Event::Findings, DeliveryState::Due)]);
}

#[test]
fn a_start_that_was_refused_stays_on_the_record() {
    let (mut s, fence) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let _ = s.missed(Event::Started, "d1", None);
    let _ = s.commit(fence);
    assert_eq!(
        recorded(&s),
        [(Event::Started, DeliveryState::Failed), (Event::Findings, DeliveryState::Due)]
    );
    assert_eq!(s.delivery(Event::Started).error.as_deref(), Some("the destination is down"));
}

#[test]
fn a_start_whose_teller_died_gives_way_to_the_end() {
    let (mut s, fence) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let _ = s.commit(fence);
    let due = s.at(120).head().due_deliveries(at(120));
    assert_eq!(due, [key(Event::Started), key(Event::Findings)]);
    assert_eq!(s.claim_delivery(Event::Started, "d2"), DeliveryClaimed::NotDue);
    assert!(s.wrote, "it is taken out");
    assert!(matches!(s.claim_delivery(Event::Findings, "d2"), DeliveryClaimed::Tell { .. }));
    assert_eq!(s.delivered(Event::Started, "d1"), DeliveryRecorded::NotMine, "too late");
}

#[test]
fn a_sink_that_wants_the_start_only_is_told_of_it_at_any_time() {
    let mut s = Story::with(Rules {
        sinks: vec![Subscription { sink: "log".into(), events: [Event::Started].into() }],
        ..rules()
    });
    let _ = s.tell(&[fires(1, 0)]);
    let fence = s.begin("w1");
    let _ = s.claim_delivery(Event::Started, "d1");
    assert_eq!(s.commit(fence), Ended::Ended(vec![]));
    let _ = s.missed(Event::Started, "d1", Some(Duration::ZERO));
    assert_eq!(due_at(s.head()), Some(at(30)));
    assert_eq!(s.at(30).deliver_all(), [Event::Started]);
    assert!(s.head().ttl.is_some());
}

#[test]
fn an_investigation_that_was_put_off_and_resolved_says_so_after_its_start() {
    let (mut s, fence) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let _ = s.put_off(fence, 60);
    assert_eq!(s.state(), State::Pending);
    assert_eq!(s.delivered(Event::Started, "d1"), DeliveryRecorded::Recorded, "whatever state it is in");
    assert_eq!(s.at(6).tell(&[ended(1, 0, 5)]), Taken::Suppressed);
    assert_eq!(s.deliver_all(), [Event::Suppressed]);
}

#[test]
fn a_sink_is_told_in_order_and_waits_for_what_was_missed() {
    let (mut s, fence) = started();
    s.deliver_all();
    let _ = s.tell(&[fires(2, 0)]);
    let _ = s.tell(&[ended(1, 0, 20), ended(2, 0, 20)]);
    let Ended::Ended(due) = s.commit(fence) else { panic!("mine") };
    assert_eq!(due, [key(Event::Findings), key(Event::Updated), key(Event::Resolved)]);
    let _ = s.claim_delivery(Event::Findings, "d1");
    assert_eq!(s.claim_delivery(Event::Resolved, "d2"), DeliveryClaimed::NotDue);
    let _ = s.missed(Event::Findings, "d1", Some(secs(300)));
    assert_eq!(s.head().due_deliveries(s.now), []);
    assert_eq!(due_at(s.head()), Some(at(300)), "nothing is to be done before");
    // Given up, it holds up nothing.
    let _ = s.at(300).claim_delivery(Event::Findings, "d3");
    let _ = s.missed(Event::Findings, "d3", None);
    assert_eq!(s.deliver_all(), [Event::Updated, Event::Resolved]);
}

#[test]
fn one_sinks_trouble_is_not_anothers() {
    let mut s = Story::with(Rules { sinks: vec![of_all("log"), of_all("slack")], ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    let fence = s.begin("w1");
    let _ = s.claim_delivery(Event::Started, "d1");
    let Ended::Ended(due) = s.commit(fence) else { panic!("mine") };
    assert_eq!(due, [DeliveryKey { event: Event::Findings, sink: "slack".into() }]);
}

#[test]
fn the_last_error_of_a_sink_is_kept_until_it_is_told() {
    let (mut s, fence) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let _ = s.missed(Event::Started, "d1", None);
    let _ = s.commit(fence);
    let _ = s.claim_delivery(Event::Findings, "d2");
    let miss = Missed {
        generation: s.head().generation,
        key: key(Event::Findings),
        claimer: "d2".into(),
        retry: Some(Duration::ZERO),
        error: "x".repeat(500),
        remote: Some("part-1".into()),
    };
    let _ = s.take(&miss);
    assert_eq!(s.delivery(Event::Started).error, None);
    let findings = s.delivery(Event::Findings);
    assert!(findings.error.as_ref().is_some_and(|e| e.len() <= MOST_ERROR + 3), "{findings:?}");
    assert_eq!(findings.remote.as_deref(), Some("part-1"), "what was told of it in part");
    let told = s.at(30).claim_delivery(Event::Findings, "d3");
    assert_eq!(told, DeliveryClaimed::Tell { remote: Some("part-1".into()) });
    let _ = s.delivered(Event::Findings, "d3");
    assert_eq!(s.delivery(Event::Findings).error, None);
}

#[test]
fn an_id_that_is_too_long_for_the_head_is_not_kept() {
    let (mut s, _) = started();
    let _ = s.claim_delivery(Event::Started, "d1");
    let long = Delivered {
        generation: s.head().generation,
        key: key(Event::Started),
        claimer: "d1".into(),
        remote: Some("r".repeat(MOST_REMOTE + 1)),
        amiss: None,
    };
    let _ = s.take(&long);
    assert_eq!((s.owed(), s.head().latest_remote("log")), (vec![], None));
}
