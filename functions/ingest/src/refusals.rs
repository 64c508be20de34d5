//! Requests and connections that were turned away: counted by kind, and logged at most once a minute a kind, so that
//! nobody fills the log by being refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use sentinel_core::UnixMs;

/// The shortest time between two lines about one kind.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

/// How many different paths or reasons stand in one line, and how much of one, in characters.
const MOST_NOTES: usize = 5;
const LONGEST_NOTE: usize = 120;

/// Why somebody was turned away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// 401: no valid credentials.
    Unauthorized,
    /// 403: a web page, a foreign host name, a token that may not do this, or a message of Amazon SNS that is not in order.
    Forbidden,
    /// 404: nothing is at this path.
    NotFound,
    /// 405: the path takes another method.
    WrongMethod,
    /// 408, or a connection that was closed: the head or the body of a request did not arrive in time, or its answer was
    /// not read.
    TimedOut,
    /// 413: the body is too large.
    TooLarge,
    /// 503: too many bytes of bodies, or readers of events, at once.
    Full,
    /// A connection that was closed because another one needed its place.
    Crowded,
    /// A connection that could not be taken: the process has no descriptor left.
    NotAccepted,
}

impl Refusal {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::WrongMethod,
        Self::TimedOut,
        Self::TooLarge,
        Self::Full,
        Self::Crowded,
        Self::NotAccepted,
    ];

    /// The kind that a status stands for. A 503 is none: mostly it is the store's.
    pub const fn of(status: StatusCode) -> Option<Self> {
        Some(match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::WrongMethod,
            StatusCode::REQUEST_TIMEOUT => Self::TimedOut,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            _ => return None,
        })
    }

    /// Whether the request's path says what is wrong.
    pub const fn is_of_a_path(self) -> bool {
        matches!(self, Self::NotFound | Self::WrongMethod)
    }

    /// A word for it: the label of the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::WrongMethod => "wrong-method",
            Self::TimedOut => "timed-out",
            Self::TooLarge => "too-large",
            Self::Full => "full",
            Self::Crowded => "crowded",
            Self::NotAccepted => "not-accepted",
        }
    }

    /// What happened and what helps, for the log.
    const fn sentence(self) -> &'static str {
        match self {
            Self::Unauthorized => "requests without valid credentials were refused",
            Self::Forbidden => {
                "requests were refused: of web pages, for foreign host names, beyond their token, or with messages of \
                 Amazon SNS that are not in order"
            }
            Self::NotFound => {
                "requests were refused: nothing is at their paths; webhooks go to POST /webhook/alertmanager"
            }
            Self::WrongMethod => "requests were refused: their paths take another method",
            Self::TimedOut => {
                "connections were closed: their requests did not arrive, or answers were not read, in time"
            }
            Self::TooLarge => "requests with too large a body were refused",
            Self::Full => "requests were refused: as much is being read as may be at once",
            Self::Crowded => {
                "the oldest waiting connections were closed for new ones: `server.max-connections` was reached"
            }
            Self::NotAccepted => {
                "connections were not taken: the process may open no more files (`ulimit -n`)"
            }
        }
    }
}

#[derive(Clone, Default, Debug)]
struct Kind {
    total: u64,
    unsaid: u64,
    said_at: Option<UnixMs>,
    /// Where the unsaid ones were sent to, or what was wrong with them.
    notes: BTreeSet<String>,
}

/// A line about one kind.
#[derive(PartialEq, Eq, Debug)]
struct Line {
    /// How many since the last line.
    count: u64,
    /// How many since the start.
    total: u64,
    notes: BTreeSet<String>,
}

/// How many were turned away, by kind. Cheap to clone; clones count together.
#[derive(Clone, Default, Debug)]
pub struct Refusals(Arc<Mutex<BTreeMap<Refusal, Kind>>>);

impl Refusals {
    fn kinds(&self) -> MutexGuard<'_, BTreeMap<Refusal, Kind>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one, and logs its kind unless that was done within the last minute.
    pub fn count(&self, why: Refusal, now: UnixMs) {
        self.count_with(why, None, now);
    }

    /// Counts one with its path, or with what was wrong with it.
    pub fn count_with(&self, why: Refusal, note: Option<&str>, now: UnixMs) {
        let mut kinds = self.kinds();
        let kind = kinds.entry(why).or_default();
        kind.total += 1;
        kind.unsaid += 1;
        if let Some(note) = note.filter(|_| kind.notes.len() < MOST_NOTES) {
            kind.notes.insert(note.chars().take(LONGEST_NOTE).collect());
        }
        let line = due(kind, now);
        drop(kinds);
        log(line.map(|line| (why, line)));
    }

    /// Logs what was counted since the last line of each kind, where that is a minute ago.
    pub fn tell(&self, now: UnixMs) {
        let mut kinds = self.kinds();
        let lines: Vec<_> =
            kinds.iter_mut().filter_map(|(why, kind)| Some((*why, due(kind, now)?))).collect();
        drop(kinds);
        log(lines);
    }

    /// How many were turned away for this since the start.
    pub fn total(&self, why: Refusal) -> u64 {
        self.kinds().get(&why).map_or(0, |kind| kind.total)
    }
}

/// The line about this kind, if one is due.
fn due(kind: &mut Kind, now: UnixMs) -> Option<Line> {
    if kind.unsaid == 0 || kind.said_at.is_some_and(|at| now.since(at) < BETWEEN_LINES) {
        return None;
    }
    kind.said_at = Some(now);
    let (count, notes) = (std::mem::take(&mut kind.unsaid), std::mem::take(&mut kind.notes));
    Some(Line { count, total: kind.total, notes })
}

fn log(lines: impl IntoIterator<Item = (Refusal, Line)>) {
    for (why, Line { count, total, notes }) in lines {
        let what = (!notes.is_empty()).then(|| notes.into_iter().collect::<Vec<_>>().join(", "));
        tracing::warn!(kind = why.as_str(), count, total, what, "{}", why.sentence());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_one_line_a_minute_with_the_count_since_the_last() {
        let mut kind = Kind::default();
        let mut lines = Vec::new();
        for second in 0..150 {
            kind.total += 1;
            kind.unsaid += 1;
            lines.extend(due(&mut kind, UnixMs::new(second * 1_000)).map(|line| (line.count, line.total)));
        }
        assert_eq!(lines, [(1, 1), (60, 61), (60, 121)]);
        let last = due(&mut kind, UnixMs::new(200_000)).unwrap();
        assert_eq!((last.count, last.total), (29, 150));
        assert_eq!(due(&mut kind, UnixMs::new(900_000)), None, "nothing new, no line");
    }

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let refusals = Refusals::default();
        for _ in 0..1_000 {
            refusals.count(Refusal::Unauthorized, UnixMs::new(1));
        }
        refusals.clone().count(Refusal::Crowded, UnixMs::new(1));
        let totals = Refusal::ALL.map(|why| refusals.total(why));
        assert_eq!(totals, [1_000, 0, 0, 0, 0, 0, 0, 1, 0]);
    }
}
