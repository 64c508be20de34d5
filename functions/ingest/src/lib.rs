//! HTTP request to intake to response: what the ingest function does, whoever carries the request.
//!
//! [`Ingest::admit`] looks at the head of a request, [`Ingest::take`] at the body of a webhook: credentials that stand in
//! headers are checked before anybody works on a body. The local server and the Lambda call the same two functions;
//! nothing here knows which of them it is.
//!
//! | request | answer |
//! |---|---|
//! | `POST /webhook/alertmanager` | 200 with the receipt once everything is stored and queued; 400, 401, 403, 413, 415 with what is wrong; 503 with `Retry-After` when the store, the queue or the secret store fails |
//! | `GET /healthz` | 200, always: it says that the process answers, not that the store does |
//! | another method there | 405 with `Allow` |
//! | anything else | 404 |
//!
//! A slash behind a path changes nothing.
//!
//! Alertmanager retries within a flush only after a 5xx or a transport error; after any 4xx, 429 included, it waits
//! for the next group interval (`notify/webhook/webhook.go`, `notify/retry_stage.go`). So everything that is not the
//! request's own fault is a 503, a missing table or permission too: an alert must not be lost to our mistake.

mod answer;
#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod auth;
mod door;
pub mod lambda;
mod refusals;
mod signature;
mod sns;
mod unmatched;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use sentinel_alertmanager::{EnvelopeError, MAX_BODY_BYTES};
use sentinel_core::card::Card;
use sentinel_core::drive::DriveError;
use sentinel_core::intake::{Receipt, intake};
use sentinel_core::ports::Ports;
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_telemetry::{Metric, Metrics};
use sns::{MessageError, Sns};

pub use auth::{Authenticator, Credentials, NOBODY, Unauthorized};
pub use door::{Door, DoorError, Rotating};
pub use refusals::{Refusal, Refusals};
pub use sns::Fetch;

/// Where webhooks are posted to.
pub const WEBHOOK_PATH: &str = "/webhook/alertmanager";
/// Where liveness is asked for.
pub const HEALTH_PATH: &str = "/healthz";
/// Lines that one webhook may add to the log about alerts that no card takes, and as many about refused ones.
const MAX_LOGGED: usize = 10;

/// Answers webhooks.
#[derive(Clone, Debug)]
pub struct Ingest {
    ports: Ports,
    cards: Arc<[Card]>,
    door: Door,
    redactor: Redactor,
    metrics: Metrics,
    refusals: Refusals,
    sns: Sns,
}

/// What the head of a request comes to.
#[derive(Debug)]
pub enum Admission {
    /// The answer; the body says nothing more.
    Answered(Response<Bytes>),
    /// A webhook: its body is to be read and given to [`Ingest::take`].
    Webhook(Admitted),
}

/// A webhook whose head was let in.
#[derive(Debug)]
pub enum Admitted {
    /// Its head showed a credential: the body is no stranger's.
    Known {
        /// The credential's name.
        name: String,
        /// Who may come in.
        auth: Authenticator,
    },
    /// Nobody needs credentials.
    Anonymous(Authenticator),
    /// Its head showed none, but its body may be signed by a key of these.
    Unsigned(Authenticator),
}

/// A webhook whose sender may come in.
struct Opened<'b> {
    /// The credential that it showed.
    verified_by: String,
    /// What its alerts stand in.
    payload: Cow<'b, [u8]>,
}

/// Somebody who is turned away, or has nothing more to be done for.
struct Closed {
    response: Response<Bytes>,
    /// What was wrong, for the log.
    note: Option<String>,
}

impl From<Response<Bytes>> for Closed {
    fn from(response: Response<Bytes>) -> Self {
        Self { response, note: None }
    }
}

impl Ingest {
    /// Takes webhooks for these cards, from those whom `door` lets in, and keeps of them what `redactor` leaves.
    pub fn new(ports: Ports, cards: Arc<[Card]>, door: impl Into<Door>, redactor: Redactor) -> Self {
        let (metrics, refusals) = (Metrics::off(), Refusals::default());
        let sns = Sns::new(Arc::new(HttpClient::new(AddressPolicy::default())));
        Self { ports, cards, door: door.into(), redactor, metrics, refusals, sns }
    }

