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
mod tests;
