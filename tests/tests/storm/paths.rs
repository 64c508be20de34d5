//! What stands between the Alertmanagers, and between them and Sentinel, and can be cut.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use reqwest::Client;
use sentinel_tests::client;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// One webhook and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) request: Value,
    pub(crate) status: u16,
    pub(crate) answer: Value,
    pub(crate) took: Duration,
}

#[derive(Clone)]
struct Way {
    to: String,
    client: Client,
    is_cut: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
    exchanges: Arc<Mutex<Vec<Exchange>>>,
}

/// The way of one sender to Sentinel: hands everything on and keeps it.
pub(crate) struct Webhooks {
    pub(crate) url: String,
    way: Way,
    _server: JoinSet<()>,
}

impl Webhooks {
    pub(crate) async fn to(webhook: &str) -> Self {
        let way = Way {
            to: webhook.to_owned(),
            client: client(),
            is_cut: Arc::default(),
            refused: Arc::default(),
            exchanges: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(pass).with_state(way.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, way, _server: server }
    }

    /// While it is cut, a webhook gets as far as a gateway that finds nobody behind it.
    pub(crate) fn cut(&self, cut: bool) {
        self.way.is_cut.store(cut, Ordering::SeqCst);
    }

    /// Webhooks that did not get through.
    pub(crate) fn refused(&self) -> usize {
        self.way.refused.load(Ordering::SeqCst)
    }

    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.way.exchanges.lock().unwrap().clone()
    }
}

async fn pass(State(way): State<Way>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let answer = |status: StatusCode, body: Bytes| {
        Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(body.into())
            .unwrap()
    };
    if way.is_cut.load(Ordering::SeqCst) {
        way.refused.fetch_add(1, Ordering::SeqCst);
        return answer(StatusCode::BAD_GATEWAY, Bytes::new());
    }
    let mut request = way.client.post(&way.to).body(body.clone());
    if let Some(kind) = headers.get("content-type") {
        request = request.header("content-type", kind);
    }
    let began = Instant::now();
    // Sentinel stays up: an answer that does not come is a failure of the test, which waits for it in vain.
    let Ok(response) = request.send().await else { return answer(StatusCode::BAD_GATEWAY, Bytes::new()) };
    let status = response.status();
    let said = response.bytes().await.unwrap();
    let exchange = Exchange {
        request: serde_json::from_slice(&body).unwrap(),
        status: status.as_u16(),
        answer: serde_json::from_slice(&said).unwrap_or_default(),
        took: began.elapsed(),
    };
    way.exchanges.lock().unwrap().push(exchange);
    answer(status, said)
}

/// Where an Alertmanager's peers find it: its gossip goes over one port by UDP and TCP.
pub(crate) struct Gossip {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Gossip {
    /// Before the peer that listens on this port.
    pub(crate) async fn to(port: u16) -> Self {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let peer = SocketAddr::from(([127, 0, 0, 1], port));
        let is_cut: Arc<AtomicBool> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(streams(tcp, peer, Arc::clone(&is_cut)));
        tasks.spawn(packets(udp, peer, Arc::clone(&is_cut)));
        Self { address, is_cut, _tasks: tasks }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn cut(&self, cut: bool) {
        self.is_cut.store(cut, Ordering::SeqCst);
    }
}

async fn streams(listener: TcpListener, peer: SocketAddr, is_cut: Arc<AtomicBool>) {
    let mut open = JoinSet::new();
    while let Ok((mut inner, _)) = listener.accept().await {
        if is_cut.load(Ordering::SeqCst) {
            continue;
        }
        open.spawn(async move {
            if let Ok(mut outer) = TcpStream::connect(peer).await {
                let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
            }
        });
    }
}

/// Hands packets on from a socket for each sender, so that answers find their way back.
async fn packets(socket: UdpSocket, peer: SocketAddr, is_cut: Arc<AtomicBool>) {
    let socket = Arc::new(socket);
    let mut ways: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut packet = vec![0; 65_536];
    while let Ok((n, from)) = socket.recv_from(&mut packet).await {
        if is_cut.load(Ordering::SeqCst) {
            continue;
        }
        let way = if let Some(way) = ways.get(&from) {
            Arc::clone(way)
        } else {
            let way = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
            ways.insert(from, Arc::clone(&way));
            back.spawn(answers(Arc::clone(&way), Arc::clone(&socket), from, Arc::clone(&is_cut)));
            way
        };
        let _ = way.send_to(&packet[..n], peer).await;
    }
}

async fn answers(way: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, is_cut: Arc<AtomicBool>) {
    let mut packet = vec![0; 65_536];
    while let Ok((n, _)) = way.recv_from(&mut packet).await {
        if !is_cut.load(Ordering::SeqCst) {
            let _ = front.send_to(&packet[..n], to).await;
        }
    }
}
