//! How the last call to each model's service, each server and each destination went: what `/readyz` tells. Nobody is asked
//! for it; decorators of the ports leave word as the worker makes its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::card::{ModelId, ToolId};
use sentinel_core::ports::{Clock, Sink, SinkError, Telling, Told};
use sentinel_core::redact::Redactor;
use sentinel_investigation::ports::{
    Model, ModelError, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest, TurnResponse,
};
use serde_json::{Map, Value};

use crate::{Mind, Worker};

/// The longest error that is kept, in characters.
const MOST_CHARACTERS: usize = 300;
/// The most of them that are kept. Their names are the configuration's, so this is a bound against a mistake.
const MOST: usize = 1_000;

/// Who is called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Of {
    /// A service of models, by its name.
    Model(String),
    /// An MCP server that Sentinel calls, by its name.
    Server(String),
    /// A destination, by the name that cards use.
    Sink(String),
}

/// How the last call went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Last {
    /// When it ended.
    pub at: UnixMs,
    /// What went wrong, without secrets; `None`: nothing did.
    pub error: Option<String>,
}

/// The last results of a process. Cheap to clone; clones know the same.
#[derive(Clone, Default, Debug)]
pub struct Health(Arc<Mutex<BTreeMap<Of, Last>>>);

impl Health {
    /// Nothing panics while it holds the lock.
    fn all(&self) -> MutexGuard<'_, BTreeMap<Of, Last>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the last call went; `None`: there was none yet.
    pub fn last(&self, of: &Of) -> Option<Last> {
        self.all().get(of).cloned()
    }

    fn set(&self, of: &Of, last: Last) {
        let mut all = self.all();
        if all.contains_key(of) || all.len() < MOST {
            all.insert(of.clone(), last);
        }
    }

    /// A worker whose calls are watched.
    pub(crate) fn watch(&self, worker: Worker) -> Worker {
        let watch = Watch {
            health: self.clone(),
            clock: Arc::clone(&worker.ports.clock),
            redactor: Arc::clone(&worker.redactor),
        };
        let mind = match worker.mind {
            Mind::Model(model) => Mind::Model(Arc::new(WatchedModel { inner: model, watch: watch.clone() })),
            none @ Mind::None { .. } => none,
        };
        let sinks = worker.sinks.iter().map(|(name, sink)| {
            let of = Of::Sink(name.clone());
            let sink = WatchedSink { inner: Arc::clone(sink), of, watch: watch.clone() };
            (name.clone(), Arc::new(sink) as Arc<dyn Sink>)
        });
        let sinks = Arc::new(sinks.collect());
        let tools = Arc::new(WatchedTools { inner: worker.tools, watch });
        Worker { mind, tools, sinks, ..worker }
    }
}

/// What is needed to leave word.
#[derive(Clone, Debug)]
struct Watch {
    health: Health,
    clock: Arc<dyn Clock>,
    redactor: Arc<Redactor>,
}

impl Watch {
    /// Makes a call and leaves word how it went, also where it is cut off.
    async fn over<T, E: ToString>(&self, of: Of, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut asked = Asked { watch: self, of, is_over: false };
        let result = call.await;
        asked.is_over = true;
        self.leave_word(&asked.of, result.as_ref().err().map(ToString::to_string));
        result
    }

    fn leave_word(&self, of: &Of, error: Option<String>) {
        let short = |error: String| self.redactor.redact(&error).chars().take(MOST_CHARACTERS).collect();
        self.health.set(of, Last { at: self.clock.now(), error: error.map(short) });
    }
}

/// A call that is under way.
struct Asked<'w> {
    watch: &'w Watch,
    of: Of,
    is_over: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.watch.leave_word(&self.of, Some("it was cut off before it answered".to_owned()));
        }
    }
}

#[derive(Debug)]
struct WatchedModel {
    inner: Arc<dyn Model>,
    watch: Watch,
}

#[async_trait]
impl Model for WatchedModel {
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError> {
        let of = Of::Model(request.model.service.clone());
        self.watch.over(of, self.inner.respond(request, within)).await
    }

    fn hosts(&self, model: &ModelId, server: &str) -> Option<String> {
        self.inner.hosts(model, server)
    }

    fn is_recorded(&self) -> bool {
        self.inner.is_recorded()
    }

    fn left_alone(&self) -> Vec<(ModelId, bool)> {
        self.inner.left_alone()
    }
}

#[derive(Debug)]
struct WatchedTools {
    inner: Arc<dyn ToolBox>,
    watch: Watch,
}

#[async_trait]
impl ToolBox for WatchedTools {
    async fn list(&self, server: &str, within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        self.watch.over(Of::Server(server.to_owned()), self.inner.list(server, within)).await
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        within: Duration,
    ) -> Result<ToolOutput, ToolError> {
        self.watch.over(Of::Server(tool.server.clone()), self.inner.call(tool, arguments, within)).await
    }

    fn left_alone(&self) -> Vec<(String, bool)> {
        self.inner.left_alone()
    }
}

#[derive(Debug)]
struct WatchedSink {
    inner: Arc<dyn Sink>,
    of: Of,
    watch: Watch,
}

#[async_trait]
impl Sink for WatchedSink {
    async fn tell(&self, telling: &Telling) -> Result<Told, SinkError> {
        self.watch.over(self.of.clone(), self.inner.tell(telling)).await
    }

    async fn check(&self) -> Result<Option<String>, SinkError> {
        self.inner.check().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct At(i64);

    impl Clock for At {
        fn now(&self) -> UnixMs {
            UnixMs::new(self.0)
        }
    }

    fn watch() -> Watch {
        let redactor = Arc::new(Redactor::new(["swordfish".to_owned()]));
        Watch { health: Health::default(), clock: Arc::new(At(7)), redactor }
    }

    #[tokio::test]
    async fn the_last_result_stands_without_secrets_and_short() {
        let (watch, of) = (watch(), Of::Sink("log".to_owned()));
        assert_eq!(watch.health.last(&of), None, "never asked");
        let long = format!("the token swordfish is not taken {}", "x".repeat(5_000));
        let failed: Result<(), String> = watch.over(of.clone(), async { Err(long) }).await;
        assert!(failed.unwrap_err().contains("swordfish"), "the caller sees it as it came");
        let last = watch.health.last(&of).unwrap();
        let error = last.error.unwrap();
        assert_eq!((last.at, error.chars().count()), (UnixMs::new(7), MOST_CHARACTERS));
        assert!(error.starts_with("the token ") && !error.contains("swordfish"), "{error}");
        watch.over(of.clone(), async { Ok::<_, String>(()) }).await.unwrap();
        assert_eq!(watch.health.last(&of), Some(Last { at: UnixMs::new(7), error: None }));
    }

    #[tokio::test]
    async fn a_call_that_is_cut_off_leaves_word_too() {
        let (watch, of) = (watch(), Of::Server("k8s".to_owned()));
        let never = std::future::pending::<Result<(), String>>();
        let cut_off = tokio::time::timeout(Duration::ZERO, watch.over(of.clone(), never)).await;
        assert!(cut_off.is_err());
        let error = watch.health.last(&of).unwrap().error;
        assert_eq!(error.as_deref(), Some("it was cut off before it answered"));
    }
}
