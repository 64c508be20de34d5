//! Settings, requests and a client for the loopback.

use std::sync::Arc;
use std::time::Duration;

use sentinel_core::card::FIRST_SERVICE;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{Api, HostedServer, Item, ToolSpec, TurnRequest, TurnResponse};
use sentinel_model::{Auth, HostedPlace, HostedSpec, ServiceSettings, Services};
use sentinel_testkit::openai::ScriptedOpenAi;
use serde_json::json;

pub(crate) const KEY: &str = "sk-test-1234567890";
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) fn settings(api: Api, base_url: &str) -> ServiceSettings {
    ServiceSettings {
        name: FIRST_SERVICE.to_owned(),
        api,
        base_url: base_url.to_owned(),
        auth: Auth::Bearer(KEY.into()),
        temperature: Some(0.2),
        reasoning_effort: Some("low".to_owned()),
        service_tier: Some("auto".to_owned()),
        timeout: Duration::from_secs(30),
        attempts: 3,
        backoff: Duration::from_millis(1),
        random: || 500,
        forced_turns: [].into(),
    }
}

pub(crate) fn loopback() -> Arc<HttpClient> {
    Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])))
}

pub(crate) fn by(settings: ServiceSettings, hosted: Vec<HostedSpec>) -> Services {
    Services::new(vec![settings], hosted, &loopback()).unwrap()
}

pub(crate) fn responses(server: &ScriptedOpenAi) -> Services {
    by(settings(Api::Responses, &server.base_url()), vec![])
}

/// The answer of a model as the next request holds it.
pub(crate) fn answered_by(model: &str, answer: &TurnResponse) -> Item {
    Item::Response { asked: model.into(), api: answer.api, outputs: answer.outputs.clone() }
}

pub(crate) fn request(name: &str, input: Vec<Item>) -> TurnRequest {
    TurnRequest {
        model: name.into(),
        instructions: "You investigate.".to_owned(),
        input,
        tools: vec![ToolSpec {
            name: "k8s__pods_get".to_owned(),
            description: "One pod.".to_owned(),
            parameters: json!({"type": "object", "properties": {"name": {"type": "string"}}}),
        }],
        hosted: vec![],
        max_hosted_calls: 16,
        force: None,
        max_output_tokens: 4096,
        cache_key: "incident-1".to_owned(),
    }
}

pub(crate) fn task() -> Vec<Item> {
    vec![Item::User { text: "KubePodNotReady in web".to_owned() }]
}

/// A hosted server as the configuration has it.
pub(crate) fn spec(name: &str, place: HostedPlace) -> HostedSpec {
    HostedSpec {
        name: name.to_owned(),
        label: format!("{name}-label"),
        place,
        authorization: None,
        headers: vec![],
        description: None,
    }
}

/// A hosted server as a request offers it.
pub(crate) fn hosted(server: &str, tools: &[&str]) -> HostedServer {
    HostedServer {
        server: server.to_owned(),
        label: format!("{server}-label"),
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
    }
}
