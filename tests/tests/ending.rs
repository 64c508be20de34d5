//! The end of the program: within its bound, whatever hangs.

#![expect(clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::time::{Duration, Instant};

use sentinel_testkit::gate::Gate;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::process::{Child, command};
use sentinel_tests::wire::{LOOPBACK, alert, trouble, webhook};
use sentinel_tests::{Home, Sentinel, client, eventually, program};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// A server whose only tool does not answer until the gate opens.
async fn held() -> (FakeMcp, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let mcp = FakeMcp::builder()
        .tool("look", json!({"type": "object"}), "Looks", move |_| {
            Answer::After(held.clone(), Box::new(Answer::text("all is well here")))
        })
        .start()
        .await;
    (mcp, gate)
}

fn home(mcp: &FakeMcp) -> Home {
    Home::with(&format!(
        "{LOOPBACK}server: {{drain: 1s}}\nmcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         incident-cards:\n\
         - {{name: trouble, resource: Trouble, prompt: Find out., tools: [fake.look], evidence: [{{tool: fake.look}}]}}\n",
        mcp.url()
    ))
}

/// The next start ends what was cut off.
async fn goes_on(home: &Home, id: &str, gate: &Gate) {
    gate.open();
    let up = home.up().await;
    let ended = up.ended(id).await;
    assert_eq!((&ended["state"], &ended["attempts"]), (&json!("done"), &json!(2)), "{ended:#}");
}

#[tokio::test]
async fn what_does_not_end_within_the_bound_is_cut_off_and_said_and_the_next_up_goes_on() {
    let (mcp, gate) = held().await;
    let home = home(&mcp);
    let mut up = home.up().await;
    let id = up.open(&trouble("one")).await;
    mcp.wait_for_calls(1).await;
    up.child.terminate();
    assert_eq!(up.child.wait_for_exit().await.code(), Some(1));
    let said = up.child.stderr();
    assert!(said.contains("one investigation is cut off, and the next `up` goes on with it"), "{said}");
    goes_on(&home, &id, &gate).await;
}

#[tokio::test]
async fn the_end_comes_within_its_bound_though_the_log_is_stuck_a_tool_hangs_and_a_connection_is_half_open() {
    let (mcp, gate) = held().await;
    let home = home(&mcp);
    // Standard error is a pipe that nobody reads: whoever logs into it once it is full is stuck, with its thread.
    let mut stuck = command("sh");
    let program = program("sentinel");
    let up =
        format!("mkfifo log; exec 3<>log; exec {} up --json --listen 127.0.0.1:0 2>log", program.display());
    stuck.args(["-c", &up]).current_dir(home.path()).env_clear().env("PATH", "/usr/bin:/bin");
    let mut up = Sentinel::start(stuck).await;
    let id = up.open(&trouble("one")).await;
    mcp.wait_for_calls(1).await;
    let mut half = TcpStream::connect(up.url.strip_prefix("http://").unwrap()).await.unwrap();
    half.write_all(b"POST /webhook/alertmanager HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();

    // Alerts that nobody takes are logged, each webhook's with several kilobytes.
    let name = |n: usize| format!("{n}{}", "x".repeat(190));
    let noise: Vec<_> = (0..10).map(|n| alert(&name(n), &[(&name(n), "x")])).collect();
    let noise = webhook(&[], &noise);
    let impatient = || client().post(up.webhook()).timeout(Duration::from_millis(500)).json(&noise).send();
    eventually("both threads to be stuck in the log", async || {
        if impatient().await.is_ok() {
            return Err("a webhook was answered".to_owned());
        }
        let healthy = client().get(format!("{}/healthz", up.url)).timeout(Duration::from_millis(500)).send();
        if healthy.await.is_ok() { Err("the service answers".to_owned()) } else { Ok(()) }
    })
    .await;

    let asked = Instant::now();
    up.child.terminate();
    assert_eq!(up.child.wait_for_exit().await.code(), Some(1));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(5), "the end took {took:?}, and 1 s was its bound");
    goes_on(&home, &id, &gate).await;
}

#[tokio::test]
async fn a_replay_that_hangs_ends_at_once_when_it_is_told_to() {
    let (mcp, _gate) = held().await;
    let home = home(&mcp);
    home.write("event.json", &trouble("one").to_string());
    for end in [Child::interrupt, Child::terminate] {
        let before = mcp.calls().len();
        let mut replay = Child::start("sentinel replay", home.command(&["replay", "event.json"]));
        mcp.wait_for_calls(before + 1).await;
        let asked = Instant::now();
        end(&mut replay);
        assert!(!replay.wait_for_exit().await.success());
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    }
}
