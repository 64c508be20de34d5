//! The key of placeholders' tags, in the data folder.

use std::path::Path;
use std::sync::Arc;

use sentinel_core::redact::{TagKey, TagKeys};

use crate::key_file::{chance, read_or_make};

/// The file's name in the data folder.
const FILE: &str = "redaction-key";

/// The key that stands in the data folder's `redaction-key`, made where there is none: 64 hexadecimal digits of chance,
/// which only their owner can read. It is read when the first placeholder needs it.
pub fn tag_keys(folder: &Path) -> Arc<TagKeys> {
    let file = folder.join(FILE);
    Arc::new(TagKeys::new(move || match read_or_make(&file) {
        Ok(key) => Some(TagKey::new(key)),
        Err(error) => {
            tracing::error!(
                file = %file.display(),
                %error,
                "the key of placeholders' tags cannot be used; secrets are taken out all the same, but placeholders do \
                 not tell them apart. Mend the file, or remove it to get a new key"
            );
            None
        }
    }))
}

/// A key of chance that is kept nowhere: for runs without a data folder. `None`: the system gave no chance.
pub fn passing_tag_keys() -> Option<Arc<TagKeys>> {
    Some(Arc::new(TagKey::new(chance().ok()?).into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use sentinel_core::incident::IncidentId;
    use sentinel_core::redact::Redactor;

    use super::*;

    fn redacted(folder: &Path) -> String {
        let redactor =
            Redactor::default().with_tag_keys(Some(tag_keys(folder))).for_incident(&IncidentId::new("i"));
        redactor.redact("password=changeme").into_owned()
    }

    #[test]
    fn the_key_is_made_once_for_its_owner_alone_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            Redactor::default().with_tag_keys(Some(tag_keys(folder.path()))).redact("nothing"),
            "nothing"
        );
        assert!(!folder.path().join(FILE).exists(), "the key is made before it is needed");
        let first = redacted(folder.path());
        assert!(
            first.starts_with("password=[redacted: password ") && first != "password=[redacted: password]"
        );
        assert_eq!(redacted(folder.path()), first);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_spoilt_key_leaves_placeholders_without_tags() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "no key").unwrap();
        assert_eq!(redacted(folder.path()), "password=[redacted: password]");
    }
}
