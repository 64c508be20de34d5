//! Measurements added up in memory, and written in Prometheus's text format (version 0.0.4): what `/metrics` gives.
//!
//! It is bounded: a family has at most [`MOST_SERIES`] sets of label values, and whatever comes later is counted under
//! [`OTHER`]. Label values are cut and lack control characters, so that no name of a server's tool breaks a line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sentinel_core::report::{ReportSource, Verdict};

use crate::families::{self, FAMILIES, Family, Kind};
use crate::metrics::Metric;

/// The most sets of label values of one family.
pub const MOST_SERIES: usize = 100;
/// The label value of what came after those.
pub const OTHER: &str = "other";
/// The longest label value, in characters.
const MOST_CHARACTERS: usize = 100;

/// A value that is looked up when `/metrics` is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Whose.
    pub family: Family,
    /// The values of its labels, in the family's order.
    pub labels: Vec<String>,
    /// The value.
    pub value: f64,
}

impl Sample {
    /// One without labels.
    pub const fn of(family: Family, value: f64) -> Self {
        Self { family, labels: Vec::new(), value }
    }

    /// One with label values, in the family's order.
    pub fn with<'l>(family: Family, labels: impl IntoIterator<Item = &'l str>, value: f64) -> Self {
        Self { family, labels: labels.into_iter().map(str::to_owned).collect(), value }
    }
}

/// What one set of label values has come to.
#[derive(Clone, Debug)]
enum Value {
    Number(f64),
    /// How many were in each bucket, not cumulated, the last without a bound; and their sum.
    Spread {
        buckets: Vec<u64>,
        sum: f64,
    },
}

impl Value {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter | Kind::Gauge => Self::Number(0.0),
            Kind::Histogram(bounds) => Self::Spread { buckets: vec![0; bounds.len() + 1], sum: 0.0 },
        }
    }

    /// What is no number, or would make a counter shrink, is left out.
    fn take(&mut self, kind: Kind, amount: f64) {
        if !amount.is_finite() {
            return;
        }
        match (self, kind) {
            (Self::Number(number), Kind::Gauge) => *number = amount,
            (Self::Number(number), _) => *number += amount.max(0.0),
            (Self::Spread { buckets, sum }, Kind::Histogram(bounds)) => {
                let at = bounds.iter().position(|bound| amount <= *bound).unwrap_or(bounds.len());
                if let Some(count) = buckets.get_mut(at) {
                    *count += 1;
                }
                *sum += amount.max(0.0);
            }
            (Self::Spread { .. }, _) => {}
        }
    }
}

type Series = BTreeMap<Vec<String>, Value>;

/// Where values of these labels are kept: under themselves while there is room, else under [`OTHER`].
fn place<'s>(series: &'s mut Series, family: &Family, labels: &[String]) -> &'s mut Value {
    let mut labels: Vec<String> = labels.iter().map(|label| clean(label)).collect();
    labels.resize(family.labels.len(), String::new());
    if !series.contains_key(&labels) && series.len() >= MOST_SERIES {
        labels.fill(OTHER.to_owned());
    }
    series.entry(labels).or_insert_with(|| Value::new(family.kind))
}

/// A label value as it is kept: short, and on one line.
fn clean(value: &str) -> String {
    value.chars().take(MOST_CHARACTERS).map(|c| if c.is_control() { '_' } else { c }).collect()
}

/// What a process has measured since its start. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Counts(Arc<Mutex<BTreeMap<&'static str, Series>>>);

impl Default for Counts {
    /// Nothing is measured yet. What is sure to be counted begins at zero, so that its first increase is seen as one.
    fn default() -> Self {
        let counts = Self(Arc::default());
        let without_labels = FAMILIES.iter().filter(|f| f.labels.is_empty() && f.kind != Kind::Gauge);
        for family in without_labels {
            place(counts.all().entry(family.name).or_default(), family, &[]);
        }
        for outcome in ["accepted", "duplicate", "unmatched", "refused"] {
            counts.add(&families::ALERTS, &[outcome.to_owned()], 0.0);
        }
        for status in ["400", "401", "403", "413", "415"] {
            counts.add(&families::WEBHOOKS_REFUSED, &[status.to_owned()], 0.0);
        }
        counts
    }
}

