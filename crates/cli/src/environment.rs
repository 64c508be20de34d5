//! The process's surroundings, read once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Context;
use sentinel_config::read_text;
use sentinel_core::redact::Redactor;
use serde::Serialize;

use crate::dotenv;

/// The environment variables, the current folder and the terminal.
#[derive(Clone, Debug)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// The current folder.
    pub cwd: PathBuf,
    /// Whether stderr is a terminal: then progress may redraw itself.
    pub stderr_is_terminal: bool,
    /// Knows the configuration's secrets, once that is read.
    redactor: OnceLock<Redactor>,
}

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
        Self::new(variables, cwd, std::io::stderr().is_terminal())
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
        Ok(Self { variables, cwd, stderr_is_terminal, redactor: OnceLock::new() })
    }

    /// What the command prints lacks these secrets from now on. The first configuration that is read says which.
    pub(crate) fn keep_back(&self, redactor: Redactor) {
        self.redactor.get_or_init(|| redactor);
    }

    /// Text that others may have written, for the terminal: without secrets.
    pub(crate) fn without_secrets<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.redactor.get() {
            Some(redactor) => redactor.redact(text),
            None => Redactor::default().redact(text),
        }
    }

    /// The same for what is printed as JSON.
    pub(crate) fn json_without_secrets(&self, what: &impl Serialize) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(what)?;
        self.redactor.get().unwrap_or(&Redactor::default()).redact_json(&mut value);
        serde_json::to_string_pretty(&value)
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
    fn no_dotenv_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Environment::new(BTreeMap::new(), folder.path().to_owned(), false).is_ok());
    }
}
