//! The client itself: one for a process, built when it is first used.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::{Attempt, Policy};
use url::Url;

use crate::{AddressPolicy, HttpError, Proxy, Redirected};

/// The longest that a connection may take, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence on a connection: what a caller abandoned must not hold its socket for ever. Longer than any
/// caller waits, so that it ends nothing that is still wanted.
const LONGEST_SILENCE: Duration = Duration::from_mins(15);

/// The one HTTP client of a process. Cheap until it is used: reading the root certificates is most of a cold start,
/// and a run that never goes out does not pay for it.
#[derive(Debug)]
pub struct HttpClient {
    resolver: PolicyResolver,
    proxy: Option<Proxy>,
    client: OnceLock<Result<reqwest::Client, HttpError>>,
}

impl HttpClient {
    /// A client that keeps to `policy`. Nothing is loaded yet.
    pub fn new(policy: AddressPolicy) -> Self {
        Self::with_names(policy, Arc::new(SystemNames))
    }

    /// The same, which asks `names` for the addresses of names.
    pub fn with_names(policy: AddressPolicy, names: Arc<dyn Resolve>) -> Self {
        let resolver = PolicyResolver { policy: Arc::new(policy), names };
        Self { resolver, proxy: None, client: OnceLock::new() }
    }

    /// The same, whose requests go through a proxy, where there is one.
    #[must_use]
    pub fn through(mut self, proxy: Option<Proxy>) -> Self {
        self.proxy = proxy;
        self
    }

    /// Whether `url` may be called, as far as the URL itself tells: its scheme, and its address where it is one. The
    /// addresses of a name are checked when it is resolved, and only those are connected to; where a proxy resolves it,
    /// they are the proxy's business, and the proxy's own address is checked.
    ///
    /// Whoever calls through [`Self::client`] calls this before: reqwest asks no resolver about an address.
    pub fn check_url(&self, url: &Url) -> Result<(), HttpError> {
        self.resolver.policy.check_url(url)
    }

    /// The shared client: it resolves by the policy, follows no redirect (an error that names the target's host
    /// instead), uses no proxy but its own, and takes at most five seconds to connect. Beyond that it gives up only after 15
    /// minutes of silence: every caller sets its own time-out.
    pub fn client(&self) -> Result<&reqwest::Client, HttpError> {
        let built = self.client.get_or_init(|| {
            let proxy = self.proxy.as_ref().map(|proxy| proxy.checked(&self.resolver.policy)).transpose()?;
            // None is taken from the environment.
            let builder = reqwest::Client::builder().no_proxy();
            let builder = match proxy {
                Some(proxy) => builder.proxy(proxy),
                None => builder,
            };
            builder
                .dns_resolver(self.resolver.clone())
                .redirect(Policy::custom(|attempt: Attempt<'_>| {
                    let redirected = Redirected::of_attempt(&attempt);
                    attempt.error(redirected)
                }))
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(LONGEST_SILENCE)
                .build()
                .map_err(|e| HttpError::SetUp(HttpError::from(&e).to_string()))
        });
        built.as_ref().map_err(Clone::clone)
    }
}

/// The operating system's names.
struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // reqwest puts the URL's port in the place of port 0.
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// Hands on only addresses that the policy allows. reqwest connects to what a resolver gives and asks nobody again, so
/// the address checked is the address connected to.
#[derive(Clone)]
struct PolicyResolver {
    policy: Arc<AddressPolicy>,
    names: Arc<dyn Resolve>,
}

impl fmt::Debug for PolicyResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyResolver").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Self { policy, names } = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let failed = |reason: String| HttpError::Resolve { host: host.clone(), reason };
            let found = names.resolve(name).await.map_err(|e| failed(e.to_string()))?;
            let addresses: Vec<_> = found.collect();
            if addresses.is_empty() {
                return Err(failed("it has no address".to_owned()).into());
            }
            // One bad address refuses the host: a name that mixes public and private ones is an attempt to slip by.
            for address in &addresses {
                policy.check_address(&host, address.ip())?;
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::sync::Mutex;

    use super::*;

    /// A name server whose answer is another each time.
    struct Moves(Mutex<Vec<&'static str>>);

    impl Resolve for Moves {
        fn resolve(&self, _: Name) -> Resolving {
            let next: IpAddr = self.0.lock().unwrap().remove(0).parse().unwrap();
            Box::pin(async move {
                let addresses: Addrs = Box::new(std::iter::once(SocketAddr::new(next, 0)));
                Ok(addresses)
            })
        }
    }

    #[tokio::test]
    async fn a_name_that_was_public_is_refused_once_it_is_not() {
        let names = Arc::new(Moves(Mutex::new(vec!["1.1.1.1", "169.254.169.254", "1.1.1.1", "127.0.0.1"])));
        let resolver = PolicyResolver { policy: Arc::default(), names };
        for good in [true, false, true, false] {
            let found = resolver.resolve("rebound.example".parse().unwrap()).await;
            assert_eq!(found.is_ok(), good);
            if let Ok(addresses) = found {
                assert_eq!(addresses.collect::<Vec<_>>(), ["1.1.1.1:0".parse().unwrap()]);
            }
        }
    }
}
