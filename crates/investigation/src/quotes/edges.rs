//! Where a quote may begin and end: nowhere inside a number with its unit, a word or a name, and not behind a negation.

use super::layers::Layer;

/// Words that turn round what follows them.
const NEGATIONS: [&str; 10] =
    ["not", "no", "never", "without", "cannot", "neither", "nor", "non", "none", "zero"];
/// Words that may stand between a negation and what it turns round.
const BETWEEN: [&str; 12] =
    ["a", "an", "any", "be", "been", "being", "currently", "fully", "longer", "the", "yet", "enough"];
/// How many of those are looked through.
const MOST_BETWEEN: usize = 3;

/// Whether the bytes from `start` to `end` of a text cut something in two: `restarts: 12` stands neither in `restarts: 123`
/// nor in `restarts: 12.5`, `5 degrees` not in `-5 degrees`, `30m` not in `30ms`, `pod/cart` not in `pod/cart-cache-0`, and
/// `ready` not in `not ready`.
pub(super) fn cuts(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).unwrap_or_default();
    let quote = text.get(start..end).unwrap_or_default();
    let after = text.get(end..).unwrap_or_default();
    begins_inside(before, quote) || ends_inside(quote, after)
}

/// Whether the word before this byte, in its line and column, turns round what follows it.
pub(super) fn is_negated(layer: &Layer, start: usize) -> bool {
    let mut end = start;
    for _ in 0..=MOST_BETWEEN {
        let Some(blank) = end.checked_sub(1).filter(|at| layer.text.get(*at..end) == Some(" ")) else {
            return false;
        };
        if layer.is_apart(blank) {
            return false;
        }
        let before = layer.text.get(..blank).unwrap_or_default();
        let from = before.rfind(' ').map_or(0, |at| at + 1);
        let word = before.get(from..).unwrap_or_default();
        if is_negation(word) {
            return true;
        }
        if !BETWEEN.iter().any(|between| word.eq_ignore_ascii_case(between)) {
            return false;
        }
        end = from;
    }
    false
}

/// Whether a word of what a quote leaves out turns round what it leaves in.
pub(super) fn has_negation(text: &str) -> bool {
    text.split(' ').any(is_negation)
}

fn is_negation(word: &str) -> bool {
    // Of `"state":"not` the last one; `not,` ends something.
    let word = word.rsplit(|c: char| !(c.is_alphanumeric() || c == '\'')).next().unwrap_or_default();
    let ends = |end: &str| word.len() > end.len() && word.to_ascii_lowercase().ends_with(end);
    NEGATIONS.iter().any(|negation| word.eq_ignore_ascii_case(negation)) || ends("n't")
}

fn begins_inside(before: &str, quote: &str) -> bool {
    let mut chars = quote.chars();
    let (Some(first), second) = (chars.next(), chars.next()) else { return false };
    let mut back = before.chars().rev();
    let (last, previous, earlier) = (back.next(), back.next(), back.next());
    let Some(last) = last else { return false };
    if is_word(first) && is_word(last) && !(is_unspaced(first) || is_unspaced(last)) {
        return true;
    }
    // What joins the parts of a name: `-cache-0` behind `cart`, `/docker` behind `/var/lib`.
    if is_joint(first) && is_word(last) && second.is_some_and(is_word) {
        return true;
    }
    match last {
        '!' => is_word(first),
        // `cart-cache-0` or `1.2e-06`, and not an option as in `--cache`.
        '-' if is_word(first) && previous.is_some_and(is_word) => true,
        // A number's sign.
        '-' => {
            first.is_ascii_digit()
                && previous.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '/'))
        }
        _ if !first.is_ascii_digit() => false,
        '.' => previous.is_some_and(|c| c.is_ascii_digit()),
        // `1,234`, and not the next of a list.
        ',' => previous.is_some_and(|c| c.is_ascii_digit()) && digits(quote) == 3,
        // `1.2e+06`.
        '+' => matches!(previous, Some('e' | 'E')) && earlier.is_some_and(|c| c.is_ascii_digit() || c == '.'),
        _ => false,
    }
}

fn ends_inside(quote: &str, after: &str) -> bool {
    let mut chars = quote.chars().rev();
    let (Some(last), previous) = (chars.next(), chars.next()) else { return false };
    let mut rest = after.chars();
    let Some(next) = rest.next() else { return false };
    let then = rest.next();
    if is_word(last) && is_word(next) && !(is_unspaced(last) || is_unspaced(next)) {
        return true;
    }
    if is_word(last) && is_joint(next) && then.is_some_and(is_word) {
        return true;
    }
    if is_joint(last) && previous.is_some_and(is_word) && is_word(next) {
        return true;
    }
    let is_group = |text: &str| digits(text) == 3;
    match next {
        '%' => last.is_ascii_digit(),
        ',' => last.is_ascii_digit() && is_group(after.get(1..).unwrap_or_default()),
        _ if next.is_ascii_digit() && last == ',' => {
            previous.is_some_and(|c| c.is_ascii_digit()) && is_group(after)
        }
        // `1.2e+06`.
        '+' | '-' if matches!(last, 'e' | 'E') => {
            previous.is_some_and(|c| c.is_ascii_digit() || c == '.')
                && then.is_some_and(|c| c.is_ascii_digit())
        }
        _ if next.is_ascii_digit() && matches!(last, '+' | '-') => matches!(previous, Some('e' | 'E')),
        _ => false,
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// What words, names and numbers are made of.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What stands between the parts of a name: `cart-cache-0`, `cart.prod.svc`, `/var/lib/docker`.
fn is_joint(c: char) -> bool {
    matches!(c, '-' | '.' | '/')
}

/// Whether the script puts no blanks between words: Thai, Chinese, Japanese, Korean and their like.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{2e80}'..='\u{d7ff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}
