//! The data folder: one process owns it, and says where it can be reached.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sentinel_core::ports::StoreError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What can go wrong with the embedded backend.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The data folder cannot be created or written.
    #[error("the data folder {} cannot be written: {reason}", folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// Another process owns the data folder.
    #[error("the data folder {} is held by another process{}", folder.display(), known(*pid, url.as_deref()))]
    Held {
        /// The folder.
        folder: PathBuf,
        /// The other process, where it has said.
        pid: Option<u32>,
        /// Where the other process's API answers, once it has said.
        url: Option<String>,
    },
    /// The database file is none, is damaged, or a newer version wrote it.
    #[error("the database {} cannot be read: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the database says.
        reason: String,
    },
    /// The database does not take the table.
    #[error("the database cannot be prepared: {0}")]
    Table(#[from] StoreError),
}

impl LocalError {
    /// Whether the same call may work later, with nobody doing anything about it: when the other process ends.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } => true,
            Self::Table(e) => e.is_retryable(),
            Self::Unwritable { .. } | Self::Unreadable { .. } => false,
        }
    }
}

fn known(pid: Option<u32>, url: Option<&str>) -> String {
    let pid = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
    let url = url.map(|url| format!(", which answers at {url}")).unwrap_or_default();
    pid + &url
}

/// What the owner writes beside the lock.
#[derive(Serialize, Deserialize, Default)]
struct Service {
    pid: Option<u32>,
    url: Option<String>,
}

/// A data folder that this process owns until it is dropped.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Held, not read: the system ends the lock with the file, however the process ends.
    _lock: File,
}

impl Folder {
    pub(crate) fn claim(path: &Path) -> Result<Self, LocalError> {
        let unwritable = |reason| LocalError::Unwritable { folder: path.to_owned(), reason };
        create(path).map_err(unwritable)?;
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("sentinel.lock"))
            .map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let Service { pid, url } = read_service(path);
                return Err(LocalError::Held { folder: path.to_owned(), pid, url });
            }
            Err(TryLockError::Error(e)) => return Err(unwritable(e)),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        folder.announce(None)?;
        Ok(folder)
    }

    /// The database's file.
    pub(crate) fn database(&self) -> PathBuf {
        self.path.join("sentinel.db")
    }

    /// Says who owns the folder and, once known, where its API answers.
    pub(crate) fn announce(&self, url: Option<&str>) -> Result<(), LocalError> {
        let service = Service { pid: Some(std::process::id()), url: url.map(str::to_owned) };
        let write = || {
            let next = self.path.join("service.json.next");
            fs::write(&next, serde_json::to_vec(&service)?)?;
            // Renamed into place: a reader sees the old text or the new one, never half of it.
            fs::rename(next, service_file(&self.path))
        };
        write().map_err(|reason| LocalError::Unwritable { folder: self.path.clone(), reason })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: without the lock nobody reads it, and the next owner writes it anew.
        let _ = fs::remove_file(service_file(&self.path));
    }
}

fn service_file(folder: &Path) -> PathBuf {
    folder.join("service.json")
}

/// What the owner has said; nothing, where it has not yet or where the text is broken.
fn read_service(folder: &Path) -> Service {
    fs::read(service_file(folder))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// Transcripts may quote what only the operator may see, so a folder made here is the owner's alone.
fn create(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
