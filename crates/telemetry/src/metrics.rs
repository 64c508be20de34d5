//! Measurements, and where they go: added up in memory for `/metrics` ([`Counts`]), or written as log lines in `CloudWatch`'s
//! embedded metric format, so that no agent and no API call is needed.
//!
//! One JSON line an event and a set of dimensions. On Lambda, what is written to standard output reaches `CloudWatch`
//! Logs, which reads the metrics out of it. Format: "Specification: Embedded metric format" in the `CloudWatch` user
//! guide; its limits are at most 100 metrics a directive, 100 values a metric and 30 dimensions.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::report::{ReportSource, Verdict};
use serde_json::{Map, Number, Value, json};

use crate::counts::Counts;

/// The namespace of all metrics; the dashboard and the alarms name it.
pub const NAMESPACE: &str = "Sentinel";
/// The dimension of all metrics of a deployment that has a name: it keeps two of one account and region apart.
pub const STACK: &str = "Stack";
/// The most values of one metric in one line.
const MAX_VALUES: usize = 100;
/// The longest dimension value that is written, in characters; `CloudWatch` takes 1024.
const MAX_DIMENSION: usize = 250;

/// One measurement. What has no dimension here must not get one: each value of a dimension is a metric of its own, and
/// is paid for.
#[derive(Clone, PartialEq, Debug)]
pub enum Metric {
    /// `AlertsReceived`: alerts of a readable notification. A notification that is sent again counts again.
    AlertsReceived(u64),
    /// `AlertsAccepted`: alerts whose incident was opened.
    AlertsAccepted(u64),
    /// `Duplicates`: alerts that brought nothing new.
    Duplicates(u64),
    /// `Unmatched`: alerts that no card takes.
    Unmatched(u64),
    /// `Refused`: alerts that could not be read, and requests that were refused as a whole, one each.
    Refused(u64),
    /// `AlertToClaimMs`: from the opening of the generation to its first claim, the card's `wait` included.
    AlertToClaim(Duration),
    /// `ClaimToStartMs`: from a claim to the beginning of its investigation.
    ClaimToStart(Duration),
    /// `StartToReportMs`: from the beginning of an investigation to its report, over all attempts.
    StartToReport(Duration),
    /// `Turns`: model turns of an investigation.
    Turns(u64),
    /// `ToolMs`, by `Server` and `Tool`: how long a tool call took.
    Tool {
        /// The server's name in the configuration.
        server: String,
        /// The tool's name on that server.
        tool: String,
        /// How long the call took.
        took: Duration,
    },
    /// `RefusedCalls`, by `Reason`: a tool call that was asked for and not made.
    RefusedCall {
        /// Why, one of a few labels.
        reason: &'static str,
    },
    /// `ModelRefusals`: a model's service did not take a request, and would not take it later.
    ModelRefused,
    /// `Tokens`: tokens sent and received by an investigation.
    Tokens(u64),
    /// `Usd`: what an investigation cost, in US dollars.
    Usd(f64),
    /// `BudgetExhausted`: investigations that ended on their evidence alone because the budget was used up.
    BudgetExhausted,
    /// `Retries`: claims of an investigation that an earlier attempt had begun and not ended.
    Retries(u64),
    /// `SinkResults`, by `Sink` and `Result`: one try to tell a destination.
    SinkResult {
        /// The sink's name as the card gives it.
        sink: String,
        /// What came of it.
        result: SinkOutcome,
    },
    /// `Sent`: jobs that the sweeper sent again.
    Sent(u64),
    /// `Webhooks`: webhooks that were taken: each one's 200.
    Webhooks,
    /// `RefusedWebhooks`, by `Status`: requests that were answered with a 4xx.
    RefusedWebhook {
        /// The answer's status.
        status: u16,
    },
    /// `WebhooksPutOff`: webhooks that were answered with a 503, because the store, the queue or the secret store did not do
    /// its part.
    WebhookPutOff,
    /// `InvestigationsFailed`: investigations that were given up without a report.
    InvestigationFailed,
    /// `SinkRefusals`: tries to tell a destination that will never work: a token that was revoked, a channel that is gone.
    /// One metric for all sinks; `SinkResults` says which.
    SinkRefused,
    /// `JobsFailed`: messages that went back to the queue because the store or the queue did not do its part.
    JobFailed,
    /// `OldestDueSeconds`: how long the incident that is due and waits longest has been due; 0: none is. Once a sweep, so that
    /// its number of samples says how often the sweeper ran.
    OldestDue(Duration),
    /// `Throttled`: attempts of calls to AWS that were throttled, those that went well at a later attempt too. None is not
    /// written.
    Throttled(u64),
    /// `SecretsStale`: secrets were used on beyond their five minutes because the secret store did not answer.
    SecretsStale,
    /// `ConfigurationRefused`: a changed configuration is broken or could not be read, and the one before is used on.
    ConfigurationRefused,
    /// `TurnMs`: how long a model took to answer. On `/metrics` alone.
    Turn(Duration),
    /// `Investigations`: a report that is committed. On `/metrics` alone.
    Concluded {
        /// What it says.
        verdict: Verdict,
        /// Who concluded it.
        source: ReportSource,
    },
}

