//! The key that signs the ends of incidents' records, in the data folder.

use std::io;
use std::path::Path;
use std::sync::Arc;

use sentinel_core::chain::SigningKey;

use crate::key_file::{Key, read, read_or_make};
use crate::private::own_folder;

/// The file's name in the data folder.
const FILE: &str = "audit-key";

/// The key in the data folder's `audit-key`. `None`: there is none, and nothing is signed.
///
/// # Errors
/// It is there and cannot be used: whoever has one wants signatures.
pub fn signing_key(folder: &Path) -> io::Result<Option<Arc<SigningKey>>> {
    let file = folder.join(FILE);
    let found = read(&file).and_then(|key| key.map(|key| of_seed(&key)).transpose());
    Ok(found.map_err(|error| named(&file, &error))?.map(Arc::new))
}

/// The same, made where there is none; so is the folder.
///
/// # Errors
/// The system's, or what is there is no key.
pub fn make_signing_key(folder: &Path) -> io::Result<SigningKey> {
    let file = folder.join(FILE);
    own_folder(folder)
        .and_then(|_| read_or_make(&file))
        .and_then(|key| of_seed(&key))
        .map_err(|error| named(&file, &error))
}

fn of_seed(seed: &Key) -> io::Result<SigningKey> {
    SigningKey::from_seed(seed).ok_or_else(|| io::Error::other("it is no Ed25519 key"))
}

fn named(file: &Path, error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("the key that signs records, {}, cannot be used: {error}", file.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_for_its_owner_alone_and_a_spoilt_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("data");
        assert!(signing_key(&folder).unwrap().is_none());
        let public = make_signing_key(&folder).unwrap().public();
        assert_eq!(make_signing_key(&folder).unwrap().public(), public);
        assert_eq!(signing_key(&folder).unwrap().unwrap().public(), public);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join(FILE))), (0o700, 0o600));
        fs::write(folder.join(FILE), "no key").unwrap();
        let error = signing_key(&folder).unwrap_err().to_string();
        assert!(error.contains("audit-key") && error.contains("64 hexadecimal digits"), "{error}");
    }
}
