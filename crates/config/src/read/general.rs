//! The sections that are not lists of named things.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sentinel_core::budget::{Limits, MicroUsd};
use sentinel_core::lifecycle::Rules;
use url::Url;

use crate::reader::{Field, Keys, Reader, Section};
use crate::secrets;
use crate::settings::{Dispatcher, Hmac, Ingest, Network};

/// How many model turns one investigation may have.
pub(super) const ITERATIONS: RangeInclusive<u32> = 1..=20;
/// How many tokens.
pub(super) const TOKENS: RangeInclusive<u64> = 1_000..=1_000_000_000;
/// How many US dollars.
pub(super) const USD: RangeInclusive<f64> = 0.001..=1_000_000.0;

pub(super) const INGEST: Keys = &[
    ("allow-anonymous", &[]),
    ("bearer", &[]),
    ("basic", &[]),
    ("header", &[]),
    ("hmac", &[]),
    ("sns", &[]),
];
pub(super) const DISPATCHER: Keys =
    &[("dedupe-ttl-seconds", &[]), ("worker-concurrency", &[]), ("queue-size", &[])];
pub(super) const DEFAULTS: Keys = &[
    ("max-iterations", &[]),
    ("timeout", &[]),
    ("max-tokens", &[]),
    ("max-usd", &[]),
    ("max-tool-output-tokens", &[]),
    ("retry-policy", &[]),
    ("audit-retention", &[]),
];
pub(super) const BUDGET: Keys = &[
    ("per-hour", &[]),
    ("per-day", &[]),
    ("usd-per-hour", &[]),
    ("usd-per-day", &[]),
    ("generations-per-hour", &[]),
];
pub(super) const NETWORK: Keys =
    &[("allow-insecure-hosts", &[]), ("allow-private-hosts", &[]), ("proxy", &[]), ("no-proxy", &[])];
pub(super) const BASIC: Keys = &[("user", &[]), ("password", &[])];
pub(super) const HEADER: Keys = &[("name", &[]), ("value", &[])];
pub(super) const HMAC: Keys = &[("secret", &[]), ("header", &[]), ("timestamp-header", &[])];
pub(super) const RETRY: Keys = &[("attempts", &[]), ("backoff", &[])];

/// The most generations of one incident an hour, where nobody says otherwise.
pub(super) const GENERATIONS_PER_HOUR: u32 = 6;

/// Where Grafana's webhook contact point puts its signature unless told otherwise.
/// <https://grafana.com/docs/grafana/latest/alerting/configure-notifications/manage-contact-points/integrations/webhook-notifier/>
const SIGNATURE_HEADER: &str = "x-grafana-alerting-signature";

/// What holds for every card that does not say otherwise.
pub(super) struct Defaults {
    pub(super) max_iterations: u32,
    pub(super) timeout: Duration,
    pub(super) max_tokens: u64,
    pub(super) max_usd: MicroUsd,
    pub(super) max_tool_output_tokens: u32,
    pub(super) attempts: u32,
    pub(super) audit_retention: Duration,
}

/// A section, or an empty one where the file has none.
pub(super) fn section<'n>(
    r: &mut Reader<'_>,
    field: Option<Field<'n>>,
    path: &str,
    keys: Keys,
) -> Section<'n> {
    field.map_or_else(|| Section::absent(path), |f| r.section(&f, keys))
}

