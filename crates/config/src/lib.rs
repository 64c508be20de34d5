//! YAML to validated [`Settings`], with located diagnostics. See the crate's README.

mod diagnostic;
mod duration;
mod expand;
mod read;
mod reader;
mod schema;
mod secrets;
mod settings;
mod source;
mod tree;

pub use diagnostic::{Diagnostic, Place, Problems, Severity};
pub use read::{CardPlaces, PolicyPlaces};
pub use schema::json_schema;
pub use settings::{
    Api, ApiAccess, ApiToken, Auth, AwsScope, Caller, Dispatcher, ForcedTurn, Hmac, HostedAt, Ingest, Level,
    Listener, Mode, ModelService, Models, Network, OAuth, Reach, RequireApproval, Server, Settings, SinkKind,
    SinkSettings, Watcher, WatcherKind,
};
pub use source::{Source, built_in, locate, locate_deployed, read_file, read_text};

use std::collections::{BTreeMap, BTreeSet};

use expand::Values;
use read::is_prompt_file;
use reader::Reader;
use secrecy::SecretString;
use sentinel_core::tools_lock;

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
            "openai" | "model-services" | "mcp-servers" | "sinks" | "tools" => {
                matches!(self, Self::Everything | Self::Worker)
            }
            "api" | "server" => self == Self::Everything,
            "watchers" => matches!(self, Self::Everything | Self::Watcher),
            _ => true,
        }
    }

    /// Whether prompts are rendered: files of them are read for nobody else.
    const fn needs_prompts(self) -> bool {
        matches!(self, Self::Everything | Self::Worker)
    }
}

/// Reads a configuration; prompt files are read too, where prompts are needed, and neither prompts nor rules are compiled.
///
/// `env` is the environment, from which `${NAME}` is taken. An unset or empty variable is an error, except in the
/// `api-key` of a service of models, which is then absent. Values of the secret store are not known: see [`load_for`].
///
/// # Errors
/// Everything that is wrong, not only the first thing, and the warnings. Text that is no YAML gives one problem only.
pub fn load(source: &Source, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Problems> {
    load_for(Reading::Everything, source, env, &BTreeMap::new())
}

/// The same for one part of Sentinel, with what was read from the secret store: whole secrets, by ARN or name.
///
/// Without them, what refers to a secret is absent, there is a warning, and
/// [`Settings::refuse_unread_secrets`] refuses the start. So load once, read [`Loaded::secret_ids`], and where there
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
    let reader = Reader::new(source, Values { env, secrets }, reading);
    let root = tree(&reader, &source.text)?;
    finish(reader, &root)
}

/// The same as [`load`] with another card: `card` holds one, as it stands in `incident-cards`, in place of the one of its
/// name. Its prompt's path is relative to the configuration's folder.
///
/// # Errors
/// As [`load`], and where the card has no name or the configuration has no card of that name.
pub fn load_with_card(
    source: &Source,
    card: &Source,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Problems> {
    let values = Values { env, secrets: &BTreeMap::new() };
    let card_reader = Reader::new(card, values, Reading::Everything);
    let node = tree(&card_reader, &card.text)?;
    let refused = |message: String, help: &str| Problems {
        diagnostics: vec![card_reader.place_at(node.at, "").error(message, help.to_owned())],
    };
    let Some(name) = node.text("name").map(str::to_owned) else {
        return Err(refused(
            "this is no card with a `name`".to_owned(),
            "write one card as it stands in `incident-cards`, without the dash",
        ));
    };
    let reader = Reader::new(source, values, Reading::Everything);
    let mut root = tree(&reader, &source.text)?;
    let cards = root.list_mut("incident-cards").unwrap_or_default();
    let Some(index) = cards.iter().position(|card| card.text("name") == Some(&name)) else {
        let message = format!("{} has no card {name}", source.name.display());
        return Err(refused(message, "give the card the name of the one that it stands for"));
    };
    if let Some(place) = cards.get_mut(index) {
        *place = node;
    }
    let of_card = format!("incident-cards[{index}]");
    finish(reader, &root).map_err(|mut problems| {
        for diagnostic in problems.diagnostics.iter_mut().filter(|d| d.key.starts_with(&of_card)) {
            diagnostic.file.clone_from(&card.name);
        }
        problems
    })
}

fn tree(reader: &Reader<'_>, text: &str) -> Result<tree::Node, Problems> {
    tree::parse(text)
        .map_err(|e| Problems { diagnostics: vec![reader.place_at(e.at, "").error(e.message, e.help)] })
}

fn finish(mut reader: Reader<'_>, root: &tree::Node) -> Result<Loaded, Problems> {
    let (settings, places) = read::settings(&mut reader, root);
    let failed = reader.has_errors();
    let Reader { mut diagnostics, secret_ids, .. } = reader;
    diagnostics.sort_by_key(|d| (d.line, d.column, d.severity));
    if failed {
        Err(Problems { diagnostics })
    } else {
        Ok(Loaded { settings, warnings: diagnostics, places, secret_ids })
    }
}

/// The files that a configuration refers to beside itself, as it names them: its prompts, and `tools.lock`, which counts
/// where it is there. Nothing of text that is no YAML: who reads it says what is wrong with it.
pub fn files_beside(text: &str) -> Vec<String> {
    fn gather(node: &tree::Node, found: &mut BTreeSet<String>) {
        match &node.value {
            tree::Value::Scalar { .. } => {}
            tree::Value::List(nodes) => nodes.iter().for_each(|node| gather(node, found)),
            tree::Value::Map(entries) => {
                for entry in entries {
                    match &entry.node.value {
                        tree::Value::Scalar { text, .. } if entry.key == "prompt" => {
                            found.extend(
                                Some(text.trim()).filter(|path| is_prompt_file(path)).map(str::to_owned),
                            );
                        }
                        _ => gather(&entry.node, found),
                    }
                }
            }
        }
    }
    let mut found = BTreeSet::from([tools_lock::FILE.to_owned()]);
    if let Ok(root) = tree::parse(text) {
        gather(&root, &mut found);
    }
    found.into_iter().collect()
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
