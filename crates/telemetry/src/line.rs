//! How an event looks as text.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use sentinel_core::marks::changes_the_display;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::Redact;

/// Time, level, target, spans, message and fields, on one line whatever they hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Colours the level.
    pub(crate) ansi: bool,
    /// What weighs less than a warning has neither a date nor a target nor spans.
    pub(crate) brief: bool,
}

/// Where the time of day stands in a time (RFC 3339).
const TIME_OF_DAY: std::ops::Range<usize> = 11..19;

/// The same redactor, which then cuts brief lines to so many columns.
pub(crate) fn within(columns: Option<usize>, redact: Redact) -> Redact {
    let Some(columns) = columns else { return redact };
    Arc::new(move |line| {
        let redacted = redact(line);
        // A whole line begins with its year, a brief one with the hour.
        let brief = redacted.as_bytes().get(2) == Some(&b':');
        if !brief || redacted.chars().count() <= columns {
            redacted
        } else {
            Cow::Owned(cut(&redacted, columns))
        }
    })
}

/// The line in at most so many columns, its colours aside.
fn cut(line: &str, columns: usize) -> String {
    let (mut out, mut used, mut colour) = (String::new(), 0, false);
    for c in line.trim_end().chars() {
        colour |= c == '\u{1b}';
        if !colour {
            used += 1;
            if used == columns {
                out.push('…');
                break;
            }
        }
        colour &= c != 'm';
        out.push(c);
    }
    out.push('\n');
    out
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let brief = self.brief && *metadata.level() > Level::WARN;
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        writer.write_str(if brief { time.get(TIME_OF_DAY).unwrap_or(&time) } else { &time })?;
        let (on, off) = if self.ansi { (colour(*metadata.level()), "\u{1b}[0m") } else { ("", "") };
        write!(writer, " {on}{:>5}{off} ", metadata.level())?;
        if !brief {
            write!(writer, "{}: ", metadata.target())?;
        }

        let mut text = String::new();
        let spans = ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root);
        for span in spans.filter(|_| !brief) {
            text.push_str(span.name());
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                text.push('{');
                text.push_str(fields);
                text.push('}');
            }
            text.push_str(": ");
        }
        ctx.field_format().format_fields(Writer::new(&mut text), event)?;
        escape(&text, &mut writer)?;
        writer.write_char('\n')
    }
}

/// The same as a JSON object. The fields of the spans stand beside the event's own: a query for an incident then finds
/// every line that was written on its behalf.
#[derive(Clone, Debug)]
pub(crate) struct JsonLine(pub(crate) Format<Json>);

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(ctx, Writer::new(&mut text), event)?;
        let spans = ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root);
        let mut fields = Map::new();
        for span in spans {
            if let Some(written) = span.extensions().get::<FormattedFields<N>>().filter(|f| !f.is_empty()) {
                fields.extend(serde_json::from_str::<Map<String, Value>>(written).unwrap_or_default());
            }
        }
        if !fields.is_empty() {
            beside(&mut text, fields);
        }
        // JSON must escape only what is below U+0020 (RFC 8259, section 7).
        escape(text.trim_end_matches('\n'), &mut writer)?;
        writer.write_char('\n')
    }
}

/// Adds `fields` to the object `text`; what it says itself stays.
fn beside(text: &mut String, mut fields: Map<String, Value>) {
    let own: Map<String, Value> = serde_json::from_str(text).unwrap_or_default();
    fields.retain(|name, _| !own.contains_key(name));
    let end = text.rfind('}').filter(|_| !own.is_empty() && !fields.is_empty());
    let (Some(end), Ok(more)) = (end, serde_json::to_string(&fields)) else { return };
    text.truncate(end);
    text.push(',');
    text.push_str(more.trim_start_matches('{'));
}

/// Writes `text` so that it stays on its line and in its order; what is escaped reads the same in JSON. Debug
/// formatting has escaped most of it already; what a `Display` writes comes as it is.
fn escape(text: &str, out: &mut impl fmt::Write) -> fmt::Result {
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => write!(out, "{}", c.escape_default())?,
            _ if changes_the_display(c) => write!(out, "\\u{:04x}", u32::from(c))?,
            _ => out.write_char(c)?,
        }
    }
    Ok(())
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}
