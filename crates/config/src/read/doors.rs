//! `up`'s doors: who may look at incidents and stop them, by which names it is asked, how many may come at once.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::general::{hosts, section};
use crate::reader::{Field, Keys, Reader, Section};
use crate::settings::{ApiAccess, ApiToken, Ingest, Listener};
use crate::tree::Value;

pub(super) const API: Keys = &[("read", &[]), ("operate", &[])];
pub(super) const API_TOKEN: Keys = &[("name", &[]), ("token", &[])];
pub(super) const LISTENER: Keys =
    &[("max-connections", &[]), ("drain", &[]), ("hosts", &[]), ("origins", &[])];

/// Kubernetes kills after 30 s where nobody says otherwise.
const USUAL_DRAIN: Duration = Duration::from_secs(25);

pub(super) fn api(r: &mut Reader<'_>, field: Option<Field<'_>>, ingest: &Ingest) -> ApiAccess {
    let s = section(r, field, "api", API);
    ApiAccess { read: tokens(r, &s, "read", ingest), operate: tokens(r, &s, "operate", ingest) }
}

/// Tokens, each alone or with the name of whose it is.
fn tokens(r: &mut Reader<'_>, s: &Section<'_>, key: &str, ingest: &Ingest) -> Vec<ApiToken> {
    let items = r.items(s, key);
    items
        .iter()
        .filter_map(|f| {
            let help = "write \"${NAME}\", or {name: …, token: \"${NAME}\"}";
            let (name, field) = match &f.node.value {
                Value::Map(_) => {
                    let s = r.section(f, API_TOKEN);
                    (r.required_text(&s, "name", help)?, r.required(&s, "token", help)?)
                }
                _ => (f.path.clone(), f.clone()),
            };
            let token = r.secret(&field)?;
            let same = |other: &SecretString| other.expose_secret() == token.expose_secret();
            if ingest.bearer.iter().any(same) {
                r.error(
                    &field,
                    "is a token of `ingest.bearer` too: whoever may post alerts could stop investigations",
                    "give the API a token of its own",
                );
                return None;
            }
            Some(ApiToken { name, token })
        })
        .collect()
}

pub(super) fn listener(r: &mut Reader<'_>, field: Option<Field<'_>>) -> Listener {
    let s = section(r, field, "server", LISTENER);
    let max_connections = s.get("max-connections").and_then(|f| r.number(&f, &(16..=100_000)));
    let drain = s.get("drain").and_then(|f| r.duration(&f, Duration::from_secs(1))).unwrap_or(USUAL_DRAIN);
    let items = r.items(&s, "origins");
    let origins = items.iter().filter_map(|f| origin(r, f)).collect();
    Listener { max_connections, drain, hosts: hosts(r, &s, "hosts"), origins }
}

/// Where a web page comes from, as browsers write it (RFC 6454, section 6.2).
fn origin(r: &mut Reader<'_>, field: &Field<'_>) -> Option<String> {
    let text = r.text(field)?;
    let url =
        Url::parse(&text).ok().filter(|url| url.has_host() && url.path() == "/" && url.query().is_none());
    if url.is_none() {
        r.error(
            field,
            "is no origin",
            "write the scheme, the host and, where it is not the usual one, the port: https://desk.example",
        );
    }
    url.map(|url| url.origin().ascii_serialization())
}
