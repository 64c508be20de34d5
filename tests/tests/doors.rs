//! Who may ask a running `up` what, through the real program.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use reqwest::{Method, RequestBuilder, StatusCode};
use sentinel_tests::wire::trouble;
use sentinel_tests::{Home, Sentinel, client};
use serde_json::{Value, json};

const CARDS: &str = r#"
resources: [{name: trouble, filters: {alertname: Trouble}}]
incident-cards: [{name: trouble, resource: trouble, wait: 1h, prompt: "Find out why."}]
"#;

fn home(doors: &str) -> Home {
    Home::with(&format!("{doors}\n{CARDS}"))
}

fn request(up: &Sentinel, method: Method, path: &str, token: Option<&str>) -> RequestBuilder {
    let request = client().request(method, format!("{}{path}", up.url));
    match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    }
}

async fn status(up: &Sentinel, method: Method, path: &str, token: Option<&str>) -> StatusCode {
    request(up, method, path, token).send().await.unwrap().status()
}

async fn post(up: &Sentinel, token: Option<&str>) -> StatusCode {
    let request = request(up, Method::POST, "/webhook/alertmanager", token);
    request.json(&trouble("one")).send().await.unwrap().status()
}

async fn abort(up: &Sentinel, id: &str, token: Option<&str>) -> StatusCode {
    let request = request(up, Method::POST, &format!("/api/incidents/{id}/abort"), token);
    request.json(&json!({"who": "the on-call"})).send().await.unwrap().status()
}

/// Every address that tells something of an incident or of the service.
fn reading(id: &str) -> [String; 5] {
    let of = |rest: &str| format!("/api/incidents/{id}{rest}");
    ["/api/incidents".to_owned(), of(""), of("/record"), of("/events"), "/metrics".to_owned()]
}

fn own_token(home: &Home) -> String {
    fs::read_to_string(home.data().join("api-token")).unwrap()
}

#[tokio::test]
async fn a_webhooks_token_opens_nothing_but_the_webhook_also_on_loopback() {
    let home = home("ingest: {bearer: [the-token-of-alertmanager]}");
    let up = home.up().await;
    assert_eq!(post(&up, None).await, StatusCode::UNAUTHORIZED);
    assert_eq!(post(&up, Some("the-token-of-alertmanager")).await, StatusCode::OK);
    let own = own_token(&home);
    assert_eq!(post(&up, Some(&own)).await, StatusCode::UNAUTHORIZED, "nor does the API's open the webhook");
    let id = up.incidents().await[0]["id"].as_str().unwrap().to_owned();
    for token in [None, Some("the-token-of-alertmanager"), Some("")] {
        for path in reading(&id) {
            let refused = request(&up, Method::GET, &path, token).send().await.unwrap();
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path} with {token:?}");
            assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
            assert!(refused.text().await.unwrap().contains("api-token"), "{path}");
        }
        assert_eq!(abort(&up, &id, token).await, StatusCode::UNAUTHORIZED, "{token:?}");
    }
    assert_eq!(up.incident(&id).await["state"], "pending");
    for path in reading(&id) {
        assert_eq!(status(&up, Method::GET, &path, Some(&own)).await, StatusCode::OK, "{path}");
    }
    // What says nothing of what is inside is open to everybody.
    for (path, expected) in [
        ("/healthz", json!({"status": "ok"})),
        ("/readyz", json!({"status": "ready"})),
        ("/version", json!({"version": env!("CARGO_PKG_VERSION")})),
    ] {
        let answer = request(&up, Method::GET, path, None).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap(), expected, "{path}");
    }
    assert_eq!(abort(&up, &id, Some(&own)).await, StatusCode::OK);
}