pub(super) fn ingest(r: &mut Reader<'_>, field: Option<Field<'_>>) -> Ingest {
    let s = section(r, field, "ingest", INGEST);
    let bearer = r.items(&s, "bearer").iter().filter_map(|f| r.secret(f)).collect();
    let basic = r
        .items(&s, "basic")
        .iter()
        .filter_map(|f| {
            let s = r.section(f, BASIC);
            let user = r.required_text(&s, "user", "write {user: …, password: \"${NAME}\"}");
            let pair = user.zip(required_secret(r, &s, "password"))?;
            r.keep([secrets::basic(&pair.0, pair.1.expose_secret())]);
            Some(pair)
        })
        .collect();
    let header = r
        .items(&s, "header")
        .iter()
        .filter_map(|f| {
            let s = r.section(f, HEADER);
            let name = r.required_text(&s, "name", "write {name: X-Api-Key, value: \"${NAME}\"}");
            let name = name.filter(|n| s.get("name").is_none_or(|f| header_name(r, &f, n)));
            name.map(|n| n.to_ascii_lowercase()).zip(required_secret(r, &s, "value"))
        })
        .collect();
    let hmac = r.items(&s, "hmac").iter().filter_map(|f| hmac(r, f)).collect();
    let sns = r.items(&s, "sns").iter().filter_map(|f| topic(r, f)).collect();
    let allow_anonymous = r.flag(&s, "allow-anonymous", false);
    let ingest = Ingest { allow_anonymous, bearer, basic, header, hmac, sns };
    if let Some(f) = s.get("allow-anonymous")
        && ingest.allow_anonymous
        && ingest.has_credentials()
    {
        r.warn(
            &f,
            "lets everybody in, so that the credentials beside it mean nothing",
            "keep one of the two",
        );
    }
    ingest
}

/// The ARN of a topic of Amazon SNS. One that is first in, first out posts to no address.
fn topic(r: &mut Reader<'_>, field: &Field<'_>) -> Option<String> {
    let text = r.text(field)?;
    let parts: Vec<&str> = text.split(':').collect();
    let of = |text: &str, more: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
    };
    let good = match parts.as_slice() {
        ["arn", partition, "sns", region, account, name] => {
            of(partition, "-") && of(region, "-") && of(account, "") && account.len() == 12 && of(name, "-_")
        }
        _ => false,
    };
    if !good {
        r.error(
            field,
            "is not the ARN of a standard topic of Amazon SNS",
            "write it as SNS shows it: arn:aws:sns:eu-west-1:123456789012:alerts",
        );
    }
    good.then_some(text)
}

/// One key of Grafana's signature, with the names that its contact point gives the headers.
fn hmac(r: &mut Reader<'_>, field: &Field<'_>) -> Option<Hmac> {
    let s = r.section(field, HMAC);
    let mut name = |key: &str| {
        let f = s.get(key)?;
        let name = r.text(&f)?;
        header_name(r, &f, &name).then(|| name.to_ascii_lowercase())
    };
    let (header, timestamp_header) = (name("header"), name("timestamp-header"));
    if s.get("timestamp-header").is_none() {
        r.warn(
            field,
            "takes signatures without a time, so that a captured request can be sent again",
            "name the contact point's timestamp header: `timestamp-header: X-Grafana-Alerting-Timestamp`",
        );
    }
    let secret = required_secret(r, &s, "secret")?;
    Some(Hmac { secret, header: header.unwrap_or_else(|| SIGNATURE_HEADER.to_owned()), timestamp_header })
}

fn required_secret(r: &mut Reader<'_>, s: &Section<'_>, key: &str) -> Option<SecretString> {
    let help = "write \"${NAME}\", and set that variable in the environment";
    r.required(s, key, help).and_then(|f| r.secret(&f))
}

/// Whether a text can be a header's name (RFC 9110, `token`); told where it cannot.
pub(super) fn header_name(r: &mut Reader<'_>, field: &Field<'_>, name: &str) -> bool {
    let good = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !good {
        r.error(field, "is not a header's name", "write letters, digits and dashes, such as X-Api-Key");
    }
    good
}

pub(super) fn dispatcher(r: &mut Reader<'_>, field: Option<Field<'_>>) -> Dispatcher {
    let s = section(r, field, "dispatcher", DISPATCHER);
    Dispatcher {
        dedupe_ttl: Duration::from_secs(r.number_or(&s, "dedupe-ttl-seconds", 10..=3_600, 600)),
        worker_concurrency: r.number_or(&s, "worker-concurrency", 1..=32, 4),
        queue_size: r.number_or(&s, "queue-size", 1..=1_000, 100),
    }
}

