//! What one model at one address takes of a request. Nothing is guessed from its name: what helps is asked for, and what
//! is refused is left out from then on, as long as the process is warm.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use sentinel_investigation::ports::{Item, LeftOut, TurnRequest};
use serde_json::Value;

use crate::failure::Failure;

/// How a turn that has to call one function says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum ForcedTurn {
    /// The choice names the function.
    #[default]
    Named,
    /// Some function has to be called, and a closing line says which.
    Required,
    /// The model chooses, and a closing line says what.
    Auto,
    /// No other function is offered. The list of tools changes, so that no cache holds the request.
    Alone,
}

/// What may be left out of a request without asking for something else, by the key in its body, and the names by which
/// services speak of it.
const OPTIONS: &[(&str, &[&str])] = &[
    ("temperature", &["temperature"]),
    ("reasoning", &["reasoning.effort", "reasoning_effort", "reasoning", "effort"]),
    ("reasoning_effort", &["reasoning_effort", "reasoning.effort", "effort"]),
    ("include", &["reasoning.encrypted_content", "encrypted_content", "encrypted content", "include"]),
    ("thinking", &["thinking"]),
    ("output_config", &["output_config", "effort"]),
    ("service_tier", &["service_tier"]),
    ("parallel_tool_calls", &["parallel_tool_calls"]),
    ("prompt_cache_key", &["prompt_cache_key"]),
    ("max_tool_calls", &["max_tool_calls"]),
    ("store", &["store"]),
    ("stream", &["stream"]),
    (CACHE_CONTROL, &[CACHE_CONTROL]),
    (BESIDE, &["reasoning_content", "reasoning_details", "thought_signature", "extra_content"]),
];

/// The mark of the Messages API on what is to be cached. It stands inside the body.
pub(crate) const CACHE_CONTROL: &str = "cache_control";
/// What a service of Chat Completions sent beside a message's content. It stands inside the body.
pub(crate) const BESIDE: &str = "messages.reasoning";
/// The keys of a body that bound an answer.
const BOUNDS: &[&str] = &["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// What one model does not take, as its service said.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Adapted {
    without: BTreeSet<&'static str>,
    /// The name of the bound that it refused: the other one is sent.
    refused_bound: Option<&'static str>,
    most_output: Option<u32>,
    forced: ForcedTurn,
    /// It takes no choice at all.
    no_choice: bool,
    /// The functions that it does not take, with what it said.
    tools: BTreeMap<String, String>,
}

impl Adapted {
    pub(crate) fn new(forced: ForcedTurn) -> Self {
        Self { forced, ..Self::default() }
    }

    /// Whether it takes an option, as far as is known.
    pub(crate) fn takes(&self, option: &str) -> bool {
        !self.without.contains(option)
    }

    /// How a turn that has to call one function is asked for; `None`: the service takes no choice.
    pub(crate) fn choice(&self) -> Option<ForcedTurn> {
        (!self.no_choice).then_some(self.forced)
    }

