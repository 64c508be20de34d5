//! A server that does one thing, and what is seen of it: in the list, of a call, and by the model's own service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sentinel_core::card::{FIRST_SERVICE, ToolId};
use sentinel_core::redact::Redactor;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::hosted_tools;
use sentinel_investigation::ports::{
    Api, HostedServer, Item, Model, Remark, Said, ToolBox, ToolDefinition, ToolError, ToolOutput, TurnRequest,
};
use sentinel_mcp::{Credential, Endpoint, Reach, ServerSpec, Servers};
use sentinel_model::{Auth, HostedPlace, HostedSpec, ServiceSettings, Services};
use sentinel_testkit::mcp::{Answer, Builder, FakeMcp, Request};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, mcp_call_item, response};
use serde_json::{Map, Value, json};

/// What every call but those of hanging servers has.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// What is waited for in full where nothing is answered.
pub(crate) const CUT: Duration = Duration::from_secs(2);
pub(crate) const SAID: &str = "node pool gamma is full";

/// One behaviour, and what becomes of it.
pub(crate) struct Row {
    what: String,
    list: &'static str,
    call: &'static str,
    hosted: &'static str,
    /// What was seen.
    seen: [String; 3],
}

pub(crate) fn http() -> Arc<HttpClient> {
    Arc::new(HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"])))
}

pub(crate) fn servers(reach: Reach, timeout: Duration) -> Servers {
    Servers::new(vec![ServerSpec { name: "k8s".to_owned(), reach, timeout }], &http())
}

pub(crate) fn at(url: &str, timeout: Duration) -> Servers {
    servers(
        Reach::Http(Endpoint { url: url.to_owned(), headers: vec![], credential: Credential::None }),
        timeout,
    )
}

/// A list, in words: the tools that can be used, and why others cannot.
pub(crate) fn listed(listed: Result<Vec<ToolDefinition>, ToolError>) -> String {
    match listed {
        Ok(tools) => {
            let one = |tool: &ToolDefinition| match &tool.unusable {
                None if tool.input_schema.is_object() => tool.tool.clone(),
                None => format!("({}: no schema)", tool.tool),
                Some(why) => format!("({}: {why})", tool.tool),
            };
            tools.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        Err(error) => told(&error.to_string()),
    }
}

pub(crate) fn called(called: Result<ToolOutput, ToolError>) -> String {
    match called {
        Ok(output) => {
            let remarks: Vec<String> = output
                .remarks
                .iter()
                .map(|remark| match remark {
                    Remark::Lost(what) => format!(" [lost: {what}]"),
                    Remark::Noted(what) => format!(" [noted: {what}]"),
                })
                .collect();
            format!("{}{}", output.text.replace('\n', " / "), remarks.join(""))
        }
        Err(error) => told(&error.to_string()),
    }
}

/// Without what is said of every server, and without what differs from run to run.
pub(crate) fn told(error: &str) -> String {
    let port = |word: &str| {
        word.split_once("127.0.0.1:").map_or_else(
            || word.to_owned(),
            |(before, after)| {
                format!("{before}HERE{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
            },
        )
    };
    let words: Vec<String> = error.split(' ').map(port).collect();
    words.join(" ").replace("the MCP server k8s ", "")
}

pub(crate) fn definition() -> Value {
    json!({"name": "pods_get", "inputSchema": {"type": "object"}})
}

/// A server with one tool that says what is the matter, and answers as `first` says where that says anything.
pub(crate) fn builder() -> Builder {
    FakeMcp::builder().tool_defined(definition(), |_| Answer::text(SAID))
}

pub(crate) fn result(result: &str) -> Answer {
    Answer::Raw(200, vec![], format!(r#"{{"jsonrpc": "2.0", "id": $id, "result": {result}}}"#))
}

pub(crate) fn text(text: &str) -> String {
    format!(r#"{{"content": [{{"type": "text", "text": "{text}"}}]}}"#)
}

/// What a session's loss looks like.
pub(crate) fn lost(status: u16, id: &str, message: &str) -> Answer {
    let error = json!({"code": -32000, "message": message});
    Answer::Raw(status, vec![], format!(r#"{{"jsonrpc": "2.0"{id}, "error": {error}}}"#))
}

/// Answers the first request of a method so.
pub(crate) fn once(
    method: &'static str,
    answer: Answer,
) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    let times = AtomicUsize::new(0);
    move |request| {
        (request.method() == method && times.fetch_add(1, Ordering::SeqCst) == 0).then(|| answer.clone())
    }
}

pub(crate) fn always(
    method: &'static str,
    answer: Answer,
) -> impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static {
    move |request| (request.method() == method).then(|| answer.clone())
}

pub(crate) fn tools(all: &[Value]) -> String {
    json!({"tools": all}).to_string()
}

/// The server lists, and is called, once each.
pub(crate) async fn direct(builder: Builder, timeout: Duration) -> (String, String) {
    let server = builder.start().await;
    let servers = at(&server.url(), timeout);
    both(&servers).await
}

pub(crate) async fn both(servers: &Servers) -> (String, String) {
    let list = listed(servers.list("k8s", LONG).await);
    let tool = ToolId { server: "k8s".to_owned(), tool: "pods_get".to_owned() };
    let arguments = Map::from_iter([("name".to_owned(), json!("web-1"))]);
    (list, called(servers.call(&tool, &arguments, LONG).await))
}

/// What the model's service shows: these items of its answer.
pub(crate) async fn hosted(items: Vec<Value>) -> String {
    let scripted =
        Scripted::Garbage(response(items).to_string().replace("\\\\ud83d", "\\ud83d").into_bytes());
    let service = ScriptedOpenAi::answering([scripted]).await;
    let settings = ServiceSettings {
        name: FIRST_SERVICE.to_owned(),
        api: Api::Responses,
        base_url: service.base_url(),
        auth: Auth::Bearer("k".into()),
        temperature: None,
        reasoning_effort: None,
        service_tier: None,
        timeout: LONG,
        attempts: 1,
        backoff: Duration::from_millis(1),
        random: || 0,
        forced_turns: BTreeMap::new(),
    };
    let place = HostedPlace::Url("https://mcp.example.com/mcp".to_owned());
    let (name, label) = ("k8s".to_owned(), "k8s".to_owned());
    let spec = HostedSpec { name, label, place, authorization: None, headers: vec![], description: None };
    let services = Services::new(vec![settings], vec![spec], &http()).unwrap();
    let request = TurnRequest {
        model: "gpt-4.1-mini".into(),
        instructions: "You investigate.".to_owned(),
        input: vec![Item::User { text: "PodStuck".to_owned() }],
        tools: vec![],
        hosted: vec![HostedServer {
            server: "k8s".to_owned(),
            label: "k8s".to_owned(),
            tools: vec!["pods_get".to_owned()],
        }],
        max_hosted_calls: 16,
        force: None,
        max_output_tokens: 4096,
        cache_key: "incident-1".to_owned(),
    };
    let answer = match services.respond(&request, LONG).await {
        Ok(answer) => answer,
        Err(error) => return error.to_string(),
    };
    let mut shown: Vec<String> = answer
        .outputs
        .iter()
        .filter_map(|output| match &output.said {
            Said::HostedCall(call) => {
                let words = call.output.clone().or_else(|| call.error.clone()).unwrap_or_default();
                Some(format!("{:?}: {words}", call.status))
            }
            _ => None,
        })
        .collect();
    if answer.outputs.iter().any(|output| matches!(output.said, Said::HostedList(_))) {
        shown.push(match hosted_tools(answer.outputs, "k8s", &Redactor::default()) {
            Ok(tools) => listed(Ok(tools)),
            Err(why) => why,
        });
    }
    shown.join("; ")
}

pub(crate) fn hosted_list(tools: &Value, error: &Value) -> Value {
    json!({"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "k8s", "tools": tools, "error": error})
}

pub(crate) fn hosted_call(gave: Result<&str, Value>) -> Value {
    mcp_call_item("k8s", "pods_get", &json!({"name": "web-1"}), "mcpr_1", gave)
}

pub(crate) struct Table(pub(crate) Vec<Row>);

impl Table {
    pub(crate) fn add(
        &mut self,
        what: impl Into<String>,
        expected: [&'static str; 3],
        (list, call): (String, String),
        hosted: String,
    ) {
        let [l, c, h] = expected;
        self.0.push(Row { what: what.into(), list: l, call: c, hosted: h, seen: [list, call, hosted] });
    }

    pub(crate) async fn direct(
        &mut self,
        what: impl Into<String>,
        list: &'static str,
        call: &'static str,
        builder: Builder,
    ) {
        let seen = direct(builder, LONG).await;
        self.add(what, [list, call, "—"], seen, "—".to_owned());
    }

    pub(crate) fn print(&self) -> Vec<String> {
        println!("\n| server | list | call | hosted |\n|---|---|---|---|");
        let mut wrong = Vec::new();
        for Row { what, list, call, hosted, seen } in &self.0 {
            println!("| {what} | {} | {} | {} |", seen[0], seen[1], seen[2]);
            for (column, (want, saw)) in
                ["list", "call", "hosted"].iter().zip([list, call, hosted].iter().zip(seen))
            {
                if **want != saw {
                    wrong.push(format!("{what}, {column}:\n  want {want}\n  saw  {saw}"));
                }
            }
        }
        println!("{} behaviours", self.0.len());
        wrong
    }
}

/// What is listed where nothing is amiss.
pub(crate) const GOOD: &str = "pods_get";
