//! Any HTTP address: a JSON body, signed as [Standard Webhooks](https://www.standardwebhooks.com) says, so that its
//! libraries verify it.
//!
//! | header | what |
//! |---|---|
//! | `webhook-id`, `idempotency-key` | the same for every try of one delivery: whoever has seen it drops it |
//! | `webhook-timestamp` | seconds since the epoch, when this try was signed |
//! | `webhook-signature` | `v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}` |
//! | `sentinel-event` | what happened, as in the body |

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use sentinel_core::UnixMs;
use sentinel_core::alert::{Alert, AlertStatus, Labels};
use sentinel_core::incident::{Event, Gen, IncidentId, State};
use sentinel_core::ports::{self, Clock, Sink, SinkError, Telling};
use sentinel_core::report::{Report, Verdict};
use sentinel_core::storm::Listed;
use sentinel_core::view::View;
use sentinel_http::{HttpClient, Url};
use serde::Serialize;
use sha2::Sha256;
use thiserror::Error;

use crate::post::{hashed, post};

/// The version of the body. It grows when a field changes its meaning; new fields do not change it.
pub const VERSION: u32 = 1;
/// The most alerts that one body carries.
pub const MAX_ALERTS: usize = 100;
/// What a secret begins with that is base64 (Standard Webhooks, "Signing secret").
const ENCODED: &str = "whsec_";

/// Where and how to post.
#[derive(Debug)]
pub struct WebhookSettings {
    /// The address.
    pub url: Url,
    /// What the body is signed with; unsigned without.
    pub secret: Option<SecretString>,
}

/// The secret cannot be used as a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("what follows {ENCODED} in the secret is not base64")]
pub struct BadSecret;

/// Tells an HTTP address.
pub struct Webhook {
    url: Url,
    key: Option<Hmac<Sha256>>,
    http: Arc<HttpClient>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Webhook {
    /// Without the address, whose path often is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

/// The body of one event.
#[derive(Serialize, Debug)]
struct Body<'a> {
    version: u32,
    id: &'a str,
    event: Event,
    incident: Incident<'a>,
    /// At most [`MAX_ALERTS`].
    alerts: Vec<Told<'a>>,
    /// Alerts that are not in `alerts`, by the sender or for the body's size.
    alerts_left_out: u64,
    report: Option<&'a Report>,
    /// The incident as people see it, but for what `report` says; absent of a `storm`.
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<View>,
    /// What a `storm` lists; absent of every other event.
    #[serde(skip_serializing_if = "<[Listed]>::is_empty")]
    listed: &'a [Listed],
}

/// An alert in the names and formats of Alertmanager's webhooks, so that a receiver reads both with one parser
/// ([its `Alert`](https://prometheus.io/docs/alerting/latest/configuration/#webhook_config)).
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    status: AlertStatus,
    labels: &'a Labels,
    annotations: &'a Labels,
    /// RFC 3339.
    starts_at: Option<String>,
    /// RFC 3339.
    ends_at: Option<String>,
    #[serde(rename = "generatorURL")]
    generator_url: Option<&'a str>,
    fingerprint: Option<&'a str>,
}

impl<'a> From<&'a Alert> for Told<'a> {
    fn from(alert: &'a Alert) -> Self {
        Self {
            status: alert.status,
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: rfc3339(alert.starts_at),
            ends_at: rfc3339(alert.ends_at),
            generator_url: alert.generator_url.as_deref(),
            fingerprint: alert.fingerprint.as_deref(),
        }
    }
}

#[derive(Serialize, Debug)]
struct Incident<'a> {
    id: &'a IncidentId,
    generation: Gen,
    card: &'a str,
    labels: &'a Labels,
    state: State,
    verdict: Option<Verdict>,
    /// Why it failed, or was aborted.
    reason: Option<&'a str>,
    /// RFC 3339.
    began: Option<String>,
    /// RFC 3339; null while any of its alerts fires.
    resolved_at: Option<String>,
    /// What fires and is not what was investigated.
    again: Option<FiresAgain>,
}

