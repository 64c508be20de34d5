//! Validated settings: what the rest of Sentinel works from.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;
use secrecy::{ExposeSecret, SecretString};
use sentinel_core::budget::Limits;
use sentinel_core::card::Card;
use sentinel_core::incident::Event;
use sentinel_core::redact::{Pattern, Redactor};
use sentinel_core::view;
use url::Url;

use crate::diagnostic::{Diagnostic, Problems};

mod models;

pub use models::{Api, Auth, AwsScope, ForcedTurn, ModelService, Models};

/// A whole configuration, defaults applied, references resolved, ranges checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `debug`: say more than usual.
    pub debug: bool,
    /// `log-level`; where it is not given, `debug: true` means [`Level::Debug`].
    pub log_level: Level,
    /// `display`: how incidents are shown.
    pub display: Display,
    /// Who may post webhooks.
    pub ingest: Ingest,
    /// Who may look at incidents and stop them, over `up`'s API.
    pub api: ApiAccess,
    /// `server`: how `up` listens, and how it ends.
    pub listener: Listener,
    /// `openai` and `model-services`.
    pub models: Models,
    /// How many at once, how often.
    pub dispatcher: Dispatcher,
    /// What all cards together may spend.
    pub budget: Limits,
    /// The incident cards, in the order in which they are tried.
    pub cards: Vec<Card>,
    /// The MCP servers.
    pub servers: Vec<Server>,
    /// Where reports go. A sink named `log` exists even if the file defines none.
    pub sinks: Vec<SinkSettings>,
    /// What is polled.
    pub watchers: Vec<Watcher>,
    /// Exceptions from the address policy.
    pub network: Network,
    /// What the redactor takes out beside what it knows.
    pub redact: Vec<Pattern>,
    /// How long transcripts are kept.
    pub audit_retention: Duration,
    /// What refers to a secret that was not given to [`crate::load_for`]: as errors, with their places.
    pub unread_secrets: Vec<Diagnostic>,
    pub(crate) secrets: Vec<SecretString>,
}

impl Settings {
    /// Refuses to go without what the operator asked for. For processes that handle alerts; `validate` only warns.
    ///
    /// # Errors
    /// Each value whose secret was not read.
    pub fn refuse_unread_secrets(&self) -> Result<(), Problems> {
        if self.unread_secrets.is_empty() {
            return Ok(());
        }
        Err(Problems { diagnostics: self.unread_secrets.clone() })
    }

    /// Every secret of the configuration, for the redactor: tokens, passwords, keys, and each header that came from
    /// the environment or is named like a credential.
    pub fn secrets(&self) -> Vec<SecretString> {
        self.secrets.clone()
    }

    /// The redactor that knows every secret of the configuration, and its patterns.
    pub fn redactor(&self) -> Redactor {
        let secrets = self.secrets.iter().map(|secret| secret.expose_secret().to_owned());
        Redactor::new(secrets).with_patterns(self.redact.clone())
    }

    /// How incidents are shown, with what the resources of cards say of their alerts.
    pub fn view(&self) -> view::Display {
        let Display { zone, link_hosts, console } = self.display.clone();
        let annotations = self.cards.iter().filter(|card| !card.resource.annotations.is_empty());
        let annotations = annotations.map(|card| (card.name.clone(), card.resource.annotations.clone()));
        view::Display { zone, link_hosts, console, annotations: annotations.collect() }
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|s| s.name == name)
    }

    /// The sink that a card's entry names: `name`, or `name:route`.
    pub fn sink(&self, entry: &str) -> Option<&SinkSettings> {
        let name = entry.split_once(':').map_or(entry, |(name, _)| name);
        self.sinks.iter().find(|s| s.name == name)
    }
}

/// How incidents are shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Display {
    /// The zone in which times are told.
    pub zone: TimeZone,
    /// Hosts to which links of tools' outputs may lead, and all below them.
    pub link_hosts: Vec<String>,
    /// Where the pages are served; `None`: nothing links to them.
    pub console: Option<Url>,
}

/// A log level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Failures.
    Error,
    /// What a person should look at.
    Warn,
    /// What happened.
    Info,
    /// What was decided, and why.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// As tracing's filters spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Who may post webhooks. Any one of the credentials is enough.
#[derive(Clone, Default, Debug)]
pub struct Ingest {
    /// Nobody needs credentials; must be said in words.
    pub allow_anonymous: bool,
    /// Bearer tokens; several while they are rotated. Never empty strings.
    pub bearer: Vec<SecretString>,
    /// User and password.
    pub basic: Vec<(String, SecretString)>,
    /// Header name (lower case) and value.
    pub header: Vec<(String, SecretString)>,
    /// Grafana's signature.
    pub hmac: Vec<Hmac>,
    /// ARNs of topics of Amazon SNS, whose signature of a message is a credential.
    pub sns: Vec<String>,
}

