//! The record of an incident as a hash chain: an entry for each change of its head, each holding the hash of the one
//! before it and the digests of all children that were stored since.
//!
//! The newest entries stand in the head itself ([`Head::chain`]), so that an entry and the change that it is about are
//! one write: no entry is ever left over by a lost race, and none is missing after a crash. Whoever changes a head that
//! holds too many stores them as a child first ([`ChildName::Entries`]); it says the same whoever writes it.
//!
//! `docs/audit.md` describes the format for those who verify it with programs of their own.

mod file;
mod signature;
mod verify;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::UnixMs;
use crate::canonical::canonical;
use crate::digest::sha256;
use crate::incident::{Child, ChildName, Event, Gen, Head, IncidentId, State};
use crate::report::Verdict;

pub use file::{read_export, write_export};
pub use signature::{PublicKey, Signature, SigningKey};
pub use verify::{Finding, Kind, Verified, verify};

/// What is hashed before an entry's text, so that no hash of another purpose is one of an entry.
const DOMAIN: &str = "sentinel-audit-1\n";
/// Entries stay in the head up to so many bytes; then the next change moves them into a child.
const MOST_IN_HEAD: usize = 640;
/// Of more children than these an entry holds the digest of their list, and the list is a child of its own.
const MOST_LISTED: usize = 2;
/// The most bytes of a name or a reason in an entry.
const MOST_TEXT: usize = 120;

/// What happened to an incident.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Happened {
    /// A notification opened a generation.
    Received,
    /// A notification joined the generation.
    Joined,
    /// Its alerts have resolved.
    Resolved,
    /// It resolved before anything was spent.
    Suppressed,
    /// A notification said nothing new, but for times that the head keeps.
    Repeated,
    /// It fires again, and the window was over: the next generation was opened.
    Reopened,
    /// A notification was stored whose writer was lost before; the head is unchanged.
    Stored,
    /// A worker took the job.
    Claimed {
        /// The claim.
        owner: String,
    },
    /// Calls were granted.
    Granted {
        /// The turn; the one before it for calls that are not the model's.
        turn: u32,
    },
    /// The run was put off.
    PutOff {
        /// Why.
        reason: String,
    },
    /// The report was committed.
    Committed {
        /// What it says.
        verdict: Verdict,
    },
    /// It failed.
    Failed {
        /// Why.
        reason: String,
    },
    /// A person stopped it.
    Aborted {
        /// Who.
        who: String,
    },
    /// A person deleted what there was.
    Deleted {
        /// Who.
        who: String,
    },
    /// A delivery was claimed.
    Telling {
        /// What is told.
        what: Event,
        /// The sink.
        sink: String,
    },
    /// A delivery was made.
    Told {
        /// What was told.
        what: Event,
        /// The sink.
        sink: String,
    },
    /// A delivery was not made.
    Missed {
        /// What was to be told.
        what: Event,
        /// The sink.
        sink: String,
        /// Why not.
        error: String,
    },
    /// An incident was listed on a storm notice.
    Noted,
    /// The sweeper sent its job again.
    Swept,
    /// The embedded service started again.
    Restarted,
    /// What a newer Sentinel knows.
    #[serde(other)]
    Other,
}

impl Happened {
    /// With texts that fit into an entry.
    fn clipped(mut self) -> Self {
        match &mut self {
            Self::Claimed { owner: text }
            | Self::PutOff { reason: text }
            | Self::Failed { reason: text }
            | Self::Aborted { who: text }
            | Self::Deleted { who: text } => clip(text),
            Self::Telling { sink, .. } | Self::Told { sink, .. } => clip(sink),
            Self::Missed { sink, error, .. } => {
                clip(sink);
                clip(error);
            }
            _ => {}
        }
        self
    }
}

fn clip(text: &mut String) {
    text.truncate(text.floor_char_boundary(MOST_TEXT));
}

/// A child as an entry names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Sealed {
    /// What it is, as [`ChildName`] is written.
    pub name: String,
    /// SHA-256 of its body, in hexadecimal digits.
    pub sha256: String,
}

impl Sealed {
    /// This child.
    pub fn of(child: &Child) -> Self {
        Self { name: child.name.to_string(), sha256: sha256(&child.body) }
    }
}

/// One entry of the chain. Its stored form, and what is hashed, is its canonical JSON.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Counts the entries of an incident, from 1.
    pub n: u64,
    /// The hash of the entry before it, in hexadecimal digits; empty for the first.
    pub prev: String,
    /// When it was written, by its writer's clock.
    pub at: UnixMs,
    /// The generation.
    #[serde(rename = "gen")]
    pub generation: Gen,
    /// What happened.
    #[serde(flatten)]
    pub happened: Happened,
    /// Where the incident stands after it.
    pub state: State,
    /// The number of its latest lease.
    pub epoch: u64,
    /// SHA-256 of the head as it stands after it: canonical JSON, without `chain`.
    pub head: String,
    /// Children that were stored since the entry before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Sealed>,
    /// Where there are more of them: the digest of their list, which names the child that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// The child that the entry's writer was about to store: of an incident that it just created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Sealed>,
    /// Whether its generation begins with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opens: bool,
    /// The version of the head at which the record began, where the head is older than the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<u64>,
}

impl Entry {
    /// Reads an entry.
    ///
    /// # Errors
    /// It is no entry, or its text is not canonical.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        if canonical(&value) != text {
            return Err("it is not written canonically".to_owned());
        }
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    fn text(&self) -> String {
        serde_json::to_value(self).map(|value| canonical(&value)).unwrap_or_default()
    }
}

