//! The data folder: one process owns it, and says where it can be reached.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use sentinel_core::ports::StoreError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::private;

/// What can go wrong with the embedded backend.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The data folder cannot be created or written, or is not this user's alone and cannot be made so.
    #[error("the data folder {} cannot be used: {reason}", folder.display())]
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
        let was_open = private::own_folder(path).map_err(unwritable)?;
        let lock = private::open_private(&path.join("sentinel.lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let Service { pid, url } = read_service(path);
                return Err(LocalError::Held { folder: path.to_owned(), pid, url });
            }
            Err(TryLockError::Error(e)) => return Err(unwritable(e)),
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        // The database's log and index files get the modes of the database.
        private::open_private(&folder.database()).map_err(unwritable)?;
        let files = private::own_files(path).map_err(unwritable)?;
        if was_open || !files.is_empty() {
            let folder = path.display();
            tracing::warn!(%folder, ?files, "others could read the data folder; now it is this user's alone");
        }
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
        let write = || private::write_private(&service_file(&self.path), &serde_json::to_vec(&service)?);
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
