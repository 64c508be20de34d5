//! What a card allows one investigation, in tokens and in money: the report is made while there is still room for it.

use sentinel_core::budget::MicroUsd;
use sentinel_core::incident::ChildName;
use sentinel_core::report::{Report, ReportSource, Verdict};
use sentinel_investigation::ports::{TurnRequest, TurnResponse, TurnUsage};
use sentinel_investigation::{Forced, turns_of};
use serde_json::json;

use crate::support::*;

/// A turn that took this many tokens, a twentieth of them received.
fn took(turn: TurnResponse, tokens: u64) -> TurnResponse {
    let output_tokens = tokens / 20;
    TurnResponse {
        usage: TurnUsage {
            input_tokens: tokens - output_tokens,
            cached_tokens: 0,
            cache_write_tokens: 0,
            output_tokens,
        },
        ..turn
    }
}

/// Looks into another namespace in each turn, until it has to report.
fn curious(tokens: u64) -> Script {
    Script::by(move |request| {
        let turn = match request.force {
            Some(_) => submits("action_required", &[QUOTE]),
            None => calls(&[("k8s__pod", json!({"namespace": format!("n{}", turn_of(request))}))]),
        };
        Ok(took(turn, tokens))
    })
}

fn forced(requests: &[TurnRequest]) -> Vec<bool> {
    requests.iter().map(|request| request.force.is_some()).collect()
}

fn tokens(report: &Report) -> u64 {
    report.usage.input_tokens + report.usage.output_tokens
}

fn gap<'r>(report: &'r Report, text: &str) -> &'r str {
    report.gaps.iter().find(|gap| gap.contains(text)).unwrap_or_else(|| panic!("{text}: {:?}", report.gaps))
}

