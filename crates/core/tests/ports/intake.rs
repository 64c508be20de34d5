//! Whole webhooks: folding by dedupe key, counting, and many keys at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::support::{Fault, World, card, firing, message, resolved};
use futures::executor::block_on;
use sentinel_core::alert::Alert;
use sentinel_core::card::{Card, DedupeBy, Matcher};
use sentinel_core::intake::{Receipt, fold, intake};
use sentinel_core::lifecycle::Taken;
use sentinel_core::notification::{Notification, Refusal};
use sentinel_core::ports::IncidentStore as _;
use sentinel_core::redact::Redactor;

fn post(world: &Arc<World>, cards: &[Card], alerts: Vec<Alert>) -> Receipt {
    block_on(intake(&world.ports(), cards, &Redactor::default(), &message(alerts))).unwrap()
}

fn sum(r: &Receipt) -> u64 {
    r.accepted + r.duplicates + r.joined + r.resolved + r.suppressed + r.unmatched + r.refused
}

fn by_alert(name: &str) -> Card {
    Card { dedupe_by: DedupeBy::Alert, ..card(name) }
}

fn only_of(name: &str, alertname: &str) -> Card {
    let mut card = card(name);
    card.resource.matchers.push(Matcher::equal("alertname", alertname));
    card
}

#[test]
fn counts_are_alerts_and_sum_to_the_payloads() {
    let world = World::new();
    let cards = [only_of("down", "Down"), only_of("full", "Full"), only_of("slow", "Slow")];
    let _ = post(&world, &cards, vec![firing("Full", "a", 0), firing("Slow", "a", 0)]);
    let mut webhook = message(vec![
        firing("Down", "a", 0),
        firing("Down", "b", 0),
        firing("Full", "a", 0),
        resolved("Slow", "a", 0, 5),
        firing("Other", "a", 0),
    ]);
    webhook.refused.push(Refusal { path: "alerts[5]".into(), reason: "no labels".into() });
    let r = block_on(intake(&world.ports(), &cards, &Redactor::default(), &webhook)).unwrap();
    assert_eq!((r.accepted, r.duplicates, r.suppressed), (2, 1, 1));
    assert_eq!((r.unmatched, r.refused, r.refusals.len()), (1, 1, 1));
    assert_eq!(sum(&r), 6);
    assert_eq!(r.incidents.len(), 3, "one for each key");
    assert!(r.incidents.is_sorted_by_key(|i| i.id.clone()));
}

