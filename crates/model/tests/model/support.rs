//! Settings, requests and a client for the loopback.

use std::sync::Arc;
use std::time::Duration;

use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{Item, ToolSpec, TurnRequest};
use sentinel_model::{ModelSettings, Responses};
use sentinel_testkit::openai::ScriptedOpenAi;
use serde_json::json;

pub(crate) const KEY: &str = "sk-test-1234567890";
pub(crate) const LONG: Duration = Duration::from_mins(1);

pub(crate) fn settings(base_url: &str) -> ModelSettings {
    ModelSettings {
        base_url: base_url.to_owned(),
        api_key: KEY.into(),
        temperature: Some(0.2),
        reasoning_effort: Some("low".to_owned()),
        max_output_tokens: Some(4096),
        service_tier: Some("auto".to_owned()),
        timeout: Duration::from_secs(30),
        attempts: 3,
        backoff: Duration::from_millis(1),
        random: || 500,
    }
}

pub(crate) fn loopback() -> Arc<HttpClient> {
    Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])))
}

pub(crate) fn responses(server: &ScriptedOpenAi) -> Responses {
    Responses::new(settings(&server.base_url()), vec![], loopback()).unwrap()
}

pub(crate) fn request(name: &str, input: Vec<Item>) -> TurnRequest {
    TurnRequest {
        model: name.to_owned(),
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
        cache_key: "incident-1".to_owned(),
    }
}

pub(crate) fn task() -> Vec<Item> {
    vec![Item::User { text: "KubePodNotReady in web".to_owned() }]
}
