//! Which handshake a server gets, whose token it is shown, and programs as servers.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::future::join_all;
use sentinel_core::card::ToolId;
use sentinel_http::{AddressPolicy, HttpClient};
use sentinel_investigation::ports::{ToolBox, ToolError, ToolOutput};
use sentinel_mcp::{Credential, Endpoint, OAuth, Program, Reach, ServerSpec, Servers};
use sentinel_testkit::mcp::{Answer, Builder, FakeMcp};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_mins(1);

fn servers(reach: Reach) -> Servers {
    let http = HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]));
    Servers::new(vec![ServerSpec { name: "k8s".to_owned(), reach, timeout: LONG }], &Arc::new(http))
}

fn at(url: &str, credential: Credential) -> Servers {
    servers(Reach::Http(Endpoint { url: url.to_owned(), headers: vec![], credential }))
}

async fn call(servers: &Servers, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
    let tool = ToolId { server: "k8s".to_owned(), tool: name.to_owned() };
    servers.call(&tool, arguments.as_object().unwrap(), LONG).await
}

fn echo() -> Builder {
    FakeMcp::builder().tool("echo", json!({"type": "object"}), "Says it again.", |arguments| {
        Answer::text(arguments.to_string())
    })
}

fn count(server: &FakeMcp, method: &str) -> usize {
    server.requests().iter().filter(|request| request.method() == method).count()
}

#[tokio::test]
async fn a_server_of_2026_is_discovered_and_needs_no_session() {
    let server = echo().modern().start().await;
    let servers = at(&server.url(), Credential::None);
    assert_eq!(servers.list("k8s", LONG).await.unwrap().len(), 1);
    let all = join_all((0..4).map(|n| call(&servers, "echo", json!({"n": n})))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!((count(&server, "server/discover"), count(&server, "initialize")), (1, 0));
    let call = server.calls().into_iter().next().unwrap();
    assert_eq!(call.headers["mcp-protocol-version"], "2026-07-28");
    assert_eq!(call.headers["mcp-name"], "echo");
}

#[tokio::test]
async fn a_server_that_stumbles_over_discover_is_initialized() {
    let none_shared = json!({
        "resultType": "complete", "supportedVersions": ["2025-11-25"], "capabilities": {"tools": {}},
        "ttlMs": 0, "cacheScope": "public",
    });
    for answer in [
        Answer::Result(none_shared),
        Answer::Status(500, "boom".to_owned()),
        Answer::Status(404, "nothing here".to_owned()),
        Answer::Garbage(b"<html>".to_vec()),
        Answer::RpcError(-32601, "Method not found".to_owned()),
        Answer::RpcError(-32600, "Bad Request: Server not initialized".to_owned()),
    ] {
        let shown = format!("{answer:?}");
        // Answered before the session is asked for, as real servers do that know the method.
        let server = echo().before_session("server/discover", answer).start().await;
        let servers = at(&server.url(), Credential::None);
        assert_eq!(call(&servers, "echo", json!({})).await.unwrap().text, "{}", "{shown}");
        assert_eq!((count(&server, "server/discover"), count(&server, "initialize")), (1, 1), "{shown}");
    }
}

/// A token endpoint: gives `token-1`, `token-2`, …, or what the test says; keeps what it was asked.
#[derive(Clone, Default)]
struct TokenEndpoint {
    asked: Arc<Mutex<Vec<(String, String)>>>,
    answer: Option<(u16, &'static str)>,
    life: u64,
}

impl TokenEndpoint {
    async fn start(&self) -> String {
        async fn token(
            State(it): State<TokenEndpoint>,
            headers: HeaderMap,
            body: String,
        ) -> (StatusCode, String) {
            let who = headers.get("authorization").unwrap().to_str().unwrap().to_owned();
            let mut asked = it.asked.lock().unwrap();
            asked.push((who, body));
            if let Some((status, text)) = it.answer {
                return (StatusCode::from_u16(status).unwrap(), text.to_owned());
            }
            let token = format!("token-{}", asked.len());
            let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": it.life});
            (StatusCode::OK, answer.to_string())
        }
        let router = Router::new().route("/token", post(token)).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}/token")
    }

    fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().unwrap().clone()
    }
}

fn oauth(token_url: &str) -> Credential {
    Credential::OAuth(OAuth {
        client_id: "sentinel:1".to_owned(),
        client_secret: "hunter2 &".into(),
        token_url: token_url.parse().unwrap(),
        scopes: vec!["read".to_owned(), "list".to_owned()],
    })
}

