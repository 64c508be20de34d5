//! `sentinel up` with credentials of the secret store.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::process::Stdio;

use sentinel_testkit::aws::FakeAws;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};

const CONFIG: &str = "ingest: {bearer: ['${secret:token#current}']}\n\
                      incident-cards: [{name: pods, resource: KubePodNotReady, prompt: look}]\n";

fn up(aws: &FakeAws) -> (Child, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.yaml"), CONFIG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
    command
        .args(["up", "--listen", "127.0.0.1:0", "--json"])
        .env_clear()
        .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")])
        .env("AWS_ENDPOINT_URL", aws.url())
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    (command.spawn().unwrap(), folder)
}

#[tokio::test]
async fn up_takes_the_token_that_the_secret_store_holds() {
    let aws = FakeAws::start().await;
    aws.put_secret("token", r#"{"current": "right"}"#);
    let (mut child, _folder) = up(&aws);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let url = format!("{}/webhook/alertmanager", line["listening"].as_str().unwrap());
    let post = async |token: &str| {
        let body = r#"{"version": "4", "status": "firing", "alerts": [{"labels": {"alertname": "Other"}}]}"#;
        let request = reqwest::Client::new().post(&url).bearer_auth(token).body(body);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("right").await, 200);
    assert_eq!(post("wrong").await, 401);
}

#[tokio::test]
async fn up_does_not_start_without_its_secrets_and_says_which() {
    let aws = FakeAws::start().await;
    let (mut child, _folder) = up(&aws);
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).await.unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "{told}");
    assert!(told.contains("reading secret token"), "{told}");
}
