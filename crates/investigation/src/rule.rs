//! Rules in CEL: compiled once, bounded, and run so that nothing they do can end the process.
//!
//! The rules are the operator's, what they run over is not: arguments are a model's, labels and annotations an alert's.
//! So a rule may neither be taken apart by a value (a pattern has to stand in the rule itself) nor be made to run for
//! long by one, and a panic inside the interpreter is an error like any other.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, StructExpr,
};
use cel::objects::Key;
use cel::{Context, ParseErrors, Program, Value as Cel};
use regex_automata::nfa::thompson::{BuildError, NFA};
use serde_json::Value;

use crate::fence::clip;
use crate::problem::{CompileProblem, Part};

/// The longest rule, in bytes.
const LONGEST_RULE: usize = 4096;
/// The deepest rule: how far brackets and expressions may stand in each other. The parser's and the interpreter's
/// stacks grow with it.
const DEEPEST_RULE: usize = 32;
/// The parser's stack, in bytes: only what is used of it is taken.
const PARSER_STACK: usize = 64 << 20;
/// The largest program that a pattern may become, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
/// What a search in a text counts for, in steps; and how many bytes of the longest text, or of the pattern's program, which
/// is made anew each time, count for one more.
const SEARCH: u64 = 200;
const TEXT: u64 = 512;
const PROGRAM: u64 = 128;
/// The most steps of one run, about a tenth of a second.
const MOST_STEPS: u64 = 200_000;
/// The deepest value that a rule runs over.
const DEEPEST_VALUE: usize = 32;

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    program: Program,
    /// The largest program of a pattern, in bytes.
    pattern: u64,
}

impl Rule {
    /// Compiles a rule that speaks of `variables`; `None`: it cannot be used, and `problems` says why.
    pub(crate) fn compile(
        text: &str,
        variables: &[&str],
        part: Part,
        problems: &mut Vec<CompileProblem>,
    ) -> Option<Self> {
        let before = problems.len();
        let help = format!("a rule is a CEL expression over {}", variables.join(", "));
        let mut tell = |line: Option<u32>, message: String| {
            problems.push(CompileProblem { part, line, message, help: help.clone() });
        };
        if text.len() > LONGEST_RULE || nesting(text) > DEEPEST_RULE {
            tell(
                None,
                format!("a rule has at most {LONGEST_RULE} bytes and {DEEPEST_RULE} levels of brackets"),
            );
            return None;
        }
        let program = match parse(text) {
            Some(Ok(program)) => program,
            Some(Err(e)) => {
                let first = e.errors.first();
                let line = first.and_then(|e| u32::try_from(e.pos.0).ok()).filter(|line| *line > 0);
                tell(line, first.map_or_else(|| e.to_string(), |e| e.msg.clone()));
                return None;
            }
            None => {
                tell(None, "the parser cannot take it".to_owned());
                return None;
            }
        };
        let root = &program.expression().expr;
        if depth(root) > DEEPEST_RULE {
            tell(None, format!("its expressions stand more than {DEEPEST_RULE} deep in each other"));
            return None;
        }
        let mut unknown = BTreeSet::new();
        free_variables(root, &mut Vec::new(), &mut unknown);
        for name in unknown.iter().filter(|name| !variables.contains(name)) {
            tell(None, format!("unknown variable {name}"));
        }
        let mut largest = 0;
        patterns(root, &mut |pattern| match pattern {
            None => tell(
                None,
                "the pattern of matches() is not written out: a value could change what it means".to_owned(),
            ),
            Some(pattern) => {
                let limit = NFA::config().nfa_size_limit(Some(LARGEST_PATTERN));
                match NFA::compiler().configure(limit).build(pattern) {
                    Ok(nfa) => largest = largest.max(nfa.memory_usage() as u64),
                    Err(e) => {
                        tell(None, format!("its pattern cannot be used: {}", clip(&of_pattern(&e), 200)));
                    }
                }
            }
        });
        (problems.len() == before).then_some(Self { program, pattern: largest })
    }

    /// Whether the rule holds.
    ///
    /// # Errors
    /// Why it gives neither true nor false.
    pub(crate) fn holds(&self, facts: &Facts) -> Result<bool, String> {
        let root = &self.program.expression().expr;
        let search = SEARCH + facts.longest / TEXT + self.pattern / PROGRAM;
        let mut estimate = Estimate { values: facts.values, element: facts.element, search, bound: vec![] };
        if estimate.steps(root).0 > MOST_STEPS {
            return Err("the rule would take too long over so many values".to_owned());
        }
        match catch_unwind(AssertUnwindSafe(|| self.program.execute(&facts.context))) {
            Ok(Ok(Cel::Bool(holds))) => Ok(holds),
            Ok(Ok(_)) => Err("the rule gives neither true nor false".to_owned()),
            Ok(Err(e)) => Err(clip(&e.to_string(), 300)),
            Err(_) => Err("the rule could not be run over these values".to_owned()),
        }
    }
}

