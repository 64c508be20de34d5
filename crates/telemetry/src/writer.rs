//! Where lines pass on their way out.

use std::fmt;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use crate::Redact;

/// Makes writers that redact each event's line whole and hand it on in one write.
#[derive(Clone)]
pub struct RedactingWriter<M> {
    inner: M,
    redact: Redact,
}

impl<M> RedactingWriter<M> {
    /// Redacts what `inner`'s writers get.
    pub fn new(inner: M, redact: Redact) -> Self {
        Self { inner, redact }
    }
}

impl<M> fmt::Debug for RedactingWriter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedactingWriter").finish_non_exhaustive()
    }
}

impl<'w, M: MakeWriter<'w>> MakeWriter<'w> for RedactingWriter<M> {
    type Writer = Redacting<'w, M::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        Redacting { inner: self.inner.make_writer(), redact: &self.redact, held: Vec::new() }
    }
}

/// The writer of one event. What is written is held until the event ends, because a secret may lie across two writes.
pub struct Redacting<'w, W: Write> {
    inner: W,
    redact: &'w Redact,
    held: Vec<u8>,
}

impl<W: Write> fmt::Debug for Redacting<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redacting").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl<W: Write> Write for Redacting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let text = String::from_utf8_lossy(&held);
            self.inner.write_all((self.redact)(&text).as_bytes())?;
        }
        self.inner.flush()
    }
}

impl<W: Write> Drop for Redacting<'_, W> {
    fn drop(&mut self) {
        // Nothing is left to tell that the log cannot be written.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_secret_across_two_writes_is_found_and_the_line_goes_out_once() {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let out = kept.clone();
        let redact: Redact = Arc::new(|line| Cow::Owned(line.replace("swordfish", "***")));
        let make = RedactingWriter::new(move || out.clone(), redact);
        let mut writer = make.make_writer();
        writer.write_all(b"key sword").unwrap();
        assert!(kept.0.lock().unwrap().is_empty(), "nothing leaves before the event ends");
        writer.write_all(b"fish \xff\n").unwrap();
        drop(writer);
        assert_eq!(*kept.0.lock().unwrap(), ["key *** \u{fffd}\n".as_bytes().to_vec()]);
    }
}
