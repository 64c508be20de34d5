//! Logs: one line an event on standard error, without secrets.
//!
//! Libraries say what happened with `tracing`: constant messages, fields that carry the data, never a body. The
//! program calls [`init`] once, with the redactor that every line passes before it leaves.
//!
//! * Sentinel's own crates log at the configured level, everything else from `warn` up (or at `error`, where that is
//!   the level). [`LogSettings::directives`] can say otherwise.
//! * `async_openai` and `rmcp` never log: the one writes whole response bodies at `error`, the other URLs, which may
//!   hold credentials. What went wrong is said by the crates that call them.
//! * An event is one line: control characters in its text are escaped, so that no alert and no model can forge a line
//!   or drive a terminal.
//! * Each line is redacted whole, as it is written, and goes out in one write.
//! * In JSON the fields of the spans around an event stand beside its own; where names meet, the innermost wins.
//!
//! Metrics go to standard output on Lambda, as lines that `CloudWatch` reads, or are added up for `/metrics`: [`Metrics`].

mod counts;
pub mod families;
mod line;
mod metrics;
mod writer;

use std::borrow::Cow;
use std::sync::Arc;

use thiserror::Error;
use tracing::{Span, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, FilterFn, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Format, JsonFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

pub use counts::{Counts, MOST_SERIES, OTHER, Sample};
pub use families::{FAMILIES, Family, Kind};
pub use metrics::{Metric, Metrics, NAMESPACE, STACK, SinkOutcome, catalogue, counted_as};
pub use tracing::level_filters::LevelFilter;
pub use writer::RedactingWriter;

/// Takes secrets out of a line. The line holds text as it is logged: a quote or a line break inside a value is
/// escaped, so a redactor that searches for configured values needs them in their JSON spelling as well.
pub type Redact = Arc<dyn for<'t> Fn(&'t str) -> Cow<'t, str> + Send + Sync>;

/// What is logged, and how it looks.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The level of Sentinel's own crates: the configuration's `log-level`.
    pub level: LevelFilter,
    /// One JSON object a line, instead of text.
    pub json: bool,
    /// Colours the level; for a terminal. JSON never has colours.
    pub ansi: bool,
    /// More directives in `tracing-subscriber`'s syntax (`target=level`, separated by commas), after and over the
    /// others.
    pub directives: Option<String>,
    /// On a terminal of so many columns: what weighs less than a warning is one line of it, the time of day, the message and
    /// as many of its fields as fit. JSON is always whole.
    pub columns: Option<usize>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LevelFilter::INFO, json: false, ansi: false, directives: None, columns: None }
    }
}

/// Why logging could not be set up. Neither is worth a retry.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The directives are no directives.
    #[error("the log directives {directives:?} cannot be read: {source}; `target=level` would be right")]
    Directives {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Somebody has set up logging before.
    #[error("logging is already set up: {0}")]
    Already(#[from] TryInitError),
}

impl TelemetryError {
    /// Never: the same call fails again.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

/// Sends the events of the whole process to standard error. Once a process.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(settings: &LogSettings, redact: Redact) -> Result<(), TelemetryError> {
    let redact = line::within(settings.columns, redact);
    subscriber(settings, RedactingWriter::new(std::io::stderr, redact))?.try_init()?;
    Ok(())
}

/// The span of one invocation on Lambda: every line inside says whose it is.
///
/// `request_id` is Lambda's own; `xray_trace_id` is the whole `Root=…;Parent=…;Sampled=…`, where tracing is on.
pub fn invocation(request_id: &str, xray_trace_id: Option<&str>) -> Span {
    // A span below the log's level has no fields: this one is there at every level.
    tracing::error_span!("invocation", request_id, xray_trace_id)
}

/// What [`init`] installs, writing to `writer`: for tests, and for whoever wants it on one thread only.
///
/// # Errors
/// [`TelemetryError::Directives`].
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = filter(settings)?.and(never());
    Ok(Registry::default().with(layer(settings, writer).with_filter(filter)))
}

fn layer<S, W>(settings: &LogSettings, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Colours inside a line would stand between a field's name and its value, where the redactor looks.
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    if settings.json {
        let format =
            Format::default().json().flatten_event(true).with_current_span(false).with_span_list(false);
        layer.fmt_fields(JsonFields::new()).event_format(line::JsonLine(format)).boxed()
    } else {
        layer.event_format(line::Line { ansi: settings.ansi, brief: settings.columns.is_some() }).boxed()
    }
}

