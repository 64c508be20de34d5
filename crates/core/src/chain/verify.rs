//! Holds a record against its chain and names whatever does not fit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::signature::{self, PublicKey};
use super::{Entry, Happened, IncidentRecord, Sealed, entry_hash};
use crate::digest::sha256;
use crate::incident::{Child, ChildName, Gen, State};

/// Whether a finding breaks the record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something was changed, deleted, put in or put elsewhere.
    Breach,
    /// It is as a crash, an expiry or an older Sentinel leaves it, and cannot be told apart from that.
    Note,
}

/// One thing that does not fit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// Whether it breaks the record.
    pub kind: Kind,
    /// Where: an entry, a child, the head or a line.
    pub place: String,
    /// What is wrong there.
    pub what: String,
}

impl Finding {
    pub(super) fn breach(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind: Kind::Breach, place: place.into(), what: what.into() }
    }

    pub(super) fn note(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { kind: Kind::Note, place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// What came of looking through a record.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Entries on the chain.
    pub entries: u64,
    /// Children that were held against it.
    pub children: u64,
    /// The number of the last entry.
    pub n: u64,
    /// Its hash, as the log has it.
    pub hash: String,
    /// The key that the head is signed by, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// What does not fit.
    pub findings: Vec<Finding>,
}

impl Verified {
    /// What breaks the record.
    pub fn breaches(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.kind == Kind::Breach)
    }
}

/// Looks through a whole record. `by`: its head has to be signed by this key.
pub fn verify(record: &IncidentRecord, by: Option<&PublicKey>) -> Verified {
    let mut look = Look { record, texts: BTreeMap::new(), chain: BTreeMap::new(), found: Vec::new() };
    look.gather();
    look.walk();
    look.left_over();
    look.children();
    let last = look.chain.last_key_value();
    let hash_of = |n| look.chain.get(&n).map(|(_, text)| entry_hash(text));
    look.found.extend(signature::check(record.head.as_ref(), by, last.map_or(0, |(n, _)| *n), hash_of));
    look.found.sort();
    look.found.dedup();
    let last = look.chain.last_key_value();
    Verified {
        entries: look.chain.len() as u64,
        children: record.children.iter().filter(|child| child.name.is_sealed()).count() as u64,
        n: last.map_or(0, |(n, _)| *n),
        hash: last.map(|(_, (_, text))| entry_hash(text)).unwrap_or_default(),
        signed_by: record.head.as_ref().and_then(|head| Some(head.signed.as_ref()?.key.clone())),
        findings: look.found,
    }
}

fn place(child: &Child) -> String {
    at(child.generation, &child.name.to_string())
}

fn at(generation: Gen, name: &str) -> String {
    format!("GEN#{generation}#{name}")
}

struct Look<'a> {
    record: &'a IncidentRecord,
    /// Everything that stands as an entry, by number and text, with where it stands.
    texts: BTreeMap<u64, BTreeMap<String, (Entry, String)>>,
    /// The entries that lead to the head, by number.
    chain: BTreeMap<u64, (Entry, String)>,
    found: Vec<Finding>,
}

