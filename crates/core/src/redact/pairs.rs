//! Names and their values in text: settings, headers, flags, elements, dumps and prose.
//!
//! A word that names secrets (`password`, `token`, …) is a hint. The name around it is read, then what separates it from
//! its value, then the value; [`values`](super::values) says whether that is a secret. Each step looks at a bounded
//! stretch, or at one that is not looked at again, so that the whole is linear in the text.

use std::ops::Range;

use super::values::{Form, Sense, is_opaque, is_secret, sense};

/// The longest name.
const LONGEST_NAME: usize = 100;
/// The most blanks between a name and its value: the columns of `describe`.
const MOST_BLANKS: usize = 80;
/// The longest value in quotes, in bytes.
const LONGEST_QUOTED: usize = 64 * 1024;

/// What is found: where, and its kind.
pub(super) type Found = (Range<usize>, &'static str);

/// Reads values from one text.
pub(super) struct Pairs<'t> {
    text: &'t str,
    bytes: &'t [u8],
    found: Vec<Found>,
    /// The last value without quotes that was read: one that begins inside of it ends where it does.
    last: Range<usize>,
}

impl<'t> Pairs<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, bytes: text.as_bytes(), found: Vec::new(), last: 0..0 }
    }

    /// All that stand at these hints.
    pub(super) fn find(mut self, names: &[Range<usize>]) -> Vec<Found> {
        let mut read = 0;
        let mut taken = 0;
        for hint in names {
            let name = self.name(hint);
            if name.end <= read || hint.start < taken {
                continue;
            }
            read = name.end;
            if self.is_resource_of_arn(&name) {
                continue;
            }
            if let Some(sense) = self.text.get(name.clone()).and_then(sense) {
                self.value(&name, sense);
                taken = self.found.last().map_or(taken, |(range, _)| range.end.max(taken));
            }
        }
        self.found
    }

    fn at(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(b'\n')
    }

    fn before(&self, at: usize) -> u8 {
        at.checked_sub(1).map_or(b'\n', |at| self.at(at))
    }

    /// The name around a hint.
    fn name(&self, hint: &Range<usize>) -> Range<usize> {
        let belongs = |b: &&u8| b.is_ascii_alphanumeric() || matches!(**b, b'_' | b'-' | b'.');
        let before = self.bytes.get(..hint.start).unwrap_or_default();
        let start = hint.start - before.iter().rev().take(LONGEST_NAME).take_while(belongs).count();
        let hint_end = if matches!(self.before(hint.end), b'=' | b':') { hint.end - 1 } else { hint.end };
        let after = self.bytes.get(hint_end..).unwrap_or_default();
        let end = hint_end + after.iter().take(LONGEST_NAME).take_while(belongs).count();
        // A full stop ends a sentence, a dash begins a flag.
        let name = self.text.get(start..end).unwrap_or_default();
        let start = start + (name.len() - name.trim_start_matches(['-', '.']).len());
        start..end - (name.len() - name.trim_end_matches(['.', '-']).len()).min(end - start)
    }

    /// Whether this names what an ARN is of: `arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME` says where a secret
    /// is, not what.
    fn is_resource_of_arn(&self, name: &Range<usize>) -> bool {
        let part = |b: &&u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(**b, b'-' | b':');
        let before = self.bytes.get(..name.start).unwrap_or_default();
        let length = before.iter().rev().take(LONGEST_NAME).take_while(part).count();
        let arn = self.text.get(name.start - length..name.start).unwrap_or_default();
        let mut fields = arn.split(':');
        let begins = fields.next() == Some("arn") && fields.next().is_some_and(|p| p.starts_with("aws"));
        let account = fields.nth(2).is_some_and(|account| account.bytes().all(|b| b.is_ascii_digit()));
        begins && account && fields.next() == Some("") && fields.next().is_none() && self.at(name.end) == b':'
    }

    fn skip(&self, from: usize, most: usize, which: impl Fn(u8) -> bool) -> usize {
        let rest = self.bytes.get(from..).unwrap_or_default();
        from + rest.iter().take(most).take_while(|b| which(**b)).count()
    }

    /// Where nothing but blanks and a list's dash stands before `at` on its line.
    fn begins_line(&self, at: usize) -> bool {
        let before = self.bytes.get(at.saturating_sub(120)..at).unwrap_or_default();
        let line = before.rsplit(|b| *b == b'\n').next().unwrap_or_default();
        let line = line.trim_ascii();
        matches!(
            line,
            b"" | b"-" | b"export" | b"set" | b"ENV" | b"ARG" | b"\"" | b"'" | b"+" | b"- \"" | b"- '"
        )
    }

    /// Whether words follow at `at`, before the line ends.
    fn more(&self, at: usize) -> bool {
        let next = self.skip(at, MOST_BLANKS, |b| matches!(b, b' ' | b'\t'));
        next > at && self.at(next).is_ascii_alphanumeric() && !self.names_follow(next)
    }

    /// Whether `name=` or `name:` begins at `at`.
    fn names_follow(&self, at: usize) -> bool {
        let quotes = self.skip(at, 1, |b| matches!(b, b'"' | b'\''));
        let end =
            self.skip(quotes, 64, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b' '));
        end > quotes && matches!(self.at(self.skip(end, 1, |b| matches!(b, b'"' | b'\''))), b'=' | b':')
    }

    /// Reads the value of `name`, and keeps it where it is a secret.
    fn value(&mut self, name: &Range<usize>, sense: Sense) {
        if self.opens_element(name.start) && self.element(name, sense) {
            return;
        }
        if let Some(start) = self.apart(name) {
            let (range, _) = self.read(start);
            return self.keep(range, sense, Form::Environment);
        }
        let closed = self.skip(name.end, 2, |b| matches!(b, b'"' | b'\'' | b'`' | b']'));
        let blanks = |b| matches!(b, b' ' | b'\t');
        let mark = self.skip(closed, MOST_BLANKS, blanks);
        let (after, separator) = match (self.at(mark), self.at(mark + 1)) {
            (b'=', b'=' | b'~') | (b':', b':') => return,
            (b':', b'/') if self.at(mark + 2) == b'/' => return,
            (b':', b'=') | (b'=', b'>') => (mark + 2, b'='),
            (b'=', _) => (mark + 1, b'='),
            (b':', _) => (mark + 1, b':'),
            (b',', b' ' | b'"' | b'\'') if closed > name.end => (mark + 1, b','),
            _ if mark > name.end && closed == name.end => return self.spoken(name, mark, sense),
            _ => return,
        };
        let start = self.skip(after, MOST_BLANKS, blanks);
        // `<set to the key 'password' in secret 'db'>`, `<your token>`
        if self.at(start) == b'<' && self.at(self.skip(start, 200, |b| b != b'>' && b != b'\n')) == b'>' {
            return;
        }
        let capitals =
            self.text.get(name.clone()).is_some_and(|name| !name.bytes().any(|b| b.is_ascii_lowercase()));
        if self.block(name, start, sense) {
            return;
        }
        let bracket = matches!(self.at(start), b'[' | b'(')
            && (sense == Sense::Authorization
                || sense == Sense::Cookie
                || matches!(self.at(start + 1), b'"' | b'\''));
        let start = start + usize::from(bracket);
        let start = start + usize::from(self.at(start) == b'b' && matches!(self.at(start + 1), b'"' | b'\''));
        match sense {
            Sense::Authorization => return self.authorization(start),
            Sense::Cookie => return self.cookies(start),
            Sense::Password | Sense::Token(_) => {}
        }
        let (range, quoted) = self.read(start);
        let tight = after == closed + 1 && start == after;
        let form = match separator {
            b',' if !quoted => return,
            b',' => Form::Prose,
            b'=' if capitals && tight => Form::Environment,
            b'=' if tight => Form::Config,
            b':' if capitals && !self.more(range.end) && self.begins_line(name.start) => Form::Environment,
            _ if quoted => Form::Config,
            _ if self.begins_line(name.start) && !self.more(range.end) => Form::Config,
            _ => Form::Loose,
        };
        self.keep(range, sense, form);
    }

    /// Where the value begins of a name that stands as one itself: `name: DB_PASSWORD, value: x`.
    fn apart(&self, name: &Range<usize>) -> Option<usize> {
        let before = self.text.get(..name.start)?.trim_end_matches(['"', '\'', ' ']);
        let before = before.strip_suffix([':', '='])?.trim_end_matches(['"', '\'', ' ']);
        let is_key = |key: &str| {
            before
                .len()
                .checked_sub(key.len())
                .and_then(|at| before.get(at..))
                .is_some_and(|end| end.eq_ignore_ascii_case(key))
        };
        if !is_key("name") && !is_key("key") {
            return None;
        }
        let value = self.skip(name.end, 40, |b| b <= b' ' || matches!(b, b'"' | b'\'' | b',' | b';'));
        let word = self.text.get(value..value + 5)?;
        let mark = self.skip(value + 5, 20, |b| matches!(b, b'"' | b'\'' | b' '));
        (word.eq_ignore_ascii_case("value") && matches!(self.at(mark), b':' | b'='))
            .then(|| self.skip(mark + 1, MOST_BLANKS, |b| b == b' '))
    }

    fn keep(&mut self, range: Range<usize>, sense: Sense, form: Form) {
        let Some(value) = self.text.get(range.clone()).filter(|value| !value.trim().is_empty()) else {
            return;
        };
        let more = self.more(range.end);
        // `describe` says of a Secret's values how long they are.
        let rest = self.text.get(range.end..).unwrap_or_default();
        if rest.starts_with(" bytes") && value.bytes().all(|b| b.is_ascii_digit()) {
            return;
        }
        if is_secret(sense, form, value, more) {
            self.found.push((range, sense.kind()));
        }
    }

    /// The value that begins at `start`, and whether it stands in quotes.
    fn read(&mut self, start: usize) -> (Range<usize>, bool) {
        let quote = self.at(start);
        if matches!(quote, b'"' | b'\'' | b'`') {
            let mut at = start + 1;
            while at < start + LONGEST_QUOTED {
                match self.at(at) {
                    b'\\' => at += 1,
                    b'\n' => break,
                    byte if byte == quote => return (start + 1..at, true),
                    _ => {}
                }
                at += 1;
            }
            return (self.unquoted(start + 1), false);
        }
        (self.unquoted(start), false)
    }

    /// The value without quotes that begins at `start`. What ends a value elsewhere is part of it where letters follow.
    fn unquoted(&mut self, start: usize) -> Range<usize> {
        if self.last.contains(&start) {
            return start..self.last.end;
        }
        let mut at = start;
        loop {
            let (byte, next) = (self.at(at), self.at(at + 1));
            let ends = match byte {
                0..=b' ' | 0x7f => true,
                b'<' => at > start,
                b'\\' => matches!(next, b'"' | b'\'' | b'n' | b'r' | b't'),
                b'"' | b'\'' | b'`' | b'}' | b']' | b')' | b'>' => is_over(next),
                b',' | b';' | b'&' | b'|' => is_over(next) || self.names_follow(at + 1),
                _ => false,
            };
            if ends || at >= self.bytes.len() {
                break;
            }
            at += 1;
        }
        // The blank of another alphabet ends a value as well, and a character is never cut.
        let text = self.text.get(start..at).unwrap_or_default();
        let text = text.split(char::is_whitespace).next().unwrap_or_default();
        self.last = start..start + text.trim_end_matches(['.', ',', ';']).len();
        self.last.clone()
    }

    /// Whether the name at `at` is an element's: `<password`, `<ns:password`.
    fn opens_element(&self, at: usize) -> bool {
        let before = self.bytes.get(at.saturating_sub(LONGEST_NAME)..at).unwrap_or_default();
        let before = match before.strip_suffix(b":") {
            Some(space) => space
                .trim_ascii_end()
                .rsplitn(2, |b| !b.is_ascii_alphanumeric())
                .last()
                .map(|rest| (rest, space)),
            None => return before.ends_with(b"<"),
        };
        before.is_some_and(|(rest, space)| space.get(rest.len()) == Some(&b'<'))
    }

    /// `<password>x</password>`
    fn element(&mut self, name: &Range<usize>, sense: Sense) -> bool {
        let open = self.skip(name.end, 200, |b| !matches!(b, b'>' | b'<' | b'\n'));
        if self.at(open) != b'>' || self.before(open) == b'/' {
            return false;
        }
        let end = self.skip(open + 1, LONGEST_QUOTED, |b| b != b'<');
        if self.at(end) != b'<' {
            return false;
        }
        self.keep(open + 1..end, sense, Form::Config);
        true
    }

    /// The lines of `name: |`
    fn block(&mut self, name: &Range<usize>, start: usize, sense: Sense) -> bool {
        let end = self.skip(start, 4, |b| matches!(b, b'|' | b'>' | b'-' | b'+' | b'0'..=b'9'));
        if !matches!(self.at(start), b'|' | b'>') || self.at(end) != b'\n' {
            return false;
        }
        let line = self.text.get(..name.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let indent = self.skip(line, 400, |b| b == b' ') - line;
        let (mut at, mut body) = (end + 1, None::<Range<usize>>);
        while at < self.bytes.len() {
            let text = self.skip(at, 4096, |b| matches!(b, b' ' | b'\t'));
            let end = self.skip(text, usize::MAX, |b| b != b'\n');
            if text - at <= indent && text < end {
                break;
            }
            if text < end {
                body = Some(body.map_or(text, |body| body.start)..end);
            }
            at = end + 1;
        }
        if let Some(body) = body {
            self.keep(body, sense, Form::Config);
        }
        true
    }

    /// A header's value: a scheme and its credentials, or these alone.
    fn authorization(&mut self, start: usize) {
        let start = self.skip(start, 2, |b| matches!(b, b'"' | b'\'' | b'['));
        let first = self.unquoted(start);
        let word = self.text.get(first.clone()).unwrap_or_default();
        let scheme = self.at(first.end) == b' '
            && word.len() <= 24
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !is_opaque(word);
        if word.eq_ignore_ascii_case("digest") {
            // All but the answer is open.
            let rest = self.text.get(first.end..).unwrap_or_default();
            let line = rest.get(..rest.floor_char_boundary(2048)).and_then(|rest| rest.lines().next());
            if let Some(at) = line.and_then(|line| line.find("response=")) {
                let (range, _) = self.read(first.end + at + "response=".len());
                self.keep(range, Sense::Authorization, Form::Config);
            }
            return;
        }
        let range = if scheme {
            let second = self.skip(first.end, MOST_BLANKS, |b| matches!(b, b' ' | b'\t'));
            self.unquoted(second)
        } else {
            first
        };
        self.keep(range, Sense::Authorization, Form::Config);
    }

    /// `name=value; name=value` to the end of the line or of the quotes.
    fn cookies(&mut self, start: usize) {
        let mut at = self.skip(start, 2, |b| matches!(b, b'"' | b'\'' | b'['));
        loop {
            let name =
                self.skip(at, 200, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'%'));
            if name == at || self.at(name) != b'=' {
                break;
            }
            let end = self.skip(name + 1, 8192, |b| {
                b > b' ' && !matches!(b, b';' | b'"' | b'\'' | b']' | b',' | b'\\')
            });
            self.keep(name + 1..end, Sense::Cookie, Form::Config);
            let next = self.skip(end, MOST_BLANKS, |b| matches!(b, b';' | b' '));
            if next == end {
                break;
            }
            at = next;
        }
    }

    /// A flag's value, or a word that follows the name as people write it.
    fn spoken(&mut self, name: &Range<usize>, start: usize, sense: Sense) {
        let flag = self.before(name.start) == b'-';
        let mut start = start;
        if !flag {
            for filler in ["is ", "was ", "to "] {
                start += self
                    .text
                    .get(start..)
                    .filter(|rest| rest.starts_with(filler))
                    .map_or(0, |_| filler.len());
            }
        }
        if matches!(self.at(start), b'-' | b'|' | b'>' | b'=' | b':' | b'(') {
            return;
        }
        let (range, _) = self.read(start);
        let form = if flag { Form::Flag } else { Form::Prose };
        self.keep(range, sense, form);
    }
}

/// Whether a value is over before `next`.
const fn is_over(next: u8) -> bool {
    next <= b' '
        || matches!(
            next,
            b'"' | b'\'' | b'`' | b'}' | b']' | b')' | b'>' | b'<' | b',' | b';' | b'\\' | b'.' | b':'
        )
}