fn of_pattern(error: &BuildError) -> String {
    match error.size_limit() {
        Some(limit) => format!("it would take more than {limit} bytes when compiled"),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}

/// Parses on a stack of its own, as the parser takes tens of kilobytes for each bracket; `None`: it panicked.
fn parse(text: &str) -> Option<Result<Program, ParseErrors>> {
    std::thread::scope(|scope| {
        let parser = std::thread::Builder::new().stack_size(PARSER_STACK);
        parser.spawn_scoped(scope, || Program::compile(text)).ok()?.join().ok()
    })
}

/// What rules run over.
pub(crate) struct Facts {
    context: Context<'static, 'static>,
    /// How many values there are in all: what a rule's steps are counted by.
    values: u64,
    /// The most values of one element of a list.
    element: u64,
    /// The longest text, in bytes.
    longest: u64,
}

impl Facts {
    /// These variables.
    ///
    /// # Errors
    /// A value that is too deep to be compared or dropped safely.
    pub(crate) fn new<'v>(variables: impl IntoIterator<Item = (&'v str, &'v Value)>) -> Result<Self, String> {
        let mut facts = Self { context: Context::default(), values: 0, element: 1, longest: 0 };
        for (name, value) in variables {
            facts.longest = facts.longest.max(longest(value));
            facts.values += count(value, DEEPEST_VALUE, &mut facts.element)
                .ok_or_else(|| format!("{name} has more than {DEEPEST_VALUE} levels"))?;
            facts.context.add_variable_from_value(name, to_cel(value));
        }
        Ok(facts)
    }
}

/// All values in a value; `None`: it is deeper than `levels`. `element` grows to the most of one element of a list.
fn count(value: &Value, levels: usize, element: &mut u64) -> Option<u64> {
    let levels = levels.checked_sub(1)?;
    let mut all = 1u64;
    match value {
        Value::Array(items) => {
            for item in items {
                let one = count(item, levels, element)?;
                *element = one.max(*element);
                all = all.saturating_add(one);
            }
        }
        Value::Object(map) => {
            for item in map.values() {
                all = all.saturating_add(count(item, levels, element)?);
            }
        }
        _ => {}
    }
    Some(all)
}

/// The length of the longest text in a value, in bytes.
fn longest(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(longest).max().unwrap_or(0),
        Value::Object(map) => map.values().map(longest).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whole numbers become `int`, which is what a rule's own literals are.
fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(b) => Cel::Bool(*b),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(int), _) => Cel::Int(int),
            (None, float) => Cel::Float(float.unwrap_or(f64::INFINITY)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(map) => {
            let map: HashMap<Key, Cel> =
                map.iter().map(|(k, v)| (Key::String(Arc::new(k.clone())), to_cel(v))).collect();
            Cel::from(map)
        }
    }
}

/// How deep brackets stand in each other: the parser's stack grows with it. Brackets in texts count too.
fn nesting(text: &str) -> usize {
    let (mut now, mut most) = (0usize, 0);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => now += 1,
            ')' | ']' | '}' => now = now.saturating_sub(1),
            _ => {}
        }
        most = now.max(most);
    }
    most
}

/// The expressions that stand directly in one.
fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => vec![],
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).map(|e| &e.expr).collect(),
        Expr::Select(select) => vec![&select.operand.expr],
        Expr::List(list) => list.elements.iter().map(|e| &e.expr).collect(),
        Expr::Map(MapExpr { entries }) | Expr::Struct(StructExpr { entries, .. }) => entries
            .iter()
            .flat_map(|entry| match &entry.expr {
                EntryExpr::StructField(field) => vec![&field.value.expr],
                EntryExpr::MapEntry(entry) => vec![&entry.key.expr, &entry.value.expr],
            })
            .collect(),
        Expr::Comprehension(c) => {
            [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].map(|e| &e.expr).to_vec()
        }
    }
}

fn depth(expr: &Expr) -> usize {
    // A chain such as `a + a + …` is as deep as it is long, and at most as long as a rule.
    1 + children(expr).into_iter().map(depth).max().unwrap_or(0)
}

/// The patterns of `matches`; `None` for one that is no literal.
fn patterns(expr: &Expr, each: &mut impl FnMut(Option<&str>)) {
    if let Expr::Call(CallExpr { func_name, args, .. }) = expr
        && func_name == "matches"
    {
        each(match args.last() {
            Some(IdedExpr { expr: Expr::Literal(LiteralValue::String(pattern)), .. }) => {
                Some(pattern.inner())
            }
            _ => None,
        });
    }
    for inner in children(expr) {
        patterns(inner, each);
    }
}

