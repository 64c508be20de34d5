//! What a quote of JSON says, for people: a piece of a Prometheus answer as labels, value and time, of other JSON as
//! names and values.

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::times::local;
use crate::UnixMs;

/// The most labels of one series that are shown.
const MOST_LABELS: usize = 4;
/// The most groups of one quote that are shown.
const MOST_GROUPS: usize = 6;
/// The most series of one output among which a quote is looked for.
const MOST_SERIES: usize = 10_000;
/// Labels that say who collected a series, and not what it is about.
const COLLECTORS: [&str; 5] = ["job", "endpoint", "prometheus", "service", "instance"];

/// One series of a stored output.
#[derive(Debug)]
struct Series {
    labels: Map<String, Value>,
    /// Times in seconds, and values as they are written.
    points: Vec<(f64, String)>,
}

/// The series of one output, once it is read.
#[derive(Debug, Default)]
pub(super) struct Answer(Vec<Series>);

impl Answer {
    /// Reads the series of an output in Prometheus's format; of any other there are none.
    pub(super) fn read(text: &str) -> Self {
        let mut series = Vec::new();
        if text.contains("\"metric\"")
            && let Ok(whole) = serde_json::from_str::<Value>(text)
        {
            collect(&whole, &mut series);
        }
        Self(series)
    }

    /// The one series that holds all of this; `None`: none does, or several do.
    fn the_one(&self, group: &Group) -> Option<&Series> {
        let holds = |series: &&Series| {
            let label = |name: &str| series.labels.get(name).and_then(Value::as_str);
            group.pairs.iter().all(|(name, value)| label(name) == Some(value))
                && group.point.as_ref().is_none_or(|(at, value)| {
                    series.points.iter().any(|(t, v)| same_time(*t, *at) && v == value)
                })
                && group.loose.iter().all(|text| {
                    series.points.iter().any(|(_, v)| v == text)
                        || series.labels.values().any(|v| v.as_str() == Some(text))
                })
        };
        let mut found = self.0.iter().filter(holds);
        found.next().filter(|_| found.next().is_none())
    }
}

/// Times are written with at most milliseconds.
fn same_time(one: f64, other: f64) -> bool {
    (one - other).abs() < 0.000_5
}

fn collect(value: &Value, to: &mut Vec<Series>) {
    if to.len() >= MOST_SERIES {
        return;
    }
    match value {
        Value::Object(object) => {
            if let Some(labels) = object.get("metric").and_then(Value::as_object) {
                let one = object.get("value").and_then(point).into_iter();
                let many = object.get("values").and_then(Value::as_array).into_iter().flatten();
                let points = one.chain(many.filter_map(point)).collect();
                to.push(Series { labels: labels.clone(), points });
            } else {
                object.values().for_each(|inner| collect(inner, to));
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| collect(inner, to)),
        _ => {}
    }
}

fn point(value: &Value) -> Option<(f64, String)> {
    match value.as_array()?.as_slice() {
        [at, value] => Some((at.as_f64()?, value.as_str()?.to_owned())),
        _ => None,
    }
}

/// What of a quote belongs together: names with their values, and a value at a time.
#[derive(Debug, Default, PartialEq)]
struct Group {
    pairs: Vec<(String, String)>,
    point: Option<(f64, String)>,
    /// Texts without a name.
    loose: Vec<String>,
}

impl Group {
    fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.point.is_none() && self.loose.is_empty()
    }

    /// In words, with what the output says of the same series.
    fn words(&self, answer: &Answer, clock: &dyn Fn(f64) -> String) -> Option<String> {
        let series = answer.the_one(self);
        let (at, value) = match (&self.point, series) {
            (Some((at, value)), _) => (Some(*at), Some(value.as_str())),
            (None, Some(series)) => match series.points.as_slice() {
                [(at, value)] => (Some(*at), Some(value.as_str())),
                points => {
                    let quoted = points.iter().find(|(_, value)| self.loose.contains(value));
                    (quoted.map(|(at, _)| *at), quoted.map(|(_, value)| value.as_str()))
                }
            },
            (None, None) => (None, None),
        };
        let mut names = self.names(series);
        if series.is_none() {
            let loose = self.loose.iter().filter(|text| Some(text.as_str()) != value);
            names = [names]
                .into_iter()
                .chain(loose.cloned())
                .filter(|t| !t.is_empty())
                .collect::<Vec<_>>()
                .join(", ");
        }
        let value = value.map(|value| match at {
            Some(at) => format!("{value} at {}", clock(at)),
            None => value.to_owned(),
        });
        match (names.is_empty(), value) {
            (false, Some(value)) => Some(format!("{names}: {value}")),
            (true, Some(value)) => Some(value),
            (false, None) => Some(names),
            (true, None) => None,
        }
    }

    /// The metric's name and labels: those that are quoted, else those of the series.
    fn names(&self, series: Option<&Series>) -> String {
        let mut pairs: Vec<(&str, &str)> =
            self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let known = series.into_iter().flat_map(|s| &s.labels);
        let known: Vec<(&str, &str)> = known.filter_map(|(n, v)| Some((n.as_str(), v.as_str()?))).collect();
        if pairs.iter().all(|(name, _)| *name == "__name__") {
            let telling = known.iter().filter(|(name, _)| *name != "__name__" && !COLLECTORS.contains(name));
            pairs.extend(telling.copied().take(MOST_LABELS));
        }
        if pairs.iter().all(|(name, _)| *name == "__name__") {
            pairs.extend(known.iter().filter(|(name, _)| *name != "__name__").copied().take(MOST_LABELS));
        }
        let metric =
            pairs.iter().chain(&known).find(|(name, _)| *name == "__name__").map(|(_, value)| *value);
        let labels = pairs.iter().filter(|(name, _)| *name != "__name__");
        let labels = labels.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
        match (metric, labels.is_empty()) {
            (Some(metric), true) => metric.to_owned(),
            (Some(metric), false) => format!("{metric} {labels}"),
            (None, _) => labels,
        }
    }
}

