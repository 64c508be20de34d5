//! How records are stored: the whole definition of the format.
//!
//! One table. The items of an incident are in two partitions, so that intake's role can be kept from the record of
//! investigations: what intake writes is in `INC#<id>`, everything else in `REC#<id>`. The sort key says what an item is:
//!
//! | partition | sort key | item |
//! |---|---|---|
//! | `INC#<id>` | `HEAD` | the [`Head`], its serde fields as attributes, and what the indexes need |
//! | `INC#<id>` | `GEN#<gen>#SNAP#<digest>` | a notification |
//! | `REC#<id>` | `GEN#<gen>#TURN#<n>` | a model response |
//! | `REC#<id>` | `GEN#<gen>#OUT#<n>` | a tool output |
//! | `REC#<id>` | `GEN#<gen>#REPORT` | the report |
//! | either | `GEN#<gen>#AUD#<n>` | entries of the record's chain up to the `n`-th, by whoever moved them out of the head |
//! | `REC#<id>` | `GEN#<gen>#LIST#<hash>` | the list of children that one entry seals |
//! | its child's | `GEN#<gen>#PART#<hash>#<n>` | a part of a body that is too large for one item |
//! | `REC#` | `SWEPT` | which deployment swept the table last (`by`), when (`at`), and since when what falls due is swept (`from`) |
//! | `REC#` | `SINCE` | when this table was first written so, in milliseconds (`at`) |
//!
//! Earlier Sentinels wrote everything into `INC#<id>`. What is there of an investigation is read where its generation is
//! from before `SINCE`, and ignored otherwise: nobody who may only write there can put a turn or a report in.
//!
//! `<gen>` has 16 digits and `<n>` 6 (12 of an entry), padded with zeros, so that all of a generation is one range. A child holds its
//! text as `body`; one over [`PART_BYTES`] holds the text's SHA-256 as `hash` and the number of its `parts` instead.
//! Parts are named by that hash and written before the child: until the child is there nobody looks for them, and
//! writing them again changes nothing, whoever does it.
//!
//! What is spent of the budgets is in items of its own, one a scope and a day (`BUDGET#<date>#ALL`, `…#CARD#<name>`;
//! `SPENT`): see `budget.rs`.
//!
//! Two sparse indexes, both with keys only. `due`: `due_shard` (by the id's hash `D#0` to `D#7`, and `P#0` to `P#7` of
//! what [waits to be begun](Owed::Queued)) and `due` (milliseconds) from [`due_at`](sentinel_core::lifecycle::due_at).
//! `recent`: `recent_shard` (`R#0` to `R#3`) and `gen`.
//!
//! `expires` is the table's time-to-live, in seconds. Children, their parts and entries have it from the start: their
//! generation's opening, how long records are kept, and 30 days. A head has it once it is over and told, and never before
//! the children of its generation. An item of the budgets has it from the start. `SINCE` and `SWEPT` stay with their
//! table.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use sentinel_core::UnixMs;
use sentinel_core::digest::sha256;
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId};
use sentinel_core::lifecycle::{Owed, Rules, due_at};
use sentinel_core::ports::StoreError;
use serde_dynamo::aws_sdk_dynamodb_1::{from_item, to_item};

/// An item as the SDK holds it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The most bytes of a child's body in one item. `DynamoDB` takes 400 KB an item, names included.
pub const PART_BYTES: usize = 350 * 1024;

/// Over how many partitions the index of due heads is spread: 1,000 writes a second each.
const DUE_SHARDS: u32 = 8;
/// Over how many the index of newest generations is: it is only written when one opens.
const RECENT_SHARDS: u32 = 4;

