//! `/metrics`: what was measured since the start, with what is looked up when it is asked for.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use sentinel_core::budget::{Amount, Limits, MicroUsd, Scope, Spent, Window};
use sentinel_ingest::Refusal;
use sentinel_telemetry::{MOST_SERIES, Sample, families};
use sentinel_worker::{Mind, Worker};
use tokio::time::timeout;

use crate::bodies::BYTES;
use crate::health::PATIENCE;
use crate::house::House;
use crate::server::Service;

/// The most scopes of the budget that the store is asked about.
const MOST_SCOPES: usize = MOST_SERIES / 2;

/// Everything, in Prometheus's text format.
pub(crate) async fn metrics(State(service): State<Service>) -> Response {
    let house = service.house();
    let mut now = of_the_server(&service, &house);
    now.extend(left_alone(&house.worker));
    let answers = service.ready.now(house.worker.ports.store.as_ref()).await;
    now.push(Sample::of(families::STORE_UP, f64::from(u8::from(answers))));
    if answers {
        // What was learned of the budget until then is told.
        let _ = timeout(PATIENCE, budget(&house, &mut now)).await;
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], service.counts.text(&now))
        .into_response()
}

fn of_the_server(service: &Service, house: &House) -> Vec<Sample> {
    let jobs = service.queue.stats();
    let mut now = vec![
        Sample::with(families::BUILD_INFO, [env!("CARGO_PKG_VERSION")], 1.0),
        Sample::of(families::HTTP_CONNECTIONS, count(service.crowd.count())),
        Sample::of(families::HTTP_BODY_BYTES, count(service.bodies.held(BYTES))),
        Sample::of(families::JOBS_WAITING, count(jobs.waiting)),
        Sample::of(families::JOBS_RUNNING, count(jobs.running)),
    ];
    now.extend(Refusal::ALL.map(|why| {
        let total = u32::try_from(house.ingest.refusals().total(why)).unwrap_or(u32::MAX);
        Sample::with(families::HTTP_REFUSED, [why.as_str()], f64::from(total))
    }));
    now
}

/// Which models and servers are left alone for a while.
fn left_alone(worker: &Worker) -> Vec<Sample> {
    let models = match &worker.mind {
        Mind::Model(model) => model.left_alone(),
        Mind::None { .. } => Vec::new(),
    };
    let of =
        |family, name: &str, left_alone: bool| Sample::with(family, [name], f64::from(u8::from(left_alone)));
    let models = models.into_iter().map(|(model, is)| of(families::MODEL_LEFT_ALONE, &model.to_string(), is));
    let servers = worker.tools.left_alone();
    models.chain(servers.iter().map(|(name, is)| of(families::SERVER_LEFT_ALONE, name, *is))).collect()
}

/// What of each limit is used, and left.
async fn budget(house: &House, now: &mut Vec<Sample>) {
    let ports = &house.worker.ports;
    let of_cards = house.settings.cards.iter().map(|card| (Scope::Card(card.name.clone()), card.budget));
    let scopes = std::iter::once((Scope::Overall, house.settings.budget)).chain(of_cards);
    for (scope, limits) in scopes.filter(|(_, limits)| !limits.is_none()).take(MOST_SCOPES) {
        match ports.store.spent(&scope, ports.clock.now()).await {
            Ok(Some(spent)) => now.extend(of_scope(&scope, limits, &spent)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%scope, %error, "what is spent cannot be read"),
        }
    }
}

fn of_scope(scope: &Scope, limits: Limits, spent: &Spent) -> Vec<Sample> {
    let scope = match scope {
        Scope::Overall => "overall".to_owned(),
        Scope::Card(card) => format!("card:{card}"),
    };
    let mut samples = Vec::new();
    let windows = [
        (Window::Hour, limits.per_hour, limits.usd_per_hour),
        (Window::Day, limits.per_day, limits.usd_per_day),
    ];
    for (window, investigations, usd) in windows {
        let Amount { investigations: counted, usd: paid } = spent.of(window);
        let name = window.to_string();
        let labels = [scope.as_str(), name.as_str()];
        let of = |family, value| Sample::with(family, labels, value);
        if let Some(most) = investigations {
            samples.push(of(families::BUDGET_INVESTIGATIONS_USED, counted.into()));
            samples.push(of(families::BUDGET_INVESTIGATIONS_LEFT, most.saturating_sub(counted).into()));
        }
        if let Some(most) = usd {
            let left = MicroUsd(most.0.saturating_sub(paid.0));
            samples.push(of(families::BUDGET_USD_USED, paid.as_usd()));
            samples.push(of(families::BUDGET_USD_LEFT, left.as_usd()));
        }
    }
    samples
}

/// What is counted here is far below the billions from which on a float is not exact.
fn count(n: usize) -> f64 {
    u32::try_from(n).unwrap_or(u32::MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_budget_only_the_limits_that_are_configured_are_told() {
        let limits =
            Limits { per_hour: Some(5), usd_per_day: Some(MicroUsd(2_500_000)), ..Limits::default() };
        let hour = Amount { investigations: 7, usd: MicroUsd(500_000) };
        let spent = Spent { hour, day: Amount { investigations: 9, usd: MicroUsd(1_000_000) } };
        let scope = Scope::Card("payments".to_owned());
        let told: Vec<_> = of_scope(&scope, limits, &spent)
            .into_iter()
            .map(|s| format!("{} {} {}", s.family.name, s.labels.join(" "), s.value))
            .collect();
        assert_eq!(
            told,
            [
                "sentinel_budget_investigations_used card:payments hour 7",
                "sentinel_budget_investigations_left card:payments hour 0",
                "sentinel_budget_usd_used card:payments day 1",
                "sentinel_budget_usd_left card:payments day 1.5",
            ]
        );
    }
}
