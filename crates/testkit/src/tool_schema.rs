//! What services refuse of a tool: its name, its description, and the schema of its arguments.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What OpenAI refuses of a function that is not `strict`: one line for each fault, in the service's words where they are
/// known. By its reference (names), its error texts (`object schema missing properties`, `array schema missing items`,
/// a composed top, lookaround, descriptions of over 1,024 characters), and JSON Schema's own rules.
pub fn refused_by_openai(name: &str, description: &str, parameters: &Value) -> Vec<String> {
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^[a-zA-Z0-9_-]{1,64}$").expect("a pattern that compiles"));
    let mut faults = Vec::new();
    if !NAME.is_match(name) {
        faults.push(format!("Invalid name {name:?}: it does not match ^[a-zA-Z0-9_-]{{1,64}}$."));
    }
    let length = description.chars().count();
    if length > 1024 {
        faults.push(format!("Invalid description of {name:?}: 1024 characters at most, not {length}."));
    }
    let mut refuse = |context: &str, what: &str| {
        faults.push(format!("Invalid schema for function '{name}': In context=({context}), {what}."));
    };
    if parameters.get("type").and_then(Value::as_str) != Some("object") {
        refuse("", "schema must be a JSON Schema of 'type: \"object\"'");
    }
    if let Some(composed) = ["oneOf", "anyOf", "allOf", "enum", "const", "not", "if"]
        .iter()
        .find(|key| parameters.get(**key).is_some())
    {
        refuse("", &format!("schema must not have '{composed}' at the top level"));
    }
    walk(parameters, &mut Vec::new(), &mut |path, schema| {
        let context = path.iter().map(|part| format!("'{part}'")).collect::<Vec<_>>().join(", ");
        let Value::Object(fields) = schema else {
            if !schema.is_boolean() {
                refuse(&context, &format!("{schema} is not of type 'object', 'boolean'"));
            }
            return;
        };
        let is = |kind: &str| match fields.get("type") {
            Some(Value::String(name)) => name == kind,
            Some(Value::Array(names)) => names.iter().any(|name| name == kind),
            _ => false,
        };
        if is("object") && !fields.contains_key("properties") {
            refuse(&context, "object schema missing properties");
        }
        if is("array") && !fields.contains_key("items") {
            refuse(&context, "array schema missing items");
        }
        let look =
            |pattern: &str| ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|around| pattern.contains(around));
        if fields.get("pattern").and_then(Value::as_str).is_some_and(look) {
            refuse(&context, "regex lookaround is not supported");
        }
        if let Some(to) = fields.get("$ref").and_then(Value::as_str)
            && to.strip_prefix('#').is_none_or(|pointer| parameters.pointer(pointer).is_none())
        {
            refuse(&context, &format!("reference {to} leads nowhere"));
        }
    });
    if let Err(error) = jsonschema::draft202012::meta::validate(parameters) {
        refuse(error.instance_path().as_str(), &format!("{error}"));
    }
    faults
}

/// What one or another of the services refuses beyond [`refused_by_openai`]: Anthropic references and other names of
/// properties; Gemini each keyword that its `Schema` does not have, lists of types, a schema without a type, `anyOf`
/// beside others, and lists of anything but texts.
pub fn refused_somewhere(parameters: &Value) -> Vec<String> {
    const KNOWN: [&str; 12] = [
        "type",
        "description",
        "properties",
        "required",
        "items",
        "enum",
        "anyOf",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minLength",
    ];
    static NAME: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("^[a-zA-Z0-9_.-]{1,64}$").expect("a pattern that compiles"));
    let mut faults = Vec::new();
    walk(parameters, &mut Vec::new(), &mut |path, schema| {
        let place = path.join("/");
        let Value::Object(fields) = schema else {
            faults.push(format!("/{place}: a boolean schema"));
            return;
        };
        for key in fields.keys().filter(|key| !KNOWN.contains(&key.as_str()) && *key != "maxLength") {
            faults.push(format!("/{place}: unknown name {key:?}"));
        }
        match (fields.get("type"), fields.get("anyOf")) {
            (None, Some(_)) if fields.len() > 1 => {
                faults.push(format!("/{place}: anyOf must be the only field"));
            }
            (Some(Value::String(_)), None) | (None, Some(_)) => {}
            _ => faults.push(format!("/{place}: it needs one type, or anyOf alone")),
        }
        let listed = fields.get("enum").and_then(Value::as_array);
        if listed.is_some_and(|values| values.iter().any(|v| v.as_str().is_none_or(str::is_empty))) {
            faults.push(format!("/{place}: enum takes texts that are not empty"));
        }
        let names = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
        faults.extend(
            names
                .filter(|(name, _)| !NAME.is_match(name))
                .map(|(name, _)| format!("/{place}: property {name:?}")),
        );
    });
    faults
}

