//! Anthropic's Messages API (`POST /messages`). It hosts no MCP servers for us.

use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) mod answer;
pub(crate) mod request;

/// The key of a raw thinking block under which stands what its words were.
const WORDS: &str = "words";

/// Tells whether the words of a thinking block are those that its signature is of: a secret may have been taken out of them
/// since, and the service refuses a block that was changed.
fn digest(words: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    words.hash(&mut hasher);
    hasher.finish()
}
