//! Metrics as log lines: `CloudWatch`'s embedded metric format, so that no agent and no API call is needed.
//!
//! One JSON line an event and a set of dimensions. On Lambda, what is written to standard output reaches `CloudWatch`
//! Logs, which reads the metrics out of it. Format: "Specification: Embedded metric format" in the `CloudWatch` user
//! guide; its limits are at most 100 metrics a directive, 100 values a metric and 30 dimensions.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Number, Value, json};

/// The namespace of all metrics; the dashboard and the alarms name it.
pub const NAMESPACE: &str = "Sentinel";
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
    const fn as_str(self) -> &'static str {
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
    /// Name, unit (of `CloudWatch`'s list) and value.
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
            _ => Vec::new(),
        }
    }
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
pub struct Metrics(Option<WriteLine>);

impl Metrics {
    /// Nothing is written.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Each line goes, in one write, to a writer that `make` gives: `Metrics::to(std::io::stdout)` on Lambda.
    pub fn to<W: Write>(make: impl Fn() -> W + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(move |line| {
            let mut out = make();
            // Nothing is left to tell that a measurement cannot be written.
            let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        })))
    }

    /// Whether measurements go anywhere: what is costly to measure may be left out.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes what was measured at `at` (milliseconds since the Unix epoch).
    pub fn emit(&self, at: i64, metrics: &[Metric]) {
        let Some(write) = &self.0 else { return };
        for line in lines(at, metrics) {
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
fn lines(at: i64, metrics: &[Metric]) -> Vec<String> {
    let mut sets: BTreeMap<Dimensions, Vec<Values>> = BTreeMap::new();
    for metric in metrics {
        let (name, unit, Some(value)) = metric.measured() else { continue };
        let pages = sets.entry(metric.dimensions()).or_default();
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