/// Attribute and index names.
pub(crate) mod attr {
    pub(crate) const PK: &str = "pk";
    pub(crate) const SK: &str = "sk";
    pub(crate) const GEN: &str = "gen";
    pub(crate) const VERSION: &str = "version";
    pub(crate) const SCHEMA: &str = "schema";
    pub(crate) const DUE: &str = "due";
    pub(crate) const DUE_SHARD: &str = "due_shard";
    pub(crate) const DUE_INDEX: &str = "due";
    pub(crate) const RECENT_SHARD: &str = "recent_shard";
    pub(crate) const RECENT_INDEX: &str = "recent";
    pub(crate) const EXPIRES: &str = "expires";
    pub(crate) const BODY: &str = "body";
    pub(crate) const HASH: &str = "hash";
    pub(crate) const PARTS: &str = "parts";
    pub(crate) const AT: &str = "at";
}

/// The head's sort key.
pub(crate) const HEAD: &str = "HEAD";
/// How the partition keys of records begin.
const RECORD: &str = "REC#";

pub(crate) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(crate) fn number(value: impl Display) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// The partition key of all items of an incident.
pub(crate) fn partition(id: &IncidentId) -> AttributeValue {
    text(format!("INC#{id}"))
}

/// The partition key of what intake neither reads nor writes.
pub(crate) fn record_partition(id: &IncidentId) -> AttributeValue {
    text(format!("{RECORD}{id}"))
}

/// The key of the item that says since when there are two partitions.
pub(crate) fn since_key() -> Item {
    Item::from([(attr::PK.into(), text(RECORD)), (attr::SK.into(), text("SINCE"))])
}

/// The key of the item that says who swept the table last.
pub(crate) fn keeper_key() -> Item {
    Item::from([(attr::PK.into(), text(RECORD)), (attr::SK.into(), text("SWEPT"))])
}

/// The sort key's beginning of all children.
pub(crate) const CHILDREN: &str = "GEN#";

/// The sort key's beginning of all children of a generation.
pub(crate) fn generation_prefix(generation: Gen) -> String {
    format!("{CHILDREN}{:016}#", generation.0)
}

/// Of which generation a child's item is.
pub(crate) fn generation_from_item(item: &Item) -> Option<Gen> {
    let (generation, _) = item.get(attr::SK)?.as_s().ok()?.strip_prefix(CHILDREN)?.split_once('#')?;
    generation.parse().ok().map(Gen)
}

/// The hash keys of all partitions of an index.
pub(crate) fn due_shards(owed: Owed) -> impl Iterator<Item = String> {
    (0..DUE_SHARDS).map(move |n| due_shard(owed, n))
}

fn due_shard(owed: Owed, n: u32) -> String {
    match owed {
        Owed::Soon => format!("D#{n}"),
        Owed::Queued => format!("P#{n}"),
    }
}

/// How long what is stored is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Keep {
    /// From a generation's opening: how long its record is to be there, and 30 days.
    pub(crate) record: Duration,
}

impl Keep {
    pub(crate) fn of(audit_retention: Duration) -> Self {
        Self { record: audit_retention.saturating_add(Rules::RETENTION) }
    }

    /// When a child of this generation goes that is written at `now`: of a generation that is open for longer than records
    /// are kept, not before the head can.
    fn child(self, generation: Gen, now: UnixMs) -> UnixMs {
        UnixMs::new(generation.0).plus(self.record).max(now.plus(Rules::RETENTION))
    }

    /// When a head goes whose own time is `ttl`.
    fn head(self, head: &Head, ttl: UnixMs) -> UnixMs {
        ttl.max(UnixMs::new(head.generation.0).plus(self.record))
    }
}

/// See [`due_shards`].
pub(crate) fn recent_shards() -> impl Iterator<Item = String> {
    (0..RECENT_SHARDS).map(|n| format!("R#{n}"))
}

/// Where an id goes. Stored with the item, so it must only spread well, not stay the same for ever.
fn shard(id: &IncidentId, of: u32) -> u32 {
    id.as_str().bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))) % of
}

