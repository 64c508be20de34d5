//! A text as quotes are looked up in it.

/// The most levels of JSON's escapes that are resolved: a log line that is JSON in JSON in an answer has three.
const MOST_LEVELS: usize = 6;

/// A text as quotes are looked up in it: as it is, and with each level of JSON's escapes resolved, because a model that
/// read `\"x\"` inside a JSON string may quote `"x"`.
#[derive(Clone, Debug)]
pub(crate) struct Searchable {
    pub(super) layers: Vec<Layer>,
}

impl Searchable {
    pub(crate) fn new(text: &str) -> Self {
        let mut layers = vec![Layer::new(text, false)];
        let mut level = text.to_owned();
        while layers.len() <= MOST_LEVELS && level.contains('\\') {
            let resolved = unescape(&level);
            if resolved == level {
                break;
            }
            layers.push(Layer::new(&resolved, true));
            level = resolved;
        }
        Self { layers }
    }
}

/// One reading of a text: runs of blanks are one, typographic signs are the plain ones, colours of terminals are off.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) text: String,
    /// The blanks of `text` that end a line.
    ends: Vec<usize>,
    /// Those that stand for a tab, or for more than one blank: between columns.
    gaps: Vec<usize>,
    /// The same without blanks beside what JSON's structure is written with; `None`: it is no JSON.
    pub(super) compact: Option<Box<Self>>,
    /// Whether escapes are resolved in it: ends of lines may be those of its strings.
    pub(super) is_resolved: bool,
}

impl Layer {
    fn new(text: &str, is_resolved: bool) -> Self {
        let mut layer = Self::folded(text, is_resolved);
        if layer.text.contains("\":") || layer.text.contains("\" :") {
            let text = compact(&layer.text);
            layer.compact = Some(Box::new(Self { text, is_resolved, ..Self::default() }));
        }
        layer
    }

    /// The same, without the compact one.
    fn folded(text: &str, is_resolved: bool) -> Self {
        let mut layer = Self { text: String::with_capacity(text.len()), is_resolved, ..Self::default() };
        let mut blank = Blank::None;
        plainly(text, |c| {
            if c.is_whitespace() {
                blank = blank.and(c);
                return;
            }
            let at = layer.text.len();
            if at > 0 && blank != Blank::None {
                layer.text.push(' ');
                match blank {
                    Blank::End => layer.ends.push(at),
                    Blank::Gap => layer.gaps.push(at),
                    Blank::One | Blank::None => {}
                }
            }
            blank = Blank::None;
            layer.text.push(c);
        });
        layer
    }

    /// Whether a line ends between these bytes.
    pub(super) fn has_end(&self, from: usize, to: usize) -> bool {
        let first = self.ends.partition_point(|end| *end < from);
        self.ends.get(first).is_some_and(|end| *end < to)
    }

    /// Whether a line or a column ends at this byte.
    pub(super) fn is_apart(&self, at: usize) -> bool {
        self.ends.binary_search(&at).is_ok() || self.gaps.binary_search(&at).is_ok()
    }

    /// Whether the text is JSON, or begins as JSON does.
    pub(super) fn is_json(&self) -> bool {
        self.compact.is_some() && self.text.starts_with(['{', '['])
    }
}

/// What stood between two words.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blank {
    None,
    One,
    Gap,
    End,
}

impl Blank {
    fn and(self, c: char) -> Self {
        match (self, c) {
            (Self::End, _) | (_, '\n') => Self::End,
            (Self::None, ' ') => Self::One,
            _ => Self::Gap,
        }
    }
}

/// A text as a [`Layer`] has it.
pub(super) fn fold(text: &str) -> String {
    Layer::folded(text, false).text
}

/// Hands over the characters of a text: of typographic signs the plain ones, and neither what is not seen nor what
/// colours a terminal.
fn plainly(text: &str, mut out: impl FnMut(char)) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{2018}'..='\u{201b}' | '\u{2032}' => out('\''),
            '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{ab}' | '\u{bb}' => out('"'),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => out('-'),
            '\u{2026}' => "...".chars().for_each(&mut out),
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{ad}' => {}
            '\u{1b}' => {
                // `ESC [ 31 ; 1 m`: parameters, and a letter that ends them (ECMA-48, 5.4).
                let rest = chars.as_str();
                if let Some(sequence) = rest.strip_prefix('[')
                    && let Some(end) = sequence.find(|c: char| ('@'..='~').contains(&c))
                    && end <= 16
                {
                    chars = sequence.get(end + 1..).unwrap_or_default().chars();
                }
            }
            c => out(c),
        }
    }
}

/// A folded text without the blanks beside brackets, quotation marks, colons and commas; but `1, 234` does not become `1,234`.
pub(super) fn compact(text: &str) -> String {
    let is_structure = |c: Option<char>| matches!(c, Some('{' | '}' | '[' | ']' | ':' | ',' | '"'));
    let mut out = String::with_capacity(text.len());
    let (mut earlier, mut before) = (None, None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let after = chars.peek().copied();
        let is_list = before == Some(',')
            && earlier.is_some_and(|c: char| c.is_ascii_digit())
            && after.is_some_and(|c| c.is_ascii_digit());
        if c == ' ' && !is_list && (is_structure(before) || is_structure(after)) {
            continue;
        }
        out.push(c);
        (earlier, before) = (before, Some(c));
    }
    out
}

/// Resolves one level of JSON's escapes where they are well-formed; what is not stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let (resolved, next) = escape(after);
        out.push(resolved);
        rest = next;
    }
    out.push_str(rest);
    out
}

fn escape(after: &str) -> (char, &str) {
    let mut chars = after.chars();
    let simple = match chars.next() {
        Some(c @ ('"' | '\\' | '/')) => Some(c),
        Some('n' | 'r' | 'f') => Some('\n'),
        Some('t' | 'b') => Some('\t'),
        Some('u') => return unicode(after).unwrap_or(('\\', after)),
        _ => None,
    };
    simple.map_or(('\\', after), |c| (c, chars.as_str()))
}

/// `u00e9`, or the two halves of a character beyond them, `ud83d\ude00`.
fn unicode(after: &str) -> Option<(char, &str)> {
    let code = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    let (first, rest) = (code(after.get(1..)?)?, after.get(5..)?);
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, rest));
    }
    let second = code(rest.strip_prefix("\\u")?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + low)?, rest.get(6..)?))
}
