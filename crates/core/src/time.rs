//! Instants as whole milliseconds since the Unix epoch.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
///
/// The record stores milliseconds because conditions on it compare numbers, and because a generation is named by
/// its opening time. Arithmetic saturates: a far future is as good as for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(i64);

impl UnixMs {
    /// The instant `ms` milliseconds after the epoch.
    pub const fn new(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// This instant moved `by` into the future.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This instant moved `by` into the past.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since the epoch, rounded up: the unit of a `DynamoDB` TTL attribute.
    pub const fn ceil_seconds(self) -> i64 {
        self.0.div_euclid(1000) + if self.0.rem_euclid(1000) == 0 { 0 } else { 1 }
    }

    /// Reads an RFC 3339 date and time, of the year 9999 at the latest.
    ///
    /// # Errors
    /// The reason, when the text is none.
    pub fn parse_rfc3339(text: &str) -> Result<Self, jiff::Error> {
        let read = |text: &str| text.parse().map(jiff::Timestamp::as_millisecond);
        read(text).map(Self).or_else(|error| match text.strip_prefix("9999-12-") {
            // jiff's timestamps end a day before the year does.
            Some(rest) => read(&format!("9998-12-{rest}")).map(|ms| Self((ms + YEAR_9998).min(LAST))),
            None => Err(error),
        })
    }
}

/// The length of the year 9998, in milliseconds.
const YEAR_9998: i64 = 365 * 86_400_000;
/// The last millisecond of the year 9999.
const LAST: i64 = 253_402_300_799_999;

impl From<jiff::Timestamp> for UnixMs {
    fn from(t: jiff::Timestamp) -> Self {
        Self(t.as_millisecond())
    }
}

/// RFC 3339 in UTC, as people read it.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(t) = jiff::Timestamp::from_millisecond(self.0) {
            return t.fmt(f);
        }
        match jiff::Timestamp::from_millisecond(self.0.saturating_sub(YEAR_9998)) {
            Ok(t) if (0..=LAST).contains(&self.0) => f.write_str(&t.to_string().replacen("9998", "9999", 1)),
            _ => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_zero_when_the_clock_ran_backwards() {
        assert_eq!(UnixMs::new(5).since(UnixMs::new(9)), Duration::ZERO);
        assert_eq!(UnixMs::new(9).since(UnixMs::new(5)), Duration::from_millis(4));
    }

    #[test]
    fn a_ttl_is_rounded_up_so_that_nothing_expires_early() {
        assert_eq!(UnixMs::new(1_000).ceil_seconds(), 1);
        assert_eq!(UnixMs::new(1_001).ceil_seconds(), 2);
        assert_eq!(UnixMs::new(-1).ceil_seconds(), 0);
    }

    #[test]
    fn it_reads_and_writes_rfc_3339() {
        let t = UnixMs::parse_rfc3339("2026-11-22T10:00:00.250+01:00").unwrap();
        assert_eq!(t.to_string(), "2026-11-22T09:00:00.25Z");
        assert!(UnixMs::parse_rfc3339("yesterday").is_err());
        assert!(UnixMs::parse_rfc3339("9999-12-32T00:00:00Z").is_err());
        assert_eq!(UnixMs::new(i64::MAX).to_string(), format!("{} ms", i64::MAX));
        assert_eq!(UnixMs::new(i64::MIN).to_string(), format!("{} ms", i64::MIN));
    }

    #[test]
    fn the_last_days_of_9999_are_times() {
        for (text, read) in [
            ("9999-12-30T21:00:00Z", "9999-12-30T21:00:00Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T12:00:00+02:00", "9999-12-31T10:00:00Z"),
        ] {
            assert_eq!(UnixMs::parse_rfc3339(text).unwrap().to_string(), read, "{text}");
        }
    }
}