impl Counts {
    /// Nothing panics while it holds the lock.
    fn all(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, family: &Family, labels: &[String], amount: f64) {
        place(self.all().entry(family.name).or_default(), family, labels).take(family.kind, amount);
    }

    pub(crate) fn take(&self, metric: &Metric) {
        for (family, labels, amount) in metric.counted() {
            self.add(&family, &labels, amount);
        }
    }

    /// Everything in Prometheus's text format, with what was looked up just now.
    pub fn text(&self, now: &[Sample]) -> String {
        let mut all = self.all().clone();
        for Sample { family, labels, value } in now {
            let value_of = place(all.entry(family.name).or_default(), family, labels);
            // A total that somebody else counts stands as it is.
            *value_of = Value::Number(*value);
        }
        let mut text = String::new();
        for family in FAMILIES {
            // Writing to a string does not fail.
            let _ = writeln!(text, "# HELP {} {}", family.name, family.help.replace('\\', "\\\\"));
            let _ = writeln!(text, "# TYPE {} {}", family.name, family.kind.as_str());
            for (labels, value) in all.get(family.name).into_iter().flatten() {
                write(&mut text, family, labels, value);
            }
        }
        text
    }
}

fn write(text: &mut String, family: &Family, labels: &[String], value: &Value) {
    let pairs =
        family.labels.iter().zip(labels).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    let pairs: Vec<String> = pairs.collect();
    let (name, own) = (family.name, braces(&pairs));
    match (value, family.kind) {
        (Value::Number(number), _) => {
            let _ = writeln!(text, "{name}{own} {number}");
        }
        (Value::Spread { buckets, sum }, Kind::Histogram(bounds)) => {
            let mut count = 0;
            let bounds = bounds.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
            for (bound, of_bucket) in bounds.zip(buckets) {
                count += of_bucket;
                let le = [pairs.as_slice(), &[format!("le=\"{bound}\"")]].concat();
                let _ = writeln!(text, "{name}_bucket{} {count}", braces(&le));
            }
            let _ = writeln!(text, "{name}_sum{own} {sum}\n{name}_count{own} {count}");
        }
        (Value::Spread { .. }, _) => {}
    }
}

