//! The end of `up`: a signal asks for it, and it comes within its bound, whatever hangs.
//!
//! Signals and the bound are watched by threads of their own: both threads of the runtime may be busy or blocked just
//! then, and a thread that waits for a full pipe holds whatever it holds.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio_util::sync::CancellationToken;

/// How long an orderly end may still take once there is nothing more to wait for.
const LAST_STEPS: Duration = Duration::from_secs(1);
/// How long saying it may take: standard error may be what hangs.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What a signal brings about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// An end was asked for: nothing new is begun, and what runs may end.
    pub(crate) asked: CancellationToken,
    /// It is over: what still runs is cut off.
    pub(crate) over: CancellationToken,
}

impl Ending {
    /// Watches for Ctrl-C and a polite kill from here on: the first asks for the end, a second one or the end of `bound`
    /// says that it is over, and a second later the process is gone, with exit code 1 and `last_words`.
    ///
    /// # Errors
    /// The system gives no thread, or takes no handler of signals.
    pub(crate) fn watch(&self, bound: Duration, last_words: impl Fn() + Send + 'static) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (said, heard) = channel();
        let ending = self.clone();
        thread::Builder::new()
            .name("ending".to_owned())
            .spawn(move || ending.end(&heard, bound, last_words))?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || tell(&mut signals, &said))?;
        Ok(())
    }

    fn end(&self, signals: &Receiver<()>, bound: Duration, last_words: impl Fn() + Send + 'static) {
        // Nobody can ask any more: the process is ending.
        if signals.recv().is_err() {
            return;
        }
        self.asked.cancel();
        let _: Result<(), RecvTimeoutError> = signals.recv_timeout(bound);
        self.over.cancel();
        thread::sleep(LAST_STEPS);
        let (spoken, done) = channel();
        let speaking = thread::Builder::new().spawn(move || {
            last_words();
            let _ = spoken.send(());
        });
        if speaking.is_ok() {
            let _ = done.recv_timeout(LAST_WORDS);
        }
        // Not `std::process::exit`, which waits for whoever holds standard output.
        signal_hook::low_level::exit(1);
    }
}

fn tell(signals: &mut Signals, said: &Sender<()>) {
    for _ in signals.forever() {
        if said.send(()).is_err() {
            return;
        }
    }
}
