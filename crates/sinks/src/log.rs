//! The process's log: one event a telling, with what a person needs to decide whether to look further.

use async_trait::async_trait;
use sentinel_core::alert::Labels;
use sentinel_core::incident::Event;
use sentinel_core::ports::{Sink, SinkError, Telling, Told};
use sentinel_core::report::{ReportSource, Statement};
use sentinel_core::storm::Listed;
use tracing::Level;

use crate::text;

/// The longest text that goes into one field, in characters.
const MAX_TEXT: usize = 300;

/// Tells the log. It has no ids of its own and never fails: where a log line goes is the subscriber's matter.
#[derive(Clone, Copy, Debug)]
pub struct LogSink {
    level: Level,
}

impl LogSink {
    /// Logs at `level`; what the process's log level leaves out is not seen.
    pub const fn new(level: Level) -> Self {
        Self { level }
    }
}

/// `tracing::event!` wants its level at compile time.
macro_rules! at {
    ($level:expr, $($event:tt)+) => {
        match $level {
            Level::ERROR => tracing::event!(Level::ERROR, $($event)+),
            Level::WARN => tracing::event!(Level::WARN, $($event)+),
            Level::INFO => tracing::event!(Level::INFO, $($event)+),
            Level::DEBUG => tracing::event!(Level::DEBUG, $($event)+),
            Level::TRACE => tracing::event!(Level::TRACE, $($event)+),
        }
    };
}

#[async_trait]
impl Sink for LogSink {
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        let Telling { event, head, report, listed, .. } = telling;
        let report = report.as_ref();
        // The report lists the likeliest first.
        let top: Option<&Statement> = report.and_then(|r| r.hypotheses.first());
        at!(
            self.level,
            verdict = report.map(|r| r.verdict).or(head.verdict).map(|v| v.to_string()),
            title = report.map(|r| inert(&r.title)),
            hypothesis = top.map(|h| inert(&h.statement)),
            confidence = top.and_then(|h| h.confidence),
            supported = top.and_then(|h| h.supported),
            card = inert(&head.card),
            labels = labels(&head.labels),
            source = report.map(|r| source(r.source)),
            usd = report.and_then(|r| r.usage.usd),
            reason = head.reason.as_deref().map(inert),
            listed = (!listed.is_empty()).then_some(listed.len()),
            incidents = (!listed.is_empty()).then(|| notice(listed)),
            resolved_at = telling.resolved().map(|at| at.to_string()),
            again_since = head.again.map(|again| again.since.to_string()),
            not_before = head.again.map(|again| again.not_before.to_string()),
            event = %event,
            incident = head.id.as_str(),
            gen = head.generation.0,
            "{}",
            message(*event)
        );
        Ok(Told::default())
    }
}

/// Constant, so that it can be searched for.
const fn message(event: Event) -> &'static str {
    match event {
        Event::Started => "incident started",
        Event::Findings => "incident findings",
        Event::Failed => "incident failed",
        Event::Aborted => "incident aborted",
        Event::Suppressed => "incident suppressed",
        Event::Updated => "incident updated",
        Event::Resolved => "incident resolved",
        Event::Flapping => "incident flapping",
        Event::Storm => "incidents without a model: a storm",
    }
}

/// What a notice lists, `card{label=value}` each. Whole, however long: nothing else names them all.
fn notice(listed: &[Listed]) -> String {
    let each = |l: &Listed| format!("{}{{{}}}", inert(&l.card), labels(&l.labels));
    listed.iter().map(each).collect::<Vec<_>>().join(" ")
}

const fn source(source: ReportSource) -> &'static str {
    match source {
        ReportSource::Model => "model",
        ReportSource::EvidenceOnly => "evidence_only",
        ReportSource::Recorded => "recorded",
    }
}

fn labels(labels: &Labels) -> String {
    inert(&labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(","))
}

