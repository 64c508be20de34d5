//! Translates the original project's placeholders to template syntax, before anything is parsed: values are never
//! substituted into a template's text, so a label cannot be a template.

use std::sync::OnceLock;

use regex::{Captures, Regex};

/// The original's names. Each is a variable of the template context.
pub(crate) const NAMES: [&str; 8] = [
    "resource_name",
    "resource_type",
    "resource_state",
    "resource_value",
    "resource_timestamp",
    "resource_labels",
    "resource_annotations",
    "raw_payload",
];

/// A placeholder that means nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unknown {
    /// From 1.
    pub(crate) line: u32,
    /// As written, `${foo}`.
    pub(crate) written: String,
    /// The known name nearest to it.
    pub(crate) nearest: &'static str,
}

/// `${resource_name}` becomes `{{ resource_name }}`; where a text has neither `{{`, `{%` nor `${…}`, so does
/// `{resource_name}`. Lines stay where they are.
pub(crate) fn translate(text: &str) -> Result<String, Vec<Unknown>> {
    let dollar = pattern(&DOLLAR, r"\$\{\s*([A-Za-z_][A-Za-z0-9_.]*)\s*\}");
    let brace = pattern(&BRACE, r"\{([A-Za-z_][A-Za-z0-9_]*)\}");
    let (Some(dollar), Some(brace)) = (dollar, brace) else { return Ok(text.to_owned()) };
    if dollar.is_match(text) {
        return replace(text, dollar, |_| true);
    }
    if text.contains("{{") || text.contains("{%") {
        return Ok(text.to_owned());
    }
    // A plain text may hold braces of its own; only what looks like a misspelt name is wrong.
    replace(text, brace, |name| strsim::damerau_levenshtein(name, nearest(name)) <= 2)
}

static DOLLAR: OnceLock<Option<Regex>> = OnceLock::new();
static BRACE: OnceLock<Option<Regex>> = OnceLock::new();

fn pattern(cell: &'static OnceLock<Option<Regex>>, text: &str) -> Option<&'static Regex> {
    cell.get_or_init(|| Regex::new(text).ok()).as_ref()
}

fn replace(text: &str, pattern: &Regex, is_wrong: impl Fn(&str) -> bool) -> Result<String, Vec<Unknown>> {
    let mut unknown = Vec::new();
    let translated = pattern.replace_all(text, |found: &Captures<'_>| {
        let written = found.get(0).map_or("", |m| m.as_str());
        let name = found.get(1).map_or("", |m| m.as_str());
        if NAMES.contains(&name) {
            return format!("{{{{ {name} }}}}");
        }
        if is_wrong(name) {
            let before = found.get(0).and_then(|m| text.get(..m.start())).unwrap_or_default();
            let line = before.matches('\n').count().saturating_add(1);
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            unknown.push(Unknown { line, written: written.to_owned(), nearest: nearest(name) });
        }
        written.to_owned()
    });
    let translated = translated.into_owned();
    if unknown.is_empty() { Ok(translated) } else { Err(unknown) }
}

fn nearest(name: &str) -> &'static str {
    NAMES.into_iter().min_by_key(|known| strsim::damerau_levenshtein(name, known)).unwrap_or("resource_name")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_patterns_compile() {
        assert!(translate("${resource_name}").unwrap().contains("{{"));
        assert!(translate("{resource_name}").unwrap().contains("{{"));
    }

    #[test]
    fn the_originals_placeholders_become_variables() {
        for name in NAMES {
            assert_eq!(translate(&format!("a ${{{name}}} b")).unwrap(), format!("a {{{{ {name} }}}} b"));
            assert_eq!(translate(&format!("a {{{name}}} b")).unwrap(), format!("a {{{{ {name} }}}} b"));
        }
    }

    #[test]
    fn braces_mean_something_only_where_a_text_has_no_other_form() {
        for text in ["{{ labels.x }} {resource_name}", "{% if x %}{resource_name}{% endif %}"] {
            assert_eq!(translate(text).unwrap(), text);
        }
        assert_eq!(
            translate("${resource_type} {resource_name}").unwrap(),
            "{{ resource_type }} {resource_name}"
        );
        assert_eq!(translate("{\"a\": {namespace}}").unwrap(), "{\"a\": {namespace}}");
    }

    #[test]
    fn an_unknown_placeholder_is_told_with_its_line_and_the_nearest_known_one() {
        let unknown = translate("one\ntwo ${resource_nmae} ${foo}").unwrap_err();
        assert_eq!(unknown.len(), 2);
        assert_eq!(
            unknown[0],
            Unknown { line: 2, written: "${resource_nmae}".into(), nearest: "resource_name" }
        );
        assert_eq!(translate("{resource_labls}").unwrap_err()[0].nearest, "resource_labels");
    }
}
