//! A card, ready to run: its prompt and evidence calls compiled, its policy and its checklist parsed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use minijinja::value::{Serde, Value as TemplateValue};
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter};
use sentinel_core::UnixMs;
use sentinel_core::card::{Card, EvidenceCall};
use serde_json::{Map, Value};

use crate::checklist::Checklist;
use crate::fence::{fenced, shorten};
use crate::filters;
use crate::placeholders::translate;
use crate::policy::ToolRules;
use crate::problem::{CompileProblem, Part};
use crate::situation::Situation;
use crate::template::{self, Checked, Rendered, Template, check, describe};

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
    /// Where the prompt stands.
    place: PromptPlace,
    prompt: Template,
    /// What renders prompts: long values are fenced. It holds the system prompt.
    prompts: Environment<'static>,
    /// The strings of evidence calls, by their place: values are written as they are.
    arguments: Environment<'static>,
    /// What each evidence call asks of labels and annotations, as it is written: `labels.queue`.
    asked: Vec<BTreeSet<String>>,
    checklist: Checklist,
    tool_rules: ToolRules,
}

const SYSTEM_NAME: &str = "system";

/// Where a prompt stands, for whoever has to mend it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PromptPlace {
    /// The file: its own, or the configuration that it is written in.
    pub file: PathBuf,
    /// The line of that file before its first one.
    pub before: u32,
}

impl Playbook {
    /// Compiles a card.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn compile(card: &Card) -> Result<Self, Vec<CompileProblem>> {
        let mut problems = Vec::new();
        let mut prompts = template::environment(UndefinedBehavior::Chainable);
        prompts.set_formatter(|out, state, value| match value.as_str() {
            Some(text) if text.contains('\n') || text.chars().count() > LONGEST_INLINE => {
                escape_formatter(out, state, &TemplateValue::from(format!("\n{}\n", fenced(text))))
            }
            _ => escape_formatter(out, state, value),
        });
        let prompt = looked_through(&prompts, &card.prompt.text, Part::Prompt, &mut problems).map_or_else(
            || Template::new("", Checked::default()),
            |(text, checked)| Template::new(&text, checked),
        );
        if let Err(e) = prompts.add_template(SYSTEM_NAME, SYSTEM) {
            problems.push(problem(Part::Prompt, &e));
        }
        let mut arguments = template::environment(UndefinedBehavior::Strict);
        let mut asked = Vec::new();
        for (index, call) in card.evidence.iter().enumerate() {
            let (part, mut asks) = (Part::Evidence(index), BTreeSet::new());
            each_string(&Value::Object(call.arguments.clone()), &mut String::new(), &mut |place, text| {
                let Some((text, checked)) = looked_through(&arguments, text, part, &mut problems) else {
                    return;
                };
                asks.extend(checked.asked);
                if let Err(e) = arguments.add_template_owned(format!("{index}{place}"), text) {
                    problems.push(problem(part, &e));
                }
            });
            asked.push(asks);
        }
        let checklist = Checklist::compile(&card.checklist, &mut problems);
        let tool_rules = ToolRules::compile(card, &mut problems);
        if problems.is_empty() {
            let (card, place) = (card.clone(), PromptPlace::default());
            Ok(Self { card, place, prompt, prompts, arguments, asked, checklist, tool_rules })
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

    /// The same, of a prompt that stands there.
    #[must_use]
    pub fn with_prompt_at(self, place: PromptPlace) -> Self {
        Self { place, ..self }
    }

    /// Where the prompt stands.
    pub(crate) fn prompt_place(&self) -> &PromptPlace {
        &self.place
    }

    /// What the `index`-th evidence call asks of labels and annotations.
    pub(crate) fn asked(&self, index: usize) -> impl Iterator<Item = &str> {
        self.asked.get(index).into_iter().flatten().map(String::as_str)
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
        self.prompts
            .get_template(SYSTEM_NAME)
            .and_then(|t| t.render(variables))
            .map_err(|e| describe(&e, SYSTEM))
    }

    /// The card's prompt over the alerts, and what of it could not be shown.
    pub(crate) fn task(&self, situation: &Situation, now: UnixMs) -> Rendered {
        let variables = situation.variables(&self.card, now);
        let differing = situation.differing();
        let Rendered { text, unshown } =
            self.prompt.render(&self.prompts, &variables, &differing, MOST_WRITTEN);
        Rendered { text: shorten(text.trim(), LONGEST_PROMPT), unshown }
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
            let template = self.arguments.get_template(&format!("{index}{place}"));
            let source = template.as_ref().map_or("", |template| template.source());
            let (written, ended) = template::write(&self.arguments, source, variables.clone(), left);
            match ended {
                Ok(()) => {
                    left -= written.len();
                    *text = written;
                }
                Err(e) if e.kind() == ErrorKind::WriteFailure => {
                    failed = Some(format!("they would have more than {LARGEST_ARGUMENTS} bytes"));
                }
                Err(e) => failed = Some(describe(&e, source)),
            }
        });
        match (failed, rendered) {
            (None, Value::Object(map)) => Ok(map),
            (failed, _) => Err(failed.unwrap_or_else(|| "its arguments are no object".to_owned())),
        }
    }
}

/// What a template writes over labels, at most so many bytes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn rendered(template: &str, labels: &Value, most: usize) -> Result<String, String> {
    let environment = template::environment(UndefinedBehavior::Strict);
    let variables = minijinja::context! { labels => TemplateValue::from(Serde(labels)) };
    let (text, ended) = template::write(&environment, template, variables, most);
    match ended {
        Err(e) if e.kind() != ErrorKind::WriteFailure => Err(describe(&e, template)),
        _ => Ok(text),
    }
}

/// A template with its placeholders translated, and what is found in it; `None`: it cannot work, and the problems say why.
fn looked_through(
    environment: &Environment<'_>,
    text: &str,
    part: Part,
    problems: &mut Vec<CompileProblem>,
) -> Option<(String, Checked)> {
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
            return None;
        }
    };
    // What the template engine finds by itself, then what it would find only where that path is taken.
    let checked = environment.template_from_str(&text).map(drop).and_then(|()| check(environment, &text));
    match checked {
        Ok(checked) if checked.problems.is_empty() => Some((text, checked)),
        Ok(checked) => {
            problems.extend(checked.problems.into_iter().map(|p| CompileProblem {
                part,
                line: Some(p.line),
                message: p.message,
                help: p.help,
            }));
            None
        }
        Err(e) => {
            problems.push(problem(part, &e));
            None
        }
    }
}

fn problem(part: Part, error: &Error) -> CompileProblem {
    CompileProblem {
        part,
        line: error.line().and_then(|line| u32::try_from(line).ok()),
        message: error.detail().map_or_else(|| error.kind().to_string(), str::to_owned),
        help: "the syntax is minijinja's: {{ variable }}, {% if … %}, {% for … %}".to_owned(),
    }
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