#[tokio::test]
async fn tokens_of_the_api_open_what_they_are_for_and_the_record_says_whose_it_was() {
    let home = home(
        "api: {read: [to-look-with], operate: [{name: ann, token: of-ann}, {name: bob, token: \"${BOB}\"}]}",
    )
    .env("BOB", "of-bob");
    let up = home.up().await;
    // Nobody asks for credentials of the webhook, and the API's are asked for all the same.
    let id = up.open(&trouble("one")).await;
    for path in reading(&id) {
        assert_eq!(status(&up, Method::GET, &path, None).await, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(status(&up, Method::GET, &path, Some("of-an")).await, StatusCode::UNAUTHORIZED, "{path}");
        for token in ["to-look-with", "of-ann", "of-bob"] {
            assert_eq!(status(&up, Method::GET, &path, Some(token)).await, StatusCode::OK, "{path}: {token}");
        }
    }
    assert_eq!(abort(&up, &id, Some("to-look-with")).await, StatusCode::FORBIDDEN);
    assert_eq!(abort(&up, &id, Some("of-bob")).await, StatusCode::OK);
    let aborted = up.ended(&id).await;
    let reason = aborted["reason"].as_str().unwrap();
    assert!(reason.contains("bob (the on-call)"), "{reason}");
    // Nothing that the program writes holds a token.
    for secret in ["to-look-with", "of-ann", "of-bob"] {
        assert!(!up.child.stderr().contains(secret) && home.data_files_with(secret).is_empty(), "{secret}");
    }
}

#[tokio::test]
async fn neither_a_web_page_nor_a_foreign_host_name_is_answered_on_any_route() {
    let home = home("server: {hosts: [sentinel.example], origins: ['https://desk.example']}");
    let up = home.up().await;
    let routes = [
        (Method::GET, "/healthz"),
        (Method::GET, "/readyz"),
        (Method::GET, "/version"),
        (Method::GET, "/metrics"),
        (Method::GET, "/api/incidents"),
        (Method::POST, "/api/incidents/0/abort"),
        (Method::POST, "/webhook/alertmanager"),
        (Method::GET, "/nothing"),
    ];
    for (method, path) in routes {
        let with = async |name: &str, value: &str| {
            let asked = request(&up, method.clone(), path, None).header(name, value).json(&trouble("one"));
            asked.send().await.unwrap().status()
        };
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("host", "evil.example"),
            ("host", "evil.example:8765"),
            ("host", "127.0.0.1.evil.example"),
        ] {
            assert_eq!(with(name, value).await, StatusCode::FORBIDDEN, "{path}, {name}: {value}");
        }
        for host in ["sentinel.example", "localhost:1"] {
            assert_ne!(with("host", host).await, StatusCode::FORBIDDEN, "{path}: {host}");
        }
        // A webhook without credentials is for programs, whatever page posts it.
        if path != "/webhook/alertmanager" {
            assert_ne!(with("origin", "https://desk.example").await, StatusCode::FORBIDDEN, "{path}");
        }
    }
}

#[tokio::test]
async fn the_command_line_shows_the_token_of_the_data_folder_and_says_where_it_is() {
    let home = home("ingest: {bearer: [the-token-of-alertmanager]}");
    let up = home.up().await;
    assert_eq!(post(&up, Some("the-token-of-alertmanager")).await, StatusCode::OK);
    let listed = home.run(&["incidents", "list", "--json"], 0).json();
    let id = listed[0]["id"].as_str().unwrap();
    home.run(&["incidents", "show", id], 0);

    let file = home.data().join("api-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let token = own_token(&home);
    fs::write(&file, "another").unwrap();
    let refused = home.run(&["incidents", "abort", id], 1).stderr;
    assert!(refused.contains("api-token") && refused.contains("does not take"), "{refused}");
    fs::remove_file(&file).unwrap();
    let absent = home.run(&["incidents", "list"], 1).stderr;
    assert!(absent.contains("api-token") && absent.contains("cannot be read"), "{absent}");

    fs::write(&file, token).unwrap();
    home.run(&["incidents", "abort", id, "--who", "the on-call"], 0);
    let aborted = home.run(&["incidents", "show", id, "--json"], 0).json();
    assert!(aborted["reason"].as_str().unwrap().contains("api-token (the on-call)"), "{aborted:#}");
}

#[tokio::test]
async fn an_abort_that_says_too_much_is_refused() {
    let up_home = home("");
    let up = up_home.up().await;
    let id = up.open(&trouble("one")).await;
    for (who, expected) in
        [("x".repeat(201), StatusCode::BAD_REQUEST), ("x".repeat(20_000), StatusCode::PAYLOAD_TOO_LARGE)]
    {
        let asked = request(&up, Method::POST, &format!("/api/incidents/{id}/abort"), None);
        assert_eq!(asked.json(&json!({"who": who})).send().await.unwrap().status(), expected);
    }
    assert_eq!(up.incident(&id).await["state"], "pending");
}
