//! Files in a bucket of S3, by one signed `GET` each: the connections of the other clients, and no SDK more.

use std::fmt::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_sdk_dynamodb::config::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use sentinel_core::ports::Clock as _;
use thiserror::Error;

use crate::deployment::{StartError, required};
use crate::{CallLimits, MachineClock, credentials_of_function, transport};

/// The largest file that is read.
const LARGEST: u64 = 4 * 1024 * 1024;
/// The most of an error's body that is looked at.
const LARGEST_ERROR: u64 = 64 * 1024;

/// One bucket, with what a function may reach it by.
#[derive(Clone)]
pub struct Bucket {
    name: String,
    region: String,
    endpoint: String,
    credentials: SharedCredentialsProvider,
    connector: SharedHttpConnector,
    limits: CallLimits,
}

/// What a file comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fetched {
    /// It is as it was.
    Unchanged,
    /// Its text, and what tells whether it has changed.
    Text {
        /// UTF-8.
        text: String,
        /// `ETag`.
        etag: String,
    },
    /// There is none of this name.
    Absent,
}

/// Why a file was not read.
#[derive(Clone, Debug, Error)]
pub enum BucketError {
    /// Out of reach, throttled or timed out: the same call may work later.
    #[error("S3 did not answer: {0}")]
    Unavailable(String),
    /// Nobody may read it, or it is not there: who may not list a bucket is not told which.
    #[error("S3 refused {0}: it is not there, or the function's role may not read it (s3:GetObject)")]
    Denied(String),
    /// It refuses: no such bucket, no text.
    #[error("S3 refused {action}: {reason}")]
    Refused {
        /// What was asked for.
        action: String,
        /// Its answer.
        reason: String,
    },
}

impl BucketError {
    /// Whether the same call may work later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Bucket {
    /// The bucket of this name, with the region and the credentials of a function's environment, as
    /// [`Aws::of_function`](crate::Aws::of_function) has them. `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL` are followed.
    ///
    /// # Errors
    /// As there.
    pub fn of_function(
        name: &str,
        env: &dyn Fn(&str) -> Option<String>,
        folder: &Path,
        limits: CallLimits,
    ) -> Result<Self, StartError> {
        let region = required(env, "AWS_REGION")?;
        let given = |name: &str| env(name).filter(|url| !url.is_empty());
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = given("AWS_ENDPOINT_URL_S3")
            .or_else(|| given("AWS_ENDPOINT_URL"))
            .unwrap_or_else(|| format!("https://s3.{region}.{domain}"));
        Ok(Self {
            name: name.to_owned(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            credentials: credentials_of_function(env)?,
            connector: transport::connector(env, folder, limits.attempt)?,
            region,
            limits,
        })
    }

    /// Reads a file, unless it is the one with this `ETag`.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn get(&self, key: &str, etag: Option<&str>) -> Result<Fetched, BucketError> {
        let action = || format!("reading s3://{}/{key}", self.name);
        let mut pause = Duration::from_millis(100);
        let mut tried = 1;
        loop {
            let got = match tokio::time::timeout(self.limits.attempt, self.once(key, etag)).await {
                Ok(got) => got,
                Err(_) => Err(Failure::Passing(format!("no answer within {:?}", self.limits.attempt))),
            };
            match got {
                Ok(fetched) => return Ok(fetched),
                Err(Failure::Passing(_)) if tried < self.limits.attempts => {
                    tokio::time::sleep(pause).await;
                    (tried, pause) = (tried + 1, pause * 2);
                }
                Err(Failure::Passing(reason)) => {
                    return Err(BucketError::Unavailable(format!("{}: {reason}", action())));
                }
                Err(Failure::Denied) => return Err(BucketError::Denied(action())),
                Err(Failure::Lasting(reason)) => {
                    return Err(BucketError::Refused { action: action(), reason });
                }
            }
        }
    }

