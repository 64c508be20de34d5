//! Values that others wrote, held against JSON Schemas that others wrote: within a bound that is known before anything
//! is looked at.

use std::fmt::{self, Write};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::fence::clip;

mod steps;

use steps::{Plan, Steps};

/// The largest schema, in bytes of JSON.
pub const LARGEST_SCHEMA: usize = 64 * 1024;
/// The most steps that one value may take. A step is a keyword that is looked at, 64 bytes of a text, or one byte of it in
/// 64 states of a pattern; this many are about a tenth of a second.
pub const MOST_STEPS: u64 = 500_000;
/// The most steps for saying where a value breaks its schema.
const MOST_TO_TELL: u64 = 100_000;
/// How many schemas may be applied inside of each other to one value and its parts: the validator's stack grows with it.
pub const DEEPEST: u32 = 256;
/// The most problems that are told, and the longest of them, in characters.
const MOST_PROBLEMS: usize = 5;
const LONGEST_PROBLEM: usize = 240;

/// A JSON Schema that values are held against. References to other documents are not followed.
#[derive(Debug)]
pub struct Schema {
    validator: Validator,
    plan: Plan,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Why it cannot be used: it is none, or nobody can say how long a value would take.
    pub fn new(schema: &Value) -> Result<Self, String> {
        if schema.to_string().len() > LARGEST_SCHEMA {
            return Err(format!("it is larger than {LARGEST_SCHEMA} bytes"));
        }
        let plan = Plan::of(schema)?;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex().size_limit(steps::LARGEST_PATTERNS))
            // Whether a text is an expression is found out by compiling it, and what that takes is the text's choice.
            .with_format("regex", |_: &str| true)
            .build(schema)
            .map_err(|e| brief(&e, 300))?;
        Ok(Self { validator, plan })
    }

    /// What is wrong with a value, at most the first five problems, each with its place; `whole` is what the value is
    /// called. A value that would take more than [`MOST_STEPS`] is not looked at, and that is its problem.
    pub fn problems(&self, value: &Value, whole: &str) -> Vec<String> {
        let Some(Steps { steps, height }) = self.plan.steps(value) else {
            return vec![format!(
                "{whole}: to hold it against the schema would take more than {MOST_STEPS} steps, or go deeper than \
                 {DEEPEST} schemas"
            )];
        };
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        // An error lists those of all branches, which are looked at again on each level.
        if steps.saturating_mul(u64::from(height)) > MOST_TO_TELL {
            return vec![format!("{whole}: it breaks the schema; to say where would take too many steps")];
        }
        let problem = |e: jsonschema::ValidationError<'_>| {
            let path = e.instance_path().to_string();
            let place = if path.is_empty() { whole } else { &clip(&path, LONGEST_PROBLEM) };
            format!("{place}: {}", brief(&e, LONGEST_PROBLEM))
        };
        self.validator.iter_errors(value).take(MOST_PROBLEMS).map(problem).collect()
    }

    /// The most steps that a value takes; `None`: more than [`MOST_STEPS`], or too deep.
    pub fn steps(&self, value: &Value) -> Option<u64> {
        self.plan.steps(value).map(|found| found.steps)
    }
}

/// The first `most` characters of a text that is not written any further: an error may hold the whole value.
pub fn brief(text: &impl fmt::Display, most: usize) -> String {
    struct Brief {
        text: String,
        left: usize,
    }
    impl Write for Brief {
        fn write_str(&mut self, more: &str) -> fmt::Result {
            let fits =
                more.char_indices().nth(self.left).map_or(more, |(at, _)| more.get(..at).unwrap_or(more));
            self.text.push_str(fits);
            self.left -= fits.chars().count();
            if fits.len() < more.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut brief = Brief { text: String::new(), left: most };
    match write!(brief, "{text}") {
        Ok(()) => brief.text,
        Err(fmt::Error) => format!("{}…", brief.text),
    }
}

#[cfg(test)]
mod tests;
