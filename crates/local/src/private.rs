//! Files and folders that are their owner's alone: transcripts quote what only the operator may see, and some files are
//! keys.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// What the owner may do with a file, and nobody else anything.
const FILE: u32 = 0o600;
/// What the owner may do with a folder, and nobody else anything.
const FOLDER: u32 = 0o700;
/// What everybody else might be allowed to do.
const OTHERS: u32 = 0o077;

/// Writes a file that only its owner may read (0600), in place of the one that was there: a reader sees the old bytes or
/// the new ones, never half of them, and after a crash one of the two is there.
///
/// # Errors
/// The system's, of writing or renaming.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Made with 0600 and a name that nobody can guess.
    let mut next = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    next.write_all(bytes)?;
    next.as_file().sync_all()?;
    next.persist(path)?;
    Ok(())
}

/// Opens a file for writing and makes it where it is absent, as its owner's alone.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(FILE).open(path)
}

/// Makes the folder where it is absent, and takes from everybody else what they may do in it where it is there. `true`:
/// they might have done something.
///
/// # Errors
/// It is a symbolic link or another user's: whoever owns it could put other files under the names of ours.
pub(crate) fn own_folder(path: &Path) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)?;
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Err(refusal(
            "it is a symbolic link, which somebody could point elsewhere: name the folder itself",
        ));
    }
    owned(found.uid(), "name a folder of your own, such as a new one inside it")?;
    tighten(path, found.mode())
}

/// Takes from everybody else what they may do with the files of a folder; gives those of which they might have read.
///
/// # Errors
/// One of them is a symbolic link or another user's.
pub(crate) fn own_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut tightened = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Gone again: the database's own files come and go.
        let Some(found) = none_if_absent(fs::symlink_metadata(&path))? else { continue };
        let shown = path.display();
        if found.is_symlink() {
            return Err(refusal(&format!("{shown} in it is a symbolic link: put the file itself there")));
        }
        if !found.is_file() {
            continue;
        }
        owned(found.uid(), &format!("it is {shown} in the folder: move it away, or give it to yourself"))?;
        if none_if_absent(tighten(&path, found.mode()))?.unwrap_or_default() {
            tightened.push(path);
        }
    }
    Ok(tightened)
}

fn tighten(path: &Path, mode: u32) -> io::Result<bool> {
    let open = mode & OTHERS != 0;
    if open {
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 & !OTHERS))?;
    }
    Ok(open)
}

fn owned(uid: u32, mend: &str) -> io::Result<()> {
    let me = rustix::process::geteuid().as_raw();
    if uid == me {
        return Ok(());
    }
    Err(refusal(&format!("it belongs to user {uid}, and this process is user {me}: {mend}")))
}

fn refusal(why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, why)
}

fn none_if_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_private_file_is_its_owners_alone_also_where_another_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "old and longer").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!((fs::read(&path).unwrap().as_slice(), mode(&path)), (&b"new"[..], 0o600));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        // Not through a link: the file that it points to stays as it was.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        write_private(&link, b"beside").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_folder_of_another_user_is_refused_with_both() {
        let mut mine = rustix::process::geteuid().as_raw();
        owned(mine, "").unwrap();
        mine += 1;
        let said = owned(mine, "name another").unwrap_err().to_string();
        assert!(said.contains(&format!("user {mine}")) && said.ends_with("name another"), "{said}");
    }
}
