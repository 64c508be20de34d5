//! Messages of Amazon SNS: who signed them, what is in them, and the confirmation of a subscription.
//!
//! A message names the certificate that its signature is checked with. It is fetched only where the message names a topic of
//! the configuration (`ingest.sns`) and is not old, only from SNS itself, and kept for a day.
//! <https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html>

pub(crate) mod addresses;
mod fetch;
mod message;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RsaParameters,
    UnparsedPublicKey,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sentinel_core::UnixMs;
use sentinel_http::{HttpError, Url};
use thiserror::Error;
use webpki::EndEntityCert;

pub use fetch::Fetch;
pub(crate) use message::{Kind, Message};

/// How far a message's time may be from ours. SNS tries again for longer than this only where a topic says so.
const OLDEST: Duration = Duration::from_hours(1);
/// How long a certificate is used before it is fetched again.
const KEPT: Duration = Duration::from_hours(24);
/// The most certificates that are kept. A region has one or two at a time.
const MOST_KEPT: usize = 16;

/// Why a message is refused, or cannot be judged now.
#[derive(Debug, Error)]
pub(crate) enum MessageError {
    /// An old message may be a captured one.
    #[error("its time is more than an hour away")]
    Old,
    /// No time to be seen.
    #[error("its `Timestamp` is no RFC 3339 time")]
    NoTime,
    /// A version that is not known.
    #[error("its `SignatureVersion` is neither 1 nor 2")]
    Version,
    /// The certificate is not where SNS has its own.
    #[error(
        "its `SigningCertURL` is not of the form https://sns.REGION.amazonaws.com/SimpleNotificationService-….pem"
    )]
    CertificateUrl,
    /// What was fetched is no certificate.
    #[error("what its `SigningCertURL` gives is no certificate")]
    Certificate,
    /// The signature is not that of the certificate's key over this message.
    #[error("its `Signature` is not right")]
    Signature,
    /// A confirmation that would be asked of somebody else than SNS.
    #[error("its `SubscribeURL` is not that of Amazon SNS for this topic")]
    SubscribeUrl,
    /// SNS is out of reach.
    #[error("Amazon SNS could not be asked: {0}")]
    Unreachable(#[from] HttpError),
    /// SNS answered with this status.
    #[error("Amazon SNS answered {0}")]
    Status(u16),
}

impl MessageError {
    /// Whether the same message may be taken later.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(error) => error.is_retryable(),
            Self::Status(status) => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// A certificate's key, and since when it is kept.
type Kept = (Arc<[u8]>, UnixMs);

/// Amazon SNS, as messages and their certificates come from it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sns {
    fetch: Arc<dyn Fetch>,
    keys: Arc<Mutex<BTreeMap<String, Kept>>>,
    /// Whose turn it is to fetch: a flood of messages is not one of requests.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Sns {
    pub(crate) fn new(fetch: Arc<dyn Fetch>) -> Self {
        Self { fetch, keys: Arc::default(), turn: Arc::default() }
    }

    /// Whether SNS signed this message within the last hour.
    ///
    /// # Errors
    /// It did not, or nobody can say now.
    pub(crate) async fn verify(&self, message: &Message, now: UnixMs) -> Result<(), MessageError> {
        let at = UnixMs::parse_rfc3339(&message.timestamp).map_err(|_| MessageError::NoTime)?;
        if now.since(at).max(at.since(now)) > OLDEST {
            return Err(MessageError::Old);
        }
        let algorithm: &RsaParameters = match message.signature_version.as_str() {
            "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            "2" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(MessageError::Version),
        };
        let url = addresses::certificate(&message.signing_cert_url).ok_or(MessageError::CertificateUrl)?;
        let signature = BASE64_STANDARD.decode(&message.signature).map_err(|_| MessageError::Signature)?;
        let key = self.key(&url, now).await?;
        let signed = message.signed();
        UnparsedPublicKey::new(algorithm, &*key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| MessageError::Signature)
    }

    /// Confirms the subscription that a verified message asks for.
    ///
    /// # Errors
    /// The message names somebody else than SNS, or SNS does not take it.
    pub(crate) async fn confirm(&self, message: &Message) -> Result<(), MessageError> {
        let url = message.subscribe_url.as_deref();
        let url = url.and_then(|url| addresses::subscription(url, &message.topic));
        match self.fetch.get(&url.ok_or(MessageError::SubscribeUrl)?).await?.0 {
            200 => Ok(()),
            status => Err(MessageError::Status(status)),
        }
    }

    /// The key of the certificate at `url`, as its `SubjectPublicKeyInfo`.
    async fn key(&self, url: &Url, now: UnixMs) -> Result<Arc<[u8]>, MessageError> {
        if let Some(key) = self.kept(url, now) {
            return Ok(key);
        }
        let _turn = self.turn.lock().await;
        // Whoever had the turn before may have fetched the same.
        if let Some(key) = self.kept(url, now) {
            return Ok(key);
        }
        let (status, pem) = self.fetch.get(url).await?;
        if status != 200 {
            return Err(MessageError::Status(status));
        }
        let key: Arc<[u8]> = public_key(&pem).ok_or(MessageError::Certificate)?.into();
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= MOST_KEPT {
            let oldest = keys.iter().min_by_key(|(_, (_, since))| *since).map(|(url, _)| url.clone());
            oldest.and_then(|url| keys.remove(&url));
        }
        keys.insert(url.as_str().to_owned(), (Arc::clone(&key), now));
        Ok(key)
    }

    fn kept(&self, url: &Url, now: UnixMs) -> Option<Arc<[u8]>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(url.as_str()).filter(|(_, since)| now.since(*since) < KEPT).map(|(key, _)| Arc::clone(key))
    }
}

/// The key of an X.509 certificate in PEM.
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    Some(certificate.subject_public_key_info().as_ref().to_vec())
}
