//! Filters, tests and functions: whether they are there, and take what they are given.

use minijinja::machinery::Span;
use minijinja::machinery::ast::{self, CallArg, CallType, Expr};
use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};

use super::{Use, Walk};
use crate::template::kinds::{FILTERS, Kind, TESTS, nearest};

impl<'a> Walk<'a, '_> {
    pub(super) fn filter(&mut self, filter: &ast::Filter<'a>, span: Span, used: Use) -> Kind {
        let is_default = matches!(filter.name, "default" | "d");
        let of_value = if is_default { Use::Tested } else { used.of_part() };
        let kind = filter.expr.as_ref().map_or(Kind::Text, |value| self.expression(value, of_value));
        let args = self.arguments(&filter.args, if is_default { used } else { used.of_part() });
        self.names_in_arguments(filter, kind, span);
        let example = match kind {
            Kind::Alerts | Kind::List => Value::from(vec!["x"]),
            Kind::Texts | Kind::Lists | Kind::Values | Kind::Alert | Kind::Resource => {
                Value::from_pairs([("x", "x")])
            }
            Kind::Number => Value::from(1),
            Kind::Text | Kind::Loop | Kind::Any => Value::from("x"),
        };
        let tried = if FILTERS.contains(&filter.name) {
            let with = [vec![example], args].concat();
            let tried = self.environment.empty_state().apply_filter(filter.name, &with).map(drop);
            // What its arguments name has been looked at.
            let of_arguments = [ErrorKind::UnknownFilter, ErrorKind::UnknownTest];
            tried.or_else(|e| if of_arguments.contains(&e.kind()) { Ok(()) } else { Err(e) })
        } else {
            Err(ErrorKind::UnknownFilter.into())
        };
        self.tried(tried, "filter", filter.name, &FILTERS, span);
        match filter.name {
            "default" | "d" => kind,
            "list" | "sort" | "reverse" | "unique" | "select" | "reject" | "selectattr" | "rejectattr" => {
                if matches!(kind, Kind::Alerts | Kind::List) { kind } else { Kind::Any }
            }
            "first" | "last" | "min" | "max" => kind.element(),
            "length" | "count" => Kind::Number,
            "join" | "lower" | "upper" | "trim" | "title" | "tojson" | "promql" | "logql" | "label_value"
            | "regex_quote" | "replace" | "string" => Kind::Text,
            _ => Kind::Any,
        }
    }

    /// Filters, tests and fields that stand as texts in a filter's arguments.
    fn names_in_arguments(&mut self, filter: &ast::Filter<'a>, kind: Kind, span: Span) {
        let text = |arg: Option<&CallArg<'a>>| match arg {
            Some(CallArg::Pos(Expr::Const(value))) => value.value.as_str().map(str::to_owned),
            _ => None,
        };
        let attribute = filter.args.iter().find_map(|arg| match arg {
            CallArg::Kwarg("attribute", Expr::Const(value)) => value.value.as_str().map(str::to_owned),
            _ => None,
        });
        let mut args = filter.args.iter();
        let (first, second) = (text(args.next()), text(args.next()));
        let (field, named) = match filter.name {
            "map" => (attribute, first.map(|name| ("filter", name))),
            "select" | "reject" => (None, first.map(|name| ("test", name))),
            "selectattr" | "rejectattr" => (first, second.map(|name| ("test", name))),
            "groupby" | "sort" | "unique" => (attribute.or(first.filter(|_| filter.name == "groupby")), None),
            _ => (None, None),
        };
        match named {
            Some(("filter", name)) if !FILTERS.contains(&name.as_str()) => {
                self.tried(Err(ErrorKind::UnknownFilter.into()), "filter", &name, &FILTERS, span);
            }
            Some(("test", name)) => {
                let tried = self.environment.empty_state().perform_test(&name, &[Value::from(1)]).map(drop);
                let tried =
                    tried.or_else(|e| if e.kind() == ErrorKind::UnknownTest { Err(e) } else { Ok(()) });
                self.tried(tried, "test", &name, &TESTS, span);
            }
            _ => {}
        }
        if let Some(path) = field
            && matches!(kind, Kind::Alerts)
        {
            let (mut of, mut so_far) = (kind.element(), "an alert".to_owned());
            for name in path.split('.') {
                match of.field(&so_far, name) {
                    Ok(kind) => of = kind,
                    Err(found) => return self.problem(span, found),
                }
                name.clone_into(&mut so_far);
            }
        }
    }

    /// What came of trying a filter, a test or a function with some value: only what it would say of any value counts.
    pub(super) fn tried(
        &mut self,
        tried: Result<(), Error>,
        what: &str,
        name: &str,
        known: &[&str],
        span: Span,
    ) {
        let Err(error) = tried else { return };
        let found = match error.kind() {
            ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => {
                let nearest = nearest(name, known.iter().copied()).unwrap_or_default();
                let help = format!("the nearest known one is {nearest}; there are {}", known.join(", "));
                (format!("unknown {what} {name}"), help)
            }
            ErrorKind::MissingArgument | ErrorKind::TooManyArguments => {
                let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
                let kind = error.kind();
                (
                    format!("the {what} {name}: {kind}{detail}"),
                    "give it the arguments that it takes".to_owned(),
                )
            }
            _ => return,
        };
        self.problem(span, found);
    }

    /// Walks the arguments of a filter, a test or a function; gives values to try it with.
    pub(super) fn arguments(&mut self, args: &[CallArg<'a>], used: Use) -> Vec<Value> {
        let (mut tried, mut named) = (Vec::new(), Vec::new());
        for arg in args {
            let (CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value)) = arg;
            self.expression(value, used);
            let example = match value {
                Expr::Const(value) if value.value.as_str().is_some() => value.value.clone(),
                // Small, whatever it will be.
                _ => Value::from(1),
            };
            match arg {
                CallArg::Kwarg(name, _) => named.push((*name, example)),
                CallArg::Pos(_) => tried.push(example),
                CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {}
            }
        }
        if !named.is_empty() {
            tried.push(Kwargs::from_iter(named).into());
        }
        tried
    }

    pub(super) fn call(&mut self, call: &ast::Call<'a>, span: Span) -> Kind {
        self.arguments(&call.args, Use::Shown);
        match call.identify_call() {
            CallType::Function(name) => {
                let given = self.scopes.iter().any(|scope| scope.contains_key(name));
                let globals: Vec<String> =
                    self.environment.globals().map(|(name, _)| name.to_owned()).collect();
                if !given && !globals.iter().any(|global| global == name) {
                    let known: Vec<&str> = globals.iter().map(String::as_str).collect();
                    self.tried(Err(ErrorKind::UnknownFunction.into()), "function", name, &known, span);
                }
            }
            CallType::Method(of, name) => {
                let kind = self.expression(of, Use::Tested);
                let is_known = match kind {
                    Kind::Loop => matches!(name, "changed" | "cycle"),
                    kind => kind == Kind::Any,
                };
                if !is_known {
                    let help = format!("there are no methods; a filter may do it: {{{{ … | {name} }}}}");
                    self.problem(span, (format!("unknown method {name}"), help));
                }
            }
            CallType::Object(of) => {
                self.expression(of, Use::Tested);
            }
        }
        Kind::Any
    }
}
