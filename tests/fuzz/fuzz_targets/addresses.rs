//! URLs: what may be called by the strictest policy is https, to a name or to an address of the Internet.
#![no_main]

use std::net::IpAddr;

use sentinel_http::{AddressPolicy, HttpClient, Url};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let Ok(url) = Url::parse(&String::from_utf8_lossy(body)) else { return };
    if HttpClient::new(AddressPolicy::default()).check_url(&url).is_err() {
        return;
    }
    assert_eq!(url.scheme(), "https");
    let host = url.host_str().expect("a host");
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => assert!(
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast())
        ),
        Ok(IpAddr::V6(ip)) => assert!(!(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()) && ip.segments()[0] >> 13 != 0b111),
        Err(_) => assert!(!host.starts_with('[')),
    }
});
