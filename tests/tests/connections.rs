//! Connections that are left unfinished, by the hundred, and what they may use up.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::time::Duration;

use reqwest::StatusCode;
use sentinel_testkit::process::command;
use sentinel_tests::wire::trouble;
use sentinel_tests::{Home, Sentinel, client, eventually, program};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const CARDS: &str = r#"
resources: [{name: trouble, filters: {alertname: Trouble}}]
incident-cards: [{name: trouble, resource: trouble, wait: 1h, prompt: "Find out why."}]
"#;
const TOKEN: &str = "the-token-of-alertmanager";

fn home(doors: &str) -> Home {
    Home::with(&format!("{doors}\n{CARDS}"))
}

fn address(up: &Sentinel) -> &str {
    up.url.strip_prefix("http://").unwrap()
}

async fn begin(up: &Sentinel, text: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address(up)).await.unwrap();
    // It may be closed already: that is what some tests are about.
    let _ = stream.write_all(text).await;
    stream
}

/// The head of a webhook whose body is said to have `length` bytes.
fn head(length: usize, more: &str) -> Vec<u8> {
    format!(
        "POST /webhook/alertmanager HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{more}\r\n"
    )
    .into_bytes()
}

async fn post(up: &Sentinel, instance: &str) -> StatusCode {
    let request = client().post(up.webhook()).bearer_auth(TOKEN).json(&trouble(instance));
    request.send().await.unwrap().status()
}

async fn metric(up: &Sentinel, name: &str) -> u64 {
    let text = up.text("/metrics").await;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_else(|| unreachable!("{name}: {text}"));
    line.trim().parse().unwrap()
}

/// What a process holds in memory, in bytes.
fn resident(up: &Sentinel) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", up.child.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn connections_that_never_finish_their_heads_keep_no_webhook_out() {
    let home = home(&format!("ingest: {{bearer: [{TOKEN}]}}\nserver: {{max-connections: 16}}"));
    let mut up = home.up().await;
    let mut unfinished = Vec::new();
    for n in 0..150 {
        unfinished.push(begin(&up, b"POST / HTTP/1.1\r\nhost: localhost\r\nx").await);
        if n % 50 == 49 {
            assert_eq!(post(&up, &n.to_string()).await, StatusCode::OK);
        }
    }
    assert!(metric(&up, "sentinel_http_refused_total{reason=\"crowded\"}").await >= 130);
    assert!(metric(&up, "sentinel_http_connections").await <= 16);
    let line = up.child.wait_for_line("server.max-connections").await;
    assert!(line.contains("WARN") && line.contains("crowded"), "{line}");
    let lines = up.child.stderr().lines().filter(|line| line.contains("crowded")).count();
    assert_eq!(lines, 1, "a line a minute, not one a connection");
}

#[tokio::test]
async fn a_body_is_not_read_of_somebody_who_shows_no_credentials() {
    let home = home(&format!("ingest: {{bearer: [{TOKEN}]}}"));
    let up = home.up().await;
    let before = resident(&up);
    let mut unfinished = Vec::new();
    for _ in 0..20 {
        let mut stream = begin(&up, &head(6_291_456, "")).await;
        let _ = stream.write_all(&vec![b'x'; 6_291_000]).await;
        unfinished.push(stream);
    }
    let grown = resident(&up).saturating_sub(before);
    assert!(grown < 24 << 20, "{grown} bytes for bodies that nobody was to read");
    // Answered without the rest; at once, where the sender waits for leave to send it.
    let mut answer = [0; 12];
    timeout(Duration::from_secs(10), unfinished[0].read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let mut polite = begin(&up, &head(6_291_456, "expect: 100-continue\r\n")).await;
    timeout(Duration::from_secs(1), polite.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert_eq!(post(&up, "one").await, StatusCode::OK);
    assert!(metric(&up, "sentinel_http_refused_total{reason=\"unauthorized\"}").await >= 1);
}

#[tokio::test]
async fn unfinished_bodies_hold_a_bounded_number_of_bytes_where_nobody_needs_credentials() {
    let home = home("");
    let up = home.up().await;
    let before = resident(&up);
    let mut unfinished = Vec::new();
    for _ in 0..20 {
        let mut stream = begin(&up, &head(6_291_456, "")).await;
        let _ = stream.write_all(&vec![b' '; 6_291_000]).await;
        unfinished.push(stream);
        assert!(metric(&up, "sentinel_http_body_bytes").await <= 32 << 20);
    }
    assert_eq!(post(&up, "one").await, StatusCode::OK);
    let grown = resident(&up).saturating_sub(before);
    assert!(grown < 100 << 20, "{grown} bytes for 20 unfinished bodies");
    drop(unfinished);
    eventually("the bytes to be free again", async || match metric(&up, "sentinel_http_body_bytes").await {
        0 => Ok(()),
        held => Err(format!("{held} bytes are held")),
    })
    .await;
}

#[tokio::test]
async fn whoever_says_that_nothing_follows_its_request_reads_its_answer() {
    let home = home("");
    let up = home.up().await;
    let body = trouble("one").to_string();
    let mut stream = begin(&up, &head(body.len(), "connection: close\r\n")).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""accepted":1"#), "{answer}");
}

#[tokio::test]
async fn heads_are_bounded_and_nothing_but_http_1_is_spoken() {
    let home = home("");
    let up = home.up().await;
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(100_000));
    for (what, begun) in [
        ("200 headers", format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{many}\r\n")),
        ("100 kB of a header", format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{long}\r\n")),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("no HTTP", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned()),
    ] {
        let mut stream = begin(&up, begun.as_bytes()).await;
        let mut answer = Vec::new();
        // The end may be a reset: what was sent was not read.
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
    }
    assert_eq!(post(&up, "one").await, StatusCode::OK);
}

#[tokio::test]
async fn a_process_that_may_open_no_more_files_says_so_and_goes_on() {
    let home = home("server: {max-connections: 1000}");
    let mut limited = command("sh");
    let up = format!("ulimit -n 64; exec {} up --json --listen 127.0.0.1:0", program("sentinel").display());
    limited.args(["-c", &up]).current_dir(home.path()).env_clear();
    let mut up = Sentinel::start(limited).await;
    let mut unfinished = Vec::new();
    for _ in 0..150 {
        unfinished.push(begin(&up, b"POST / HTTP/1.1\r\nhost: localhost\r\nx").await);
    }
    let line = up.child.wait_for_line("may open no more files").await;
    assert!(line.contains("WARN"), "{line}");
    assert_eq!(post(&up, "one").await, StatusCode::OK, "the oldest ones make room");
    drop(unfinished);
    assert_eq!(post(&up, "two").await, StatusCode::OK);
}
