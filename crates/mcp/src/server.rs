//! One server: its session, shared by all callers, and the memory that it is down.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sentinel_http::HttpClient;
use sentinel_investigation::ports::{ToolDefinition, ToolError, ToolOutput};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::ServerSpec;
use crate::fault::After;
use crate::oauth::Tokens;
use crate::session::{Closed, Fault, Session};
use crate::spec::{Credential, Reach};

/// How long a server that does not answer is left alone. Everybody is told at once meanwhile, so that a server that is
/// down costs an investigation one time-out.
const DOWN_FOR: Duration = Duration::from_secs(30);
/// The same of one that fails at once: long enough for all who ask at the same time, and over before the next
/// investigation.
const DOWN_BRIEFLY: Duration = Duration::from_secs(2);
/// Requests in a row that have to fail on open sessions. After it was left alone, one is enough.
const FAILURES: u32 = 3;
/// A time shorter than this, and than half of the server's time-out, because the caller had no more, says nothing about
/// the server.
const FAIR_CHANCE: Duration = Duration::from_secs(5);
/// How long after a handshake that failed another one is tried, once: a server that is replaced is back by then.
const ONCE_MORE_AFTER: Duration = Duration::from_millis(1500);
/// How long a session that nobody should use any more lives on, so that the server hears what was cancelled on it.
const LINGERING: Duration = Duration::from_secs(5);

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
    tokens: Option<Arc<Tokens>>,
    /// Held while connecting, so that concurrent callers share one attempt.
    state: Mutex<State>,
    /// Requests that failed since the last that did not.
    failures: AtomicU32,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("spec", &self.spec).finish_non_exhaustive()
    }
}

impl Server {
    pub(crate) fn new(spec: ServerSpec, http: Arc<HttpClient>) -> Self {
        let tokens = match &spec.reach {
            Reach::Http(endpoint) => match &endpoint.credential {
                Credential::OAuth(oauth) => {
                    Some(Arc::new(Tokens::new(oauth.clone(), &endpoint.url, Arc::clone(&http))))
                }
                Credential::None | Credential::Token(_) => None,
            },
            Reach::Program(_) => None,
        };
        Self { spec, http, tokens, state: Mutex::default(), failures: AtomicU32::new(0) }
    }

    pub(crate) async fn list(&self, within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        let limit = within.min(self.spec.timeout);
        let deadline = Instant::now() + limit;
        let mut session = self.session(deadline, limit).await?;
        let mut listed = timeout_at(deadline, session.tools()).await;
        // A list may be asked for as often as one likes.
        if matches!(&listed, Ok(Err(fault)) if fault.after != After::Whole) {
            session = self.renewed(&session, deadline, limit).await?;
            listed = timeout_at(deadline, session.tools()).await;
        }
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
        let mut session = self.session(deadline, limit).await?;
        let mut called = timeout_at(deadline, session.call(tool, arguments, None)).await;
        let is_made_again = match &called {
            Ok(Err(Fault { after: After::NeverRan, .. })) => true,
            Ok(Err(Fault { after: After::Broken, .. })) => session.only_reads(tool).await,
            _ => false,
        };
        if is_made_again {
            let expected = session.known(tool).await;
            session = self.renewed(&session, deadline, limit).await?;
            called = timeout_at(deadline, session.call(tool, arguments, expected.as_ref())).await;
        }
        let output = self.told(called, &session, limit, &format!("did not answer {tool}")).await?;
        Ok(ToolOutput { text: self.scrub(output.text).await, ..output })
    }

    /// Whether nobody asks it for a while. Nobody waits for who is connecting to it just now.
    pub(crate) fn is_left_alone(&self) -> bool {
        let state = self.state.try_lock();
        state.is_ok_and(|state| matches!(&*state, State::Down { until, .. } if *until > Instant::now()))
    }

    /// Ends the session, if there is one.
    pub(crate) async fn close(&self) {
        let state = std::mem::take(&mut *self.state.lock().await);
        if let State::Open(session) = state {
            session.end();
        }
    }