#[test]
fn an_alert_that_no_card_takes_is_counted_and_touches_nothing() {
    let world = World::new();
    let r = post(&world, &[only_of("down", "Down")], vec![firing("Other", "a", 0)]);
    assert_eq!((r.unmatched, sum(&r)), (1, 1));
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn the_first_card_that_takes_an_alert_has_it_alone() {
    let world = World::new();
    let r = post(&world, &[card("one"), card("two")], vec![firing("Down", "a", 0)]);
    assert_eq!(r.incidents.iter().map(|i| i.card.as_str()).collect::<Vec<_>>(), ["one"]);
}

#[test]
fn an_alert_of_two_cards_is_counted_once_by_its_strongest_outcome() {
    let world = World::new();
    let first = Card { continues: true, ..card("one") };
    let _ = post(&world, std::slice::from_ref(&first), vec![firing("Down", "a", 0)]);
    let r = post(&world, &[first, card("two")], vec![firing("Down", "a", 0)]);
    assert_eq!(
        (r.accepted, r.duplicates, sum(&r)),
        (1, 0, 1),
        "opened for the second, a repeat for the first"
    );
    assert_eq!(r.incidents.len(), 2);
    assert_eq!(world.heads().len(), 2);
}

#[test]
fn outcomes_are_ordered_from_the_weakest_to_the_strongest() {
    let order = [Taken::Duplicate, Taken::Resolved, Taken::Suppressed, Taken::Joined, Taken::Accepted];
    assert!(order.is_sorted());
}

#[test]
fn firing_and_resolved_alerts_of_one_group_are_one_notification_that_fires() {
    let world = World::new();
    let r = post(&world, &[card("c")], vec![resolved("Down", "a", 0, 5), firing("Down", "b", 3)]);
    assert_eq!((r.accepted, r.resolved, r.incidents.len()), (1, 1, 1), "each is counted as what it is");
    let head = world.only();
    assert_eq!((head.known.iter().count(), head.firing.iter().count()), (2, 1));
    let stored: Notification = serde_json::from_str(&world.snapshots()[0]).unwrap();
    assert_eq!(stored.alerts.len(), 2);
}

#[test]
fn of_the_same_labels_twice_firing_wins_then_the_later_start_then_the_later_end() {
    let once = |alerts: &[Alert]| {
        let (mut folded, unmatched) = fold(&[card("c")], &message(vec![]).envelope, alerts);
        assert!(unmatched.is_empty() && folded.len() == 1);
        let fold = folded.remove(0);
        assert_eq!((fold.arrival.members.len(), fold.notification.alerts.len()), (1, 1));
        let told = fold.notification.alerts[0].clone();
        assert_eq!(told.member, Some(fold.arrival.members[0].id));
        (fold.arrival.members[0], Alert { member: None, ..told })
    };
    let early = firing("Down", "a", 0);
    let late = firing("Down", "a", 9);
    let ended = resolved("Down", "a", 50, 60);
    let undated = Alert { starts_at: None, ..early.clone() };
    for alerts in [vec![early.clone(), late.clone()], vec![late.clone(), early.clone()]] {
        let (member, told) = once(&alerts);
        assert_eq!((member.starts_at, told), (late.starts_at, late.clone()));
    }
    for alerts in [vec![ended.clone(), early.clone()], vec![early.clone(), ended.clone()]] {
        assert_eq!(once(&alerts).1, early);
    }
    assert_eq!(once(&[undated, early.clone()]).1, early);
    let ended_later = resolved("Down", "a", 50, 70);
    for alerts in [vec![ended.clone(), ended_later.clone()], vec![ended_later.clone(), ended]] {
        assert_eq!(once(&alerts).1, ended_later);
    }
}

#[test]
fn the_same_labels_twice_count_twice() {
    let world = World::new();
    let r = post(&world, &[card("c")], vec![firing("Down", "a", 0), firing("Down", "a", 0)]);
    assert_eq!((r.accepted, sum(&r)), (2, 2));
}

#[test]
fn copies_of_highly_available_senders_are_one_member() {
    let world = World::new();
    let copy = |replica: &str| {
        let mut alert = firing("Down", "a", 0);
        alert.labels.insert("replica".into(), replica.into());
        alert
    };
    let _ = post(&world, &[card("c")], vec![copy("one")]);
    assert_eq!(post(&world, &[card("c")], vec![copy("two")]).duplicates, 1);
    assert_eq!(world.only().known.iter().count(), 1);
}

#[test]
fn what_the_sender_left_out_is_remembered() {
    let world = World::new();
    let mut webhook = message(vec![firing("Down", "a", 0)]);
    webhook.envelope.truncated_alerts = 3;
    let _ = block_on(intake(&world.ports(), &[card("c")], &Redactor::default(), &webhook)).unwrap();
    assert!(world.only().truncated);
}

fn many(count: usize) -> Vec<Alert> {
    (0..count).map(|n| firing("Down", &format!("pod-{n}"), 0)).collect()
}

#[test]
fn five_hundred_keys_are_all_driven_and_at_most_thirty_two_at_once() {
    let world = World::new();
    let r = post(&world, &[by_alert("c")], many(500));
    assert_eq!((r.accepted, r.incidents.len(), world.heads().len()), (500, 500, 500));
    assert_eq!(world.jobs.lock().unwrap().len(), 500);
    assert_eq!(world.most_creating.load(Ordering::SeqCst), 32);
}

#[test]
fn one_key_that_fails_fails_the_webhook_but_every_other_is_stored() {
    let world = World::new();
    world.fail("create", &[Fault::Before]);
    let error = block_on(intake(&world.ports(), &[by_alert("c")], &Redactor::default(), &message(many(100))))
        .unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(world.heads().len(), 99);
    let r = post(&world, &[by_alert("c")], many(100));
    assert_eq!((r.accepted, r.duplicates), (1, 99), "the retry opens what is missing, and only that");
}

#[test]
fn a_webhook_without_alerts_is_answered_with_nothing() {
    let world = World::new();
    assert_eq!(post(&world, &[card("c")], vec![]), Receipt::default());
    assert_eq!(world.calls(), [""; 0]);
}

/// Two alerts that differ in a password only.
fn same_but_for_a_secret() -> Vec<Alert> {
    let job = |password: &str| {
        let mut alert = firing("NightlyJob", "a", 0);
        alert.labels.insert("cmd".into(), format!("run --password={password}"));
        alert
    };
    vec![job("alpha-beta-1"), job("gamma-delta-2")]
}

fn snapshots(world: &World, receipt: &Receipt) -> Vec<Notification> {
    let children = receipt.incidents.iter().flat_map(|incident| {
        let head = block_on(world.load(&incident.id)).unwrap().unwrap();
        block_on(world.children(&incident.id, head.generation)).unwrap()
    });
    children.map(|child| serde_json::from_str(&child.body).unwrap()).collect()
}

#[test]
fn a_card_is_matched_by_what_was_sent_and_what_is_kept_lacks_the_secret() {
    let world = World::new();
    let mut exact = by_alert("exact");
    exact.resource.matchers.push(Matcher::equal("cmd", "run --password=alpha-beta-1"));
    let receipt = post(&world, &[exact.clone(), by_alert("loose")], same_but_for_a_secret());
    let cards: BTreeSet<&str> = receipt.incidents.iter().map(|i| i.card.as_str()).collect();
    assert_eq!((receipt.accepted, cards), (2, ["exact", "loose"].into()));
    let kept = format!("{:?} {:?}", world.heads(), snapshots(&world, &receipt));
    assert!(!kept.contains("alpha-beta") && !kept.contains("gamma-delta"), "{kept}");
    assert!(kept.contains("run --password=[redacted"), "{kept}");

    let alone = post(&World::new(), &[exact], same_but_for_a_secret());
    assert_eq!((alone.unmatched, &alone.unmatched_at), (1, &vec![1]), "one matching, whose places are told");
}

#[test]
fn two_alerts_that_differ_only_in_a_secret_are_two_incidents_or_two_members_of_one() {
    let alerts = same_but_for_a_secret;
    assert_eq!(post(&World::new(), &[by_alert("c")], alerts()).incidents.len(), 2);
    let world = World::new();
    let receipt = post(&world, &[card("c")], alerts());
    assert_eq!(receipt.incidents.len(), 1);
    assert_eq!(world.only().known.iter().count(), 2);
    let kept = snapshots(&world, &receipt);
    let members: BTreeSet<_> =
        kept.iter().flat_map(|n| &n.alerts).map(|alert| alert.member.unwrap()).collect();
    assert_eq!((kept[0].alerts.len(), members.len()), (2, 2), "{kept:?}");
    assert_eq!(post(&world, &[card("c")], alerts()).duplicates, 2);
    let _ = post(&world, &[card("c")], vec![alerts().remove(0)]);
    assert_eq!(world.only().firing.iter().count(), 2, "the other is not told over");
}

#[test]
fn a_redactor_of_ones_own_is_used_and_the_id_does_not_depend_on_it() {
    let alert = || {
        let mut alert = firing("X", "a", 0);
        alert.annotations.insert("note".into(), "mcptok-without-a-known-shape-5544".into());
        alert.labels.insert("by mcptok-without-a-known-shape-5544".into(), "x".into());
        vec![alert]
    };
    let (plain, kept) = (World::new(), World::new());
    let first = post(&plain, &[by_alert("c")], alert());
    let redactor = Redactor::new(["mcptok-without-a-known-shape-5544".to_owned()]);
    let second = block_on(intake(&kept.ports(), &[by_alert("c")], &redactor, &message(alert()))).unwrap();
    assert_eq!(first.incidents, second.incidents);
    let text = format!("{:?} {:?}", kept.heads(), snapshots(&kept, &second));
    assert!(!text.contains("5544"), "{text}");
}
