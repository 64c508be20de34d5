//! What a doctor has seen: each thing that was looked at, how it is, and what to do about it.

use std::io::Write;

use serde::Serialize;

use crate::Exit;
use crate::environment::Environment;
use crate::render::inert;

/// How grave it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grade {
    /// As it should be.
    Good,
    /// Good to know.
    Note,
    /// To be mended.
    Trouble,
}

/// What was looked at, what was seen, and what to do about it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) grade: Grade,
    pub(crate) of: String,
    pub(crate) seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(crate) fn good(of: &str, seen: impl Into<String>) -> Self {
        Self { grade: Grade::Good, of: of.to_owned(), seen: seen.into(), remedy: None }
    }

    pub(crate) fn note(of: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Note, of: of.to_owned(), seen: seen.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn trouble(of: &str, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Trouble, of: of.to_owned(), seen: seen.into(), remedy: Some(remedy.into()) }
    }
}

/// Tells all that was seen: a line each, or JSON. Ends with 1 where something is to be mended.
pub(crate) fn tell(found: &[Finding], json: bool, env: &Environment) -> anyhow::Result<Exit> {
    let mut out = anstream::stdout();
    let troubles = found.iter().filter(|finding| finding.grade == Grade::Trouble).count();
    let exit = if troubles == 0 { Exit::Done } else { Exit::Failed };
    if json {
        writeln!(out, "{}", env.json_without_secrets(&found)?)?;
        return Ok(exit);
    }
    for finding in found {
        let mark = match finding.grade {
            Grade::Good => "ok      ",
            Grade::Note => "note    ",
            Grade::Trouble => "TROUBLE ",
        };
        let seen = inert(&format!("{}: {}", finding.of, finding.seen));
        let remedy = finding.remedy.as_deref().map(|remedy| format!("\n          {}", inert(remedy)));
        writeln!(out, "{}", env.without_secrets(&format!("{mark}{seen}{}", remedy.unwrap_or_default())))?;
    }
    let verdict = if troubles == 0 { "All is well.".to_owned() } else { format!("{troubles} to be mended.") };
    writeln!(out, "{verdict}")?;
    Ok(exit)
}
