//! Whatever takes an address from the configuration goes by the address policy, however the address is written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sentinel_config::{Watcher as WatcherSettings, WatcherKind};
use sentinel_core::card::FIRST_SERVICE;
use sentinel_core::incident::Event;
use sentinel_core::ports::{Ports, Sink, Telling};
use sentinel_core::redact::Redactor;
use sentinel_http::dns::{Addrs, Name, Resolve, Resolving};
use sentinel_http::{AddressPolicy, HttpClient, Url};
use sentinel_investigation::ports::{Api, ModelError, ToolBox};
use sentinel_local::LocalQueue;
use sentinel_mcp::{Credential, Endpoint, OAuth, Reach, ServerSpec, Servers};
use sentinel_model::{Auth, ServiceSettings, Services};
use sentinel_sinks::{
    Matrix, MatrixSettings, Slack, SlackSettings, Teams, TeamsSettings, Webhook, WebhookSettings,
};
use sentinel_testkit::builders::{beside, card, head, report};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::memory::MemoryStore;
use sentinel_testkit::spellings;
use sentinel_watcher::Watcher;
use tokio::net::TcpListener;

/// Every name is a name of this machine.
struct Here;

impl Resolve for Here {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
        Box::pin(async move { Ok(addresses) })
    }
}

async fn tools_of(http: &Arc<HttpClient>, url: &str, credential: Credential) -> Result<(), String> {
    let endpoint = Endpoint { url: url.to_owned(), headers: vec![], credential };
    let spec = ServerSpec {
        name: "there".to_owned(),
        reach: Reach::Http(endpoint),
        timeout: Duration::from_secs(5),
    };
    let listed = Servers::new(vec![spec], http).list("there", Duration::from_secs(5)).await;
    listed.map(|_| ()).map_err(|e| e.to_string())
}

async fn told(sink: &dyn Sink) -> Result<(), String> {
    let telling = Telling {
        event: Event::Findings,
        head: head("0f3a"),
        notification: None,
        report: Some(report()),
        beside: beside(),
        listed: vec![],
        idempotency_key: "0f3a-1-findings-hook-".to_owned(),
        remote: None,
        parent: None,
    };
    sink.tell(&telling).await.map(|_| ()).map_err(|e| e.to_string())
}

async fn polled(http: &Arc<HttpClient>, url: &Url, kind: WatcherKind) -> Result<(), String> {
    let clock = Arc::new(ManualClock::default());
    let (queue, _) = LocalQueue::new(Arc::<ManualClock>::clone(&clock));
    let ports = Ports {
        store: Arc::new(MemoryStore::default()),
        queue: Arc::new(queue),
        clock,
        fresh: Arc::new(|| "writer".to_owned()),
        signing_key: None,
    };
    let settings = WatcherSettings {
        name: "there".to_owned(),
        kind,
        endpoint: url.clone(),
        poll_interval: Duration::from_secs(15),
        timeout: Duration::from_secs(5),
        resources: vec![],
    };
    let mut watcher = Watcher::new(
        settings,
        Arc::clone(http),
        ports,
        Arc::from([card("any").build()]),
        Redactor::default(),
    );
    watcher.poll().await.map(|_| ()).map_err(|e| e.to_string())
}

fn model(base_url: &str, http: &Arc<HttpClient>) -> [Result<(), ModelError>; 2] {
    [Api::Responses, Api::Chat].map(|api| {
        let settings = ServiceSettings {
            name: FIRST_SERVICE.to_owned(),
            api,
            base_url: base_url.to_owned(),
            auth: Auth::Bearer("k".into()),
            temperature: None,
            reasoning_effort: None,
            service_tier: None,
            timeout: Duration::from_secs(5),
            attempts: 1,
            backoff: Duration::from_millis(1),
            random: || 0,
            forced_turns: [].into(),
        };
        Services::new(vec![settings], vec![], http).map(|_| ())
    })
}

#[tokio::test]
async fn servers_token_endpoints_sinks_watchers_and_models_are_held_to_the_address_policy_in_every_spelling()
{
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = trap.local_addr().unwrap().port();
    let http = Arc::new(HttpClient::with_names(AddressPolicy::default(), Arc::new(Here)));
    for written in spellings::not_public(port) {
        let Ok(url) = Url::parse(&written) else { continue };
        let by_address = http.check_url(&url).is_err();
        let oauth = Credential::OAuth(OAuth {
            client_id: "id".to_owned(),
            client_secret: "secret".into(),
            token_url: url.clone(),
            scopes: vec![],
        });
        let webhook = WebhookSettings { url: url.clone(), secret: None };
        let webhook = Webhook::new(webhook, Arc::clone(&http), Arc::new(ManualClock::default())).unwrap();
        let slack = SlackSettings { api: url.clone(), token: "xoxb".into(), channel: "C1".to_owned() };
        let teams = TeamsSettings { url: url.clone() };
        let matrix =
            MatrixSettings { homeserver: url.clone(), token: "syt".into(), room: "!r:m.example".to_owned() };
        for (what, refused) in [
            ("server", tools_of(&http, &written, Credential::None).await),
            ("token endpoint", tools_of(&http, "https://mcp.example/mcp", oauth).await),
            ("webhook", told(&webhook).await),
            ("slack", told(&Slack::new(slack, Arc::clone(&http))).await),
            ("teams", told(&Teams::new(teams, Arc::clone(&http))).await),
            ("matrix", told(&Matrix::new(matrix, Arc::clone(&http))).await),
            ("watcher of a Prometheus", polled(&http, &url, WatcherKind::Prometheus).await),
            ("watcher of an Alertmanager", polled(&http, &url, WatcherKind::Alertmanager).await),
        ] {
            assert!(refused.is_err(), "{what} at {written:?}");
        }
        // A name is looked up at the first request.
        for built in model(&written, &http) {
            assert_eq!(built.is_err(), by_address, "model at {written:?}");
        }
    }
    let met = tokio::time::timeout(Duration::ZERO, trap.accept()).await;
    assert!(met.is_err(), "somebody connected: {met:?}");
}
