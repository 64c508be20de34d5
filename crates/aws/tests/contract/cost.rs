//! What a webhook costs, counted in requests to the store.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_aws::{DynamoStore, fresh_ids};
use sentinel_core::drive::{Start, drive};
use sentinel_core::incident::Job;
use sentinel_core::intake::intake;
use sentinel_core::lifecycle::{Claim, Rules};
use sentinel_core::ports::{JobQueue, Ports, QueueError};
use sentinel_core::redact::Redactor;
use sentinel_testkit::builders::{alert, card, message};
use sentinel_testkit::clock::ManualClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{self, Bench, client, with_table};

/// Keeps what is sent.
#[derive(Debug, Default)]
struct Sent(Mutex<Vec<Job>>);

#[async_trait]
impl JobQueue for Sent {
    async fn send(&self, job: &Job, _: Duration) -> Result<(), QueueError> {
        self.0.lock().unwrap().push(job.clone());
        Ok(())
    }
}

/// Hands everything on to `DynamoDB` and writes down what was asked: `x-amz-target` of each request.
async fn counted(bench: &Bench) -> (DynamoStore, Arc<Mutex<Vec<String>>>) {
    let to = bench.url.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((inner, _)) = listener.accept().await {
            let outer = TcpStream::connect(&to).await.unwrap();
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = inner.into_split();
                let (mut from_server, mut to_server) = outer.into_split();
                let back = async { tokio::io::copy(&mut from_server, &mut to_client).await.map(|_| ()) };
                let forward = async {
                    let mut bytes = vec![0; 64 * 1024];
                    loop {
                        let n = from_client.read(&mut bytes).await?;
                        if n == 0 {
                            return Ok::<_, std::io::Error>(());
                        }
                        let text = String::from_utf8_lossy(&bytes[..n]).to_ascii_lowercase();
                        let targets = text.match_indices("x-amz-target: dynamodb_20120810.");
                        let named = targets.filter_map(|(at, found)| {
                            text[at + found.len()..].lines().next().map(|name| name.trim().to_owned())
                        });
                        log.lock().unwrap().extend(named);
                        to_server.write_all(&bytes[..n]).await?;
                    }
                };
                tokio::select! { _ = forward => {} _ = back => {} }
            });
        }
    });
    (DynamoStore::new(client(&url, support::PATIENT), &*bench.table), asked)
}

#[tokio::test]
async fn a_duplicate_of_an_incident_that_has_started_costs_one_conditional_write() {
    with_table(async |t| {
        let (store, asked) = counted(t).await;
        let clock = Arc::new(ManualClock::default());
        let queue = Arc::new(Sent::default());
        let ports = Ports {
            store: Arc::new(store),
            queue: queue.clone(),
            clock: clock.clone(),
            fresh: fresh_ids(),
            signing_key: None,
        };
        let cards = [card("pods").build()];
        let post = async || {
            asked.lock().unwrap().clear();
            let receipt =
                intake(&ports, &cards, &Redactor::default(), &message([alert("PodDown")])).await.unwrap();
            (receipt, asked.lock().unwrap().clone())
        };
        let (first, calls) = post().await;
        assert_eq!((first.accepted, calls.len()), (1, 2), "the head and the snapshot: {calls:?}");
        let Job { incident, generation } = queue.0.lock().unwrap().pop().unwrap();
        let claim = Claim { generation, owner: "w".into() };
        let _ = drive(&ports, &incident, &claim, &Rules::of(&cards[0]), Start::Load, None).await.unwrap();
        let (second, calls) = post().await;
        assert_eq!(second.duplicates, 1);
        assert_eq!(calls, ["putitem"], "the conditional write that finds it there");
        assert_eq!(*queue.0.lock().unwrap(), [], "and nothing is sent");
    })
    .await;
}

/// What a webhook on an incident that is there costs before the record is counted: the write that finds the head (a
/// resolve reads it), the snapshot where there is one, and the swap.
#[tokio::test]
async fn changes_of_an_incident_cost_no_round_trip_for_the_record_and_one_write_after_some() {
    with_table(async |t| {
        let (store, asked) = counted(t).await;
        let clock = Arc::new(ManualClock::default());
        let queue = Arc::new(Sent::default());
        let ports = Ports {
            store: Arc::new(store),
            queue: queue.clone(),
            clock: clock.clone(),
            fresh: fresh_ids(),
            signing_key: None,
        };
        let cards = [card("pods").build()];
        let mut pods = Vec::new();
        let mut more = 0;
        for n in 0..9 {
            pods.push(alert("PodDown").label("pod", &format!("pod-{n}")).build());
            asked.lock().unwrap().clear();
            let receipt = intake(&ports, &cards, &Redactor::default(), &message(pods.clone())).await.unwrap();
            let calls = asked.lock().unwrap().clone();
            assert!(calls.iter().all(|call| call == "putitem"), "{calls:?}");
            if n == 0 {
                assert_eq!((receipt.accepted, calls.len()), (1, 2));
                continue;
            }
            assert_eq!((receipt.joined, receipt.duplicates), (1, n), "{receipt:?}");
            more += calls.len() - 3;
        }
        println!("eight joins in a row, without a worker between them: {more} writes for the record");
        assert!(more <= 4, "at most every other change");
    })
    .await;
}
