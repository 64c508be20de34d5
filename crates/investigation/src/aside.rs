//! Work that may take longer than a millisecond, off the runtime's own threads.

use std::num::NonZero;
use std::sync::LazyLock;
use std::thread::available_parallelism;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::Semaphore;

/// How much of it is done at once: one processor is left to whoever waits for an answer.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(available_parallelism().map_or(1, NonZero::get).saturating_sub(1).max(1))
});

/// Does the work when it is its turn. Whatever else the runtime has to do goes on meanwhile on another thread; a runtime
/// of one thread has none, serves nobody but the work, and waits for no turn.
pub async fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => {
            // It is never closed.
            let _turn = TURNS.acquire().await;
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_runtime_of_one_worker_goes_on_while_work_is_done_aside() {
        let (send, receive) = mpsc::channel();
        // It ends only because the runtime runs another task meanwhile.
        let work = tokio::spawn(aside(move || receive.recv()));
        let other = tokio::spawn(async move { send.send(7) });
        other.await.unwrap().unwrap();
        assert_eq!(work.await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_does_the_work_itself() {
        assert_eq!(aside(|| 7).await, 7);
    }
}