/// What came of one try to tell a destination: the values of the dimension `Result`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SinkOutcome {
    /// `sent`
    Sent,
    /// `retry`: it failed, and is tried again while tries are left.
    Retry,
    /// `refused`: it will never work.
    Refused,
}

impl SinkOutcome {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retry => "retry",
            Self::Refused => "refused",
        }
    }
}

/// Name and value of each dimension.
type Dimensions = Vec<(&'static str, String)>;

impl Metric {
    /// Name, unit (of `CloudWatch`'s list) and value; without a value it is not written.
    fn measured(&self) -> (&'static str, &'static str, Option<Number>) {
        match self {
            Self::AlertsReceived(n) => ("AlertsReceived", "Count", Some((*n).into())),
            Self::AlertsAccepted(n) => ("AlertsAccepted", "Count", Some((*n).into())),
            Self::Duplicates(n) => ("Duplicates", "Count", Some((*n).into())),
            Self::Unmatched(n) => ("Unmatched", "Count", Some((*n).into())),
            Self::Refused(n) => ("Refused", "Count", Some((*n).into())),
            Self::AlertToClaim(took) => ("AlertToClaimMs", "Milliseconds", Some(ms(*took))),
            Self::ClaimToStart(took) => ("ClaimToStartMs", "Milliseconds", Some(ms(*took))),
            Self::StartToReport(took) => ("StartToReportMs", "Milliseconds", Some(ms(*took))),
            Self::Turns(n) => ("Turns", "Count", Some((*n).into())),
            Self::Tool { took, .. } => ("ToolMs", "Milliseconds", Some(ms(*took))),
            Self::RefusedCall { .. } => ("RefusedCalls", "Count", Some(1.into())),
            Self::ModelRefused => ("ModelRefusals", "Count", Some(1.into())),
            Self::Tokens(n) => ("Tokens", "Count", Some((*n).into())),
            // What is no number has no place in JSON.
            Self::Usd(usd) => ("Usd", "None", Number::from_f64(*usd)),
            Self::BudgetExhausted => ("BudgetExhausted", "Count", Some(1.into())),
            Self::Retries(n) => ("Retries", "Count", Some((*n).into())),
            Self::SinkResult { .. } => ("SinkResults", "Count", Some(1.into())),
            Self::Sent(n) => ("Sent", "Count", Some((*n).into())),
            Self::Webhooks => ("Webhooks", "Count", Some(1.into())),
            Self::RefusedWebhook { .. } => ("RefusedWebhooks", "Count", Some(1.into())),
            Self::WebhookPutOff => ("WebhooksPutOff", "Count", Some(1.into())),
            Self::InvestigationFailed => ("InvestigationsFailed", "Count", Some(1.into())),
            Self::SinkRefused => ("SinkRefusals", "Count", Some(1.into())),
            Self::JobFailed => ("JobsFailed", "Count", Some(1.into())),
            Self::OldestDue(since) => ("OldestDueSeconds", "Seconds", Some(since.as_secs().into())),
            Self::Throttled(n) => ("Throttled", "Count", (*n > 0).then(|| (*n).into())),
            Self::SecretsStale => ("SecretsStale", "Count", Some(1.into())),
            Self::ConfigurationRefused => ("ConfigurationRefused", "Count", Some(1.into())),
            Self::Turn(_) => ("TurnMs", "Milliseconds", None),
            Self::Concluded { .. } => ("Investigations", "Count", None),
        }
    }

    fn dimensions(&self) -> Dimensions {
        match self {
            Self::Tool { server, tool, .. } => {
                vec![("Server", dimension(server)), ("Tool", dimension(tool))]
            }
            Self::RefusedCall { reason } => vec![("Reason", dimension(reason))],
            Self::SinkResult { sink, result } => {
                vec![("Sink", dimension(sink)), ("Result", result.as_str().to_owned())]
            }
            Self::RefusedWebhook { status } => vec![("Status", status.to_string())],
            _ => Vec::new(),
        }
    }
}

impl Metric {
    /// One of each.
    pub(crate) fn each() -> Vec<Self> {
        vec![
            Self::AlertsReceived(1),
            Self::AlertsAccepted(1),
            Self::Duplicates(1),
            Self::Unmatched(1),
            Self::Refused(1),
            Self::AlertToClaim(Duration::ZERO),
            Self::ClaimToStart(Duration::ZERO),
            Self::StartToReport(Duration::ZERO),
            Self::Turns(1),
            Self::Tool { server: String::new(), tool: String::new(), took: Duration::ZERO },
            Self::RefusedCall { reason: "" },
            Self::ModelRefused,
            Self::Tokens(1),
            Self::Usd(0.0),
            Self::BudgetExhausted,
            Self::Retries(1),
            Self::SinkResult { sink: String::new(), result: SinkOutcome::Sent },
            Self::Sent(1),
            Self::Webhooks,
            Self::RefusedWebhook { status: 401 },
            Self::WebhookPutOff,
            Self::InvestigationFailed,
            Self::SinkRefused,
            Self::JobFailed,
            Self::OldestDue(Duration::ZERO),
            Self::Throttled(1),
            Self::SecretsStale,
            Self::ConfigurationRefused,
            Self::Turn(Duration::ZERO),
            Self::Concluded { verdict: Verdict::NoAction, source: ReportSource::Model },
        ]
    }
}

/// The name of every metric on `CloudWatch`, and the names of its dimensions beside [`STACK`]: what alarms and dashboards may
/// name there.
pub fn catalogue() -> BTreeMap<&'static str, Vec<&'static str>> {
    let dimensions = |metric: &Metric| metric.dimensions().into_iter().map(|(name, _)| name).collect();
    let each = Metric::each().into_iter().filter(|metric| metric.measured().2.is_some());
    each.map(|metric| (metric.measured().0, dimensions(&metric))).collect()
}

/// For each measurement, by its name on `CloudWatch`, the families in which `/metrics` counts it.
pub fn counted_as() -> BTreeMap<&'static str, Vec<&'static str>> {
    let families = |metric: &Metric| metric.counted().into_iter().map(|(family, ..)| family.name).collect();
    Metric::each().iter().map(|metric| (metric.measured().0, families(metric))).collect()
}

fn ms(took: Duration) -> Number {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into()
}

/// Dimension values are printable ASCII, not empty, and begin with no colon (`CloudWatch` API, `Dimension`).
fn dimension(value: &str) -> String {
    let keep = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '_' };
    let value: String = value.trim().trim_start_matches(':').chars().take(MAX_DIMENSION).map(keep).collect();
    if value.is_empty() { "_".to_owned() } else { value }
}

