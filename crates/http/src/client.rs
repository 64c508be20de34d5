//! The client itself: one for a process, built when it is first used.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use url::Url;

use crate::{AddressPolicy, HttpError};

/// The longest that a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence on a connection: what a caller abandoned must not hold its socket for ever. Longer than any
/// caller waits, so that it ends nothing that is still wanted.
const LONGEST_SILENCE: Duration = Duration::from_mins(15);

/// The one HTTP client of a process. Cheap until it is used: reading the root certificates is most of a cold start,
/// and a run that never goes out does not pay for it.
#[derive(Debug)]
pub struct HttpClient {
    policy: Arc<AddressPolicy>,
    client: OnceLock<Result<reqwest::Client, HttpError>>,
}

impl HttpClient {
    /// A client that keeps to `policy`. Nothing is loaded yet.
    pub fn new(policy: AddressPolicy) -> Self {
        Self { policy: Arc::new(policy), client: OnceLock::new() }
    }

    /// Whether `url` may be called, as far as the URL itself tells: its scheme, and its address where it is one. The
    /// addresses of a name are checked when it is resolved, and only those are connected to.
    ///
    /// Whoever calls through [`Self::client`] calls this before: reqwest asks no resolver about an address.
    pub fn check_url(&self, url: &Url) -> Result<(), HttpError> {
        self.policy.check_url(url)
    }

    /// The shared client: it resolves by the policy, follows no redirect (an error that names the target's host
    /// instead), uses no proxy, and takes at most five seconds to connect. Beyond that it gives up only after 15
    /// minutes of silence: every caller sets its own time-out.
    pub fn client(&self) -> Result<&reqwest::Client, HttpError> {
        let built = self.client.get_or_init(|| {
            reqwest::Client::builder()
                .dns_resolver(PolicyResolver(Arc::clone(&self.policy)))
                .redirect(Policy::custom(|attempt: Attempt<'_>| {
                    let host = attempt.url().host_str().unwrap_or("nowhere").to_owned();
                    attempt.error(HttpError::Redirect { host })
                }))
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(LONGEST_SILENCE)
                .build()
                .map_err(|e| HttpError::SetUp(HttpError::from(&e).to_string()))
        });
        built.as_ref().map_err(Clone::clone)
    }
}

/// Resolves names by the operating system and hands on only addresses that the policy allows. reqwest connects to
/// what a resolver gives and asks nobody again, so the address checked is the address connected to.
struct PolicyResolver(Arc<AddressPolicy>);

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let failed = |reason: String| HttpError::Resolve { host: host.to_owned(), reason };
            // reqwest puts the URL's port in the place of port 0.
            let found = tokio::net::lookup_host((host, 0)).await.map_err(|e| failed(e.to_string()))?;
            let addresses: Vec<_> = found.collect();
            if addresses.is_empty() {
                return Err(failed("it has no address".to_owned()).into());
            }
            // One bad address refuses the host: a name that mixes public and private ones is an attempt to slip by.
            for address in &addresses {
                policy.check_address(host, address.ip())?;
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
