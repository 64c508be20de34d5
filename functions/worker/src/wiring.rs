//! From settings to a worker: compiles the cards, builds the model, the tools and the sinks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sentinel_aws::SharedCredentialsProvider;
use sentinel_config::{
    self as config, AwsScope, Caller, CardPlaces, Diagnostic, HostedAt, Level, Loaded, ModelService, Place,
    Problems, Server, Settings, SinkKind,
};
use sentinel_core::card::{Card, ModelId, PromptSource, Subscription};
use sentinel_core::ports::{Clock, Ports, Sink};
use sentinel_core::price::Price;
use sentinel_http::{AddressPolicy, HttpClient, Proxy, Url};
use sentinel_investigation::ports::{Api, Model, ModelError, ToolBox};
use sentinel_investigation::{CompileProblem, EventSender, Part, Playbook, PromptPlace};
use sentinel_mcp::{Credential, Endpoint, OAuth, Program, Reach, ServerSpec, Servers};
use sentinel_model::{Auth, ForcedTurn, HostedPlace, HostedSpec, ServiceSettings, Services, Signer};
use sentinel_sinks::{
    LogSink, Matrix, MatrixSettings, Slack, SlackSettings, Teams, TeamsSettings, Webhook, WebhookSettings,
    slack,
};
use sentinel_telemetry::Metrics;
use thiserror::Error;

use crate::{EndingModels, Mind, Running, Worker};

/// Tries of one model turn.
const MODEL_ATTEMPTS: u32 = 4;
/// The wait before its second try; it doubles.
const MODEL_BACKOFF: Duration = Duration::from_millis(500);

/// The key at which [`warnings`] says that no model can be asked.
pub const NO_MODEL_AT: &str = "openai.api-key";

/// A model and tools that stand in for the configured ones: a recorded run.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// Its model.
    pub model: Arc<dyn Model>,
    /// Its tools.
    pub tools: Arc<dyn ToolBox>,
}

/// The cards, ready to run, by their names.
pub type Playbooks = BTreeMap<String, Playbook>;

