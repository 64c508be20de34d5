//! Whether a quote stands in the evidence that it cites.

mod dressing;
mod edges;
mod layers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use dressing::Quote;
use edges::{cuts, has_negation, is_negated};
use layers::{Layer, compact};

pub(crate) use layers::Searchable;

use crate::evidence::{EvidenceRecord, normal_id};

/// A quote shorter than this, whitespace folded, would stand in most outputs by chance.
const SHORTEST: usize = 8;
/// The longest quote that is looked up, in bytes.
pub(crate) const LONGEST_QUOTE: usize = 4096;
/// The most bytes from the first to the last piece of a quote that leaves something out.
const LONGEST_SPAN: usize = 4096;
/// The most quotes of a report that are looked up.
pub(crate) const MOST_QUOTES: usize = 200;
/// The most bytes that are compared for one report. A quote costs the text that it is looked for in, and itself once more
/// for each place where it stands and cuts something in two.
pub(crate) const MOST_COMPARED: usize = 64 << 20;

/// The bytes that may still be compared.
struct Left(usize);

/// Nothing is left.
#[derive(Debug)]
struct UsedUp;

impl Left {
    fn take(&mut self, bytes: usize) -> Result<(), UsedUp> {
        self.0 = self.0.checked_sub(bytes).ok_or(UsedUp)?;
        Ok(())
    }
}

/// How a quote fares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// It stands there and says something.
    Stands,
    /// It stands there, but is too short to say anything.
    TooShort,
    /// It stands there, but in the alert as well: it shows nothing that was not claimed before.
    RepeatsTheAlert,
    /// It does not stand there.
    Invented,
    /// Its words stand there, but it cuts a number, a name or a negation in two, or joins what does not belong together.
    Cut,
    /// There is no such evidence.
    NoSuchEvidence,
    /// What it cites is not a tool's words: the call failed or never left.
    NotAnOutput,
    /// It was not looked up: it is too long.
    TooLong,
    /// It was not looked up: the report has too many, or those before took too long.
    TooMany,
}

impl Mark {
    /// Whether it stands where it is said to.
    pub(crate) fn is_found(self) -> bool {
        matches!(self, Self::Stands | Self::TooShort | Self::RepeatsTheAlert)
    }

    /// What to tell the model.
    pub(crate) fn problem(self) -> Option<&'static str> {
        match self {
            Self::Stands => None,
            Self::TooShort => Some("is shorter than 8 characters and supports nothing"),
            Self::RepeatsTheAlert => Some("stands in the alert itself and so supports nothing"),
            Self::Invented => Some("does not stand there"),
            Self::Cut => Some(
                "stands there only as a part of a longer number, name or word, behind a negation, or in pieces of several \
                 lines or objects: quote one place, whole, with what stands before and after it",
            ),
            Self::NoSuchEvidence => Some("cites evidence that does not exist"),
            Self::NotAnOutput => Some("cites a call that gave no output"),
            Self::TooLong => Some("is longer than 4096 bytes and was not looked up: quote what matters"),
            Self::TooMany => Some("was not looked up, as there are too many before it: quote what matters"),
        }
    }
}

/// How a quote fares, and what it is in the original's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Looked {
    pub(crate) mark: Mark,
    /// What stands there, blanks folded; `None`: nothing does.
    pub(crate) original: Option<String>,
}

impl From<Mark> for Looked {
    fn from(mark: Mark) -> Self {
        Self { mark, original: None }
    }
}

/// Checks the quotes of a report, each with the id of what it cites. Each evidence is folded once, and let go before the
/// next one is.
pub(crate) fn check<'e>(
    quotes: &[(&str, &str)],
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    alert: &Searchable,
) -> Vec<Looked> {
    counted(quotes, find, alert).0
}

/// The same, with how many bytes were compared.
pub(crate) fn counted<'e>(
    quotes: &[(&str, &str)],
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    alert: &Searchable,
) -> (Vec<Looked>, usize) {
    let mut all = vec![Looked::from(Mark::TooMany); quotes.len()];
    let mut by_evidence: BTreeMap<String, Vec<(&mut Looked, &str)>> = BTreeMap::new();
    for (looked, (id, quote)) in all.iter_mut().zip(quotes).take(MOST_QUOTES) {
        if quote.len() > LONGEST_QUOTE {
            *looked = Mark::TooLong.into();
        } else {
            by_evidence.entry(normal_id(id)).or_default().push((looked, quote));
        }
    }
    let mut left = Left(MOST_COMPARED);
    for (id, quotes) in by_evidence {
        let record = find(&id);
        let pieces = record.filter(|record| record.status.is_the_tools()).map(|record| {
            let (head, tail) = record.pieces();
            [head, tail].map(Searchable::new)
        });
        for (looked, quote) in quotes {
            *looked = match (&record, &pieces) {
                (None, _) => Mark::NoSuchEvidence.into(),
                (Some(_), None) => Mark::NotAnOutput.into(),
                (Some(_), Some(pieces)) => {
                    of_one(&Quote::new(quote), pieces, alert, &mut left).unwrap_or(Mark::TooMany.into())
                }
            };
        }
    }
    (all, MOST_COMPARED - left.0)
}

fn of_one(
    quote: &Quote,
    [head, tail]: &[Searchable; 2],
    alert: &Searchable,
    left: &mut Left,
) -> Result<Looked, UsedUp> {
    let place = match head.find(quote, left)? {
        Place::At(original) => Place::At(original),
        elsewhere => elsewhere.or(tail.find(quote, left)?),
    };
    let original = match place {
        Place::Nowhere => return Ok(Mark::Invented.into()),
        Place::Cut => return Ok(Mark::Cut.into()),
        Place::At(original) => original,
    };
    let mark = if original.chars().count() < SHORTEST {
        Mark::TooShort
    } else if matches!(alert.find(quote, left)?, Place::At(_)) {
        Mark::RepeatsTheAlert
    } else {
        Mark::Stands
    };
    Ok(Looked { mark, original: Some(original) })
}

