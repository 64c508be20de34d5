//! Kinds of secrets, each where it may stand, and text in which there are none.
//!
//! `data/kinds.tsv` holds a kind a line: what it is, then in base64 a text and the secret that stands in it; all values
//! are made up. With `SENTINEL_BENIGN_TEXT=FOLDER` the second test reads all files of that folder, too
//! (`tests/bench/benign.sh` gathers one) and prints which lines are touched.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sentinel_core::redact::Redactor;
use serde_json::{Value, json};

/// Of a thousand lines of ordinary text, the most that may be touched, in hundredths.
const MOST_TOUCHED: usize = 50;

struct Kind {
    name: &'static str,
    text: String,
    secret: String,
}

fn kinds() -> Vec<Kind> {
    let text = |column: &str| String::from_utf8(BASE64_STANDARD.decode(column).unwrap()).unwrap();
    let read = |line: &'static str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [name, said, secret] = columns[..] else { panic!("{line}") };
        Kind { name, text: text(said), secret: text(secret) }
    };
    include_str!("data/kinds.tsv").lines().map(read).collect()
}

/// The text as it stands in other texts.
fn places(text: &str) -> [(&'static str, String); 5] {
    let in_json = json!({ "log": text }).to_string();
    let block = text.lines().fold("message: |\n".to_owned(), |all, line| format!("{all}  {line}\n"));
    [
        ("by itself", text.to_owned()),
        ("in a string of JSON", in_json.clone()),
        ("in JSON in JSON", json!([{ "text": in_json }]).to_string()),
        ("in a block of YAML", block),
        ("in a line of a log", format!("2026-01-02T03:04:05Z ERROR [worker-3] request failed: {text}")),
    ]
}

#[test]
fn no_kind_of_secret_is_left_wherever_it_stands() {
    let redactor = Redactor::default();
    let kinds = kinds();
    assert!(kinds.len() >= 150, "{} kinds", kinds.len());
    let mut leaks = Vec::new();
    for kind in &kinds {
        for (place, text) in places(&kind.text) {
            let out = redactor.redact(&text);
            let read = out.replace(['\\', '\n'], "");
            let secret = kind.secret.replace('\n', "");
            // Half of it is too much as well.
            let half = secret.get(..secret.len() / 2).filter(|half| half.len() > 6).unwrap_or(&secret);
            if read.contains(half) || out.contains(&kind.secret) {
                leaks.push(format!("{} {place}: {out}", kind.name));
            }
            if place.contains("JSON") {
                serde_json::from_str::<Value>(&out)
                    .unwrap_or_else(|e| panic!("{} {place}: {e}: {out}", kind.name));
            }
            assert_eq!(redactor.redact(&out), out, "{} {place} is redacted twice", kind.name);
        }
    }
    println!("{} kinds in 5 places: {} leaks", kinds.len(), leaks.len());
    assert!(leaks.is_empty(), "{leaks:#?}");
}

#[test]
fn ordinary_text_is_left_alone_but_for_a_line_in_two_thousand() {
    let mut files = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/benign.txt"))];
    #[expect(clippy::disallowed_methods, reason = "the folder is named by whoever runs the benchmark")]
    let folder = std::env::var_os("SENTINEL_BENIGN_TEXT");
    if let Some(folder) = folder {
        files.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    let redactor = Redactor::default();
    let (mut lines, mut touched) = (0, 0);
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for line in String::from_utf8_lossy(&bytes).lines() {
            lines += 1;
            let out = redactor.redact(line);
            if out != line {
                touched += 1;
                println!("- {line}\n+ {out}");
            }
            // Of a touched line no more than values goes: what is left stands in it, in its order.
            let mut rest = line;
            for kept in out
                .split("[redacted: ")
                .enumerate()
                .map(|(n, part)| if n == 0 { part } else { part.split_once(']').unwrap().1 })
            {
                let at = rest.find(kept).unwrap_or_else(|| panic!("{line}\n{out}"));
                rest = &rest[at + kept.len()..];
            }
        }
    }
    println!("{touched} of {lines} lines are touched");
    assert!(touched * 100_000 <= lines * MOST_TOUCHED, "{touched} of {lines} lines");
}
