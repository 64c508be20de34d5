//! Values that others wrote, held against a JSON Schema.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::fence::clip;

/// A validator that takes linear time: the schemas are a server's, the values a model's. References to other
/// documents are not followed.
///
/// # Errors
/// Why the schema cannot be used.
pub fn validator(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex().size_limit(1 << 20))
        .build(schema)
        .map_err(|e| clip(&e.to_string(), 300))
}

/// What is wrong with a value, at most the first five problems, each with its place; `whole` is what the value is called.
pub fn problems(validator: &Validator, value: &Value, whole: &str) -> Vec<String> {
    let problem = |e: jsonschema::ValidationError<'_>| {
        let path = e.instance_path().to_string();
        let place = if path.is_empty() { whole.to_owned() } else { path };
        format!("{place}: {}", clip(&e.to_string(), 240))
    };
    validator.iter_errors(value).take(5).map(problem).collect()
}