/// The variables of an expression that no macro of it binds: in `evidence.exists(e, e.ok)`, `evidence`.
fn free_variables<'e>(expr: &'e Expr, bound: &mut Vec<&'e str>, free: &mut BTreeSet<&'e str>) {
    match expr {
        Expr::Ident(name) => {
            if !name.starts_with('@') && !bound.contains(&name.as_str()) {
                free.insert(name);
            }
        }
        Expr::Comprehension(c) => {
            free_variables(&c.iter_range.expr, bound, free);
            free_variables(&c.accu_init.expr, bound, free);
            let outside = bound.len();
            bound.extend([c.iter_var.as_str(), c.accu_var.as_str()]);
            bound.extend(c.iter_var2.as_deref());
            for inner in [&c.loop_cond, &c.loop_step, &c.result] {
                free_variables(&inner.expr, bound, free);
            }
            bound.truncate(outside);
        }
        _ => children(expr).into_iter().for_each(|e| free_variables(e, bound, free)),
    }
}

/// Estimates what an expression takes, never too little.
struct Estimate<'e> {
    /// The most values of a variable.
    values: u64,
    /// The most values of an element of a list in a variable.
    element: u64,
    /// What a search in a text takes.
    search: u64,
    /// The variables that macros bind, and the most values of each.
    bound: Vec<(&'e str, u64)>,
}

impl<'e> Estimate<'e> {
    /// The most steps that an expression takes, and the most values that it gives.
    fn steps(&mut self, expr: &'e Expr) -> (u64, u64) {
        match expr {
            Expr::Unspecified | Expr::Literal(_) => (1, 1),
            Expr::Ident(name) => {
                let bound = self.bound.iter().rev().find(|(bound, _)| bound == name);
                (1, bound.map_or(self.values, |(_, values)| *values))
            }
            Expr::Select(select) => {
                let (all, _, most) = self.inner(expr);
                (all, if select.test { 1 } else { most })
            }
            Expr::Call(call) => self.call(call, expr),
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) => {
                let (all, sum, _) = self.inner(expr);
                (all, sum.saturating_add(1))
            }
            Expr::Comprehension(c) => self.comprehension(c),
        }
    }

    /// Of what stands directly in an expression: all steps, the sum of the values and the most of one.
    fn inner(&mut self, expr: &'e Expr) -> (u64, u64, u64) {
        children(expr).into_iter().fold((1, 0, 1), |(all, sum, most), e| {
            let (steps, values) = self.steps(e);
            (all.saturating_add(steps), sum.saturating_add(values), most.max(values))
        })
    }

    fn call(&mut self, call: &CallExpr, expr: &'e Expr) -> (u64, u64) {
        let (all, sum, most) = self.inner(expr);
        match call.func_name.as_str() {
            "_&&_" | "_||_" | "!_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "@not_strictly_false" | "size" => {
                (all, 1)
            }
            // Lists and maps are compared value by value.
            "_==_" | "_!=_" | "@in" => (all.saturating_add(most), 1),
            "matches" | "contains" | "startsWith" | "endsWith" => (all.saturating_add(self.search), 1),
            "_+_" => (all.saturating_add(sum), sum),
            _ => (all.saturating_add(most), most),
        }
    }

    fn comprehension(&mut self, c: &'e ComprehensionExpr) -> (u64, u64) {
        let (range, rounds) = self.steps(&c.iter_range.expr);
        let (init, _) = self.steps(&c.accu_init.expr);
        // What stands in a variable has elements that are known; what an expression makes may have any.
        let is_given = matches!(c.iter_range.expr, Expr::Ident(_) | Expr::Select(_));
        let element = if is_given { self.element } else { rounds };
        let outside = self.bound.len();
        // What is gathered so far is counted below.
        self.bound.extend([(c.iter_var.as_str(), element), (c.accu_var.as_str(), 1)]);
        self.bound.extend(c.iter_var2.as_deref().map(|name| (name, rounds)));
        let (condition, _) = self.steps(&c.loop_cond.expr);
        let (step, gathered) = self.steps(&c.loop_step.expr);
        let (result, _) = self.steps(&c.result.expr);
        self.bound.truncate(outside);
        let given = rounds.saturating_mul(gathered);
        // It may be copied in each round.
        let copies = if gathered > 1 { given } else { 1 };
        let round = condition.saturating_add(step).saturating_add(copies);
        let all = range.saturating_add(init).saturating_add(rounds.saturating_mul(round));
        (all.saturating_add(result), given.max(1))
    }
}

#[cfg(test)]
mod tests;
