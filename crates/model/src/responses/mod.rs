//! The Responses API (`POST /responses`). Its answers are read as raw JSON: async-openai's typed output item has no
//! catch-all, and one item of a kind that it does not know would lose a paid answer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use sentinel_http::HttpClient;
use sentinel_investigation::ports::{Item, Model, ModelError, TurnRequest, TurnResponse};

pub(crate) mod answer;
pub(crate) mod request;

use crate::service::{Api, Failed, ModelSettings, Service};

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
    fn secrets(&self) -> Vec<SecretString> {
        let token = |value: &SecretString| {
            let (_, token) = value.expose_secret().trim().split_once(' ')?;
            Some(SecretString::from(token.trim()))
        };
        let values = self.authorization.iter().chain(self.headers.iter().map(|(_, value)| value));
        values.flat_map(|value| token(value).into_iter().chain([value.clone()])).collect()
    }
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

/// A model behind the Responses API.
#[derive(Debug)]
pub struct Responses {
    service: Service,
    hosted: BTreeMap<String, HostedSpec>,
}

impl Responses {
    /// A model as `settings` describe it, called through `http`, whose service calls the `hosted` servers. Fails where
    /// the base URL may not be called or the key cannot be a header. Nothing is loaded or called yet.
    pub fn new(
        settings: ModelSettings,
        hosted: Vec<HostedSpec>,
        http: Arc<HttpClient>,
    ) -> Result<Self, ModelError> {
        let secrets = hosted.iter().flat_map(HostedSpec::secrets);
        let service = Service::new(settings, secrets.collect(), http)?;
        let hosted = hosted.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        Ok(Self { service, hosted })
    }
}

#[async_trait]
impl Model for Responses {
    async fn respond(&self, request: &TurnRequest, within: Duration) -> Result<TurnResponse, ModelError> {
        let body = request::body(&self.service.settings, &self.hosted, request);
        let asked = self.service.ask(Api::Responses, &request.model, &body, within, answer::read);
        asked.await.map_err(|failed| told(failed, request))
    }

    fn hosts(&self, server: &str) -> Option<String> {
        self.hosted.get(server).map(|spec| spec.label.clone())
    }
}

/// A hosted server that is out fails the whole request: which one it is, stands in the text only.
fn told(failed: Failed, request: &TurnRequest) -> ModelError {
    if let Some(reason) = failed.failure.hosted_server_out().filter(|_| !request.hosted.is_empty()) {
        let all = || request.hosted.iter().map(|h| h.label.clone());
        let named: Vec<String> = all().filter(|label| reason.contains(&format!("'{label}'"))).collect();
        let labels = if named.is_empty() { all().collect() } else { named };
        return ModelError::ServersOut { labels, reason: reason.to_owned() };
    }
    let answers = request.input.iter().any(|item| matches!(item, Item::Approval(_)));
    if let Some(reason) = failed.failure.approval_refused().filter(|_| answers && !request.hosted.is_empty())
    {
        let labels = request.hosted.iter().map(|h| h.label.clone()).collect();
        return ModelError::ServersOut { labels, reason: format!("an approval was not taken: {reason}") };
    }
    failed.failure.into_model_error(failed.tries, failed.billed)
}
