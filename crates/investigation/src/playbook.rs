//! A card, ready to run: its prompt and evidence calls compiled, its policy and its checklist parsed.

use std::io;

use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{Environment, Error, ErrorKind, Template, UndefinedBehavior, escape_formatter};
use sentinel_core::UnixMs;
use sentinel_core::card::{Card, EvidenceCall};
use serde_json::{Map, Value};

use crate::checklist::Checklist;
use crate::fence::{fenced, shorten};
use crate::filters;
use crate::placeholders::translate;
use crate::policy::ToolRules;
use crate::problem::{CompileProblem, Part};
use crate::situation::{Situation, VARIABLES};

/// What a template may do: an endless loop ends, and so does one that writes for ever.
const FUEL: u64 = 2_000_000;
/// The longest rendered prompt, in bytes.
const LONGEST_PROMPT: usize = 48 * 1024;
/// The most that a template may write before it is shortened, in bytes; and the most that the arguments of an evidence call
/// may have together.
const MOST_WRITTEN: usize = 1 << 20;
pub(crate) const LARGEST_ARGUMENTS: usize = 64 * 1024;
/// A value in a prompt that is longer than this, in characters, or has a line break, is fenced as data.
const LONGEST_INLINE: usize = 200;
/// The system prompt.
const SYSTEM: &str = include_str!("../../../prompts/system.md.j2");

/// An incident card and everything of it that has to be compiled.
#[derive(Debug)]
pub struct Playbook {
    card: Card,
    /// The prompt, under [`PROMPT`]: long values are fenced.
    prompts: Environment<'static>,
    /// The strings of evidence calls, by their place: values are written as they are.
    arguments: Environment<'static>,
    checklist: Checklist,
    tool_rules: ToolRules,
}

const PROMPT: &str = "prompt";
const SYSTEM_NAME: &str = "system";

impl Playbook {
    /// Compiles a card.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn compile(card: &Card) -> Result<Self, Vec<CompileProblem>> {
        let mut problems = Vec::new();
        let mut prompts = environment();
        prompts.set_formatter(|out, state, value| match value.as_str() {
            Some(text) if text.contains('\n') || text.chars().count() > LONGEST_INLINE => {
                escape_formatter(out, state, &TemplateValue::from(format!("\n{}\n", fenced(text))))
            }
            _ => escape_formatter(out, state, value),
        });
        add(&mut prompts, PROMPT, &card.prompt.text, Part::Prompt, &mut problems);
        if let Err(e) = prompts.add_template(SYSTEM_NAME, SYSTEM) {
            problems.push(problem(Part::Prompt, &e));
        }
        let mut arguments = environment();
        for (index, call) in card.evidence.iter().enumerate() {
            each_string(&Value::Object(call.arguments.clone()), &mut String::new(), &mut |place, text| {
                add(&mut arguments, &format!("{index}{place}"), text, Part::Evidence(index), &mut problems);
            });
        }
        let checklist = Checklist::compile(&card.checklist, &mut problems);
        let tool_rules = ToolRules::compile(card, &mut problems);
        if problems.is_empty() {
            Ok(Self { card: card.clone(), prompts, arguments, checklist, tool_rules })
        } else {
            Err(problems)
        }
    }

    /// What may be meant and is probably not: values of alerts that stand between quotes of an evidence call's arguments as
    /// they are.
    pub fn warnings(&self) -> Vec<CompileProblem> {
        let mut warnings = Vec::new();
        for (index, call) in self.card.evidence.iter().enumerate() {
            each_string(&Value::Object(call.arguments.clone()), &mut String::new(), &mut |place, text| {
                let text = translate(text).unwrap_or_default();
                warnings.extend(filters::bare(&text).into_iter().map(|(line, written, help)| CompileProblem {
                    part: Part::Evidence(index),
                    line: Some(line),
                    message: format!(
                        "{}: {written} stands between quotes as it is, so that a label with a quote in it becomes a part \
                         of the query",
                        place.trim_start_matches('/')
                    ),
                    help,
                }));
            });
        }
        warnings
    }

    /// The card.
    pub fn card(&self) -> &Card {
        &self.card
    }

    pub(crate) fn checklist(&self) -> &Checklist {
        &self.checklist
    }

    pub(crate) fn tool_rules(&self) -> &ToolRules {
        &self.tool_rules
    }

    /// The system prompt: the same for every incident of the card.
    pub(crate) fn instructions(&self) -> Result<String, String> {
        let variables = minijinja::context! { max_turns => self.card.max_iterations };
        self.prompts.get_template(SYSTEM_NAME).and_then(|t| t.render(variables)).map_err(|e| describe(&e))
    }

    /// The card's prompt over the alerts.
    pub(crate) fn task(&self, situation: &Situation, now: UnixMs) -> Result<String, String> {
        let variables = TemplateValue::from(Serde(situation.variables(&self.card, now)));
        let template = self.prompts.get_template(PROMPT).map_err(|e| describe(&e))?;
        let (Written::All(text) | Written::Beginning(text)) = render(&template, variables, MOST_WRITTEN)?;
        Ok(shorten(text.trim(), LONGEST_PROMPT))
    }

    /// The arguments of the `index`-th evidence call over the alerts.
    pub(crate) fn arguments(
        &self,
        index: usize,
        call: &EvidenceCall,
        situation: &Situation,
        now: UnixMs,
    ) -> Result<Map<String, Value>, String> {
        let variables = TemplateValue::from(Serde(situation.variables(&self.card, now)));
        let mut rendered = Value::Object(call.arguments.clone());
        let mut failed = None;
        let mut left = LARGEST_ARGUMENTS;
        render_strings(&mut rendered, &mut String::new(), &mut |place, text| {
            let template = self.arguments.get_template(&format!("{index}{place}")).map_err(|e| describe(&e));
            match template.and_then(|template| render(&template, variables.clone(), left)) {
                Ok(Written::All(rendered)) => {
                    left -= rendered.len();
                    *text = rendered;
                }
                Ok(Written::Beginning(_)) => {
                    failed = Some(format!("they would have more than {LARGEST_ARGUMENTS} bytes"));
                }
                Err(reason) => failed = Some(reason),
            }
        });
        match (failed, rendered) {
            (None, Value::Object(map)) => Ok(map),
            (failed, _) => Err(failed.unwrap_or_else(|| "its arguments are no object".to_owned())),
        }
    }
}

