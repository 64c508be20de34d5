//! What the workspace's end-to-end tests share: the real `sentinel` program, its data folder, its webhook and its API.
//!
//! Everything here panics where a library would return an error: a part that cannot do its work has failed the test.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test part that cannot do its work fails the test"
)]

pub mod aws;
mod service;
pub mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sentinel_testkit::PATIENCE;
use sentinel_testkit::process::command;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

pub use service::{Sentinel, client};

/// The top folder of the workspace.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the package stands in the workspace").to_owned()
}

/// A program of this build, such as `sentinel` or `sentinel-worker`, beside the folder of the test programs.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test program has a path");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps/<test>");
    let program = profile.join(name);
    assert!(program.is_file(), "{} is not there: cargo build --workspace", program.display());
    program
}

/// Looks until `look` gives something; panics after [`PATIENCE`] with `what` and what was seen last.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    eventually_within(PATIENCE, what, look).await
}

/// The same with another limit, for what is slow by design.
pub async fn eventually_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let until = Instant::now() + limit;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(Instant::now() < until, "waited {limit:?} for {what}; seen last: {seen}"),
        }
        // Not to synchronise: only so that looking again does not take the processor from what is waited for.
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// What a command wrote.
#[derive(Debug)]
pub struct Ended {
    /// All that it wrote to standard output.
    pub stdout: String,
    /// All that it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("stdout is not JSON: {e}\n{self:#?}"))
    }
}

/// A folder of its own for one test: the current folder of the commands that it starts, with their configuration and
/// their data folder. Its commands have no environment but what the test gives.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    variables: Vec<(String, String)>,
}

impl Home {
    /// A folder without a configuration: commands use the built-in one.
    pub fn empty() -> Self {
        Self { dir: TempDir::new().expect("a temporary folder"), variables: Vec::new() }
    }

    /// A folder with this `config.yaml`.
    pub fn with(config: &str) -> Self {
        let home = Self::empty();
        home.write("config.yaml", config);
        home
    }

    /// The same, with this variable in the environment of its commands.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What its commands have in their environment.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The data folder: `.sentinel` in it, which is the default.
    pub fn data(&self) -> PathBuf {
        self.path().join(".sentinel")
    }

    /// Writes a file into the folder.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file in a temporary folder");
    }

    /// A `sentinel` command that is not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = command(program("sentinel"));
        command.args(args).current_dir(self.path()).env_clear();
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a `sentinel` command to its end, which has to be with this exit code.
    pub fn run(&self, args: &[&str], code: i32) -> Ended {
        let output = self.command(args).stdin(Stdio::null()).output().expect("a program that starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let status = output.status;
        assert!(
            status.code() == Some(code),
            "{args:?} ended with {status}\nstdout:\n{stdout}\nstderr:\n{stderr}"
        );
        Ended { stdout, stderr }
    }

    /// Starts `sentinel up` on a free port and waits until it listens.
    pub async fn up(&self) -> Sentinel {
        Sentinel::start(self.command(&["up", "--json", "--listen", "127.0.0.1:0"])).await
    }

    /// The files of the data folder that hold `text`, byte by byte.
    pub fn data_files_with(&self, text: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.data()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("the data folder").flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let bytes = fs::read(&path).expect("a file of the data folder");
                    if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                        found.push(path);
                    }
                }
            }
        }
        found
    }
}

/// The `p`-th percentile of `times`, which are sorted for it.
pub fn percentile(times: &mut [Duration], p: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * p).div_ceil(100).max(1) - 1]
}
