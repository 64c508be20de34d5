//! The way to SNS: certificates and confirmations.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use sentinel_http::{HttpClient, HttpError, Url, read_body};

/// The longest that SNS may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes that are read of an answer; a certificate has some two thousand.
const MOST: usize = 64 << 10;

/// Gets what is at an address: the status, and the body.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    /// Follows no redirect.
    async fn get(&self, url: &Url) -> Result<(u16, Vec<u8>), HttpError>;
}

#[async_trait]
impl Fetch for HttpClient {
    async fn get(&self, url: &Url) -> Result<(u16, Vec<u8>), HttpError> {
        self.check_url(url)?;
        let request = self.client()?.get(url.clone()).timeout(TIMEOUT);
        let answer = request.send().await.map_err(|e| HttpError::from(&e))?;
        if answer.url() != url {
            let host = answer.url().host_str().unwrap_or("nowhere").to_owned();
            return Err(HttpError::Redirect { host });
        }
        Ok((answer.status().as_u16(), read_body(answer, MOST).await?))
    }
}
