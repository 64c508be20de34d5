//! Lines of a terminal: wrapped at words, as wide as it is.

use std::fmt::Write as _;

use sentinel_core::marks::changes_the_display;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const DIM: &str = "\x1b[2m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const MARKED: &str = "\x1b[7m";
pub(crate) const STRUCK: &str = "\x1b[9m";
pub(crate) const OFF: &str = "\x1b[0m";

/// Text of others on one line, without control characters.
pub(crate) fn inert(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' || c == '\t' { ' ' } else { c })
        .filter(|c| !changes_the_display(*c))
        .collect()
}

/// Lines of at most `width` columns.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) width: usize,
    out: String,
}

impl Lines {
    pub(crate) fn new(width: usize) -> Self {
        Self { width, out: String::new() }
    }

    pub(crate) fn text(self) -> String {
        self.out
    }

    pub(crate) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A line as it is, which its maker keeps short.
    pub(crate) fn raw(&mut self, line: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "{line}");
    }

    pub(crate) fn heading(&mut self, title: &str) {
        self.blank();
        self.raw(&format!("{BOLD}{title}{OFF}"));
    }

    /// Text in one style, behind `first` on its first line and as many spaces on the others; `most`: the most lines.
    pub(crate) fn hanging(&mut self, first: &str, style: &str, text: &str, most: usize) {
        let indent = first.width();
        let lines = wrapped(&inert(text), self.width.saturating_sub(indent).max(8), most);
        let off = if style.is_empty() { "" } else { OFF };
        for (n, line) in lines.iter().enumerate() {
            let before = if n == 0 { first.to_owned() } else { " ".repeat(indent) };
            self.raw(&format!("{before}{style}{line}{off}"));
        }
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &str) {
        self.hanging("", "", text, usize::MAX);
    }
}

/// The text in lines of at most `width` columns, broken between words, and in words that are wider; at most `most` of
/// them, the last of which says with `…` where text is left out. At least one line.
pub(crate) fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let wide = word.width();
        if used > 0 && used + 1 + wide <= width {
            push(&mut lines, " ");
            used += 1;
        } else if used > 0 {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            let wide = c.width().unwrap_or_default();
            if used + wide > width && used > 0 {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, c.encode_utf8(&mut [0; 4]));
            used += wide;
        }
    }
    if lines.len() > most {
        lines.truncate(most);
        if let Some(last) = lines.last_mut() {
            while last.width() + 1 > width && last.pop().is_some() {}
            last.truncate(last.trim_end().len());
            last.push('…');
        }
    }
    lines
}

fn push(lines: &mut [String], text: &str) {
    if let Some(last) = lines.last_mut() {
        last.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words_and_a_word_only_where_it_is_wider() {
        assert_eq!(wrapped("one two  three", 7, 9), ["one two", "three"]);
        assert_eq!(wrapped("a checkout-7d9c6b5f4d b", 10, 9), ["a", "checkout-7", "d9c6b5f4d", "b"]);
        assert_eq!(wrapped("", 10, 9), [""]);
        assert_eq!(
            wrapped("漢字漢字 é🔥", 5, 9),
            ["漢字", "漢字", "é🔥"],
            "wide characters take two columns"
        );
    }

    #[test]
    fn what_is_left_out_is_said() {
        assert_eq!(wrapped("one two three four", 7, 2), ["one two", "three…"]);
        assert_eq!(wrapped("one two-345 six", 7, 2), ["one", "two-34…"]);
        assert_eq!(wrapped("one two", 7, 1), ["one two"]);
    }

    #[test]
    fn text_of_others_cannot_drive_the_terminal() {
        assert_eq!(inert("a\x1b[2Jb\r\nc\u{202e}d"), "a[2Jb cd");
        assert_eq!(inert("a\u{61c}b\u{2028}c\u{2029}d\u{200f}e"), "abcde");
    }
}