    /// Another session in the place of one that is over.
    async fn renewed(
        &self,
        expired: &Arc<Session>,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Arc<Session>, ToolError> {
        self.forget(expired).await;
        self.session(deadline, limit).await
    }

    /// The open session, or a new one. At most one attempt to connect is under way.
    async fn session(&self, deadline: Instant, limit: Duration) -> Result<Arc<Session>, ToolError> {
        let Ok(mut state) = timeout_at(deadline, self.state.lock()).await else {
            return Err(self.unreachable(&format!("no connection within {limit:?}")));
        };
        match &*state {
            State::Open(session) if !session.is_closed() => return Ok(Arc::clone(session)),
            State::Down { until, reason, .. } if *until > Instant::now() => {
                return Err(self.unreachable(reason));
            }
            _ => {}
        }
        let given = deadline.saturating_duration_since(Instant::now());
        let (reason, down_for) = match timeout_at(deadline, Box::pin(self.open())).await {
            Ok(Ok(session)) => {
                let session = Arc::new(session);
                *state = State::Open(Arc::clone(&session));
                return Ok(session);
            }
            Ok(Err(closed)) => (self.scrub(closed.told).await, DOWN_BRIEFLY),
            Err(_) if !self.is_fair(given) => {
                return Err(self.unreachable(&format!("no connection within {limit:?}")));
            }
            Err(_) => (format!("no connection within {limit:?}"), DOWN_FOR),
        };
        tracing::warn!(server = self.spec.name, reason, "no session with the MCP server");
        let told = self.unreachable(&reason);
        *state = State::Down { until: Instant::now() + down_for, reason };
        Err(told)
    }

    /// Opens a session. Where nobody listens, or the server fails, once more a little later: nothing was done yet.
    async fn open(&self) -> Result<Session, Closed> {
        let open = || Session::open(&self.spec.name, &self.spec.reach, &self.http, self.tokens.as_ref());
        match open().await {
            Err(Closed { is_away: true, told }) => {
                tracing::debug!(server = self.spec.name, reason = told, "the MCP server is asked once more");
                tokio::time::sleep(ONCE_MORE_AFTER).await;
                open().await
            }
            opened => opened,
        }
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
        let (told, has_failed) = match ended {
            Ok(Ok(value)) => {
                self.failures.store(0, Ordering::Relaxed);
                return Ok(value);
            }
            Err(_) => {
                // Its server may be another one by now, that never heard of it.
                self.forget(session).await;
                let told = format!("{did_not} within {limit:?}; the request was cancelled");
                (told, self.is_fair(limit).then_some(DOWN_FOR))
            }
            Ok(Err(fault)) => {
                let is_over = fault.after != After::Whole;
                if is_over {
                    self.forget(session).await;
                } else {
                    // It answers.
                    self.failures.store(0, Ordering::Relaxed);
                }
                (self.scrub(format!("{did_not}: {}", fault.told)).await, is_over.then_some(DOWN_BRIEFLY))
            }
        };
        if let Some(down_for) = has_failed
            && self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES
        {
            self.leave_alone(format!("its last requests failed; it {told}"), down_for).await;
        }
        Err(ToolError::RespondToModel(format!("the MCP server {name} {told}")))
    }

    /// Nobody asks it for a while. Then one failure is enough to begin again.
    async fn leave_alone(&self, reason: String, down_for: Duration) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Down { .. }) {
            return;
        }
        tracing::warn!(server = self.spec.name, reason, "the MCP server is left alone for a while");
        self.failures.store(FAILURES - 1, Ordering::Relaxed);
        if let State::Open(session) = std::mem::take(&mut *state) {
            linger(session);
        }
        *state = State::Down { until: Instant::now() + down_for, reason };
    }

    /// Whether so much time says something about the server when it is over.
    fn is_fair(&self, given: Duration) -> bool {
        given >= FAIR_CHANCE.min(self.spec.timeout / 2)
    }

    /// A server may say again what it was sent.
    async fn scrub(&self, text: String) -> String {
        match &self.tokens {
            Some(tokens) => tokens.scrub(text).await,
            None => text,
        }
    }

    /// Lets the next caller connect anew, unless somebody did already.
    async fn forget(&self, session: &Arc<Session>) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Open(current) if Arc::ptr_eq(current, session)) {
            *state = State::Idle;
            linger(Arc::clone(session));
        }
    }

    fn unreachable(&self, reason: &str) -> ToolError {
        ToolError::RespondToModel(format!("the MCP server {} cannot be reached: {reason}", self.spec.name))
    }
}

/// Lets a session end when those who still use it are done, and the server has heard the rest.
fn linger(session: Arc<Session>) {
    tokio::spawn(async move {
        tokio::time::sleep(LINGERING).await;
        drop(session);
    });
}
