//! One server: its session, shared by all callers, and the memory that it is down.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sentinel_http::HttpClient;
use sentinel_investigation::ports::{ToolDefinition, ToolError, ToolOutput};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::ServerSpec;
use crate::session::{Fault, Session};

/// How long a server that could not be connected to is left alone. Everybody is told at once meanwhile, so that a
/// server that is down costs an investigation one time-out.
const DOWN_FOR: Duration = Duration::from_secs(30);
/// A time to connect shorter than this, and than half of the server's time-out, because the caller had no more, says
/// nothing about the server.
const FAIR_CHANCE: Duration = Duration::from_secs(5);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Open(Arc<Session>),
    Down {
        until: Instant,
        reason: String,
    },
}

/// One server.
pub(crate) struct Server {
    spec: ServerSpec,
    http: Arc<HttpClient>,
    /// Held while connecting, so that concurrent callers share one attempt.
    state: Mutex<State>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) fn new(spec: ServerSpec, http: Arc<HttpClient>) -> Self {
        Self { spec, http, state: Mutex::default() }
    }

    pub(crate) async fn list(&self, within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        let limit = within.min(self.spec.timeout);
        let deadline = Instant::now() + limit;
        let session = self.session(deadline, limit).await?;
        let listed = timeout_at(deadline, session.tools()).await;
        self.told(listed, &session, limit, "did not list its tools").await
    }

    pub(crate) async fn call(
        &self,
        tool: &str,
        arguments: &Map<String, Value>,
        within: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let limit = within.min(self.spec.timeout);
        let deadline = Instant::now() + limit;
        let session = self.session(deadline, limit).await?;
        let called = timeout_at(deadline, session.call(tool, arguments)).await;
        self.told(called, &session, limit, &format!("did not answer {tool}")).await
    }

    /// Ends the session, if there is one.
    pub(crate) async fn close(&self) {
        let state = std::mem::take(&mut *self.state.lock().await);
        if let State::Open(session) = state {
            session.end();
        }
    }

    /// The open session, or a new one. At most one attempt to connect is under way.
    async fn session(&self, deadline: Instant, limit: Duration) -> Result<Arc<Session>, ToolError> {
        let Ok(mut state) = timeout_at(deadline, self.state.lock()).await else {
            return Err(self.unreachable(&format!("no connection within {limit:?}")));
        };
        match &*state {
            State::Open(session) if !session.is_closed() => return Ok(Arc::clone(session)),
            State::Down { until, reason } if *until > Instant::now() => return Err(self.unreachable(reason)),
            _ => {}
        }
        let given = deadline.saturating_duration_since(Instant::now());
        let reason = match timeout_at(deadline, Box::pin(Session::open(&self.spec, &self.http))).await {
            Ok(Ok(session)) => {
                let session = Arc::new(session);
                *state = State::Open(Arc::clone(&session));
                return Ok(session);
            }
            Ok(Err(reason)) => reason,
            Err(_) if given < FAIR_CHANCE.min(self.spec.timeout / 2) => {
                return Err(self.unreachable(&format!("no connection within {limit:?}")));
            }
            Err(_) => format!("no connection within {limit:?}"),
        };
        tracing::warn!(server = self.spec.name, reason, "no session with the MCP server");
        let told = self.unreachable(&reason);
        *state = State::Down { until: Instant::now() + DOWN_FOR, reason };
        Err(told)
    }

    /// Makes of a request's end what the model is told, and forgets a session that may be unusable.
    async fn told<T, E>(
        &self,
        ended: Result<Result<T, Fault>, E>,
        session: &Arc<Session>,
        limit: Duration,
        did_not: &str,
    ) -> Result<T, ToolError> {
        let name = &self.spec.name;
        match ended {
            Ok(Ok(value)) => Ok(value),
            Err(_) => Err(ToolError::RespondToModel(format!(
                "the MCP server {name} {did_not} within {limit:?}; the request was cancelled"
            ))),
            Ok(Err(fault)) => {
                if fault.ends_session {
                    self.forget(session).await;
                }
                Err(ToolError::RespondToModel(format!("the MCP server {name} {did_not}: {}", fault.told)))
            }
        }
    }

    /// Lets the next caller connect anew, unless somebody did already.
    async fn forget(&self, session: &Arc<Session>) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Open(current) if Arc::ptr_eq(current, session)) {
            *state = State::Idle;
        }
    }

    fn unreachable(&self, reason: &str) -> ToolError {
        ToolError::RespondToModel(format!("the MCP server {} cannot be reached: {reason}", self.spec.name))
    }
}