impl Look<'_> {
    fn breach(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.found.push(Finding::breach(place, what));
    }

    fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.found.push(Finding::note(place, what));
    }

    fn gather(&mut self) {
        let record = self.record;
        let mut seen = BTreeSet::new();
        for child in &record.children {
            if !seen.insert((child.generation, &child.name)) {
                self.breach(place(child), "it is there twice");
            }
            let (ChildName::Entries(number) | ChildName::IntakeEntries(number)) = child.name else {
                continue;
            };
            match serde_json::from_str::<Vec<String>>(&child.body) {
                Ok(texts) => {
                    if serde_json::to_string(&texts).ok().as_ref() != Some(&child.body) {
                        self.breach(
                            place(child),
                            "it was changed: its list of entries is not written as it was",
                        );
                    }
                    let last = self.take(&texts, &place(child));
                    if last != Some(number) {
                        self.breach(place(child), "it is named after another entry than its last");
                    }
                }
                Err(_) => self.breach(place(child), "it is no list of entries"),
            }
        }
        if let Some(head) = &record.head {
            if head.id != record.id {
                self.breach("HEAD", "it is the head of another incident");
            }
            self.take(&head.chain, "HEAD");
        }
    }

    /// Reads entries that stand one after the other; gives the number of the last.
    fn take(&mut self, texts: &[String], place: &str) -> Option<u64> {
        let mut last: Option<u64> = None;
        for text in texts {
            match Entry::read(text) {
                Ok(entry) => {
                    if last.is_some_and(|last| last.checked_add(1) != Some(entry.n)) {
                        self.breach(place, format!("entry {} does not follow the one before it", entry.n));
                    }
                    last = Some(entry.n);
                    let same = self.texts.entry(entry.n).or_default();
                    same.entry(text.clone()).or_insert_with(|| (entry, place.to_owned()));
                }
                Err(reason) => self.breach(place, format!("an entry cannot be read: {reason}")),
            }
        }
        last
    }

    /// From the head's last entry back to the first one.
    fn walk(&mut self) {
        let Some((mut entry, mut text)) = self.end() else { return };
        loop {
            let (n, prev, generation) = (entry.n, entry.prev.clone(), entry.generation);
            let opens = entry.opens;
            self.chain.insert(n, (entry, text));
            if n <= 1 {
                if !prev.is_empty() {
                    self.breach(format!("entry {n}"), "it names an entry before it, and is the first");
                }
                return;
            }
            let before = self.texts.range(..n).next_back();
            let Some((m, candidates)) = before.map(|(m, texts)| (*m, texts.clone())) else {
                self.gap(1, n, generation, opens);
                return;
            };
            let linked = candidates.iter().find(|(text, _)| m + 1 == n && entry_hash(text) == prev);
            let Some((next_text, (next, stands))) = linked.or_else(|| candidates.iter().next()) else {
                return;
            };
            if m + 1 < n {
                self.gap(m + 1, n, generation, opens);
            } else if linked.is_none() {
                let what = format!("it was changed: entry {n} holds the hash of another one ({stands})");
                self.breach(format!("entry {m}"), what);
            }
            (entry, text) = (next.clone(), next_text.clone());
        }
    }

    /// The last entry: the head's, or without a head the one with the highest number.
    fn end(&mut self) -> Option<(Entry, String)> {
        let Some(head) = &self.record.head else {
            if !self.record.children.is_empty() {
                self.note(
                    "HEAD",
                    "it is not there: it has expired, or was deleted; what came last is not known",
                );
            }
            let (text, (entry, _)) = self.texts.last_key_value()?.1.iter().next()?;
            return Some((entry.clone(), text.clone()));
        };
        let Some(text) = head.chain.last() else {
            if head.schema < 2 {
                self.note("HEAD", "it is of a Sentinel that kept no record; one begins with its next change");
            } else {
                self.breach("HEAD", "it holds no entry");
            }
            return None;
        };
        let entry = Entry::read(text).ok()?;
        if entry.head != self.record.head_sha256 {
            self.breach("HEAD", format!("it is not what entry {} says it is", entry.n));
        }
        Some((entry, text.clone()))
    }

    /// Entries `from..to` are missing; the one at `to` is of `generation`.
    fn gap(&mut self, from: u64, to: u64, generation: Gen, opens: bool) {
        let oldest = self.record.children.iter().map(|child| child.generation).min();
        let is_current = self.record.head.as_ref().is_none_or(|head| head.generation <= generation);
        // What is left of a generation that has gone is what was moved out of a head of the next one.
        let left = !is_current && oldest.is_none_or(|oldest| oldest > generation);
        let gone = left
            || (opens && oldest.is_none_or(|oldest| oldest >= generation))
            || self.deleted().is_some_and(|deleted| generation <= deleted);
        let place =
            if from + 1 == to { format!("entry {from}") } else { format!("entries {from} to {}", to - 1) };
        if gone && from == 1 {
            self.note(
                place,
                "the generations before are not there: they have expired, or were deleted whole",
            );
        } else {
            self.breach(place, format!("not there, and entry {to} follows"));
        }
    }

    /// The generation of the last tombstone on the chain: all that is older was deleted, but for what was stored late.
    fn deleted(&self) -> Option<Gen> {
        let entries = self.chain.values().map(|(entry, _)| entry);
        let tombstones = entries.filter(|entry| matches!(entry.happened, Happened::Deleted { .. }));
        tombstones.map(|entry| entry.generation).max()
    }

    /// What stands as an entry and leads nowhere.
    fn left_over(&mut self) {
        let first = self.chain.first_key_value().map(|(_, (entry, _))| entry.generation);
        let mut earlier = 0_u64;
        let mut inserted = Vec::new();
        for (n, texts) in &self.texts {
            for (text, (entry, stands)) in texts {
                if self.chain.get(n).is_some_and(|(_, on_chain)| on_chain == text) {
                    continue;
                }
                if first.is_some_and(|first| entry.generation < first) {
                    earlier += 1;
                } else {
                    inserted.push((*n, stands.clone()));
                }
            }
        }
        for (n, stands) in inserted {
            self.breach(stands, format!("its entry {n} is not on the chain: it was put in, or changed"));
        }
        if earlier > 0 {
            self.note("entries", format!("{earlier} are of an earlier record, whose head has expired"));
        }
    }

    fn children(&mut self) {
        let mut sealed: BTreeMap<(Gen, String), (String, u64)> = BTreeMap::new();
        let mut announced: BTreeMap<(Gen, String), (String, u64)> = BTreeMap::new();
        let stored: BTreeMap<(Gen, String), &Child> = self
            .record
            .children
            .iter()
            .filter(|child| child.name.is_sealed() || matches!(child.name, ChildName::List(_)))
            .map(|child| ((child.generation, child.name.to_string()), child))
            .collect();
        let entries: Vec<Entry> = self.chain.values().map(|(entry, _)| entry.clone()).collect();
        for entry in &entries {
            let n = entry.n;
            if let Some(child) = &entry.announced {
                announced.insert((entry.generation, child.name.clone()), (child.sha256.clone(), n));
            }
            for child in self.sealed_by(entry, &stored) {
                let key = (entry.generation, child.name.clone());
                if sealed.get(&key).is_some_and(|(before, _)| *before != child.sha256) {
                    self.breach(
                        at(key.0, &key.1),
                        format!("entry {n} seals another body than an entry before"),
                    );
                }
                sealed.insert(key, (child.sha256, n));
            }
        }
        let mut bodies = stored.clone();
        bodies.retain(|_, child| child.name.is_sealed());
        for (key, child) in &bodies {
            let digest = sha256(&child.body);
            match (sealed.get(key), announced.get(key)) {
                (Some((sha, n)), _) if *sha != digest => {
                    self.breach(place(child), format!("it is not what entry {n} sealed"));
                }
                (None, Some((sha, n))) if *sha != digest => {
                    self.breach(place(child), format!("it is not what entry {n} announced"));
                }
                (None, None) => self.unsealed(child),
                _ => {}
            }
        }
        let kept: BTreeSet<Gen> = self.record.children.iter().map(|child| child.generation).collect();
        for (key, (_, n)) in sealed.iter().filter(|(key, _)| !bodies.contains_key(*key)) {
            let current = Some(key.0) == self.record.head.as_ref().map(|head| head.generation);
            let deleted = self.deleted().is_some_and(|deleted| key.0 < deleted);
            if !deleted && (kept.contains(&key.0) || current) {
                self.breach(at(key.0, &key.1), format!("it is not there, and entry {n} sealed it"));
            } else {
                self.note(
                    at(key.0, "*"),
                    "the whole generation is not there: it has expired, or was deleted",
                );
            }
        }
        for (key, (_, n)) in announced.iter().filter(|(key, _)| !bodies.contains_key(*key)) {
            if !sealed.contains_key(key) && kept.contains(&key.0) {
                let what = format!(
                    "entry {n} announced it: its writer was lost before storing it, or it was deleted"
                );
                self.note(at(key.0, &key.1), what);
            }
        }
    }

    /// What an entry seals; its list, where it has one, is looked up and held against its digest.
    fn sealed_by(&mut self, entry: &Entry, stored: &BTreeMap<(Gen, String), &Child>) -> Vec<Sealed> {
        let Some(digest) = &entry.list else { return entry.children.clone() };
        let n = entry.n;
        let name = ChildName::List(digest.clone()).to_string();
        let Some(list) = stored.get(&(entry.generation, name.clone())) else {
            let kept = self.record.children.iter().any(|child| child.generation == entry.generation);
            if kept {
                self.breach(at(entry.generation, &name), format!("it is not there, and entry {n} names it"));
            }
            return Vec::new();
        };
        match serde_json::from_str(&list.body) {
            Ok(children) if sha256(&list.body) == *digest => children,
            _ => {
                self.breach(place(list), format!("it is not the list that entry {n} names"));
                Vec::new()
            }
        }
    }

    /// A child that no entry speaks of.
    fn unsealed(&mut self, child: &Child) {
        let first = self.chain.first_key_value().map(|(_, (entry, _))| (entry.generation, entry.began_at));
        let before = first.is_none_or(|(generation, began_at)| {
            child.generation < generation || (child.generation == generation && began_at.is_some())
        });
        if self.deleted().is_some_and(|deleted| child.generation < deleted) {
            self.note(place(child), "it is of what was deleted, and was stored late");
        } else if before {
            self.note(place(child), "it is from before the record, or of one that has expired");
        } else if matches!(child.name, ChildName::Snapshot(_)) {
            self.note(
                place(child),
                "no entry seals it: its sender was lost before the head was changed, or it was put in",
            );
        } else if self.has_open_lease(child.generation) {
            self.note(
                place(child),
                "no entry seals it: a worker that had lost its lease stored it, or it was put in",
            );
        } else {
            self.breach(place(child), "no entry seals it: it was put in");
        }
    }

    /// Whether a lease of this generation ended otherwise than by its holder, who may have stored something after it.
    fn has_open_lease(&self, generation: Gen) -> bool {
        let of = self.chain.values().map(|(entry, _)| entry).filter(|entry| entry.generation == generation);
        let mut open = BTreeSet::new();
        for entry in of {
            match entry.happened {
                Happened::Claimed { .. } if entry.state == State::Running => {
                    open.insert(entry.epoch);
                }
                Happened::PutOff { .. } | Happened::Committed { .. } | Happened::Failed { .. } => {
                    open.remove(&entry.epoch);
                }
                _ => {}
            }
        }
        !open.is_empty()
    }
}
