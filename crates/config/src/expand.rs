//! `${NAME}` in a scalar. Substituted after the YAML is parsed, so that a value cannot add keys.

/// What a scalar came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expanded {
    /// Text, and whether any of it came from the environment.
    Text(String, bool),
    /// These variables are unset or empty.
    Unset(Vec<String>),
    /// It refers to the secret store.
    SecretStore,
    /// Not a reference that could be resolved.
    Malformed,
}

/// Replaces `${NAME}` by the environment's value; `$${` stands for `${`.
pub(crate) fn expand(raw: &str, env: &dyn Fn(&str) -> Option<String>) -> Expanded {
    let (mut text, mut unset, mut from_env) = (String::new(), vec![], false);
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
        if name.strip_prefix("secret:").is_some_and(|arn| !arn.is_empty()) {
            return Expanded::SecretStore;
        }
        if !is_name(name) {
            return Expanded::Malformed;
        }
        match env(name).filter(|value| !value.is_empty()) {
            Some(value) => text.push_str(&value),
            None => unset.push(name.to_owned()),
        }
        from_env = true;
        rest = tail;
    }
    text.push_str(rest);
    if unset.is_empty() { Expanded::Text(text, from_env) } else { Expanded::Unset(unset) }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("x${B}".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn a_value_is_not_expanded_again() {
        assert_eq!(expand("-${A}-", &env), Expanded::Text("-x${B}-".into(), true));
    }

    #[test]
    fn two_dollars_stand_for_one() {
        assert_eq!(expand("$${A} $5", &env), Expanded::Text("${A} $5".into(), false));
    }

    #[test]
    fn every_unset_name_is_told_and_empty_counts_as_unset() {
        assert_eq!(expand("${EMPTY}${A}${C}", &env), Expanded::Unset(vec!["EMPTY".into(), "C".into()]));
    }

    #[test]
    fn the_secret_store_and_nonsense_are_told_apart() {
        assert_eq!(expand("${secret:arn:aws:x#key}", &env), Expanded::SecretStore);
        for raw in ["${", "${}", "${a b}", "${secret:}", "${1A}"] {
            assert_eq!(expand(raw, &env), Expanded::Malformed, "{raw}");
        }
    }
}