type WriteLine = Arc<dyn Fn(&str) + Send + Sync>;

/// Where measurements go. Cheap to clone. By default they go nowhere.
#[derive(Clone, Default)]
pub struct Metrics {
    write: Option<WriteLine>,
    stack: Option<String>,
    counts: Option<Counts>,
}

impl Metrics {
    /// Nothing is written.
    pub const fn off() -> Self {
        Self { write: None, stack: None, counts: None }
    }

    /// Everything is added up in `counts`, and nothing is written.
    pub fn counted_in(counts: &Counts) -> Self {
        Self { counts: Some(counts.clone()), ..Self::off() }
    }

    /// Each line goes, in one write, to a writer that `make` gives: `Metrics::to(std::io::stdout)` on Lambda.
    pub fn to<W: Write>(make: impl Fn() -> W + Send + Sync + 'static) -> Self {
        let write: WriteLine = Arc::new(move |line| {
            let mut out = make();
            // Nothing is left to tell that a measurement cannot be written.
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        });
        Self { write: Some(write), ..Self::off() }
    }

    /// Of the deployment of this name: each metric has it as its dimension [`STACK`].
    #[must_use]
    pub fn of_stack(self, name: Option<&str>) -> Self {
        Self { stack: name.filter(|name| !name.is_empty()).map(dimension), ..self }
    }

