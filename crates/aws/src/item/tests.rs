use proptest::prelude::*;

use super::*;
use crate::test_support;

const NOW: UnixMs = UnixMs::new(1_800_000_000_000);
const DAY: Duration = Duration::from_hours(24);
const KEEP: Keep = Keep { record: Duration::from_hours(24 * 430) };

fn id() -> IncidentId {
    IncidentId::new("ab".repeat(32))
}

fn stored(child: &Child) -> Vec<Item> {
    let items = child_to_items(&id(), child, KEEP, NOW);
    items.parts.into_iter().chain([items.named]).collect()
}

fn items_of(items: &[Item], from: Partition) -> Vec<Item> {
    let key = if from == Partition::Record { record_partition(&id()) } else { partition(&id()) };
    items.iter().filter(|item| item.get(attr::PK) == Some(&key)).cloned().collect()
}

#[test]
fn a_turn_where_only_intake_writes_counts_in_generations_before_the_record_and_no_later() {
    let child =
        |generation| Child { generation: Gen(generation), name: ChildName::Turn(1), body: "{}".into() };
    let items = |child: &Child| {
        let mut items = stored(child);
        for item in &mut items {
            item.insert(attr::PK.into(), partition(&id()));
        }
        items
    };
    let read =
        |child: &Child, since| children_from_items(Partition::Incident { since }, items(child)).unwrap();
    assert_eq!(read(&child(4), Some(Gen(5))), [child(4)]);
    assert_eq!(read(&child(5), Some(Gen(5))), []);
    assert_eq!(read(&child(5), None), [child(5)], "nothing was written in the new form yet");
}

#[test]
fn children_of_a_generation_come_back_in_the_order_of_their_names() {
    let generation = Gen(1_700_000_000_000);
    let names = [
        ChildName::Snapshot("d1".into()),
        ChildName::Turn(2),
        ChildName::Turn(10),
        ChildName::Output(1),
        ChildName::Output(11),
        ChildName::Report,
    ];
    let children = names.map(|name| Child { generation, name, body: "{}".into() });
    let items: Vec<Item> = children.iter().rev().flat_map(stored).collect();
    let read = |from| in_order(children_from_items(from, items_of(&items, from)).unwrap());
    let both = [read(Partition::Incident { since: Some(Gen(0)) }), read(Partition::Record)].concat();
    assert_eq!(both, children);
}

#[test]
fn parts_that_a_losing_writer_left_behind_are_not_read() {
    let generation = Gen(5);
    let child = |body: String| Child { generation, name: ChildName::Output(1), body };
    let winner = child("w".repeat(PART_BYTES + 1));
    let mut items = stored(&winner);
    items.extend(child_to_items(&id(), &child("l".repeat(3 * PART_BYTES)), KEEP, NOW).parts);
    assert_eq!(children_from_items(Partition::Record, items).unwrap(), [winner]);
}

#[test]
fn a_child_whose_parts_are_damaged_is_refused_by_name() {
    let generation = Gen(5);
    let child = Child { generation, name: ChildName::Report, body: "x".repeat(PART_BYTES + 1) };
    let mut items = stored(&child);
    items.remove(0);
    let error = children_from_items(Partition::Record, items).unwrap_err().to_string();
    assert!(error.contains("GEN#0000000000000005#REPORT"), "{error}");
    assert!(error.contains("do not add up"), "{error}");
}

/// Bytes as AWS counts them.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html>
fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(s) => s.len(),
        AttributeValue::B(b) => b.as_ref().len(),
        AttributeValue::N(n) => n.len().div_ceil(2) + 1,
        AttributeValue::L(list) => 3 + list.iter().map(|v| 1 + size(v)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.iter().map(|(k, v)| 1 + k.len() + size(v)).sum::<usize>(),
        _ => 1,
    }
}

fn item_size(head: &Head) -> usize {
    head_to_item(head, KEEP).unwrap().iter().map(|(name, value)| name.len() + size(value)).sum()
}

#[test]
fn a_usual_head_costs_one_write_unit_and_the_largest_eight() {
    let usual = test_support::usual_head();
    assert!(item_size(&usual) <= 1024, "{}", item_size(&usual));
    let largest = test_support::largest_head();
    assert!(item_size(&largest) <= 8 * 1024, "{}", item_size(&largest));
}

