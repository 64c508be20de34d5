//! Who calls an MCP server: the model's service, or Sentinel.

use std::collections::BTreeMap;

use url::{Host, Url};

use super::general::is_private;
use crate::reader::{Reader, Section, shown};
use crate::settings::{Api, Caller, HostedAt, Mode, ModelService, Network, Reach};

/// The connectors of OpenAI's API (description 2.3.0, `MCPTool.connector_id`).
const CONNECTORS: &[&str] = &[
    "connector_dropbox",
    "connector_gmail",
    "connector_googlecalendar",
    "connector_googledrive",
    "connector_microsoftteams",
    "connector_outlookcalendar",
    "connector_outlookemail",
    "connector_sharepoint",
];

/// What a server's own keys say about how it can be reached.
pub(super) struct Written<'a> {
    pub(super) url: Option<&'a Url>,
    pub(super) connector: Option<&'a str>,
    pub(super) tunnel: Option<&'a str>,
    pub(super) has_command: bool,
    pub(super) has_oauth: bool,
    pub(super) mode: Mode,
}

impl Written<'_> {
    /// The place that the model's service is given. A tunnel goes before the address that it leads to.
    fn hosted_at(&self) -> Option<HostedAt> {
        let tunnel = self.tunnel.map(|_| HostedAt::Tunnel);
        let connector = self.connector.map(|_| HostedAt::Connector);
        tunnel.or(connector).or(self.url.map(|_| HostedAt::Url))
    }

    /// Whether it is nothing but a program on this machine.
    pub(super) fn is_a_program(&self) -> bool {
        self.has_command && self.hosted_at().is_none()
    }

    /// Whether Sentinel has a way of its own.
    fn is_reachable(&self) -> bool {
        self.url.is_some() || self.has_command
    }

    /// Why the model's service cannot call it, and what to do about that.
    fn cannot_be_hosted(&self, openai: &ModelService, network: &Network) -> Option<(String, &'static str)> {
        let cannot = |why: &str, help| Some((why.to_owned(), help));
        match openai.api {
            Api::Responses => {}
            Api::Chat => {
                return cannot("Chat Completions hosts no MCP servers", "write `openai.api: responses`");
            }
            Api::Messages => {
                return cannot("the Messages API is handed no MCP servers", "write `openai.api: responses`");
            }
        }
        match self.hosted_at() {
            None => cannot("a program on this machine cannot be hosted", "leave `mode` out"),
            Some(_) if self.has_oauth => cannot(
                "its OAuth tokens are fetched by Sentinel",
                "write `mode: direct`, or an `authorization`",
            ),
            Some(HostedAt::Tunnel | HostedAt::Connector) => None,
            Some(HostedAt::Url) => {
                let why = self.url.and_then(|url| not_public(url, network))?;
                Some((why, "write `mode: direct`, or give it a `tunnel-id`"))
            }
        }
    }

    /// Who calls it. `Err`: nobody can, as it is written: what is wrong, and what to do about that.
    pub(super) fn reach(
        &self,
        openai: &ModelService,
        network: &Network,
    ) -> Result<Reach, (String, &'static str)> {
        let sentinel = |why: String| Reach { caller: Caller::Sentinel, why };
        let hosted = |at| {
            let why = match at {
                HostedAt::Tunnel => "it has a tunnel to the model's service",
                HostedAt::Connector => "only the model's service can call a connector",
                HostedAt::Url => "its address is public and the model is OpenAI's",
            };
            Reach { caller: Caller::ModelService(at), why: why.to_owned() }
        };
        match (self.mode, self.cannot_be_hosted(openai, network), self.hosted_at()) {
            (Mode::Direct, ..) if self.is_reachable() => Ok(sentinel("`mode: direct`".to_owned())),
            (Mode::Direct, ..) => Err((
                "a connector or a tunnel cannot be called directly".to_owned(),
                "write `mode: hosted`, or a `server-url`",
            )),
            (Mode::Hosted, None, Some(at)) => Ok(Reach { why: "`mode: hosted`".to_owned(), ..hosted(at) }),
            (Mode::Hosted, Some((why, help)), _) => Err((format!("cannot be hosted: {why}"), help)),
            (Mode::Auto, Some((why, _)), _) if self.is_reachable() => Ok(sentinel(why)),
            (Mode::Auto, Some((why, help)), _) => Err((format!("cannot be reached: {why}"), help)),
            (Mode::Auto, None, Some(HostedAt::Url)) if !openai.is_openai() => Ok(sentinel(
                "the model is not OpenAI's, and only `mode: hosted` hands a server to another service"
                    .to_owned(),
            )),
            (Mode::Auto, None, Some(at)) => Ok(hosted(at)),
            (Mode::Auto | Mode::Hosted, None, None) => Ok(sentinel("it is a program".to_owned())),
        }
    }
}