/// Where a quote stands.
enum Place<T> {
    /// Its words stand nowhere.
    Nowhere,
    /// Its words stand only where they are parts of others, or apart.
    Cut,
    At(T),
}

impl<T> Place<T> {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nowhere, other) | (Self::Cut, other @ Self::At(_)) => other,
            (this, _) => this,
        }
    }

    fn map<U>(self, f: impl FnOnce(T) -> U) -> Place<U> {
        match self {
            Self::Nowhere => Place::Nowhere,
            Self::Cut => Place::Cut,
            Self::At(at) => Place::At(f(at)),
        }
    }
}

impl Searchable {
    /// Where the quote stands, with what stands there. An empty one stands nowhere.
    fn find(&self, quote: &Quote, left: &mut Left) -> Result<Place<String>, UsedUp> {
        let mut best = Place::Nowhere;
        for layer in &self.layers {
            for (written, bare) in quote.written.iter().zip(&quote.bare) {
                best = best.or(layer.find(written, bare, left)?);
                if matches!(best, Place::At(_)) {
                    return Ok(best);
                }
            }
        }
        Ok(best)
    }
}

impl Layer {
    fn find(&self, written: &str, bare: &[String], left: &mut Left) -> Result<Place<String>, UsedUp> {
        let all = (0, self.text.len());
        let mut place = match bare {
            [bare] => self.find_from(bare, all, left)?,
            pieces => self.find_pieces(pieces, left)?,
        };
        // The marks around it, and the sign that something is left out, may be the text's own.
        let is_dressed = !matches!(bare, [bare] if bare == written || matches!(place, Place::Nowhere));
        if is_dressed {
            place = self.find_from(written, all, left)?.or(place);
        }
        let mut place = place.map(|at| self.between(at));
        if let ([bare], Place::Nowhere, Some(layer)) = (bare, &place, &self.compact) {
            let tokens = compact(bare);
            place = layer.find_from(&tokens, (0, layer.text.len()), left)?.map(|at| layer.between(at));
        }
        Ok(place)
    }

    fn between(&self, (start, end): (usize, usize)) -> String {
        self.text.get(start..end).unwrap_or_default().to_owned()
    }

    /// Where a text stands whole, from one byte of this layer to another.
    fn find_from(
        &self,
        quote: &str,
        (mut from, to): (usize, usize),
        left: &mut Left,
    ) -> Result<Place<(usize, usize)>, UsedUp> {
        let mut place = Place::Nowhere;
        if quote.is_empty() {
            return Ok(place);
        }
        loop {
            let rest = self.text.get(from..to).unwrap_or_default();
            let found = rest.find(quote);
            left.take(quote.len() + found.unwrap_or(rest.len()))?;
            let Some(start) = found.map(|at| from + at) else { return Ok(place) };
            let end = start + quote.len();
            if !cuts(&self.text, start, end) && !is_negated(self, start) {
                return Ok(Place::At((start, end)));
            }
            place = Place::Cut;
            // The next place may overlap this one.
            from = self.after(start);
        }
    }

    fn after(&self, at: usize) -> usize {
        at + self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
    }

    /// Where pieces stand in order, in one line or in one object of JSON, and nothing that is left out between them turns
    /// them round.
    fn find_pieces(&self, pieces: &[String], left: &mut Left) -> Result<Place<(usize, usize)>, UsedUp> {
        let Some((first, rest)) = pieces.split_first() else { return Ok(Place::Nowhere) };
        let mut best = Place::Nowhere;
        let mut from = 0;
        loop {
            let (start, mut end) = match self.find_from(first, (from, self.text.len()), left)? {
                Place::At(at) => at,
                Place::Cut | Place::Nowhere => return Ok(best),
            };
            let most = self.text.floor_char_boundary((start + LONGEST_SPAN).min(self.text.len()));
            let (mut all, mut stand) = (true, true);
            for piece in rest {
                let Place::At((next, after)) = self.find_from(piece, (end, most), left)? else {
                    all = false;
                    break;
                };
                stand &= !has_negation(self.text.get(end..next).unwrap_or_default());
                end = after;
            }
            if all && stand && self.is_one(start, end, left)? {
                return Ok(Place::At((start, end)));
            }
            if all {
                best = Place::Cut;
            }
            from = self.after(start);
        }
    }

    /// Whether these bytes are in one line, or in one object of JSON and in none of its strings of several lines.
    fn is_one(&self, start: usize, end: usize, left: &mut Left) -> Result<bool, UsedUp> {
        let text = self.text.get(start..end).unwrap_or_default();
        left.take(text.len())?;
        let mut depth = 0_usize;
        for byte in text.bytes() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 0 => return Ok(false),
                b'}' => depth -= 1,
                _ => {}
            }
        }
        if depth > 0 || text.contains("\\n") {
            return Ok(false);
        }
        if !self.is_json() {
            return Ok(!self.has_end(start, end));
        }
        left.take(start)?;
        Ok(if self.is_in_object(start) {
            !self.is_resolved || !self.has_end(start, end)
        } else {
            !text.contains("\",")
        })
    }

    /// Whether what is open last at this byte is an object, and no list.
    fn is_in_object(&self, at: usize) -> bool {
        let mut closed = 0_usize;
        for byte in self.text.get(..at).unwrap_or_default().bytes().rev() {
            match byte {
                b'}' | b']' => closed += 1,
                b'{' | b'[' if closed == 0 => return byte == b'{',
                b'{' | b'[' => closed -= 1,
                _ => {}
            }
        }
        false
    }
}
