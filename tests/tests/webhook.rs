//! Bad input through the real program: each is told what is wrong with it, and the service goes on.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use reqwest::StatusCode;
use sentinel_tests::wire::{alert, trouble, webhook};
use sentinel_tests::{Home, Sentinel, client};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

const CONFIG: &str = r#"
resources: [{name: trouble, filters: {alertname: Trouble}}]
incident-cards: [{name: trouble, resource: trouble, prompt: "Find out why."}]
"#;

/// The service takes what is good, whatever came before.
async fn goes_on(up: &Sentinel, instance: &str) {
    let id = up.open(&trouble(instance)).await;
    assert_eq!(up.ended(&id).await["state"], "done");
}

#[tokio::test]
async fn a_broken_envelope_is_refused_with_what_and_where_and_the_service_goes_on() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let deep = format!("{{\"alerts\": {}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let bodies: [(&str, Vec<u8>, &str); 6] = [
        ("not JSON", b"{\"alerts\": [".to_vec(), ""),
        ("not UTF-8", b"{\"alerts\": [{\"labels\": {\"a\": \"\xff\"}}]}".to_vec(), "UTF-8"),
        ("no alerts", b"{\"version\": \"4\"}".to_vec(), "alerts"),
        ("alerts that are no list", b"{\"alerts\": {}}".to_vec(), "alerts"),
        ("nested too deep", deep.into_bytes(), "deep"),
        ("empty", Vec::new(), ""),
    ];
    for (what, body, says) in bodies {
        let (status, answer) = up.post_bytes(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{what}: {answer}");
        let error = answer["error"].as_str().unwrap();
        assert!(!error.is_empty() && answer.to_string().contains(says), "{what}: {answer}");
    }
    assert_eq!(up.incidents().await, Vec::<Value>::new());
    goes_on(&up, "one").await;
}

#[tokio::test]
async fn a_wrong_method_place_or_encoding_is_told() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let client = client();

    let got = client.get(up.webhook()).send().await.unwrap();
    assert_eq!(
        (got.status(), got.headers()["allow"].to_str().unwrap()),
        (StatusCode::METHOD_NOT_ALLOWED, "POST")
    );

    let zipped = client.post(up.webhook()).header("content-encoding", "gzip").body(vec![0x1f, 0x8b, 8, 0]);
    let zipped = zipped.send().await.unwrap();
    assert_eq!(zipped.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(zipped.headers()["accept-encoding"], "identity");

    let lost = client.post(format!("{}/webhook", up.url)).json(&trouble("one")).send().await.unwrap();
    assert_eq!(lost.status(), StatusCode::NOT_FOUND);
    assert!(lost.text().await.unwrap().contains("/webhook/alertmanager"));
    let odd = client.delete(format!("{}/api/incidents", up.url)).send().await.unwrap();
    assert_eq!(odd.status(), StatusCode::METHOD_NOT_ALLOWED);
    let slash = client.post(format!("{}/", up.webhook())).json(&trouble("slash")).send().await.unwrap();
    assert_eq!(slash.status(), StatusCode::OK);

    assert_eq!(up.get("/healthz").await["status"], "ok");
    goes_on(&up, "one").await;
}

#[tokio::test]
async fn a_broken_alert_does_not_take_its_neighbours_with_it() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let good = alert("Trouble", &[("instance", "one")]);
    let mut broken = good.clone();
    broken["startsAt"] = json!("yesterday");
    let strange = alert("NobodyTakesThis", &[]);

    let (status, answer) = up.post(&webhook(&[], &[broken.clone(), good, strange])).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(
        (&answer["accepted"], &answer["refused"], &answer["unmatched"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(answer["refusals"][0]["path"].as_str().unwrap().contains("startsAt"), "{answer}");
    assert_eq!(up.incidents().await.len(), 1);

    let (status, answer) = up.post(&webhook(&[], &[broken.clone(), broken])).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    goes_on(&up, "two").await;
}

#[tokio::test]
async fn alerts_that_no_card_takes_are_counted_and_logged() {
    let home = Home::with(CONFIG);
    let mut up = home.up().await;
    let (status, answer) = up.post(&webhook(&[], &[alert("NobodyTakesThis", &[("pod", "web-1")])])).await;
    assert_eq!((status, &answer["unmatched"], &answer["accepted"]), (StatusCode::OK, &json!(1), &json!(0)));
    let line = up.child.wait_for_line("NobodyTakesThis").await;
    assert!(line.contains("WARN"), "{line}");
}

/// A connection on which requests are written by hand, so that it is known which one they use.
struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: tokio::net::tcp::OwnedWriteHalf,
    host: String,
}

impl Connection {
    async fn open(up: &Sentinel) -> Self {
        let host = up.url.strip_prefix("http://").unwrap().to_owned();
        let (reader, writer) = TcpStream::connect(&host).await.unwrap().into_split();
        Self { reader: BufReader::new(reader), writer, host }
    }

    async fn send(&mut self, request_line: &str, body: &[u8]) -> (u16, String) {
        let head = format!(
            "{request_line} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        self.writer.write_all(head.as_bytes()).await.unwrap();
        self.writer.write_all(body).await.unwrap();
        let mut line = String::new();
        self.reader.read_line(&mut line).await.unwrap();
        let status =
            line.split(' ').nth(1).unwrap_or_else(|| panic!("no status in {line:?}")).parse().unwrap();
        let mut length = 0;
        loop {
            let mut header = String::new();
            self.reader.read_line(&mut header).await.unwrap();
            if header.trim().is_empty() {
                break;
            }
            if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer).await.unwrap();
        (status, String::from_utf8(answer).unwrap())
    }
}

#[tokio::test]
async fn a_body_of_more_than_six_megabytes_is_refused_and_its_connection_survives() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let mut connection = Connection::open(&up).await;
    let (status, answer) = connection.send("POST /webhook/alertmanager", &vec![b' '; 20 << 20]).await;
    assert_eq!(status, 413, "{answer}");
    assert!(
        answer.contains("6291456") || answer.contains("6,291,456") || answer.contains("6 MB"),
        "{answer}"
    );

    let good = trouble("one").to_string();
    let (status, answer) = connection.send("POST /webhook/alertmanager", good.as_bytes()).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""accepted":1"#), "{answer}");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let mut body = trouble("one").to_string().into_bytes();
    body.resize(6_291_456, b' ');
    let (status, answer) = up.post_bytes(body.clone()).await;
    assert_eq!((status, &answer["accepted"]), (StatusCode::OK, &json!(1)), "{answer}");
    body.push(b' ');
    let (status, answer) = up.post_bytes(body).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{answer}");
}

#[tokio::test]
async fn the_api_is_for_programs_of_this_machine_and_not_for_web_pages() {
    let home = Home::with(CONFIG);
    let up = home.up().await;
    let list = format!("{}/api/incidents", up.url);
    for (name, value) in [("origin", "https://evil.example"), ("host", "evil.example")] {
        let refused = client().get(&list).header(name, value).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{name}");
    }
    let unknown = client().get(format!("{list}/0000")).send().await.unwrap();
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    assert_eq!(up.incidents().await, Vec::<Value>::new());
    let odd = client().get(format!("{list}?colour=red")).send().await.unwrap();
    assert_eq!(odd.status(), StatusCode::BAD_REQUEST);
    let said: Value = odd.json().await.unwrap();
    assert!(said["error"].as_str().unwrap().contains("there is no filter `colour`"), "{said}");
}