/// What a quote of JSON says; `None`: it is none, and says itself.
pub(super) fn said(quote: &str, answer: &Answer, now: UnixMs, zone: &TimeZone) -> Option<String> {
    #[expect(clippy::cast_possible_truncation, reason = "a time in seconds is read only below 10^10")]
    let clock = |seconds: f64| local(UnixMs::new((seconds * 1000.0).round() as i64), now, zone);
    let groups = groups(&tokens(quote)?);
    // A lone text says no more than it does, unless the output knows whose value it is.
    if let [Group { pairs, point: None, loose }] = groups.as_slice()
        && pairs.is_empty()
        && loose.len() == 1
        && answer.the_one(groups.first()?).is_none()
    {
        return None;
    }
    let mut words: Vec<String> = groups.iter().filter_map(|group| group.words(answer, &clock)).collect();
    if words.len() > MOST_GROUPS {
        let more = words.len() - MOST_GROUPS;
        words.truncate(MOST_GROUPS);
        words.push(format!("and {more} more"));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

#[derive(Clone, PartialEq, Debug)]
enum Token {
    Text(String),
    Number(String),
    Mark(char),
}

/// The tokens of a piece of JSON, which may begin and end anywhere; `None`: it is none.
fn tokens(quote: &str) -> Option<Vec<Token>> {
    let quote = quote.trim().replace("\\\"", "\"");
    let mut rest = quote.as_str();
    let mut tokens = Vec::new();
    if !rest.starts_with(['{', '}', '[', ']', '"', ',', ':', '-'])
        && !rest.starts_with(|c: char| c.is_ascii_digit())
    {
        // It begins inside a text.
        let (head, after) = rest.split_once('"')?;
        if !after.starts_with([',', ':', '}', ']']) {
            return None;
        }
        tokens.push(Token::Text(head.to_owned()));
        rest = after;
    }
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..)?;
        rest = match c {
            '"' => {
                let (text, after) = after.split_once('"').unwrap_or((after, ""));
                tokens.push(Token::Text(text.to_owned()));
                after
            }
            '{' | '}' | '[' | ']' | ',' | ':' => {
                tokens.push(Token::Mark(c));
                after
            }
            _ if c.is_whitespace() => after,
            _ if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') => {
                let word = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+'));
                let (word, after) = rest.split_at(rest.find(word).unwrap_or(rest.len()));
                if word.parse::<f64>().is_err() && !matches!(word, "true" | "false" | "null") {
                    return None;
                }
                tokens.push(Token::Number(word.to_owned()));
                after
            }
            _ => return None,
        };
    }
    tokens.contains(&Token::Mark(',')).then_some(()).or_else(|| {
        let texts = tokens.iter().any(|token| matches!(token, Token::Text(_)));
        texts.then_some(())
    })?;
    Some(tokens)
}