/// What a template wrote.
enum Written {
    All(String),
    /// As much as was allowed, where it would have gone on.
    Beginning(String),
}

/// Renders a template until it has written `most` bytes.
fn render(template: &Template<'_, '_>, variables: TemplateValue, most: usize) -> Result<Written, String> {
    struct Bounded {
        written: Vec<u8>,
        left: usize,
    }
    impl io::Write for Bounded {
        fn write(&mut self, more: &[u8]) -> io::Result<usize> {
            let fits = more.get(..self.left).unwrap_or(more);
            self.written.extend_from_slice(fits);
            self.left -= fits.len();
            // Nothing taken of something: that ends the writing.
            Ok(fits.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut out = Bounded { written: Vec::new(), left: most };
    let ended = template.render_captured_to(variables, &mut out);
    let text = String::from_utf8_lossy(&out.written).into_owned();
    match ended {
        Ok(_) => Ok(Written::All(text)),
        Err(e) if e.kind() == ErrorKind::WriteFailure => Ok(Written::Beginning(text)),
        Err(e) => Err(describe(&e)),
    }
}

/// What a template writes over labels, at most so many bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn rendered(template: &str, labels: &Value, most: usize) -> Result<String, String> {
    let environment = environment();
    let template = environment.template_from_str(template).map_err(|e| describe(&e))?;
    let variables = minijinja::context! { labels => TemplateValue::from(Serde(labels)) };
    let (Written::All(text) | Written::Beginning(text)) = render(&template, variables, most)?;
    Ok(text)
}

/// No loader: a template can read nothing but its variables.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    filters::add(&mut environment);
    environment
}

fn add(
    environment: &mut Environment<'static>,
    name: &str,
    text: &str,
    part: Part,
    problems: &mut Vec<CompileProblem>,
) {
    let text = match translate(text) {
        Ok(text) => text,
        Err(unknown) => {
            problems.extend(unknown.into_iter().map(|u| CompileProblem {
                part,
                line: Some(u.line),
                message: format!("unknown placeholder {}", u.written),
                help: format!(
                    "the nearest known one is ${{{}}}; text that only looks like one is written {{{{ '${{' }}}}…}}",
                    u.nearest
                ),
            }));
            return;
        }
    };
    if let Err(e) = environment.add_template_owned(name.to_owned(), text.clone()) {
        problems.push(problem(part, &e));
        return;
    }
    let Ok(template) = environment.get_template(name) else { return };
    let globals: Vec<&str> = environment.globals().map(|(name, _)| name).collect();
    let mut undeclared: Vec<String> = template.undeclared_variables(false).into_iter().collect();
    undeclared.sort();
    for variable in undeclared {
        if VARIABLES.contains(&variable.as_str()) || globals.contains(&variable.as_str()) {
            continue;
        }
        let nearest = VARIABLES.iter().min_by_key(|known| strsim::damerau_levenshtein(known, &variable));
        problems.push(CompileProblem {
            part,
            line: line_of(&text, &variable),
            message: format!("unknown variable {variable}"),
            help: format!(
                "the nearest known one is {}; there are {}",
                nearest.copied().unwrap_or_default(),
                VARIABLES.join(", ")
            ),
        });
    }
}

/// The first line that holds the name as a word.
fn line_of(text: &str, name: &str) -> Option<u32> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let at = text.lines().position(|line| line.split(|c| !is_word(c)).any(|word| word == name))?;
    u32::try_from(at.saturating_add(1)).ok()
}

fn problem(part: Part, error: &Error) -> CompileProblem {
    CompileProblem {
        part,
        line: error.line().and_then(|line| u32::try_from(line).ok()),
        message: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
        help: "the syntax is minijinja's: {{ variable }}, {% if … %}, {% for … %}".to_owned(),
    }
}

/// In one line, without the template's internal name.
fn describe(error: &Error) -> String {
    let detail = error.detail().map_or_else(String::new, |d| format!(": {d}"));
    let line = error.line().map_or_else(String::new, |l| format!(" (line {l})"));
    format!("{}{detail}{line}", error.kind())
}

/// Calls `each` with every string of a value and its place in it.
fn each_string(value: &Value, place: &mut String, each: &mut impl FnMut(&str, &str)) {
    render_strings(&mut value.clone(), place, &mut |place, text| each(place, text));
}

fn render_strings(value: &mut Value, place: &mut String, each: &mut impl FnMut(&str, &mut String)) {
    let length = place.len();
    match value {
        Value::String(text) => each(place, text),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                place.extend(["/", &index.to_string()]);
                render_strings(item, place, each);
                place.truncate(length);
            }
        }
        Value::Object(map) => {
            for (key, item) in map.iter_mut() {
                place.extend(["/", key]);
                render_strings(item, place, each);
                place.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
pub(crate) mod tests;