    /// The key by which a service of Chat Completions is told how long an answer may be. `first`: the one that is tried
    /// first; `None`: it takes neither.
    pub(crate) fn bound(&self, first: &'static str) -> Option<&'static str> {
        if !self.takes(first) {
            return None;
        }
        match self.refused_bound {
            Some("max_tokens") => Some("max_completion_tokens"),
            Some("max_completion_tokens") => Some("max_tokens"),
            _ => Some(first),
        }
    }

    /// The most tokens of an answer that it takes.
    pub(crate) fn output_tokens(&self, wanted: u32) -> u32 {
        self.most_output.map_or(wanted, |most| wanted.min(most))
    }

    /// The request as this model is asked: without the functions that it does not take, and with a closing line where
    /// no choice can say what has to be called.
    pub(crate) fn fit<'a>(&self, request: &'a TurnRequest) -> Cow<'a, TurnRequest> {
        let all_are_taken = request.tools.iter().all(|tool| !self.tools.contains_key(&tool.name));
        let choice_says_all = self.forced == ForcedTurn::Named && !self.no_choice;
        if all_are_taken && (choice_says_all || request.force.is_none()) {
            return Cow::Borrowed(request);
        }
        let mut request = request.clone();
        request.tools.retain(|tool| !self.tools.contains_key(&tool.name));
        let Some(name) = &request.force else { return Cow::Owned(request) };
        if self.forced == ForcedTurn::Alone {
            request.tools.retain(|tool| tool.name == *name);
            request.hosted.clear();
        }
        if !choice_says_all {
            request.input.push(Item::User { text: closing_line(name) });
        }
        Cow::Owned(request)
    }

    /// The functions of a request that are left out of it.
    pub(crate) fn left_out(&self, request: &TurnRequest) -> Vec<LeftOut> {
        let reason = |name: &str| self.tools.get(name).cloned();
        let tools = request.tools.iter();
        tools.filter_map(|t| Some(LeftOut { name: t.name.clone(), reason: reason(&t.name)? })).collect()
    }

    /// Learns from a refusal what to leave out of `body`, and says it; `None`: it is about something else.
    pub(crate) fn learn(&mut self, failure: &Failure, body: &Value, request: &TurnRequest) -> Option<String> {
        let Failure::Status { status: 400 | 422, param, message, .. } = failure else { return None };
        let about = About { param: param.as_deref(), message };
        self.bound_refused(&about, body)
            .or_else(|| self.choice_refused(&about, body))
            .or_else(|| self.tool_refused(&about, body, request))
            .or_else(|| self.option_refused(&about, body))
    }

    fn bound_refused(&mut self, about: &About<'_>, body: &Value) -> Option<String> {
        let bound = BOUNDS.iter().find(|bound| body.get(**bound).is_some())?;
        if !about.names(&[*bound]) {
            return None;
        }
        let sent = body.get(*bound).and_then(Value::as_u64).unwrap_or_default();
        let most = numbers(about.message).filter(|n| (256..sent).contains(n)).max();
        if let Some(most) = most.and_then(|most| u32::try_from(most).ok()) {
            self.most_output = Some(most);
            return Some(format!("no more than {most} tokens are asked for"));
        }
        if *bound == "max_output_tokens" || self.refused_bound.is_some() {
            let known = self.without.len();
            self.without.extend(BOUNDS);
            return (self.without.len() > known).then(|| format!("{bound} is left out"));
        }
        self.refused_bound = Some(bound);
        Some(format!("{bound} is sent by its other name"))
    }

    fn choice_refused(&mut self, about: &About<'_>, body: &Value) -> Option<String> {
        if body.get("tool_choice").is_none() || self.no_choice || !about.names(&["tool_choice"]) {
            return None;
        }
        let next = match (&request_force(body), self.forced) {
            (false, _) | (true, ForcedTurn::Auto | ForcedTurn::Alone) => {
                self.no_choice = true;
                return Some("tool_choice is left out".to_owned());
            }
            (true, ForcedTurn::Named) => ForcedTurn::Required,
            (true, ForcedTurn::Required) => ForcedTurn::Auto,
        };
        self.forced = next;
        Some(format!("tool_choice is {next:?} where a function has to be called"))
    }

    fn tool_refused(&mut self, about: &About<'_>, body: &Value, request: &TurnRequest) -> Option<String> {
        let name = about.tool(body)?;
        let offered = request.tools.iter().filter(|tool| !self.tools.contains_key(&tool.name)).count();
        if offered < 2 || request.force.as_deref() == Some(name) {
            return None;
        }
        self.tools.insert(name.to_owned(), about.message.to_owned());
        Some(format!("{name} is not offered"))
    }

    fn option_refused(&mut self, about: &About<'_>, body: &Value) -> Option<String> {
        let text = std::cell::OnceCell::new();
        let holds = |key: &str| match key {
            CACHE_CONTROL | BESIDE => {
                let names =
                    OPTIONS.iter().find(|(option, _)| *option == key).map_or(&[][..], |(_, names)| names);
                let text = text.get_or_init(|| body.to_string());
                names.iter().any(|name| text.contains(&format!("\"{name}\":")))
            }
            key => body.get(key).is_some(),
        };
        let (option, _) = OPTIONS.iter().find(|(key, names)| holds(key) && about.names(names))?;
        self.without.insert(option).then(|| format!("{option} is left out"))
    }
}

