//! Requests that are signed with the process's own credentials of AWS (Signature Version 4), in place of a key.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::{DATE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Request;
use sentinel_core::UnixMs;
use sentinel_core::ports::Clock;

use crate::failure::Failure;

/// How long before their end credentials are fetched again.
const BEFORE_THE_END: Duration = Duration::from_mins(1);
/// How long credentials are used that do not say when they end: a file of them may be written anew.
const WITHOUT_AN_END: Duration = Duration::from_mins(1);
/// By how much a signature's time may differ from AWS's, in both directions.
const MOST_SKEW: Duration = Duration::from_mins(5);

/// What signs requests for one service in one region.
#[derive(Clone)]
pub struct Signer {
    credentials: SharedCredentialsProvider,
    region: String,
    service: String,
    clock: Arc<dyn Clock>,
    held: Arc<Mutex<Option<(Credentials, UnixMs)>>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, service, .. } = self;
        f.debug_struct("Signer").field("region", region).field("service", service).finish_non_exhaustive()
    }
}

impl Signer {
    /// Signs for `service` (its signing name, such as `bedrock`) in `region`, with whatever credentials there are then.
    pub fn new(
        credentials: SharedCredentialsProvider,
        region: String,
        service: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { credentials, region, service, clock, held: Arc::default() }
    }

    /// Signs a request: its address, its headers and its body.
    pub(crate) async fn sign(&self, request: &mut Request) -> Result<(), Failure> {
        let credentials = self.credentials().await?;
        let now = self.clock.now();
        let unsigned = |reason: String| Failure::Unsigned { reason, passing: false };
        let headers = self.signed_headers(request, credentials, now).map_err(unsigned)?;
        request.headers_mut().extend(headers);
        Ok(())
    }

    fn signed_headers(
        &self,
        request: &Request,
        credentials: Credentials,
        now: UnixMs,
    ) -> Result<HeaderMap, String> {
        let url = request.url();
        // reqwest adds it when it sends, after this.
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => host.unwrap_or_default().to_owned(),
        };
        let written = request.headers().iter().filter(|(name, _)| *name != HOST);
        let written = written.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let headers = std::iter::once((HOST.as_str(), host.as_str())).chain(written);
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let signable =
            SignableRequest::new(request.method().as_str(), url.as_str(), headers, SignableBody::Bytes(body))
                .map_err(|e| e.to_string())?;
        let identity = credentials.into();
        let millis = u64::try_from(now.get()).unwrap_or_default();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(&self.service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
            .settings(SigningSettings::default())
            .build()
            .map_err(|e| e.to_string())?
            .into();
        let (instructions, _) = sign(signable, &params).map_err(|e| e.to_string())?.into_parts();
        let (headers, _) = instructions.into_parts();
        let headers = headers.into_iter().map(|header| {
            let mut value = HeaderValue::try_from(header.value()).map_err(|e| e.to_string())?;
            value.set_sensitive(header.sensitive());
            Ok((HeaderName::from_static(header.name()), value))
        });
        headers.collect()
    }

    /// The credentials, fetched again shortly before they end.
    async fn credentials(&self) -> Result<Credentials, Failure> {
        let now = self.clock.now();
        if let Some((credentials, until)) = self.held()
            && now < until
        {
            return Ok(credentials);
        }
        let fetched = self.credentials.provide_credentials().await.map_err(|error| Failure::Unsigned {
            reason: format!("there are no credentials of AWS: {}", why(&error)),
            passing: matches!(
                error,
                CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_)
            ),
        })?;
        let until = match fetched.expiry().and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            Some(end) => {
                UnixMs::new(i64::try_from(end.as_millis()).unwrap_or(i64::MAX)).minus(BEFORE_THE_END)
            }
            None => now.plus(WITHOUT_AN_END),
        };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((fetched.clone(), until));
        Ok(fetched)
    }

    fn held(&self) -> Option<(Credentials, UnixMs)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What of the credentials must not stand in an error: AWS repeats what it was sent where a signature is wrong.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let held = self.held().map(|(credentials, _)| credentials);
        let parts = held.iter().flat_map(|held| {
            [Some(held.access_key_id()), Some(held.secret_access_key()), held.session_token()]
        });
        parts.flatten().filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    /// What a refusal of AWS comes to, and what to do about it; `None`: it is about something else.
    pub(crate) fn advice(&self, code: Option<&str>, message: &str, headers: &HeaderMap) -> Option<String> {
        let kind = headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let said = format!("{} {kind} {message}", code.unwrap_or_default()).to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
        if says(&["expiredtoken", "token included in the request is expired", "token has expired"]) {
            // The next call looks for others.
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return Some(
                "The credentials of AWS have expired: sign in again (`aws sso login`), or give the process others; they \
                 are read again with the next call"
                    .to_owned(),
            );
        }
        let mismatch =
            ["signaturedoesnotmatch", "invalidsignature", "signature we calculated does not match"];
        let skewed =
            ["signature expired", "signature not yet current", "requesttimetooskewed", "requestexpired"];
        let theirs = headers.get(DATE).and_then(|date| date.to_str().ok());
        let at = theirs
            .and_then(|date| jiff::fmt::rfc2822::parse(date).ok().map(|date| UnixMs::from(date.timestamp())));
        let ours = self.clock.now();
        let is_off = at.is_some_and(|at| at.since(ours) > MOST_SKEW || ours.since(at) > MOST_SKEW);
        if says(&skewed) || says(&mismatch) && is_off {
            let theirs = at.map(|at| format!(", the service's {at}")).unwrap_or_default();
            return Some(format!(
                "This machine's clock is wrong: it says {ours}{theirs}, and a signature counts for five minutes around \
                 its time. Set the clock"
            ));
        }
        if says(&mismatch) {
            let Self { region, service, .. } = self;
            return Some(format!(
                "It was signed for {service} in {region}: is the service's `auth` right, and the secret key?"
            ));
        }
        says(&["not authorized to perform", "accessdenied"]).then(|| {
            "The process's role needs `bedrock:InvokeModel` on the model and on its inference profile (the template's \
             parameter BedrockModelArns), or `bedrock-mantle:CreateInference`"
                .to_owned()
        })
    }
}

/// The innermost reason: the outer ones say only that there is one.
fn why(error: &CredentialsError) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
