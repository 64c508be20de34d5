//! Where a deployed function has its configuration from: a file that travels in its zip, or one in a bucket of S3, which
//! is followed as it changes.

mod function;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sentinel_aws::{Bucket, BucketError, CallLimits, Fetched, StartError};
use sentinel_config::{Source, files_beside, locate_deployed};
use sentinel_core::tools_lock;
use sentinel_telemetry::TelemetryError;
use thiserror::Error;
use tokio::time::Instant;
use tracing::level_filters::ParseLevelFilterError;

pub use function::{Function, log};

/// How long a configuration in a bucket is not asked for again.
const FRESH: Duration = Duration::from_mins(1);
/// The most files beside a configuration that are read from a bucket.
const MOST_FILES: usize = 200;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum DeployedError {
    /// What `SENTINEL_CONFIG` names in a bucket is no file there.
    #[error("SENTINEL_CONFIG is {0}, and is to be a path or s3://bucket/key")]
    NoKey(String),
    /// There is no such file.
    #[error(
        "SENTINEL_CONFIG is s3://{bucket}/{key}, and there is no such file: `sentinel aws config push` puts it there"
    )]
    Absent {
        /// The bucket.
        bucket: String,
        /// The file.
        key: String,
    },
    /// More is beside it than is read.
    #[error("the configuration refers to {0} files beside it; at most {MOST_FILES} are read from a bucket")]
    TooMany(usize),
    /// The function's environment.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// The log's level.
    #[error("the log level is none: {0}")]
    Level(#[from] ParseLevelFilterError),
    /// The log.
    #[error(transparent)]
    Log(#[from] TelemetryError),
}

impl DeployedError {
    /// Whether the same call may work later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Bucket(error) if error.is_retryable())
    }
}

/// A configuration that was not taken.
#[derive(Debug)]
pub struct Refused<T> {
    /// Why, for people.
    pub why: String,
    /// What goes on.
    pub before: Arc<T>,
}

/// What a look at the configuration came to.
#[derive(Debug)]
pub enum Newer {
    /// It is the one that is used, or it is not time to look.
    Same,
    /// Another one.
    Changed(Source),
    /// Nobody can say.
    Unreadable(DeployedError),
}

/// Whether files beside the configuration are needed: prompts and `tools.lock`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beside {
    /// Prompts are rendered.
    Read,
    /// Only what stands in the file itself counts.
    Left,
}

/// A deployed function's configuration.
#[derive(Debug)]
pub struct Followed {
    source: Source,
    bucket: Option<InBucket>,
}

#[derive(Debug)]
struct InBucket {
    bucket: Bucket,
    name: String,
    key: String,
    beside: Beside,
    /// Where what is read is put.
    scratch: PathBuf,
    state: tokio::sync::Mutex<State>,
    looked: Mutex<Instant>,
    every: Duration,
}

/// What was read last, by its name in the bucket: the `ETag`, and the text; `None`: there was none.
type Files = BTreeMap<String, Option<(String, String)>>;

#[derive(Debug, Default)]
struct State {
    files: Files,
    written: u64,
}

impl Followed {
    /// Finds and reads the configuration. `folder` is where the zip is unpacked, `scratch` a folder that may be written to.
    ///
    /// # Errors
    /// [`DeployedError`].
    pub async fn start(
        env: &dyn Fn(&str) -> Option<String>,
        folder: &Path,
        scratch: &Path,
        beside: Beside,
    ) -> Result<Self, DeployedError> {
        let given = env("SENTINEL_CONFIG");
        let Some(address) = given.as_deref().and_then(|given| given.strip_prefix("s3://")) else {
            return Ok(Self { source: locate_deployed(given.as_deref(), folder)?, bucket: None });
        };
        let (name, key) = address
            .split_once('/')
            .filter(|(bucket, key)| {
                !bucket.is_empty() && key.split('/').all(|part| !matches!(part, "" | "." | ".."))
            })
            .ok_or_else(|| DeployedError::NoKey(format!("s3://{address}")))?;
        let bucket = InBucket {
            bucket: Bucket::of_function(name, env, folder, CallLimits::AWS)?,
            name: name.to_owned(),
            key: key.to_owned(),
            beside,
            scratch: scratch.to_owned(),
            state: tokio::sync::Mutex::default(),
            looked: Mutex::new(Instant::now()),
            every: FRESH,
        };
        let source = bucket.changed().await?;
        let source = source.ok_or_else(|| DeployedError::NoKey(format!("s3://{address}")))?;
        Ok(Self { source, bucket: Some(bucket) })
    }

    /// What was read at the start.
    pub const fn source(&self) -> &Source {
        &self.source
    }

    /// Asks for it after another time than a minute.
    #[must_use]
    pub fn looking_every(mut self, time: Duration) -> Self {
        if let Some(bucket) = &mut self.bucket {
            bucket.every = time;
        }
        self
    }