pub(super) fn defaults(r: &mut Reader<'_>, field: Option<Field<'_>>) -> Defaults {
    let s = section(r, field, "defaults", DEFAULTS);
    let retry = section(r, s.get("retry-policy"), "defaults.retry-policy", RETRY);
    if let Some(f) = retry.get("backoff") {
        r.choice(&f, &[("exponential", ())]);
    }
    Defaults {
        max_iterations: r.number_or(&s, "max-iterations", ITERATIONS, 6),
        timeout: r.duration_or(&s, "timeout", Duration::from_mins(10)),
        max_tokens: r.number_or(&s, "max-tokens", TOKENS, 1_000_000),
        max_usd: usd_or(r, &s, "max-usd", MicroUsd(1_000_000)),
        max_tool_output_tokens: r.number_or(&s, "max-tool-output-tokens", 50..=1_000_000, 2_000),
        attempts: r.number_or(&retry, "attempts", 1..=20, 3),
        audit_retention: r.duration_or(&s, "audit-retention", Rules::AUDIT_RETENTION),
    }
}

/// What one investigation may cost.
pub(super) fn usd_or(r: &mut Reader<'_>, s: &Section<'_>, key: &str, default: MicroUsd) -> MicroUsd {
    s.get(key).and_then(|f| r.number(&f, &USD)).map_or(default, MicroUsd::from_usd)
}

/// Limits of spending, and of generations.
pub(super) struct Budget {
    pub(super) limits: Limits,
    /// `None`: the key is absent.
    pub(super) generations_per_hour: Option<u32>,
}

impl Budget {
    /// What holds where the file says nothing: a storm must not cost more than somebody would have agreed to.
    pub(super) fn usual() -> Self {
        let limits = Limits {
            per_hour: Some(30),
            per_day: Some(200),
            usd_per_hour: Some(MicroUsd(5_000_000)),
            usd_per_day: Some(MicroUsd(20_000_000)),
        };
        Self { limits, generations_per_hour: None }
    }
}

/// A section that is there says all: what it leaves out is not limited.
pub(super) fn budget(r: &mut Reader<'_>, field: &Field<'_>) -> Budget {
    let s = r.section(field, BUDGET);
    let mut count = |key: &str| s.get(key).and_then(|f| r.number(&f, &(0..=1_000_000)));
    let (per_hour, per_day) = (count("per-hour"), count("per-day"));
    let generations_per_hour = s.get("generations-per-hour").and_then(|f| r.number(&f, &(1..=360)));
    let mut usd = |key: &str| {
        let amount = s.get(key).and_then(|f| r.number(&f, &(0.0..=1_000_000.0)));
        amount.map(MicroUsd::from_usd)
    };
    let (usd_per_hour, usd_per_day) = (usd("usd-per-hour"), usd("usd-per-day"));
    let more = per_hour.zip(per_day).is_some_and(|(hour, day)| hour > day);
    for (key, of_day, idle) in [
        ("per-hour", "per-day", more),
        ("usd-per-hour", "usd-per-day", usd_per_hour.zip(usd_per_day).is_some_and(|(hour, day)| hour > day)),
    ] {
        if let Some(f) = s.get(key)
            && idle
        {
            r.warn(&f, format!("is more than `{of_day}`, which is used up first"), "lower it, or remove it");
        }
    }
    Budget { limits: Limits { per_hour, per_day, usd_per_hour, usd_per_day }, generations_per_hour }
}

pub(super) fn network(r: &mut Reader<'_>, field: Option<Field<'_>>) -> Network {
    let s = section(r, field, "network", NETWORK);
    let allow_private_hosts = hosts(r, &s, "allow-private-hosts");
    let proxy = s.get("proxy").and_then(|f| proxy(r, &f, &allow_private_hosts));
    let no_proxy = r.items(&s, "no-proxy").iter().filter_map(|f| direct(r, f)).collect();
    if let Some(f) = s.get("no-proxy").filter(|_| s.get("proxy").is_none()) {
        r.warn(&f, "says what goes past a proxy, and there is none", "add `proxy`, or remove it");
    }
    Network {
        allow_insecure_hosts: hosts(r, &s, "allow-insecure-hosts"),
        allow_private_hosts,
        proxy,
        no_proxy,
    }
}

