//! The processes of a world: each webhook, batch, sweep, abort and start of the service is one, which reaches the outside
//! through the faults of its case only.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use bytes::Bytes;
use http::Request;
use sentinel_core::UnixMs;
use sentinel_core::drive::{Start, drive};
use sentinel_core::lifecycle::Abort;
use sentinel_core::ports::{FreshId, JobQueue, Ports, Sink};
use sentinel_core::redact::Redactor;
use sentinel_ingest::{Authenticator, Credentials, Ingest};
use sentinel_investigation::ports::{Model, ToolBox};
use sentinel_sweeper::When;
use sentinel_testkit::faults::Process;
use sentinel_worker::{Mind, Worker};
use tokio::time::sleep;

use super::{Ended, House, World};
use crate::base::{BASE, rules};
use crate::mutant::{WrongStore, ok_on_conflict};
use crate::parts::{Analyst, Destination, Message, Queue, Tools};
use crate::sender::Webhook;

/// How long the platform lets a worker run: `WorkerTimeout` of the template.
const INVOCATION: Duration = Duration::from_mins(15);
/// How long Alertmanager, or the gateway before the function, waits for an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(29);

impl World {
    /// A process, and the ports as it reaches them.
    fn process(&mut self, name: &'static str) -> (Process, Ports) {
        let process = Process::new(name, &self.setting.faults);
        self.processes += 1;
        let ahead = (self.setting.skew)(name, self.processes);
        let store = Arc::clone(&self.reached);
        let store = match self.setting.house {
            House::LosesEntries => WrongStore::losing_entries(store),
            House::ChangesTurns => WrongStore::changing_turns(store),
            House::Whole | House::Lean | House::OkOnConflict => store,
        };
        let queue: Arc<dyn JobQueue> = Arc::<Queue>::clone(&self.queue);
        let ports = Ports {
            store: process.through(&store),
            queue: process.through(&queue),
            clock: Arc::new(self.clock.ahead(ahead)),
            fresh: fresh_ids(&self.fresh),
            signing_key: None,
        };
        self.alive.push(process.clone());
        (process, ports)
    }

    pub(super) fn post(&mut self, webhook: Webhook, tries: u32) {
        let (process, ports) = self.process("ingest");
        let wrong = self.setting.house == House::OkOnConflict;
        let ports = if wrong { ok_on_conflict(ports) } else { ports };
        let door = Authenticator::new(Credentials::default()).or_loopback();
        let ingest = Ingest::new(ports, Arc::clone(&BASE.cards), door, Redactor::default());
        let request = Request::post("/webhook/alertmanager")
            .body(Bytes::from(webhook.body(self.setting.house)))
            .unwrap();
        let answer = supervised(process, async move { ingest.handle(request).await });
        let answer = async move {
            tokio::select! {
                biased;
                answer = answer => answer.map(|a| (a.status().as_u16(), a.into_body())),
                // The sender has gone; the function goes on.
                () = sleep(ANSWERS_WITHIN) => None,
            }
        };
        self.running.push(Box::pin(async move { Ended::Posted { webhook, tries, answer: answer.await } }));
    }

    /// The worker as one invocation has it.
    fn worker(&self, process: &Process, ports: Ports) -> Worker {
        let model: Arc<dyn Model> = Arc::<Analyst>::clone(&self.analyst);
        let tools: Arc<dyn ToolBox> = Arc::<Tools>::clone(&self.tools);
        let sinks = self.sinks.iter().map(|sink| {
            let port: Arc<dyn Sink> = Arc::<Destination>::clone(sink);
            (sink.name.to_owned(), process.through(&port) as Arc<dyn Sink>)
        });
        Worker {
            ports,
            mind: Mind::Model(process.through(&model)),
            tools: process.through(&tools),
            sinks: Arc::new(sinks.collect()),
            ..BASE.worker.clone()
        }
    }

    pub(super) fn work(&mut self, messages: Vec<Message>) {
        let (process, ports) = self.process("worker");
        let deadline = ports.clock.now().plus(INVOCATION);
        let worker = Arc::new(self.worker(&process, ports));
        let mut event = SqsEvent::default();
        event.records = messages
            .iter()
            .map(|message| {
                let mut record = SqsMessage::default();
                record.message_id = Some(message.id.to_string());
                record.body = Some(message.body.clone());
                record
            })
            .collect();
        let batch = supervised(process, async move {
            sentinel_worker::lambda::batch(&worker, event, 4, deadline, None).await
        });
        self.running.push(Box::pin(async move {
            let failures = batch.await.map(|answer| {
                answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
            });
            Ended::Batch { messages, failures }
        }));
    }

    pub(super) fn sweep(&mut self) {
        let (process, ports) = self.process("sweeper");
        let swept = supervised(process, async move {
            // What it could not do is due again in a minute.
            let all = When::until(UnixMs::new(i64::MAX));
            let _ = sentinel_sweeper::sweep(&ports, rules, all).await;
        });
        self.other(swept);
    }

    pub(super) fn abort(&mut self) {
        for head in self.store.heads() {
            let (process, ports) = self.process("abort");
            let aborted = supervised(process, async move {
                let input = Abort { who: "a person".to_owned() };
                let rules = rules(&head.card);
                drive(&ports, &head.id, &input, &rules, Start::Load, None).await.is_ok()
            });
            self.other(aborted);
        }
    }

    pub(super) fn delete(&mut self) {
        for head in self.store.heads() {
            // Whoever was interrupted, or told of an error, asks once more.
            for _ in 0..3 {
                let (process, ports) = self.process("delete");
                let id = head.id.clone();
                let deleted = supervised(process, async move {
                    sentinel_core::delete::delete(&ports, &id, "a person".to_owned()).await.is_ok()
                });
                self.other(deleted);
            }
        }
    }

    /// What was running is gone, and the queue with it; then the service starts, until it has started.
    pub(super) fn restart(&mut self) {
        self.alive.drain(..).for_each(|process| process.kill());
        self.restarts += 1;
        self.queue.forget();
        let (process, ports) = self.process("restart");
        let restarted =
            supervised(process, async move { sentinel_sweeper::restart(&ports, rules).await.is_ok() });
        self.other(restarted);
    }

    fn other<T: Send + 'static>(&self, process: impl Future<Output = Option<T>> + Send + 'static) {
        self.running.push(Box::pin(async move {
            process.await;
            Ended::Other
        }));
    }
}

fn fresh_ids(counter: &Arc<AtomicU64>) -> FreshId {
    let counter = Arc::clone(counter);
    Arc::new(move || format!("id-{}", counter.fetch_add(1, Ordering::SeqCst)))
}

/// Runs a handler until it ends or crashes (`None`).
async fn supervised<T: Send + 'static>(
    process: Process,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut task = tokio::spawn(work);
    tokio::select! {
        biased;
        ended = &mut task => match ended {
            Ok(ended) => Some(ended),
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Err(_) => None,
        },
        () = process.crashed() => {
            task.abort();
            None
        }
    }
}