    /// Takes what there is of newer configurations: `current` becomes what `build` makes of one. What cannot be read, or
    /// what `build` refuses, is looked at again after a minute, and `current` stays.
    ///
    /// # Errors
    /// Why a configuration was not taken, for people.
    pub async fn follow<T, E: fmt::Display>(
        &self,
        current: &Mutex<Arc<T>>,
        build: impl AsyncFn(Source) -> Result<T, E>,
    ) -> Result<Arc<T>, Refused<T>> {
        let refused = |why: String| {
            tracing::error!(why, "the configuration was not taken; the one before is used on");
            Refused { why, before: Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner)) }
        };
        match self.newer().await {
            Newer::Same => Ok(Arc::clone(&current.lock().unwrap_or_else(PoisonError::into_inner))),
            Newer::Changed(source) => match build(source).await {
                Ok(whole) => {
                    let whole = Arc::new(whole);
                    *current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&whole);
                    tracing::info!("the configuration has changed; the new one is used");
                    Ok(whole)
                }
                Err(error) => {
                    if let Some(bucket) = &self.bucket {
                        bucket.state.lock().await.files.clear();
                    }
                    Err(refused(error.to_string()))
                }
            },
            Newer::Unreadable(error) => Err(refused(error.to_string())),
        }
    }

    /// Whether there is another configuration than was read last. Asks the bucket once a minute at most.
    pub async fn newer(&self) -> Newer {
        let Some(bucket) = &self.bucket else { return Newer::Same };
        {
            let mut looked = bucket.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.elapsed() < bucket.every {
                return Newer::Same;
            }
            *looked = Instant::now();
        }
        match bucket.changed().await {
            Ok(None) => Newer::Same,
            Ok(Some(source)) => Newer::Changed(source),
            Err(error) => Newer::Unreadable(error),
        }
    }
}

impl InBucket {
    /// What is in the bucket now; `None`: what was there before. What is found broken half-way is looked at again.
    async fn changed(&self) -> Result<Option<Source>, DeployedError> {
        let mut state = self.state.lock().await;
        let mut files = Files::new();
        let text = self.file(&self.key, &state.files, &mut files).await?;
        let text =
            text.ok_or_else(|| DeployedError::Absent { bucket: self.name.clone(), key: self.key.clone() })?;
        let dir = self.key.rsplit_once('/').map_or("", |(dir, _)| dir);
        let beside = if self.beside == Beside::Read { files_beside(&text) } else { Vec::new() };
        if beside.len() > MOST_FILES {
            return Err(DeployedError::TooMany(beside.len()));
        }
        let mut read = Vec::new();
        for key in beside.iter().filter_map(|name| key_of(dir, name)) {
            if let Some(text) = self.file(&key, &state.files, &mut files).await? {
                read.push((key, text));
            }
        }
        if files == state.files {
            return Ok(None);
        }
        state.written += 1;
        let folder = self.scratch.join(format!("sentinel-config-{}", state.written));
        for (key, text) in read.iter().map(|(key, text)| (key, text)).chain([(&self.key, &text)]) {
            let file = folder.join(key);
            fs::create_dir_all(file.parent().unwrap_or(&folder))?;
            fs::write(file, text)?;
        }
        // The one before may still be read by whoever compiles its prompts; the one before that by nobody.
        if let Some(old) = state.written.checked_sub(2) {
            let _ = fs::remove_dir_all(self.scratch.join(format!("sentinel-config-{old}")));
        }
        state.files = files;
        let shown = format!("s3://{}/{}", self.name, self.key);
        Ok(Some(Source { name: shown.into(), text, base_dir: Some(folder.join(dir)) }))
    }

    /// One file, of which `before` may be true still.
    async fn file(
        &self,
        key: &str,
        before: &Files,
        now: &mut Files,
    ) -> Result<Option<String>, DeployedError> {
        let known = before.get(key).and_then(Option::as_ref);
        let file = match self.bucket.get(key, known.map(|(etag, _)| etag.as_str())).await {
            Ok(Fetched::Unchanged) => known.cloned(),
            Ok(Fetched::Text { text, etag }) => Some((etag, text)),
            Ok(Fetched::Absent) => None,
            // Nobody has to have one, and whoever may not list the bucket is not told that there is none.
            Err(BucketError::Denied(_)) if key.rsplit('/').next() == Some(tools_lock::FILE) => None,
            Err(error) => return Err(error.into()),
        };
        let text = file.as_ref().map(|(_, text)| text.clone());
        now.insert(key.to_owned(), file);
        Ok(text)
    }
}

/// The key of a file that a configuration in this folder of a bucket refers to; `None`: there can be none.
fn key_of(dir: &str, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beside_a_configuration_is_looked_for_in_its_bucket_and_nowhere_else() {
        assert_eq!(key_of("team/infra", "../prompts/a.j2").as_deref(), Some("team/prompts/a.j2"));
        assert_eq!(key_of("", "./prompts/a.j2").as_deref(), Some("prompts/a.j2"));
        assert_eq!(key_of("team", "../../a.j2"), None);
        assert_eq!(key_of("team", "/etc/a.txt"), None);
    }
}