/// Visits a schema and the schemas in it.
fn walk(schema: &Value, path: &mut Vec<String>, visit: &mut impl FnMut(&[String], &Value)) {
    visit(path, schema);
    let Some(fields) = schema.as_object() else { return };
    for (key, value) in fields {
        match key.as_str() {
            "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
                for (name, inner) in value.as_object().into_iter().flatten() {
                    path.extend([key.clone(), name.clone()]);
                    walk(inner, path, visit);
                    path.truncate(path.len() - 2);
                }
            }
            "items"
            | "additionalProperties"
            | "not"
            | "if"
            | "then"
            | "else"
            | "contains"
            | "propertyNames" => {
                path.push(key.clone());
                walk(value, path, visit);
                path.pop();
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                for (n, inner) in value.as_array().into_iter().flatten().enumerate() {
                    path.extend([key.clone(), n.to_string()]);
                    walk(inner, path, visit);
                    path.truncate(path.len() - 2);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_openai_refuses_is_refused_in_its_words() {
        let told = |parameters: Value| refused_by_openai("f", "", &parameters);
        assert!(told(json!({"type": "object", "properties": {}})).is_empty());
        assert_eq!(
            told(json!({"type": "object"})),
            ["Invalid schema for function 'f': In context=(), object schema missing properties."]
        );
        assert_eq!(
            told(json!({"type": "object", "properties": {"a": {"type": "array"}}})),
            ["Invalid schema for function 'f': In context=('properties', 'a'), array schema missing items."]
        );
        for parameters in [
            json!({"type": "object", "properties": {}, "anyOf": [{"required": ["a"]}]}),
            json!({"type": "string"}),
            json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?!x)"}}}),
            json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
            json!({"type": "object", "properties": {"a": {"exclusiveMinimum": true}}}),
            json!({"type": "object", "properties": {"a": 7}}),
        ] {
            assert!(!told(parameters.clone()).is_empty(), "{parameters}");
        }
        assert_eq!(refused_by_openai("a.b", "", &json!({"type": "object", "properties": {}})).len(), 1);
        assert_eq!(
            refused_by_openai("a", &"x".repeat(1025), &json!({"type": "object", "properties": {}})).len(),
            1
        );
    }

    #[test]
    fn what_others_refuse_is_refused() {
        let told = |inner: Value| refused_somewhere(&json!({"type": "object", "properties": {"a": inner}}));
        assert!(told(json!({"type": "string", "enum": ["x"]})).is_empty());
        assert!(told(json!({"anyOf": [{"type": "string"}, {"type": "integer"}]})).is_empty());
        for inner in [
            json!({"type": ["string", "null"]}),
            json!({"const": "x"}),
            json!({"type": "integer", "enum": [1]}),
            json!({"type": "string", "format": "uri"}),
            json!({"anyOf": [{"type": "string"}], "description": "x"}),
            json!({}),
            json!(true),
        ] {
            assert!(!told(inner.clone()).is_empty(), "{inner}");
        }
        assert_eq!(
            refused_somewhere(&json!({"type": "object", "properties": {"$a": {"type": "string"}}})).len(),
            1
        );
    }
}
