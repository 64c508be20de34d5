//! Filters for templates of arguments: a label's value in somebody else's language stays inside its string.
//!
//! Labels are whatever a sender wrote. Put between quotes as it is, one with a quote of its own ends the string, and the
//! rest of it is query.

use std::fmt::Write as _;
use std::sync::OnceLock;

use minijinja::{Environment, Error, ErrorKind, Value};
use regex::Regex;

/// The longest value of a Kubernetes label, in bytes.
const LONGEST_LABEL_VALUE: usize = 63;

/// Adds them all.
pub(crate) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("promql", |value: &Value| said(value).map(|text| in_go_string(&text)));
    environment.add_filter("logql", |value: &Value| said(value).map(|text| in_go_string(&text)));
    environment.add_filter("regex_quote", |value: &Value| said(value).map(|text| regex_quote(&text)));
    environment.add_filter("label_value", |value: &Value| said(value).and_then(label_value));
}

fn said(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, "there is no such value: give it a default"));
    }
    Ok(value.to_string())
}

/// The inside of a string of `PromQL` or `LogQL`, whose escapes are Go's. All three quotes are written as code points, so
/// that it stays inside whichever of them stands around it.
fn in_go_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '\n' => out.push_str(r"\n"),
            '\r' => out.push_str(r"\r"),
            '\t' => out.push_str(r"\t"),
            '"' | '\'' | '`' => {
                // Writing to a string does not fail.
                let _ = write!(out, r"\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, r"\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// A regular expression of RE2 that matches the text and nothing else. What is written into a string still has to be
/// made one: `{{ labels.pod | regex_quote | promql }}`.
fn regex_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A value as a Kubernetes label may have it, which is what a label selector may name. There is no way to write another
/// one, so that it is refused.
fn label_value(text: String) -> Result<String, Error> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let edge = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    if bytes.len() <= LONGEST_LABEL_VALUE
        && bytes.iter().all(|b| inside(*b))
        && edge(bytes.first())
        && edge(bytes.last())
    {
        return Ok(text);
    }
    Err(Error::new(
        ErrorKind::InvalidOperation,
        "this cannot be the value of a Kubernetes label, so no selector can ask for it",
    ))
}

/// Variables that are the operator's own words, not a sender's.
const OWN: [&str; 5] = ["card", "now", "resource", "resource_name", "resource_type"];

/// The placeholders of an argument's template that stand between quotes as they are: the line of each, from 1, what is
/// written, and what would be right.
pub(crate) fn bare(template: &str) -> Vec<(u32, String, String)> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (template, 1u32);
    let (mut quote, mut before): (Option<char>, Option<char>) = (None, None);
    while let Some(c) = rest.chars().next() {
        let tag =
            [("{{", "}}"), ("{%", "%}"), ("{#", "#}")].into_iter().find(|(open, _)| rest.starts_with(open));
        let taken = if let Some((open, close)) = tag {
            let end = rest.find(close).map_or(rest.len(), |at| at + close.len());
            let written = rest.get(..end).unwrap_or_default();
            if let (Some(quote), "{{") = (quote, open)
                && let Some(help) = help(written, quote)
            {
                found.push((line, written.to_owned(), help));
            }
            before = Some('}');
            written
        } else {
            let escaped = before == Some('\\');
            match quote {
                Some(open) if c == open && !(escaped && open != '`') => quote = None,
                // An apostrophe stands in a word.
                None if "\"'`".contains(c) && !before.is_some_and(char::is_alphanumeric) => {
                    quote = Some(c);
                }
                _ => {}
            }
            // The second of two backslashes escapes nothing.
            before = Some(if escaped && c == '\\' { ' ' } else { c });
            rest.get(..c.len_utf8()).unwrap_or_default()
        };
        line = line.saturating_add(u32::try_from(taken.matches('\n').count()).unwrap_or(u32::MAX));
        rest = rest.get(taken.len().max(1)..).unwrap_or_default();
    }
    found
}