    /// Asks Amazon SNS by `fetch` for certificates and confirmations, not by an HTTP client that reaches public addresses.
    #[must_use]
    pub fn with_fetch(self, fetch: Arc<dyn Fetch>) -> Self {
        Self { sns: Sns::new(fetch), ..self }
    }

    /// Counts whom it turns away where another one did before.
    #[must_use]
    pub fn with_refusals(self, refusals: Refusals) -> Self {
        Self { refusals, ..self }
    }

    /// Counts what it does in `metrics`.
    #[must_use]
    pub fn with_metrics(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Answers one request, whatever it is: [`Ingest::admit`], then [`Ingest::take`].
    pub async fn handle(&self, request: Request<Bytes>) -> Response<Bytes> {
        let (parts, body) = request.into_parts();
        match self.admit(&parts).await {
            Admission::Answered(response) => response,
            Admission::Webhook(admitted) => self.take(admitted, &parts.headers, &body).await,
        }
    }

    /// What can be said of a request before its body is read: who may not post is turned away here, unless the body
    /// itself may be signed.
    pub async fn admit(&self, request: &Parts) -> Admission {
        let path = request.uri.path();
        let response = match path.strip_suffix('/').unwrap_or(path) {
            WEBHOOK_PATH if request.method == Method::POST => match self.let_in(&request.headers).await {
                Ok(admitted) => return Admission::Webhook(admitted),
                Err(turned_away) => turned_away,
            },
            WEBHOOK_PATH => answer::method_not_allowed("POST"),
            HEALTH_PATH if request.method == Method::GET || request.method == Method::HEAD => {
                answer::healthy()
            }
            HEALTH_PATH => answer::method_not_allowed("GET, HEAD"),
            _ => answer::not_found(),
        };
        let is_of_a_path = Refusal::of(response.status()).is_some_and(Refusal::is_of_a_path);
        Admission::Answered(self.counted(response, is_of_a_path.then_some(path)))
    }

    /// Answers a webhook whose head was let in.
    ///
    /// A body of more than [`MAX_BODY_BYTES`] is answered with 413; the carrier may cut it after that many bytes and
    /// one, as long as it reads the rest, because a sender that is still writing would not see the answer.
    pub async fn take(&self, admitted: Admitted, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
        match self.opened(admitted, headers, body).await {
            Ok(Opened { verified_by, payload }) => {
                self.counted(self.webhook(verified_by, headers, &payload).await, None)
            }
            Err(Closed { response, note }) => self.counted(response, note.as_deref()),
        }
    }

    /// Whoever is turned away, and why, for the log and the metrics.
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// A changed configuration was not taken.
    pub fn configuration_refused(&self) {
        self.metrics.emit(self.ports.clock.now().get(), &[Metric::ConfigurationRefused]);
    }

    /// The answer to whoever waits longer than the carrier can.
    pub(crate) fn put_off(&self) -> Response<Bytes> {
        tracing::error!("webhook put off: what it waits for did not answer before the invocation's deadline");
        self.counted(answer::try_again(), None)
    }

    fn counted(&self, response: Response<Bytes>, note: Option<&str>) -> Response<Bytes> {
        let now = self.ports.clock.now();
        let status = response.status();
        if status.is_client_error() {
            let refused = Metric::RefusedWebhook { status: status.as_u16() };
            self.metrics.emit(now.get(), &[Metric::Refused(1), refused]);
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            self.metrics.emit(now.get(), &[Metric::WebhookPutOff]);
        }
        if let Some(why) = Refusal::of(response.status()) {
            self.refusals.count_with(why, note, now);
        }
        response
    }

    /// Whether the sender may come in by the head of the request alone, or may still show a signature; else the answer.
    async fn let_in(&self, headers: &HeaderMap) -> Result<Admitted, Response<Bytes>> {
        let door = self.door.now().await;
        if self.door.take_stale() > 0 {
            self.metrics.emit(self.ports.clock.now().get(), &[Metric::SecretsStale]);
        }
        let auth = match door {
            Ok(auth) => auth,
            Err(error) => {
                tracing::error!(%error, "nobody can say who may post webhooks");
                return Err(answer::secrets_out_of_reach());
            }
        };
        // A web page can post to a loopback address; browsers say so, and Alertmanager is none.
        if auth.is_open() && headers.contains_key(ORIGIN) {
            return Err(answer::no_web_pages());
        }
        match auth.check(headers) {
            Ok(_) if auth.is_open() => Ok(Admitted::Anonymous(auth)),
            Ok(name) => Ok(Admitted::Known { name, auth }),
            Err(_) if auth.takes_signatures() => Ok(Admitted::Unsigned(auth)),
            Err(refused) => Err(refused.response()),
        }
    }

    /// Looks at the body for what the head did not show: a signature of it, or a message of Amazon SNS, whose payload is
    /// taken out.
    async fn opened<'b>(
        &self,
        admitted: Admitted,
        headers: &HeaderMap,
        body: &'b [u8],
    ) -> Result<Opened<'b>, Closed> {
        let message = sns::Message::read(body);
        let (auth, by_head) = match admitted {
            Admitted::Known { name, auth } => (auth, Some(name)),
            Admitted::Anonymous(auth) => (auth, Some(NOBODY.to_owned())),
            Admitted::Unsigned(auth) => (auth, None),
        };
        if let Some(message) = message {
            return self.of_topic(&auth, by_head, message).await;
        }
        let signed = || auth.check_signed(headers, body, self.ports.clock.now());
        let verified_by = by_head.map_or_else(signed, Ok).map_err(|refused| refused.response())?;
        Ok(Opened { verified_by, payload: body.into() })
    }

    /// Opens a message of Amazon SNS. The signature of a listed topic is a credential, and has to be right whatever else was
    /// shown; a message of another topic comes in by what its head showed.
    async fn of_topic(
        &self,
        auth: &Authenticator,
        by_head: Option<String>,
        message: sns::Message,
    ) -> Result<Opened<'static>, Closed> {
        let listed = auth.topic(&message.topic);
        let verified_by = match listed {
            Some(name) => {
                let verified = self.sns.verify(&message, self.ports.clock.now()).await;
                verified.map_err(|error| refuse_message(&error))?;
                name.to_owned()
            }
            None => by_head.ok_or_else(|| auth.refusal().response())?,
        };
        match message.kind {
            sns::Kind::Notification => Ok(Opened { verified_by, payload: message.text.into_bytes().into() }),
            sns::Kind::SubscriptionConfirmation if listed.is_none() => {
                let note = "a subscription of a topic that `ingest.sns` does not list was not confirmed";
                Err(Closed { response: answer::not_listed(), note: Some(note.to_owned()) })
            }
            sns::Kind::SubscriptionConfirmation => {
                self.sns.confirm(&message).await.map_err(|error| refuse_message(&error))?;
                tracing::info!(
                    topic = message.topic,
                    "the subscription to a topic of Amazon SNS is confirmed"
                );
                Err(answer::noted().into())
            }
            sns::Kind::UnsubscribeConfirmation => {
                tracing::warn!(
                    topic = message.topic,
                    "the subscription to a topic of Amazon SNS has ended: no alerts come from it any more"
                );
                Err(answer::noted().into())
            }
        }
    }

    async fn webhook(&self, verified_by: String, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
        if let Err(unsupported) = readable(headers) {
            tracing::warn!(reason = unsupported.reason(), "webhook of an unsupported media type");
            return unsupported.response();
        }
        let mut message = match sentinel_alertmanager::parse(body, self.ports.clock.now()) {
            Ok(message) => message,
            Err(error) => return refuse(&error, body.len()),
        };
        message.envelope.verified_by = Some(verified_by);
        let redactor = self.door.redactor(&self.redactor);
        match intake(&self.ports, &self.cards, &redactor, &message).await {
            Ok(receipt) => {
                unmatched::log(&message.alerts, &receipt.unmatched_at, &redactor);
                log_receipt(&receipt);
                self.metrics.emit(self.ports.clock.now().get(), &counted(&receipt));
                answer::receipt(receipt)
            }
            Err(error) => {
                log_failure(&error);
                answer::try_again()
            }
        }
    }
}

