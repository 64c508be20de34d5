//! `openai` and `model-services`: the services of models, and how each is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use sentinel_core::card::{FIRST_SERVICE, ModelId};
use sentinel_core::price::{LongRequest, Price};
use url::Url;

use super::general::{header_name, section, warn_refused};
use crate::nearest;
use crate::reader::{Field, Keys, Reader, Section, join, shown};
use crate::settings::{Api, Auth, AwsScope, ForcedTurn, ModelService, Models, Network};
use crate::tree::Value;

pub(super) const OPENAI: Keys = &[
    ("model", &["model-name"]),
    ("fallback-models", &[]),
    ("temperature", &["temp"]),
    ("base-url", &[]),
    ("api", &[]),
    ("api-key", &[]),
    ("auth", &[]),
    ("regional", &[]),
    ("reasoning-effort", &[]),
    ("max-output-tokens", &[]),
    ("service-tier", &[]),
    ("timeout", &[]),
    ("prices", &[]),
    ("models", &[]),
];
pub(super) const SERVICE: Keys = &[
    ("name", &[]),
    ("base-url", &[]),
    ("api", &[]),
    ("api-key", &[]),
    ("auth", &[]),
    ("regional", &[]),
    ("temperature", &["temp"]),
    ("reasoning-effort", &[]),
    ("service-tier", &[]),
    ("models", &[]),
];
pub(super) const AUTH: Keys = &[("header", &[]), ("aws", &[])];
pub(super) const AWS: Keys = &[("region", &[]), ("service", &[])];
pub(super) const MODEL: Keys = &[("prices", &["price"]), ("forced-turn", &[])];
pub(super) const MODEL_ID: Keys = &[("service", &[]), ("name", &["model"])];
pub(super) const PRICE: Keys =
    &[("input", &[]), ("cached-input", &[]), ("cache-write", &[]), ("output", &[]), ("long", &[])];
pub(super) const LONG: Keys = &[("above", &[]), ("input-factor", &[]), ("output-factor", &[])];

/// The model of cards that name none.
const MODEL_OF_CARDS: &str = "gpt-6.1-terra";
/// What OpenAI's API description (schema `ReasoningEffort`) lists.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
/// What it lists for `service_tier`, and Anthropic's beside `auto`.
const TIERS: &[&str] =
    &["auto", "default", "flex", "scale", "priority", "fast", "ultrafast", "standard_only"];
const APIS: &[(&str, Api)] =
    &[("responses", Api::Responses), ("chat", Api::Chat), ("messages", Api::Messages)];
const FORCED_TURNS: &[(&str, ForcedTurn)] = &[
    ("named", ForcedTurn::Named),
    ("required", ForcedTurn::Required),
    ("auto", ForcedTurn::Auto),
    ("alone", ForcedTurn::Alone),
];
const AUTH_HELP: &str = "write `bearer`, `none`, `aws`, or {header: NAME}";

/// Both sections. The first service is always there.
pub(super) fn models(r: &mut Reader<'_>, top: &Section<'_>, network: &Network) -> Models {
    let s = section(r, top.get("openai"), "openai", OPENAI);
    let mut first = service(r, &s, FIRST_SERVICE.to_owned(), network);
    if let Some(f) = s.get("prices") {
        let prices = r.free_map(&f);
        let read = |(model, f): (&str, Field<'_>)| Some((model.to_owned(), price(r, &f)?));
        first.prices.extend(prices.into_iter().filter_map(read));
    }
    let max_output_tokens = r.number_or(&s, "max-output-tokens", 16..=1_000_000, 16_000);
    let timeout = r.duration_or(&s, "timeout", Duration::from_secs(90));
    let others = others(r, top, network);
    let mut models = Models {
        default: MODEL_OF_CARDS.into(),
        fallbacks: vec![],
        max_output_tokens,
        timeout,
        first,
        others,
    };
    if let Some(model) = s.get("model").and_then(|f| model_id(r, &f, &models)) {
        models.default = model;
    }
    models.fallbacks = model_ids(r, &s, "fallback-models", &models);
    models
}

fn others(r: &mut Reader<'_>, top: &Section<'_>, network: &Network) -> Vec<ModelService> {
    let mut names = BTreeMap::new();
    let items = r.items(top, "model-services");
    let read = |field: &Field<'_>| {
        let s = r.section(field, SERVICE);
        let name = r.required_text(&s, "name", "give it a name, by which cards say whose model they mean")?;
        let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if let Some(f) = s.get("name").filter(|_| !is_word || name == FIRST_SERVICE) {
            let help =
                format!("write letters, digits and dashes; `{FIRST_SERVICE}` is the section of that name");
            r.error(&f, format!("{} cannot be its name", shown(&f, &name)), help);
            return None;
        }
        super::unique(r, &mut names, &s, &name, "service").then(|| service(r, &s, name, network))
    };
    items.iter().filter_map(read).collect()
}

