//! What models put around a text that they copied: marks, bullets, the number of its line, and signs that something was
//! left out.

use super::layers::{fold, unescape};

/// The most pieces of a quote that leaves something out between them.
const MOST_PIECES: usize = 4;
/// The shortest of them, in characters.
const SHORTEST_PIECE: usize = 4;
/// How often something is taken off.
const MOST_LAYERS: usize = 8;

/// A quote as it is looked up.
pub(super) struct Quote {
    /// As the model wrote it, and with JSON's escapes resolved where that differs; folded as a layer is.
    pub(super) written: Vec<String>,
    /// The same without its dressing, in pieces.
    pub(super) bare: Vec<Vec<String>>,
}

impl Quote {
    pub(super) fn new(text: &str) -> Self {
        let mut written = vec![fold(text)];
        let resolved = unescape(text);
        if resolved != text {
            written.push(fold(&resolved));
        }
        let bare = written.iter().map(|written| pieces(undressed(written))).collect();
        Self { written, bare }
    }
}

/// A folded quote without what stands around it.
fn undressed(quote: &str) -> &str {
    let mut bare = quote;
    for _ in 0..MOST_LAYERS {
        let less = unwrapped(unlabelled(unfinished(bare)));
        if less == bare {
            break;
        }
        bare = less;
    }
    bare
}

/// Without signs at its edges that something was left out there, or a full stop.
fn unfinished(quote: &str) -> &str {
    let mut quote = quote.trim();
    for sign in ["[...]", "(...)", "<...>", "..."] {
        quote = quote.strip_prefix(sign).unwrap_or(quote);
        quote = quote.strip_suffix(sign).unwrap_or(quote);
    }
    quote.strip_suffix('.').unwrap_or(quote).trim()
}

/// Without a bullet, or the number of its line: `- `, `> `, `line 12: `, `L12: `.
fn unlabelled(quote: &str) -> &str {
    for bullet in ["- ", "* ", "• ", "> ", "+ "] {
        if let Some(rest) = quote.strip_prefix(bullet) {
            return rest.trim_start();
        }
    }
    let label =
        ["lines ", "line ", "Lines ", "Line ", "L"].iter().find_map(|label| quote.strip_prefix(label));
    let Some(number) = label else { return quote };
    let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
    if rest.len() == number.len() {
        return quote;
    }
    rest.strip_prefix([':', '|']).map_or(quote, str::trim_start)
}

/// Without a pair of marks around it.
fn unwrapped(quote: &str) -> &str {
    if let Some(code) = quote.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) {
        // The first word may name the language.
        let (language, rest) = code.split_once(' ').unwrap_or(("", code));
        let is_language = language.chars().all(|c| c.is_ascii_lowercase());
        return if is_language { rest.trim() } else { code.trim() };
    }
    for mark in ["**", "__", "`", "\"", "'", "*", "_"] {
        let inner = quote.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
        if let Some(inner) = inner.filter(|inner| !inner.is_empty()) {
            return inner.trim();
        }
    }
    quote
}

/// What stands between signs that something was left out. Where a piece is too short to be looked for, or there are too
/// many, the signs are the text's own.
fn pieces(quote: &str) -> Vec<String> {
    let signs = ["[...]", "(...)", "<...>"];
    let plain = signs.iter().fold(quote.to_owned(), |text, sign| text.replace(sign, "..."));
    let pieces: Vec<&str> = plain.split("...").map(str::trim).collect();
    let are_pieces = (2..=MOST_PIECES).contains(&pieces.len())
        && pieces.iter().all(|piece| piece.chars().count() >= SHORTEST_PIECE);
    if are_pieces { pieces.into_iter().map(str::to_owned).collect() } else { vec![quote.to_owned()] }
}
