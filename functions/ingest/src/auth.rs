//! Who may come in.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Response};
use secrecy::{ExposeSecret, SecretString};
use sentinel_config::{Hmac, Ingest};
use sentinel_core::UnixMs;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;

use crate::{answer, signature};

/// Base64 as clients write it: with or without padding (RFC 7617 says with).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the configuration's `ingest:` says. Any one of the credentials is enough; several of a kind are for rotating
/// them. An empty secret lets nobody in.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Nobody needs credentials, if none are configured.
    pub allow_anonymous: bool,
    /// `Authorization: Bearer …` (RFC 6750).
    pub bearer: Vec<SecretString>,
    /// `Authorization: Basic …` (RFC 7617): user, without a colon, and password.
    pub basic: Vec<(String, SecretString)>,
    /// A header's name, in any case, and its value.
    pub header: Vec<(String, SecretString)>,
    /// The body signed, as Grafana does.
    pub hmac: Vec<Hmac>,
    /// ARNs of topics of Amazon SNS, whose signature of a message is a credential.
    pub sns: Vec<String>,
}

impl From<&Ingest> for Credentials {
    fn from(ingest: &Ingest) -> Self {
        Self {
            allow_anonymous: ingest.allow_anonymous,
            bearer: ingest.bearer.clone(),
            basic: ingest.basic.clone(),
            header: ingest.header.clone(),
            hmac: ingest.hmac.clone(),
            sns: ingest.sns.clone(),
        }
    }
}

/// Decides whether a request may come in. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    known: Arc<Known>,
    anonymous: bool,
}

struct Known {
    bearer: Vec<Named<SecretString>>,
    /// `user:password`
    basic: Vec<Named<SecretString>>,
    header: Vec<Named<(String, SecretString)>>,
    hmac: Vec<Named<Hmac>>,
    /// ARNs.
    sns: Vec<Named<String>>,
    challenges: Vec<HeaderValue>,
    /// Something was asked for, even if it can never be shown: an empty secret closes the door, it does not open it.
    configured: bool,
}

/// A credential, and what it is called where a record says who posted an alert.
struct Named<T> {
    name: String,
    credential: T,
}

/// The name under which a record says that a sender showed no credential.
pub const NOBODY: &str = "none";

/// Names credentials by their places in the configuration, those that can be shown at all.
fn named<T>(
    all: Vec<T>,
    name: impl Fn(usize, &T) -> String,
    can_be_shown: impl Fn(&T) -> bool,
) -> Vec<Named<T>> {
    let named =
        all.into_iter().enumerate().map(|(n, credential)| Named { name: name(n, &credential), credential });
    named.filter(|named| can_be_shown(&named.credential)).collect()
}

