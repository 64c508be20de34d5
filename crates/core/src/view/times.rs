//! Instants and spans as people read them.

use std::time::Duration;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::UnixMs;

/// An instant: by the clock of the configured zone, and how long ago it was.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct When {
    /// The instant itself.
    pub at: UnixMs,
    /// `14:02 CET` of the same day, else `20 Nov 14:02 CET`; with its year where that is another.
    pub local: String,
    /// `2 h 5 min`. Of what is to come, how long it will be.
    pub distance: String,
}

impl When {
    /// `at`, as it is read at `now`.
    pub fn of(at: UnixMs, now: UnixMs, zone: &TimeZone) -> Self {
        let distance = if at > now { at.since(now) } else { now.since(at) };
        Self { at, local: local(at, now, zone), distance: span(distance) }
    }
}

/// The time of day of the zone, with the day where it is not that of `now`.
pub(super) fn local(at: UnixMs, now: UnixMs, zone: &TimeZone) -> String {
    let zoned =
        |at: UnixMs| jiff::Timestamp::from_millisecond(at.get()).ok().map(|t| t.to_zoned(zone.clone()));
    let Some(moment) = zoned(at) else { return at.to_string() };
    let now = zoned(now);
    let format = match &now {
        Some(now) if now.date() == moment.date() => "%H:%M %Z",
        Some(now) if now.year() == moment.year() => "%-d %b %H:%M %Z",
        _ => "%-d %b %Y %H:%M %Z",
    };
    moment.strftime(format).to_string()
}

/// A span in its two largest units: `8 d 21 h`, `2 h 5 min`, `12 min`, `45 s`.
pub fn span(of: Duration) -> String {
    let seconds = of.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |n: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{n} {unit}"),
        _ => format!("{n} {unit} {rest} {small}"),
    };
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, ..) => two(hours, "h", minutes % 60, "min"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T12:00:00Z.
    const NOON: UnixMs = UnixMs::new(1_795_348_800_000);

    #[test]
    fn a_time_has_its_day_where_that_is_not_today_and_its_year_where_that_is_another() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let before = |hours| When::of(NOON.minus(Duration::from_hours(hours)), NOON, &berlin);
        assert_eq!(before(2).local, "11:00 CET");
        assert_eq!((&*before(30).local, &*before(30).distance), ("21 Nov 07:00 CET", "1 d 6 h"));
        assert_eq!(before(24 * 180).local, "26 May 14:00 CEST", "summer has another offset");
        assert_eq!(before(24 * 400).local, "18 Oct 2025 14:00 CEST");
        // In Auckland it is the next day already.
        let auckland = TimeZone::get("Pacific/Auckland").unwrap();
        assert_eq!(When::of(NOON.minus(Duration::from_hours(2)), NOON, &auckland).local, "22 Nov 23:00 NZDT");
    }

    #[test]
    fn what_is_to_come_and_what_no_calendar_holds_are_told_too() {
        let soon = When::of(NOON.plus(Duration::from_mins(5)), NOON, &TimeZone::UTC);
        assert_eq!((&*soon.local, &*soon.distance), ("12:05 UTC", "5 min"));
        assert_eq!(local(UnixMs::new(i64::MAX), NOON, &TimeZone::UTC), format!("{} ms", i64::MAX));
    }

    #[test]
    fn a_span_has_at_most_two_units() {
        let said = |seconds| span(Duration::from_secs(seconds));
        let spans = [0, 59, 60, 3_599, 3_600, 7_500, 86_400, 90_000, 770_000].map(said);
        assert_eq!(
            spans,
            ["0 s", "59 s", "1 min", "59 min", "1 h", "2 h 5 min", "1 d", "1 d 1 h", "8 d 21 h"]
        );
    }
}