/// How a webhook's body is signed: hexadecimal HMAC-SHA256, as Grafana's webhook contact point does.
#[derive(Clone, Debug)]
pub struct Hmac {
    /// The shared key.
    pub secret: SecretString,
    /// The header with the signature (lower case).
    pub header: String,
    /// The header with the time in Unix seconds (lower case). `None`: the file names none, so that a signature without
    /// a time is taken too.
    pub timestamp_header: Option<String>,
}

impl Ingest {
    /// Whether any credential is configured.
    pub const fn has_credentials(&self) -> bool {
        let Self { allow_anonymous: _, bearer, basic, header, hmac, sns } = self;
        let none = bearer.is_empty() && basic.is_empty() && header.is_empty();
        !(none && hmac.is_empty() && sns.is_empty())
    }
}

/// `api`: who may use `up`'s API besides its own command line.
#[derive(Clone, Default, Debug)]
pub struct ApiAccess {
    /// Whoever may look.
    pub read: Vec<ApiToken>,
    /// Whoever may look, and stop investigations.
    pub operate: Vec<ApiToken>,
}

impl ApiAccess {
    /// Whether anybody is named.
    pub const fn is_configured(&self) -> bool {
        !(self.read.is_empty() && self.operate.is_empty())
    }
}

/// A bearer token of the API.
#[derive(Clone, Debug)]
pub struct ApiToken {
    /// Whose it is, for the record; where nobody says, its place in the file: `api.operate[0]`.
    pub name: String,
    /// The token. Never empty, and none of the webhook's.
    pub token: SecretString,
}

/// How `up` listens, and how it ends.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Connections at once, 16 to 100,000; `None`: as many as the process may well have.
    pub max_connections: Option<usize>,
    /// The longest that an end may take that was asked for, at least 1 s; then it is cut off.
    pub drain: Duration,
    /// Host names by which it is asked. On a loopback address its own names need not be said.
    pub hosts: Vec<String>,
    /// The origins of web pages that may ask it, as browsers write them.
    pub origins: Vec<String>,
}

/// How many at once, how often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dispatcher {
    /// The shortest time between two generations of one incident, 10 s to 1 h.
    pub dedupe_ttl: Duration,
    /// Investigations at once in one process, 1 to 32.
    pub worker_concurrency: usize,
    /// 1 to 1000. Accepted for compatibility: the store holds what waits.
    pub queue_size: usize,
}

/// `mode`: how an MCP server is to be reached. What it comes to is [`Reach`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The model's service calls it.
    Hosted,
    /// Sentinel calls it.
    Direct,
    /// As fits: hosted where OpenAI can reach it, else direct.
    Auto,
}

/// Who makes the model's calls to an MCP server, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reach {
    /// Who.
    pub caller: Caller,
    /// Why, for `validate`.
    pub why: String,
}

/// Who makes the model's calls to an MCP server. A card's own evidence calls are always Sentinel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// The model's service, each time with the leave of Sentinel's tool policy.
    ModelService(HostedAt),
    /// Sentinel.
    Sentinel,
}

/// Where the model's service finds a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostedAt {
    /// At its `server-url`.
    Url,
    /// Behind its `connector-id`.
    Connector,
    /// Behind its `tunnel-id`.
    Tunnel,
}

/// Whether a person is to be asked before a call. None is: Sentinel's own tool policy answers in any case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequireApproval {
    /// For every tool.
    Always,
    /// For none.
    Never,
    /// By tool.
    PerTool {
        /// For these.
        always: Vec<String>,
        /// For none of these.
        never: Vec<String>,
    },
}

/// An MCP server: an address, a connector, a tunnel or a program.
#[derive(Clone)]
pub struct Server {
    /// How cards name it: `name.tool`.
    pub name: String,
    /// What OpenAI is told it is called; the name, unless given.
    pub label: String,
    /// Streamable HTTP endpoint.
    pub url: Option<Url>,
    /// OpenAI's connector.
    pub connector_id: Option<String>,
    /// OpenAI's tunnel.
    pub tunnel_id: Option<String>,
    /// A program that speaks MCP on its standard input and output, with its arguments; empty: none.
    pub command: Vec<String>,
    /// What that program finds in its environment, besides what every program needs.
    pub env: Vec<(String, SecretString)>,
    /// How it is to be reached, as written.
    pub mode: Mode,
    /// What that comes to.
    pub reach: Reach,
    /// What `name` or `name.*` in a card's `tools` means.
    pub default_allowed_tools: Vec<String>,
    /// Sent with each request.
    pub headers: Vec<(String, SecretString)>,
    /// The access token as written: a value without a scheme is a bearer token.
    pub authorization: Option<SecretString>,
    /// Where an access token comes from, instead.
    pub oauth: Option<OAuth>,
    /// Whether a person is to be asked.
    pub require_approval: RequireApproval,
    /// The longest one call may take.
    pub timeout: Duration,
    /// For the model.
    pub description: Option<String>,
}

