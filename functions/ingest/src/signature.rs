//! Grafana's signature: hexadecimal HMAC-SHA256 of the body, or of the time in Unix seconds, a colon and the body.
//! <https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/>

use std::fmt::Write as _;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use secrecy::ExposeSecret;
use sentinel_config::Hmac as Key;
use sentinel_core::UnixMs;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};

/// How far the signed time may be from ours, either way.
const TOLERANCE: Duration = Duration::from_mins(5);
/// Where a time is looked for if the configuration names no header. Grafana has no name of its own for it.
const TIMESTAMP_HEADER: &str = "x-grafana-alerting-timestamp";

/// Whether the request shows the body signed with `key`.
///
/// A time that is shown has to be signed and near `now`. One has to be shown where the configuration names its header. A
/// signature made with a time is never one of the body alone: what is signed then begins with that time.
pub(crate) fn is_right(key: &Key, headers: &HeaderMap, body: &[u8], now: UnixMs) -> Choice {
    let no = Choice::from(0);
    // One of each: of two, nobody could say which was meant.
    let one = |name: &str| {
        let mut all = headers.get_all(name).iter();
        all.next().filter(|_| all.next().is_none())
    };
    let Some(shown) = one(&key.header) else { return no };
    let timestamp_header = key.timestamp_header.as_deref();
    let at = match one(timestamp_header.unwrap_or(TIMESTAMP_HEADER)) {
        Some(at) => match at.to_str() {
            Ok(at) if is_near(at, now) => Some(at),
            _ => return no,
        },
        None if timestamp_header.is_some() => return no,
        None => None,
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.secret.expose_secret().as_bytes()) else {
        return no;
    };
    if let Some(at) = at {
        mac.update(at.as_bytes());
        mac.update(b":");
    }
    mac.update(body);
    let mut right = String::with_capacity(64);
    for byte in mac.finalize().into_bytes() {
        // Writing to a string does not fail.
        let _ = write!(right, "{byte:02x}");
    }
    right.as_bytes().ct_eq(&shown.as_bytes().to_ascii_lowercase())
}

fn is_near(at: &str, now: UnixMs) -> bool {
    let Some(at) = at.parse::<i64>().ok().and_then(|s| s.checked_mul(1_000)) else { return false };
    let at = UnixMs::new(at);
    now.since(at).max(at.since(now)) <= TOLERANCE
}
