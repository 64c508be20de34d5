//! Polls Prometheus and Alertmanager for firing alerts: for people whose Alertmanager posts no webhook, or who have none.
//!
//! [`Watcher::poll`] asks once and hands what fires to the very same [`intake`] that a webhook goes through. `sentinel
//! up` calls it each `poll-interval`; on Lambda a schedule does, each minute at least.
//!
//! * **No firing alert is lost.** Everything that fires is told at each poll; what was told before is a duplicate.
//! * **No end is invented.** An alert that was told before and that the server no longer knows is resolved, as of this
//!   poll. Nothing is resolved by a poll that failed, by an answer of which a part could not be read, or while the server
//!   is younger than five minutes: a restarted Prometheus has not evaluated its rules yet, and a restarted
//!   Alertmanager has not heard of its alerts again. Alerts that are pending, silenced or inhibited are neither told nor
//!   over.
//! * **What was told is remembered over restarts.** The first poll of a process (on Lambda, after a cold start) looks in
//!   the store for what this watcher told and what still fires there: what ended meanwhile is resolved like all else.

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod endpoint;
pub mod lambda;
mod recall;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use sentinel_config::Watcher as Settings;
use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::card::Card;
use sentinel_core::drive::DriveError;
use sentinel_core::intake::{Receipt, intake};
use sentinel_core::notification::{Envelope, Message, Source};
use sentinel_core::ports::Ports;
use sentinel_core::redact::Redactor;
use sentinel_http::{HttpClient, HttpError, read_body};
use sentinel_telemetry::{Metric, Metrics};
use thiserror::Error;
use url::Url;

use endpoint::Addresses;
use recall::{Altered, Recalled};
use wire::Polled;

/// The most bytes of an answer that are read.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// A server that has run for less knows too little to say that an alert is over: rules are evaluated each minute by
/// default, and Prometheus sends a firing alert again each minute.
const SETTLED_AFTER: Duration = Duration::from_mins(5);

/// Why a poll brought nothing. Nothing was resolved by it; the next poll asks again.
#[derive(Debug, Error)]
pub enum WatchError {
    /// No answer came.
    #[error("{0}")]
    Http(#[from] HttpError),
    /// It came, with a status that means failure.
    #[error("the server answers with status {0}")]
    Status(u16),
    /// It is none.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
    /// The store or the queue failed: some alerts may be stored, all are told again.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

impl WatchError {
    /// Whether the same poll may work later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Http(error) => error.is_retryable(),
            Self::Status(status) => *status >= 500 || matches!(status, 408 | 429),
            Self::Unreadable(_) => false,
            Self::Drive(error) => error.is_retryable(),
        }
    }
}

/// One server that is asked for its alerts.
pub struct Watcher {
    settings: Settings,
    addresses: Addresses,
    http: Arc<HttpClient>,
    ports: Ports,
    cards: Arc<[Card]>,
    /// What was told and is not over, by its labels.
    told: BTreeMap<Labels, Alert>,
    /// What an earlier process told and is not over, of which the store does not hold the labels as they were sent.
    altered: Vec<Altered>,
    /// Whether what an earlier process told is among both.
    recalled: bool,
    redactor: Redactor,
    metrics: Metrics,
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, told, .. } = self;
        f.debug_struct("Watcher")
            .field("settings", settings)
            .field("told", &told.len())
            .finish_non_exhaustive()
    }
}

impl Watcher {
    /// Asks as `settings` say, on behalf of these cards, and keeps of the answers what `redactor` leaves.
    pub fn new(
        settings: Settings,
        http: Arc<HttpClient>,
        ports: Ports,
        cards: Arc<[Card]>,
        redactor: Redactor,
    ) -> Self {
        let addresses = endpoint::addresses(settings.kind, &settings.endpoint);
        Self {
            settings,
            addresses,
            http,
            ports,
            cards,
            told: BTreeMap::new(),
            altered: Vec::new(),
            recalled: false,
            redactor,
            metrics: Metrics::off(),
        }
    }

    /// Counts what it does in `metrics`, as a webhook's alerts are counted: each poll counts all that fires.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// How often it is to be polled where nothing else sets the pace.
    pub fn interval(&self) -> Duration {
        self.settings.poll_interval
    }

