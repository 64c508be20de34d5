//! How an event looks as text.

use std::fmt;

use sentinel_core::marks::changes_the_display;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Json, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Time, level, target, spans, message and fields, on one line whatever they hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    /// Colours the level.
    pub(crate) ansi: bool,
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
        SystemTime.format_time(&mut writer)?;
        let (on, off) = if self.ansi { (colour(*metadata.level()), "\u{1b}[0m") } else { ("", "") };
        write!(writer, " {on}{:>5}{off} {}: ", metadata.level(), metadata.target())?;

        let mut text = String::new();
        for span in ctx.event_scope().into_iter().flat_map(tracing_subscriber::registry::Scope::from_root) {
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
