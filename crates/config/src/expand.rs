//! `${NAME}` and `${secret:…}` in a scalar. Substituted after the YAML is parsed, so that a value cannot add keys. The line
//! ends around a value are none of it: a file that a secret was made of ends in one.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

/// What references stand for.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    /// The environment.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
    /// Whole secrets of the secret store, by ARN or name.
    pub(crate) secrets: &'a BTreeMap<String, SecretString>,
}

/// What a scalar came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expanded {
    /// Text, and whether any of it came from the environment or the secret store.
    Text(String, bool),
    /// These variables are unset or empty.
    Unset(Vec<String>),
    /// It refers to a secret that was not read.
    Unread,
    /// The secret was read, and has no value of this key.
    NoKey(String),
    /// Not a reference that could be resolved.
    Malformed,
}

/// Replaces `${NAME}` by the environment's value and `${secret:ID}` by the secret's text, or by the value of one key of
/// a secret that is a JSON object: `${secret:ID#key}`. An ID of `$NAME` is the one that the environment names. `$${`
/// stands for `${`.
pub(crate) fn expand(raw: &str, values: &Values<'_>) -> Expanded {
    let (mut text, mut unset, mut given) = (String::new(), vec![], false);
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            text.push_str(before);
            text.push_str("${");
            rest = after;
            continue;
        }
        text.push_str(before);
        let Some((name, tail)) = after.split_once('}') else { return Expanded::Malformed };
        if let Some((reference, key)) = secret(name) {
            let Some(id) = named(reference, values) else {
                unset.push(reference.trim_start_matches('$').to_owned());
                rest = tail;
                continue;
            };
            let Some(whole) = values.secrets.get(&id) else { return Expanded::Unread };
            let Some(value) = value(whole, key) else {
                return Expanded::NoKey(key.unwrap_or_default().to_owned());
            };
            text.push_str(&value);
        } else if !is_name(name) {
            return Expanded::Malformed;
        } else if let Some(value) = of_env(name, values) {
            text.push_str(&value);
        } else {
            unset.push(name.to_owned());
        }
        given = true;
        rest = tail;
    }
    text.push_str(rest);
    if unset.is_empty() { Expanded::Text(text, given) } else { Expanded::Unset(unset) }
}

/// What each reference of a text stands for, with the name of its variable (`None`: of the secret store), as far as
/// [`expand`] finds it.
pub(crate) fn given<'t>(raw: &'t str, values: &Values<'_>) -> Vec<(Option<&'t str>, String)> {
    let mut given = vec![];
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once("${") {
        rest = after;
        let Some((name, tail)) = after.split_once('}').filter(|_| !before.ends_with('$')) else { continue };
        rest = tail;
        given.extend(match secret(name) {
            Some((id, key)) => {
                let whole = named(id, values).and_then(|id| values.secrets.get(&id));
                whole.and_then(|whole| value(whole, key)).map(|value| (None, value))
            }
            None => of_env(name, values).map(|value| (Some(name), value)),
        });
    }
    given
}

/// A variable's value, unless it is empty.
pub(crate) fn of_env(name: &str, values: &Values<'_>) -> Option<String> {
    (values.env)(name).map(|value| without_line_ends(&value).to_owned()).filter(|value| !value.is_empty())
}

/// Without the line ends around it.
pub(crate) fn without_line_ends(text: &str) -> &str {
    text.trim_matches(['\r', '\n'])
}

/// The variable that was meant by a text that is `$NAME` as a whole, or behind a scheme (`Bearer $NAME`): it is taken for
/// the text itself.
pub(crate) fn meant_variable(raw: &str) -> Option<&str> {
    let word = raw.trim();
    let word =
        word.split_once(' ').filter(|(scheme, _)| is_scheme(scheme)).map_or(word, |(_, rest)| rest.trim());
    let name = word.strip_prefix('$')?;
    let name = name.strip_prefix('(').and_then(|name| name.strip_suffix(')')).unwrap_or(name);
    is_name(name).then_some(name)
}

/// Whether a word stands before a credential in a header.
pub(crate) fn is_scheme(word: &str) -> bool {
    ["bearer", "basic", "token", "apikey"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme))
}

/// The secrets that a scalar refers to, by ARN or name, as far as the environment names them.
pub(crate) fn secret_ids(raw: &str, values: &Values<'_>) -> Vec<String> {
    let references = raw.split("${").skip(1).filter_map(|after| after.split_once('}'));
    references.filter_map(|(name, _)| named(secret(name)?.0, values)).collect()
}

/// `secret:ID` or `secret:ID#key`.
fn secret(name: &str) -> Option<(&str, Option<&str>)> {
    let reference = name.strip_prefix("secret:")?;
    let (id, key) = reference.split_once('#').map_or((reference, None), |(id, key)| (id, Some(key)));
    let is_id = id.strip_prefix('$').map_or(!id.is_empty(), is_name);
    (is_id && key != Some("")).then_some((id, key))
}