#[test]
fn a_head_comes_back_as_it_was_stored() {
    for head in [test_support::usual_head(), test_support::largest_head()] {
        assert_eq!(head_from_item(head_to_item(&head, KEEP).unwrap()).unwrap(), head);
    }
}

#[test]
fn only_a_head_that_is_due_is_in_the_index_of_due_ones() {
    let mut head = test_support::usual_head();
    assert_eq!(
        head_to_item(&head, KEEP).unwrap().get(attr::DUE),
        due_at(&head).map(|due| number(due.get())).as_ref()
    );
    head.state = sentinel_core::incident::State::Done;
    head.deliveries.clear();
    let item = head_to_item(&head, KEEP).unwrap();
    assert!(!item.contains_key(attr::DUE) && !item.contains_key(attr::DUE_SHARD), "{item:?}");
}

#[test]
fn only_a_head_with_a_ttl_expires() {
    let mut head = test_support::usual_head();
    assert!(!head_to_item(&head, KEEP).unwrap().contains_key(attr::EXPIRES));
    let of_children = UnixMs::new(head.generation.0).plus(KEEP.record);
    head.ttl = Some(UnixMs::new(1_001));
    let expires = |head: &Head| head_to_item(head, KEEP).unwrap().get(attr::EXPIRES).cloned();
    assert_eq!(expires(&head), Some(number(UnixMs::ceil_seconds(of_children))), "not before its children");
    head.ttl = Some(of_children.plus(DAY));
    assert_eq!(expires(&head), Some(number(UnixMs::ceil_seconds(of_children.plus(DAY)))));
}

#[test]
fn every_item_of_a_child_goes_when_its_generations_time_is_over() {
    let generation = Gen(NOW.minus(5 * DAY).get());
    let names = [
        ChildName::Snapshot("d".into()),
        ChildName::Turn(1),
        ChildName::Output(1),
        ChildName::Report,
        ChildName::Entries(3),
        ChildName::IntakeEntries(3),
        ChildName::List("l".into()),
    ];
    let wanted = number(UnixMs::ceil_seconds(UnixMs::new(generation.0).plus(430 * DAY)));
    for name in names {
        for body in ["{}".to_owned(), "x".repeat(PART_BYTES + 1)] {
            let child = Child { generation, name: name.clone(), body };
            let items = stored(&child);
            assert!(items.iter().all(|item| item.get(attr::EXPIRES) == Some(&wanted)), "{name}");
        }
    }
    // One of a generation that has been open for longer than that is kept as long as its head at least.
    let old = Child { generation: Gen(1), name: ChildName::Report, body: "{}".into() };
    let [item] = &stored(&old)[..] else { panic!("one item") };
    assert_eq!(item.get(attr::EXPIRES), Some(&number(UnixMs::ceil_seconds(NOW.plus(30 * DAY)))));
}

#[test]
fn what_waits_to_be_begun_is_in_partitions_of_its_own_of_the_index() {
    let mut head = test_support::usual_head();
    let shard = |head: &Head| {
        head_to_item(head, KEEP).unwrap()[attr::DUE_SHARD]
            .as_s()
            .unwrap()
            .split('#')
            .next()
            .unwrap()
            .to_owned()
    };
    for (state, prefix) in
        [(sentinel_core::incident::State::Pending, "P"), (sentinel_core::incident::State::Running, "D")]
    {
        head.state = state;
        assert_eq!(shard(&head), prefix);
    }
}

#[test]
fn a_head_of_a_newer_sentinel_is_refused_with_what_to_do() {
    let mut item = head_to_item(&test_support::usual_head(), KEEP).unwrap();
    item.insert(attr::SCHEMA.into(), number(Head::SCHEMA + 1));
    let error = head_from_item(item).unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("this Sentinel is older"), "{error}");
    assert!(error.to_string().contains("upgrade"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn splitting_loses_nothing_and_cuts_no_character(unit in "[a-zß→😀]{1,7}", more in 0_usize..9) {
        let body = unit.repeat(PART_BYTES / unit.len() + more);
        let parts = split(&body);
        prop_assert!(parts.iter().all(|part| part.len() <= PART_BYTES));
        prop_assert_eq!(parts.concat(), body);
    }
}