/// The hash of an entry's text, in hexadecimal digits.
pub fn entry_hash(text: &str) -> String {
    sha256([DOMAIN, text].concat())
}

/// The digest of a head: its canonical JSON without the chain and its signature.
fn head_digest(mut head: Value) -> String {
    if let Value::Object(fields) = &mut head {
        fields.remove("chain");
        fields.remove("signed");
    }
    sha256(canonical(&head))
}

/// Everything that is stored of one incident.
#[derive(Clone, PartialEq, Debug)]
pub struct IncidentRecord {
    /// Which incident.
    pub id: IncidentId,
    /// Its head, where there is one.
    pub head: Option<Head>,
    head_sha256: String,
    /// The children of all generations.
    pub children: Vec<Child>,
}

impl IncidentRecord {
    /// As a store gives it.
    pub fn new(id: IncidentId, head: Option<Head>, children: Vec<Child>) -> Self {
        let head_sha256 = head.as_ref().map(digest_of).unwrap_or_default();
        Self { id, head, head_sha256, children }
    }

    /// A head, and what it was read from: that is what has a digest.
    fn set_head(&mut self, head: Head, raw: Value) {
        self.head = Some(head);
        self.head_sha256 = head_digest(raw);
    }
}

fn digest_of(head: &Head) -> String {
    head_digest(serde_json::to_value(head).unwrap_or_default())
}

/// The number and the hash of the last entry in a head: what is told to the log.
pub fn anchor(head: &Head) -> Option<(u64, String)> {
    let text = head.chain.last()?;
    Some((Entry::read(text).ok()?.n, entry_hash(text)))
}

/// A change of a head, as the chain tells it.
#[derive(Clone, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) at: UnixMs,
    pub(crate) happened: Happened,
    pub(crate) children: &'a [Sealed],
    pub(crate) announced: Option<Sealed>,
}

/// Puts the entry of a change into `next`, whose version and writer are set. Gives what is to be stored before `next`
/// is: the list of the entry's children, where they are many.
pub(crate) fn advance(found: Option<&Head>, next: &mut Head, change: Change<'_>) -> Option<Child> {
    let before = found.map(|head| head.chain.as_slice()).unwrap_or_default();
    let end = before.last().and_then(|text| Some((Entry::read(text).ok()?.n, entry_hash(text))));
    let began_at = found.filter(|_| end.is_none()).map(|head| head.version);
    let (n, prev) = end.map_or((1, String::new()), |(n, hash)| (n.saturating_add(1), hash));
    next.schema = Head::SCHEMA;
    let mut children = change.children.to_vec();
    children.sort();
    children.dedup();
    let list = (children.len() > MOST_LISTED).then(|| {
        let body = serde_json::to_value(&children).map(|list| canonical(&list)).unwrap_or_default();
        children.clear();
        Child { generation: next.generation, name: ChildName::List(sha256(&body)), body }
    });
    let entry = Entry {
        n,
        prev,
        at: change.at,
        generation: next.generation,
        happened: change.happened.clipped(),
        state: next.state,
        epoch: next.epoch,
        head: digest_of(next),
        children,
        list: list.as_ref().map(|list| sha256(&list.body)),
        announced: change.announced,
        opens: found.is_none_or(|head| head.generation != next.generation),
        began_at,
    };
    next.chain = if is_full(before) { Vec::new() } else { before.to_vec() };
    next.chain.push(entry.text());
    next.signed = found.and_then(|head| head.signed.clone());
    list
}

/// The entries in a head that have to be stored as a child before it is changed. `by_intake`: by one who may not write
/// into the incident's record.
pub(crate) fn moved(found: &Head, by_intake: bool) -> Option<Child> {
    let last = found.chain.last().filter(|_| is_full(&found.chain))?;
    let n = Entry::read(last).map_or(0, |entry| entry.n);
    let name = if by_intake { ChildName::IntakeEntries(n) } else { ChildName::Entries(n) };
    let body = serde_json::to_string(&found.chain).ok()?;
    Some(Child { generation: found.generation, name, body })
}

fn is_full(chain: &[String]) -> bool {
    chain.iter().map(String::len).sum::<usize>() > MOST_IN_HEAD
}

/// The entries that a child holds.
fn entries_in(child: &Child) -> Option<Vec<String>> {
    matches!(child.name, ChildName::Entries(_) | ChildName::IntakeEntries(_))
        .then(|| serde_json::from_str(&child.body).unwrap_or_default())
}

/// The children of the head's generation that no entry has sealed yet: what a lost worker left behind, above all.
pub fn unsealed(head: &Head, children: &[Child]) -> Vec<Sealed> {
    let stored = children.iter().filter_map(entries_in).flatten();
    let texts = stored.chain(head.chain.iter().cloned());
    let entries = texts.filter_map(|text| Entry::read(&text).ok());
    let entries = entries.filter(|entry| entry.generation == head.generation);
    let sealed: BTreeSet<Sealed> = entries.flat_map(|entry| sealed_by(&entry, children)).collect();
    let bodies = children.iter().filter(|child| child.name.is_sealed());
    bodies.map(Sealed::of).filter(|child| !sealed.contains(child)).collect()
}

/// What an entry seals, its list read from `children`.
fn sealed_by(entry: &Entry, children: &[Child]) -> Vec<Sealed> {
    let Some(list) = &entry.list else { return entry.children.clone() };
    let name = ChildName::List(list.clone());
    let child = children.iter().find(|child| child.generation == entry.generation && child.name == name);
    child.and_then(|child| serde_json::from_str(&child.body).ok()).unwrap_or_default()
}