/// A head as an item.
pub(crate) fn head_to_item(head: &Head, keep: Keep) -> Result<Item, StoreError> {
    let mut item: Item = to_item(head).map_err(|e| StoreError::Refused {
        action: format!("writing the head of {}", head.id),
        reason: e.to_string(),
    })?;
    item.insert(attr::PK.into(), partition(&head.id));
    item.insert(attr::SK.into(), text(HEAD));
    item.insert(attr::RECENT_SHARD.into(), text(format!("R#{}", shard(&head.id, RECENT_SHARDS))));
    if let Some(due) = due_at(head) {
        item.insert(attr::DUE.into(), number(due.get()));
        item.insert(attr::DUE_SHARD.into(), text(due_shard(Owed::of(head), shard(&head.id, DUE_SHARDS))));
    }
    if let Some(ttl) = head.ttl {
        item.insert(attr::EXPIRES.into(), number(UnixMs::ceil_seconds(keep.head(head, ttl))));
    }
    Ok(item)
}

/// A head from an item; refused where a newer Sentinel wrote it, because writing it back would drop what that one knows.
pub(crate) fn head_from_item(item: Item) -> Result<Head, StoreError> {
    let name = item_name(&item);
    let unreadable = |reason: String| StoreError::Unreadable { item: name.clone(), reason };
    let schema: u32 = item
        .get(attr::SCHEMA)
        .and_then(|v| v.as_n().ok())
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| unreadable("it has no readable schema number".into()))?;
    if schema > Head::SCHEMA {
        return Err(unreadable(format!(
            "its schema is {schema}, this Sentinel is older and knows up to {}: upgrade it; the record is left as it is",
            Head::SCHEMA
        )));
    }
    from_item(item).map_err(|e| unreadable(e.to_string()))
}

/// What to write for a child: its parts, in any order, and then the item that names it.
pub(crate) struct ChildItems {
    pub(crate) parts: Vec<Item>,
    pub(crate) named: Item,
}

/// A child as items.
pub(crate) fn child_to_items(id: &IncidentId, child: &Child, keep: Keep, now: UnixMs) -> ChildItems {
    let partition = if child.name.is_intakes() { partition(id) } else { record_partition(id) };
    let expires = number(UnixMs::ceil_seconds(keep.child(child.generation, now)));
    let key = |sk: String| {
        Item::from([
            (attr::PK.into(), partition.clone()),
            (attr::SK.into(), text(sk)),
            (attr::EXPIRES.into(), expires.clone()),
        ])
    };
    let mut named = key(format!("{}{}", generation_prefix(child.generation), child.name));
    if child.body.len() <= PART_BYTES {
        named.insert(attr::BODY.into(), text(&*child.body));
        return ChildItems { parts: Vec::new(), named };
    }
    let hash = sha256(&child.body);
    let prefix = generation_prefix(child.generation);
    let parts: Vec<Item> = split(&child.body)
        .into_iter()
        .enumerate()
        .map(|(n, part)| {
            let mut item = key(format!("{prefix}PART#{hash}#{n:06}"));
            item.insert(attr::BODY.into(), text(part));
            item
        })
        .collect();
    named.insert(attr::PARTS.into(), number(parts.len()));
    named.insert(attr::HASH.into(), text(hash));
    ChildItems { parts, named }
}

/// Whether the item that names a child holds this body.
pub(crate) fn has_body(named: &Item, body: &str) -> bool {
    match named.get(attr::BODY).and_then(|v| v.as_s().ok()) {
        Some(stored) => stored == body,
        None => {
            named.get(attr::HASH).and_then(|v| v.as_s().ok()).is_some_and(|stored| *stored == sha256(body))
        }
    }
}

/// Which partition items are from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Partition {
    /// The incident's. What is there of an investigation counts in generations before this one only; `None`: in all.
    Incident {
        /// The first generation of which it does not.
        since: Option<Gen>,
    },
    /// The record's.
    Record,
}

