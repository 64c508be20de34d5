//! Lists of incidents: which are wanted, in which order, and from where on.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use clap::Args;
use sentinel_core::UnixMs;
use sentinel_core::incident::{Gen, Head, IncidentId, State};
use sentinel_core::ports::{IncidentStore, StoreError};
use sentinel_core::redact::Redactor;
use sentinel_core::report::Verdict;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::Summary;
use crate::deletion::{label, time};

/// Heads that are read at once.
const LARGEST_PAGE: usize = 1000;
/// The most heads that are looked at for one list: of what is rare among more than these, it is short and says where to go on.
const MOST_LOOKED_AT: usize = 10_000;

/// Which incidents are wanted; whatever is not said is any.
#[derive(Args, Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// Of this card
    #[arg(long, value_name = "NAME")]
    pub card: Option<String>,
    /// In this state: pending, running, done, failed, suppressed or aborted; several: in any of them
    #[arg(long, value_name = "STATE", value_parser = word::<State>)]
    pub state: Vec<State>,
    /// With this verdict: `action_required`, `no_action` or inconclusive
    #[arg(long, value_name = "VERDICT", value_parser = word::<Verdict>)]
    pub verdict: Option<Verdict>,
    /// With this label among those of its key; several: all of them
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub label: Vec<(String, String)>,
    /// That opened last at this time or later
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<UnixMs>,
    /// That opened last before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<UnixMs>,
    /// Whose alerts fire, as far as their senders have said
    #[arg(long)]
    pub open: bool,
}

/// A word of a list, as it stands in JSON.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())
}

/// What [`word`] reads.
fn said(value: &impl Serialize) -> String {
    let said = serde_json::to_value(value).ok();
    said.and_then(|said| said.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The last incident of a list, after which the next one goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(Gen, IncidentId);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('.')
            .and_then(|(generation, id)| Some(Self(Gen(generation.parse().ok()?), IncidentId::new(id))));
        parsed.ok_or_else(|| format!("{text:?} is no cursor that a list has ended with"))
    }
}

/// A list: the newest first.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Listed {
    /// What is wanted.
    pub incidents: Vec<Summary>,
    /// Where the next list goes on; `None`: there are no more.
    pub next: Option<Cursor>,
}

impl Wanted {
    fn takes(&self, head: &Head) -> bool {
        let fires = || head.resolved().is_none() && (head.state != State::Suppressed || head.again.is_some());
        self.card.as_ref().is_none_or(|card| head.card == *card)
            && (self.state.is_empty() || self.state.contains(&head.state))
            && self.verdict.is_none_or(|verdict| head.verdict == Some(verdict))
            && self.label.iter().all(|(name, value)| head.labels.get(name) == Some(value))
            && (!self.open || fires())
    }

    /// The same, of which none opened last at this time or later.
    #[must_use]
    pub fn before(self, time: UnixMs) -> Self {
        Self { until: Some(self.until.map_or(time, |until| until.min(time))), ..self }
    }

    /// Reads what a request asks for: names with values, as they stand behind the `?`.
    ///
    /// # Errors
    /// What is wrong with which, for whoever asked.
    pub fn of_query(asked: &[(String, String)]) -> Result<(Self, Asked), String> {
        let (mut wanted, mut page, mut before) = (Self::default(), Asked::default(), None);
        for (name, value) in asked {
            let wrong = |why: String| format!("`{name}`: {why}");
            match name.as_str() {
                "card" => wanted.card = Some(value.clone()),
                "state" => wanted.state.push(word(value).map_err(wrong)?),
                "verdict" => wanted.verdict = Some(word(value).map_err(wrong)?),
                "label" => wanted.label.push(label(value).map_err(wrong)?),
                "since" => wanted.since = Some(time(value).map_err(wrong)?),
                "until" => wanted.until = Some(time(value).map_err(wrong)?),
                "open" => wanted.open = word_of_truth(value).map_err(wrong)?,
                "limit" => page.limit = Some(value.parse().map_err(|e| wrong(format!("{value:?}: {e}")))?),
                "cursor" => page.cursor = Some(value.parse().map_err(wrong)?),
                "before" => {
                    before = Some(UnixMs::new(value.parse().map_err(|e| wrong(format!("{value:?}: {e}")))?));
                }
                _ => {
                    return Err(format!(
                        "there is no filter `{name}`: card, state, verdict, label, since, until, open, limit, cursor, before"
                    ));
                }
            }
        }
        wanted.until = [wanted.until, before].into_iter().flatten().min();
        Ok((wanted, page))
    }

