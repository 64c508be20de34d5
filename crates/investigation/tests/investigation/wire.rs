//! The same crashes at the wire: over every interface the run goes on with the request that it would have sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sentinel_core::card::FIRST_SERVICE;
use sentinel_core::report::{Report, Verdict};
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::Api;
use sentinel_investigation::{evidence_of, turns_of};
use sentinel_model::{Auth, HostedPlace, HostedSpec, ServiceSettings, Services};
use sentinel_testkit::answers;
use sentinel_testkit::builders::tool_id;
use sentinel_testkit::openai::{self, Request, ScriptedOpenAi};
use serde_json::{Value, json};

use crate::support::*;

/// What a model says in a turn.
#[derive(Clone)]
enum Says {
    /// Calls of these functions, after a thought where the interface holds one.
    Calls(Vec<(&'static str, Value)>),
    Text(&'static str),
    CutOff(&'static str),
    Refuses(&'static str),
    /// Items that only Responses has.
    Items(Vec<Value>),
}

/// Every kind of turn: calls, a call that is refused, nothing, words that are cut off, a refusal, what a hosted server is
/// asked and gave, a report that is sent back, its repair.
fn script(api: Api) -> Vec<Says> {
    let submits =
        |quote| Says::Calls(vec![("submit_report", submission("action_required", &[("E1", quote)]))]);
    let log = json!({"query": "api-db"});
    let hosted = vec![
        Says::Items(vec![
            openai::mcp_list_item("wiki-label", &[("search", json!({"readOnlyHint": true}))]),
            openai::mcp_approval_request_item("wiki-label", "search", &log, "mcpr_1"),
        ]),
        Says::Items(vec![openai::mcp_call_item("wiki-label", "search", &log, "mcpr_1", Ok("no page"))]),
    ];
    let mut turns =
        vec![Says::Calls(vec![pod(), ("k8s__log", json!({"namespace": "web"})), ("kubectl", json!({}))])];
    turns.extend(hosted.into_iter().filter(|_| api == Api::Responses));
    turns.extend([
        Says::Text(""),
        Says::Calls(vec![("k8s__pod", json!({"namespace": "kube-system"})), pod()]),
        Says::CutOff("The secret of the po"),
        Says::Refuses("I cannot help with that."),
        submits("nobody ever said this"),
        submits(QUOTE.1),
    ]);
    turns
}

/// Turn `n` as a service says it.
fn said(api: Api, says: &Says, n: usize) -> Value {
    match says {
        Says::Items(items) => openai::response(items.clone()),
        Says::Calls(calls) => {
            let ids: Vec<_> = (0..calls.len()).map(|i| format!("call_{n}_{i}")).collect();
            let named =
                calls.iter().zip(&ids).map(|((name, arguments), id)| (*name, arguments.clone(), id.as_str()));
            answers::calls(api, Some("The secret, then."), &named.collect::<Vec<_>>())
        }
        Says::Text(text) => answers::text(api, text),
        Says::CutOff(text) => answers::cut_off(api, text),
        Says::Refuses(text) => answers::refusal(api, text),
    }
}

/// A service that says the script's next turn to each request that it has not seen, and the same again to one that it has.
async fn service(api: Api) -> (ScriptedOpenAi, Services) {
    let (turns, mut seen) = (script(api), Vec::<Value>::new());
    let server = ScriptedOpenAi::with(move |body, _| {
        let n = seen.iter().position(|known| known == body).unwrap_or_else(|| {
            seen.push(body.clone());
            seen.len() - 1
        });
        said(api, turns.get(n).unwrap_or_else(|| panic!("turn {n} is not in the script")), n).into()
    })
    .await;
    let settings = ServiceSettings {
        name: FIRST_SERVICE.to_owned(),
        api,
        base_url: server.base_url(),
        auth: Auth::Bearer("sk-test-1234567890".into()),
        temperature: None,
        reasoning_effort: Some("low".to_owned()),
        service_tier: None,
        timeout: Duration::from_secs(30),
        attempts: 1,
        backoff: Duration::from_millis(1),
        random: || 500,
        forced_turns: BTreeMap::new(),
    };
    let wiki = HostedSpec {
        name: "wiki".to_owned(),
        label: "wiki-label".to_owned(),
        place: HostedPlace::Url("https://wiki.example.com/mcp".to_owned()),
        authorization: None,
        headers: vec![],
        description: None,
    };
    let http = Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])));
    let hosted = if api == Api::Responses { vec![wiki] } else { vec![] };
    (server, Services::new(vec![settings], hosted, &http).unwrap())
}

/// A run, the process dying at the `at`-th write: its report, what was sent, the calls, and how often it died.
async fn run(api: Api, at: Option<usize>) -> (World, Report, Vec<Request>, usize) {
    let (server, services) = service(api).await;
    let mut world = World::new();
    world.card.max_iterations = 12;
    if api == Api::Responses {
        let search =
            sentinel_testkit::builders::card("card").tool(&tool_id("wiki.search").to_string()).build();
        world.card.tools.extend(search.tools);
    }
    world.store.die_at(at);
    let (mut report, crashes) = world.through(&services).await;
    report.usage.ms = 0;
    (world, report, server.finish(), crashes)
}

#[tokio::test]
async fn a_run_that_dies_at_any_write_goes_on_over_every_interface_with_the_same_bytes() {
    for api in [Api::Responses, Api::Chat, Api::Messages] {
        let turns = script(api).len();
        let (world, expected, requests, _) = run(api, None).await;
        let calls = world.tools.called();
        let bytes: Vec<_> = requests.iter().map(|request| request.bytes.clone()).collect();
        assert_eq!(
            (expected.verdict, bytes.len()),
            (Verdict::ActionRequired, turns),
            "{api:?}: {expected:#?}"
        );
        let mut writes = 0;
        for at in 1.. {
            let (world, report, requests, crashes) = run(api, Some(at)).await;
            if crashes == 0 {
                break;
            }
            writes = at;
            assert_eq!(report, expected, "{api:?}, died at write {at}");
            let mut asked: Vec<_> = requests.iter().map(|request| request.bytes.clone()).collect();
            // An answer that could not be stored is asked for again, and nothing else.
            assert!(asked.len() <= turns + 1, "{api:?}, died at write {at}: {} requests", asked.len());
            asked.dedup();
            assert_eq!(asked, bytes, "{api:?}, died at write {at}");
            let children = world.store.bodies();
            assert_eq!(turns_of(&children).len(), turns, "{api:?}, died at write {at}");
            assert_eq!(evidence_of(&children).len(), if api == Api::Responses { 5 } else { 4 }, "{api:?}");
            assert!(world.tools.called().len() <= calls.len() + 2, "{api:?}, died at write {at}");
        }
        println!("{api:?}: {turns} turns, {writes} writes, as many crashes, one conversation");
        assert!(writes > 15, "{api:?}: a run has more than {writes} writes");
    }
}