/// What stands at the end of a turn that has to call one function, where no choice can say so.
pub(crate) fn closing_line(name: &str) -> String {
    format!("Call {name} now, and nothing else.")
}

/// Whether a body's choice is more than the model's own.
fn request_force(body: &Value) -> bool {
    let choice = body.get("tool_choice");
    let kind =
        choice.and_then(|choice| choice.as_str().or_else(|| choice.get("type").and_then(Value::as_str)));
    kind != Some("auto")
}

/// What a refusal is about.
struct About<'a> {
    param: Option<&'a str>,
    message: &'a str,
}

/// The name of a function in a body, of whichever interface.
fn name_of(tool: &Value) -> Option<&str> {
    tool.get("name").or_else(|| tool.pointer("/function/name")).and_then(Value::as_str)
}

impl About<'_> {
    /// Whether it is about one of these: by its `param`, or by a name in its text.
    fn names(&self, names: &[&str]) -> bool {
        let begins = |param: &str, name: &str| {
            param.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        match self.param.filter(|param| !param.is_empty()) {
            Some(param) => names.iter().any(|name| begins(param, name)),
            None => names.iter().any(|name| mentions(self.message, name)),
        }
    }

    /// The function of the body that it is about: by the place in `param` or at the beginning of the text, or by its name.
    fn tool<'b>(&self, body: &'b Value) -> Option<&'b str> {
        let tools = body.get("tools")?.as_array()?;
        let place = |text: &str| {
            let at = text.find("tools[").or_else(|| text.find("tools."))?;
            let digits = text.get(at + "tools[".len()..)?;
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits.get(..end)?.parse::<usize>().ok()
        };
        if let Some(place) = self.param.and_then(place).or_else(|| place(self.message)) {
            return name_of(tools.get(place)?);
        }
        let about_one = ["schema", "function", "tool", "parameters"];
        let lower = self.message.to_ascii_lowercase();
        if self.param.is_some_and(|param| !param.starts_with("tools"))
            || !about_one.iter().any(|w| lower.contains(w))
        {
            return None;
        }
        tools.iter().filter_map(name_of).find(|name| mentions(self.message, name))
    }
}

/// Whether a text speaks of an option: the name as a word of its own. A name that is an English word too has to be quoted,
/// or the text has to say that something is not taken.
fn mentions(text: &str, name: &str) -> bool {
    const NOT_TAKEN: &[&str] = &[
        "support",
        "unknown",
        "unrecognized",
        "unexpected",
        "permitted",
        "invalid",
        "extra",
        "allowed",
        "deprecated",
    ];
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase());
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text.get(at + name.len()..).and_then(|t| t.chars().next());
        let whole = !before.is_some_and(is_word) && !after.is_some_and(is_word);
        let quoted = before.is_some_and(|c| "'\"`".contains(c));
        let lower = || text.to_ascii_lowercase();
        // `name.of.a.field: what is wrong with it`
        let leads = at == 0 && after.is_some_and(|c| ".:".contains(c));
        whole && (!is_plain || quoted || leads || NOT_TAKEN.iter().any(|word| lower().contains(word)))
    })
}

/// The numbers of a text; `8,192` is one.
pub(crate) fn numbers(text: &str) -> impl Iterator<Item = u64> {
    let text = text.replace([',', '_'], "");
    let parts: Vec<u64> = text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    parts.into_iter()
}

#[cfg(test)]
mod tests;
