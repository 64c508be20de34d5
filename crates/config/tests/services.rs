//! Services of models: what is read, what is refused with its place, and what is warned about.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use sentinel_config::{Api, Auth, AwsScope, ForcedTurn, Settings, load};
use sentinel_core::card::ModelId;
use support::{env, problems, source, warnings};

fn settings(text: &str) -> Settings {
    load(&source(text), &env).unwrap().settings
}

fn model(service: &str, name: &str) -> ModelId {
    ModelId { service: service.into(), name: name.into() }
}

const SERVICES: &str = "openai: {api-key: '${TOKEN}'}\n\
    model-services:\n\
    - {name: claude, api: messages, api-key: '${TOKEN}'}\n\
    - {name: azure, base-url: 'https://x.openai.azure.com/openai/deployments/d?api-version=2025-04-01', api: chat, \
       auth: {header: API-Key}, api-key: '${TOKEN}', temperature: 0.5, regional: true}\n\
    - {name: local, base_url: 'https://llm.example/v1', api: chat, auth: none, \
       models: {llama: {prices: {input: 0, output: 0}, forced_turn: auto}}}\n\
    - {name: runtime, base-url: 'https://bedrock-runtime.eu-central-1.amazonaws.com/openai/v1', auth: aws}\n\
    - {name: mantle, base-url: 'https://bedrock-mantle.us-east-1.api.aws/openai/v1', auth: aws}\n\
    - {name: vpc, base-url: 'https://vpce-1-ab.bedrock-runtime.us-west-2.vpce.amazonaws.com/openai/v1', auth: aws}\n\
    - {name: proxy, base-url: 'https://signed.example/v1', auth: {aws: {region: eu-west-1, service: other}}}\n";

#[test]
fn each_service_is_asked_as_it_is_written() {
    let s = settings(SERVICES).models;
    let of = |name: &str| s.services().find(|service| service.name == name).unwrap();
    let claude = of("claude");
    assert_eq!((claude.api, claude.base_url.as_str()), (Api::Messages, "https://api.anthropic.com/v1"));
    assert_eq!(
        claude.auth,
        Auth::Header("x-api-key".into()),
        "Anthropic's own header, unless another is named"
    );
    let azure = of("azure");
    assert_eq!((azure.auth.clone(), azure.temperature), (Auth::Header("api-key".into()), Some(0.5)));
    assert_eq!(azure.base_url.query(), Some("api-version=2025-04-01"));
    let local = of("local");
    assert!(local.auth == Auth::None && local.can_be_asked() && local.api_key.is_none());
    assert_eq!(local.forced_turns["llama"], ForcedTurn::Auto);
    let aws =
        |region: &str, service: &str| Auth::Aws(AwsScope { region: region.into(), service: service.into() });
    assert_eq!(of("runtime").auth, aws("eu-central-1", "bedrock"));
    assert_eq!(of("mantle").auth, aws("us-east-1", "bedrock-mantle"));
    assert_eq!(of("vpc").auth, aws("us-west-2", "bedrock"));
    assert_eq!(of("proxy").auth, aws("eu-west-1", "other"));
    assert_eq!((of("openai").auth.clone(), of("openai").can_be_asked()), (Auth::Bearer, true));
}

#[test]
fn the_files_own_price_wins_and_a_region_costs_a_tenth_more() {
    let text = "openai: {regional: true, prices: {gpt-6-luna: {input: 7, output: 8}}}\n\
        model-services: [{name: a, api: messages, auth: none, \
        models: {m: {prices: {input: 2, cached-input: 1, cache-write: 3, output: 4, long: {above: 10, input-factor: 2}}}}}]";
    let s = settings(text).models;
    let luna = s.price(&model("openai", "gpt-6-luna")).unwrap();
    assert_eq!((luna.input, luna.cached_input, luna.cache_write, luna.output), (7.0, 7.0, 8.75, 8.0));
    let terra = s.price(&model("openai", "gpt-6.1-terra")).unwrap();
    assert!((terra.input - 1.1).abs() < 1e-9 && (terra.output - 5.5).abs() < 1e-9);
    assert_eq!(terra.long.unwrap().above, 272_000);
    let m = s.price(&model("a", "m")).unwrap();
    assert_eq!((m.cached_input, m.cache_write), (1.0, 3.0));
    assert_eq!(m.long.map(|l| (l.above, l.input_factor, l.output_factor)), Some((10, 2.0, 1.0)));
    assert!(s.price(&model("a", "claude-haiku-5-5")).is_some() && s.price(&model("a", "other")).is_none());
    assert!(s.price(&model("nowhere", "gpt-6-luna")).is_none());
}