#[tokio::test]
async fn one_token_is_asked_for_and_shown_with_every_request() {
    let endpoint = TokenEndpoint { life: 3600, ..TokenEndpoint::default() };
    let server = echo().require_header("authorization", "Bearer token-1").start().await;
    let servers = at(&server.url(), oauth(&endpoint.start().await));
    let all = join_all((0..4).map(|n| call(&servers, "echo", json!({"n": n})))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    // `sentinel:1` and `hunter2 &` as form values, then in base64.
    assert_eq!(asked[0].0, "Basic c2VudGluZWwlM0ExOmh1bnRlcjIrJTI2");
    let resource = server.url().replace("://", "%3A%2F%2F").replace("1:", "1%3A").replace("/mcp", "%2Fmcp");
    assert_eq!(asked[0].1, format!("grant_type=client_credentials&resource={resource}&scope=read+list"));
}

#[tokio::test]
async fn a_token_that_the_server_refuses_is_asked_for_anew_once() {
    let endpoint = TokenEndpoint { life: 3600, ..TokenEndpoint::default() };
    let server = echo().require_header("authorization", "Bearer token-2").start().await;
    let url = endpoint.start().await;
    let servers = at(&server.url(), oauth(&url));
    assert!(call(&servers, "echo", json!({})).await.is_ok());
    assert_eq!(endpoint.asked().len(), 2);

    let strict = echo().require_header("authorization", "Bearer another").start().await;
    let refused = call(&at(&strict.url(), oauth(&url)), "echo", json!({})).await.unwrap_err().to_string();
    assert_eq!(refused, "the MCP server k8s cannot be reached: it refused the credentials (HTTP 401)");
    assert_eq!(endpoint.asked().len(), 4, "asked once, and once more after the refusal");
}

#[tokio::test]
async fn a_token_that_cannot_be_had_is_told_without_a_secret() {
    for (answer, words) in [
        (
            (401, r#"{"error": "invalid_client"}"#),
            "no access token: the token endpoint answered HTTP 401: invalid_client",
        ),
        ((200, "<html>"), "no access token: the token endpoint answered HTTP 200 and no JSON object"),
    ] {
        let endpoint = TokenEndpoint { answer: Some(answer), ..TokenEndpoint::default() };
        let server = echo().start().await;
        let servers = at(&server.url(), oauth(&endpoint.start().await));
        let told = call(&servers, "echo", json!({})).await.unwrap_err().to_string();
        assert_eq!(told, format!("the MCP server k8s cannot be reached: {words}"));
        assert!(server.requests().is_empty());
        assert!(!format!("{told} {servers:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_server_that_says_its_token_again_is_not_repeated() {
    let endpoint = TokenEndpoint { life: 3600, ..TokenEndpoint::default() };
    let server = FakeMcp::builder()
        .tool("leak", json!({"type": "object"}), "Leaks.", |_| Answer::text("you sent Bearer token-1 to me"))
        .start()
        .await;
    let servers = at(&server.url(), oauth(&endpoint.start().await));
    assert_eq!(call(&servers, "leak", json!({})).await.unwrap().text, "you sent Bearer [redacted] to me");
}

/// A server in a few lines of Python: one tool, that says what its environment holds.
const PROGRAM: &str = r#"
import json, os, sys
print("started", file=sys.stderr, flush=True)
for line in sys.stdin:
    m = json.loads(line)
    if "id" not in m:
        continue
    if m["method"] == "initialize":
        r = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "p", "version": "1"}}
    elif m["method"] == "tools/list":
        r = {"tools": [{"name": "env", "inputSchema": {"type": "object"}}, {"name": "end", "inputSchema": {"type": "object"}}]}
    elif m["method"] == "tools/call":
        if m["params"]["name"] == "end":
            sys.exit(0)
        r = {"content": [{"type": "text", "text": json.dumps([os.getpid(), sorted(os.environ)])}]}
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": r}), flush=True)
"#;

fn python() -> Servers {
    let command = ["python3", "-c", PROGRAM].map(str::to_owned).to_vec();
    // Python adds LC_CTYPE by itself where no locale is set.
    let env = vec![
        ("LC_ALL".to_owned(), "C.UTF-8".into()),
        ("PATH".to_owned(), "/usr/bin:/bin:/usr/local/bin".into()),
    ];
    servers(Reach::Program(Program { command, env }))
}

/// The pid and the names of the environment.
async fn of_program(servers: &Servers) -> (u64, Vec<String>) {
    serde_json::from_str(&call(servers, "env", json!({})).await.unwrap().text).unwrap()
}

#[tokio::test]
async fn a_program_is_started_once_and_inherits_nothing() {
    let servers = python();
    assert_eq!(servers.list("k8s", LONG).await.unwrap().len(), 2);
    let (pid, env) = of_program(&servers).await;
    assert_eq!(env, ["LC_ALL", "PATH"]);
    assert_eq!(of_program(&servers).await.0, pid);
}

#[tokio::test]
async fn a_program_that_ends_is_told_and_started_again_by_the_next_call() {
    let servers = python();
    let (first, _) = of_program(&servers).await;
    let told = call(&servers, "end", json!({})).await.unwrap_err().to_string();
    assert_eq!(told, "the MCP server k8s did not answer end: its program ended (exit status: 0): started");
    assert_ne!(of_program(&servers).await.0, first);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let program = Program { command: vec!["/no/such/server".to_owned()], env: vec![] };
    let told = call(&servers(Reach::Program(program)), "x", json!({})).await.unwrap_err().to_string();
    let want = "the MCP server k8s cannot be reached: the program /no/such/server cannot be started: ";
    assert!(told.starts_with(want), "{told}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_ends_with_its_session() {
    let servers = python();
    let (pid, _) = of_program(&servers).await;
    servers.close().await;
    drop(servers);
    let stat = format!("/proc/{pid}/stat");
    // Gone, or dead and not yet waited for.
    let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    tokio::time::timeout(LONG, async {
        while lives() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{pid} still runs"));
}
