//! Keys in the data folder: 32 bytes of chance as 64 hexadecimal digits, which only their owner can read.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sentinel_core::digest::{hex, unhex};

/// The bytes of a key.
pub(crate) type Key = [u8; 32];

/// A key that nobody can guess.
pub(crate) fn chance() -> io::Result<Key> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// The key in a file. `None`: there is no file.
pub(crate) fn read(file: &Path) -> io::Result<Option<Key>> {
    match fs::read_to_string(file) {
        Ok(text) => {
            let bad = || io::Error::new(ErrorKind::InvalidData, "it does not hold 64 hexadecimal digits");
            unhex(text.trim()).ok_or_else(bad).map(Some)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The key in a file, which is made where there is none.
pub(crate) fn read_or_make(file: &Path) -> io::Result<Key> {
    if let Some(key) = read(file)? {
        return Ok(key);
    }
    let key = chance()?;
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(format!("{}\n", hex(&key)).as_bytes())?;
    made.sync_all()?;
    Ok(key)
}