/// The children among the items of one partition, in no order.
pub(crate) fn children_from_items(from: Partition, items: Vec<Item>) -> Result<Vec<Child>, StoreError> {
    let mut parts: HashMap<(Gen, String), BTreeMap<String, String>> = HashMap::new();
    let mut named = Vec::new();
    for item in items {
        let name = item_name(&item);
        let unreadable = |reason: &str| StoreError::Unreadable { item: name.clone(), reason: reason.into() };
        let key = item.get(attr::SK).and_then(|v| v.as_s().ok()).and_then(|sk| parse_key(sk));
        let (generation, key) = key.ok_or_else(|| unreadable("its key is not a child's"))?;
        if let Some(part) = key.strip_prefix("PART#") {
            let (hash, n) = part.split_once('#').ok_or_else(|| unreadable("its key has no part number"))?;
            let (hash, n) = (hash.to_owned(), n.to_owned());
            let body = body(item).ok_or_else(|| unreadable("it has no body"))?;
            parts.entry((generation, hash)).or_default().insert(n, body);
        } else {
            let by_intake = from != Partition::Record;
            let child = ChildName::parse(key, by_intake)
                .ok_or_else(|| unreadable("it is of a kind that is not known here"))?;
            let counts = match from {
                Partition::Record => true,
                Partition::Incident { since } => {
                    child.is_intakes() || since.is_none_or(|since| generation < since)
                }
            };
            if counts {
                named.push((generation, child, name, item));
            } else {
                tracing::error!(item = name, "it stands where only intake writes, and is ignored");
            }
        }
    }
    named
        .into_iter()
        .map(|(generation, child, name, item)| {
            let body = match item.get(attr::HASH).and_then(|v| v.as_s().ok()) {
                None => body(item).ok_or("it has no body"),
                Some(hash) => gather(&parts, &(generation, hash.clone())),
            };
            let body = body.map_err(|reason| StoreError::Unreadable { item: name, reason: reason.into() })?;
            Ok(Child { generation, name: child, body })
        })
        .collect()
}

/// The children of both partitions, in the order of generations and names. Of two of one name, which a run has that
/// went on under a newer Sentinel, the older one stays, as it would have before.
pub(crate) fn in_order(mut children: Vec<Child>) -> Vec<Child> {
    children.sort_by(|a, b| (a.generation, &a.name).cmp(&(b.generation, &b.name)));
    children.dedup_by(|a, b| (a.generation, &a.name) == (b.generation, &b.name));
    children
}

/// `GEN#<gen>#<name>`.
fn parse_key(key: &str) -> Option<(Gen, &str)> {
    let (generation, name) = key.strip_prefix(CHILDREN)?.split_once('#')?;
    Some((Gen(generation.parse().ok()?), name))
}

/// Since when there are two partitions, from the item that says so.
pub(crate) fn since_from_item(item: &Item) -> Option<Gen> {
    item.get(attr::AT).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok()).map(Gen)
}

fn gather(
    parts: &HashMap<(Gen, String), BTreeMap<String, String>>,
    stored: &(Gen, String),
) -> Result<String, &'static str> {
    let parts = parts.get(stored).ok_or("its parts are missing")?;
    let whole: String = parts.values().map(String::as_str).collect();
    if sha256(&whole) == stored.1 { Ok(whole) } else { Err("its parts do not add up to what was written") }
}

fn body(mut item: Item) -> Option<String> {
    match item.remove(attr::BODY) {
        Some(AttributeValue::S(body)) => Some(body),
        _ => None,
    }
}

/// Cuts text into pieces of at most [`PART_BYTES`], between characters.
fn split(mut body: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while !body.is_empty() {
        let (part, rest) = body.split_at(body.floor_char_boundary(PART_BYTES));
        parts.push(part);
        body = rest;
    }
    parts
}

/// How an error names an item: its two keys.
fn item_name(item: &Item) -> String {
    let key = |name| item.get(name).and_then(|v| v.as_s().ok()).map_or("?", String::as_str);
    format!("{}/{}", key(attr::PK), key(attr::SK))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            expires(&head),
            Some(number(UnixMs::ceil_seconds(of_children))),
            "not before its children"
        );
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
}
