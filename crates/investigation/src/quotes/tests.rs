use std::cell::Cell;

use proptest::prelude::*;
use sentinel_core::UnixMs;
use sentinel_core::redact::Redactor;
use serde_json::{Map, json};

use super::*;
use crate::evidence::{CallStatus, Ended, Kept, MOST_ENCODED};

fn evidence(text: &str, status: CallStatus) -> EvidenceRecord {
    let ended = Ended {
        number: 1,
        tool: "s.t".into(),
        arguments: &Map::new(),
        status,
        refusal: None,
        turn: 0,
        own: None,
        at: UnixMs::new(0),
        ms: 0,
        kept: Kept::of(text, &Redactor::default(), MOST_ENCODED),
        remarks: Vec::new(),
    };
    EvidenceRecord::new(ended, &Redactor::default())
}

fn mark(text: &str, id: &str, quote: &str) -> Mark {
    let e = evidence(text, CallStatus::Answered);
    let alert = Searchable::new("{\"summary\":\"the pod is not ready\"}");
    check(&[(id, quote)], |id| (id == "E1").then_some(&e), &alert)[0].mark
}

fn found(text: &str, quote: &str) -> Option<String> {
    match Searchable::new(text).find(&Quote::new(quote), &mut Left(MOST_COMPARED)).unwrap() {
        Place::At(original) => Some(original),
        Place::Cut | Place::Nowhere => None,
    }
}

fn holds(text: &str, quote: &str) -> bool {
    found(text, quote).is_some()
}

#[test]
fn a_quote_stands_where_only_whitespace_differs() {
    assert_eq!(
        mark("Back-off  restarting\n\tfailed container", "E1", "restarting failed container"),
        Mark::Stands
    );
    assert_eq!(mark("restarting failed container", "[e1]", " restarting\nfailed "), Mark::Stands);
}

