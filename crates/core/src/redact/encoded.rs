//! Base64 and hexadecimal: how the beginning of a token looks in them, and what a run of either holds.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};

use crate::digest::hex;

/// How a literal stands in a text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    /// Base64, so many bytes after the beginning of a group of three.
    Base64(usize),
    /// Hexadecimal.
    Hex,
}

/// The shortest base64 that is worth a search of its own.
const SHORTEST: usize = 4;
/// The longest run that is decoded.
const LONGEST: usize = 256 * 1024;

/// Trailing bits may be anything: a run is cut where it ends.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What `text` looks like in base64 in the middle of other bytes, at each place of a group; the characters that its
/// neighbours have a part in are left out.
fn base64_cores(text: &[u8], engine: &GeneralPurpose) -> [String; 3] {
    [0, 1, 2].map(|before| {
        let mut padded = vec![0; before];
        padded.extend_from_slice(text);
        let encoded = engine.encode(&padded);
        let (first, last) = ((8 * before).div_ceil(6), 8 * padded.len() / 6);
        encoded.get(first..last).unwrap_or_default().to_owned()
    })
}

/// How a token that begins so begins in base64 and hexadecimal.
pub(super) fn literals(beginning: &str) -> Vec<(String, Coding)> {
    let cores = base64_cores(beginning.as_bytes(), &BASE64_STANDARD_NO_PAD);
    let mut literals: Vec<_> = cores
        .into_iter()
        .enumerate()
        .filter(|(_, core)| core.len() >= SHORTEST)
        .map(|(before, core)| (core, Coding::Base64(before)))
        .collect();
    literals.push((hex(beginning.as_bytes()), Coding::Hex));
    literals
}

/// All forms in which a configured secret is looked for.
pub(super) fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let mut forms = vec![secret.to_owned(), hex(bytes), hex(bytes).to_uppercase()];
    let one_line: String = secret.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    forms.push(one_line.trim().to_owned());
    for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
        forms.extend(base64_cores(bytes, engine));
    }
    forms.sort_unstable();
    forms.dedup();
    forms.retain(|form| form.len() >= 6);
    forms
}

const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// What `text` says as standard base64, where that is text.
pub(super) fn text(text: &str) -> Option<String> {
    String::from_utf8(LENIENT.decode(text).ok()?).ok()
}

/// The runs of base64 and hexadecimal around these places, each from where a group begins, and what they say. A run is
/// read at most once for each place of a group that it can begin at.
pub(super) fn runs(text: &[u8], places: &[(usize, Coding)]) -> Vec<(Range<usize>, Vec<u8>)> {
    let mut last: [Range<usize>; 6] = std::array::from_fn(|_| 0..0);
    let mut found = Vec::new();
    for (at, coding) in places {
        let phase = match coding {
            Coding::Base64(place) => (at + 4 - (8 * place).div_ceil(6)) % 4,
            Coding::Hex => 4 + at % 2,
        };
        let Some(last) = last.get_mut(phase) else { continue };
        if last.contains(at) {
            continue;
        }
        *last = *at..at + 1;
        if let Some((range, said)) = run(text, *at, *coding) {
            *last = range.start.min(*at)..range.end.max(at + 1);
            found.push((range, said));
        }
    }
    found
}

/// The run around `at`; `None`: it says nothing.
fn run(text: &[u8], at: usize, coding: Coding) -> Option<(Range<usize>, Vec<u8>)> {
    let belongs = |byte: &&u8| match coding {
        Coding::Base64(_) => is_base64(**byte),
        Coding::Hex => byte.is_ascii_hexdigit(),
    };
    let before = text.get(..at)?.iter().rev().take(LONGEST).take_while(belongs).count();
    let after = text.get(at..)?.iter().take(LONGEST).take_while(belongs).count();
    let (start, end) = (at - before, at + after);
    match coding {
        Coding::Base64(place) => {
            let first = (8 * place).div_ceil(6);
            let group = if before >= first { start + (before - first) % 4 } else { return None };
            let decoded = text.get(group..end)?;
            // Of an incomplete last group one character says nothing.
            let whole = decoded.len() - usize::from(decoded.len() % 4 == 1);
            let decoded: Vec<u8> = decoded
                .get(..whole)?
                .iter()
                .map(|byte| match byte {
                    b'-' => b'+',
                    b'_' => b'/',
                    byte => *byte,
                })
                .collect();
            let padding = text.get(end..)?.iter().take(2).take_while(|byte| **byte == b'=').count();
            LENIENT.decode(decoded).ok().map(|said| (group..end + padding, said))
        }
        Coding::Hex => {
            let start = start + before % 2;
            let digits = text.get(start..end)?;
            let value = |digit: &u8| char::from(*digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
            let said = digits.as_chunks::<2>().0.iter().filter_map(|pair| {
                let [high, low] = pair.each_ref().map(value);
                Some(high? << 4 | low?)
            });
            let said: Vec<u8> = said.collect();
            Some((start..start + 2 * said.len(), said))
        }
    }
}