impl Server {
    /// Whether nobody but the model's service can call it.
    pub const fn is_hosted_only(&self) -> bool {
        let hosted = self.connector_id.is_some() || self.tunnel_id.is_some();
        hosted && self.url.is_none() && self.command.is_empty()
    }
}

/// OAuth 2.0 client credentials.
#[derive(Clone, Debug)]
pub struct OAuth {
    /// The client's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: SecretString,
    /// Who gives tokens.
    pub token_url: Url,
    /// What is asked for; empty: whatever the client may have.
    pub scopes: Vec<String>,
}

/// Without the address's query, which may hold a key.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.as_ref().and_then(Url::host_str);
        f.debug_struct("Server").field("name", &self.name).field("host", &host).finish_non_exhaustive()
    }
}

/// Where reports go.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// How cards name it: `name`, or `name:route`.
    pub name: String,
    /// What it is.
    pub kind: SinkKind,
    /// What it is told.
    pub events: BTreeSet<Event>,
}

/// What a sink is.
#[derive(Clone)]
pub enum SinkKind {
    /// The process's log.
    Log {
        /// At this level.
        level: Level,
    },
    /// An HTTP address that takes JSON.
    Webhook {
        /// The address. Its path may be a credential.
        url: Url,
        /// What bodies are signed with; `None`: they are not.
        secret: Option<SecretString>,
    },
    /// A Slack workspace.
    Slack {
        /// Where its API is, with a slash at the end; `None`: where Slack's is.
        api: Option<Url>,
        /// The bot's token.
        token: SecretString,
        /// The channel of cards that name none (`slack`, not `slack:CHANNEL`).
        channel: Option<String>,
    },
    /// A workflow of Microsoft Teams.
    Teams {
        /// Its address, which is a credential as a whole.
        url: Url,
    },
    /// A Matrix room.
    Matrix {
        /// Where the homeserver's API is.
        homeserver: Url,
        /// The account's access token.
        token: SecretString,
        /// The room's id, for cards that name none (`room`, not `room:!ID`).
        room: Option<String>,
    },
    /// A type that is accepted and not built yet, by its name in the file, e.g. `jira`.
    Unbuilt(String),
}

impl fmt::Debug for SinkKind {
    /// Without addresses and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log { level } => f.debug_struct("Log").field("level", level).finish(),
            Self::Webhook { url, .. } => {
                f.debug_struct("Webhook").field("host", &url.host_str()).finish_non_exhaustive()
            }
            Self::Slack { channel, .. } => {
                f.debug_struct("Slack").field("channel", channel).finish_non_exhaustive()
            }
            Self::Teams { url } => {
                f.debug_struct("Teams").field("host", &url.host_str()).finish_non_exhaustive()
            }
            Self::Matrix { room, .. } => f.debug_struct("Matrix").field("room", room).finish_non_exhaustive(),
            Self::Unbuilt(kind) => f.debug_tuple("Unbuilt").field(kind).finish(),
        }
    }
}

/// What a watcher asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatcherKind {
    /// A Prometheus, or what speaks its HTTP API.
    Prometheus,
    /// An Alertmanager, or what speaks its API v2.
    Alertmanager,
}

impl WatcherKind {
    /// As the file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prometheus => "prometheus",
            Self::Alertmanager => "alertmanager",
        }
    }
}

/// Something that is polled for alerts.
#[derive(Clone, PartialEq, Eq)]
pub struct Watcher {
    /// Its name.
    pub name: String,
    /// What it asks.
    pub kind: WatcherKind,
    /// The server's address as written, with or without its API's path.
    pub endpoint: Url,
    /// Time between two polls of `up`; on Lambda a schedule says, a minute at least.
    pub poll_interval: Duration,
    /// The longest one poll may take.
    pub timeout: Duration,
    /// The resources that it looks for; empty: all.
    pub resources: Vec<String>,
}

/// Without the address's query, which may hold a key.
impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.endpoint.host_str();
        f.debug_struct("Watcher").field("name", &self.name).field("host", &host).finish_non_exhaustive()
    }
}

/// The way out, and exceptions from the address policy, by exact host name or address.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Plain http is allowed to these.
    pub allow_insecure_hosts: Vec<String>,
    /// These may resolve to loopback and private addresses.
    pub allow_private_hosts: Vec<String>,
    /// What requests go through. Its address may carry a user and a password.
    pub proxy: Option<Url>,
    /// What goes past it: names (and all below them), addresses, networks.
    pub no_proxy: Vec<String>,
}

/// The proxy's host only.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("allow_insecure_hosts", &self.allow_insecure_hosts)
            .field("allow_private_hosts", &self.allow_private_hosts)
            .field("proxy", &self.proxy.as_ref().and_then(Url::host_str))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}