/// What all services have.
fn service(r: &mut Reader<'_>, s: &Section<'_>, name: String, network: &Network) -> ModelService {
    let is_first = name == FIRST_SERVICE;
    let api = s.get("api").and_then(|f| r.choice(&f, APIS)).unwrap_or(Api::Responses);
    let written = s.get("base-url");
    if written.is_none() && !is_first && api != Api::Messages {
        r.missing(s, "base-url", "write where its API begins, such as https://host.example/v1");
    }
    let instead = format!("put the key into `{}`", join(&s.path, "api-key"));
    let base_url = written.and_then(|f| {
        let url = r.url(&f, &instead);
        url.inspect(|url| warn_refused(r, &f, url, network))
    });
    let base_url = base_url.unwrap_or_else(|| default_base_url(api));
    let auth = auth(r, s, api, &base_url);
    let api_key = match s.get("api-key") {
        Some(f) => r.secret_or_unset(&f),
        // The default is "${OPENAI_API_KEY}", as in the example.
        None if is_first && auth.takes_a_key() => {
            r.variable("OPENAI_API_KEY").map(SecretString::from).inspect(|key| r.secrets.push(key.clone()))
        }
        None => {
            if !is_first && auth.takes_a_key() {
                r.missing(
                    s,
                    "api-key",
                    "write \"${NAME}\", or `auth: none` where it needs no key, or `auth: aws`",
                );
            }
            None
        }
    };
    if let Some(f) = s.get("api-key").filter(|_| !auth.takes_a_key()) {
        r.warn(&f, "is not sent: `auth` says otherwise", "remove one of the two");
    }
    let temperature = s.get("temperature").and_then(|f| r.number(&f, &(0.0..=2.0)));
    let effort = s.get("reasoning-effort").map(|f| word(r, &f, EFFORTS));
    let tier = s.get("service-tier").map(|f| word(r, &f, TIERS));
    let (mut prices, mut forced_turns) = (BTreeMap::new(), BTreeMap::new());
    for (model, f) in s.get("models").map(|f| r.free_map(&f)).unwrap_or_default() {
        let of = r.section(&f, MODEL);
        if let Some(price) = of.get("prices").and_then(|f| price(r, &f)) {
            prices.insert(model.to_owned(), price);
        }
        if let Some(forced) = of.get("forced-turn").and_then(|f| r.choice(&f, FORCED_TURNS)) {
            forced_turns.insert(model.to_owned(), forced);
        }
    }
    ModelService {
        base_url,
        api,
        auth,
        api_key,
        regional: r.flag(s, "regional", false),
        temperature,
        reasoning_effort: effort.unwrap_or_else(|| Some("low".into())),
        service_tier: tier.unwrap_or_else(|| is_first.then(|| "auto".into())),
        prices,
        forced_turns,
        name,
    }
}

#[expect(clippy::expect_used, reason = "constants, parsed by every test that loads a configuration")]
fn default_base_url(api: Api) -> Url {
    let url = match api {
        Api::Responses | Api::Chat => "https://api.openai.com/v1",
        Api::Messages => "https://api.anthropic.com/v1",
    };
    Url::parse(url).expect("the default base URL is one")
}

/// How the service knows who asks. Anthropic's own header is the usual one of its API. What is wrong is told, and no key
/// is missing then.
fn auth(r: &mut Reader<'_>, s: &Section<'_>, api: Api, base_url: &Url) -> Auth {
    let usual = match api {
        Api::Responses | Api::Chat => Auth::Bearer,
        Api::Messages => Auth::Header("x-api-key".to_owned()),
    };
    let Some(field) = s.get("auth") else { return usual };
    if !matches!(field.node.value, Value::Map(_)) {
        #[derive(Clone, Copy)]
        enum Word {
            Bearer,
            None,
            Aws,
        }
        let words = [("bearer", Word::Bearer), ("none", Word::None), ("aws", Word::Aws)];
        return match r.choice(&field, &words) {
            Some(Word::Bearer) => Auth::Bearer,
            Some(Word::None) | None => Auth::None,
            Some(Word::Aws) => aws(r, &field, &Section::absent(&field.path), base_url).unwrap_or(Auth::None),
        };
    }
    let written = r.section(&field, AUTH);
    match (written.get("header"), written.get("aws")) {
        (Some(f), None) => {
            let name = r.text(&f).filter(|name| header_name(r, &f, name));
            name.map_or(Auth::None, |name| Auth::Header(name.to_ascii_lowercase()))
        }
        (None, Some(f)) => {
            let scope = r.section(&f, AWS);
            aws(r, &f, &scope, base_url).unwrap_or(Auth::None)
        }
        _ => {
            r.error(&field, "does not say one way", AUTH_HELP);
            Auth::None
        }
    }
}