/// Why the internet cannot reach an address, as far as its text and the file say.
fn not_public(url: &Url, network: &Network) -> Option<String> {
    let host = url.host_str().unwrap_or_default();
    if url.scheme() != "https" {
        return Some(format!("`{host}` is plain http, and OpenAI calls https only"));
    }
    let listed = network.allow_private_hosts.iter().any(|h| h.eq_ignore_ascii_case(host));
    let inner = match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            !name.contains('.')
                || [".local", ".internal", ".lan", ".svc", ".home.arpa", ".test"]
                    .iter()
                    .any(|end| name.ends_with(end))
        }
        _ => false,
    };
    (listed || inner || is_private(url))
        .then(|| format!("`{host}` is a private address, which OpenAI cannot reach"))
}

/// A connector that does not exist, or a tunnel's id that is none, is refused by the service with every request.
pub(super) fn check_ids(r: &mut Reader<'_>, s: &Section<'_>, connector: Option<&str>, tunnel: Option<&str>) {
    if let (Some(id), Some(f)) = (connector, s.get("connector-id"))
        && !CONNECTORS.contains(&id)
    {
        r.warn(
            &f,
            "is none of the connectors that OpenAI names",
            format!("known: {}", CONNECTORS.join(", ")),
        );
    }
    if let (Some(f), None) = (s.get("connector-id"), s.get("authorization")) {
        r.warn(&f, "a connector is refused without an `authorization`", "give it an OAuth access token");
    }
    let is_tunnel = |id: &str| {
        id.strip_prefix("tunnel_").is_some_and(|rest| {
            rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        })
    };
    if let (Some(id), Some(f)) = (tunnel, s.get("tunnel-id"))
        && !is_tunnel(id)
    {
        r.error(
            &f,
            "is not a tunnel's id",
            "write it as OpenAI shows it: `tunnel_` and 32 letters and digits",
        );
    }
}

/// The label of a hosted server is what its calls are told apart by: the service wants it to begin with a letter, and
/// two servers cannot share one.
pub(super) fn check_label(
    r: &mut Reader<'_>,
    s: &Section<'_>,
    label: &str,
    labels: &mut BTreeMap<String, u32>,
) {
    let Some(f) = s.get("server-label").or_else(|| s.get("name")) else { return };
    let line = u32::try_from(f.node.at.line).unwrap_or(u32::MAX);
    let good = label.starts_with(|c: char| c.is_ascii_alphabetic())
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if !good {
        let help =
            "give it a `server-label` that begins with a letter and holds letters, digits, `-` and `_` only";
        r.error(&f, format!("OpenAI takes no label such as {}", shown(&f, label)), help);
    } else if let Some(first) = labels.insert(label.to_owned(), line) {
        let message = format!(
            "a second hosted server has the label {}; the first is in line {first}",
            shown(&f, label)
        );
        r.error(&f, message, "give each its own `server-label`");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_the_internet_can_reach_are_public() {
        let network = Network { allow_private_hosts: vec!["Inside.example".into()], ..Network::default() };
        let private = |url: &str| not_public(&Url::parse(url).unwrap(), &network).is_some();
        for url in [
            "http://mcp.example.com/mcp",
            "https://localhost/mcp",
            "https://k8s-mcp/mcp",
            "https://mcp.tools.svc/mcp",
            "https://mcp.tools.svc.cluster.local:8443/mcp",
            "https://mcp.corp.internal./mcp",
            "https://inside.example/mcp",
            "https://10.1.2.3/mcp",
            "https://[fd00::1]/mcp",
        ] {
            assert!(private(url), "{url}");
        }
        for url in ["https://mcp.example.com/mcp", "https://8.8.8.8/mcp", "https://notlocal.example/mcp"] {
            assert!(!private(url), "{url}");
        }
    }
}