fn filter(settings: &LogSettings) -> Result<EnvFilter, TelemetryError> {
    let others = settings.level.min(LevelFilter::WARN);
    let mut directives = format!("{others},sentinel={}", settings.level);
    if let Some(more) = settings.directives.as_deref().filter(|more| !more.is_empty()) {
        directives.push(',');
        directives.push_str(more);
    }
    EnvFilter::builder().parse(&directives).map_err(|source| TelemetryError::Directives {
        directives: settings.directives.clone().unwrap_or_default(),
        source,
    })
}

/// Lets through what may be logged at all, whatever the directives say.
fn never() -> FilterFn {
    filter_fn(|metadata| !["async_openai", "rmcp"].iter().any(|quiet| metadata.target().starts_with(quiet)))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    /// Keeps each write apart.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<String>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(settings: &LogSettings, events: impl FnOnce()) -> Vec<String> {
        let kept = Kept::default();
        let out = kept.clone();
        let redact: Redact = Arc::new(|line| {
            if line.contains("swordfish") {
                Cow::Owned(line.replace("swordfish", "[redacted]"))
            } else {
                Cow::Borrowed(line)
            }
        });
        let redact = line::within(settings.columns, redact);
        let writer = RedactingWriter::new(move || out.clone(), redact);
        tracing::subscriber::with_default(subscriber(settings, writer).unwrap(), events);
        kept.0.lock().unwrap().clone()
    }

    /// The line behind the time.
    fn rest(line: &str) -> &str {
        line.split_once(' ').map_or("", |(_, rest)| rest)
    }

    #[test]
    fn an_event_is_one_line_in_one_write() {
        let lines = logged(&LogSettings::default(), || {
            tracing::info!(target: "sentinel_core", incident = "abc", n = 3, "incident opened");
        });
        assert_eq!(lines.len(), 1);
        assert_eq!(rest(&lines[0]), " INFO sentinel_core: incident opened incident=\"abc\" n=3\n");
    }

    #[test]
    fn a_secret_is_taken_out_of_messages_fields_and_spans() {
        for json in [false, true] {
            let lines = logged(&LogSettings { json, ..LogSettings::default() }, || {
                let _span = tracing::info_span!(target: "sentinel", "job", token = "swordfish").entered();
                tracing::info!(target: "sentinel", key = "a swordfish", "swordfish");
            });
            let line = lines.concat();
            assert!(!line.contains("swordfish"), "{line}");
            assert_eq!(line.matches("[redacted]").count(), 3, "{line}");
        }
    }

    #[test]
    fn text_from_outside_can_neither_forge_a_line_nor_drive_a_terminal() {
        let evil = "x\n2026-01-01T00:00:00Z  INFO sentinel: all is well\r\u{1b}[2J\u{9b}2J\u{2028}\u{202e}";
        for json in [false, true] {
            let lines = logged(&LogSettings { json, ansi: true, ..LogSettings::default() }, || {
                tracing::warn!(target: "sentinel", debug = ?evil, display = %evil, text = evil, "{evil}");
            });
            let line = lines.concat();
            assert_eq!(line.matches('\n').count(), 1, "{line:?}");
            for bad in ['\r', '\u{9b}', '\u{2028}', '\u{202e}'] {
                assert!(!line.contains(bad), "{bad:?} in {line:?}");
            }
            assert!(!line.contains("\u{1b}[2J"), "{line:?}");
        }
    }

    #[test]
    fn colours_are_on_the_level_only_and_not_in_json() {
        let colourful = LogSettings { ansi: true, ..LogSettings::default() };
        let event = || tracing::info!(target: "sentinel", password = "x", "m");
        let line = logged(&colourful, event).concat();
        assert_eq!(rest(&line), "\u{1b}[32m INFO\u{1b}[0m sentinel: m password=\"x\"\n");
        let line = logged(&LogSettings { json: true, ..colourful }, event).concat();
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn on_a_terminal_what_is_no_warning_is_one_line_of_it_cut_after_secrets_are_taken_out() {
        let settings = LogSettings { ansi: true, columns: Some(40), ..LogSettings::default() };
        let lines = logged(&settings, || {
            let _span = tracing::info_span!(target: "sentinel", "job", incident = "abc").entered();
            tracing::info!(target: "sentinel", key = "swordfish", text = "as long as it takes", "told");
            tracing::warn!(target: "sentinel", text = "as long as it takes", "not told");
        });
        // The time of day comes first, and then the level.
        assert_eq!(&lines[0][8..], " \u{1b}[32m INFO\u{1b}[0m told key=\"[redacted]\" te…\n");
        assert!(
            lines[1].contains("sentinel: job{incident=\"abc\"}: not told text=\"as long as it takes\""),
            "{lines:?}"
        );
    }

    #[test]
    fn a_json_line_is_an_object_with_the_fields() {
        let settings = LogSettings { json: true, ..LogSettings::default() };
        let lines = logged(&settings, || tracing::info!(target: "sentinel", n = 3, "incident opened"));
        let line: serde_json::Value = serde_json::from_str(&lines.concat()).unwrap();
        assert_eq!(line["message"], "incident opened");
        assert_eq!(line["n"], 3);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "sentinel");
    }

    #[test]
    fn a_json_line_carries_the_fields_of_the_spans_around_it() {
        let settings = LogSettings { json: true, ..LogSettings::default() };
        let lines = logged(&settings, || {
            let _invocation = invocation("r-1", Some("Root=1-2")).entered();
            let _outer = tracing::info_span!(target: "sentinel", "outer", gen = 1).entered();
            let inner = tracing::info_span!(target: "sentinel", "job", incident = "abc", gen = 2, late = tracing::field::Empty);
            let inner = inner.entered();
            tracing::info!(target: "sentinel", incident = "own", "claimed");
            inner.record("late", "a \"quote\"");
            tracing::info!(target: "sentinel", "done");
            drop(inner);
            tracing::info!(target: "sentinel", "outside");
        });
        let seen: Vec<serde_json::Value> = lines
            .iter()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                serde_json::json!([
                    line["message"],
                    line["request_id"],
                    line["xray_trace_id"],
                    line["incident"],
                    line["gen"],
                    line["late"]
                ])
            })
            .collect();
        assert_eq!(
            seen,
            [
                serde_json::json!(["claimed", "r-1", "Root=1-2", "own", 2, null]),
                serde_json::json!(["done", "r-1", "Root=1-2", "abc", 2, "a \"quote\""]),
                serde_json::json!(["outside", "r-1", "Root=1-2", null, 1, null]),
            ]
        );
        assert_eq!(lines[0].matches("\"incident\"").count(), 1, "no name stands twice: {}", lines[0]);
    }

    fn all_levels() {
        tracing::error!(target: "sentinel_core", "own error");
        tracing::info!(target: "sentinel_core", "own info");
        tracing::debug!(target: "sentinel_core", "own debug");
        tracing::warn!(target: "hyper_util::client", "other warning");
        tracing::info!(target: "aws_config", "other info");
        tracing::error!(target: "rmcp::transport", "a URL");
        tracing::error!(target: "async_openai::client", "failed deserialization of: {{everything}}");
    }

    fn messages(settings: &LogSettings) -> Vec<String> {
        let message = |line: &String| line.trim_end().rsplit(": ").next().unwrap_or_default().to_owned();
        logged(settings, all_levels).iter().map(message).collect()
    }

    #[test]
    fn dependencies_are_heard_from_warn_up_and_never_above_the_level() {
        let at = |level| messages(&LogSettings { level, ..LogSettings::default() });
        assert_eq!(at(LevelFilter::INFO), ["own error", "own info", "other warning"]);
        assert_eq!(at(LevelFilter::DEBUG), ["own error", "own info", "own debug", "other warning"]);
        assert_eq!(at(LevelFilter::ERROR), ["own error"]);
        assert_eq!(at(LevelFilter::OFF), Vec::<String>::new());
    }

    #[test]
    fn directives_add_to_the_level_but_model_bodies_stay_out() {
        let directives = Some("aws_config=info,async_openai=trace,async_openai::client=trace".to_owned());
        let messages = messages(&LogSettings { directives, ..LogSettings::default() });
        assert_eq!(messages, ["own error", "own info", "other warning", "other info"]);
    }

    #[test]
    fn broken_directives_are_refused_with_what_was_given() {
        let settings = LogSettings { directives: Some("a=b=c".to_owned()), ..LogSettings::default() };
        let error = filter(&settings).map(|_| ()).unwrap_err();
        assert!(error.to_string().starts_with("the log directives \"a=b=c\" cannot be read"), "{error}");
        assert!(!error.is_retryable());
    }
}