fn braces(pairs: &[String]) -> String {
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// One change of one series.
type Counted = (Family, Vec<String>, f64);

impl Metric {
    /// What it changes on `/metrics`: at least one family.
    pub(crate) fn counted(&self) -> Vec<Counted> {
        use families as f;
        let one = |family: Family, amount: f64| vec![(family, Vec::new(), amount)];
        let by = |family: Family, label: &str, amount: f64| vec![(family, vec![label.to_owned()], amount)];
        match self {
            Self::AlertsReceived(n) => one(f::ALERTS_RECEIVED, float(*n)),
            Self::AlertsAccepted(n) => by(f::ALERTS, "accepted", float(*n)),
            Self::Duplicates(n) => by(f::ALERTS, "duplicate", float(*n)),
            Self::Unmatched(n) => by(f::ALERTS, "unmatched", float(*n)),
            Self::Refused(n) => by(f::ALERTS, "refused", float(*n)),
            Self::AlertToClaim(took) => one(f::ALERT_TO_CLAIM, took.as_secs_f64()),
            Self::ClaimToStart(took) => one(f::CLAIM_TO_START, took.as_secs_f64()),
            Self::StartToReport(took) => one(f::INVESTIGATION_DURATION, took.as_secs_f64()),
            Self::Turns(n) => one(f::TURNS, float(*n)),
            Self::Turn(took) => one(f::TURN_DURATION, took.as_secs_f64()),
            Self::Tool { server, tool, took } => of_a_tool(server, tool, *took),
            Self::RefusedCall { reason } => by(f::TOOL_CALLS_REFUSED, reason, 1.0),
            Self::ModelRefused => one(f::MODEL_REFUSALS, 1.0),
            Self::Tokens(n) => one(f::TOKENS, float(*n)),
            Self::Usd(usd) => one(f::COST, *usd),
            Self::BudgetExhausted => one(f::BUDGET_EXHAUSTED, 1.0),
            Self::Retries(n) => one(f::INVESTIGATION_RETRIES, float(*n)),
            Self::SinkResult { sink, result } => {
                vec![(f::SINK_RESULTS, vec![sink.clone(), result.as_str().to_owned()], 1.0)]
            }
            Self::Sent(n) => one(f::JOBS_SENT_AGAIN, float(*n)),
            Self::Webhooks => one(f::WEBHOOKS, 1.0),
            Self::RefusedWebhook { status } => by(f::WEBHOOKS_REFUSED, &status.to_string(), 1.0),
            Self::WebhookPutOff => one(f::WEBHOOKS_PUT_OFF, 1.0),
            Self::InvestigationFailed => one(f::INVESTIGATIONS_FAILED, 1.0),
            Self::SinkRefused => one(f::SINK_REFUSALS, 1.0),
            Self::JobFailed => one(f::JOBS_FAILED, 1.0),
            Self::OldestDue(since) => one(f::OLDEST_DUE, since.as_secs_f64()),
            Self::Throttled(n) => one(f::AWS_THROTTLED, float(*n)),
            Self::SecretsStale => one(f::SECRETS_STALE, 1.0),
            Self::ConfigurationRefused => one(f::CONFIGURATION_REFUSED, 1.0),
            Self::Concluded { verdict, source } => {
                vec![(f::INVESTIGATIONS, vec![verdict_label(*verdict), source_label(*source)], 1.0)]
            }
        }
    }
}

/// The time of a call by its server alone: a histogram of each tool would be many series.
fn of_a_tool(server: &str, tool: &str, time: Duration) -> Vec<Counted> {
    vec![
        (families::TOOL_CALLS, vec![server.to_owned(), tool.to_owned()], 1.0),
        (families::TOOL_CALL_DURATION, vec![server.to_owned()], time.as_secs_f64()),
    ]
}

fn verdict_label(verdict: Verdict) -> String {
    verdict.to_string()
}

fn source_label(source: ReportSource) -> String {
    match source {
        ReportSource::Model => "model",
        ReportSource::EvidenceOnly => "evidence_only",
        ReportSource::Recorded => "recorded",
    }
    .to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus's values are floats")]
const fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{Metrics, SinkOutcome};

    fn counted(metrics: &[Metric]) -> String {
        let counts = Counts::default();
        Metrics::counted_in(&counts).emit(0, metrics);
        counts.text(&[])
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }

    #[test]
    fn measurements_add_up_and_the_last_value_of_a_gauge_stands() {
        let tool = |ms| Metric::Tool {
            server: "k8s".into(),
            tool: "pods_get".into(),
            took: Duration::from_millis(ms),
        };
        let text = counted(&[
            Metric::AlertsReceived(3),
            Metric::AlertsReceived(2),
            Metric::Unmatched(1),
            Metric::Usd(0.25),
            Metric::Usd(f64::NAN),
            Metric::OldestDue(Duration::from_mins(5)),
            Metric::OldestDue(Duration::from_secs(7)),
            tool(100),
            tool(700),
            tool(600_000),
            Metric::SinkResult { sink: "slack:oncall".into(), result: SinkOutcome::Retry },
            Metric::Concluded { verdict: Verdict::NoAction, source: ReportSource::EvidenceOnly },
        ]);
        for line in [
            "# TYPE sentinel_alerts_received_total counter",
            "sentinel_alerts_received_total 5",
            "sentinel_alerts_total{outcome=\"unmatched\"} 1",
            "sentinel_alerts_total{outcome=\"duplicate\"} 0",
            "sentinel_cost_usd_total 0.25",
            "sentinel_oldest_due_seconds 7",
            "sentinel_tool_calls_total{server=\"k8s\",tool=\"pods_get\"} 3",
            "# TYPE sentinel_tool_call_duration_seconds histogram",
            "sentinel_tool_call_duration_seconds_bucket{server=\"k8s\",le=\"0.1\"} 1",
            "sentinel_tool_call_duration_seconds_bucket{server=\"k8s\",le=\"1\"} 2",
            "sentinel_tool_call_duration_seconds_bucket{server=\"k8s\",le=\"300\"} 2",
            "sentinel_tool_call_duration_seconds_bucket{server=\"k8s\",le=\"+Inf\"} 3",
            "sentinel_tool_call_duration_seconds_count{server=\"k8s\"} 3",
            "sentinel_sink_results_total{sink=\"slack:oncall\",result=\"retry\"} 1",
            "sentinel_investigations_total{verdict=\"no_action\",source=\"evidence_only\"} 1",
            // What nothing was measured of begins at zero.
            "sentinel_investigations_failed_total 0",
            "sentinel_turn_duration_seconds_count 0",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn every_measurement_is_of_a_family_in_the_list_with_as_many_labels() {
        for metric in Metric::each() {
            let counted = metric.counted();
            assert!(!counted.is_empty(), "{metric:?} is not on /metrics");
            for (family, labels, _) in counted {
                assert!(FAMILIES.contains(&family), "{}", family.name);
                assert_eq!(labels.len(), family.labels.len(), "{}", family.name);
            }
        }
        let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            let is_total = family.name.ends_with("_total");
            assert_eq!(is_total, family.kind == Kind::Counter, "{}", family.name);
            assert!(family.name.starts_with("sentinel_") && !family.help.contains('\n'), "{}", family.name);
        }
    }

    #[test]
    fn ten_thousand_hostile_names_neither_break_a_line_nor_grow_it_beyond_its_bound() {
        let hostile = |n: usize| Metric::Tool {
            server: "s\"} 1\n# TYPE evil counter\nevil 1\r\u{1b}\\".into(),
            tool: format!("t{n}\n\"\\{}", "x".repeat(10_000)),
            took: Duration::ZERO,
        };
        let text = counted(&(0..10_000).map(hostile).collect::<Vec<_>>());
        let of_calls: Vec<&str> =
            text.lines().filter(|line| line.starts_with("sentinel_tool_calls_total{")).collect();
        assert_eq!(of_calls.len(), MOST_SERIES + 1);
        has(&text, "sentinel_tool_calls_total{server=\"other\",tool=\"other\"} 9900");
        assert!(text.len() < 100_000, "{} bytes", text.len());
        assert!(text.lines().all(|l| l.starts_with("sentinel_") || l.starts_with("# ")), "{text}");
        assert!(!text.contains("\nevil") && !text.contains(['\r', '\u{1b}']), "{text}");
        let first = of_calls.iter().find(|line| line.contains("tool=\"t0_")).unwrap();
        assert!(first.starts_with("sentinel_tool_calls_total{server=\"s\\\"} 1_# TYPE"), "{first}");
    }

    #[test]
    fn what_is_looked_up_stands_among_the_rest_and_is_bounded_like_it() {
        let samples: Vec<Sample> = (0..500)
            .map(|n| Sample::with(families::MODEL_LEFT_ALONE, [format!("m{n}").as_str()], 1.0))
            .chain([Sample::of(families::STORE_UP, 1.0), Sample::with(families::HTTP_REFUSED, ["full"], 4.0)])
            .collect();
        let counts = Counts::default();
        for _ in 0..2 {
            let text = counts.text(&samples);
            has(&text, "sentinel_store_up 1");
            has(&text, "sentinel_http_refused_total{reason=\"full\"} 4");
            assert_eq!(text.matches("\nsentinel_model_left_alone{").count(), MOST_SERIES + 1);
        }
        assert!(!counts.text(&[]).contains("\nsentinel_store_up "), "it is not kept");
    }
}