    /// What [`Self::of_query`] reads this from.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let mut asked = Vec::new();
        asked.extend(self.card.iter().map(|card| ("card", card.clone())));
        asked.extend(self.state.iter().map(|state| ("state", said(state))));
        asked.extend(self.verdict.iter().map(|verdict| ("verdict", said(verdict))));
        asked.extend(self.label.iter().map(|(name, value)| ("label", format!("{name}={value}"))));
        asked.extend(self.since.iter().map(|time| ("since", time.to_string())));
        asked.extend(self.until.iter().map(|time| ("until", time.to_string())));
        asked.extend(self.open.then(|| ("open", "true".to_owned())));
        asked
    }
}

fn word_of_truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

/// Which part of a list is asked for.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Asked {
    /// At most this many.
    pub limit: Option<usize>,
    /// After this one.
    pub cursor: Option<Cursor>,
}

/// Of the incidents that are wanted those after `from`, at most `limit`, but for secrets that `redactor` knows and who
/// stored them did not. Of one moment they come in the order of their ids. Of what was deleted nothing is listed.
///
/// # Errors
/// The store does not answer, or what it holds cannot be read.
pub async fn list(
    store: &dyn IncidentStore,
    redactor: &Redactor,
    wanted: &Wanted,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<Listed, StoreError> {
    let after = from.map(|Cursor(generation, _)| Gen(generation.0.saturating_add(1)));
    let until = wanted.until.map(|until| Gen(until.get()));
    let mut before = [after, until].into_iter().flatten().min().unwrap_or(Gen(i64::MAX));
    let since = wanted.since.map_or(Gen(i64::MIN), |since| Gen(since.get()));
    let (mut listed, mut seen) = (Listed::default(), HashSet::new());
    let (mut page, mut looked_at) = (LARGEST_PAGE.min(limit.saturating_add(1)), 0);
    loop {
        let mut heads = store.recent_before(before, page).await?;
        let full = heads.len() >= page;
        if full && let Some(last) = heads.last().map(|head| head.generation) {
            // Of the last moment there may be more: it is read again, whole.
            heads.retain(|head| head.generation > last);
            if heads.is_empty() {
                page = page.saturating_mul(2);
                continue;
            }
            before = Gen(last.0.saturating_add(1));
        }
        heads.sort_by(|a, b| (b.generation, &a.id).cmp(&(a.generation, &b.id)));
        for mut head in heads {
            if head.generation < since {
                return Ok(listed);
            }
            if from.is_some_and(|Cursor(generation, id)| head.generation == *generation && head.id <= *id) {
                continue;
            }
            // One that opens again meanwhile comes twice.
            if !seen.insert(head.id.clone()) {
                continue;
            }
            let here = Cursor(head.generation, head.id.clone());
            // A notice is a record like an incident's, and no incident.
            if !head.is_notice() && head.deleted.is_none() && wanted.takes(&head) {
                head.redact(&redactor.for_incident(&head.id));
                listed.incidents.push(Summary::of(&head));
            }
            looked_at += 1;
            if listed.incidents.len() >= limit || looked_at >= MOST_LOOKED_AT {
                listed.next = Some(here);
                return Ok(listed);
            }
        }
        if !full {
            return Ok(listed);
        }
    }
}