    async fn once(&self, key: &str, etag: Option<&str>) -> Result<Fetched, Failure> {
        let request = self.request(key, etag).await.map_err(Failure::Lasting)?;
        let response = self.connector.call(request).await;
        let response = response.map_err(|e| Failure::Passing(e.to_string()))?;
        let status = response.status().as_u16();
        let length: Option<u64> = response.headers().get("content-length").and_then(|n| n.parse().ok());
        let etag = response.headers().get("etag").unwrap_or_default().to_owned();
        match status {
            304 => return Ok(Fetched::Unchanged),
            200 if length.is_none_or(|length| length > LARGEST) => {
                return Err(Failure::Lasting(format!(
                    "it has more than {LARGEST} bytes, or does not say how many"
                )));
            }
            404 | 200 => {}
            _ if length.is_none_or(|length| length > LARGEST_ERROR) => return Err(Failure::of(status, "")),
            _ => {}
        }
        let body = ByteStream::new(response.into_body()).collect().await;
        let body = body.map_err(|e| Failure::Passing(e.to_string()))?.into_bytes();
        let text =
            String::from_utf8(body.to_vec()).map_err(|_| Failure::Lasting("it is not UTF-8".to_owned()))?;
        match status {
            200 => Ok(Fetched::Text { text, etag }),
            404 if code(&text) == "NoSuchKey" => Ok(Fetched::Absent),
            _ => Err(Failure::of(status, code(&text))),
        }
    }

    async fn request(&self, key: &str, etag: Option<&str>) -> Result<HttpRequest, String> {
        let path: String = key.split('/').map(encoded).collect::<Vec<_>>().join("/");
        let url = format!("{}/{}/{path}", self.endpoint, encoded(&self.name));
        let mut request = HttpRequest::new(SdkBody::empty());
        request.set_uri(url.as_str()).map_err(|e| e.to_string())?;
        let credentials = self.credentials.provide_credentials().await.map_err(|e| e.to_string())?;
        let host = url.split_once("://").map_or("", |(_, rest)| rest).split('/').next().unwrap_or_default();
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = credentials.into();
        let now = u64::try_from(MachineClock::default().now().get()).unwrap_or_default();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(now))
            .settings(settings)
            .build()
            .map_err(|e| e.to_string())?
            .into();
        let signable =
            SignableRequest::new("GET", &url, [("host", host)].into_iter(), SignableBody::Bytes(&[]));
        let signed = sign(signable.map_err(|e| e.to_string())?, &params).map_err(|e| e.to_string())?;
        for header in signed.into_parts().0.into_parts().0 {
            request.headers_mut().insert(header.name().to_owned(), header.value().to_owned());
        }
        if let Some(etag) = etag {
            request.headers_mut().insert("if-none-match", etag.to_owned());
        }
        Ok(request)
    }
}

/// Why a try did not work.
enum Failure {
    Passing(String),
    Denied,
    Lasting(String),
}

impl Failure {
    fn of(status: u16, code: &str) -> Self {
        let reason = format!("{status} {code}").trim().to_owned();
        if status >= 500 || status == 429 || code == "SlowDown" {
            Self::Passing(reason)
        } else if status == 403 && matches!(code, "" | "AccessDenied") {
            Self::Denied
        } else {
            Self::Lasting(reason)
        }
    }
}

/// The code in an error's XML.
fn code(body: &str) -> &str {
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("", |(code, _)| code)
}

/// A part of a path as S3 has it: all but unreserved characters in percents.
fn encoded(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_s3_reads_it() {
        assert_eq!(encoded("a b+c/ü"), "a%20b%2Bc%2F%C3%BC");
        assert_eq!(encoded("sentinel-1.0_x~y.yaml"), "sentinel-1.0_x~y.yaml");
    }

    #[test]
    fn the_code_of_an_error_is_found_in_its_xml() {
        let body = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
        assert_eq!((code(body), code("<html>"), code("")), ("AccessDenied", "", ""));
    }
}
