use std::path::Path;

use sentinel_core::UnixMs;
use sentinel_core::redact::Redactor;
use sentinel_core::view::Standing;
use unicode_width::UnicodeWidthStr as _;

use super::*;
use crate::api::{self, Record};
use crate::replay::recorded;
use crate::stage::Stage;

/// 2026-11-20T21:00:00Z: the evening of the sample events.
const EVENING: UnixMs = UnixMs::new(1_795_208_400_000);

fn events() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events")
}

/// An example, replayed as `sentinel replay` does with the built-in configuration.
async fn replayed(name: &str) -> (Detail, Record) {
    let loaded = sentinel_config::load(&sentinel_config::built_in(), &|_| None).unwrap();
    let playbooks = sentinel_worker::compile(&loaded).unwrap();
    let mut stage = Stage::new(&loaded.settings, playbooks, None, None).await.unwrap();
    let run = recorded(&events().join("runs").join(name)).unwrap();
    let body = std::fs::read(events().join("alertmanager").join(name)).unwrap();
    let _ = stage.arrive(&loaded.settings.cards, name, &body, Some(&run)).await.unwrap();
    stage.settle().await.unwrap();
    let detail = stage.seen_at(EVENING).await.unwrap().remove(0);
    let record =
        api::record(stage.store().as_ref(), &Redactor::default(), &detail.id).await.unwrap().unwrap();
    (detail, record)
}

fn screen(detail: &Detail, width: usize, full: bool) -> String {
    let more = ["sentinel incidents evidence 0123456789ab E1".to_owned()];
    plain(&incident(detail, &Screen { width, full, more: &more }))
}

fn plain(text: &str) -> String {
    console::strip_ansi_codes(text).into_owned()
}

/// The card: what stands behind the last rule.
fn last(shown: &str) -> String {
    shown.rsplit_once("──\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn the_last_twenty_lines_of_each_example_say_what_it_is_and_what_to_do_at_80_and_120_columns() {
    let folder = std::fs::read_dir(events().join("runs")).unwrap();
    let mut names: Vec<String> = folder.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 13, "{names:?}");
    let mut cards = [String::new(), String::new()];
    for name in &names {
        let (detail, _) = replayed(name).await;
        for (width, cards) in [80, 120].into_iter().zip(&mut cards) {
            let shown = screen(&detail, width, false);
            let card = last(&shown);
            assert!(card.lines().count() < 20, "{name} at {width}:\n{card}");
            for line in shown.lines().filter(|line| !line.contains("://")) {
                assert!(line.width() <= width, "{name} at {width}: {line}");
            }
            let verdict = detail.view.standing.to_string();
            for part in
                [&*verdict, " %, ", "quote", "severity ", "\nCause ", "\nQuote ", "\nSince ", "\nMore "]
            {
                assert!(card.contains(part), "{name} at {width} lacks {part:?}:\n{card}");
            }
            assert_eq!(card.contains("\nNext "), detail.view.next_step.is_some(), "{name}:\n{card}");
            cards.extend([&*format!("== {name}\n"), &*card, "\n"]);
        }
    }
    let [narrow, wide] = cards;
    insta::with_settings!({omit_expression => true, prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!("cards_80", narrow);
        insta::assert_snapshot!("cards_120", wide);
    });
}

#[tokio::test]
async fn evidence_checks_that_passed_deliveries_and_costs_are_shown_with_full_only() {
    let (detail, _) = replayed("kube-pod-crash-looping.json").await;
    let (short, full) = (screen(&detail, 80, false), screen(&detail, 80, true));
    for part in ["\nEvidence\n", "\nChecklist\n", "\nTold\n", " tokens in", "E7 prom.execute_query:"] {
        assert!(!short.contains(part), "{part}\n{short}");
        assert!(full.contains(part), "{part}\n{full}");
    }
    assert_eq!(last(&short), last(&full));
    assert!(short.contains("pod=orders-worker-5c8f7d6b99-tq6rn: 534155264 at 13:03 UTC"), "{short}");
}

#[tokio::test]
async fn an_incident_without_a_report_says_why() {
    let (mut detail, _) = replayed("watchdog.json").await;
    detail.report = None;
    detail.view.findings = None;
    detail.view.cause = None;
    detail.view.next_step = None;
    detail.view.standing = Standing::NotInvestigated;
    detail.view.reason = Some("gave up after 3 attempts:\n\u{1b}[2J the model refused the key".into());
    let card = last(&screen(&detail, 80, false));
    assert!(card.starts_with("NOT INVESTIGATED TO THE END  severity none, firing\n"), "{card}");
    assert!(card.contains("\nWhy       gave up after 3 attempts: [2J the model refused the key\n"), "{card}");
}

#[tokio::test]
async fn an_output_is_shown_as_it_is_kept_with_the_reports_quotes_marked() {
    let (_, record) = replayed("kube-pod-crash-looping.json").await;
    let one = stored::find(&record, "e5").unwrap();
    let shown = stored::evidence(&record, one, None).unwrap();
    assert!(
        shown.contains("\x1b[7mPREFETCH_MESSAGES=0: no bound on messages held in memory\x1b[0m"),
        "{shown}"
    );
    let text = plain(&shown);
    assert_eq!(text.lines().filter(|line| line.starts_with("> ")).count(), 3, "{text}");
    for line in one.text.lines() {
        let there = text.lines().filter_map(|shown| shown.get(2..)).any(|shown| shown == inert(line));
        assert!(there, "{line} is missing:\n{text}");
    }
    assert!(stored::find(&record, "E99").is_none());
}

#[tokio::test]
async fn around_a_text_only_its_lines_are_shown() {
    let (_, mut record) = replayed("kube-pod-crash-looping.json").await;
    let mut one = record.evidence.remove(0);
    one.text = format!("{}NEEDLE é{}", "é\n".repeat(50), "\né".repeat(50));
    let text = plain(&stored::evidence(&record, &one, Some("NEEDLE")).unwrap());
    assert_eq!(text.lines().filter(|line| line.trim() == "é").count(), 20, "{text}");
    assert!(text.contains("> NEEDLE é") && text.contains("bytes before this"), "{text}");
    assert_eq!(stored::evidence(&record, &one, Some("not there")), None);
    one.text = format!("{}NEEDLE{}", "é".repeat(60_000), "é".repeat(60_000));
    let shown = stored::evidence(&record, &one, Some("NEEDLE")).unwrap();
    assert!(shown.len() < 10_000, "an output of one line is cut around it: {} bytes", shown.len());
}

#[tokio::test]
async fn turns_alerts_and_the_record_are_told_in_lines_of_the_screen() {
    let (_, record) = replayed("grafana-high-latency.json").await;
    let turns = plain(&stored::turns(&record, 80));
    assert!(turns.starts_with("Turn 1 ") && turns.contains("calls submit_report {"), "{turns}");
    let alerts = plain(&stored::alerts(&record, 80));
    for part in [
        "Grafana to \"sentinel\"",
        "firing since 2026-11-20T11:37:20Z",
        "severity=critical",
        "summary: checkout answers slowly",
        "value B: 2.413",
    ] {
        assert!(alerts.contains(part), "{part}\n{alerts}");
    }
    let told = plain(&stored::record(&record, 80));
    for part in
        ["opened", "turn 1 of", "E1 prom.execute_query", "findings to log: sent", "report: action_required"]
    {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let list = plain(&stored::evidence_list(&record, 80));
    assert_eq!(list.lines().filter(|line| line.starts_with('E')).count(), record.evidence.len(), "{list}");
    assert!(list.contains("quoted once"), "{list}");
}
