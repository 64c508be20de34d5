//! Stands between the client and `DynamoDB`, and loses or refuses what it is told to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use sentinel_aws::DynamoStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Bench, PATIENT, client};

/// What AWS answers where too much is asked of a table.
const THROTTLED: &str = r#"{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow down"}"#;

/// What is to go wrong, and what has.
#[derive(Debug, Default)]
struct Plan {
    lose_next: AtomicBool,
    throttle: AtomicU32,
    happened: AtomicU32,
}

/// A proxy, and the store behind it.
pub(crate) struct Proxy {
    store: DynamoStore,
    plan: Arc<Plan>,
}

impl Proxy {
    pub(crate) async fn before(bench: &Bench) -> Self {
        let to = bench.url.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let plan: Arc<Plan> = Arc::default();
        let passing = Arc::clone(&plan);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                let outer = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass(inner, outer, Arc::clone(&passing)));
            }
        });
        Self { store: DynamoStore::new(client(&url, PATIENT), &*bench.table), plan }
    }

    /// The next reply is lost.
    pub(crate) fn lose_next(&self) -> &DynamoStore {
        self.plan.lose_next.store(true, Ordering::SeqCst);
        &self.store
    }

    /// So many requests from now on are throttled.
    pub(crate) fn throttle(&self, requests: u32) -> &DynamoStore {
        self.plan.throttle.store(requests, Ordering::SeqCst);
        &self.store
    }

    /// How many replies were lost and requests throttled.
    pub(crate) fn happened(&self) -> u32 {
        self.plan.happened.load(Ordering::SeqCst)
    }
}

async fn pass(inner: TcpStream, outer: TcpStream, plan: Arc<Plan>) {
    let (from_client, to_client) = inner.into_split();
    let (from_server, to_server) = outer.into_split();
    let to_client = tokio::sync::Mutex::new(to_client);
    tokio::select! {
        _ = forward(from_client, to_server, &to_client, &plan) => {}
        _ = back(from_server, &to_client, &plan) => {}
    }
}

/// Passes requests on, or refuses one and hangs up.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    client: &tokio::sync::Mutex<OwnedWriteHalf>,
    plan: &Plan,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let n = from.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        let left = plan.throttle.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() {
            plan.happened.fetch_add(1, Ordering::SeqCst);
            let length = THROTTLED.len();
            let head =
                "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{THROTTLED}");
            return client.lock().await.write_all(answer.as_bytes()).await;
        }
        to.write_all(&bytes[..n]).await?;
    }
}

/// Passes replies on, until one is to be lost: it has then been made, so the write is done.
async fn back(
    mut from: OwnedReadHalf,
    client: &tokio::sync::Mutex<OwnedWriteHalf>,
    plan: &Plan,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let n = from.read(&mut bytes).await?;
        if n == 0 {
            return Ok(());
        }
        if plan.lose_next.swap(false, Ordering::SeqCst) {
            plan.happened.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        client.lock().await.write_all(&bytes[..n]).await?;
    }
}
