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
pub use read::{CardPlaces, PolicyPlaces};
pub use settings::{
    Api, Budget, Caller, Dispatcher, Hmac, HostedAt, Ingest, Level, Mode, Network, OAuth, OpenAi, Price,
    Reach, RequireApproval, Server, Settings, SinkKind, SinkSettings, Watcher, WatcherKind,
};
pub use source::{Source, built_in, locate, locate_deployed};

use std::collections::{BTreeMap, BTreeSet};

use expand::Values;
use reader::Reader;
use secrecy::SecretString;

/// What a configuration came to.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What a person should look at, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// For each of [`Settings::cards`], where its parts stand.
    pub places: Vec<CardPlaces>,
    /// The secrets of the secret store that it refers to (`${secret:…}`), by ARN or name.
    pub secret_ids: BTreeSet<String>,
}

/// Who reads a configuration: variables and secrets that only others need may be absent.
///
/// Each function of a deployment is given no more than it needs: ingest, say, never sees the model's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// One process does everything.
    Everything,
    /// Who takes webhooks: all but the model, servers, sinks and watchers.
    Ingest,
    /// Who investigates: all but who may post webhooks, and watchers.
    Worker,
    /// Who polls: the watchers, resources and cards.
    Watcher,
    /// Who sweeps: the cards' rules.
    Sweeper,
}

impl Reading {
    /// Whether values at this path (`ingest.bearer[0]`) have to be known.
    fn wants(self, path: &str) -> bool {
        let section = path.split(['.', '[']).next().unwrap_or_default();
        match section {
            "ingest" => matches!(self, Self::Everything | Self::Ingest),
            "openai" | "mcp-servers" | "sinks" | "tools" => matches!(self, Self::Everything | Self::Worker),
            "watchers" => matches!(self, Self::Everything | Self::Watcher),
            _ => true,
        }
    }
}

/// Reads a configuration; prompt files are read too, and neither prompts nor rules are compiled.
///
/// `env` is the environment, from which `${NAME}` is taken. An unset or empty variable is an error, except in
/// `openai.api-key`, which is then absent. Values of the secret store are not known: see [`load_for`].
///
/// # Errors
/// Everything that is wrong, not only the first thing, and the warnings. Text that is no YAML gives one problem only.
pub fn load(source: &Source, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    load_for(Reading::Everything, source, env, &BTreeMap::new())
}

/// The same for one part of Sentinel, with what was read from the secret store: whole secrets, by ARN or name.
///
/// Without them, what refers to a secret is absent, there is a warning, and
/// [`Settings::refuse_unbuilt_protection`] refuses the start. So load once, read [`Loaded::secret_ids`], and where there
/// are any, load again with them.
///
/// # Errors
/// As [`load`]; also where a secret lacks a key that is referred to.
pub fn load_for(
    reading: Reading,
    source: &Source,
    env: &dyn Fn(&str) -> Option<String>,
    secrets: &BTreeMap<String, SecretString>,
) -> Result<Loaded, Problems> {
    let mut reader = Reader::new(source, Values { env, secrets }, reading);
    let root = match tree::parse(&source.text) {
        Ok(root) => root,
        Err(e) => {
            let diagnostic = reader.place_at(e.at, "").error(e.message, e.help);
            return Err(Problems { diagnostics: vec![diagnostic] });
        }
    };
    let (settings, places) = read::settings(&mut reader, &root);
    let failed = reader.has_errors();
    let Reader { mut diagnostics, secret_ids, .. } = reader;
    diagnostics.sort_by_key(|d| (d.line, d.column, d.severity));
    if failed {
        Err(Problems { diagnostics })
    } else {
        Ok(Loaded { settings, warnings: diagnostics, places, secret_ids })
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