impl Authenticator {
    /// Lets in whoever shows one of the credentials. Where none is configured, everybody if `allow_anonymous`, else
    /// nobody: configured credentials hold whatever `allow_anonymous` says.
    pub fn new(credentials: Credentials) -> Self {
        let Credentials { allow_anonymous, bearer, basic, header, hmac, sns } = credentials;
        let signed = !(hmac.is_empty() && sns.is_empty());
        let configured = signed || !(bearer.is_empty() && basic.is_empty() && header.is_empty());
        let mut challenges = Vec::new();
        if !basic.is_empty() {
            challenges.push(HeaderValue::from_static(r#"Basic realm="sentinel", charset="UTF-8""#));
        }
        if !bearer.is_empty() || challenges.is_empty() {
            challenges.insert(0, HeaderValue::from_static(r#"Bearer realm="sentinel""#));
        }
        let said = |secret: &SecretString| !secret.expose_secret().is_empty();
        let known = Known {
            bearer: named(bearer, |n, _| format!("bearer[{n}]"), said),
            basic: named(basic, |_, (user, _)| format!("basic:{user}"), |(_, password)| said(password))
                .into_iter()
                .map(|Named { name, credential: (user, password) }| Named {
                    name,
                    credential: format!("{user}:{}", password.expose_secret()).into(),
                })
                .collect(),
            header: named(
                header,
                |_, (header, _)| format!("header:{}", header.to_ascii_lowercase()),
                |(_, value)| said(value),
            ),
            hmac: named(hmac, |n, _| format!("hmac[{n}]"), |key| said(&key.secret)),
            sns: named(sns, |n, _| format!("sns[{n}]"), |topic| !topic.is_empty()),
            challenges,
            configured,
        };
        Self { known: Arc::new(known), anonymous: allow_anonymous && !configured }
    }

    /// The same for a listener on a loopback address: where nothing is configured, no credentials are needed.
    /// Where something is, it holds there too.
    #[must_use]
    pub fn or_loopback(self) -> Self {
        Self { anonymous: !self.known.configured, ..self }
    }

    /// Whether everybody may come in.
    pub const fn is_open(&self) -> bool {
        self.anonymous
    }

    /// Whether nobody ever may come in: nothing is configured, and that is not said to be meant.
    pub fn is_shut(&self) -> bool {
        !self.anonymous && !self.known.configured
    }

    /// Whether a body that is signed is a credential: then the head of a request does not decide alone.
    pub fn takes_signatures(&self) -> bool {
        !(self.known.hmac.is_empty() && self.known.sns.is_empty())
    }

    /// The name of the credential that a message signed by Amazon SNS for this topic is; `None`: the topic is not listed.
    pub(crate) fn topic(&self, arn: &str) -> Option<&str> {
        let listed = self.known.sns.iter().find(|topic| topic.credential == arn);
        listed.map(|topic| topic.name.as_str())
    }

    /// The refusal of whoever shows nothing.
    pub(crate) fn refusal(&self) -> Unauthorized {
        Unauthorized { known: Arc::clone(&self.known) }
    }

    /// Checks the headers of a request without a body: a signature cannot be shown. Every secret is compared, in
    /// constant time. Gives the name of the credential that was shown (`bearer[0]`, `basic:USER`, `header:NAME`), or
    /// [`NOBODY`] where none is needed.
    ///
    /// # Errors
    /// [`Unauthorized`], which knows the answer.
    pub fn check(&self, headers: &HeaderMap) -> Result<String, Unauthorized> {
        self.unless(&self.shown(headers))
    }

    /// Checks a request that came `now`: its headers, and the signature of its body. Gives the credential's name as
    /// [`Self::check`] does; a signature's is `hmac[0]`.
    ///
    /// # Errors
    /// [`Unauthorized`], which knows the answer.
    pub fn check_signed(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: UnixMs,
    ) -> Result<String, Unauthorized> {
        let mut shown = self.shown(headers);
        for key in &self.known.hmac {
            shown.compare(&key.name, signature::is_right(&key.credential, headers, body, now));
        }
        self.unless(&shown)
    }

    fn unless(&self, shown: &Shown<'_>) -> Result<String, Unauthorized> {
        match shown.0 {
            Some(name) => Ok(name.to_owned()),
            None if self.anonymous => Ok(NOBODY.to_owned()),
            None => Err(self.refusal()),
        }
    }

    fn shown(&self, headers: &HeaderMap) -> Shown<'_> {
        let mut shown = Shown(None);
        for value in headers.get_all(AUTHORIZATION) {
            if let Some(token) = after_scheme(value.as_bytes(), b"bearer") {
                shown.any(&self.known.bearer, token);
            } else if let Some(encoded) = after_scheme(value.as_bytes(), b"basic")
                && let Ok(pair) = BASE64.decode(encoded)
            {
                shown.any(&self.known.basic, &pair);
            }
        }
        for Named { name, credential: (header, secret) } in &self.known.header {
            for value in headers.get_all(header.as_str()) {
                shown.compare(name, secret.expose_secret().as_bytes().ct_eq(value.as_bytes()));
            }
        }
        shown
    }
}

/// The first credential that a request shows. Which one it is, the time may tell; how much of a secret is right, it does
/// not: all of them are compared, whole.
struct Shown<'k>(Option<&'k str>);

impl<'k> Shown<'k> {
    fn compare(&mut self, name: &'k str, right: Choice) {
        if right.into() && self.0.is_none() {
            self.0 = Some(name);
        }
    }

    /// The time says how many secrets there are and which lengths they have.
    fn any(&mut self, secrets: &'k [Named<SecretString>], shown: &[u8]) {
        for secret in secrets {
            self.compare(&secret.name, secret.credential.expose_secret().as_bytes().ct_eq(shown));
        }
    }
}

/// What stands behind an authentication scheme, whose name is case-insensitive (RFC 9110, section 11.1).
fn after_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (name, rest) = value.trim_ascii().split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?;
    name.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("anonymous", &self.anonymous)
            .field("bearer", &self.known.bearer.len())
            .field("basic", &self.known.basic.len())
            .field("header", &self.known.header.len())
            .field("hmac", &self.known.hmac.len())
            .field("sns", &self.known.sns.len())
            .finish()
    }
}

/// A request without valid credentials. Not worth a retry as it is.
#[derive(Clone, Error)]
#[error("valid credentials are needed")]
pub struct Unauthorized {
    known: Arc<Known>,
}

impl Unauthorized {
    /// The 401, with a `WWW-Authenticate` for each scheme that would be taken.
    pub fn response(&self) -> Response<Bytes> {
        answer::unauthorized(&self.known.challenges)
    }

    /// Never: the same headers are refused again.
    pub const fn is_retryable(&self) -> bool {
        false
    }
}

impl fmt::Debug for Unauthorized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unauthorized")
    }
}
