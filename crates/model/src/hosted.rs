//! MCP servers that a model's service calls itself.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use sentinel_investigation::ports::HostedCall;
use serde_json::Value;

/// Where the model's service finds a hosted MCP server.
#[derive(Clone, PartialEq, Eq)]
pub enum HostedPlace {
    /// A public address.
    Url(String),
    /// One of the service's own connectors, e.g. `connector_googledrive`.
    Connector(String),
    /// A tunnel to a private server, `tunnel_…`.
    Tunnel(String),
}

/// An MCP server that the model's service calls.
#[derive(Clone)]
pub struct HostedSpec {
    /// How cards name it.
    pub name: String,
    /// How the service is to name it.
    pub label: String,
    /// Where it is.
    pub place: HostedPlace,
    /// An access token, sent anew with each request: the service does not keep it.
    pub authorization: Option<SecretString>,
    /// Headers that the service sends to it.
    pub headers: Vec<(String, SecretString)>,
    /// What it is, for the model.
    pub description: Option<String>,
}

impl HostedSpec {
    /// What must not stand in an error: the values, and a token without its scheme, as the service is sent it.
    pub(crate) fn secrets(&self) -> Vec<SecretString> {
        let token = |value: &SecretString| {
            let (_, token) = value.expose_secret().trim().split_once(' ')?;
            Some(SecretString::from(token.trim()))
        };
        let values = self.authorization.iter().chain(self.headers.iter().map(|(_, value)| value));
        values.flat_map(|value| token(value).into_iter().chain([value.clone()])).collect()
    }
}

/// A call that one service made, in words for another, which has no items for it.
pub(crate) fn in_words(call: &HostedCall) -> String {
    let HostedCall { label, tool, arguments, output, error, .. } = call;
    let given = output.as_deref().filter(|output| !output.is_empty()).or(error.as_deref());
    let given = given.unwrap_or("The call failed.");
    format!("{label}.{tool} {arguments} was called:\n{given}")
}

/// What stands where a hosted call was answered whose request a service is not sent.
pub(crate) const NOT_MADE_HERE: &str = "No hosted server can be called here. Go on with the functions.";

/// Whether the model has the last word. Messages that end so are taken for the beginning of its answer, or refused.
pub(crate) fn ends_with_the_model(messages: &[Value]) -> bool {
    messages.last().and_then(|last| last.get("role")).is_some_and(|role| role == "assistant")
}

/// Without the address, whose query may hold a key.
impl fmt::Debug for HostedSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostedSpec")
            .field("name", &self.name)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}
