//! The way out through a proxy.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use sentinel_http::dns::{Addrs, Name, Resolve, Resolving};
use sentinel_http::{AddressPolicy, HttpClient, HttpError, Proxy, Url};
use sentinel_testkit::proxy::FakeProxy;

/// Every name is a name of this machine; which ones were asked for is kept.
#[derive(Default)]
struct Here(Mutex<Vec<String>>);

impl Resolve for Here {
    fn resolve(&self, name: Name) -> Resolving {
        self.0.lock().unwrap().push(name.as_str().to_owned());
        let addresses: Addrs = Box::new(std::iter::once(SocketAddr::from(([127, 0, 0, 1], 0))));
        Box::pin(async move { Ok(addresses) })
    }
}

async fn server() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(|| async { "reached" });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A client whose proxy is `proxy.example`, with a password, and which may go to private hosts that are listed.
fn client(proxy: &FakeProxy, names: &Arc<Here>, private: &[&str], direct: &[&str]) -> HttpClient {
    let policy = AddressPolicy::new(["mcp.example", "inside.example"], private.iter().copied());
    let url = format!("http://sentinel:sword%40fish@proxy.example:{}", proxy.address.port());
    let direct = direct.iter().map(|host| (*host).to_owned()).collect();
    let names: Arc<dyn Resolve> = Arc::<Here>::clone(names);
    HttpClient::with_names(policy, names).through(Some(Proxy::new(url.parse().unwrap(), direct)))
}

async fn get(http: &HttpClient, url: &str) -> Result<String, HttpError> {
    http.check_url(&Url::parse(url).unwrap())?;
    let answer = http.client()?.get(url).send().await.map_err(|e| HttpError::from(&e))?;
    answer.text().await.map_err(|e| HttpError::from(&e))
}

#[tokio::test]
async fn https_goes_through_the_proxy_by_connect_and_only_the_proxys_name_is_looked_up() {
    let (proxy, names) = (FakeProxy::to([("mcp.example", server().await)]).await, Arc::<Here>::default());
    let http = client(&proxy, &names, &["proxy.example"], &[]);
    // The server behind it speaks no TLS: what matters is what came to the proxy.
    let broke = get(&http, "https://mcp.example/mcp?key=hunter2").await.unwrap_err();
    assert!(!format!("{broke} {http:?}").contains("fish"), "{broke} {http:?}");
    let seen = &proxy.requests()[0];
    assert_eq!(seen.line, "CONNECT mcp.example:443 HTTP/1.1");
    // `sentinel:sword@fish`.
    let told = "proxy-authorization: basic c2vudgluzww6c3dvcmrazmlzaa==";
    assert!(seen.headers.iter().any(|header| header.to_ascii_lowercase() == told), "{seen:?}");
    // TLS begins inside of the tunnel, and names the server: nothing of the request is in the clear.
    let tunnelled = String::from_utf8_lossy(&seen.tunnelled).into_owned();
    assert_eq!(seen.tunnelled[0], 0x16, "a TLS handshake");
    assert!(tunnelled.contains("mcp.example") && !tunnelled.contains("hunter2"));
    assert_eq!(*names.0.lock().unwrap(), ["proxy.example"]);
}

#[tokio::test]
async fn http_goes_through_the_proxy_with_its_whole_address_where_its_host_is_allowed() {
    let (proxy, names) = (FakeProxy::to([("mcp.example", server().await)]).await, Arc::<Here>::default());
    let http = client(&proxy, &names, &["proxy.example"], &[]);
    assert_eq!(get(&http, "http://mcp.example:8080/mcp").await.unwrap(), "reached");
    assert_eq!(proxy.requests()[0].line, "GET http://mcp.example:8080/mcp HTTP/1.1");
    let refused = get(&http, "http://other.example/").await.unwrap_err();
    assert!(matches!(refused, HttpError::Insecure { .. }), "{refused}");
    // An address that stands in the URL is refused before anybody is asked.
    let refused = get(&http, "https://169.254.169.254/latest/meta-data").await.unwrap_err();
    assert!(matches!(refused, HttpError::Private { .. }), "{refused}");
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn the_address_check_holds_for_the_proxy() {
    let (proxy, names) = (FakeProxy::to([("mcp.example", server().await)]).await, Arc::<Here>::default());
    let refused = get(&client(&proxy, &names, &[], &[]), "https://mcp.example/").await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "proxy.example has the loopback address 127.0.0.1; list the host in network.allow-private-hosts if that is meant"
    );
    let by_address = Proxy::new(format!("http://{}", proxy.address).parse().unwrap(), vec![]);
    let http = HttpClient::new(AddressPolicy::default()).through(Some(by_address));
    let refused = get(&http, "https://mcp.example/").await.unwrap_err();
    assert!(matches!(refused, HttpError::Private { .. }), "{refused}");
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn what_goes_past_the_proxy_is_looked_up_and_checked_as_ever() {
    let target = server().await;
    let (proxy, names) = (FakeProxy::to([]).await, Arc::<Here>::default());
    let http =
        client(&proxy, &names, &["proxy.example", "inside.example"], &["inside.example", "secret.example"]);
    let inside = format!("http://inside.example:{}/", target.port());
    assert_eq!(get(&http, &inside).await.unwrap(), "reached");
    let refused = get(&http, "https://sub.secret.example/").await.unwrap_err();
    assert!(
        matches!(refused, HttpError::Private { ref host, .. } if host == "sub.secret.example"),
        "{refused}"
    );
    assert!(proxy.requests().is_empty());
    // This machine is never behind a proxy.
    let policy = AddressPolicy::new(["127.0.0.1"], ["127.0.0.1"]);
    let here = Proxy::new(format!("http://{}", proxy.address).parse().unwrap(), vec![]);
    let http = HttpClient::new(policy).through(Some(here));
    assert_eq!(get(&http, &format!("http://{target}/")).await.unwrap(), "reached");
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn a_proxy_that_refuses_is_told_as_one() {
    let (proxy, names) = (FakeProxy::to([]).await, Arc::<Here>::default());
    let refused =
        get(&client(&proxy, &names, &["proxy.example"], &[]), "https://mcp.example/").await.unwrap_err();
    let told = refused.to_string();
    assert!(told.to_ascii_lowercase().contains("proxy") && !told.contains("fish"), "{told}");
    assert_eq!(proxy.requests().len(), 1);
}
