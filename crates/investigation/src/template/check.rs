//! Holds a template against everything that is known before there is an alert, on every path through it: variables,
//! fields, filters, tests and functions. On the way it notes where a value may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::machinery::ast::{self, BinOpKind, Expr, Stmt, UnaryOpKind};
use minijinja::machinery::{Span, parse};
use minijinja::value::Value;
use minijinja::{Environment, Error};

use super::kinds::{Kind, TESTS, VARIABLES, nearest};
use crate::fence::clip;

mod calls;

/// What is wrong, and what would be right.
pub(super) type Found = (String, String);

/// The longest name of an expression, in characters.
const LONGEST_NAME: usize = 80;

/// Something in a template that cannot work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    /// From 1.
    pub(crate) line: u32,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// An expression that is to be shown and may be missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// Its place in the template, in bytes.
    pub(crate) range: Range<usize>,
    /// From 1.
    pub(crate) line: u32,
    /// As it is written, `labels.queue`.
    pub(crate) name: String,
    /// It would be a list.
    pub(crate) is_list: bool,
}

/// What is known of a template.
#[derive(Clone, Default, Debug)]
pub(crate) struct Checked {
    pub(crate) problems: Vec<Problem>,
    pub(crate) marks: Vec<Mark>,
    /// Where the expressions of `{{ … }}` stand.
    pub(crate) shown: Vec<Range<usize>>,
    /// Where the outermost statements stand, without their `{%` and `%}`.
    pub(crate) blocks: Vec<Range<usize>>,
    /// The names in `labels` and `annotations` that it asks for, as they are written.
    pub(crate) asked: BTreeSet<String>,
}

/// Looks a template through.
///
/// # Errors
/// It is none.
pub(crate) fn check(environment: &Environment<'_>, source: &str) -> Result<Checked, Error> {
    let tree = parse(source, "template", minijinja::syntax::SyntaxConfig::default())?;
    let scopes = vec![BTreeMap::new()];
    let mut walk = Walk { environment, source, scopes, checked: Checked::default() };
    if let Stmt::Template(template) = &tree {
        for statement in &template.children {
            if !matches!(statement, Stmt::EmitRaw(_) | Stmt::EmitExpr(_)) {
                walk.checked.blocks.extend(span_of(statement).map(range));
            }
            walk.statement(statement);
        }
    }
    Ok(walk.checked)
}

/// What is done with a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It becomes text.
    Shown,
    /// It is given a name.
    Kept,
    /// It is asked about: whether it is there, whether it is something. One that is missing is not.
    Tested,
}

impl Use {
    /// What is done with a part of a value of which this is done.
    fn of_part(self) -> Self {
        if self == Self::Tested { Self::Tested } else { Self::Shown }
    }
}

struct Walk<'a, 'e> {
    environment: &'e Environment<'e>,
    source: &'a str,
    /// The names that the template gives, the innermost last.
    scopes: Vec<BTreeMap<&'a str, Kind>>,
    checked: Checked,
}

fn range(span: Span) -> Range<usize> {
    let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
    at(span.start_offset)..at(span.end_offset)
}

/// Where a statement of the template itself stands.
fn span_of(statement: &Stmt<'_>) -> Option<Span> {
    Some(match statement {
        Stmt::ForLoop(s) => s.span(),
        Stmt::IfCond(s) => s.span(),
        Stmt::WithBlock(s) => s.span(),
        Stmt::Set(s) => s.span(),
        Stmt::SetBlock(s) => s.span(),
        Stmt::AutoEscape(s) => s.span(),
        Stmt::FilterBlock(s) => s.span(),
        Stmt::Do(s) => s.span(),
        Stmt::Template(_) | Stmt::EmitExpr(_) | Stmt::EmitRaw(_) => return None,
    })
}

