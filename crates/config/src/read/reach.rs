//! Cards that no alert can reach.

use sentinel_core::card::{Card, Comparison, Matcher, Resource};

use super::CardPlaces;
use crate::reader::Reader;

/// Warns about each card all of whose alerts an earlier card takes away.
///
/// A card takes alerts away when it does not `continue`. Its resource covers another's when each of its matchers
/// follows from one of the other's on the same label: equal to a value that satisfies it, or the same comparison.
/// This never warns wrongly, and may miss cards that only several earlier ones cover together.
pub(super) fn warn_unreachable(r: &mut Reader<'_>, cards: &[Card], places: &[CardPlaces]) {
    for (i, (card, place)) in cards.iter().zip(places).enumerate() {
        let before = cards.iter().take(i).filter(|c| !c.continues);
        let Some(taker) = before.into_iter().find(|c| covers(&c.resource, &card.resource)) else { continue };
        let message = format!("no alert reaches this card: `{}` above takes them all", taker.name);
        let help = format!("move it above `{0}`, narrow `{0}`, or give `{0}` `continue: true`", taker.name);
        r.diagnostics.push(place.name.warning(message, help));
    }
}

/// Whether every alert of `narrow` is surely one of `wide`.
fn covers(wide: &Resource, narrow: &Resource) -> bool {
    wide.matchers.iter().all(|want| narrow.matchers.iter().any(|have| implies(have, want)))
}

fn implies(have: &Matcher, want: &Matcher) -> bool {
    if have.label != want.label {
        return false;
    }
    match (&have.comparison, &want.comparison) {
        (Comparison::Equal(value), _) => want.matches(&[(want.label.clone(), value.clone())].into()),
        (Comparison::NotEqual(a), Comparison::NotEqual(b)) => a == b,
        (Comparison::Matches(a), Comparison::Matches(b))
        | (Comparison::NotMatches(a), Comparison::NotMatches(b)) => a.as_str() == b.as_str(),
        _ => false,
    }
}
