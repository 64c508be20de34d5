//! The process's surroundings, read once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use sentinel_aws::MachineClock;
use sentinel_config::read_text;
use sentinel_core::ports::Clock as _;
use sentinel_core::redact::Redactor;
use sentinel_telemetry::LevelFilter;
use serde::Serialize;
use serde_json::Value;
use tracing::Level;

use crate::dotenv;

/// The environment variables, the current folder and the terminal.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The current folder.
    pub cwd: PathBuf,
    /// Whether stderr is a terminal that can redraw: then progress may.
    pub stderr_is_terminal: bool,
    /// Whether stdout is a terminal.
    pub stdout_is_terminal: bool,
    /// How many columns stdout has: those of the terminal, else `COLUMNS`, else 100.
    pub columns: usize,
    /// Whether everything is said as JSON, a line each.
    pub json: bool,
    /// How many -v there are more than -q.
    pub louder: i8,
    /// Know the secrets of every configuration that was read, the newest last. Whoever copies this shares them.
    redactors: Arc<RwLock<Vec<Redactor>>>,
}

/// The columns of what is no terminal.
const COLUMNS: usize = 100;
/// How many configurations' secrets are kept back: what runs began under one of them.
const MOST_REDACTORS: usize = 4;

impl Environment {
    /// Reads the process's environment, and `.env` in the current folder for what it does not set.
    ///
    /// # Errors
    /// A `.env` that cannot be read or parsed: a typo in it must not become a missing credential.
    pub fn of_process() -> anyhow::Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let cwd = std::env::current_dir().context("the current folder cannot be read")?;
        let mut env = Self::new(variables, cwd, std::io::stderr().is_terminal())?;
        let stdout = console::Term::stdout();
        env.stdout_is_terminal = stdout.is_term();
        let of_terminal = stdout.size_checked().map(|(_, columns)| usize::from(columns));
        let said = env.var("COLUMNS").and_then(|columns| columns.parse().ok());
        env.columns = of_terminal.or(said).map_or(COLUMNS, |columns| columns.clamp(40, 400));
        Ok(env)
    }

    /// An environment of these variables and of `.env` in `cwd`.
    ///
    /// # Errors
    /// A `.env` that cannot be read or parsed.
    pub fn new(
        mut variables: BTreeMap<String, String>,
        cwd: PathBuf,
        stderr_is_terminal: bool,
    ) -> anyhow::Result<Self> {
        let file = cwd.join(".env");
        match read_text(&file) {
            Ok(text) => {
                for (name, value) in dotenv::read(&text, &variables).map_err(|e| e.in_file(&file))? {
                    variables.entry(name).or_insert(value);
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => anyhow::bail!("{} cannot be read: {e}; save it as text in UTF-8", file.display()),
        }
        let is_dumb = variables.get("TERM").is_some_and(|term| term == "dumb");
        Ok(Self { variables, cwd, stderr_is_terminal: stderr_is_terminal && !is_dumb, ..Self::empty() })
    }

    /// An environment in which nothing is set.
    pub fn empty() -> Self {
        Self {
            variables: BTreeMap::new(),
            cwd: PathBuf::new(),
            stderr_is_terminal: false,
            stdout_is_terminal: false,
            columns: COLUMNS,
            json: false,
            louder: 0,
            redactors: Arc::default(),
        }
    }

    /// The same, which speaks as the command line asks for.
    #[must_use]
    pub fn speaking(self, json: bool, louder: i8) -> Self {
        Self { json, louder, ..self }
    }

    /// Reads the process's environment and `.env` once more; secrets that are known stay known.
    ///
    /// # Errors
    /// As [`of_process`](Self::of_process).
    pub(crate) fn read_again(&self) -> anyhow::Result<Self> {
        let (json, louder, redactors) = (self.json, self.louder, Arc::clone(&self.redactors));
        Ok(Self { json, louder, redactors, ..Self::of_process()? })
    }

    /// What the command prints and logs lacks these secrets from now on.
    pub(crate) fn keep_back(&self, redactor: Redactor) {
        let mut all = self.redactors.write().unwrap_or_else(PoisonError::into_inner);
        all.push(redactor);
        let many = all.len().saturating_sub(MOST_REDACTORS);
        all.drain(..many);
    }

    /// Text that others may have written, for the terminal and the log: without secrets.
    pub(crate) fn without_secrets<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let all = self.redactors.read().unwrap_or_else(PoisonError::into_inner);
        let mut redacted =
            if all.is_empty() { Redactor::default().redact(text) } else { Cow::Borrowed(text) };
        for redactor in all.iter() {
            if let Cow::Owned(without) = redactor.redact(&redacted) {
                redacted = Cow::Owned(without);
            }
        }
        redacted
    }

    /// The same for what is printed as JSON.
    pub(crate) fn json_without_secrets(&self, what: &impl Serialize) -> serde_json::Result<String> {
        serde_json::to_string_pretty(&self.value_without_secrets(what)?)
    }

    fn value_without_secrets(&self, what: &impl Serialize) -> serde_json::Result<Value> {
        let mut value = serde_json::to_value(what)?;
        let all = self.redactors.read().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            Redactor::default().redact_json(&mut value);
        }
        all.iter().for_each(|redactor| redactor.redact_json(&mut value));
        Ok(value)
    }

    /// Whether what goes to stderr may be coloured.
    pub(crate) fn has_colours(&self) -> bool {
        self.stderr_is_terminal && self.variables.get("NO_COLOR").is_none_or(String::is_empty)
    }

    /// A level, by as many -v louder, or -q quieter.
    pub(crate) fn louder(&self, level: LevelFilter) -> LevelFilter {
        let all = [
            LevelFilter::OFF,
            LevelFilter::ERROR,
            LevelFilter::WARN,
            LevelFilter::INFO,
            LevelFilter::DEBUG,
            LevelFilter::TRACE,
        ];
        let at = all.iter().position(|known| *known == level).unwrap_or_default();
        let at = at.saturating_add_signed(isize::from(self.louder)).min(all.len() - 1);
        all.get(at).copied().unwrap_or(level)
    }

    /// Whether something of that weight is said on stderr.
    pub(crate) fn says(&self, level: Level) -> bool {
        level <= self.louder(LevelFilter::INFO)
    }

    /// Says something on stderr: a line, or with `--json` an object with the time and the fields of `what`. Nobody has to
    /// read it.
    pub(crate) fn say(&self, level: Level, text: &str, what: &impl Serialize) {
        if !self.says(level) {
            return;
        }
        let mut err = anstream::stderr();
        if !self.json {
            let (on, off) = match level {
                Level::ERROR => ("\x1b[31m", "\x1b[0m"),
                Level::WARN => ("\x1b[33m", "\x1b[0m"),
                _ => ("", ""),
            };
            // anstream drops the colours where stderr is no terminal.
            let _ = writeln!(err, "{on}{}{off}", self.without_secrets(text));
            return;
        }
        let mut line = serde_json::json!({
            "timestamp": MachineClock::default().now().to_string(),
            "level": level.as_str(),
            "message": text,
        });
        if let (Some(line), Ok(Value::Object(fields))) = (line.as_object_mut(), serde_json::to_value(what)) {
            line.extend(fields);
        }
        if let Ok(line) = self.value_without_secrets(&line) {
            let _ = writeln!(err, "{line}");
        }
    }

    /// Says what went wrong.
    pub fn error(&self, text: &str) {
        let line = if self.json { text.to_owned() } else { format!("error: {text}") };
        self.say(Level::ERROR, &line, &());
    }

    /// Says something that is good to know.
    pub(crate) fn note(&self, text: &str) {
        self.say(Level::INFO, text, &());
    }

    /// All variables.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// A variable's value.
    pub fn var(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_dotenv(text: &str, set: &[(&str, &str)]) -> anyhow::Result<Environment> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".env"), text).unwrap();
        let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Environment::new(set, folder.path().to_owned(), false)
    }

    #[test]
    fn what_the_environment_sets_wins_over_dotenv() {
        let env = with_dotenv("A=file\nB=file\n", &[("A", "process")]).unwrap();
        assert_eq!(env.var("A").as_deref(), Some("process"));
        assert_eq!(env.var("B").as_deref(), Some("file"));
        assert_eq!(env.var("C"), None);
    }

    #[test]
    fn a_broken_dotenv_is_told_without_its_text() {
        let error = with_dotenv("A=1\nTOKEN='sesame open\n", &[]).unwrap_err().to_string();
        assert!(error.contains(".env:2: "), "{error}");
        assert!(!error.contains("sesame"), "{error}");
    }

    #[test]
    fn colours_and_redrawing_are_for_terminals_that_want_them() {
        let with = |set: &[(&str, &str)], terminal| {
            let set = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let env = Environment::new(set, "/nowhere".into(), terminal).unwrap();
            (env.has_colours(), env.stderr_is_terminal)
        };
        assert_eq!(with(&[("TERM", "xterm")], true), (true, true));
        assert_eq!(with(&[], false), (false, false));
        assert_eq!(with(&[("NO_COLOR", "1")], true), (false, true));
        assert_eq!(with(&[("NO_COLOR", "")], true), (true, true));
        assert_eq!(with(&[("TERM", "dumb")], true), (false, false));
    }

    #[test]
    fn levels_move_by_as_much_as_is_asked_for_and_no_further_than_there_are() {
        let env = Environment::new(BTreeMap::new(), "/nowhere".into(), false).unwrap();
        let at = |louder, level| env.clone().speaking(false, louder).louder(level);
        assert_eq!(at(0, LevelFilter::INFO), LevelFilter::INFO);
        assert_eq!(at(1, LevelFilter::INFO), LevelFilter::DEBUG);
        assert_eq!(at(-1, LevelFilter::WARN), LevelFilter::ERROR);
        assert_eq!(
            (at(9, LevelFilter::WARN), at(-9, LevelFilter::WARN)),
            (LevelFilter::TRACE, LevelFilter::OFF)
        );
        let quiet = env.speaking(false, -1);
        assert_eq!((quiet.says(Level::INFO), quiet.says(Level::WARN)), (false, true));
    }

    #[test]
    fn secrets_of_every_configuration_that_was_read_are_kept_back() {
        let env = Environment::new(BTreeMap::new(), "/nowhere".into(), false).unwrap();
        for secret in ["swordfish-1", "swordfish-2"] {
            env.keep_back(Redactor::new([secret.to_owned()]));
        }
        let shown = env.clone().without_secrets("swordfish-1 and swordfish-2").into_owned();
        assert!(!shown.contains("swordfish"), "{shown}");
    }

    #[test]
    fn no_dotenv_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Environment::new(BTreeMap::new(), folder.path().to_owned(), false).is_ok());
    }
}
