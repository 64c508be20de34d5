//! The configuration as a JSON Schema (draft 2020-12), for editors. What it accepts is no less than what [`crate::load`]
//! accepts; only that checks everything, names and tools among each other too.

use serde_json::{Map, Value, json};

use crate::read::SECTIONS;

/// The sections with the first of each key's names, their types and what they are for.
const SCHEMA: &str = include_str!("../schema.json");

/// The schema, with every name of every key.
///
/// # Errors
/// Never of this build: the file is compiled in, and every test of this module reads it.
pub fn json_schema() -> Result<Value, serde_json::Error> {
    let mut schema: Value = serde_json::from_str(SCHEMA)?;
    let definitions = schema.get_mut("$defs").and_then(Value::as_object_mut);
    for (section, definition) in definitions.into_iter().flatten() {
        let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        let of_section = |key: &str| names(section, key);
        let all: Map<String, Value> = properties
            .iter()
            .flat_map(|(key, value)| of_section(key).map(move |name| (name, value.clone())))
            .collect();
        *properties = all;
        let Some(definition) = definition.as_object_mut() else { continue };
        if let Some(Value::Array(required)) = definition.remove("required") {
            let one_of_its_names = |key: &str| {
                let names: Vec<Value> = of_section(key).map(|name| json!({"required": [name]})).collect();
                json!({"anyOf": names})
            };
            let all: Vec<Value> = required.iter().filter_map(Value::as_str).map(one_of_its_names).collect();
            definition.insert("allOf".to_owned(), all.into());
        }
        definition.insert("type".to_owned(), json!(["object", "null"]));
        definition.insert("additionalProperties".to_owned(), false.into());
    }
    Ok(schema)
}

/// All names of a key: its own, its other ones, and each of them with underscores.
fn names(section: &str, key: &str) -> impl Iterator<Item = String> + use<> {
    let keys = SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys);
    let aliases =
        keys.into_iter().flatten().find(|(name, _)| *name == key).map_or(&[][..], |(_, aliases)| aliases);
    let dashed = std::iter::once(key).chain(aliases.iter().copied()).map(str::to_owned).collect::<Vec<_>>();
    dashed.into_iter().flat_map(|name| {
        let other = name.replace('-', "_");
        let other = (other != name).then_some(other);
        std::iter::once(name).chain(other)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_schema_has_the_keys_that_are_read_and_no_others() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        for (section, keys) in SECTIONS {
            let properties =
                schema["$defs"][section]["properties"].as_object().unwrap_or_else(|| panic!("{section}"));
            let described: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
            let read: BTreeSet<&str> = keys.iter().map(|(name, _)| *name).collect();
            // The wrapper is taken off before the sections are read.
            let wrapper = BTreeSet::from_iter((*section == "top").then_some("sentinel"));
            assert_eq!(described, &read | &wrapper, "{section}");
        }
        let described =
            schema["$defs"].as_object().unwrap().iter().filter(|(_, d)| d.get("properties").is_some());
        let described: BTreeSet<&str> = described.map(|(section, _)| section.as_str()).collect();
        assert_eq!(described, SECTIONS.iter().map(|(section, _)| *section).collect());
    }
}
