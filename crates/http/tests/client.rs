//! The client against a server on the loopback.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use sentinel_http::{AddressPolicy, HttpClient, HttpError, Url, read_body};

/// Serves until the test's runtime ends.
async fn serve() -> SocketAddr {
    let away = || async {
        (StatusCode::FOUND, [("location", "https://elsewhere.example/?token=hunter2")]).into_response()
    };
    let router = Router::new().route("/", get(|| async { "here" })).route("/away", get(away));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn get_text(http: &HttpClient, url: &str) -> Result<String, HttpError> {
    http.check_url(&Url::parse(url).unwrap())?;
    let answer = http.client()?.get(url).send().await.map_err(|e| HttpError::from(&e))?;
    answer.text().await.map_err(|e| HttpError::from(&e))
}

#[tokio::test]
async fn a_named_private_host_is_reached() {
    let port = serve().await.port();
    let http = HttpClient::new(AddressPolicy::new(["localhost", "127.0.0.1"], ["localhost", "127.0.0.1"]));
    // By name: the resolver. The machine may put ::1 first, where nobody listens; the client goes on to the next.
    assert_eq!(get_text(&http, &format!("http://localhost:{port}/")).await, Ok("here".to_owned()));
    assert_eq!(get_text(&http, &format!("http://127.0.0.1:{port}/")).await, Ok("here".to_owned()));
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let port = serve().await.port();
    let http = HttpClient::new(AddressPolicy::new(["localhost"], []));
    let refused = get_text(&http, &format!("http://localhost:{port}/")).await;
    assert!(
        matches!(refused, Err(HttpError::Private { ref host, kind: "loopback", .. }) if host == "localhost"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_names_its_host_only() {
    let port = serve().await.port();
    let http = HttpClient::new(AddressPolicy::new(["localhost"], ["localhost"]));
    let refused = get_text(&http, &format!("http://localhost:{port}/away")).await.unwrap_err();
    assert_eq!(refused, HttpError::Redirect { host: "elsewhere.example".to_owned() });
    assert!(!refused.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name_are_worth_a_retry_and_show_no_url() {
    let http = HttpClient::new(AddressPolicy::new(["localhost", "no-such-host.invalid"], ["localhost"]));
    let port = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let closed =
        get_text(&http, &format!("http://user:hunter2@localhost:{port}/?q=hunter2")).await.unwrap_err();
    assert!(matches!(closed, HttpError::Connect(_)), "{closed:?}");
    let unknown = get_text(&http, "http://no-such-host.invalid/?q=hunter2").await.unwrap_err();
    assert!(matches!(unknown, HttpError::Resolve { .. }), "{unknown:?}");
    for error in [closed, unknown] {
        assert!(error.is_retryable());
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_body_is_read_up_to_the_bound_and_not_beyond() {
    let port = serve().await.port();
    let http = HttpClient::new(AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]));
    let answer =
        async || http.client().unwrap().get(format!("http://127.0.0.1:{port}/")).send().await.unwrap();
    assert_eq!(read_body(answer().await, 4).await, Ok(b"here".to_vec()));
    let refused = read_body(answer().await, 3).await.unwrap_err();
    assert_eq!(refused, HttpError::TooLarge { most: 3 });
    assert!(!refused.is_retryable());
    assert_eq!(HttpError::TooLarge { most: 16 << 20 }.to_string(), "the answer is larger than 16 MB");
}
