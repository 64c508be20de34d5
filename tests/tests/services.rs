//! Services of models besides OpenAI: Amazon Bedrock by signatures, and the lists that services give.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::io::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sentinel_testkit::anthropic::tool_uses;
use sentinel_testkit::openai::{chat_function_calls, function_calls};
use sentinel_testkit::process::command;
use sentinel_tests::wire::{LOOPBACK, trouble};
use sentinel_tests::{Home, workspace};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const ACCESS_KEY: &str = "AKIDEXAMPLE1234567890";
const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "session-token-that/nobody+may=see";

/// A request as it arrived.
#[derive(Clone)]
struct Sent {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

/// A service at any path of the loopback. Dropping it stops it.
struct Anything {
    base: String,
    sent: Arc<Mutex<Vec<Sent>>>,
    serving: JoinHandle<()>,
}

impl Anything {
    async fn answering(answer: impl Fn(&Sent) -> Response + Clone + Send + Sync + 'static) -> Self {
        let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let log = Arc::clone(&sent);
        let router = Router::new().fallback(move |request: Request| {
            let (answer, log) = (answer.clone(), Arc::clone(&log));
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
                let sent = Sent { method: parts.method, uri: parts.uri, headers: parts.headers, body };
                log.lock().unwrap().push(sent.clone());
                answer(&sent)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, sent, serving }
    }

    fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().clone()
    }
}

impl Drop for Anything {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn signed(models: &str) -> Home {
    Home::with(&format!(
        "{LOOPBACK}{models}\nincident-cards: [{{name: trouble, resource: Trouble, prompt: Find out why., max-iterations: 2}}]\n"
    ))
    .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    .env("AWS_SESSION_TOKEN", TOKEN)
}

/// The signatures that botocore makes of the same requests.
fn by_botocore(base: &str, sent: &[Sent], service: &str) -> Vec<String> {
    let requests = sent.iter().map(|sent| {
        let headers = sent.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let headers: std::collections::BTreeMap<&str, &str> = headers.collect();
        json!({
            "method": sent.method.as_str(), "url": format!("{base}{}", sent.uri), "headers": headers,
            "body": sentinel_core::digest::hex(&sent.body),
        })
    });
    let asked = json!({
        "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "token": TOKEN, "region": "eu-central-1",
        "service": service, "requests": requests.collect::<Vec<_>>(),
    });
    let python = workspace().join("target/testbench/aws/bin/python3");
    assert!(python.is_file(), "{} is not there: run tests/setup.sh aws", python.display());
    let mut child = command(python)
        .arg(workspace().join("tests/aws/signatures.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(asked.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn nothing_found() -> Value {
    json!({
        "verdict": "inconclusive", "title": "Größe unbekannt ✓", "summary": "Nothing.", "hypotheses": [],
        "ruled_out": [], "gaps": ["No tools."], "next_steps": [],
    })
}

#[tokio::test]
async fn every_request_to_bedrock_is_signed_as_botocore_signs_it_in_each_form() {
    let service = Anything::answering(|sent| {
        let ends = [("submit_report", nothing_found(), "c1")];
        let answer = match sent.uri.path().rsplit('/').next() {
            Some("responses") => function_calls(&ends),
            Some("messages") => tool_uses(&ends),
            _ => chat_function_calls(&ends),
        };
        answer.to_string().into_response()
    })
    .await;
    for (api, signing, base) in [
        ("responses", "bedrock", "/openai/v1"),
        ("chat", "bedrock-mantle", "/openai/v1?b=2&a=1%2F2"),
        ("messages", "bedrock", "/anthropic/v1"),
    ] {
        let base = format!("{}{base}", service.base);
        let home = signed(&format!(
            "openai: {{model: {{service: aws, name: eu.openai.gpt-6-luna}}}}\n\
             model-services: [{{name: aws, base-url: \"{base}\", api: {api}, \
             auth: {{aws: {{region: eu-central-1, service: {signing}}}}}}}]"
        ));
        let up = home.up().await;
        let done = up.ended(&up.open(&trouble(api)).await).await;
        assert_eq!(
            (&done["state"], &done["report"]["title"]),
            (&json!("done"), &json!("Größe unbekannt ✓")),
            "{done:#}"
        );
        let usd = done["report"]["usage"]["usd"].as_f64();
        assert!(usd.is_some_and(|usd| usd > 0.0), "the list price of its model holds for it: {done:#}");
        let sent: Vec<Sent> = service.sent.lock().unwrap().drain(..).collect();
        assert!(!sent.is_empty());
        for one in &sent {
            assert_eq!(one.headers["x-amz-security-token"], TOKEN);
            assert_eq!(one.uri.query(), (api == "chat").then_some("b=2&a=1%2F2"), "its query is kept");
        }
        let theirs = by_botocore(&service.base, &sent, signing);
        let ours: Vec<&str> = sent.iter().map(|one| one.headers["authorization"].to_str().unwrap()).collect();
        assert_eq!(ours, theirs);
        for named in ["content-type", "host", "x-amz-date", "x-amz-security-token"] {
            assert!(ours[0].contains(named), "{named} is signed: {}", ours[0]);
        }
        assert_eq!(home.data_files_with(SECRET_KEY), Vec::<std::path::PathBuf>::new());
    }
}

#[tokio::test]
async fn what_aws_refuses_says_what_to_do_and_shows_no_credential() {
    for (kind, said, advice) in [
        (
            "InvalidSignatureException",
            "Signature expired: 20261128T000000Z is now earlier than 20261129T000000Z",
            "clock is wrong",
        ),
        (
            "ExpiredTokenException",
            "The security token included in the request is expired",
            "have expired: sign in again",
        ),
        (
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. x-amz-security-token:",
            "signed for bedrock in eu-central-1",
        ),
        (
            "AccessDeniedException",
            "User is not authorized to perform: bedrock:InvokeModel",
            "`bedrock:InvokeModel`",
        ),
    ] {
        let service = Anything::answering(move |_| {
            let body = json!({"message": format!("{said} {TOKEN} {ACCESS_KEY}")}).to_string();
            (StatusCode::FORBIDDEN, [("x-amzn-errortype", kind)], body).into_response()
        })
        .await;
        let home = signed(&format!(
            "openai: {{model: m, base-url: \"{}/v1\", auth: {{aws: {{region: eu-central-1}}}}, prices: {{m: {{input: 1, output: 1}}}}}}",
            service.base
        ));
        let up = home.up().await;
        let done = up.ended(&up.open(&trouble("one")).await).await.to_string();
        assert!(done.contains(advice), "{kind}: {done}");
        assert!(!done.contains(TOKEN) && !done.contains(ACCESS_KEY), "{done}");
        assert!(home.data_files_with(TOKEN).is_empty() && home.data_files_with(ACCESS_KEY).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_says_of_each_configured_model_whether_its_service_has_it() {
    let first = Anything::answering(|sent| {
        assert_eq!(
            (sent.method.as_str(), sent.uri.to_string().as_str()),
            ("GET", "/v1/models?api-version=1")
        );
        assert_eq!(sent.headers["api-key"], "key-of-the-first");
        let list = json!({"object": "list", "data": [
            {"id": "gpt-6.1-terra", "object": "model", "shutdown_date": null},
            {"id": "gpt-4.1", "object": "model", "shutdown_date": "2027-01-14"},
        ]});
        list.to_string().into_response()
    })
    .await;
    let paged = Anything::answering(|sent| {
        let last = sent.uri.query() == Some("after_id=b");
        let (id, more) = if last { ("claude-haiku-4-5-20251001", false) } else { ("b", true) };
        json!({"data": [{"id": id}], "has_more": more, "last_id": id}).to_string().into_response()
    })
    .await;
    let listless = Anything::answering(|_| StatusCode::NOT_FOUND.into_response()).await;
    let config = |models: &str| {
        format!(
            "{LOOPBACK}openai: {{base-url: \"{}/v1?api-version=1\", auth: {{header: API-Key}}, api-key: key-of-the-first}}\n\
             model-services:\n\
             - {{name: paged, base-url: \"{}/v1\", api-key: other-key}}\n\
             - {{name: listless, base-url: \"{}/v1\", auth: none, models: {{m: {{prices: {{input: 1, output: 1}}}}}}}}\n\
             incident-cards: [{{name: c, resource: R, prompt: look, model: gpt-6.1-terra, fallback-models: [{models}]}}]\n",
            first.base, paged.base, listless.base
        )
    };
    let all = "gpt-4.1, {service: paged, name: claude-haiku-4-5}, {service: listless, name: m}";
    let home = Home::with(&config(all));
    let told = home.run(&["models", "--json"], 0).json();
    let of = |name: &str| {
        let models = told["models"].as_array().unwrap();
        models.iter().find(|m| m["name"] == name).unwrap_or_else(|| panic!("{told:#}")).clone()
    };
    assert_eq!(told["prices_of"], "2026-11-28");
    let terra = of("gpt-6.1-terra");
    assert_eq!(
        (&terra["there"], &terra["shutdown_date"], &terra["priced"]),
        (&json!(true), &json!(null), &json!(true))
    );
    let old = of("gpt-4.1");
    assert_eq!(
        (&old["there"], &old["shutdown_date"], &old["priced"]),
        (&json!(true), &json!("2027-01-14"), &json!(false))
    );
    assert_eq!((of("claude-haiku-4-5")["there"].clone(), paged.sent().len()), (json!(true), 2));
    let unknown = of("m");
    assert_eq!((&unknown["there"], &unknown["priced"]), (&json!(null), &json!(true)));
    assert!(unknown["reason"].as_str().unwrap().contains("no list"), "{unknown}");

    let home = Home::with(&config("gpt-7, {service: paged, name: gone}"));
    let told = home.run(&["models"], 1).stdout;
    assert!(told.contains("openai: gpt-7  NOT THERE") && told.contains("paged: gone  NOT THERE"), "{told}");
    assert!(told.contains("openai: gpt-6.1-terra  there; its price is known"), "{told}");
    assert!(!told.contains("key-of-the-first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn models_fails_where_a_service_cannot_be_asked_and_shows_no_key() {
    let refusing = Anything::answering(|_| {
        let body = json!({"error": {"message": "Incorrect API key provided: key-of-the-first", "code": "invalid_api_key"}});
        (StatusCode::UNAUTHORIZED, body.to_string()).into_response()
    })
    .await;
    let home = Home::with(&format!(
        "{LOOPBACK}openai: {{base-url: \"{}/v1\", api-key: key-of-the-first}}\n\
         incident-cards: [{{name: c, resource: R, prompt: look}}]\n",
        refusing.base
    ));
    let told = home.run(&["models"], 1).stdout;
    assert!(told.contains("not known: it did not give its list: HTTP 401: Incorrect API key"), "{told}");
    assert!(!told.contains("key-of-the-first"), "{told}");
    let told = Home::empty().run(&["models"], 1).stdout;
    assert!(told.contains("gpt-6-luna  not known: its service has no key"), "{told}");
}
