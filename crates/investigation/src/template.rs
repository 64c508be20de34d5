//! A card's prompt as a template: held against all that is known when it is loaded, and rendered so that what is missing, or
//! fails, costs nothing but its own place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, ObjectRepr, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde::{Deserialize, Serialize};

use crate::fence::clip;
use crate::filters;

mod check;
pub(crate) mod kinds;

pub(crate) use check::{Checked, check};

use check::Mark;

/// What a template may do: an endless loop ends, and so does one that writes for ever.
const FUEL: u64 = 2_000_000;
/// The most places of one rendering that may fail: each is rendered around once more.
const MOST_FAILED: usize = 32;
/// Stands behind each expression that is to be shown and may be missing. No template can write it: it has a space.
const MARKED: &str = "shown_if_missing";
/// Stands in the place of what failed.
const FAILED: &str = "shown_as_failed";
/// What the two look things up in, beside a template's own variables. No template can name it.
const NOTED: &str = " noted";

/// Something that a template asked for and did not get.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Unshown {
    /// Its line in the template, from 1.
    pub line: u32,
    /// As it is written, `labels.queue`.
    pub variable: String,
    /// Why it is not there.
    pub why: Why,
}

/// Why a template did not get what it asked for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The alerts have none.
    Missing,
    /// The alerts have several.
    Differs,
    /// It could not be rendered, for this reason.
    Failed(String),
}

impl Unshown {
    /// What stands in its place.
    fn shown(&self) -> String {
        let what = match self.why {
            Why::Missing => "missing",
            Why::Differs => "the alerts differ in it",
            Why::Failed(_) => "could not be rendered",
        };
        format!("({what}: {})", self.variable)
    }
}

impl fmt::Display for Unshown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = &self.variable;
        match &self.why {
            Why::Missing => write!(f, "{variable} is missing"),
            Why::Differs => match variable.split_once('.') {
                Some(("labels", name)) => {
                    write!(f, "the alerts differ in {variable}: label_values.{name} has all of its values")
                }
                Some(("annotations", name)) => {
                    write!(
                        f,
                        "the alerts differ in {variable}: annotation_values.{name} has all of its values"
                    )
                }
                _ => write!(f, "the alerts differ in {variable}"),
            },
            Why::Failed(reason) => write!(f, "{variable} could not be rendered: {reason}"),
        }
    }
}

/// A template that has passed its checks.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// With a mark behind each expression that is to be shown and may be missing.
    text: String,
    marks: Vec<Mark>,
    /// What may be left out where it fails, the inner ones first: its place in `text`, its line, and what was written there.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    range: Range<usize>,
    line: u32,
    written: String,
    is_block: bool,
}

impl Template {
    /// Of a text that parses, and what was found in it.
    pub(crate) fn new(text: &str, checked: Checked) -> Self {
        let mut marks = checked.marks;
        // An outer one before those inside it.
        marks.sort_by_key(|mark| (mark.range.start, usize::MAX - mark.range.end));
        marks.dedup_by(|b, a| a.range == b.range);
        let mut added: Vec<(usize, bool, usize, String)> = Vec::new();
        for (index, mark) in marks.iter().enumerate() {
            added.push((mark.range.start, true, index, "(".to_owned()));
            // Inner ones end first.
            added.push((mark.range.end, false, usize::MAX - index, format!(")|{MARKED}({index})")));
        }
        added.sort();
        let moved = |offset: usize, with_those_at: bool| {
            let before = |at: usize| at < offset || (with_those_at && at == offset);
            offset + added.iter().filter(|a| before(a.0)).map(|a| a.3.len()).sum::<usize>()
        };
        let line = |at: usize| {
            let lines = text.get(..at).unwrap_or_default().matches('\n').count();
            u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1)
        };
        let part = |range: &Range<usize>, is_block| Part {
            range: moved(range.start, false)..moved(range.end, true),
            line: line(range.start),
            written: {
                let written = text.get(range.clone()).unwrap_or_default();
                clip(&written.split_whitespace().collect::<Vec<_>>().join(" "), 80)
            },
            is_block,
        };
        let shown = checked.shown.iter().map(|range| part(range, false));
        let parts = shown.chain(checked.blocks.iter().map(|range| part(range, true))).collect();
        let mut marked = String::with_capacity(text.len());
        let mut from = 0;
        for (at, _, _, more) in &added {
            marked.push_str(text.get(from..*at).unwrap_or_default());
            marked.push_str(more);
            from = *at;
        }
        marked.push_str(text.get(from..).unwrap_or_default());
        Self { text: marked, marks, parts }
    }

    /// Renders it over variables; `differing` are the names in which the alerts differ, `labels.queue`.
    pub(crate) fn render(
        &self,
        environment: &Environment<'_>,
        variables: &serde_json::Value,
        differing: &BTreeSet<String>,
        most: usize,
    ) -> Rendered {
        let mut failed: BTreeMap<usize, (Range<usize>, Unshown)> = BTreeMap::new();
        loop {
            let noted = Arc::new(Noted {
                marks: self.marks.clone(),
                failed: failed.values().map(|(_, unshown)| unshown.clone()).collect(),
                differing: differing.clone(),
                seen: Mutex::default(),
            });
            let (text, moves) = self.without(&failed);
            let (written, ended) = write(environment, &text, with(variables, &noted), most);
            let mut unshown = noted.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            unshown.extend(failed.values().map(|(_, unshown)| unshown.clone()));
            let Err(error) = ended else { return Rendered { text: written, unshown } };
            if error.kind() == ErrorKind::WriteFailure {
                // It was cut where it grew too long.
                return Rendered { text: written, unshown };
            }
            let reason = describe(&error, &text);
            let at = error.range().map(|range| original(range.start, &moves));
            let part = at
                .filter(|_| error.kind() != ErrorKind::OutOfFuel && failed.len() < MOST_FAILED)
                .and_then(|at| {
                    self.parts.iter().find(|part| {
                        part.range.start <= at
                            && at <= part.range.end
                            && !failed.contains_key(&part.range.start)
                    })
                });
            let Some(part) = part else {
                let line = error.line().and_then(|line| u32::try_from(line).ok()).unwrap_or(1);
                let rest = Unshown { line, variable: "the rest of it".to_owned(), why: Why::Failed(reason) };
                let text = format!("{written}\n{}", rest.shown());
                unshown.insert(rest);
                return Rendered { text, unshown };
            };
            let unshown =
                Unshown { line: part.line, variable: part.written.clone(), why: Why::Failed(reason) };
            // What it holds goes with it.
            failed.retain(|start, _| !part.range.contains(start));
            failed.insert(part.range.start, (part.range.clone(), unshown));
        }
    }

    /// The text with something else in the place of what failed; and what that moved: from where on, in the new text, by how
    /// much.
    fn without(
        &self,
        failed: &BTreeMap<usize, (Range<usize>, Unshown)>,
    ) -> (String, Vec<(usize, usize, usize)>) {
        let (mut text, mut moves, mut from) = (String::with_capacity(self.text.len()), Vec::new(), 0);
        for (index, (range, _)) in failed.values().enumerate() {
            text.push_str(self.text.get(from..range.start).unwrap_or_default());
            let is_block = self.parts.iter().any(|part| part.range == *range && part.is_block);
            let (before, after) = if is_block { ("if true %}{{", "}}{% endif ") } else { ("", "") };
            text.extend([before, &index.to_string(), "|", FAILED, after]);
            moves.push((text.len(), range.end, text.len()));
            from = range.end;
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        (text, moves)
    }
}

