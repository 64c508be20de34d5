//! Tags: sixteen bits that tell two secrets of an incident apart, and say nothing of them.

use std::fmt;
use std::sync::OnceLock;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::incident::IncidentId;

/// The key that tags are made with: 32 random bytes, the same for all who write to one store.
#[derive(Clone)]
pub struct TagKey([u8; TagKey::BYTES]);

impl TagKey {
    /// Its length.
    pub const BYTES: usize = 32;

    /// These bytes as a key.
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The key that a text of any form stands for, such as a generated password: its SHA-256.
    pub fn from_text(text: &str) -> Self {
        use sha2::Digest as _;
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// The first 16 bits of HMAC-SHA256 over the incident's id and the secret.
    pub fn tag(&self, incident: &IncidentId, secret: &str) -> u16 {
        // A key of any length is taken: there is no error to meet.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return 0 };
        mac.update(incident.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(secret.as_bytes());
        let [high, low, ..] = <[u8; 32]>::from(mac.finalize().into_bytes());
        u16::from_be_bytes([high, low])
    }
}

/// Without the key.
impl fmt::Debug for TagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKey")
    }
}

/// Where the key comes from: it is read when the first placeholder is needed, once.
pub struct TagKeys {
    read: Box<dyn Fn() -> Option<TagKey> + Send + Sync>,
    key: OnceLock<Option<TagKey>>,
}

impl TagKeys {
    /// The key that `read` gives. Where it gives none it has said why: placeholders then have no tags.
    pub fn new(read: impl Fn() -> Option<TagKey> + Send + Sync + 'static) -> Self {
        Self { read: Box::new(read), key: OnceLock::new() }
    }

    /// The key, read now where it was not before.
    pub fn get(&self) -> Option<&TagKey> {
        self.key.get_or_init(|| (self.read)()).as_ref()
    }
}

impl From<TagKey> for TagKeys {
    fn from(key: TagKey) -> Self {
        Self::new(move || Some(key.clone()))
    }
}

impl fmt::Debug for TagKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TagKeys")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    #[test]
    fn one_secret_has_one_tag_in_an_incident_and_another_elsewhere() {
        let key = TagKey::new([10; 32]);
        let r = Redactor::new(["swordfish".to_owned(), "sardine-tin".to_owned()])
            .with_tag_keys(Some(std::sync::Arc::new(key.into())));
        let here = r.for_incident(&IncidentId::new("here"));
        let there = r.for_incident(&IncidentId::new("there"));
        let once = here.redact("swordfish").into_owned();
        assert!(
            once.starts_with("[redacted: configured-secret ")
                && once.len() == "[redacted: configured-secret a1f3]".len()
        );
        assert_eq!(here.redact("a swordfish"), format!("a {once}"));
        assert_ne!(here.redact("sardine-tin"), once);
        assert_ne!(there.redact("swordfish"), once);
        assert_eq!(r.redact("swordfish"), "[redacted: configured-secret]");
        assert_eq!(here.redact(&once), once);
    }
}
