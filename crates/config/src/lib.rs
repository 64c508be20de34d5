//! YAML to validated [`Settings`], with located diagnostics. See the crate's README.

mod diagnostic;
mod duration;
mod expand;
mod read;
mod reader;
mod settings;
mod source;
mod tree;

pub use diagnostic::{Diagnostic, Place, Problems, Severity};
pub use read::CardPlaces;
pub use settings::{
    Api, Budget, Dispatcher, Ingest, Level, Mode, Network, OpenAi, Price, RequireApproval, Server, Settings,
    SinkKind, SinkSettings, Watcher, WatcherKind,
};
pub use source::{Source, built_in, locate};

use reader::Reader;

/// What a configuration came to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What a person should look at, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// For each of [`Settings::cards`], where its parts stand.
    pub places: Vec<CardPlaces>,
}

/// Reads a configuration; prompt files are read too, and neither prompts nor rules are compiled.
///
/// `env` is the environment, from which `${NAME}` is taken. An unset or empty variable is an error, except in
/// `openai.api-key`, which is then absent.
///
/// # Errors
/// Everything that is wrong, not only the first thing, and the warnings. Text that is no YAML gives one problem only.
pub fn load(source: &Source, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    let mut reader = Reader::new(source, env);
    let root = match tree::parse(&source.text) {
        Ok(root) => root,
        Err(e) => {
            let diagnostic = reader.place_at(e.at, "").error(e.message, e.help);
            return Err(Problems { diagnostics: vec![diagnostic] });
        }
    };
    let (settings, places) = read::settings(&mut reader, &root);
    let failed = reader.has_errors();
    let mut diagnostics = reader.diagnostics;
    diagnostics.sort_by_key(|d| (d.line, d.column, d.severity));
    if failed {
        Err(Problems { diagnostics })
    } else {
        Ok(Loaded { settings, warnings: diagnostics, places })
    }
}

/// The known word that was probably meant.
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    // No known word is that long, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    known
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        // A third of the letters may be wrong, and in a short word still one.
        .filter(|(distance, k)| *distance <= (k.chars().count().max(word.chars().count()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
