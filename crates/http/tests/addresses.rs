//! No spelling of an address, no redirect and no name server leads to where the operator did not allow.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Query;
use axum::http::{HeaderValue, StatusCode};
use axum::routing::get;
use sentinel_http::dns::{Addrs, Name, Resolve, Resolving};
use sentinel_http::{AddressPolicy, HttpClient, HttpError, Url, form_urlencoded};
use sentinel_testkit::spellings;
use tokio::net::TcpListener;

/// A listener on the loopback that counts who comes.
struct Trap {
    port: u16,
    met: Arc<AtomicUsize>,
}

impl Trap {
    async fn set() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, met) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&met);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                drop(connection);
            }
        });
        Self { port, met }
    }

    fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

/// A name server that gives each of these answers once, and the last one for ever.
struct Names {
    answers: Mutex<VecDeque<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Names {
    fn saying(answers: &[&[&str]]) -> Arc<Self> {
        let answers = answers.iter().map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        Arc::new(Self { answers: Mutex::new(answers.collect()), asked: AtomicUsize::new(0) })
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(async move {
            let addresses = answer.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, 0));
            let addresses: Addrs = Box::new(addresses);
            Ok(addresses)
        })
    }
}

/// As every caller does: the URL is read and checked, and the client is asked.
async fn call(http: &HttpClient, url: &str) -> Result<StatusCode, HttpError> {
    let url = Url::parse(url).map_err(|e| HttpError::BadUrl(e.to_string()))?;
    http.check_url(&url)?;
    let request = http.client()?.get(url).timeout(Duration::from_secs(10));
    Ok(request.send().await.map_err(|e| HttpError::from(&e))?.status())
}

#[tokio::test]
async fn no_spelling_of_an_address_that_is_not_public_is_connected_to() {
    let trap = Trap::set().await;
    let http = HttpClient::with_names(AddressPolicy::default(), Names::saying(&[&["127.0.0.1", "::1"]]));
    let mut spellings = 0;
    for url in spellings::not_public(trap.port) {
        let refused = call(&http, &url).await.unwrap_err();
        // Not even tried: what is tried ends in these.
        assert!(
            !matches!(refused, HttpError::Connect(_) | HttpError::TimedOut | HttpError::Broken(_)),
            "{url:?}: {refused}"
        );
        spellings += 1;
    }
    assert_eq!(trap.met(), 0);
    println!("spellings of addresses: {spellings}, connections: {}", trap.met());
    assert!(spellings >= 100);
}

#[tokio::test]
async fn a_redirect_is_followed_to_no_spelling_of_any_address() {
    let trap = Trap::set().await;
    let away = |Query(to): Query<Vec<(String, String)>>| async move {
        let to: String = to.into_iter().map(|(_, to)| to).collect();
        // What cannot stand in a header cannot be redirected to.
        HeaderValue::from_bytes(to.as_bytes())
            .map(|to| (StatusCode::TEMPORARY_REDIRECT, [("location", to)]))
            .ok()
            .ok_or(StatusCode::NO_CONTENT)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(away))).await });
    // Even where each of them might be called.
    let here = ["127.0.0.1", "localhost", "::1", "public.example", "a.localhost", "metadata"];
    let http = HttpClient::with_names(AddressPolicy::new(here, here), Names::saying(&[&["127.0.0.1"]]));
    let mut redirects = 0;
    let urls: Vec<String> = spellings::not_public(trap.port).collect();
    for to in urls.iter().chain(&urls.iter().map(|url| url.replace("https:", "http:")).collect::<Vec<_>>()) {
        let query: String = form_urlencoded::byte_serialize(to.as_bytes()).collect();
        match call(&http, &format!("http://{server}/?to={query}")).await {
            Ok(status) if status == StatusCode::NO_CONTENT => {}
            // reqwest takes a target that is no URL, or none of HTTP, for the answer itself.
            Ok(status) => assert_eq!(status, StatusCode::TEMPORARY_REDIRECT, "{to:?}"),
            Err(refused) => {
                assert!(matches!(refused, HttpError::Redirect { .. }), "{to:?}: {refused}");
                redirects += 1;
            }
        }
    }
    println!("redirects: {redirects}, connections: {}", trap.met());
    assert!(redirects >= 100, "{redirects}");
    assert_eq!(trap.met(), 0);
}

#[tokio::test]
async fn a_name_is_refused_if_any_of_its_addresses_is_not_public() {
    let trap = Trap::set().await;
    for answer in [
        &["127.0.0.1"][..],
        &["1.1.1.1", "127.0.0.1"],
        &["127.0.0.1", "1.1.1.1"],
        &["2606:4700:4700::1111", "::1"],
        &["1.1.1.1", "8.8.8.8", "9.9.9.9", "::ffff:127.0.0.1"],
        &["169.254.169.254"],
        &["fd00:ec2::254"],
        &["0.0.0.0"],
    ] {
        let http = HttpClient::with_names(AddressPolicy::default(), Names::saying(&[answer]));
        let refused = call(&http, &format!("https://rebound.example:{}/", trap.port)).await.unwrap_err();
        assert!(matches!(refused, HttpError::Private { .. }), "{answer:?}: {refused}");
    }
    let http = HttpClient::with_names(AddressPolicy::default(), Names::saying(&[&[]]));
    let refused = call(&http, &format!("https://rebound.example:{}/", trap.port)).await.unwrap_err();
    assert!(matches!(refused, HttpError::Resolve { .. }), "{refused}");
    assert_eq!(trap.met(), 0);
}

#[tokio::test]
async fn a_name_that_moves_is_judged_by_where_it_is_now_and_asked_once_a_connection() {
    let trap = Trap::set().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Router::new().route("/", get(|| async { ([("connection", "close")], "here") }));
    tokio::spawn(async move { axum::serve(listener, served).await });
    // The name may have an address of this machine's network. It is another's at the next look: nothing was kept.
    let names = Names::saying(&[&["127.0.0.1"], &["127.0.0.1"], &["169.254.169.254"], &["127.0.0.1"]]);
    let policy = AddressPolicy::new(["moves.example"], ["moves.example"]);
    let http = HttpClient::with_names(policy.clone(), Arc::<Names>::clone(&names));
    for asked in 1..=2 {
        assert_eq!(call(&http, &format!("http://moves.example:{port}/")).await, Ok(StatusCode::OK));
        assert_eq!(
            names.asked.load(Ordering::SeqCst),
            asked,
            "the address that was checked is the one connected to"
        );
    }
    // A name that nobody listed is held to public addresses at each look, whatever it had before.
    let names = Names::saying(&[&["127.0.0.1"], &["10.0.0.1", "127.0.0.1"], &["::1"]]);
    let http = HttpClient::with_names(AddressPolicy::new(["other.example"], ["moves.example"]), names);
    for _ in 0..4 {
        let refused = call(&http, &format!("http://other.example:{}/", trap.port)).await.unwrap_err();
        assert!(matches!(refused, HttpError::Private { .. }), "{refused}");
    }
    assert_eq!(trap.met(), 0);
}