/// The ARN or name itself: where it is `$NAME`, which no secret is called, what the environment says.
fn named(id: &str, values: &Values<'_>) -> Option<String> {
    id.strip_prefix('$').map_or_else(|| Some(id.to_owned()), |variable| of_env(variable, values))
}

/// A secret's text, or the value of one of its keys.
fn value(whole: &SecretString, key: Option<&str>) -> Option<String> {
    let whole = without_line_ends(whole.expose_secret());
    let Some(key) = key else { return Some(whole.to_owned()) };
    let object: serde_json::Value = serde_json::from_str(whole).ok()?;
    match object.get(key)? {
        serde_json::Value::String(text) => Some(without_line_ends(text).to_owned()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(raw: &str) -> Expanded {
        let env = |name: &str| match name {
            "A" => Some("x${B}".into()),
            "EMPTY" => Some(String::new()),
            "FILE" => Some("\r\nof a\nfile\r\n".into()),
            "BLANK" => Some("\n".into()),
            "ARN" => Some("arn:aws:x\n".into()),
            _ => None,
        };
        let secrets = [("arn:aws:x", "whole\n"), ("json", r#"{"user": "u\n", "port": 5, "list": []}"#)];
        let secrets = secrets.map(|(id, text)| (id.to_owned(), text.into())).into();
        expand(raw, &Values { env: &env, secrets: &secrets })
    }

    fn text(text: &str) -> Expanded {
        Expanded::Text(text.into(), true)
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expanded("-${A}-"), text("-x${B}-"));
    }

    #[test]
    fn two_dollars_stand_for_one() {
        assert_eq!(expanded("$${A} $5"), Expanded::Text("${A} $5".into(), false));
    }

    #[test]
    fn every_unset_name_is_told_and_empty_counts_as_unset() {
        assert_eq!(expanded("${EMPTY}${A}${C}"), Expanded::Unset(vec!["EMPTY".into(), "C".into()]));
    }

    #[test]
    fn a_secret_stands_whole_or_by_one_of_its_keys() {
        assert_eq!(expanded("${secret:arn:aws:x}"), text("whole"));
        assert_eq!(expanded("Bearer ${secret:json#user}:${secret:json#port}"), text("Bearer u:5"));
        assert_eq!(expanded("${secret:json#absent}"), Expanded::NoKey("absent".into()));
        assert_eq!(expanded("${secret:json#list}"), Expanded::NoKey("list".into()));
        assert_eq!(expanded("${secret:arn:aws:x#user}"), Expanded::NoKey("user".into()));
        assert_eq!(expanded("${secret:other}"), Expanded::Unread);
    }

    #[test]
    fn a_secret_may_be_named_by_the_environment() {
        assert_eq!(expanded("${secret:$ARN}"), text("whole"));
        assert_eq!(expanded("${secret:$ARN#user}"), Expanded::NoKey("user".into()));
        assert_eq!(
            expanded("${secret:$EMPTY}${secret:$C#k}"),
            Expanded::Unset(vec!["EMPTY".into(), "C".into()])
        );
        assert_eq!(expanded("${secret:$A}"), Expanded::Unread);
    }

    #[test]
    fn the_secrets_that_a_text_needs_are_listed() {
        let env = |name: &str| (name == "ARN").then(|| "arn:x".to_owned());
        let values = Values { env: &env, secrets: &BTreeMap::new() };
        let ids = secret_ids("${secret:a#k} ${B} ${secret:c}${secret:}${secret:$ARN#k}${secret:$C}", &values);
        assert_eq!(ids, ["a", "c", "arn:x"]);
    }

    #[test]
    fn line_ends_around_a_value_are_none_of_it() {
        assert_eq!(expanded("Bearer ${FILE}"), text("Bearer of a\nfile"));
        assert_eq!(expanded("${BLANK}"), Expanded::Unset(vec!["BLANK".into()]));
    }

    #[test]
    fn a_variable_without_braces_is_known_for_one() {
        for raw in ["$A_1", " $A_1\n", "Bearer $A_1", "token  $A_1", "$(A_1)"] {
            assert_eq!(meant_variable(raw), Some("A_1"), "{raw:?}");
        }
        for raw in ["$", "$1a", "a$A", "$A$B", "${A}", "$A b", "Bearer a$A", "$$A"] {
            assert_eq!(meant_variable(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn nonsense_is_told() {
        for raw in [
            "${",
            "${}",
            "${a b}",
            "${secret:}",
            "${secret:#k}",
            "${secret:a#}",
            "${1A}",
            "${secret:$}",
            "${secret:$1}",
        ] {
            assert_eq!(expanded(raw), Expanded::Malformed, "{raw}");
        }
    }
}
