//! A write that is done while its reply is lost: the SDK tries again and meets its own write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::support::{self, Bench, child, client, head, id, next, with_table};
use sentinel_aws::DynamoStore;
use sentinel_core::incident::{ChildName, Gen};
use sentinel_core::ports::{Appended, Created, IncidentStore as _, Swapped};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Stands between the client and `DynamoDB`.
struct Proxy {
    store: DynamoStore,
    lose_next: Arc<AtomicBool>,
    lost: Arc<AtomicU32>,
}

impl Proxy {
    async fn before(bench: &Bench) -> Self {
        let to = bench.url.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (lose_next, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (flag, count) = (Arc::clone(&lose_next), Arc::clone(&lost));
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                let outer = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass(inner, outer, Arc::clone(&flag), Arc::clone(&count)));
            }
        });
        let store = DynamoStore::new(client(&url, support::PATIENT), &*bench.table);
        Self { store, lose_next, lost }
    }

    /// Arms the loss of the next reply.
    fn lose_next(&self) -> &DynamoStore {
        self.lose_next.store(true, Ordering::SeqCst);
        &self.store
    }
}

/// Passes bytes both ways, until a reply is to be lost: it has then been made, so the write is done.
async fn pass(inner: TcpStream, outer: TcpStream, lose_next: Arc<AtomicBool>, lost: Arc<AtomicU32>) {
    let (mut from_client, mut to_client) = inner.into_split();
    let (mut from_server, mut to_server) = outer.into_split();
    let forward = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let back = async {
        let mut bytes = [0; 16 * 1024];
        loop {
            let n = from_server.read(&mut bytes).await?;
            if n == 0 {
                return Ok::<_, std::io::Error>(());
            }
            if lose_next.swap(false, Ordering::SeqCst) {
                lost.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            to_client.write_all(&bytes[..n]).await?;
        }
    };
    tokio::select! {
        _ = forward => {}
        _ = back => {}
    }
}

#[tokio::test]
async fn a_write_whose_reply_was_lost_is_recognised_as_ones_own() {
    with_table(async |t| {
        let proxy = Proxy::before(t).await;
        let first = head(1, 1_000);
        assert_eq!(proxy.lose_next().create(&first).await.unwrap(), Created::New);
        let second = next(&first, "second");
        assert_eq!(proxy.lose_next().swap(&second).await.unwrap(), Swapped::Stored);
        let turn = child(1_000, ChildName::Turn(1), "paid for");
        assert_eq!(proxy.lose_next().append(&id(1), &turn).await.unwrap(), Appended::Written);
        assert_eq!(proxy.lost.load(Ordering::SeqCst), 3);
        assert_eq!(t.store.load(&id(1)).await.unwrap(), Some(second));
        assert_eq!(t.store.children(&id(1), Gen(1_000)).await.unwrap(), [turn]);
    })
    .await;
}