#[derive(Serialize, Debug)]
struct FiresAgain {
    /// RFC 3339.
    since: String,
    /// It is not investigated again before; RFC 3339.
    not_before: String,
}

fn rfc3339(at: Option<UnixMs>) -> Option<String> {
    at.map(|at| at.to_string())
}

impl<'a> Body<'a> {
    fn of(telling: &'a Telling, id: &'a str) -> Self {
        let head = &telling.head;
        let all = telling.notification.as_ref().map_or(&[][..], |n| &n.alerts);
        let alerts = all.get(..MAX_ALERTS).unwrap_or(all);
        let by_sender = telling.notification.as_ref().map_or(0, |n| n.envelope.truncated_alerts);
        let cut = u64::try_from(all.len() - alerts.len()).unwrap_or(u64::MAX);
        Self {
            version: VERSION,
            id,
            event: telling.event,
            incident: Incident {
                id: &head.id,
                generation: head.generation,
                card: &head.card,
                labels: &head.labels,
                state: head.state,
                verdict: telling.report.as_ref().map(|r| r.verdict).or(head.verdict),
                reason: head.reason.as_deref(),
                began: rfc3339(head.began),
                resolved_at: rfc3339(telling.resolved()),
                again: head.again.map(|again| FiresAgain {
                    since: again.since.to_string(),
                    not_before: again.not_before.to_string(),
                }),
            },
            alerts: alerts.iter().map(Told::from).collect(),
            alerts_left_out: by_sender.saturating_add(cut),
            report: telling.report.as_ref(),
            view: (telling.event != Event::Storm).then(|| View { findings: None, ..telling.view() }),
            listed: &telling.listed,
        }
    }
}

impl Webhook {
    /// A sink that posts there.
    ///
    /// # Errors
    /// A secret that says it is base64, and is not.
    pub fn new(
        settings: WebhookSettings,
        http: Arc<HttpClient>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BadSecret> {
        let WebhookSettings { url, secret } = settings;
        let key = secret.as_ref().map(key).transpose()?;
        Ok(Self { url, key, http, clock })
    }

    fn headers(&self, id: &str, event: Event, body: &[u8]) -> Result<HeaderMap, SinkError> {
        // Hexadecimal, digits and base64 are good header values.
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| SinkError::Refused("a bad header".to_owned()))
        };
        let timestamp = self.clock.now().get().div_euclid(1000).to_string();
        let mut headers = HeaderMap::from_iter([
            (USER_AGENT, HeaderValue::from_static(concat!("sentinel/", env!("CARGO_PKG_VERSION")))),
            (HeaderName::from_static("webhook-id"), value(id)?),
            (HeaderName::from_static("idempotency-key"), value(id)?),
            (HeaderName::from_static("webhook-timestamp"), value(&timestamp)?),
            (HeaderName::from_static("sentinel-event"), value(&event.to_string())?),
        ]);
        if let Some(key) = &self.key {
            let mut mac = key.clone();
            for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
                mac.update(part);
            }
            let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
            headers.insert(HeaderName::from_static("webhook-signature"), value(&signature)?);
        }
        Ok(headers)
    }
}

fn key(secret: &SecretString) -> Result<Hmac<Sha256>, BadSecret> {
    let secret = secret.expose_secret();
    let bytes = match secret.strip_prefix(ENCODED) {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| BadSecret)?,
        None => secret.as_bytes().to_vec(),
    };
    // HMAC takes keys of any length.
    Hmac::new_from_slice(&bytes).map_err(|_| BadSecret)
}

#[async_trait]
impl Sink for Webhook {
    async fn tell(&self, telling: &Telling) -> Result<ports::Told, SinkError> {
        let id = format!("msg_{}", hashed(&telling.idempotency_key));
        let body = serde_json::to_vec(&Body::of(telling, &id))
            .map_err(|e| SinkError::Refused(format!("the body cannot be written: {e}")))?;
        let headers = self.headers(&id, telling.event, &body)?;
        post(&self.http, &self.url, headers, body).await?;
        Ok(ports::Told::default())
    }
}
