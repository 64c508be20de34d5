//! A head is written often: it has to stay within one small item.

use super::*;
use crate::chain::{self, Change, Happened, Sealed};
use serde_json::Value;

/// What an item or a value takes in `DynamoDB`, by its documentation: text as UTF-8, numbers two digits a byte and
/// one, lists and maps three bytes and one an entry; names count.
fn bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 1,
        Value::Number(n) => n.to_string().len().div_ceil(2) + 1,
        Value::String(s) => s.len(),
        Value::Array(items) => 3 + items.iter().map(|v| 1 + bytes(v)).sum::<usize>(),
        Value::Object(map) => 3 + map.iter().map(|(k, v)| 1 + k.len() + bytes(v)).sum::<usize>(),
    }
}

/// The keys and index attributes that the store adds, names included.
const STORED_BESIDE: usize = 130;

fn stored(head: &Head) -> usize {
    let Value::Object(item) = serde_json::to_value(head).unwrap() else { panic!("a head is an item") };
    let attributes = item.iter().map(|(name, value)| match (name.as_str(), value) {
        // Stored as bytes, which JSON does not have.
        ("known" | "firing", Value::Array(list)) => name.len() + list.len(),
        _ => name.len() + bytes(value),
    });
    attributes.sum::<usize>() + STORED_BESIDE
}

fn of_four_sinks() -> Rules {
    Rules { sinks: (0..4).map(|n| of_all(&format!("sink-{n}"))).collect(), ..rules() }
}

/// As much as the rules ever put into a head: the lease and the end of an aborted run, all labels, members and
/// deliveries. One generation tells at most four events a sink: `started`, how it ended, `updated`, `resolved`; one of
/// them at a time is claimed, and one holds the sink's last error.
fn fullest() -> Head {
    let mut s = Story::with(of_four_sinks());
    let mut a = arrival(&(0..65).map(|n| fires(u64::MAX - n * 7_919, 0)).collect::<Vec<_>>());
    a.labels = (0..16).map(|n| (format!("label-{n:02}"), "v".repeat(120))).collect();
    a.truncated = true;
    let _ = s.take(&a);
    let _ = s.begin(&"o".repeat(36));
    s.edit().deliveries.iter_mut().for_each(|d| d.state = DeliveryState::Sent);
    let _ = s.tell(&[fires(1, WINDOW + 1)]);
    let _ = s.take(&Abort { who: "r".repeat(1000) });
    let head = s.edit();
    arm(head, Event::Updated, &of_four_sinks(), at(0));
    head.resolved_at = Some(at(1));
    arm(head, Event::Resolved, &of_four_sinks(), at(0));
    for d in &mut head.deliveries {
        d.state = DeliveryState::Failed;
        d.tries = 8;
        d.remote = Some("r".repeat(MOST_REMOTE));
        if d.key.event == Event::Updated {
            d.state = DeliveryState::Claimed;
            d.claimer = Some("c".repeat(36));
            d.rearmed = true;
        }
        d.error = (d.key.event == Event::Resolved).then(|| clip(&"x".repeat(MOST_ERROR + 1), MOST_ERROR));
    }
    head.version = 1_000_000;
    head.writer = "w".repeat(36);
    head.sent_at = Some(at(0));
    head.clone()
}

/// The most bytes that this head has over some changes, each with the longest of entries.
fn with_entries(head: &Head, happened: &Happened, children: usize) -> usize {
    let sealed = |n| Sealed { name: format!("OUT#{n:06}"), sha256: "f".repeat(64) };
    let children: Vec<Sealed> = (0..children).map(sealed).collect();
    let mut head = head.clone();
    let mut most = 0;
    for _ in 0..8 {
        let found = head.clone();
        let change = Change { at: at(0), happened: happened.clone(), children: &children, announced: None };
        let _ = chain::advance(Some(&found), &mut head, change);
        most = most.max(stored(&head));
    }
    most
}

#[test]
fn the_fullest_head_fits_into_four_kilobytes_and_with_its_entries_into_five() {
    let happened =
        Happened::Missed { what: Event::Suppressed, sink: "s".repeat(1000), error: "e".repeat(1000) };
    let most = with_entries(&fullest(), &happened, 2);
    println!("the fullest head: {} bytes, with entries {most}", stored(&fullest()));
    assert!(stored(&fullest()) <= 4096, "{} bytes", stored(&fullest()));
    assert!(most <= 5 * 1024, "{most} bytes");
}

#[test]
fn the_fullest_head_has_everything() {
    let head = fullest();
    assert_eq!((head.deliveries.len(), head.known.is_many(), head.firing.is_many()), (16, true, true));
    assert!(head.owner.is_some() && head.lease_until.is_some() && head.reason.is_some());
}

#[test]
fn a_head_that_intake_creates_fits_into_one_write_unit_with_its_entry_and_a_usual_one_into_two() {
    let mut created = Story::pending().head().clone();
    let announced = Sealed { name: format!("SNAP#{}", "d".repeat(32)), sha256: "f".repeat(64) };
    let change =
        Change { at: at(0), happened: Happened::Received, children: &[], announced: Some(announced) };
    let _ = chain::advance(None, &mut created, change);
    let usual = with_entries(Story::done().head(), &Happened::Granted { turn: 10 }, 2);
    println!("a created head: {} bytes; a usual one: {usual}", stored(&created));
    assert!(stored(&created) <= 1024, "{} bytes", stored(&created));
    assert!(usual <= 2048, "{usual} bytes");
}

#[test]
fn the_fullest_head_reads_back_as_it_was_written() {
    let head = fullest();
    let text = serde_json::to_string(&head).unwrap();
    assert_eq!(serde_json::from_str::<Head>(&text).unwrap(), head);
}