impl<'a> Walk<'a, '_> {
    fn problem(&mut self, span: Span, (message, help): Found) {
        let problem = Problem { line: u32::from(span.start_line), message, help };
        if !self.checked.problems.contains(&problem) {
            self.checked.problems.push(problem);
        }
    }

    fn written(&self, range: &Range<usize>) -> String {
        let text = self.source.get(range.clone()).unwrap_or_default();
        clip(&text.split_whitespace().collect::<Vec<_>>().join(" "), LONGEST_NAME)
    }

    fn mark(&mut self, range: Range<usize>, line: u16, name: String, kind: Kind) {
        let is_list = matches!(kind, Kind::List | Kind::Alerts);
        self.checked.marks.push(Mark { range, line: u32::from(line), name, is_list });
    }

    fn declare(&mut self, name: &'a str, kind: Kind) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name, kind);
        }
    }

    fn assign(&mut self, target: &Expr<'a>, kind: Kind) {
        match target {
            Expr::Var(var) => self.declare(var.id, kind),
            Expr::List(list) => list.items.iter().for_each(|item| self.assign(item, Kind::Any)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.assign(item, Kind::Any)),
            // A field of a namespace.
            _ => {}
        }
    }

    fn statements(&mut self, statements: &[Stmt<'a>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    /// Walks statements in a scope of their own; gives the names that they leave.
    fn scope(&mut self, names: BTreeMap<&'a str, Kind>, body: &[Stmt<'a>]) -> BTreeMap<&'a str, Kind> {
        self.scopes.push(names);
        self.statements(body);
        self.scopes.pop().unwrap_or_default()
    }

    fn statement(&mut self, statement: &Stmt<'a>) {
        match statement {
            Stmt::Template(s) => self.statements(&s.children),
            Stmt::EmitRaw(_) => {}
            Stmt::EmitExpr(s) => {
                let (at, line) = (range(s.span()), s.span().start_line);
                let before = self.checked.marks.len();
                let kind = self.expression(&s.expr, Use::Shown);
                let is_marked =
                    self.checked.marks.get(before..).is_some_and(|m| m.iter().any(|m| m.range == at));
                if !is_marked && may_give_nothing(&s.expr) {
                    let name = self.written(&at);
                    self.mark(at.clone(), line, name, kind);
                }
                self.checked.shown.push(at);
            }
            Stmt::ForLoop(s) => {
                let kind = self.expression(&s.iter, Use::Tested);
                // The keys of what is looked through, where it is no list.
                let each = match kind {
                    Kind::Alerts | Kind::List => kind.element(),
                    Kind::Texts | Kind::Lists | Kind::Values => Kind::Text,
                    _ => Kind::Any,
                };
                self.scopes.push(BTreeMap::from([("loop", Kind::Loop)]));
                match (&s.target, pairs_of(&s.iter, self)) {
                    (Expr::List(targets), Some(value)) => {
                        for (target, kind) in targets.items.iter().zip([Kind::Text, value]) {
                            self.assign(target, kind);
                        }
                    }
                    (target, _) => self.assign(target, each),
                }
                if let Some(filter) = &s.filter_expr {
                    self.expression(filter, Use::Tested);
                }
                self.statements(&s.body);
                self.scopes.pop();
                self.scope(BTreeMap::new(), &s.else_body);
            }
            Stmt::IfCond(s) => {
                self.expression(&s.expr, Use::Tested);
                let one = self.scope(BTreeMap::new(), &s.true_body);
                let other = self.scope(BTreeMap::new(), &s.false_body);
                // What every path names is there after them.
                for (name, kind) in one {
                    if let Some(otherwise) = other.get(name) {
                        self.declare(name, if *otherwise == kind { kind } else { Kind::Any });
                    }
                }
            }
            Stmt::WithBlock(s) => {
                self.scopes.push(BTreeMap::new());
                for (target, value) in &s.assignments {
                    let kind = self.expression(value, Use::Kept);
                    self.assign(target, kind);
                }
                self.statements(&s.body);
                self.scopes.pop();
            }
            Stmt::Set(s) => {
                let kind = self.expression(&s.expr, Use::Kept);
                self.assign(&s.target, kind);
            }
            Stmt::SetBlock(s) => {
                if let Some(filter) = &s.filter {
                    self.expression(filter, Use::Shown);
                }
                self.scope(BTreeMap::new(), &s.body);
                self.assign(&s.target, Kind::Text);
            }
            Stmt::AutoEscape(s) => {
                self.expression(&s.enabled, Use::Tested);
                self.scope(BTreeMap::new(), &s.body);
            }
            Stmt::FilterBlock(s) => {
                self.expression(&s.filter, Use::Shown);
                self.scope(BTreeMap::new(), &s.body);
            }
            Stmt::Do(s) => {
                self.call(&s.call, s.span());
            }
        }
    }

    fn expression(&mut self, expression: &Expr<'a>, used: Use) -> Kind {
        match expression {
            Expr::Var(var) => {
                let kind = self.variable(var.id, var.span());
                // The context's own are always there.
                if used == Use::Shown && !VARIABLES.iter().any(|(name, _)| *name == var.id) {
                    self.mark(range(var.span()), var.span().start_line, var.id.to_owned(), kind);
                }
                kind
            }
            Expr::Const(value) => match value.value.as_str() {
                Some(_) => Kind::Text,
                None if value.value.is_number() => Kind::Number,
                None => Kind::Any,
            },
            Expr::GetAttr(get) => {
                let of = self.expression(&get.expr, Use::Tested);
                let kind = self.field(&get.expr, of, get.name, get.span());
                self.mark_chain(expression, kind, used);
                kind
            }
            Expr::GetItem(get) => {
                let of = self.expression(&get.expr, Use::Tested);
                let kind = match &get.subscript_expr {
                    Expr::Const(key) => match key.value.as_str() {
                        Some(name) => {
                            let name = name.to_owned();
                            self.field(&get.expr, of, &name, get.span())
                        }
                        None => of.element(),
                    },
                    key => {
                        self.expression(key, used.of_part());
                        of.element()
                    }
                };
                self.mark_chain(expression, kind, used);
                kind
            }
            Expr::Slice(slice) => {
                let kind = self.expression(&slice.expr, used);
                for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(part, used.of_part());
                }
                kind
            }
            Expr::UnaryOp(op) => match op.op {
                UnaryOpKind::Not => {
                    self.expression(&op.expr, Use::Tested);
                    Kind::Any
                }
                UnaryOpKind::Neg => self.expression(&op.expr, used.of_part()),
            },
            Expr::BinOp(op) => self.binary(op, used),
            Expr::Compare(compare) => {
                self.expression(&compare.expr, Use::Tested);
                for op in &compare.ops {
                    self.expression(&op.expr, Use::Tested);
                }
                Kind::Any
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr, Use::Tested);
                let one = self.expression(&choice.true_expr, used);
                let other = choice.false_expr.as_ref().map(|other| self.expression(other, used));
                if other.is_none_or(|other| other == one) { one } else { Kind::Any }
            }
            Expr::Filter(filter) => self.filter(filter, filter.span(), used),
            Expr::Test(test) => {
                self.expression(&test.expr, Use::Tested);
                let args = self.arguments(&test.args, Use::Tested);
                let with = [vec![Value::from("x")], args].concat();
                let tried = self.environment.empty_state().perform_test(test.name, &with).map(drop);
                self.tried(tried, "test", test.name, &TESTS, test.span());
                Kind::Any
            }
            Expr::Call(call) => self.call(call, call.span()),
            Expr::List(list) => self.parts(&list.items, used),
            Expr::Tuple(tuple) => self.parts(&tuple.items, used),
            Expr::Map(map) => {
                self.parts(&map.keys, used);
                self.parts(&map.values, used)
            }
        }
    }

    fn binary(&mut self, op: &ast::BinOp<'a>, used: Use) -> Kind {
        match op.op {
            BinOpKind::ScAnd | BinOpKind::ScOr => {
                let left = self.expression(&op.left, Use::Tested);
                let right = self.expression(&op.right, used);
                if left == right { left } else { Kind::Any }
            }
            BinOpKind::Eq
            | BinOpKind::Ne
            | BinOpKind::Lt
            | BinOpKind::Lte
            | BinOpKind::Gt
            | BinOpKind::Gte
            | BinOpKind::In => {
                self.expression(&op.left, Use::Tested);
                self.expression(&op.right, Use::Tested);
                Kind::Any
            }
            _ => {
                self.expression(&op.left, used.of_part());
                self.expression(&op.right, used.of_part());
                if matches!(op.op, BinOpKind::Concat) { Kind::Text } else { Kind::Any }
            }
        }
    }

    fn parts(&mut self, items: &[Expr<'a>], used: Use) -> Kind {
        for item in items {
            self.expression(item, used.of_part());
        }
        Kind::Any
    }

    fn variable(&mut self, name: &str, span: Span) -> Kind {
        let given = self.scopes.iter().rev().find_map(|scope| scope.get(name));
        let known =
            given.copied().or_else(|| VARIABLES.iter().find(|(v, _)| *v == name).map(|(_, kind)| *kind));
        if let Some(kind) = known {
            return kind;
        }
        if !self.environment.globals().any(|(global, _)| global == name) {
            let names = VARIABLES.map(|(name, _)| name);
            let nearest = nearest(name, names.into_iter()).unwrap_or_default();
            let help = format!("the nearest known one is {nearest}; there are {}", names.join(", "));
            self.problem(span, (format!("unknown variable {name}"), help));
        }
        Kind::Any
    }

    fn field(&mut self, of: &Expr<'a>, kind: Kind, name: &str, span: Span) -> Kind {
        if let Expr::Var(var) = of
            && matches!(var.id, "labels" | "annotations")
            && !self.scopes.iter().any(|scope| scope.contains_key(var.id))
        {
            self.checked.asked.insert(format!("{}.{name}", var.id));
        }
        let written = chain(of).map_or_else(|| "this".to_owned(), |(_, _, name)| name);
        kind.field(&written, name).unwrap_or_else(|found| {
            self.problem(span, found);
            Kind::Any
        })
    }

    fn mark_chain(&mut self, expression: &Expr<'a>, kind: Kind, used: Use) {
        if used == Use::Shown
            && let Some((range, line, name)) = chain(expression)
        {
            self.mark(range, line, clip(&name, LONGEST_NAME), kind);
        }
    }
}