fn last_words(request: &TurnRequest) -> String {
    format!("{:?}", request.input.last().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_tokens_are_nearly_used_up_has_to_report_and_says_so() {
    let mut world = World::new();
    world.card.max_iterations = 20;
    world.card.max_tokens = 100_000;
    let model = curious(20_000);
    let report = world.report(&model).await;
    assert_eq!(forced(&model.requests()), [false, false, false, true]);
    assert_eq!((report.verdict, report.source), (Verdict::ActionRequired, ReportSource::Model));
    assert_eq!(tokens(&report), 80_000);
    let told = gap(&report, "max-tokens");
    assert_eq!(
        told,
        "The investigation had to end with turn 4: its `max-tokens` (100000) were nearly used up. There may be more \
         to find."
    );
    assert_eq!(turns_of(&world.store.bodies())[3].forced, Some(Forced::TokensNearlyUsedUp));
    assert!(last_words(&model.requests()[3]).contains("nearly used up. Call submit_report now"));
    assert_eq!(model.requests()[3].tools, model.requests()[0].tools, "the prefix stays");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_money_is_nearly_used_up_has_to_report_and_says_so() {
    let mut world = World::new();
    world.card.max_iterations = 20;
    world.card.max_usd = MicroUsd(50_000);
    // $0.0092 a turn.
    let model = curious(20_000);
    let report = world.report(&model).await;
    assert!(report.usage.usd.unwrap() <= 0.05, "{:?}", report.usage);
    assert_eq!(forced(&model.requests()), [false, false, false, true]);
    assert!(gap(&report, "max-usd").contains("its `max-usd` ($0.05) was nearly used up"));
}

#[tokio::test(start_paused = true)]
async fn a_model_without_a_price_is_held_to_its_tokens_only() {
    let mut world = World::new();
    world.prices.clear();
    world.card.max_usd = MicroUsd(1);
    let model = curious(20_000);
    let report = world.report(&model).await;
    assert_eq!(forced(&model.requests()), [false, false, false, false, false, true]);
    assert!(gap(&report, "turn 6, the last that `max-iterations` permits").contains("had to end"));
}

#[tokio::test(start_paused = true)]
async fn what_earlier_attempts_took_counts_too() {
    let mut world = World::new();
    world.card.max_iterations = 20;
    world.card.max_tokens = 100_000;
    let model = curious(20_000);
    // The card's own call is the first output.
    for output in 2..=4 {
        world.store.die_before(ChildName::Output(output));
        assert!(world.run(Some(&model)).await.is_err());
        world.store.die_at(None);
    }
    let report = world.report(&model).await;
    assert_eq!(forced(&model.requests()), [false, false, false, true]);
    assert!(tokens(&report) <= 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_bound_without_room_for_one_turn_leaves_the_evidence_and_asks_nobody() {
    let mut world = World::new();
    world.card.max_tokens = 2_000;
    let model = curious(1_000);
    let report = world.report(&model).await;
    assert_eq!((model.requests().len(), report.source), (0, ReportSource::EvidenceOnly));
    assert!(
        report.summary.contains("the card's `max-tokens` (2000) leave no room for another turn: 0 are used"),
        "{}",
        report.summary
    );
    assert!(gap(&report, "No conclusion: the card's `max-tokens`").contains("it may take"));
}

#[tokio::test(start_paused = true)]
async fn outputs_that_leave_no_room_for_the_report_are_shown_shorter_and_kept_whole() {
    let mut world = World::new();
    world.card.max_tokens = 60_000;
    let output = format!("{}needle-at-the-end", "pods everywhere ".repeat(2_000));
    world.tools.outputs.insert("k8s.pod".into(), output);
    let many: Vec<_> = (0..12).map(|n| ("k8s__pod", json!({"namespace": format!("n{n}")}))).collect();
    let model = Script::by(move |request| {
        let turn = match request.force {
            Some(_) => submits("action_required", &[("E13", "needle-at-the-end")]),
            None => calls(&many),
        };
        Ok(took(turn, 10_000))
    });
    let report = world.report(&model).await;
    let requests = model.requests();
    assert_eq!(forced(&requests), [false, true]);
    assert_eq!(requests[1].input[..1], requests[0].input[..]);
    let shown = answers(&requests[1]);
    assert_eq!(shown.len(), 12);
    let most: usize = shown.iter().map(String::len).sum();
    assert!(most < 50_000, "{most} bytes, and no token is less than one");
    for (n, output) in shown.iter().enumerate() {
        assert!(
            output.starts_with(&format!("[E{}]", n + 2)) && output.contains("bytes left out"),
            "{output}"
        );
        assert!(output.trim_end().contains("</data seal="), "the fence is closed: {output}");
    }
    assert_eq!((report.verdict, report.hypotheses[0].supported), (Verdict::ActionRequired, Some(true)));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_there_is_no_room_to_mend_is_shown_as_it_is() {
    let mut world = World::new();
    world.card.max_tokens = 40_000;
    let model =
        Script::by(|_| Ok(took(submits("action_required", &[("E1", "never said anywhere")]), 30_000)));
    let report = world.report(&model).await;
    assert_eq!(model.requests().len(), 1);
    assert_eq!((report.source, report.verdict), (ReportSource::Model, Verdict::Inconclusive));
    assert_eq!(report.hypotheses[0].supported, Some(false));
    assert!(gap(&report, "could not mend its report").contains("`max-tokens` (40000) leave no room"));
}

#[tokio::test(start_paused = true)]
async fn every_bound_that_ends_a_run_stands_in_its_gaps() {
    let mut world = World::new();
    world.card.max_iterations = 12;
    let clock = world.clock.clone();
    let model = Script::by(move |request| {
        clock.advance(std::time::Duration::from_mins(9));
        Ok(if request.force.is_some() { submits("no_action", &[QUOTE]) } else { calls(&[pod()]) })
    });
    let report = world.report(&model).await;
    assert!(gap(&report, "time-out").contains("its time-out of 600 s was nearly over"));

    let mut world = World::new();
    world.card.max_iterations = 12;
    let model = Script::by(|request| {
        Ok(if request.force.is_some() { submits("no_action", &[QUOTE]) } else { calls(&[pod()]) })
    });
    let report = world.report(&model).await;
    assert!(gap(&report, "again and again").contains("The investigation had to end with turn"));
}
