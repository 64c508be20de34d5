//! Which hosts and addresses may be spoken to.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::HttpError;

/// Where requests may go. The default is the strictest: https to public addresses only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressPolicy {
    insecure: BTreeSet<String>,
    private: BTreeSet<String>,
}

impl AddressPolicy {
    /// A policy with exceptions, each a host name or an IP address as it stands in a URL, without a port: hosts that
    /// may be spoken to without TLS (`network.allow-insecure-hosts`), and hosts that may have addresses which are not
    /// public (`network.allow-private-hosts`).
    pub fn new<S: AsRef<str>>(
        allow_insecure_hosts: impl IntoIterator<Item = S>,
        allow_private_hosts: impl IntoIterator<Item = S>,
    ) -> Self {
        let names = |hosts: &mut dyn Iterator<Item = S>| hosts.map(|h| normal(h.as_ref())).collect();
        Self {
            insecure: names(&mut allow_insecure_hosts.into_iter()),
            private: names(&mut allow_private_hosts.into_iter()),
        }
    }

    /// Checks all of a URL that can be checked without asking a name server.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), HttpError> {
        let host = url.host().ok_or_else(|| HttpError::BadUrl("it names no host".to_owned()))?;
        let name = normal(&host.to_string());
        match url.scheme() {
            "https" => {}
            "http" if self.insecure.contains(&name) => {}
            "http" => return Err(HttpError::Insecure { host: name }),
            other => return Err(HttpError::BadUrl(format!("{other:?} is neither https nor http"))),
        }
        match host {
            Host::Domain(_) => Ok(()),
            Host::Ipv4(ip) => self.check_address(&name, ip.into()),
            Host::Ipv6(ip) => self.check_address(&name, ip.into()),
        }
    }

    /// Checks one address of a host.
    pub(crate) fn check_address(&self, host: &str, address: IpAddr) -> Result<(), HttpError> {
        match not_public(address) {
            Some(kind) if !self.private.contains(&normal(host)) => {
                Err(HttpError::Private { host: host.to_owned(), address, kind })
            }
            _ => Ok(()),
        }
    }
}

/// One spelling for each host: lower case, no brackets, no final dot.
fn normal(host: &str) -> String {
    let host = host.trim();
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// What makes an address one that is not on the public Internet, by IANA's special-purpose registries; `None` for a
/// public one.
fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(ip) => not_public_v4(ip),
        IpAddr::V6(ip) => not_public_v6(ip),
    }
}

fn not_public_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        // 169.254.169.254 is where clouds keep a machine's credentials.
        [169, 254, ..] => Some("link-local"),
        [100, 64..=127, ..] => Some("carrier-grade NAT"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [240..=255, ..] => Some("reserved"),
        // Azure's own, which each of its machines reaches and the Internet does not; it gives out their settings.
        [168, 63, 129, 16] => Some("cloud metadata"),
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Some("documentation"),
        [224..=239, ..] => Some("multicast"),
        _ => None,
    }
}

fn not_public_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match ip.segments() {
        _ if ip.is_unspecified() => Some("unspecified"),
        _ if ip.is_loopback() => Some("loopback"),
        // An IPv4 address in another coat: mapped, compatible, translated, NAT64, 6to4, ISATAP.
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => not_public_v4(v4(high, low)),
        [0x2000..=0x3fff, _, _, _, 0 | 0x200, 0x5efe, high, low]
            if not_public_v4(v4(high, low)).is_some() =>
        {
            not_public_v4(v4(high, low))
        }
        // The NAT64 prefix for local use, where the embedded address is not in one place.
        [0x64, 0xff9b, 1, ..] => Some("private"),
        [0xfc00..=0xfdff, ..] => Some("unique local"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfec0..=0xfeff, ..] => Some("site-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("documentation"),
        // Teredo and the rest of the protocol block: a relay decides where it ends.
        [0x2001, 0..=0x01ff, ..] => Some("reserved"),
        // All that is given out on the Internet lies in here.
        [0x2000..=0x3fff, ..] => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(policy: &AddressPolicy, url: &str) -> Result<(), String> {
        policy.check_url(&Url::parse(url).unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn an_address_that_is_not_public_is_refused_however_it_is_written() {
        let policy = AddressPolicy::default();
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0.0.0.0/",
            "https://10.1.2.3/",
            "https://172.31.255.255/",
            "https://192.168.0.1/",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1/",
            "https://255.255.255.255/",
            "https://[::1]/",
            "https://[::]/",
            "https://[::ffff:10.0.0.1]/",
            "https://[64:ff9b::a9fe:a9fe]/",
            "https://[2002:7f00:1::]/",
            "https://[fd00:ec2::254]/",
            "https://[fe80::1]/",
            "https://[2001:0:1::1]/",
        ] {
            assert!(check(&policy, url).unwrap_err().contains("allow-private-hosts"), "{url}");
        }
        for url in ["https://1.1.1.1/", "https://[2606:4700:4700::1111]/", "https://172.32.0.1/"] {
            assert_eq!(check(&policy, url), Ok(()), "{url}");
        }
    }

    #[test]
    fn http_is_refused_unless_the_host_is_named() {
        let policy = AddressPolicy::new(["Plain.example.", "[::1]"], ["::1"]);
        assert_eq!(check(&policy, "http://plain.example:8080/x"), Ok(()));
        assert_eq!(check(&policy, "http://PLAIN.example./x"), Ok(()));
        assert_eq!(check(&policy, "http://[::1]:9/"), Ok(()));
        assert!(check(&policy, "http://other.example/").unwrap_err().contains("allow-insecure-hosts"));
        assert!(check(&policy, "http://sub.plain.example/").unwrap_err().contains("allow-insecure-hosts"));
        assert!(check(&policy, "ftp://plain.example/").unwrap_err().contains("neither https nor http"));
    }

    #[test]
    fn an_error_shows_the_host_and_no_credential() {
        let told =
            check(&AddressPolicy::default(), "http://user:hunter2@a.example/?token=hunter2").unwrap_err();
        assert!(told.contains("a.example") && !told.contains("hunter2"), "{told}");
    }

    #[test]
    fn an_allowed_private_host_allows_no_other() {
        let policy = AddressPolicy::new([], ["10.0.0.1"]);
        assert_eq!(check(&policy, "https://10.0.0.1/"), Ok(()));
        assert!(check(&policy, "https://10.0.0.2/").is_err());
    }

    proptest! {
        #[test]
        fn an_ipv4_address_is_judged_alike_in_every_ipv6_coat(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            let [high, low] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
            let plain = not_public(v4.into());
            prop_assert_eq!(not_public(v4.to_ipv6_mapped().into()), plain);
            prop_assert_eq!(not_public(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into()), plain);
            prop_assert_eq!(not_public(Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 0).into()), plain);
            // The standard library's own idea of these is never looser than ours.
            if v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() {
                prop_assert!(plain.is_some());
            }
        }
    }
}
