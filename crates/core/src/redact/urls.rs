//! Passwords and tokens in the addresses of things: `scheme://user:password@host`.

use std::ops::Range;

use super::values::{is_opaque, stands_for_no_secret};

/// The longest address that is read.
const LONGEST: usize = 4096;

/// What stands in the address whose `://` is at `at`.
pub(super) fn find(text: &str, at: usize) -> Option<(Range<usize>, &'static str)> {
    let start = at + 3;
    let bytes = text.as_bytes();
    let rest = bytes.get(start..)?;
    // An address in the same word is read by itself, so that none is read twice.
    let ends = |at: usize, b: u8| {
        b <= b' '
            || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\' | 0x7f)
            || rest.get(at..).is_some_and(|rest| rest.starts_with(b"://"))
    };
    let length = rest.iter().take(LONGEST).enumerate().position(|(at, b)| ends(at, *b));
    let end = start + length.unwrap_or(rest.len().min(LONGEST));
    let address = text.get(start..end)?;
    if address.contains("[redacted: ") {
        return None;
    }
    let authority = address.split(['/', '?', '#']).next()?;
    let info = match authority.rfind('@') {
        Some(end) => authority.get(..end)?,
        // A password that was not encoded may hold what ends an authority.
        None => slashed(address, authority)?,
    };
    let (user, password) =
        info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password)));
    let secret = |from: usize, text: &str| (start + from..start + from + text.len(), "url-password");
    match password {
        Some(password) if stands(password) => Some(secret(user.len() + 1, password)),
        // A token as the user: `https://TOKEN@host`, `https://TOKEN:@host`, `https://KEY:x-oauth-basic@host`.
        _ if user.len() >= 16 && is_opaque(user) => Some(secret(0, user)),
        _ => None,
    }
}

fn stands(password: &str) -> bool {
    let reference = password.starts_with('$')
        && password.len() > 1
        && !password.contains(|c: char| !(c.is_ascii_alphanumeric() || "${}_()".contains(c)))
        || password.starts_with("{{")
        || password.starts_with('<')
        || password.starts_with("%s")
        || password.contains("****");
    !password.is_empty()
        && !reference
        && !stands_for_no_secret(password)
        && password != "x-oauth-basic"
        && !password.eq_ignore_ascii_case("password")
}

/// `user:pass/word` before an `@` that a host follows.
fn slashed<'t>(address: &'t str, authority: &str) -> Option<&'t str> {
    let (_, password) = authority.split_once(':')?;
    // `host:port/path@digest`
    if password.is_empty() || password.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let end = address.rfind('@')?;
    let host = address.get(end + 1..)?.split(['/', '?', ':']).next()?;
    let is_host =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    (is_host && !address.get(end + 1..)?.starts_with("sha256:")).then(|| address.get(..end)).flatten()
}