    /// Whether measurements go anywhere: what is costly to measure may be left out.
    pub const fn is_on(&self) -> bool {
        self.write.is_some() || self.counts.is_some()
    }

    /// Counts or writes what was measured at `at` (milliseconds since the Unix epoch).
    pub fn emit(&self, at: i64, metrics: &[Metric]) {
        if let Some(counts) = &self.counts {
            for metric in metrics {
                counts.take(metric);
            }
        }
        let Some(write) = &self.write else { return };
        for line in lines(at, self.stack.as_deref(), metrics) {
            write(&line);
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Metrics").field(&self.is_on()).finish()
    }
}

/// The measurements of one line: values by name and unit.
type Values = BTreeMap<(&'static str, &'static str), Vec<Number>>;

/// A dimension's value stands at the top of its line, so that each set of values needs a line of its own.
fn lines(at: i64, stack: Option<&str>, metrics: &[Metric]) -> Vec<String> {
    let mut sets: BTreeMap<Dimensions, Vec<Values>> = BTreeMap::new();
    for metric in metrics {
        let (name, unit, Some(value)) = metric.measured() else { continue };
        let stack = stack.map(|stack| (STACK, stack.to_owned()));
        let dimensions = stack.into_iter().chain(metric.dimensions()).collect();
        let pages = sets.entry(dimensions).or_default();
        let has_room = |page: &&mut Values| page.get(&(name, unit)).is_none_or(|v| v.len() < MAX_VALUES);
        match pages.iter_mut().find(has_room) {
            Some(page) => page.entry((name, unit)).or_default().push(value),
            None => pages.push(Values::from([((name, unit), vec![value])])),
        }
    }
    sets.iter().flat_map(|(dimensions, pages)| pages.iter().map(|page| line(at, dimensions, page))).collect()
}

fn line(at: i64, dimensions: &Dimensions, values: &Values) -> String {
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    let metrics: Vec<Value> = values.keys().map(|(name, unit)| json!({"Name": name, "Unit": unit})).collect();
    let mut root = Map::new();
    root.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": at,
            "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": metrics}],
        }),
    );
    for (name, value) in dimensions {
        root.insert((*name).to_owned(), value.clone().into());
    }
    for ((name, _), values) in values {
        let value = match values.as_slice() {
            [one] => Value::Number(one.clone()),
            many => many.iter().cloned().map(Value::Number).collect(),
        };
        root.insert((*name).to_owned(), value);
    }
    let mut line = Value::Object(root).to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    /// Keeps each write apart.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn emitted(metrics: &[Metric]) -> Vec<Value> {
        let kept = Kept::default();
        let out = kept.clone();
        Metrics::to(move || out.clone()).emit(1_795_348_800_000, metrics);
        let lines = kept.0.lock().unwrap();
        lines
            .iter()
            .map(|line| {
                assert_eq!(line.find('\n'), Some(line.len() - 1), "one line in one write: {line:?}");
                serde_json::from_str(line).unwrap()
            })
            .collect()
    }

    fn tool(server: &str, tool: &str, ms: u64) -> Metric {
        Metric::Tool { server: server.into(), tool: tool.into(), took: Duration::from_millis(ms) }
    }

    #[test]
    fn what_has_no_dimension_goes_into_one_line_with_its_units() {
        let lines = emitted(&[
            Metric::AlertsReceived(3),
            Metric::Refused(0),
            Metric::AlertToClaim(Duration::from_millis(1_250)),
            Metric::Usd(0.0125),
        ]);
        assert_eq!(
            lines,
            [json!({
                "_aws": {
                    "Timestamp": 1_795_348_800_000_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Sentinel",
                        "Dimensions": [[]],
                        "Metrics": [
                            {"Name": "AlertToClaimMs", "Unit": "Milliseconds"},
                            {"Name": "AlertsReceived", "Unit": "Count"},
                            {"Name": "Refused", "Unit": "Count"},
                            {"Name": "Usd", "Unit": "None"},
                        ],
                    }],
                },
                "AlertsReceived": 3,
                "Refused": 0,
                "AlertToClaimMs": 1_250,
                "Usd": 0.0125,
            })]
        );
    }

    #[test]
    fn each_set_of_dimensions_is_a_line_with_all_its_values() {
        let lines = emitted(&[
            tool("prom", "query", 5),
            tool("k8s", "pods_get", 7),
            tool("prom", "query", 9),
            Metric::SinkResult { sink: "slack:oncall".into(), result: SinkOutcome::Retry },
        ]);
        let shown: Vec<Value> = lines
            .iter()
            .map(|line| {
                let directive = &line["_aws"]["CloudWatchMetrics"][0];
                let mut shown = line.clone();
                shown["_aws"] = directive["Dimensions"].clone();
                shown
            })
            .collect();
        assert_eq!(
            shown,
            [
                json!({"_aws": [["Server", "Tool"]], "Server": "k8s", "Tool": "pods_get", "ToolMs": 7}),
                json!({"_aws": [["Server", "Tool"]], "Server": "prom", "Tool": "query", "ToolMs": [5, 9]}),
                json!({"_aws": [["Sink", "Result"]], "Sink": "slack:oncall", "Result": "retry", "SinkResults": 1}),
            ]
        );
    }

    #[test]
    fn a_deployments_name_is_a_dimension_of_all_its_metrics() {
        let kept = Kept::default();
        let out = kept.clone();
        let metrics = Metrics::to(move || out.clone()).of_stack(Some("alerts-eu"));
        metrics.emit(0, &[Metric::Webhooks, Metric::RefusedWebhook { status: 401 }]);
        let lines =
            kept.0.lock().unwrap().iter().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<Value>>();
        let [all, by_status] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(all["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Stack"]]));
        assert_eq!((&all["Stack"], &all["Webhooks"]), (&json!("alerts-eu"), &json!(1)));
        assert_eq!(by_status["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["Stack", "Status"]]));
        assert_eq!((&by_status["Stack"], &by_status["Status"]), (&json!("alerts-eu"), &json!("401")));
    }

    #[test]
    fn the_catalogue_has_every_metric_under_a_name_of_its_own() {
        let each = Metric::each();
        let kinds: std::collections::HashSet<_> = each.iter().map(std::mem::discriminant).collect();
        let of_both: std::collections::HashSet<_> = each.iter().map(|metric| metric.measured().0).collect();
        let on_metrics_alone = each.iter().filter(|metric| metric.measured().2.is_none()).count();
        assert_eq!((kinds.len(), of_both.len()), (each.len(), each.len()));
        assert_eq!((catalogue().len(), on_metrics_alone), (each.len() - 2, 2));
        // Whoever adds a metric adds it to `each`, too: its documentation begins with its name.
        let documented = include_str!("metrics.rs").split("pub enum Metric {").nth(1).unwrap();
        let documented = documented.split("\n}\n").next().unwrap();
        let names: Vec<&str> = documented
            .lines()
            .filter_map(|line| line.trim().strip_prefix("/// `")?.split('`').next())
            .filter(|name| of_both.contains(name))
            .collect();
        let variants =
            documented.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        let variants =
            variants.filter(|line| line.trim().starts_with(|c: char| c.is_ascii_uppercase())).count();
        assert_eq!((names.len(), variants), (each.len(), each.len()));
    }

    #[test]
    fn no_line_has_more_values_of_a_metric_than_cloudwatch_takes() {
        let lines = emitted(&vec![tool("s", "t", 1); 250]);
        let counts: Vec<usize> =
            lines.iter().map(|line| line["ToolMs"].as_array().map_or(1, Vec::len)).collect();
        assert_eq!(counts, [100, 100, 50]);
    }

    #[test]
    fn a_dimension_is_printable_short_and_never_empty() {
        let long = "x".repeat(5_000);
        for (given, want) in
            [("", "_"), (":a:b", "a:b"), ("a\nb\u{e9}", "a_b_"), (long.as_str(), &long[..MAX_DIMENSION])]
        {
            assert_eq!(emitted(&[tool(given, "t", 1)])[0]["Server"], want);
        }
    }

    #[test]
    fn what_is_no_number_is_left_out_and_nothing_is_written_for_nothing() {
        assert!(emitted(&[Metric::Usd(f64::NAN)]).is_empty());
        assert!(emitted(&[]).is_empty());
        assert!(!Metrics::off().is_on());
    }
}
