//! `sentinel doctor`: what a first evening trips over, each with its remedy.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use axum::Router;
use axum::http::header::DATE;
use axum::response::IntoResponse;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::slack::SlackServer;
use sentinel_tests::Home;
use sentinel_tests::wire::LOOPBACK;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const KEY: &str = "model-key-that-nobody-may-see";
const TOKEN: &str = "xoxb-token-that-nobody-may-see";

/// A service that lists one model, and whose clock says what it is told.
struct Models {
    base: String,
    serving: JoinHandle<()>,
}

impl Models {
    async fn with(model: &'static str, date: Option<&'static str>) -> Self {
        let router = Router::new().fallback(move || async move {
            let mut answer = json!({"data": [{"id": model}]}).to_string().into_response();
            if let Some(date) = date {
                answer.headers_mut().insert(DATE, date.parse().unwrap());
            }
            answer
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/v1", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, serving }
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn tools() -> FakeMcp {
    FakeMcp::builder().tool("look", json!({"type": "object"}), "Looks", |_| Answer::text("ok")).start().await
}

fn home(models: &Models, mcp: &str, slack: &SlackServer, token: &str, tool: &str) -> Home {
    Home::with(&format!(
        "{LOOPBACK}openai: {{model: gpt-6-luna, base-url: \"{}\", api-key: {KEY}, fallback-models: []}}\n\
         mcp-servers: [{{name: fake, server-url: \"{mcp}\"}}]\n\
         sinks: [{{name: chat, type: slack, url: \"{}\", token: {token}}}]\n\
         incident-cards:\n\
         - {{name: c, resource: R, prompt: look, tools: [fake.{tool}], sinks: [log, \"chat:oncall\"]}}\n",
        models.base,
        slack.api(),
    ))
}

/// What was seen, by what was looked at.
fn seen<'f>(found: &'f Value, of: &str) -> &'f Value {
    let found = found.as_array().unwrap();
    found
        .iter()
        .find(|f| f["of"].as_str().unwrap().starts_with(of))
        .unwrap_or_else(|| panic!("{of}: {found:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_well_the_doctor_says_so_and_costs_nothing() {
    let (models, mcp) = (Models::with("gpt-6-luna", None).await, tools().await);
    let slack = SlackServer::start(TOKEN, &["oncall"], []).await;
    let home = home(&models, &mcp.url(), &slack, TOKEN, "look");
    home.run(&["tools", "lock"], 0);
    let up = home.up().await;
    let told = home.run(&["doctor"], 0).stdout;
    for line in [
        "ok      model openai: gpt-6-luna: its service has it",
        "ok      server fake: lists 1 tools",
        "ok      sink chat:oncall: takes the credentials: sentinel in Example, posting to oncall",
        "ok      sink log: is the process's log",
        "ok      clock: agrees with openai",
        &format!("`sentinel up` runs on it, and answers at {}", up.url),
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(told.ends_with("All is well.\n"), "{told}");
    assert!(slack.messages().is_empty() && !told.contains(KEY) && !told.contains(TOKEN), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_broken_is_named_with_its_remedy_and_the_rest_is_looked_at_all_the_same() {
    let models = Models::with("gpt-5", Some("Mon, 05 Jan 2026 09:00:00 GMT")).await;
    let mcp = tools().await;
    let slack = SlackServer::start("another", &["oncall"], []).await;
    let broken = home(&models, &mcp.url(), &slack, TOKEN, "gone");
    let found = broken.run(&["doctor", "--json"], 1).json();
    for (of, said, remedy) in [
        ("model openai", "its service does not have it", "name another model"),
        ("tool fake.gone", "its server does not list it", "name another tool"),
        ("sink chat", "invalid_auth", "mend its token"),
        ("clock", "off what openai says", "set it (NTP)"),
    ] {
        let finding = seen(&found, of);
        assert_eq!(finding["grade"], "trouble", "{finding:#}");
        assert!(finding["seen"].as_str().unwrap().contains(said), "{finding:#}");
        assert!(finding["remedy"].as_str().unwrap().contains(remedy), "{finding:#}");
    }
    assert_eq!(seen(&found, "data folder")["grade"], "note");
    assert!(!found.to_string().contains(KEY) && !found.to_string().contains(TOKEN), "{found}");

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let down = home(&models, &format!("http://{nobody}/mcp"), &slack, TOKEN, "look");
    let told = down.run(&["doctor"], 1).stdout;
    assert!(told.contains("TROUBLE server fake: ") && told.contains("mend its address"), "{told}");
    assert!(!told.contains("tool fake.look"), "of a server that is down that is said once: {told}");
    assert!(told.trim_end().ends_with(" to be mended."), "{told}");
}

#[test]
fn without_a_key_the_doctor_says_what_reports_hold_until_there_is_one() {
    let told = Home::empty().run(&["doctor"], 1).stdout;
    assert!(
        told.contains("its service has no key") && told.contains("reports hold the evidence only"),
        "{told}"
    );
}
