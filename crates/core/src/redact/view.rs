//! Another way to read a text: with escapes resolved, or without what cannot be seen. What is found there is taken out
//! of the text as it stands.

use std::ops::Range;

/// A reading of a text, and where each piece of it stands there.
#[derive(Default)]
pub(super) struct View {
    pub(super) text: String,
    pieces: Vec<Piece>,
}

/// A stretch of a view, and the stretch of the text that it reads.
#[derive(Clone, Copy)]
struct Piece {
    here: usize,
    there: usize,
    /// Its length in the text; where it is the view's too, byte stands for byte.
    len: usize,
    exact: bool,
}

impl View {
    fn copy(&mut self, piece: &str, there: usize) {
        if !piece.is_empty() {
            self.pieces.push(Piece { here: self.text.len(), there, len: piece.len(), exact: true });
            self.text.push_str(piece);
        }
    }

    fn put(&mut self, read: char, there: usize, len: usize) {
        self.pieces.push(Piece { here: self.text.len(), there, len, exact: false });
        self.text.push(read);
    }

    fn piece(&self, at: usize) -> Option<&Piece> {
        let after = self.pieces.partition_point(|piece| piece.here <= at);
        self.pieces.get(after.checked_sub(1)?)
    }

    /// Where a stretch of the view stands in the text that it reads.
    pub(super) fn place(&self, range: &Range<usize>) -> Option<Range<usize>> {
        let (first, last) = (self.piece(range.start)?, self.piece(range.end.checked_sub(1)?)?);
        let start = if first.exact { first.there + (range.start - first.here) } else { first.there };
        let end = if last.exact { last.there + (range.end - last.here) } else { last.there + last.len };
        (start < end).then_some(start..end)
    }

    /// The text with one layer of escapes resolved, and without ANSI's codes and characters that are not seen. `None`:
    /// there is nothing of it.
    pub(super) fn plainer(text: &str) -> Option<Self> {
        let worth = |b: &u8| {
            matches!(b, b'\\' | b'%' | b'&' | 0x1b | 0xe1 | 0xe2 | 0xef | 0xc2 | 0xcd | 0xf3)
                || *b < 9
                || *b == 0x7f
        };
        if !text.as_bytes().iter().any(worth) {
            return None;
        }
        let mut view = Self::default();
        let (mut copied, mut at, mut changed) = (0, 0, false);
        let bytes = text.as_bytes();
        while let Some(byte) = bytes.get(at) {
            let Some((read, len)) = worth(byte).then(|| unescaped(text.get(at..)?)).flatten() else {
                at += 1;
                continue;
            };
            view.copy(text.get(copied..at)?, copied);
            if let Some(read) = read {
                view.put(read, at, len);
            }
            changed = true;
            at += len;
            copied = at;
        }
        view.copy(text.get(copied..)?, copied);
        changed.then_some(view)
    }

    /// The text without its line ends, and the blanks that begin the next line.
    pub(super) fn joined(text: &str) -> Option<Self> {
        if !text.contains('\n') {
            return None;
        }
        let mut view = Self::default();
        let mut there = 0;
        for line in text.split_inclusive('\n') {
            let blanks = line.len() - line.trim_start_matches([' ', '\t']).len();
            let body = line.get(blanks..).unwrap_or_default().trim_end_matches(['\n', '\r']);
            view.copy(body, there + blanks);
            there += line.len();
        }
        Some(view)
    }
}

/// What the beginning of `text` reads as, `None` where that is nothing, and how long it is.
fn unescaped(text: &str) -> Option<(Option<char>, usize)> {
    let bytes = text.as_bytes();
    match bytes {
        [b'\\', b'u', digits @ ..] => unit_of(digits).map(|unit| match unit {
            // The second half of a pair follows the same way, or it is none.
            0xd800..0xdc00 => match text.get(6..).map(str::as_bytes) {
                Some([b'\\', b'u', low @ ..]) if unit_of(low).is_some_and(|low| low >> 10 == 0x37) => {
                    let low = unit_of(low).unwrap_or_default() & 0x3ff;
                    (char::from_u32(0x10000 + ((unit & 0x3ff) << 10) + low), 12)
                }
                _ => (None, 6),
            },
            _ => (char::from_u32(unit).filter(|c| !is_unseen(*c)), 6),
        }),
        [b'\\', b'x', high, low, ..] => {
            let byte = (digit(*high)? << 4) | digit(*low)?;
            (byte < 0x80).then(|| (char::from_u32(byte), 4))
        }
        [b'\\', next, ..] => match next {
            b'n' => Some((Some('\n'), 2)),
            b'r' => Some((Some('\r'), 2)),
            b't' => Some((Some('\t'), 2)),
            b'"' | b'\\' | b'/' | b'\'' => Some((Some(char::from(*next)), 2)),
            b'\n' => Some((Some(' '), 2)),
            _ => None,
        },
        [b'%', high, low, ..] => {
            let byte = (digit(*high)? << 4) | digit(*low)?;
            (byte < 0x80).then(|| (char::from_u32(byte), 3))
        }
        [b'&', ..] => entity(text),
        [0x1b, b'[', rest @ ..] => {
            let len = rest.iter().take(64).position(|b| (0x40..=0x7e).contains(b))?;
            Some((None, len + 3))
        }
        [0x1b, b']', rest @ ..] => {
            let len = rest.iter().take(4096).position(|b| matches!(b, 0x07 | 0x1b | b'\n'))?;
            Some((None, len + 3)).filter(|(_, len)| text.is_char_boundary(*len))
        }
        _ => {
            let first = text.chars().next()?;
            is_unseen(first).then_some((None, first.len_utf8()))
        }
    }
}

fn digit(byte: u8) -> Option<u32> {
    char::from(byte).to_digit(16)
}

fn unit_of(digits: &[u8]) -> Option<u32> {
    digits.get(..4)?.iter().try_fold(0, |all, byte| Some(all << 4 | digit(*byte)?))
}

fn entity(text: &str) -> Option<(Option<char>, usize)> {
    for (name, read) in [("&quot;", '"'), ("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&apos;", '\'')] {
        if text.starts_with(name) {
            return Some((Some(read), name.len()));
        }
    }
    let number = text.strip_prefix("&#")?;
    let end = number.as_bytes().iter().take(8).position(|b| *b == b';')?;
    let digits = number.get(..end)?;
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some((Some(char::from_u32(code)?), end + 3))
}

/// Characters that take no room: what stands before and after them is read as one.
const fn is_unseen(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_knows_where_its_pieces_stand() {
        let text = r"a\u0070b%22c\\";
        let view = View::plainer(text).unwrap();
        assert_eq!(view.text, "apb\"c\\");
        assert_eq!(view.place(&(1..3)), Some(1..8));
        assert_eq!(view.place(&(3..6)), Some(8..14));
        assert!(View::plainer("plain text").is_none());
    }

    #[test]
    fn what_is_not_seen_is_not_there() {
        let view = View::plainer("a\u{200b}b\u{1b}[31mc\u{1b}]8;;x\u{7}d").unwrap();
        assert_eq!(view.text, "abcd");
        let view = View::joined("ab\r\n   cd\n").unwrap();
        assert_eq!((view.text.as_str(), view.place(&(1..3))), ("abcd", Some(1..8)));
    }
}
