//! The queue port on SQS: one request where one job is to be sent, batches where many are.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use sentinel_core::incident::Job;
use sentinel_core::ports::{JobQueue, QueueError};
use tokio::sync::oneshot;

use crate::error::Fault;

/// The longest that SQS holds a message back. What is left of a longer delay the worker sees when the message comes:
/// it sends the job again.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
const LONGEST_DELAY: Duration = Duration::from_mins(15);
/// The most messages of one request.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html>
const BATCH: usize = 10;
/// The most requests at once. Beyond the first, one begins only where it is full.
const AT_ONCE: usize = 4;

/// Jobs as messages of one SQS queue.
///
/// A job that comes while nothing is under way is sent at once, alone. Those that come while requests are under way
/// gather, and go together as soon as there are ten or a request has ended: a storm costs a tenth of the requests, and a
/// single alert does not wait for company.
#[derive(Clone)]
pub struct SqsQueue {
    sender: Arc<Sender>,
}

struct Sender {
    client: Client,
    url: String,
    state: Mutex<Gathered>,
}

#[derive(Default)]
struct Gathered {
    waiting: VecDeque<Waiting>,
    under_way: usize,
}

/// A message, and who waits for what becomes of it.
struct Waiting {
    body: String,
    delay_seconds: i32,
    done: oneshot::Sender<Result<(), QueueError>>,
}

impl SqsQueue {
    /// The queue at `url`.
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { sender: Arc::new(Sender { client, url: url.into(), state: Mutex::default() }) }
    }
}

impl SqsQueue {
    /// Lets a message that was received be seen again after `delay`, not when its visibility ends.
    ///
    /// # Errors
    /// As [`JobQueue::send`].
    pub async fn see_again(&self, receipt: &str, delay: Duration) -> Result<(), QueueError> {
        let Sender { client, url, .. } = &*self.sender;
        let changed = client.change_message_visibility().queue_url(url).receipt_handle(receipt);
        let changed = changed.visibility_timeout(whole_seconds(delay)).send().await;
        changed.map(drop).map_err(|error| match Fault::of(&error) {
            Fault::Passing(reason) => {
                QueueError::Unavailable(format!("changing a message's visibility in queue {url}: {reason}"))
            }
            Fault::Lasting(reason) => QueueError::Refused {
                action: format!("changing a message's visibility in queue {url}"),
                reason,
            },
        })
    }
}

impl fmt::Debug for SqsQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqsQueue").field("url", &self.sender.url).finish_non_exhaustive()
    }
}

#[async_trait]
impl JobQueue for SqsQueue {
    async fn send(&self, job: &Job, delay: Duration) -> Result<(), QueueError> {
        let body = serde_json::to_string(job).map_err(|e| self.sender.refused(e.to_string()))?;
        let (done, ended) = oneshot::channel();
        let waiting = Waiting { body, delay_seconds: whole_seconds(delay), done };
        if let Some(batch) = self.sender.put(waiting) {
            // A task of its own: whoever stops waiting must not stop the others' messages.
            tokio::spawn(send_all(Turn { sender: Arc::clone(&self.sender), given_back: false }, batch));
        }
        ended.await.unwrap_or_else(|_| Err(self.sender.unavailable("the request was given up".to_owned())))
    }
}

