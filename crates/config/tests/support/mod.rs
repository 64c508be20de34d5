//! A configuration as text, and what is said about it.

use std::path::{Path, PathBuf};

use sentinel_config::{Problems, Source, load};

pub(crate) fn source(text: &str) -> Source {
    let base_dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Source { name: PathBuf::from("config.yaml"), text: text.into(), base_dir: Some(base_dir) }
}

pub(crate) fn env(name: &str) -> Option<String> {
    (name == "TOKEN").then(|| "hunter2-secret".into())
}

pub(crate) fn problems(text: &str) -> Problems {
    load(&source(text), &env).unwrap_err()
}

pub(crate) fn warnings(text: &str) -> String {
    let loaded = load(&source(text), &env).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