/// Where a place of a changed text stood before it was changed.
fn original(at: usize, moves: &[(usize, usize, usize)]) -> usize {
    let last = moves.iter().rev().find(|(from, ..)| *from <= at);
    last.map_or(at, |(_, then, now)| (at + then).saturating_sub(*now))
}

/// What a template wrote, and what it did not get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rendered {
    pub(crate) text: String,
    pub(crate) unshown: BTreeSet<Unshown>,
}

/// No loader: a template can read nothing but its variables.
pub(crate) fn environment(missing: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(missing);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    // An error would hold what all variables were.
    environment.set_debug(false);
    filters::add(&mut environment);
    environment.add_filter(MARKED, |state: &State<'_, '_>, value: &Value, index: usize| {
        let noted = state.lookup(NOTED).and_then(|noted| noted.downcast_object::<Noted>());
        match noted {
            Some(noted) if value.is_undefined() => {
                let is_list = noted.marks.get(index).is_some_and(|mark| mark.is_list);
                let missing = Value::from_object(Missing { noted, index });
                if is_list { Value::from(vec![missing]) } else { missing }
            }
            _ => value.clone(),
        }
    });
    environment.add_filter(FAILED, |state: &State<'_, '_>, index: usize| {
        let noted = state.lookup(NOTED).and_then(|noted| noted.downcast_object::<Noted>());
        noted.and_then(|noted| noted.failed.get(index).map(Unshown::shown)).unwrap_or_default()
    });
    environment
}

/// The variables, and where it is noted what is missing.
fn with(variables: &serde_json::Value, noted: &Arc<Noted>) -> Value {
    let own = variables.as_object().into_iter().flatten();
    let own = own.map(|(name, value)| (name.clone(), Value::from(Serde(value.clone()))));
    Value::from_pairs(own.chain([(NOTED.to_owned(), Value::from_dyn_object(Arc::clone(noted)))]))
}

/// What is noted while a template is rendered.
#[derive(Debug)]
struct Noted {
    marks: Vec<Mark>,
    failed: Vec<Unshown>,
    differing: BTreeSet<String>,
    seen: Mutex<BTreeSet<Unshown>>,
}

impl Object for Noted {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// Stands for what is missing: it is noted when it is shown, and not where something else stands in for it.
#[derive(Debug)]
struct Missing {
    noted: Arc<Noted>,
    index: usize,
}

impl Object for Missing {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn is_true(self: &Arc<Self>) -> bool {
        false
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mark) = self.noted.marks.get(self.index) else { return Ok(()) };
        let why = if self.noted.differing.contains(&mark.name) { Why::Differs } else { Why::Missing };
        let unshown = Unshown { line: mark.line, variable: mark.name.clone(), why };
        f.write_str(&unshown.shown())?;
        self.noted.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(unshown);
        Ok(())
    }
}

/// Renders a text until it has written `most` bytes; gives what it wrote, and how that ended.
pub(crate) fn write(
    environment: &Environment<'_>,
    text: &str,
    variables: Value,
    most: usize,
) -> (String, Result<(), Error>) {
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
    let ended = environment
        .template_from_named_str("template", text)
        .and_then(|template| template.render_captured_to(variables, &mut out).map(drop));
    (String::from_utf8_lossy(&out.written).into_owned(), ended)
}

/// In one line, without the template's internal name; where something of `text` is missing, what.
pub(crate) fn describe(error: &Error, text: &str) -> String {
    let undefined = (error.kind() == ErrorKind::UndefinedError).then(|| error.range()).flatten();
    let detail = match (error.detail(), undefined.and_then(|range| text.get(range))) {
        (Some(detail), _) => format!(": {detail}"),
        (None, Some(written)) => format!(": {}", clip(written, 80)),
        (None, None) => String::new(),
    };
    let line = error.line().map_or_else(String::new, |l| format!(" (line {l})"));
    format!("{}{detail}{line}", error.kind())
}

#[cfg(test)]
mod tests;
