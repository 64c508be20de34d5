//! Hosted MCP servers at the wire: how they are offered, how their calls are answered, and what becomes of one that is
//! out.

use sentinel_investigation::ports::{Api, Approval, HostedServer, Item, Model, ModelError, TurnRequest};
use sentinel_model::{HostedPlace, HostedSpec, Services};
use sentinel_testkit::openai::{
    self, Scripted, ScriptedOpenAi, mcp_approval_request_item, mcp_call_item, mcp_list_item,
};
use serde_json::{Value, json};

use crate::support::*;

const TOKEN: &str = "mcp-token-swordfish";

fn places() -> Vec<HostedSpec> {
    vec![
        HostedSpec {
            authorization: Some(format!("Bearer {TOKEN}").into()),
            headers: vec![("X-Scope".to_owned(), "readonly".into())],
            description: Some("Kubernetes, read-only".to_owned()),
            ..spec("k8s", HostedPlace::Url("https://mcp.example.com/mcp".to_owned()))
        },
        HostedSpec {
            authorization: Some("Basic dXNlcg==".into()),
            ..spec("drive", HostedPlace::Connector("connector_googledrive".to_owned()))
        },
        spec("inner", HostedPlace::Tunnel("tunnel_0123456789abcdef0123456789abcdef".to_owned())),
    ]
}

fn model(server: &ScriptedOpenAi) -> Services {
    by(settings(Api::Responses, &server.base_url()), places())
}

fn with_servers(servers: Vec<HostedServer>, input: Vec<Item>) -> TurnRequest {
    TurnRequest { hosted: servers, ..request("gpt-4.1-mini", input) }
}

#[tokio::test]
async fn each_server_is_offered_with_the_cards_tools_and_has_to_ask_before_each_call() {
    let server = ScriptedOpenAi::answering([openai::message("x")]).await;
    let all = vec![hosted("k8s", &["get", "list"]), hosted("drive", &["fetch"]), hosted("inner", &["look"])];
    model(&server).respond(&with_servers(all, task()), LONG).await.unwrap();
    let body = server.finish().remove(0).body;
    let servers: Vec<&Value> =
        body["tools"].as_array().unwrap().iter().filter(|tool| tool["type"] == "mcp").collect();
    assert_eq!(
        servers,
        [
            &json!({
                "type": "mcp", "server_label": "k8s-label", "server_url": "https://mcp.example.com/mcp",
                "allowed_tools": ["get", "list"], "require_approval": "always", "authorization": TOKEN,
                "headers": {"X-Scope": "readonly"}, "server_description": "Kubernetes, read-only",
            }),
            &json!({
                "type": "mcp", "server_label": "drive-label", "connector_id": "connector_googledrive",
                "allowed_tools": ["fetch"], "require_approval": "always",
                "headers": {"Authorization": "Basic dXNlcg=="},
            }),
            &json!({
                "type": "mcp", "server_label": "inner-label",
                "tunnel_id": "tunnel_0123456789abcdef0123456789abcdef", "allowed_tools": ["look"],
                "require_approval": "always",
            }),
        ]
    );
    assert_eq!((&body["max_tool_calls"], &body["store"]), (&json!(16), &json!(false)));
}