/// Why a worker cannot be built.
#[derive(Clone, Debug, Error)]
pub enum AssembleError {
    /// The model's address or key.
    #[error("a service of models cannot be used: {0}")]
    Model(#[from] ModelError),
    /// A destination's settings.
    #[error("the sink {name:?} cannot be used: {why}")]
    Sink {
        /// As cards name it.
        name: String,
        /// Why not.
        why: String,
    },
}

/// Compiles the prompts, evidence calls, policies and checklists of all cards.
///
/// # Errors
/// Every problem of every card, each with its place in the configuration.
pub fn compile(loaded: &Loaded) -> Result<Arc<Playbooks>, Problems> {
    let mut playbooks = BTreeMap::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    for (index, card) in loaded.settings.cards.iter().enumerate() {
        match Playbook::compile(card) {
            Ok(playbook) => {
                let place = loaded.places.get(index).map(|places| prompt_place(card, places));
                playbooks.insert(card.name.clone(), playbook.with_prompt_at(place.unwrap_or_default()));
            }
            Err(problems) => {
                let Some(places) = loaded.places.get(index) else { continue };
                let told = |problem| {
                    let (place, message, help) = placed(places, problem);
                    place.error(message, help)
                };
                diagnostics.extend(problems.into_iter().map(told));
            }
        }
    }
    if diagnostics.is_empty() { Ok(Arc::new(playbooks)) } else { Err(Problems { diagnostics }) }
}

/// Where a card's prompt stands: in a file of its own, or in the configuration.
fn prompt_place(card: &Card, places: &CardPlaces) -> PromptPlace {
    match &card.prompt.source {
        PromptSource::File(file) => PromptPlace { file: file.clone(), before: 0 },
        PromptSource::BuiltIn(name) => PromptPlace { file: name.into(), before: 0 },
        PromptSource::Inline => {
            let before = u32::try_from(places.prompt.line).unwrap_or(u32::MAX).saturating_sub(1);
            PromptPlace { file: places.prompt.file.clone(), before }
        }
    }
}

/// What of the cards is probably not meant, each with its place in the configuration; and that nobody can be asked, where
/// that is so.
pub fn warnings(loaded: &Loaded, playbooks: &Playbooks) -> Vec<Diagnostic> {
    let can_be_asked = loaded.settings.models.services().any(ModelService::can_be_asked);
    let file = loaded.places.first().map(|places| places.name.file.clone());
    let no_model = file.filter(|_| !can_be_asked).map(|file| {
        Place { file, line: 1, column: 1, key: NO_MODEL_AT.to_owned() }.warning(
            "there is no model key: no model can be asked, and every report will hold the evidence only",
            "set OPENAI_API_KEY, or write `api-key: \"${NAME}\"`",
        )
    });
    let cards = loaded.settings.cards.iter().zip(&loaded.places);
    let of_card = |(card, places): (&Card, &CardPlaces)| {
        let warnings = playbooks.get(&card.name).map(Playbook::warnings).unwrap_or_default();
        let told = |problem| {
            let (place, message, help) = placed(places, problem);
            place.warning(message, help)
        };
        warnings.into_iter().map(told).collect::<Vec<_>>()
    };
    no_model.into_iter().chain(cards.flat_map(of_card)).collect()
}

/// Where a part of a card stands, and what is said of it.
fn placed(places: &CardPlaces, problem: CompileProblem) -> (&Place, String, String) {
    let place = match problem.part {
        Part::Prompt => Some(&places.prompt),
        Part::Evidence(i) => places.evidence.get(i),
        Part::Rule(i) => places.rules.get(i),
        Part::Policy(i) => places.policy.get(i).map(|p| &p.allow),
        Part::Allowed(i, n) => places.policy.get(i).and_then(|p| p.allowed.get(n)),
        Part::Denied(i, n) => places.policy.get(i).and_then(|p| p.denied.get(n)),
    };
    let message = match problem.line {
        Some(line) => format!("line {line} of it: {}", problem.message),
        None => problem.message,
    };
    (place.unwrap_or(&places.name), message, problem.help)
}

/// Builds a worker that handles incidents by `playbooks`, which [`compile`] made of the same cards. `credentials` are
/// the process's own, for services of models that take signatures of AWS.
///
/// # Errors
/// A model that may not be called, or a sink that cannot be told.
pub fn assemble(
    settings: &Settings,
    playbooks: Arc<Playbooks>,
    ports: Ports,
    credentials: Option<&SharedCredentialsProvider>,
    events: Option<EventSender>,
) -> Result<Worker, AssembleError> {
    let http = http_client(settings);
    let mind = mind(settings, &http, &ports.clock, credentials)?;
    let tools = Arc::new(servers(settings, &http));
    let sinks = sinks(settings, &http, &ports.clock)?;
    Ok(Worker {
        ports,
        playbooks,
        mind,
        tools,
        sinks: Arc::new(sinks),
        redactor: Arc::new(settings.redactor()),
        display: Arc::new(settings.view()),
        prices: Arc::new(prices(settings)),
        budget: settings.budget,
        max_output_tokens: settings.models.max_output_tokens,
        model_timeout: settings.models.timeout,
        events,
        running: Running::default(),
        ending: EndingModels::of(models_of(settings)),
        metrics: Metrics::off(),
    })
}

/// What each model costs that a card names, or the configuration has a price of.
fn prices(settings: &Settings) -> BTreeMap<ModelId, Price> {
    let models = &settings.models;
    let of_cards = models_of(settings).into_iter();
    let written = models.services().flat_map(|service| {
        let id = |name: &String| ModelId { service: service.name.clone(), name: name.clone() };
        service.prices.keys().map(id)
    });
    of_cards.chain(written).filter_map(|model| Some((model.clone(), models.price(&model)?))).collect()
}

/// Every model that a card names, fallbacks too.
pub fn models_of(settings: &Settings) -> BTreeSet<ModelId> {
    let cards = settings.cards.iter();
    cards.flat_map(|card| std::iter::once(&card.model).chain(&card.fallback_models)).cloned().collect()
}

/// The models, where one of their services can be asked. `credentials` are those of the process, for services that take
/// signatures of AWS.
///
/// # Errors
/// A service that may not be called, or whose key cannot be sent.
pub fn mind(
    settings: &Settings,
    http: &Arc<HttpClient>,
    clock: &Arc<dyn Clock>,
    credentials: Option<&SharedCredentialsProvider>,
) -> Result<Mind, ModelError> {
    let services = services(settings, clock, credentials)?;
    if services.is_empty() {
        return Ok(Mind::None { reason: "no model key is configured (`openai.api-key`)".to_owned() });
    }
    let hosted = settings.servers.iter().filter_map(hosted).collect();
    Ok(Mind::Model(Arc::new(Services::new(services, hosted, http)?)))
}

/// The services that can be asked.
///
/// # Errors
/// A service for which there are no credentials, or whose header cannot be one.
pub fn services(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    credentials: Option<&SharedCredentialsProvider>,
) -> Result<Vec<ServiceSettings>, ModelError> {
    let asked = settings.models.services().filter(|service| service.can_be_asked());
    let of = |service: &ModelService| {
        let key = || service.api_key.clone().unwrap_or_default();
        let refused = |why: String| ModelError::Refused(format!("{}: {why}", service.name));
        let auth = match &service.auth {
            config::Auth::Bearer => Auth::Bearer(key()),
            config::Auth::Header(name) => Auth::Header {
                name: name.parse().map_err(|_| refused(format!("{name} is no header")))?,
                key: key(),
            },
            config::Auth::Aws(AwsScope { region, service }) => {
                let credentials = credentials.cloned();
                let credentials =
                    credentials.ok_or_else(|| refused("there are no credentials of AWS here".to_owned()))?;
                Auth::Aws(Signer::new(credentials, region.clone(), service.clone(), Arc::clone(clock)))
            }
            config::Auth::None => Auth::None,
        };
        let forced = |forced: &config::ForcedTurn| match forced {
            config::ForcedTurn::Named => ForcedTurn::Named,
            config::ForcedTurn::Required => ForcedTurn::Required,
            config::ForcedTurn::Auto => ForcedTurn::Auto,
            config::ForcedTurn::Alone => ForcedTurn::Alone,
        };
        Ok(ServiceSettings {
            name: service.name.clone(),
            api: match service.api {
                config::Api::Responses => Api::Responses,
                config::Api::Chat => Api::Chat,
                config::Api::Messages => Api::Messages,
            },
            base_url: service.base_url.to_string(),
            auth,
            temperature: service.temperature,
            reasoning_effort: service.reasoning_effort.clone(),
            service_tier: service.service_tier.clone(),
            timeout: settings.models.timeout,
            attempts: MODEL_ATTEMPTS,
            backoff: MODEL_BACKOFF,
            random,
            forced_turns: service.forced_turns.iter().map(|(model, f)| (model.clone(), forced(f))).collect(),
        })
    };
    asked.map(of).collect()
}

/// A server that the model's service calls.
fn hosted(server: &Server) -> Option<HostedSpec> {
    let Caller::ModelService(at) = server.reach.caller else { return None };
    let place = match at {
        HostedAt::Url => HostedPlace::Url(server.url.as_ref()?.to_string()),
        HostedAt::Connector => HostedPlace::Connector(server.connector_id.clone()?),
        HostedAt::Tunnel => HostedPlace::Tunnel(server.tunnel_id.clone()?),
    };
    Some(HostedSpec {
        name: server.name.clone(),
        label: server.label.clone(),
        place,
        authorization: server.authorization.clone(),
        headers: server.headers.clone(),
        description: server.description.clone(),
    })
}

/// Chance for the waits between tries; without any they are as short as they may be.
fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

/// The client that all requests go through, with the network's exceptions.
pub fn http_client(settings: &Settings) -> Arc<HttpClient> {
    let network = &settings.network;
    let policy = AddressPolicy::new(&network.allow_insecure_hosts, &network.allow_private_hosts);
    let proxy = network.proxy.clone().map(|url| Proxy::new(url, network.no_proxy.clone()));
    Arc::new(HttpClient::new(policy).through(proxy))
}

/// The MCP servers that Sentinel calls itself.
pub fn servers(settings: &Settings, http: &Arc<HttpClient>) -> Servers {
    let specs = settings
        .servers
        .iter()
        .filter_map(|server| {
            Some(ServerSpec { name: server.name.clone(), reach: reach(server)?, timeout: server.timeout })
        })
        .collect();
    Servers::new(specs, http)
}

/// Where a server is; `None`: only OpenAI can call it.
fn reach(server: &Server) -> Option<Reach> {
    let Some(url) = &server.url else {
        let program = Program { command: server.command.clone(), env: server.env.clone() };
        return (!program.command.is_empty()).then_some(Reach::Program(program));
    };
    let credential = match (&server.oauth, &server.authorization) {
        (Some(oauth), _) => Credential::OAuth(OAuth {
            client_id: oauth.client_id.clone(),
            client_secret: oauth.client_secret.clone(),
            token_url: oauth.token_url.clone(),
            scopes: oauth.scopes.clone(),
        }),
        (None, Some(token)) => Credential::Token(token.clone()),
        (None, None) => Credential::None,
    };
    Some(Reach::Http(Endpoint { url: url.to_string(), headers: server.headers.clone(), credential }))
}

/// The sinks, by the names that cards use. A kind that is not built yet has none: its deliveries fail, and say so.
///
/// # Errors
/// A sink whose settings cannot be used.
pub fn sinks(
    settings: &Settings,
    http: &Arc<HttpClient>,
    clock: &Arc<dyn Clock>,
) -> Result<BTreeMap<String, Arc<dyn Sink>>, AssembleError> {
    let mut sinks: BTreeMap<String, Arc<dyn Sink>> = BTreeMap::new();
    for Subscription { sink: entry, .. } in settings.cards.iter().flat_map(|card| &card.sinks) {
        let Some(sink) = settings.sink(entry) else { continue };
        let bad = |why: &str| AssembleError::Sink { name: entry.clone(), why: why.to_owned() };
        let route = entry.split_once(':').map(|(_, route)| route.to_owned());
        let sink: Arc<dyn Sink> = match &sink.kind {
            SinkKind::Log { level } => Arc::new(LogSink::new(log_level(*level))),
            SinkKind::Webhook { url, secret } => {
                let settings = WebhookSettings { url: url.clone(), secret: secret.clone() };
                let webhook = Webhook::new(settings, Arc::clone(http), Arc::clone(clock));
                Arc::new(webhook.map_err(|why| bad(&why.to_string()))?)
            }
            SinkKind::Slack { api, token, channel } => {
                let api = api.clone().map_or_else(|| Url::parse(slack::API), Ok);
                let settings = SlackSettings {
                    api: api.map_err(|e| bad(&e.to_string()))?,
                    token: token.clone(),
                    channel: route.or_else(|| channel.clone()).ok_or_else(|| bad("it has no channel"))?,
                };
                Arc::new(Slack::new(settings, Arc::clone(http)))
            }
            SinkKind::Teams { url } => {
                Arc::new(Teams::new(TeamsSettings { url: url.clone() }, Arc::clone(http)))
            }
            SinkKind::Matrix { homeserver, token, room } => {
                let settings = MatrixSettings {
                    homeserver: homeserver.clone(),
                    token: token.clone(),
                    room: route.or_else(|| room.clone()).ok_or_else(|| bad("it has no room"))?,
                };
                Arc::new(Matrix::new(settings, Arc::clone(http)))
            }
            SinkKind::Unbuilt(_) => continue,
        };
        sinks.insert(entry.clone(), sink);
    }
    Ok(sinks)
}

fn log_level(level: Level) -> tracing::Level {
    match level {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
        Level::Trace => tracing::Level::TRACE,
    }
}
