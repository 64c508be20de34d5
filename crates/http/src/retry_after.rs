//! When a server says that it may be asked again.

use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is compared with the server's own `Date`. OpenAI's
/// `retry-after-ms` is finer and goes first.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    if let Some(ms) = number("retry-after-ms") {
        return Duration::try_from_secs_f64(ms / 1000.0).ok();
    }
    if let Some(seconds) = number(RETRY_AFTER.as_str()) {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = |name| rfc2822::parse(headers.get(name)?.to_str().ok()?).ok();
    date(RETRY_AFTER)?.duration_since(&date(DATE)?).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect())
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(after(&[("retry-after", "20")]), seconds(20));
        assert_eq!(
            after(&[("retry-after", "20"), ("retry-after-ms", "1500")]),
            Some(Duration::from_millis(1500))
        );
        let dates =
            [("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), ("date", "Wed, 21 Oct 2026 07:27:30 GMT")];
        assert_eq!(after(&dates), seconds(30));
        for unusable in ["-5", "soon", "NaN", "1e300", ""] {
            assert_eq!(after(&[("retry-after", unusable)]), None, "{unusable:?}");
        }
        assert_eq!(after(&[dates[0], ("date", "Wed, 21 Oct 2026 08:00:00 GMT")]), None);
        assert_eq!(after(&[]), None);
    }
}