#[tokio::test]
async fn what_a_server_showed_asked_and_gave_goes_back_with_the_answers_as_it_came() {
    let arguments = json!({"name": "a"});
    let asks = vec![
        mcp_list_item("k8s-label", &[("get", json!(null))]),
        mcp_approval_request_item("k8s-label", "get", &arguments, "mcpr_1"),
        mcp_approval_request_item("k8s-label", "drop", &arguments, "mcpr_2"),
    ];
    let made = vec![mcp_call_item("k8s-label", "get", &arguments, "mcpr_1", Ok("phase: Pending"))];
    let server = ScriptedOpenAi::answering([
        openai::response(asks.clone()),
        openai::response(made.clone()),
        openai::message("done"),
    ])
    .await;
    let model = model(&server);
    let servers = || vec![hosted("k8s", &["get"])];
    let mut input = task();
    for approvals in [
        vec![
            Approval { request_id: "mcpr_1".to_owned(), approve: true, reason: None, refusal: None },
            Approval {
                request_id: "mcpr_2".to_owned(),
                approve: false,
                reason: Some("not allowed".to_owned()),
                refusal: None,
            },
        ],
        vec![],
    ] {
        let answer = model.respond(&with_servers(servers(), input.clone()), LONG).await.unwrap();
        input.push(answered_by("gpt-4.1-mini", &answer));
        input.extend(approvals.into_iter().map(Item::Approval));
    }
    model.respond(&with_servers(servers(), input), LONG).await.unwrap();
    let requests = server.finish();
    let sent = requests[2].body["input"].as_array().unwrap();
    let answers = [
        json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": true}),
        json!({
            "type": "mcp_approval_response", "approval_request_id": "mcpr_2", "approve": false,
            "reason": "not allowed",
        }),
    ];
    // What was null is left out.
    let mut came = [asks, answers.to_vec(), made].concat();
    for item in &mut came {
        let fields = item.as_object_mut().unwrap();
        fields.retain(|_, value| !value.is_null());
        let tools = fields.get_mut("tools").and_then(Value::as_array_mut).into_iter().flatten();
        tools.for_each(|tool| tool.as_object_mut().unwrap().retain(|_, value| !value.is_null()));
    }
    assert_eq!(sent[1..], came);
    let before = requests[1].body["input"].as_array().unwrap();
    assert_eq!(sent[..before.len()], before[..], "the prefix is the one before");
}

#[tokio::test]
async fn a_server_that_the_service_cannot_reach_is_named_and_is_no_refusal() {
    let out = |status, code: &str, label: &str| {
        let message = format!("Error retrieving tool list from MCP server: '{label}'. Http status code: 502");
        let error = json!({"error": {"message": message, "type": code, "param": "tools", "code": code}});
        Scripted::Status(status, vec![], error.to_string())
    };
    let both = || vec![hosted("k8s", &["get"]), hosted("inner", &["look"])];
    for (answer, named) in [
        (out(424, "external_connector_error", "inner-label"), vec!["inner-label"]),
        (out(400, "invalid_request_error", "k8s-label"), vec!["k8s-label"]),
        (out(424, "external_connector_error", "somebody else"), vec!["k8s-label", "inner-label"]),
    ] {
        let server = ScriptedOpenAi::answering([answer]).await;
        let error = model(&server).respond(&with_servers(both(), task()), LONG).await.unwrap_err();
        let ModelError::ServersOut { labels, reason } = error else { panic!("{error}") };
        assert_eq!(labels, named);
        assert!(reason.contains("Http status code: 502"), "{reason}");
        assert_eq!(server.finish().len(), 1, "it is not asked again: the next request leaves the server out");
    }
    // A 400 that says something else is the request's fault.
    let answer = Scripted::Status(400, vec![], openai::error_body("invalid_request_error", "no such model"));
    let server = ScriptedOpenAi::answering([answer]).await;
    let error = model(&server).respond(&with_servers(both(), task()), LONG).await.unwrap_err();
    assert!(matches!(error, ModelError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_credential_of_a_server_stands_in_no_error_and_in_no_debug_output() {
    let told = openai::error_body("invalid_request_error", &format!("the token {TOKEN} is bad"));
    let server = ScriptedOpenAi::answering([Scripted::Status(400, vec![], told)]).await;
    let model = model(&server);
    let error = model.respond(&with_servers(vec![hosted("k8s", &["get"])], task()), LONG).await.unwrap_err();
    assert!(error.to_string().contains("bad") && !error.to_string().contains(TOKEN), "{error}");
    assert!(!format!("{model:?} {:?}", places()).contains(TOKEN));
    assert!(!format!("{:?}", places()).contains("mcp.example.com"), "an address may hold a key");
}
