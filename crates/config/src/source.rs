//! Where a configuration comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The largest file that is read whole, in bytes: a configuration, a prompt, a `tools.lock`, an event, a recorded run.
const LARGEST_FILE: u64 = 64 << 20;

/// The bytes of a file.
///
/// # Errors
/// It cannot be read, or is larger than a file of ours ever is.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One more than it may have, whatever the file says of its size.
    File::open(path)?.take(LARGEST_FILE.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {LARGEST_FILE} bytes"),
        ));
    }
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// As [`read_file`], or it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// A configuration's text, and what it takes to resolve and report it.
#[derive(Clone)]
pub struct Source {
    /// The file's name as shown in diagnostics.
    pub name: PathBuf,
    /// The YAML text.
    pub text: String,
    /// Prompt files are relative to this folder. `None`: they are those compiled into the program.
    pub base_dir: Option<PathBuf>,
}

/// Without the text, which may hold secrets written out.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("base_dir", &self.base_dir)
            .finish_non_exhaustive()
    }
}

impl Source {
    /// Reads a file; a relative path is one below `cwd`, and is shown as it is given.
    ///
    /// # Errors
    /// When it cannot be read or is not UTF-8; the error names the file.
    pub fn read(path: &Path, cwd: &Path) -> io::Result<Self> {
        let file = cwd.join(path);
        let text = read_text(&file).map_err(|e| {
            io::Error::new(e.kind(), format!("cannot read the configuration {}: {e}", path.display()))
        })?;
        Ok(Self { name: path.to_path_buf(), text, base_dir: file.parent().map(Path::to_path_buf) })
    }
}

/// Finds the configuration: `--config`, else `SENTINEL_CONFIG`, else `config.yaml` in the current folder, else the
/// built-in one. An empty `SENTINEL_CONFIG` counts as unset.
///
/// # Errors
/// When the file that is named, or the `config.yaml` that is there, cannot be read. There is no falling back from one
/// that is named: that would run with a configuration nobody asked for.
pub fn locate(explicit: Option<&Path>, env_value: Option<&str>, cwd: &Path) -> io::Result<Source> {
    if let Some(path) = explicit {
        return Source::read(path, cwd);
    }
    if let Some(path) = env_value.filter(|v| !v.is_empty()) {
        return Source::read(Path::new(path), cwd);
    }
    match Source::read(Path::new("config.yaml"), cwd) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(built_in()),
        found => found,
    }
}

/// Finds the configuration of a deployed function: `SENTINEL_CONFIG`, else the `infra/aws.yaml` that travels in its
/// zip. A relative path is one below `folder`, where the zip is unpacked.
///
/// # Errors
/// When it cannot be read. The built-in configuration is never used instead: nobody chose it.
pub fn locate_deployed(env_value: Option<&str>, folder: &Path) -> io::Result<Source> {
    Source::read(Path::new(env_value.filter(|v| !v.is_empty()).unwrap_or("infra/aws.yaml")), folder)
}

macro_rules! prompts {
    ($($file:literal),* $(,)?) => {
        /// The prompts that the built-in configuration refers to, by the path that it uses.
        const PROMPTS: &[(&str, &str)] =
            &[$((concat!("../prompts/", $file), include_str!(concat!("../../../prompts/", $file)))),*];
    };
}

prompts![
    "any-alert.md.j2",
    "ceph-osd-down.md.j2",
    "certificate-expiry.md.j2",
    "cpu-throttling-high.md.j2",
    "etcd.md.j2",
    "kube-job-failed.md.j2",
    "kube-node-not-ready.md.j2",
    "kube-persistent-volume-filling-up.md.j2",
    "kube-pod-crash-looping.md.j2",
    "kube-pod-not-ready.md.j2",
    "node-filesystem-almost-out-of-space.md.j2",
    "target-down.md.j2",
    "watchdog.md.j2",
];

/// The configuration that is compiled in: `infra/sentinel.yaml` with its prompts.
pub fn built_in() -> Source {
    Source {
        name: PathBuf::from("built-in/sentinel.yaml"),
        text: include_str!("../../../infra/sentinel.yaml").to_owned(),
        base_dir: None,
    }
}

/// The text of a compiled-in prompt.
pub(crate) fn built_in_prompt(path: &str) -> Option<&'static str> {
    PROMPTS.iter().find(|(name, _)| *name == path).map(|(_, text)| *text)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_not_read() {
        let refused = read_text(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
        assert!(refused.to_string().contains("larger than 67108864 bytes"), "{refused}");
    }
}