#[test]
fn a_quote_of_an_escaped_string_stands() {
    let text = r#"{"message":"secret \"db\" not found\nretry"}"#;
    assert_eq!(mark(text, "E1", r#"secret "db" not found retry"#), Mark::Stands);
    assert_eq!(mark(text, "E1", r#"secret \"db\" not found"#), Mark::Stands);
    assert_eq!(mark("caf\\u00e9 closed \\u00zz", "E1", "café closed"), Mark::Stands);
    assert_eq!(mark("on fire \\ud83d\\udd25 now", "E1", "on fire 🔥 now"), Mark::Stands);
    assert_eq!(mark("half \\ud83d of it", "E1", "half \\ud83d of it"), Mark::Stands);
}

#[test]
fn numbers_stand_exactly_or_not_at_all() {
    let text = "restarts: 123, load 12.5, at 1.2e+06 bytes, -5 degrees, 1,234 pods, list [12,34], api-5 has 9 of 911 9";
    for quote in [
        "restarts: 123",
        "load 12.5",
        "1.2e+06 bytes",
        "-5 degrees",
        "1,234 pods",
        "list [12",
        "34], api-5 has",
        "9 of 911",
    ] {
        assert!(holds(text, quote), "{quote}");
    }
    for quote in [
        "restarts: 12",
        "23, load",
        "load 12",
        "5, at",
        "at 1.2",
        "06 bytes,",
        "5 degrees",
        "234 pods",
        "degrees, 1",
        "11 9",
    ] {
        assert!(!holds(text, quote), "{quote}");
    }
    // The first place is inside a number, and the second overlaps it.
    assert!(holds("911 11 11", "11 11"));
    assert!(!holds("911 11", "11 11"));
    assert!(!holds("é12", "é1") && holds("é12", "é12"));
}

#[test]
fn a_quote_that_does_not_stand_is_invented() {
    assert_eq!(mark("OOMKilled once", "E1", "OOMKilled twice"), Mark::Invented);
    assert_eq!(mark("OOMKilled once", "E1", "once ... OOMKilled"), Mark::Invented);
    assert_eq!(mark("OOMKilled once", "E1", "  "), Mark::Invented);
}

#[test]
fn unknown_evidence_holds_nothing() {
    assert_eq!(mark("OOMKilled once", "E2", "OOMKilled once"), Mark::NoSuchEvidence);
}

#[test]
fn a_short_quote_and_one_that_repeats_the_alert_are_found_and_support_nothing() {
    assert_eq!(mark("ready=0 here", "E1", "ready=0"), Mark::TooShort);
    assert_eq!(mark("ready=10 here", "E1", "ready=10"), Mark::Stands, "eight characters are enough");
    assert_eq!(mark("größe=9 hier", "E1", "größe=9"), Mark::TooShort, "characters count, not bytes");
    let mark = mark("event: the pod is not ready", "E1", "the pod is not ready");
    assert_eq!(mark, Mark::RepeatsTheAlert);
    assert!(mark.is_found() && mark.problem().is_some());
}

#[test]
fn a_quote_across_what_was_not_kept_does_not_stand() {
    let text =
        format!("{}HEADEND{}TAILBEGIN{}", "x ".repeat(87_378), "y".repeat(99_999), " z".repeat(43_686));
    let e = evidence(&text, CallStatus::Answered);
    let (head, tail) = e.pieces();
    assert!(head.ends_with("HEADEND") && tail.starts_with("TAILBEGIN"), "{} {}", head.len(), tail.len());
    let quote = |quote: &str| check(&[("E1", quote)], |_| Some(&e), &Searchable::new(""))[0].mark;
    assert_eq!((quote("x x HEADEND"), quote("HEADENDTAILBEGIN")), (Mark::Stands, Mark::Invented));
    assert_eq!(quote("TAILBEGIN z z"), Mark::Stands, "what was kept of the end is searched too");
}

#[test]
fn our_own_words_about_a_failed_call_are_no_evidence() {
    let e = evidence("the server did not answer", CallStatus::NoAnswer);
    let marks = check(&[("E1", "the server did not answer")], |_| Some(&e), &Searchable::new(""));
    assert_eq!(marks, [Mark::NotAnOutput.into()]);
}

/// How these quotes of one evidence fare, and how many bytes were compared.
fn compared(text: &str, quotes: &[String]) -> (Vec<Mark>, usize) {
    let e = evidence(text, CallStatus::Answered);
    let quotes: Vec<_> = quotes.iter().map(|quote| ("E1", quote.as_str())).collect();
    let folded = Cell::new(0);
    let find = |_: &str| {
        folded.set(folded.get() + 1);
        Some(&e)
    };
    let found = counted(&quotes, find, &Searchable::new("the alert"));
    assert!(folded.get() <= 1, "it was looked up {} times", folded.get());
    let (looked, bytes) = found;
    (looked.iter().map(|looked| looked.mark).collect(), bytes)
}

#[test]
fn ten_times_the_evidence_or_the_quotes_takes_about_ten_times_the_steps() {
    let line = "pod web-1 restarted 12 times, last at 06:26 \\\"OOMKilled\\\"\n";
    let quotes = |n: usize| (0..n).map(|i| format!("pod web-1 restarted {i} times")).collect::<Vec<_>>();
    let (_, one) = compared(&line.repeat(100), &quotes(10));
    let (_, longer) = compared(&line.repeat(1000), &quotes(10));
    let (_, more) = compared(&line.repeat(100), &quotes(100));
    for ten in [longer, more] {
        assert!((one * 8..one * 11).contains(&ten), "{one} {ten}");
    }
}

#[test]
fn quotes_that_nearly_stand_everywhere_are_looked_up_within_the_bound() {
    // Each place cuts a number, and the next one overlaps it.
    let text = "12 ".repeat(80_000);
    let quote = format!("{}1", "12 ".repeat(1300));
    let (marks, compared) = compared(&text, &vec![quote; 200]);
    assert!(compared <= MOST_COMPARED, "{compared}");
    assert_eq!(marks.last(), Some(&Mark::TooMany));
}

#[test]
fn what_is_too_long_or_too_much_is_not_looked_up_and_says_so() {
    let (marks, bytes) = compared(&"a line of it\n".repeat(900), &["a line of it ".repeat(400)]);
    assert_eq!((marks, bytes), (vec![Mark::TooLong], 0));
    let (marks, _) = compared("a line of it", &vec!["a line of it".to_owned(); 100_000]);
    assert_eq!(marks.iter().filter(|mark| **mark == Mark::Stands).count(), MOST_QUOTES);
    assert!(marks[MOST_QUOTES..].iter().all(|mark| *mark == Mark::TooMany && !mark.is_found()));
    assert!(Mark::TooLong.problem().unwrap().contains(&LONGEST_QUOTE.to_string()));
}

proptest! {
    #[test]
    fn any_words_of_an_output_stand_in_it_also_when_json_encodes_it(words in prop::collection::vec("\\PC{1,8}", 8..20), from in 0usize..6, len in 3usize..12) {
        let text = words.join(" ");
        let piece: Vec<&str> = text.split_whitespace().skip(from).take(len).collect();
        let piece = piece.join(" ");
        prop_assume!(piece.contains(|c: char| c.is_alphanumeric()));
        prop_assert!(holds(&text, &piece));
        // A backslash before the piece's edge makes the encoded text ambiguous; models do not cut there.
        prop_assume!(!text.contains('\\'));
        let encoded = json!(text).to_string();
        prop_assert!(holds(&encoded, &piece));
    }
}

#[test]
fn what_a_model_puts_around_a_copy_is_not_in_it() {
    let text = "2026-11-20 ERROR checkout - pool exhausted: 20 of 20 connections are in use\nstate=\"waiting\" user='app'";
    let busy = "pool exhausted: 20 of 20 connections are in use";
    for (quote, original) in [
        (format!("`{busy}`"), busy),
        (format!("\"{busy}\""), busy),
        (format!("'{busy}'"), busy),
        (format!("**{busy}**"), busy),
        (format!("**\"{busy}\"**."), busy),
        (format!("```\n{busy}\n```"), busy),
        (format!("```text\n{busy}\n```"), busy),
        (format!("* {busy}"), busy),
        (format!("- {busy}"), "- pool exhausted: 20 of 20 connections are in use"),
        (format!("> {busy}"), busy),
        (format!("line 1: {busy}"), busy),
        (format!("L1: `{busy}`"), busy),
        (format!("{busy}."), busy),
        (format!("{busy}…"), busy),
        (format!("...{busy}..."), busy),
        (format!("[…] {busy} […]"), busy),
        ("state=“waiting” user=‘app’".to_owned(), "state=\"waiting\" user='app'"),
        ("ERROR checkout – pool exhausted".to_owned(), "ERROR checkout - pool exhausted"),
        // What is the text's own stays.
        ("\"waiting\"".to_owned(), "\"waiting\""),
        // What was left out is shown.
        (
            "ERROR checkout ... 20 of 20 connections".to_owned(),
            "ERROR checkout - pool exhausted: 20 of 20 connections",
        ),
    ] {
        assert_eq!(found(text, &quote).as_deref(), Some(original), "{quote}");
    }
    // The signs are the text's own as well.
    assert!(holds("Loading ... done, “ready” – at last", "Loading ... done, \"ready\" - at last"));
    assert!(holds("\u{1b}[31mERROR\u{1b}[0m disk is full", "ERROR disk is full"));
    for nothing in ["", "`", "``", "...", "\"\"", "line 1:", "****", "......"] {
        assert!(!holds(text, nothing), "{nothing:?}");
    }
}

#[test]
fn a_quote_cuts_neither_a_unit_nor_a_word_nor_a_name_nor_a_negation() {
    let text = "p99 latency 30ms, heap limit 512Mi, used 93%, ratio 3/5 of pods, exit code non-zero\n\
                Warning Unhealthy pod/cart-cache-0 Readiness probe failed in cart.prod.svc on /var/lib/docker\n\
                the node is not ready, the disk isn't full, never yet restarted, !paused, no longer healthy\n\
                READY: no   restarted twice\n";
    for cut in [
        "p99 latency 30m",
        "p99 latency 30",
        "heap limit 512M",
        "heap limit 512",
        "used 93",
        "ratio 3",
        "zero\nWarning",
        "Warning Unhealthy pod/cart",
        "Warning Unhealthy pod/cart-cache",
        "cache-0 Readiness probe",
        "-cache-0 Readiness probe",
        "Readiness probe failed in cart",
        "Readiness probe fail",
        "eadiness probe failed",
        "in cart.prod.svc on /var",
        "/docker",
        "ready, the disk",
        "full, never",
        "restarted, !paused",
        "paused, no longer",
        "healthy\nREADY",
    ] {
        assert!(!holds(text, cut), "{cut}");
        assert_eq!(mark(text, "E1", cut), Mark::Cut, "{cut}");
    }
    for whole in [
        "p99 latency 30ms",
        "heap limit 512Mi, used 93%",
        "ratio 3/5 of pods",
        "cart-cache-0 Readiness probe failed",
        "pod/cart-cache-0",
        "exit code non-zero",
        "on /var/lib/docker",
        "not ready, the disk isn't full",
        "no longer healthy",
        // In another column.
        "restarted twice",
    ] {
        assert!(holds(text, whole), "{whole}");
    }
    assert!(holds("错误:磁盘已满请检查", "磁盘已满"), "a script without blanks");
    assert!(holds("java.lang.OutOfMemoryError: Java heap space", "OutOfMemoryError: Java heap space"));
    assert!(holds("run with --cache-size=5", "cache-size=5"));
}

#[test]
fn pieces_stand_in_order_in_one_line_or_one_object() {
    let table = "NAME READY STATUS\ncart-0 1/1 Running\ncart-1 0/1 CrashLoopBackOff\n";
    assert!(holds(table, "cart-1 ... CrashLoopBackOff"));
    for joined in [
        "cart-0 ... CrashLoopBackOff",
        "CrashLoopBackOff ... cart-1",
        "cart-1 ... Running",
        "cart-0 … 0/1 CrashLoopBackOff",
    ] {
        assert!(!holds(table, joined), "{joined}");
    }
    let pods = json!({"items": [
        {"name": "cart-0", "status": {"phase": "Running", "ready": true}, "node": "node-a"},
        {"name": "cart-1", "status": {"phase": "Failed", "ready": false}, "node": "node-b"},
    ]});
    let pretty = serde_json::to_string_pretty(&pods).unwrap();
    let inside = json!({"content": pods.to_string()}).to_string();
    let logs = json!({"log": table, "lines": ["cart-0 is up", "cart-1 is down"]}).to_string();
    for text in [&pods.to_string(), &pretty, &inside] {
        assert!(holds(text, "cart-1 ... node-b"), "{text}");
        for joined in ["cart-0 ... node-b", "cart-0 ... Failed", "Running ... node-b", "cart-1 ... Running"] {
            assert!(!holds(text, joined), "{joined} in {text}");
        }
    }
    assert!(holds(&pretty, "\"phase\": \"Failed\" ... \"ready\": false"));
    for joined in ["cart-0 ... CrashLoopBackOff", "cart-0 is ... down"] {
        assert!(!holds(&logs, joined), "{joined}");
    }
    assert!(
        !holds("the node is certainly not yet ready", "node is ... ready"),
        "what is left out turns it round"
    );
    assert!(holds("the node is certainly, we think, ready", "node is ... ready"));
}

#[test]
fn each_level_of_escapes_is_resolved() {
    let mut text = "desc = \"lookup db: no such host\"".to_owned();
    for level in 1..=4 {
        text = json!({"log": text, "n": level}).to_string();
        for quote in ["desc = \"lookup db: no such host\"", r#"desc = \"lookup db: no such host\""#] {
            assert!(holds(&text, quote), "{quote} at level {level}: {text}");
        }
        assert!(!holds(&text, "desc = \"lookup db: no such port\""));
    }
    assert!(holds(r"at C:\temp\new dir", r"C:\temp\new dir") && holds(r"at C:\temp\new dir", "new dir"));
}

#[test]
fn json_that_is_written_otherwise_is_compared_by_its_tokens() {
    let pretty =
        "{\n  \"name\": \"cart\",\n  \"restartCount\": 12,\n  \"ports\": [\n    80,\n    443\n  ]\n}";
    let tight = "{\"name\":\"cart\",\"restartCount\":12,\"ports\":[80, 443]}";
    for text in [pretty, tight] {
        for quote in [
            "\"name\":\"cart\",\"restartCount\":12",
            "\"name\": \"cart\", \"restartCount\": 12",
            "{ \"name\": \"cart\"",
            "[80, 443]",
        ] {
            assert!(holds(text, quote), "{quote} in {text}");
        }
        for other in [
            "\"restartCount\": 1",
            "\"restartCount\":120",
            "\"name\":\"car\"",
            "80443",
            "\"name\":\"cart-0\"",
        ] {
            assert!(!holds(text, other), "{other} in {text}");
        }
    }
    assert!(!holds("{\"list\": [1, 234]}", "1,234"), "another number");
    assert!(!holds("{\"state\": \"not ready\", \"n\": 1}", "ready\",\"n\":1"));
}

/// Words that make texts in which everything can be cut.
const WORDS: &[&str] = &[
    "pod", "cart", "cart-0", "12", "12.5", "30ms", "512Mi", "not", "ready", "pod/cart", "\"", "{", "}", ",",
    ":", "-", ".", "...", "\n", "\\n", "é", "`", "**",
];

proptest! {
    /// Whatever a quote is dressed in: what stands are whole words of the text, in its order.
    #[test]
    fn what_is_found_is_the_texts_own(
        text in prop::collection::vec(prop::sample::select(WORDS), 0..24),
        quote in prop::collection::vec(prop::sample::select(WORDS), 0..8),
        apart in any::<bool>(),
    ) {
        let between = if apart { " " } else { "" };
        let (text, quote) = (text.join(between), quote.join(between));
        if let Some(original) = found(&text, &quote) {
            let squeezed = |text: &str| text.split_whitespace().collect::<String>();
            let all: Vec<String> = Searchable::new(&text).layers.iter().map(|layer| squeezed(&layer.text)).collect();
            prop_assert!(all.iter().any(|layer| layer.contains(&squeezed(&original))), "{original:?} of {text:?}");
        }
    }
}
