//! What is wrong with a configuration, where, and what would be right.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Whether a diagnostic stops the load.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but a person should look.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A value's place in a configuration file, kept so that what is found later (a prompt that does not compile, say)
/// can still be told with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The file, as given by the user.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The dotted path of the key, e.g. `incident-cards[0].prompt`; empty for the file as a whole.
    pub key: String,
}

impl Place {
    /// An error at this place.
    pub fn error(&self, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Error, message.into(), help.into())
    }

    /// A warning at this place.
    pub fn warning(&self, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        self.diagnostic(Severity::Warning, message.into(), help.into())
    }

    fn diagnostic(&self, severity: Severity, message: String, help: String) -> Diagnostic {
        Diagnostic {
            severity,
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            key: self.key.clone(),
            message,
            help,
        }
    }
}

/// One finding. Never holds the value of a secret or of an environment variable.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// Whether it stops the load.
    pub severity: Severity,
    /// The file, as given by the user.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The dotted path of the key, e.g. `incident-cards[0].max-iterations`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// `file:line:column: error: key: message; help`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, line, column, key, message, help } = self;
        write!(f, "{}:{line}:{column}: {severity}: ", file.display())?;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(message)?;
        if !help.is_empty() {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// Why a configuration cannot be used: everything that is wrong with it, and its warnings, in the order of the file.
///
/// There is nothing to retry: the same text gives the same problems.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, thiserror::Error)]
#[error("{}", self.lines())]
pub struct Problems {
    /// At least one error, and all warnings.
    pub diagnostics: Vec<Diagnostic>,
}

impl Problems {
    /// Always false: a configuration does not mend itself.
    pub const fn is_retryable(&self) -> bool {
        false
    }

    fn lines(&self) -> String {
        self.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}
