//! The way out of a network that has no other: an HTTP proxy.

use std::fmt;

use reqwest::NoProxy;
use url::{Host, Url};

use crate::{AddressPolicy, HttpError};

/// A proxy that requests go through, https by `CONNECT`. Addresses of this machine never do.
///
/// The proxy looks up the names that it is asked for. So the address policy holds for the proxy: who a name is beyond it,
/// the proxy knows and decides. Schemes, and addresses that stand in a URL, are checked as ever.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    direct: Vec<String>,
}

impl Proxy {
    /// The proxy at `url`, which may hold a user and a password, for all but the hosts in `direct`: names (and all below
    /// them), addresses and networks (`10.0.0.0/8`).
    pub fn new(url: Url, direct: Vec<String>) -> Self {
        Self { url, direct }
    }

    /// As the client takes it, if its address is allowed as far as the URL tells. That of a name is checked when it is
    /// resolved.
    pub(crate) fn checked(&self, policy: &AddressPolicy) -> Result<reqwest::Proxy, HttpError> {
        match self.url.host() {
            Some(Host::Ipv4(ip)) => policy.check_address(&ip.to_string(), ip.into())?,
            Some(Host::Ipv6(ip)) => policy.check_address(&ip.to_string(), ip.into())?,
            Some(Host::Domain(_)) | None => {}
        }
        let here = ["localhost", "127.0.0.0/8", "::1"].into_iter();
        let direct: Vec<&str> = here.chain(self.direct.iter().map(String::as_str)).collect();
        let proxy = reqwest::Proxy::all(self.url.clone()).map_err(|e| HttpError::from(&e))?;
        Ok(proxy.no_proxy(NoProxy::from_string(&direct.join(","))))
    }
}

/// Its host only: the address may hold a password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str();
        f.debug_struct("Proxy").field("host", &host).field("direct", &self.direct).finish_non_exhaustive()
    }
}
