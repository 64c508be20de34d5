//! The services of models, and how each is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use sentinel_core::card::ModelId;
use sentinel_core::price::{self, Price};
use url::Url;

/// Which interface a service of models speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// OpenAI's `POST /responses`.
    Responses,
    /// OpenAI's `POST /chat/completions`, which many others speak. It hosts no MCP servers.
    Chat,
    /// Anthropic's `POST /messages`. No MCP servers are handed to it.
    Messages,
}

/// How a turn that has to call one function says so to a model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForcedTurn {
    /// The choice names the function.
    Named,
    /// Some function has to be called.
    Required,
    /// The model chooses, and is told in words.
    Auto,
    /// No other function is offered.
    Alone,
}

/// How a service knows who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Auth {
    /// `Authorization: Bearer`, and the key.
    Bearer,
    /// The key in a header of this name, in lower case.
    Header(String),
    /// Each request is signed with the process's own credentials of AWS.
    Aws(AwsScope),
    /// It does not ask.
    None,
}

impl Auth {
    /// Whether a key is sent.
    pub const fn takes_a_key(&self) -> bool {
        matches!(self, Self::Bearer | Self::Header(_))
    }
}

/// What a signature of AWS is made for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwsScope {
    /// E.g. `eu-central-1`.
    pub region: String,
    /// The service's signing name: `bedrock`, `bedrock-mantle`.
    pub service: String,
}

/// The models, and the services that have them.
#[derive(Clone, Debug)]
pub struct Models {
    /// The model of cards that name none.
    pub default: ModelId,
    /// Asked in turn when it is out, for cards that name neither a model nor fallbacks.
    pub fallbacks: Vec<ModelId>,
    /// The most tokens of one answer, reasoning included.
    pub max_output_tokens: u32,
    /// The longest one call may take.
    pub timeout: Duration,
    /// `openai`.
    pub first: ModelService,
    /// `model-services`.
    pub others: Vec<ModelService>,
}

impl Models {
    /// All services, `openai` first.
    pub fn services(&self) -> impl Iterator<Item = &ModelService> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The service of a model.
    pub fn service(&self, model: &ModelId) -> Option<&ModelService> {
        self.services().find(|service| service.name == model.service)
    }

    /// What a model costs, as far as it is known.
    pub fn price(&self, model: &ModelId) -> Option<Price> {
        self.service(model)?.price(&model.name)
    }
}

/// A service of models, and how it is asked.
#[derive(Clone, Debug)]
pub struct ModelService {
    /// As cards name it; [`sentinel_core::card::FIRST_SERVICE`] is `openai`.
    pub name: String,
    /// Where its API begins, as written. Its query is sent with each request.
    pub base_url: Url,
    /// Which interface.
    pub api: Api,
    /// How it knows who asks.
    pub auth: Auth,
    /// `None`: none is configured, or its variable is not set.
    pub api_key: Option<SecretString>,
    /// It answers within one region, which costs a tenth more.
    pub regional: bool,
    /// 0 to 2, where one is written; left out for models that refuse it.
    pub temperature: Option<f64>,
    /// Sent as it is; left out for models that refuse it.
    pub reasoning_effort: Option<String>,
    /// Sent as it is.
    pub service_tier: Option<String>,
    /// The prices that the file names, by model. They win over those that are built in.
    pub prices: BTreeMap<String, Price>,
    /// How a model is told that it has to call one function, where the file says so.
    pub forced_turns: BTreeMap<String, ForcedTurn>,
}

impl ModelService {
    /// Whether the service is OpenAI itself: others are not trusted to host MCP servers unless the file says so.
    pub fn is_openai(&self) -> bool {
        self.base_url.host_str().is_some_and(|host| host == "openai.com" || host.ends_with(".openai.com"))
    }

    /// Whether it can be asked: it has a key, or needs none.
    pub const fn can_be_asked(&self) -> bool {
        self.api_key.is_some() || !self.auth.takes_a_key()
    }

    /// What a model costs: what the file says, or the list price, with what a region costs more.
    pub fn price(&self, model: &str) -> Option<Price> {
        let list =
            || price::built_in(model).map(|price| if self.regional { price.regional() } else { price });
        self.prices.get(model).copied().or_else(list)
    }
}