/// Rounded up: a message that comes early would only be sent again.
fn whole_seconds(delay: Duration) -> i32 {
    let delay = delay.min(LONGEST_DELAY);
    let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

impl Sender {
    fn state(&self) -> std::sync::MutexGuard<'_, Gathered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a message; gives those to send now, where a request may begin.
    fn put(&self, waiting: Waiting) -> Option<Vec<Waiting>> {
        let mut state = self.state();
        state.waiting.push_back(waiting);
        let full = state.waiting.len() >= BATCH && state.under_way < AT_ONCE;
        if state.under_way > 0 && !full {
            return None;
        }
        state.under_way += 1;
        Some(state.take())
    }

    async fn send(&self, batch: Vec<Waiting>) {
        match <[Waiting; 1]>::try_from(batch) {
            Ok([alone]) => self.send_one(alone).await,
            Err(batch) => self.send_batch(batch).await,
        }
    }

    async fn send_one(&self, message: Waiting) {
        let Waiting { body, delay_seconds, done } = message;
        let sent = self.client.send_message().queue_url(&self.url).message_body(body);
        let sent = sent.delay_seconds(delay_seconds).send().await;
        let _ = done.send(sent.map(|_| ()).map_err(|e| self.error(&e)));
    }

    async fn send_batch(&self, batch: Vec<Waiting>) {
        let mut entries = Vec::with_capacity(batch.len());
        let mut waiting = Vec::with_capacity(batch.len());
        for (n, Waiting { body, delay_seconds, done }) in batch.into_iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body);
            match entry.delay_seconds(delay_seconds).build() {
                Ok(entry) => {
                    entries.push(entry);
                    waiting.push((n.to_string(), done));
                }
                Err(e) => _ = done.send(Err(self.refused(e.to_string()))),
            }
        }
        let sent = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries)).send();
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(error) => {
                for (_, done) in waiting {
                    let _ = done.send(Err(self.error(&error)));
                }
                return;
            }
        };
        for (id, done) in waiting {
            let result = if answer.successful().iter().any(|s| s.id() == id) {
                Ok(())
            } else {
                match answer.failed().iter().find(|f| f.id() == id) {
                    Some(failed) => {
                        let reason =
                            format!("{}: {}", failed.code(), failed.message().unwrap_or("no message"));
                        Err(if failed.sender_fault() {
                            self.refused(reason)
                        } else {
                            self.unavailable(reason)
                        })
                    }
                    None => Err(self.unavailable("its answer does not name the message".to_owned())),
                }
            };
            let _ = done.send(result);
        }
    }

    fn action(&self) -> String {
        format!("sending to queue {}", self.url)
    }

    fn refused(&self, reason: String) -> QueueError {
        QueueError::Refused { action: self.action(), reason }
    }

    fn unavailable(&self, reason: impl fmt::Display) -> QueueError {
        QueueError::Unavailable(format!("{}: {reason}", self.action()))
    }

    fn error<E>(&self, error: &SdkError<E, HttpResponse>) -> QueueError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match Fault::of(error) {
            Fault::Passing(reason) => self.unavailable(reason),
            Fault::Lasting(reason) => self.refused(reason),
        }
    }
}

impl Gathered {
    fn take(&mut self) -> Vec<Waiting> {
        let n = self.waiting.len().min(BATCH);
        self.waiting.drain(..n).collect()
    }
}

/// The right to have a request under way. Given back when dropped, by a panic too: otherwise nobody would send again.
struct Turn {
    sender: Arc<Sender>,
    given_back: bool,
}

impl Turn {
    /// What has gathered meanwhile, or nothing, and then the turn is over. While others are under way only a full batch
    /// is worth a request: the last to end takes what is left.
    fn next(&mut self) -> Vec<Waiting> {
        let mut state = self.sender.state();
        let worth = state.waiting.len() >= BATCH || (state.under_way == 1 && !state.waiting.is_empty());
        if worth {
            return state.take();
        }
        // Under the same lock as the look: a message put after it finds that nobody is under way.
        state.under_way -= 1;
        self.given_back = true;
        Vec::new()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.given_back {
            self.sender.state().under_way -= 1;
        }
    }
}

/// Sends a batch, and then whatever has gathered.
async fn send_all(mut turn: Turn, mut batch: Vec<Waiting>) {
    while !batch.is_empty() {
        turn.sender.send(batch).await;
        // Those who have just been told may have more to send.
        tokio::task::yield_now().await;
        batch = turn.next();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_whole_seconds_rounded_up_and_at_most_fifteen_minutes() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_mins(1)), 60);
        assert_eq!(whole_seconds(Duration::from_hours(5)), 900);
        assert_eq!(whole_seconds(Duration::MAX), 900);
    }
}