/// What a header says about the body that makes it no JSON text.
#[derive(Clone, Copy, Debug)]
enum Unsupported {
    Encoding,
    Type,
}

impl Unsupported {
    const fn reason(self) -> &'static str {
        match self {
            Self::Encoding => "content-encoding",
            Self::Type => "content-type",
        }
    }

    fn response(self) -> Response<Bytes> {
        match self {
            Self::Encoding => answer::unsupported_encoding(),
            Self::Type => answer::unsupported_type(),
        }
    }
}

/// Refuses what is compressed and what is a form. Everything else is tried as JSON: senders that are templated or
/// written by hand name all sorts of types, or none.
fn readable(headers: &HeaderMap) -> Result<(), Unsupported> {
    let encoded = headers.get_all(CONTENT_ENCODING).iter().any(|value| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && !value.eq_ignore_ascii_case(b"identity")
    });
    if encoded {
        return Err(Unsupported::Encoding);
    }
    let form = headers.get_all(CONTENT_TYPE).iter().any(|value| {
        let value = value.as_bytes().trim_ascii().to_ascii_lowercase();
        value.starts_with(b"multipart/") || value.starts_with(b"application/x-www-form-urlencoded")
    });
    if form { Err(Unsupported::Type) } else { Ok(()) }
}

