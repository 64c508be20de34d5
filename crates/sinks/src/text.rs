//! Text of alerts and models, made inert.

use sentinel_core::marks::changes_the_display;

/// The text on one line in one direction, in at most `most` characters and a mark that says so where it is cut:
/// control characters, separators of lines and marks that turn the direction of writing are escaped.
pub(crate) fn inert(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    let mut left = most;
    for c in text.chars() {
        let piece = match c {
            _ if c.is_control() => c.escape_default().to_string(),
            _ if changes_the_display(c) => c.escape_unicode().to_string(),
            _ => c.to_string(),
        };
        let Some(rest) = left.checked_sub(piece.chars().count()) else {
            out.push('…');
            break;
        };
        left = rest;
        out.push_str(&piece);
    }
    out
}
