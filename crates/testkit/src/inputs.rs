//! Inputs for parsers: near something that is right, so that a search gets past the first check.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What is put in: what parsers stumble over, in JSON above all.
const PIECES: &[&str] = &[
    "null",
    "true",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.5",
    "\"\"",
    "\"a\"",
    "{}",
    "[]",
    "[[[[",
    "{\"a\":",
    ",",
    ":",
    "\"",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{202e}",
    "\u{feff}",
    "é",
    "😀",
    "$ref",
    "#",
    "%",
    "{{",
    "{%",
    "${",
    "\n",
    "\r\n\r\n",
    "data: ",
    " ",
];

/// One change to a text.
#[derive(Clone, Debug)]
enum Edit {
    Cut(Index, Index),
    Twice(Index, Index),
    Put(Index, &'static str),
    Byte(Index, u8),
}

/// Bytes that differ from one of the seeds in a few places, and bytes that have nothing to do with any.
pub fn near(seeds: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let edit = prop_oneof![
        any::<(Index, Index)>().prop_map(|(from, to)| Edit::Cut(from, to)),
        any::<(Index, Index)>().prop_map(|(from, to)| Edit::Twice(from, to)),
        (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Edit::Put(at, piece)),
        any::<(Index, u8)>().prop_map(|(at, byte)| Edit::Byte(at, byte)),
    ];
    prop_oneof![
        9 => (select(seeds), vec(edit, 0..6)).prop_map(|(seed, edits)| {
            edits.iter().fold(seed.into_bytes(), edited)
        }),
        1 => vec(any::<u8>(), 0..200),
    ]
}

fn edited(mut bytes: Vec<u8>, edit: &Edit) -> Vec<u8> {
    let place = |index: &Index| index.index(bytes.len() + 1);
    // A short piece: what is far away stays as it was.
    let range = |from: &Index, to: &Index| {
        let from = place(from);
        from..(from + to.index(40)).min(bytes.len())
    };
    match edit {
        Edit::Cut(from, to) => drop(bytes.drain(range(from, to))),
        Edit::Twice(from, to) => {
            let range = range(from, to);
            let again = bytes.get(range.clone()).unwrap_or_default().to_vec();
            bytes.splice(range.start..range.start, again);
        }
        Edit::Put(at, piece) => {
            let at = place(at);
            bytes.splice(at..at, piece.bytes());
        }
        Edit::Byte(at, byte) => {
            let at = place(at);
            if let Some(there) = bytes.get_mut(at) {
                *there = *byte;
            }
        }
    }
    bytes
}