/// What would be right in the place of an expression between quotes; `None`: it is.
fn help(written: &str, quote: char) -> Option<String> {
    static FILTER: OnceLock<Option<Regex>> = OnceLock::new();
    static NAME: OnceLock<Option<Regex>> = OnceLock::new();
    let filter =
        FILTER.get_or_init(|| Regex::new(r"\|\s*(promql|logql|label_value|tojson)\b").ok()).as_ref()?;
    let name = NAME.get_or_init(|| Regex::new(r"^\{\{-?\s*([A-Za-z_]\w*)").ok()).as_ref()?;
    let variable = name.captures(written)?.get(1)?.as_str();
    if OWN.contains(&variable) {
        return None;
    }
    let expression = written.trim_start_matches(['{', '-']).trim_end_matches(['}', '-']).trim();
    match filter.captures_iter(expression).last().and_then(|found| found.get(1)).map(|f| f.as_str()) {
        Some("tojson") => Some(format!("tojson writes quotes of its own: remove the {quote} around it")),
        Some(_) => None,
        None => Some(format!(
            "write {{{{ {expression} | promql }}}}, or logql or label_value, after the language of the query"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(template: &str, value: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        add(&mut environment);
        environment.render_str(template, minijinja::context! { x => value })
    }

    /// Reads a string of `PromQL`, `LogQL` or Go from its opening quote: what it says, and what follows it.
    fn string(text: &str) -> Option<(String, &str)> {
        let mut chars = text.char_indices();
        let (_, quote) = chars.next().filter(|(_, c)| "\"'`".contains(*c))?;
        let mut said = String::new();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => return Some((said, text.get(at + c.len_utf8()..)?)),
                '\n' if quote != '`' => return None,
                '\\' if quote != '`' => said.push(match chars.next()?.1 {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    '\\' => '\\',
                    'u' => {
                        let digits: String = (0..4).filter_map(|_| chars.next()).map(|(_, c)| c).collect();
                        char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
                    }
                    _ => return None,
                }),
                c => said.push(c),
            }
        }
        None
    }

    #[test]
    fn a_label_does_not_break_out_of_a_query() {
        let evil = "x\"} or vector(1) #";
        let query = render(r#"up{namespace="{{ x | promql }}"}"#, evil).unwrap();
        assert_eq!(query, r#"up{namespace="x\u0022} or vector(1) #"}"#);
        let selector = render("app={{ x | label_value }}", "web,!owner").unwrap_err().to_string();
        assert!(selector.contains("cannot be the value of a Kubernetes label"), "{selector}");
        assert_eq!(render("app={{ x | label_value }}", "web-1.a_B").unwrap(), "app=web-1.a_B");
        assert_eq!(
            render(r#"{pod=~"{{ x | regex_quote | logql }}"}"#, "web.(a|b)").unwrap(),
            r#"{pod=~"web\\.\\(a\\|b\\)"}"#
        );
    }

    #[test]
    fn a_value_that_is_not_there_is_an_error_and_a_default_stands_for_it() {
        assert!(render("{{ y | promql }}", "").is_err());
        assert_eq!(render("{{ y | default('a\"') | promql }}", "").unwrap(), r"a\u0022");
    }

    #[test]
    fn a_placeholder_between_quotes_without_a_filter_is_found_with_its_line_and_what_would_be_right() {
        for (template, want) in [
            (r#"up{a="{{ labels.a }}"}"#, 1),
            (r#"up{a="{{ labels.a | default("") }}"}"#, 1),
            ("up{a='{{ labels.a }}'}", 1),
            ("{a=`{{ labels.a }}`}", 1),
            (r#"up{a="x\"{{ labels.a }}"}"#, 1),
            (r#"up{a="{{ labels.a | regex_quote }}"}"#, 1),
            (r#"up{a="{{ labels.a | tojson }}"}"#, 1),
            (r#"up{a="{{ labels.a | promql }}", b="{{ labels.b | regex_quote | logql }}"}"#, 0),
            ("up{a={{ labels.a | tojson }} }", 0),
            ("{{ labels.namespace }}", 0),
            ("it's {{ labels.a }}", 0),
            (r#"up{a="x"} {{ labels.a }}"#, 0),
            (r#"up{a="{{ resource_name }}"}"#, 0),
            (r#"up{a="{% if labels.a %}x{% endif %}"}"#, 0),
        ] {
            assert_eq!(bare(template).len(), want, "{template}");
        }
        let found = bare("sum(\n  up{a=\"{{ labels.a }}\"})");
        assert_eq!(
            found,
            [(
                2,
                "{{ labels.a }}".to_owned(),
                "write {{ labels.a | promql }}, or logql or label_value, after the language of the query"
                    .to_owned()
            )]
        );
    }

    proptest! {
        #[test]
        fn any_label_stays_inside_its_string_and_says_what_it_said(
            value in "\\PC{0,24}|[\"'`\\\\\n\r\t\u{0}-\u{1f}{}#a]{0,24}", quote in "[\"'`]", filter in "promql|logql",
        ) {
            let query = render(&format!("{quote}{{{{ x | {filter} }}}}{quote}}} tail"), &value).unwrap();
            let (said, rest) = string(&query).expect("a string");
            prop_assert_eq!(rest, "} tail");
            // Nothing is an escape in a raw string.
            prop_assert!(quote == "`" || said == value, "{} {}", said, value);
        }

        #[test]
        fn a_quoted_text_matches_itself_and_nothing_else(value in "\\PC{0,16}", other in "\\PC{0,16}") {
            let pattern = Regex::new(&format!("^(?:{})$", regex_quote(&value))).unwrap();
            prop_assert!(pattern.is_match(&value));
            prop_assert_eq!(pattern.is_match(&other), other == value);
        }

        #[test]
        fn a_selector_asks_for_one_value_or_is_none(value in "\\PC{0,70}|[a-z,=!() -]{0,20}") {
            if let Ok(selector) = render("app={{ x | label_value }}", &value) {
                prop_assert_eq!(selector.matches(|c: char| ",=!() \n".contains(c)).count(), 1);
            }
        }

        #[test]
        fn any_template_is_looked_through(template in "\\PC{0,40}|[{}%#\"'`\\\\a|. ]{0,40}") {
            bare(&template);
        }
    }
}
