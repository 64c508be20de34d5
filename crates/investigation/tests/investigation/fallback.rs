//! Fallback models: who is asked when the card's model is out, and what the report says of it.

use std::time::Duration;

use sentinel_core::price::Price;
use sentinel_core::report::{ReportSource, Verdict};
use sentinel_investigation::ports::{Item, ModelError, TurnRequest, TurnResponse};
use sentinel_investigation::{Outcome, evidence_of, turns_of};

use crate::support::*;

fn world() -> World {
    let mut world = World::new();
    world.card.fallback_models = vec!["second".into(), "third".into()];
    world.prices.insert("second".into(), Price::new(4.0, 1.0, 16.0));
    world
}

fn asked(model: &Script) -> Vec<String> {
    model.requests().into_iter().map(|request| request.model.to_string()).collect()
}

fn well(request: &TurnRequest) -> TurnResponse {
    match turn_of(request) {
        1 => calls(&[pod()]),
        _ => submits("action_required", &[QUOTE]),
    }
}

fn unavailable(reason: &str) -> ModelError {
    ModelError::Unavailable { reason: reason.into(), retry_after: None, billed: false }
}

#[tokio::test(start_paused = true)]
async fn a_model_without_quota_is_replaced_for_the_rest_of_the_run_and_the_report_says_so() {
    let world = world();
    let model = Script::by(|request| match request.model.name.as_str() {
        "gpt-4.1-mini" => Err(ModelError::Refused("429: no credit".into())),
        _ => Ok(well(request)),
    });
    let report = world.report(&model).await;
    assert_eq!(report.verdict, Verdict::ActionRequired);
    assert_eq!(asked(&model), ["gpt-4.1-mini", "second", "second"]);
    assert_eq!(
        report.notes,
        [
            "Turns 1 to 2 were answered by the fallback model second: gpt-4.1-mini was out: the model refused the \
          request: 429: no credit."
        ]
    );
    let usd = report.usage.usd.unwrap();
    assert!(
        (usd - (1200.0 * 4.0 + 800.0 * 1.0 + 100.0 * 16.0) / 1e6).abs() < 1e-12,
        "by its own price: {usd}"
    );
    let turns = turns_of(&world.store.bodies());
    assert!(turns.iter().all(|turn| turn.asked == "second" && turn.instead.is_some()));
}

#[tokio::test(start_paused = true)]
async fn one_that_goes_out_in_the_middle_is_replaced_from_there_on() {
    let world = world();
    let model = Script::by(|request| match (request.model.name.as_str(), turn_of(request)) {
        ("gpt-4.1-mini", 2) => Err(unavailable("HTTP 503, 4 times")),
        ("second", _) => Err(unavailable("HTTP 502")),
        _ => Ok(well(request)),
    });
    let report = world.report(&model).await;
    assert_eq!(asked(&model), ["gpt-4.1-mini", "gpt-4.1-mini", "second", "third"]);
    assert_eq!(
        report.notes,
        [
            "Turn 2 was answered by the fallback model third: second was out: the model did not answer: HTTP 502."
        ]
    );
    assert_eq!(report.usage.usd, None, "third has no price");
    let whose = |item: &Item| matches!(item, Item::Response { asked, .. } if asked.name == "gpt-4.1-mini");
    assert!(model.requests()[3].input.iter().any(whose), "the port is told whose reasoning it is");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_cut_off_and_the_next_one_is_asked() {
    let world = world();
    let model = Script::by(|request| Ok(well(request))).that_hangs_for("gpt-4.1-mini");
    let before = tokio::time::Instant::now();
    let report = world.report(&model).await;
    assert_eq!(asked(&model), ["gpt-4.1-mini", "second", "second"]);
    assert_eq!(before.elapsed(), Duration::from_secs(90));
    assert!(report.notes[0].contains("no answer within 90 s"), "{:?}", report.notes);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_out_the_run_is_put_off_and_names_each() {
    let world = world();
    let model = Script::by(|request| match request.model.name.as_str() {
        "second" => Err(ModelError::Refused("no credit".into())),
        name => Err(unavailable(&format!("{name} is busy"))),
    });
    let Outcome::Yield { reason, .. } = world.run(Some(&model)).await.unwrap() else { panic!("no yield") };
    for told in ["gpt-4.1-mini is busy", "second: the model refused the request: no credit", "third is busy"]
    {
        assert!(reason.contains(told), "{reason}");
    }
    assert_eq!(asked(&model).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn where_all_refuse_what_was_found_is_reported_with_what_each_said() {
    let world = world();
    let model = Script::by(|request| match turn_of(request) {
        1 => Ok(calls(&[pod()])),
        _ => Err(ModelError::Refused(format!("{} says 401", request.model))),
    });
    let report = world.report(&model).await;
    assert_eq!(report.source, ReportSource::EvidenceOnly);
    assert_eq!(evidence_of(&world.store.bodies()).len(), 2, "what was found is kept");
    for told in ["gpt-4.1-mini says 401", "second says 401", "third says 401"] {
        assert!(report.summary.contains(told), "{}", report.summary);
    }
    assert_eq!(asked(&model), ["gpt-4.1-mini", "gpt-4.1-mini", "second", "third"]);
}

#[tokio::test(start_paused = true)]
async fn a_context_that_is_too_long_is_cut_once_and_the_oldest_outputs_become_their_ids() {
    let world = World::new();
    let model = Script::by(|request| {
        let shown = serde_json::to_string(&request.input).unwrap();
        match turn_of(request) {
            1 => Ok(calls(&[pod()])),
            _ if !shown.contains("left out to make room") => {
                Err(ModelError::TooLong { reason: "8192 tokens at most".into(), fits: Some(40) })
            }
            _ => Ok(submits("action_required", &[QUOTE])),
        }
    });
    let report = world.report(&model).await;
    assert_eq!((report.source, report.verdict), (ReportSource::Model, Verdict::ActionRequired));
    assert!(report.notes.iter().any(|note| note.contains("shown as their ids")), "{:?}", report.notes);
    assert_eq!(asked(&model).len(), 3);
    assert!(turns_of(&world.store.bodies())[1].cut > 0);
}

#[tokio::test(start_paused = true)]
async fn a_context_that_cannot_be_cut_goes_to_the_next_model() {
    let mut world = world();
    world.card.evidence.clear();
    let model = Script::by(|request| match request.model.name.as_str() {
        "gpt-4.1-mini" => Err(ModelError::TooLong { reason: "too long".into(), fits: None }),
        _ => Ok(submits("inconclusive", &[])),
    });
    world.report(&model).await;
    assert_eq!(asked(&model), ["gpt-4.1-mini", "second"]);
}
