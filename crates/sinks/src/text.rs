//! Text of alerts and models, made inert.

/// The text, cut to `most` characters, and on one line in one direction: control characters, separators of lines and
/// marks that turn the direction of writing are escaped.
pub(crate) fn inert(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (place, c) in text.chars().enumerate() {
        if place == most {
            out.push('…');
            break;
        }
        match c {
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(c.escape_unicode());
            }
            _ if c.is_control() => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
    out
}