#[test]
fn a_card_names_models_of_any_service_and_takes_both_defaults_or_none() {
    let cards = "openai: {model: {service: b, name: base}, fallback_models: [gpt-6-luna]}\n\
        model_services: [{name: b, base-url: 'https://b.example/v1', auth: none}]\n\
        incident-cards:\n\
        - {name: none, resource: R, prompt: look}\n\
        - {name: own, resource: R, prompt: look, model: gpt-6-sol}\n\
        - {name: all, resource: R, prompt: look, model: {service: b, name: x}, fallback-models: [y, {service: b, name: z}]}\n\
        - {name: fallbacks, resource: R, prompt: look, fallback-models: []}\n";
    let s = settings(cards);
    let of = |at: usize| {
        let names = s.cards[at].fallback_models.iter().map(ToString::to_string);
        (s.cards[at].model.to_string(), names.collect::<Vec<_>>())
    };
    let no: Vec<String> = vec![];
    assert_eq!(of(0), ("b: base".into(), vec!["gpt-6-luna".into()]));
    assert_eq!(of(1), ("gpt-6-sol".into(), no.clone()));
    assert_eq!(of(2), ("b: x".into(), vec!["y".into(), "b: z".into()]));
    assert_eq!(of(3), ("b: base".into(), no));
}

#[test]
fn what_is_wrong_with_a_service_is_told_with_its_place_and_what_to_write() {
    let told = problems(
        "model-services:\n\
         - {base-url: 'https://a.example/v1', auth: none}\n\
         - {name: openai, base-url: 'https://a.example/v1', auth: none}\n\
         - {name: 'a b', base-url: 'https://a.example/v1', auth: none}\n\
         - {name: a, auth: none}\n\
         - {name: b, base-url: 'https://a.example/v1'}\n\
         - {name: b, base-url: 'https://a.example/v1', auth: none}\n\
         - {name: c, base-url: 'https://a.example/v1', auth: aws}\n\
         - {name: d, base-url: 'https://a.example/v1', auth: {header: 'a b'}}\n\
         - {name: e, base-url: 'https://a.example/v1', auth: digest}\n\
         - {name: f, base-url: 'https://a.example/v1', auth: {}}\n\
         - {name: g, base-url: 'https://a.example/v1', auth: none, api: gemini, model: x}\n\
         - {name: h, base-url: 'https://a.example/v1', auth: none, models: {m: {prices: {input: 1}, forced-turn: maybe}}}\n\
         - {name: i, base-url: 'https://a.example/v1', auth: none, models: {m: {prices: {input: 1, output: 1, long: {input-factor: 0.5}}}}}\n\
         incident-cards:\n\
         - {name: x, resource: R, prompt: look, model: {service: bb, name: m}}\n\
         - {name: y, resource: R, prompt: look, model: {service: b}, fallback-models: [{name: m, server: b}]}\n",
    );
    insta::assert_snapshot!(told);
}

#[test]
fn a_service_without_a_key_and_a_model_that_ends_are_warned_about_once() {
    let told = warnings(
        "model-services:\n\
         - {name: a, base-url: 'https://a.example/v1', api-key: '${UNSET}', models: {m: {prices: {input: 1, output: 1}}}}\n\
         - {name: b, base-url: 'https://a.example/v1', auth: aws, api-key: '${TOKEN}', auth: none}\n\
         incident-cards:\n\
         - {name: x, resource: R, prompt: look, model: gpt-4o-2024-08-06, fallback-models: [{service: a, name: m}, o3]}\n\
         - {name: y, resource: R, prompt: look, model: {service: b, name: unpriced}, fallback-models: [o3]}\n"
            .replace("auth: aws, ", "")
            .as_str(),
    );
    insta::assert_snapshot!(told);
}

#[test]
fn a_key_in_the_query_of_an_address_is_a_secret() {
    let text = "model-services: [{name: a, base-url: 'https://a.example/v1?key=${TOKEN}', auth: none}]";
    let redacted = settings(text).redactor().redact("GET /v1?key=hunter2-secret").into_owned();
    assert!(!redacted.contains("hunter2-secret"), "{redacted}");
}