/// The answer to a message of Amazon SNS that is not in order, or cannot be judged now.
fn refuse_message(error: &MessageError) -> Closed {
    if error.is_retryable() {
        tracing::warn!(%error, "a message of Amazon SNS is put off");
        return answer::sns_out_of_reach().into();
    }
    let note = format!("a message of Amazon SNS: {error}");
    Closed { response: answer::refused_message(&note), note: Some(note) }
}

fn refuse(error: &EnvelopeError, bytes: usize) -> Response<Bytes> {
    // The reason may quote the body, and goes to the sender only.
    tracing::warn!(
        status = error.status(),
        bytes,
        limit = MAX_BODY_BYTES,
        path = answer::path(error),
        "webhook that cannot be read"
    );
    answer::unreadable(error)
}

fn log_receipt(receipt: &Receipt) {
    for refusal in receipt.refusals.iter().take(MAX_LOGGED) {
        tracing::warn!(path = refusal.path, "alert that cannot be read");
    }
    tracing::info!(
        accepted = receipt.accepted,
        duplicates = receipt.duplicates,
        joined = receipt.joined,
        resolved = receipt.resolved,
        suppressed = receipt.suppressed,
        unmatched = receipt.unmatched,
        refused = receipt.refused,
        incidents = receipt.incidents.len(),
        "webhook taken"
    );
}

fn counted(receipt: &Receipt) -> [Metric; 6] {
    let Receipt { accepted, duplicates, joined, resolved, suppressed, unmatched, refused, .. } = *receipt;
    let received = accepted + duplicates + joined + resolved + suppressed + unmatched + refused;
    [
        Metric::Webhooks,
        Metric::AlertsReceived(received),
        Metric::AlertsAccepted(accepted),
        Metric::Duplicates(duplicates),
        Metric::Unmatched(unmatched),
        Metric::Refused(refused),
    ]
}

/// An error that passes by itself is a warning; one that somebody has to mend (it names the table or queue) is not.
fn log_failure(error: &DriveError) {
    if error.is_retryable() {
        tracing::warn!(%error, "webhook put off");
    } else {
        tracing::error!(%error, "webhook put off until the store or the queue is mended");
    }
}