/// The address of a proxy. Unlike others it may carry a user and a password: there is no other place for them.
fn proxy(r: &mut Reader<'_>, field: &Field<'_>, allow_private_hosts: &[String]) -> Option<Url> {
    const HELP: &str = "write an address such as http://proxy.example:3128";
    let text = r.text(field)?;
    let url =
        Url::parse(text.trim()).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        r.error(field, "is not the http or https address of a proxy", HELP);
        return None;
    };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        r.error(field, "has more than a host and a port", HELP);
        return None;
    }
    if let Some(password) = url.password() {
        let (user, plain) = (decoded(url.username()), decoded(password));
        r.keep([password.to_owned(), secrets::basic(&user, &plain), plain]);
    }
    let host = url.host_str().unwrap_or_default();
    if is_private(&url) && !allow_private_hosts.iter().any(|h| h.eq_ignore_ascii_case(host)) {
        let help = format!("add `{host}` to `network.allow-private-hosts`");
        r.warn(field, "a private address is refused unless the host is listed", help);
    }
    Some(url)
}

/// A user or a password of an address as it is meant.
fn decoded(written: &str) -> String {
    // A form's value, but for what stands for something else there.
    let form = format!("v={}", written.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(form.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

/// What goes past the proxy: a name, which stands for all below it too, an address, or a network.
fn direct(r: &mut Reader<'_>, field: &Field<'_>) -> Option<String> {
    let text = r.text(field)?;
    let written = text.trim();
    let is_network = written.split_once('/').is_some_and(|(ip, bits)| {
        let most = if ip.contains(':') { 128 } else { 32 };
        ip.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    });
    let name = written.trim_start_matches('.');
    let is_host = name.parse::<IpAddr>().is_ok() || (!name.contains('*') && url::Host::parse(name).is_ok());
    if is_network || is_host {
        return Some(written.to_owned());
    }
    r.error(field, "is no host and no network", "write a name, an address, or a network such as 10.0.0.0/8");
    None
}

pub(super) fn hosts(r: &mut Reader<'_>, s: &Section<'_>, key: &str) -> Vec<String> {
    let items = r.items(s, key);
    items
        .iter()
        .filter_map(|f| {
            let text = r.text(f)?;
            let host = url::Host::parse(&text).ok().or_else(|| text.parse().ok().map(url::Host::Ipv6));
            if host.is_none() {
                r.error(
                    f,
                    "is not a host",
                    "write a name or an address alone: no scheme, port, path or pattern",
                );
            }
            // The form in which a URL's host is written, so that the two compare.
            host.map(|h| h.to_string())
        })
        .collect()
}

/// What the address policy is known to refuse without asking a name server.
pub(super) fn warn_refused(r: &mut Reader<'_>, field: &Field<'_>, url: &Url, network: &Network) {
    let Some(host) = url.host_str() else { return };
    let listed = |hosts: &[String]| hosts.iter().any(|h| h.eq_ignore_ascii_case(host));
    if url.scheme() == "http" && !listed(&network.allow_insecure_hosts) {
        let help = format!("use https, or add `{host}` to `network.allow-insecure-hosts`");
        r.warn(field, "plain http is refused unless the host is listed", help);
    }
    if is_private(url) && !listed(&network.allow_private_hosts) {
        let help = format!("add `{host}` to `network.allow-private-hosts`");
        r.warn(field, "a private address is refused unless the host is listed", help);
    }
}

/// Whether an address is surely no public one, as far as its text says.
pub(super) fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => {
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified()
        }
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unspecified(),
        None => false,
    }
}