/// What the values of pairs are, where an expression gives pairs of a name and a value.
fn pairs_of<'a>(expression: &Expr<'a>, walk: &mut Walk<'a, '_>) -> Option<Kind> {
    let Expr::Filter(filter) = expression else { return None };
    if !matches!(filter.name, "items" | "dictsort") {
        return None;
    }
    let before = walk.checked.clone();
    let kind = walk.expression(filter.expr.as_ref()?, Use::Tested);
    walk.checked = before;
    Some(if matches!(kind, Kind::Texts | Kind::Lists) { kind.element() } else { Kind::Any })
}

/// Whether an expression that is no chain of names can come to nothing.
fn may_give_nothing(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::GetAttr(_) | Expr::GetItem(_) | Expr::Call(_) => true,
        Expr::BinOp(op) => matches!(op.op, BinOpKind::ScAnd | BinOpKind::ScOr),
        Expr::Filter(filter) => {
            matches!(filter.name, "default" | "d" | "first" | "last" | "min" | "max" | "attr")
        }
        _ => false,
    }
}

/// Where a chain of names from a variable on stands (`alert.labels["x"]`), its line, and the chain as names and dots.
fn chain(expression: &Expr<'_>) -> Option<(Range<usize>, u16, String)> {
    match expression {
        Expr::Var(var) => Some((range(var.span()), var.span().start_line, var.id.to_owned())),
        Expr::GetAttr(get) => {
            let (of, line, name) = chain(&get.expr)?;
            Some((of.start..range(get.span()).end, line, format!("{name}.{}", get.name)))
        }
        Expr::GetItem(get) => {
            let (of, line, name) = chain(&get.expr)?;
            let key = match &get.subscript_expr {
                Expr::Const(key) => key.value.to_string(),
                key => format!("[{}]", chain(key).map_or_else(|| "…".to_owned(), |(_, _, name)| name)),
            };
            Some((of.start..range(get.span()).end, line, format!("{name}.{key}")))
        }
        _ => None,
    }
}
