//! The connections of a function's SDK clients: one pool and one set of trusted certificates for all of them.
//!
//! The SDK's own default reads and checks the certificates once for each client, and once more at the first call.

use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::deployment::StartError;

/// The variable of all AWS tools for certificates other than the system's.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-gen-config.html>
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// Connects for every client, whatever the settings of one: they all have the same.
#[derive(Debug)]
struct Shared(SharedHttpConnector);

impl HttpClient for Shared {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        self.0.clone()
    }
}

/// Connections that are made within `limit`, to servers that `AWS_CA_BUNDLE` vouches for, or the system where it is not
/// set. A relative path is one below `folder`.
pub(crate) fn shared(
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
    limit: Duration,
) -> Result<SharedHttpClient, StartError> {
    Ok(SharedHttpClient::new(Shared(connector(env, folder, limit)?)))
}

/// The same, for requests that no client of the SDK makes.
pub(crate) fn connector(
    env: &dyn Fn(&str) -> Option<String>,
    folder: &Path,
    limit: Duration,
) -> Result<SharedHttpConnector, StartError> {
    let tls = match env(BUNDLE).filter(|path| !path.is_empty()) {
        Some(path) => trusting(&path, folder)?,
        None => TlsContext::default(),
    };
    let connector = Connector::builder()
        .connector_settings(HttpConnectorSettings::builder().connect_timeout(limit).build())
        .sleep_impl(TokioSleep::new())
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build();
    Ok(SharedHttpConnector::new(connector))
}

fn trusting(path: &str, folder: &Path) -> Result<TlsContext, StartError> {
    let unusable = |reason: String| StartError::Bundle { variable: BUNDLE, path: path.to_owned(), reason };
    let pem = std::fs::read(folder.join(path)).map_err(|e| unusable(format!("cannot be read: {e}")))?;
    // The connector would panic at what is none.
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable("holds no certificate".to_owned())),
        Ok(_) => TlsContext::builder()
            .with_trust_store(TrustStore::empty().with_pem_certificate(pem))
            .build()
            .map_err(|e| unusable(e.to_string())),
        Err(e) => Err(unusable(format!("is no PEM: {e}"))),
    }
}
