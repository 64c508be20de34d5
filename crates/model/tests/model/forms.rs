//! One table of behaviours over all interfaces: what a model does in each turn, as each service says it, and what holds of
//! every request whoever is asked.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use sentinel_investigation::ports::{
    Api, Approval, HostedServer, Incomplete, Item, Model, ModelError, Output, Said, ToolSpec, TurnRequest,
    TurnResponse,
};
use sentinel_model::{Auth, HostedPlace, Services, Signer};
use sentinel_testkit::clock::ManualClock;
use sentinel_testkit::openai::{Request, Scripted, ScriptedOpenAi};
use sentinel_testkit::{answers, anthropic, openai};
use serde_json::{Value, json};

use crate::support::*;

/// What a model says in a turn.
#[derive(Clone, Debug)]
enum Says {
    Text(&'static str),
    /// Calls of `k8s__pods_get`, by their ids.
    Calls(&'static [&'static str]),
    /// The same after it thought.
    Thinks(&'static [&'static str]),
    CutOff(&'static str),
    Refuses(&'static str),
    /// The service asks whether it may call a tool of a hosted server. Only Responses hosts any: elsewhere it says so.
    AsksHosted(&'static str),
    /// What the call gave that it was allowed.
    Hosted(&'static str),
}

/// An interface, and how its service is found.
#[derive(Clone, Copy, Debug)]
struct Form {
    api: Api,
    at: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// Its own service, with its own header.
    Own,
    /// Azure's deployments: a query, and a header of another name.
    Azure,
    /// Amazon Bedrock: below a path, and signed.
    Bedrock(&'static str),
}

const FORMS: [Form; 8] = [
    Form { api: Api::Responses, at: Place::Own },
    Form { api: Api::Responses, at: Place::Azure },
    Form { api: Api::Responses, at: Place::Bedrock("/openai/v1") },
    Form { api: Api::Chat, at: Place::Own },
    Form { api: Api::Chat, at: Place::Azure },
    Form { api: Api::Chat, at: Place::Bedrock("/openai/v1") },
    Form { api: Api::Messages, at: Place::Own },
    Form { api: Api::Messages, at: Place::Bedrock("/anthropic/v1") },
];

const ONE_OF_EACH: [Api; 3] = [Api::Responses, Api::Chat, Api::Messages];

impl Form {
    fn own(api: Api) -> Self {
        Self { api, at: Place::Own }
    }

    fn service(self, server: &ScriptedOpenAi) -> Services {
        let mut settings = settings(self.api, &server.base_url());
        let header = |name: &str| Auth::Header { name: name.parse().unwrap(), key: KEY.into() };
        match self.at {
            Place::Own if self.api == Api::Messages => settings.auth = header("x-api-key"),
            Place::Own => {}
            Place::Azure => {
                settings.base_url.push_str("?api-version=preview");
                settings.auth = header("api-key");
            }
            Place::Bedrock(path) => {
                settings.base_url = settings.base_url.replace("/v1", path);
                let credentials = Credentials::new("AKIDEXAMPLE", "a-secret-of-aws", None, None, "test");
                let credentials = SharedCredentialsProvider::new(credentials);
                let (region, service) = ("eu-central-1".to_owned(), "bedrock".to_owned());
                let clock = Arc::new(ManualClock::default());
                settings.auth = Auth::Aws(Signer::new(credentials, region, service, clock));
            }
        }
        by(settings, vec![spec("k8s", HostedPlace::Url("https://mcp.example.com/mcp".to_owned()))])
    }

    /// The header by which the service knows who asks, and how it begins.
    fn credential(self) -> (&'static str, &'static str) {
        match (self.at, self.api) {
            (Place::Own, Api::Messages) => ("x-api-key", KEY),
            (Place::Own, _) => ("authorization", "Bearer sk-test-"),
            (Place::Azure, _) => ("api-key", KEY),
            (Place::Bedrock(_), _) => ("authorization", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"),
        }
    }
}

fn said(api: Api, says: &Says) -> Value {
    let arguments = |id: &str| json!({"name": format!("pod-of-{id}")});
    let named = |ids: &[&'static str]| -> Vec<_> {
        ids.iter().map(|id| ("k8s__pods_get", arguments(id), *id)).collect()
    };
    match (api, says) {
        (_, Says::Text(text)) => answers::text(api, text),
        (_, Says::Calls(ids)) => answers::calls(api, None, &named(ids)),
        (_, Says::Thinks(ids)) => answers::calls(api, Some("The pod, then."), &named(ids)),
        (_, Says::CutOff(text)) => answers::cut_off(api, text),
        (_, Says::Refuses(text)) => answers::refusal(api, text),
        (Api::Responses, Says::AsksHosted(id)) => openai::response(vec![
            openai::mcp_list_item("k8s-label", &[("log", json!({"readOnlyHint": true}))]),
            openai::mcp_approval_request_item("k8s-label", "log", &arguments(id), id),
        ]),
        (Api::Responses, Says::Hosted(id)) => openai::response(vec![
            openai::mcp_call_item("k8s-label", "log", &arguments(id), id, Ok("it waits for a volume")),
            openai::message_item("It waits for a volume."),
        ]),
        (_, Says::AsksHosted(_) | Says::Hosted(_)) => said(api, &Says::Text("No server is hosted here.")),
    }
}

/// The conversation after a turn: what it said, what its calls gave, what it was allowed, and a word where it asked nothing.
fn go_on(input: &mut Vec<Item>, turn: &TurnResponse) {
    input.push(answered_by("a-model", turn));
    let output = |id: &str| Item::CallOutput {
        call_id: id.to_owned(),
        output: format!("[E] of {id}: {}", "Pending ".repeat(500)),
    };
    let allowed = |output: &Output| match &output.said {
        Said::HostedRequest(asked) => Some(Item::Approval(Approval {
            request_id: asked.id.clone(),
            approve: true,
            reason: None,
            refusal: None,
        })),
        _ => None,
    };
    let mut outputs: Vec<Item> = turn.calls().map(|call| output(&call.call_id)).collect();
    outputs.extend(turn.outputs.iter().filter_map(allowed));
    if outputs.is_empty() {
        input.push(Item::User { text: "Call a tool, or submit_report.".to_owned() });
    }
    input.extend(outputs);
}

/// A turn as it comes back from the store.
fn stored(turn: &TurnResponse) -> TurnResponse {
    serde_json::from_str(&serde_json::to_string(turn).unwrap()).unwrap()
}

/// The hosted servers that an interface can be offered.
fn hosts(api: Api) -> Vec<HostedServer> {
    if api == Api::Responses { vec![hosted("k8s", &["log"])] } else { vec![] }
}

fn asks(input: &[Item], hosts: Vec<HostedServer>, last: bool) -> TurnRequest {
    let mut asks = request("a-model", input.to_vec());
    asks.instructions = "You investigate. ".repeat(1000);
    asks.tools.push(ToolSpec {
        name: "submit_report".to_owned(),
        description: "The report.".to_owned(),
        parameters: json!({"type": "object", "properties": {"verdict": {"type": "string"}}, "required": ["verdict"], "additionalProperties": false}),
    });
    asks.hosted = hosts;
    asks.force = last.then(|| "submit_report".to_owned());
    asks
}

/// What is sent of a conversation, without the marks for the cache, which are no part of what is cached.
fn prompt(request: &Request) -> [Value; 4] {
    fn unmarked(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("cache_control");
                fields.values_mut().for_each(unmarked);
            }
            Value::Array(inner) => inner.iter_mut().for_each(unmarked),
            _ => {}
        }
    }
    let list = if request.path == "/v1/responses" { "input" } else { "messages" };
    ["tools", "instructions", "system", list].map(|key| {
        let mut value = request.body.get(key).cloned().unwrap_or_default();
        unmarked(&mut value);
        value
    })
}

/// Panics unless the prompt of each request begins with the one before it, byte by byte.
fn assert_prefixes(requests: &[Request]) {
    for (before, after) in requests.iter().zip(requests.iter().skip(1)) {
        let ([tools, instructions, system, before], [same_tools, same_instructions, same_system, after]) =
            (prompt(before), prompt(after));
        assert_eq!((tools, instructions, system), (same_tools, same_instructions, same_system));
        let before = before.to_string();
        // A message of the user may go on after the results in it: the Messages API has one message where others have many.
        let beginning = before.trim_end_matches([']', '}']);
        assert!(after.to_string().starts_with(beginning), "{beginning}\n{after}");
    }
}

const TURNS: &[Says] = &[
    Says::Calls(&["look_1"]),
    Says::Thinks(&["look_2", "look_3", "look_4"]),
    Says::Text("I think it is the image."),
    Says::CutOff("The image of the po"),
    Says::Refuses("I cannot help with that."),
    Says::AsksHosted("mcpr_1"),
    Says::Hosted("mcpr_1"),
    Says::Calls(&["look_5"]),
    Says::Text("done"),
];

#[tokio::test]
async fn every_behaviour_is_on_the_contract_of_every_interface_and_each_request_begins_with_the_one_before() {
    for form in FORMS {
        let server = ScriptedOpenAi::answering(TURNS.iter().map(|says| said(form.api, says))).await;
        let service = form.service(&server);
        let (mut input, mut turns) = (task(), Vec::new());
        for n in 0..TURNS.len() {
            let turn =
                service.respond(&asks(&input, hosts(form.api), n + 1 == TURNS.len()), LONG).await.unwrap();
            go_on(&mut input, &turn);
            turns.push(turn);
        }
        let calls: Vec<Vec<&str>> =
            turns.iter().map(|turn| turn.calls().map(|call| call.call_id.as_str()).collect()).collect();
        let called: [&[&str]; 9] =
            [&["look_1"], &["look_2", "look_3", "look_4"], &[], &[], &[], &[], &[], &["look_5"], &[]];
        assert_eq!(calls, called, "{form:?}");
        let hosted = form.api == Api::Responses;
        let asked: Vec<usize> = turns
            .iter()
            .map(|turn| turn.outputs.iter().filter(|o| matches!(o.said, Said::HostedRequest(_))).count())
            .collect();
        assert_eq!(asked, [0, 0, 0, 0, 0, usize::from(hosted), 0, 0, 0], "{form:?}");
        let texts: Vec<String> = turns.iter().map(TurnResponse::text).collect();
        assert_eq!(
            texts,
            [
                "",
                "",
                "I think it is the image.",
                "The image of the po",
                "I cannot help with that.",
                if hosted { "" } else { "No server is hosted here." },
                if hosted { "It waits for a volume." } else { "No server is hosted here." },
                "",
                "done"
            ]
        );
        assert_eq!(turns[3].incomplete, Some(Incomplete::NoRoom), "{form:?}");
        assert_eq!(turns.iter().map(|turn| turn.usage.input_tokens).sum::<u64>(), 900);
        let requests = server.finish();
        assert_prefixes(&requests);
        let (header, begins) = form.credential();
        assert!(requests.iter().all(|r| r.headers[header].starts_with(begins)), "{form:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_taken_up_after_any_turn_asks_the_same_byte_by_byte() {
    for form in FORMS {
        let server = ScriptedOpenAi::with(move |_, n| said(form.api, &TURNS[n % TURNS.len()]).into()).await;
        let service = form.service(&server);
        let (mut input, mut turns) = (task(), Vec::new());
        for _ in 0..TURNS.len() {
            let turn = service.respond(&asks(&input, hosts(form.api), false), LONG).await.unwrap();
            go_on(&mut input, &turn);
            turns.push(turn);
        }
        for written in 0..TURNS.len() {
            // Another process, which has nothing but what was written.
            let mut input = task();
            for turn in &turns[..written] {
                go_on(&mut input, &stored(turn));
            }
            form.service(&server).respond(&asks(&input, hosts(form.api), false), LONG).await.unwrap();
        }
        let requests = server.finish();
        for written in 0..TURNS.len() {
            let again = &requests[TURNS.len() + written];
            assert_eq!(requests[written].bytes, again.bytes, "{form:?} after {written} turns");
        }
    }
}

#[tokio::test]
async fn a_conversation_goes_on_with_any_other_interface() {
    for first in ONE_OF_EACH {
        for second in ONE_OF_EACH {
            let script = [
                said(first, &Says::Thinks(&["look_1", "odd:id.2"])),
                said(first, &Says::Refuses("No.")),
                said(second, &Says::Calls(&["look_3"])),
                said(second, &Says::Text("done")),
            ];
            // Only Chat's own contract says anything of an id, and nothing of its characters.
            let script = script.map(|answer| Scripted::Garbage(answer.to_string().into()));
            let server = ScriptedOpenAi::answering(script).await;
            let service = |api| Form::own(api).service(&server);
            let mut input = task();
            for api in [first, first, second, second] {
                let turn = service(api).respond(&asks(&input, vec![], false), LONG).await.unwrap();
                go_on(&mut input, &turn);
            }
            let requests = server.finish();
            let last = requests[3].body.to_string();
            for gave in ["[E] of look_1", "[E] of odd:id.2", "[E] of look_3"] {
                assert!(last.contains(gave), "{first:?} {second:?}: {gave}");
            }
        }
    }
}

#[tokio::test]
async fn what_hosted_servers_gave_is_told_to_whoever_goes_on() {
    for next in [Api::Chat, Api::Messages] {
        let arguments = json!({"name": "api-7d9"});
        let first = openai::response(vec![
            openai::mcp_list_item("k8s", &[("pod", json!({"readOnlyHint": true}))]),
            openai::mcp_approval_request_item("k8s", "pod", &arguments, "mcpr_1"),
            openai::mcp_call_item("k8s", "pod", &arguments, "mcpr_1", Ok("Pending, no node fits")),
            openai::mcp_call_item(
                "k8s",
                "log",
                &json!({}),
                "mcpr_2",
                Err(json!({"type": "http_error", "code": 502, "message": "bad gateway"})),
            ),
            openai::message_item("It is pending."),
        ]);
        let server = ScriptedOpenAi::answering([first, said(next, &Says::Text("done"))]).await;
        let mut input = task();
        let turn = Form::own(Api::Responses)
            .service(&server)
            .respond(&asks(&input, vec![], false), LONG)
            .await
            .unwrap();
        go_on(&mut input, &stored(&turn));
        Form::own(next).service(&server).respond(&asks(&input, vec![], false), LONG).await.unwrap();
        let sent = server.finish().pop().unwrap().body["messages"].to_string();
        for told in ["k8s.pod ", "Pending, no node fits", "bad gateway", "It is pending."] {
            assert!(sent.contains(told), "{next:?}: {told}: {sent}");
        }
        // The request that was allowed is nothing here, and yet the conversation does not end with what a model said.
        assert!(sent.contains("No hosted server can be called here"), "{next:?}: {sent}");
        assert!(!sent.contains("mcpr_1"), "{next:?}: {sent}");
    }
}

#[tokio::test]
async fn of_ten_turns_four_fifths_of_the_input_come_from_the_cache() {
    for api in ONE_OF_EACH {
        let (mut anthropics, mut openais) = (anthropic::Cache::default(), openai::Cache::default());
        let server = ScriptedOpenAi::with(move |body, n| {
            let ids: &'static [&'static str] =
                [&["look_1"][..], &["look_2", "look_3"], &["look_4"], &["look_5"]][n % 4];
            let mut answer = said(api, &Says::Thinks(ids));
            // An id is used once in a conversation.
            let numbered = answer.to_string().replace("look_", &format!("look_{n}_"));
            answer = serde_json::from_str(&numbered).unwrap();
            match api {
                Api::Messages => {
                    let (all, read, written) = anthropics.tokens(body);
                    anthropic::with_usage(answer, all, read, written, 50).into()
                }
                Api::Responses => {
                    let (all, cached) = openais.tokens(body);
                    openai::with_usage(answer, all, cached, 50).into()
                }
                Api::Chat => {
                    let (all, cached) = openais.tokens(body);
                    let mut answer = answer;
                    answer["usage"] = json!({
                        "prompt_tokens": all, "completion_tokens": 50, "total_tokens": all + 50,
                        "prompt_tokens_details": {"cached_tokens": cached},
                    });
                    answer.into()
                }
            }
        })
        .await;
        let service = Form::own(api).service(&server);
        let (mut input, mut sent, mut cached, mut written) = (task(), 0, 0, 0);
        for n in 0..10 {
            let turn = service.respond(&asks(&input, vec![], n == 9), LONG).await.unwrap();
            let usage = turn.usage;
            (sent, cached, written) =
                (sent + usage.input_tokens, cached + usage.cached_tokens, written + usage.cache_write_tokens);
            go_on(&mut input, &turn);
        }
        println!("{api:?}: {cached} of {sent} tokens cached, {} %, {written} written", cached * 100 / sent);
        assert!(cached * 100 >= sent * 80, "{api:?}: {cached} of {sent}");
        drop(server);
    }
}

/// What the user is told of an answer that is none.
async fn told(api: Api, answer: Scripted) -> Result<TurnResponse, ModelError> {
    let server = ScriptedOpenAi::with(move |_, _| answer.clone()).await;
    let answered =
        Form::own(api).service(&server).respond(&asks(&task(), vec![], false), Duration::from_secs(20)).await;
    assert!(!format!("{answered:?}").contains(KEY), "{answered:?}");
    answered
}

fn garbage(body: &Value) -> Scripted {
    Scripted::Garbage(body.to_string().into())
}

#[tokio::test]
async fn what_is_no_answer_is_told_in_a_line_that_says_why() {
    for api in ONE_OF_EACH {
        let html = Scripted::Garbage(format!("<html>502 for {KEY}</html>").into());
        let refused = told(api, html).await.unwrap_err();
        assert!(matches!(refused, ModelError::Unreadable(_)), "{refused:?}");
        assert!(refused.to_string().contains("it is not JSON, "), "{refused}");

        let large = Scripted::Garbage(vec![b'1'; (16 << 20) + 1]);
        let refused = told(api, large).await.unwrap_err();
        assert!(
            matches!(refused, ModelError::Unreadable(_)) && refused.to_string().contains("16"),
            "{refused:?}"
        );

        let broken = told(api, Scripted::Close).await.unwrap_err();
        assert!(matches!(broken, ModelError::Unavailable { billed: true, .. }), "{broken:?}");

        for (body, why) in [
            (
                json!({"error": {"message": format!("no such key: {KEY}"), "type": "server_error", "code": "server_error"}}),
                "no such key",
            ),
            (json!({"error": {"message": "upstream is gone", "code": 502}}), "upstream is gone"),
            (
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
                "Overloaded",
            ),
        ] {
            let failed = told(api, garbage(&body)).await.unwrap_err();
            assert!(
                matches!(failed, ModelError::Unavailable { .. }) && failed.to_string().contains(why),
                "{failed:?}"
            );
        }

        for other in ONE_OF_EACH.into_iter().filter(|other| *other != api) {
            let refused = told(api, garbage(&said(other, &Says::Text("x")))).await.unwrap_err();
            let name = format!("{other:?}").to_lowercase();
            assert!(refused.to_string().contains(&format!("set `api: {name}`")), "{api:?}: {refused}");
        }
    }
}

#[tokio::test]
async fn wrong_usage_and_unknown_items_do_not_lose_an_answer() {
    for api in ONE_OF_EACH {
        let fields = match api {
            Api::Chat => ["prompt_tokens", "completion_tokens"],
            Api::Responses | Api::Messages => ["input_tokens", "output_tokens"],
        };
        for usage in [
            json!(null),
            json!({}),
            json!("many"),
            json!({fields[0]: -1, fields[1]: -1}),
            json!({fields[0]: 1e18, fields[1]: "9"}),
        ] {
            let mut answer = said(api, &Says::Text("x"));
            answer["usage"] = usage.clone();
            let turn = told(api, garbage(&answer)).await.unwrap();
            assert_eq!(
                (turn.text().as_str(), turn.usage.input_tokens, turn.usage.output_tokens),
                ("x", 0, 0),
                "{api:?} {usage}"
            );
        }
        let mut answer = said(api, &Says::Text("x"));
        let unknown = json!({"type": "hologram", "beam": 7});
        match api {
            Api::Responses => answer["output"].as_array_mut().unwrap().insert(0, unknown),
            Api::Messages => answer["content"].as_array_mut().unwrap().insert(0, unknown),
            Api::Chat => answer["choices"][0]["message"]["hologram"] = unknown,
        }
        assert_eq!(told(api, garbage(&answer)).await.unwrap().text(), "x", "{api:?}");
    }
}