fn groups(tokens: &[Token]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut group = Group::default();
    let mut rest = tokens;
    loop {
        rest = match rest {
            [] => break,
            [Token::Text(name), Token::Mark(':'), Token::Text(value) | Token::Number(value), after @ ..] => {
                group.pairs.push((name.clone(), value.clone()));
                after
            }
            [Token::Number(at), Token::Mark(','), Token::Text(value), after @ ..] if is_time(at) => {
                group.point = at.parse().ok().map(|at| (at, value.clone()));
                groups.push(std::mem::take(&mut group));
                after
            }
            // Names of what holds others, or is cut off, say nothing.
            [Token::Text(_), Token::Mark(':'), after @ ..] | [Token::Mark(_), after @ ..] => after,
            [Token::Text(text) | Token::Number(text), after @ ..] => {
                group.loose.push(text.clone());
                after
            }
        };
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// Whether a number is a time in seconds: from the year 2001 to 2286.
fn is_time(number: &str) -> bool {
    number.parse::<f64>().is_ok_and(|seconds| (1e9..1e10).contains(&seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VECTOR: &str = r#"{"resultType":"vector","result":[
        {"metric":{"__name__":"up","job":"api","pod":"api-1","zone":"a"},"value":[1795348800.5,"0"]},
        {"metric":{"__name__":"up","job":"api","pod":"api-2","zone":"b"},"value":[1795348800.5,"1"]}]}"#;
    const RANGE: &str =
        r#"{"result":[{"metric":{"pod":"api-1"},"values":[[1795348800,"0.2"],[1795348860,"9.5"]]}]}"#;

    fn of(output: &str, quote: &str) -> Option<String> {
        let now = UnixMs::new(1_795_438_800_000);
        said(quote, &Answer::read(output), now, &TimeZone::UTC)
    }

    #[test]
    fn a_piece_of_a_vector_says_metric_labels_value_and_time() {
        let at = "22 Nov 12:00 UTC";
        let whole = Some(format!("up pod=api-2: 1 at {at}"));
        assert_eq!(
            of(VECTOR, r#""pod":"api-2","zone":"b"},"value":[1795348800.5,"1"]"#),
            Some(format!("up pod=api-2, zone=b: 1 at {at}"))
        );
        assert_eq!(of(VECTOR, r#"{"pod":"api-2"},"value":[1795348800.5,"1"]"#), whole);
        assert_eq!(
            of(VECTOR, r#"{\"pod\":\"api-2\"},\"value\":[1795348800.5,\"1\"]"#),
            whole,
            "escaped once more"
        );
        assert_eq!(of(VECTOR, r#""pod":"api-2""#), whole, "the output knows the value");
        assert_eq!(
            of(VECTOR, r#""value":[1795348800.5,"0"]"#),
            Some(format!("up pod=api-1, zone=a: 0 at {at}"))
        );
        assert_eq!(of("", r#""value":[1795348800.5,"0"]"#), Some(format!("0 at {at}")), "without the output");
        // Which of the two it is cannot be told.
        assert_eq!(of(VECTOR, r#""job":"api""#), Some("job=api".to_owned()));
    }

    #[test]
    fn a_point_of_a_range_and_a_lone_value_are_found_in_their_series() {
        assert_eq!(of(RANGE, r#"[1795348860,"9.5"]"#).unwrap(), "pod=api-1: 9.5 at 22 Nov 12:01 UTC");
        assert_eq!(of(RANGE, r#""9.5""#).unwrap(), "pod=api-1: 9.5 at 22 Nov 12:01 UTC");
        assert_eq!(of(RANGE, r#""7.5""#), None);
    }

    #[test]
    fn two_series_in_one_quote_are_told_one_after_the_other() {
        let quote = r#"{"metric":{"code":"201"},"value":[1795348800,"14.2"]},{"metric":{"code":"409"},"value":[1795348800,"0.03"]}]}"#;
        let said = of("", quote).unwrap();
        assert_eq!(said, "code=201: 14.2 at 22 Nov 12:00 UTC; code=409: 0.03 at 22 Nov 12:00 UTC");
        let many = r#"[1795348800,"1"],"#.repeat(9);
        assert!(of("", &many).unwrap().ends_with("and 3 more"));
    }

    #[test]
    fn other_json_says_names_and_values_and_what_is_none_says_itself() {
        assert_eq!(
            of("", r#""name":"kubelet.service","state":"failed""#).unwrap(),
            "name=kubelet.service, state=failed"
        );
        assert_eq!(
            of("", r#"deadline exceeded","lastScrape":"18:21"#).unwrap(),
            "lastScrape=18:21, deadline exceeded"
        );
        for text in [
            "orders-worker-5c8f7d6b99-lm2xc   1/1",
            "2026-11-20T09:13:20.161Z INFO db pool: new connection",
            "exitCode: 137 finishedAt: \"2026-11-20T13:00:12Z\" reason: OOMKilled",
            "password authentication failed for user \"checkout\" (SQLSTATE 28P01)",
            "0/1    Error   0",
            "",
        ] {
            assert_eq!(of(VECTOR, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_quote_of_any_output_ends(output in "\\PC{0,60}", quote in "[\\[\\]{}:,\"\\\\a-z0-9. é-]{0,60}") {
            let _ = of(&output, &quote);
            let _ = of(VECTOR, &quote);
        }
    }
}