/// Whose signature is taken: by the address of Amazon Bedrock, unless it is said.
fn aws(r: &mut Reader<'_>, field: &Field<'_>, s: &Section<'_>, base_url: &Url) -> Option<Auth> {
    let (service, region) = bedrock(base_url).unzip();
    let region = r.optional_text(s, "region").or(region);
    let service = r.optional_text(s, "service").or(service).unwrap_or_else(|| "bedrock".to_owned());
    if region.is_none() {
        r.error(
            field,
            "the region is not known: `base-url` is none of Amazon Bedrock's addresses",
            "write {aws: {region: eu-central-1}}, or a `base-url` such as \
             https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1",
        );
    }
    Some(Auth::Aws(AwsScope { region: region?, service }))
}

/// The name by which Amazon Bedrock's endpoints are signed for, and their region: `bedrock-runtime` is signed for as
/// `bedrock`, `bedrock-mantle` under its own name.
fn bedrock(url: &Url) -> Option<(String, String)> {
    let host = url.host_str()?;
    if ![".amazonaws.com", ".amazonaws.com.cn", ".api.aws"].iter().any(|end| host.ends_with(end)) {
        return None;
    }
    let mut labels = host.split('.').skip_while(|label| !label.starts_with("bedrock-"));
    let service = match labels.next()?.trim_end_matches("-fips") {
        "bedrock-runtime" => "bedrock",
        "bedrock-mantle" => "bedrock-mantle",
        _ => return None,
    };
    Some((service.to_owned(), labels.next()?.to_owned()))
}

/// A card's model: a name of the first service, or `{service, name}`.
pub(super) fn model_id(r: &mut Reader<'_>, field: &Field<'_>, models: &Models) -> Option<ModelId> {
    if !matches!(field.node.value, Value::Map(_)) {
        return r.text(field).map(|name| name.as_str().into());
    }
    let s = r.section(field, MODEL_ID);
    let name = r.required_text(&s, "name", "write the model's name, as the service knows it");
    let service = r.optional_text(&s, "service").unwrap_or_else(|| FIRST_SERVICE.to_owned());
    let names = || models.services().map(|s| s.name.as_str());
    if !names().any(|known| known == service) {
        let help = nearest(&service, names()).map_or_else(
            || "define it in `model-services`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let f = s.get("service").unwrap_or_else(|| field.clone());
        r.error(&f, format!("no service is named {}", shown(&f, &service)), help);
        return None;
    }
    Some(ModelId { service, name: name? })
}

/// A list of them.
pub(super) fn model_ids(r: &mut Reader<'_>, s: &Section<'_>, key: &str, models: &Models) -> Vec<ModelId> {
    let items = r.items(s, key);
    items.iter().filter_map(|f| model_id(r, f, models)).collect()
}

/// A word that is sent to the provider as it is; an unusual one may be right for another provider.
fn word(r: &mut Reader<'_>, field: &Field<'_>, usual: &[&str]) -> Option<String> {
    let text = r.text(field)?;
    if !usual.contains(&text.as_str()) {
        r.warn(
            field,
            "is none of the words that OpenAI knows; it is sent as it is",
            format!("usual: {}", usual.join(", ")),
        );
    }
    Some(text)
}

fn price(r: &mut Reader<'_>, field: &Field<'_>) -> Option<Price> {
    let s = r.section(field, PRICE);
    let mut amount = |key: &str| s.get(key).map(|f| r.number(&f, &(0.0..=1_000_000.0)));
    let (input, cached, output) = (amount("input"), amount("cached-input"), amount("output"));
    let cache_write = amount("cache-write");
    for (key, amount) in [("input", &input), ("output", &output)] {
        if amount.is_none() {
            r.missing(&s, key, "write the price in USD per million tokens");
        }
    }
    let long = s.get("long").map(|f| long(r, &f));
    let (input, output) = (input??, output??);
    // Without a price of its own, a cached token costs what any token costs: never too little.
    let usual = Price::new(input, cached.unwrap_or(Some(input))?, output);
    let long = match long {
        Some(long) => Some(long?),
        None => None,
    };
    Some(Price { cache_write: cache_write.unwrap_or(Some(usual.cache_write))?, long, ..usual })
}

fn long(r: &mut Reader<'_>, field: &Field<'_>) -> Option<LongRequest> {
    let s = r.section(field, LONG);
    let above = r.required(&s, "above", "write how many tokens of input cost the usual");
    let above = above.and_then(|f| r.number(&f, &(1..=100_000_000)));
    let mut factor = |key: &str| match s.get(key) {
        Some(f) => r.number(&f, &(1.0..=100.0)),
        None => Some(1.0),
    };
    let (input_factor, output_factor) = (factor("input-factor"), factor("output-factor"));
    Some(LongRequest { above: above?, input_factor: input_factor?, output_factor: output_factor? })
}