    /// Asks once, and takes in what fires and what is over.
    ///
    /// # Errors
    /// [`WatchError`]. Polling again is harmless.
    pub async fn poll(&mut self) -> Result<Receipt, WatchError> {
        let Some(body) = self.get(&self.addresses.alerts).await? else {
            return Err(WatchError::Status(StatusCode::NOT_FOUND.as_u16()));
        };
        let Polled { firing, known, refused } =
            wire::alerts(self.settings.kind, &body).map_err(WatchError::Unreadable)?;
        let now = self.ports.clock.now();
        let firing: Vec<Alert> = firing.into_iter().filter(|alert| self.wants(alert)).collect();
        if !self.recalled {
            let told = recall::told(self.ports.store.as_ref(), &self.cards, self.name()).await;
            Recalled { told: self.told, altered: self.altered } = told.map_err(DriveError::from)?;
            self.recalled = true;
        }
        let mut gone: Vec<Labels> =
            self.told.keys().filter(|labels| !known.contains(*labels)).cloned().collect();
        let (here, mut ended): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.altered).into_iter().partition(|alert| alert.is_among(&known));
        // An alert that could not be read may be any of them.
        let any = !gone.is_empty() || !ended.is_empty();
        if any && (!refused.is_empty() || !self.is_settled(now).await?) {
            gone.clear();
            self.altered.append(&mut ended);
        }
        // What fires is told below, and known by its labels from then on; what does not may do so again.
        let fires: BTreeSet<Labels> = firing.iter().map(|alert| alert.labels.clone()).collect();
        self.altered.extend(here.into_iter().filter(|alert| !alert.is_among(&fires)));
        let over = gone.iter().filter_map(|labels| self.told.get(labels)).map(|alert| resolved(alert, now));
        let alerts: Vec<Alert> = firing.iter().cloned().chain(over).collect();
        // Also where the store fails in the middle: what it holds by then has to be resolved some day.
        self.told.extend(firing.into_iter().map(|alert| (alert.labels.clone(), alert)));
        let mut receipt = if alerts.is_empty() && refused.is_empty() {
            Receipt::default()
        } else {
            let message = Message { envelope: self.envelope(&alerts), alerts, refused };
            intake(&self.ports, &self.cards, &self.redactor, &message).await?
        };
        while let Some(alert) = ended.pop() {
            match alert.end(&self.ports, now).await {
                Ok(taken) => receipt.count(taken),
                Err(error) => {
                    self.altered.push(alert);
                    self.altered.append(&mut ended);
                    return Err(error.into());
                }
            }
        }
        for labels in &gone {
            self.told.remove(labels);
        }
        self.log(&receipt);
        self.metrics.emit(now.get(), &counted(&receipt));
        Ok(receipt)
    }

    /// Whether an alert is of a resource that this watcher looks for, and of any card at all: a server is full of alerts
    /// that are nobody's business here.
    fn wants(&self, alert: &Alert) -> bool {
        let wanted = &self.settings.resources;
        let mut cards = self.cards.iter().map(|card| &card.resource);
        cards.any(|resource| {
            (wanted.is_empty() || wanted.contains(&resource.name)) && resource.matches(&alert.labels)
        })
    }

    /// Whether the server has run long enough for what it does not know to be over. One that does not say when it was
    /// started is taken at its word.
    async fn is_settled(&self, now: UnixMs) -> Result<bool, WatchError> {
        let Some(body) = self.get(&self.addresses.status).await? else { return Ok(true) };
        let started = wire::started(self.settings.kind, &body);
        Ok(started.is_none_or(|started| now.since(started) >= SETTLED_AFTER))
    }

    /// The body of an answer; `None`: there is nothing at that address.
    async fn get(&self, url: &Url) -> Result<Option<Vec<u8>>, WatchError> {
        self.http.check_url(url)?;
        let request = self.http.client()?.get(url.clone()).timeout(self.settings.timeout);
        let response = request.send().await.map_err(|e| HttpError::from(&e))?;
        match response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(WatchError::Status(status.as_u16())),
        }
        Ok(Some(read_body(response, MAX_BODY_BYTES).await?))
    }

    fn envelope(&self, alerts: &[Alert]) -> Envelope {
        Envelope {
            source: Source::Watcher,
            receiver: self.settings.name.clone(),
            group_labels: Labels::new(),
            common_labels: shared(alerts, |alert| &alert.labels),
            common_annotations: shared(alerts, |alert| &alert.annotations),
            group_key: None,
            external_url: Some(self.settings.endpoint.origin().ascii_serialization()),
            reason: None,
            truncated_alerts: 0,
            verified_by: Some("watcher".to_owned()),
        }
    }

    /// Says what a poll brought, where it brought anything new.
    fn log(&self, receipt: &Receipt) {
        let Receipt { accepted, duplicates, joined, resolved, suppressed, refused, .. } = *receipt;
        let watcher = self.name();
        if refused > 0 {
            let path = receipt.refusals.first().map(|refusal| refusal.path.as_str());
            tracing::warn!(watcher, refused, path, "alerts that cannot be read");
        }
        if accepted + joined + resolved + suppressed > 0 {
            tracing::info!(watcher, accepted, duplicates, joined, resolved, suppressed, "alerts taken");
        } else {
            tracing::debug!(watcher, duplicates, "nothing new");
        }
    }
}

fn counted(receipt: &Receipt) -> [Metric; 4] {
    let Receipt { accepted, duplicates, joined, resolved, suppressed, unmatched, refused, .. } = *receipt;
    let received = accepted + duplicates + joined + resolved + suppressed + unmatched + refused;
    [
        Metric::AlertsReceived(received),
        Metric::AlertsAccepted(accepted),
        Metric::Duplicates(duplicates),
        Metric::Refused(refused),
    ]
}

/// The end of an alert, noticed now; where clocks differ, not before its beginning.
fn resolved(alert: &Alert, now: UnixMs) -> Alert {
    Alert {
        status: AlertStatus::Resolved,
        ends_at: Some(alert.starts_at.map_or(now, |began| began.max(now))),
        ends_at_is_receipt: true,
        ..alert.clone()
    }
}

/// What all alerts share, with the same value.
fn shared(alerts: &[Alert], of: fn(&Alert) -> &Labels) -> Labels {
    let Some((first, others)) = alerts.split_first() else { return Labels::new() };
    let mut shared = of(first).clone();
    shared.retain(|name, value| others.iter().all(|other| of(other).get(name) == Some(value)));
    shared
}