fn inert(text: &str) -> String {
    text::inert(text, MAX_TEXT)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use sentinel_core::UnixMs;
    use sentinel_core::incident::{Head, State};
    use sentinel_core::report::{Report, Usage};
    use sentinel_testkit::builders::{self, NOON, beside};

    use super::*;

    fn head(state: State) -> Head {
        Head { state, ..builders::head("abc") }
    }

    fn report(title: &str, usd: Option<f64>) -> Report {
        let report = builders::report();
        Report { title: title.into(), usage: Usage { usd, ..report.usage }, ..report }
    }

    fn telling(event: Event, head: Head, report: Option<Report>) -> Telling {
        Telling {
            event,
            head,
            notification: None,
            report,
            beside: beside(),
            listed: vec![],
            idempotency_key: "k".into(),
            remote: None,
            parent: None,
        }
    }

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log says, without times.
    async fn logged(sink: LogSink, telling: &Telling) -> String {
        let kept = Kept::default();
        let out = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .without_time()
            .with_ansi(false)
            .with_max_level(Level::TRACE)
            .with_writer(move || out.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        assert_eq!(sink.tell(telling).await.unwrap().remote, None);
        let text = kept.0.lock().unwrap().clone();
        String::from_utf8(text).unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn findings_are_one_event_with_the_top_hypothesis_and_never_the_whole_report() {
        let telling =
            telling(Event::Findings, head(State::Done), Some(report("api cannot start", Some(0.0125))));
        let line = logged(LogSink::new(Level::INFO), &telling).await;
        insta::assert_snapshot!(line, @r#"INFO sentinel_sinks::log: incident findings verdict="action_required" title="api cannot start" hypothesis="The tag v9 is missing" confidence=0.8 supported=true card="pods" labels="alertname=PodDown,namespace=web" source="model" usd=0.0125 event=findings incident="abc" gen=1795348800000"#);
        assert!(!line.contains("The tag does not exist"), "the summary stays in the store");
    }

    #[tokio::test]
    async fn what_is_not_known_is_left_out() {
        let mut failed = head(State::Failed);
        failed.reason = Some("gave up after 3 attempts: the model refused the key".into());
        failed.resolved_at = Some(UnixMs::new(NOON.get() + 1_000));
        let line = logged(LogSink::new(Level::WARN), &telling(Event::Failed, failed, None)).await;
        insta::assert_snapshot!(line, @r#"WARN sentinel_sinks::log: incident failed card="pods" labels="alertname=PodDown,namespace=web" reason="gave up after 3 attempts: the model refused the key" resolved_at="2026-11-22T12:00:01Z" event=failed incident="abc" gen=1795348800000"#);
    }

    #[tokio::test]
    async fn text_from_outside_is_one_line_and_bounded() {
        let title = format!("ok\n INFO all is well\u{1b}[2J\u{202e}{}", "x".repeat(1_000));
        let telling = telling(Event::Findings, head(State::Done), Some(report(&title, None)));
        let line = logged(LogSink::new(Level::INFO), &telling).await;
        assert_eq!(line.lines().count(), 1);
        assert!(!line.contains('\u{1b}') && !line.contains('\u{202e}'), "{line:?}");
        assert!(line.contains('…') && !line.contains(&"x".repeat(MAX_TEXT)), "{line}");
    }

    #[tokio::test]
    async fn the_level_is_the_configured_one() {
        for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
            let line = logged(LogSink::new(level), &telling(Event::Resolved, head(State::Done), None)).await;
            assert!(line.starts_with(level.as_str()), "{line}");
            assert!(line.contains("incident resolved"), "{line}");
        }
    }

    #[test]
    fn every_event_has_a_message_of_its_own() {
        let messages: std::collections::BTreeSet<_> = Event::ALL.map(message).into();
        assert_eq!(messages.len(), Event::ALL.len());
        for event in Event::ALL {
            assert!(message(event).ends_with(&event.to_string()));
        }
    }
}
