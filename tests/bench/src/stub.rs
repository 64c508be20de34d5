//! What a function has around it, in one process on the loopback: Lambda's Runtime API (one address a function), and a
//! `DynamoDB` and an SQS that answer 5 ms after they were asked. It times the functions from the moment that an event
//! is handed out to the moment that its answer is there. Steered over `/control/…`; `lambda.py` shows how.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router};
use rustix::time::{ClockId, clock_gettime};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};

/// How long the table and the queue take.
const DELAY: Duration = Duration::from_millis(5);
/// Functions that may run beside each other.
const SLOTS: usize = 4;

#[derive(Default)]
struct Stub {
    items: Mutex<HashMap<String, Map<String, Value>>>,
    counts: Mutex<BTreeMap<String, u64>>,
    slots: [Mutex<Arc<Slot>>; SLOTS],
}

/// One function, as long as its process lives.
#[derive(Default)]
struct Slot {
    first_next: Mutex<Option<u128>>,
    polled: Notify,
    waiting: Mutex<VecDeque<Box<RawValue>>>,
    arrived: Notify,
    under_way: Mutex<Option<(Instant, oneshot::Sender<Outcome>)>>,
    done: Mutex<Option<oneshot::Sender<Outcome>>>,
}

struct Outcome {
    took: Duration,
    answer: Bytes,
}

type Shared = State<Arc<Stub>>;

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says on standard output where it listens, as one line of JSON, and serves until its standard input ends.
///
/// # Errors
/// A socket or a pipe.
pub async fn run() -> Result<(), Box<dyn Error>> {
    let stub = Arc::new(Stub::default());
    let mut runtimes = Vec::new();
    for slot in 0..SLOTS {
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(respond))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(respond))
            .layer(DefaultBodyLimit::disable())
            .with_state((Arc::clone(&stub), slot));
        runtimes.push(serve(router).await?);
    }
    let router = Router::new()
        .route("/", post(aws))
        .route("/control/reset/{slot}", post(reset))
        .route("/control/ready/{slot}", get(ready))
        .route("/control/invoke/{slot}", post(invoke))
        .route("/control/started", post(started))
        .route("/control/counts", get(counts))
        .layer(DefaultBodyLimit::disable())
        .with_state(stub);
    let aws = serve(router).await?;
    writeln!(std::io::stdout(), "{}", json!({ "aws": aws, "runtimes": runtimes }))?;
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    Ok(())
}

async fn serve(router: Router) -> Result<String, Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?.to_string();
    let listener = listener.tap_io(|socket| _ = socket.set_nodelay(true));
    tokio::spawn(axum::serve(listener, router).into_future());
    Ok(address)
}

// --- Runtime API ---------------------------------------------------------------------------------------------------

impl Stub {
    fn slot(&self, slot: usize) -> Option<Arc<Slot>> {
        Some(Arc::clone(&lock(self.slots.get(slot)?)))
    }
}

async fn next(State((stub, slot)): State<(Arc<Stub>, usize)>) -> Result<Response, StatusCode> {
    let slot = stub.slot(slot).ok_or(StatusCode::NOT_FOUND)?;
    lock(&slot.first_next).get_or_insert_with(monotonic_ns);
    slot.polled.notify_one();
    let event = loop {
        let event = lock(&slot.waiting).pop_front();
        match event {
            Some(event) => break event,
            None => slot.arrived.notified().await,
        }
    };
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
        .header("lambda-runtime-deadline-ms", "4102444800000")
        .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:bench")
        .header(
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        )
        .body(Body::from(String::from(Box::<str>::from(event))))
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let done = lock(&slot.done).take().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
    *lock(&slot.under_way) = Some((Instant::now(), done));
    Ok(response)
}

async fn respond(
    State((stub, slot)): State<(Arc<Stub>, usize)>,
    answer: Bytes,
) -> Result<Response, StatusCode> {
    let slot = stub.slot(slot).ok_or(StatusCode::NOT_FOUND)?;
    let (began, done) = lock(&slot.under_way).take().ok_or(StatusCode::BAD_REQUEST)?;
    let _ = done.send(Outcome { took: began.elapsed(), answer });
    Ok(answer_json(StatusCode::ACCEPTED, &json!({"status": "OK"})))
}

/// The clock that `lambda.py` reads as well.
fn monotonic_ns() -> u128 {
    let now = clock_gettime(ClockId::Monotonic);
    u128::from(now.tv_sec.unsigned_abs()) * 1_000_000_000 + u128::from(now.tv_nsec.unsigned_abs())
}

// --- Control -------------------------------------------------------------------------------------------------------

/// A new process is about to start.
async fn reset(State(stub): Shared, Path(slot): Path<usize>) -> StatusCode {
    let Some(slot) = stub.slots.get(slot) else { return StatusCode::NOT_FOUND };
    *lock(slot) = Arc::default();
    StatusCode::OK
}

/// When the process asked for its first event.
async fn ready(State(stub): Shared, Path(slot): Path<usize>) -> Result<Json<Value>, StatusCode> {
    let slot = stub.slot(slot).ok_or(StatusCode::NOT_FOUND)?;
    loop {
        if let Some(at) = *lock(&slot.first_next) {
            return Ok(Json(json!({ "first_next_ns": u64::try_from(at).unwrap_or(u64::MAX) })));
        }
        slot.polled.notified().await;
    }
}

/// Hands out events, one after the other, and gives what came of each and how long it took.
async fn invoke(
    State(stub): Shared,
    Path(slot): Path<usize>,
    events: Bytes,
) -> Result<Json<Value>, StatusCode> {
    let slot = stub.slot(slot).ok_or(StatusCode::NOT_FOUND)?;
    let events: Vec<Box<RawValue>> = serde_json::from_slice(&events).map_err(|_| StatusCode::BAD_REQUEST)?;
    let mut outcomes = Vec::with_capacity(events.len());
    for event in events {
        let (done, outcome) = oneshot::channel();
        *lock(&slot.done) = Some(done);
        lock(&slot.waiting).push_back(event);
        slot.arrived.notify_one();
        let Outcome { took, answer } = outcome.await.map_err(|_| StatusCode::BAD_GATEWAY)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        outcomes.push(json!({ "ms": took.as_secs_f64() * 1_000.0, "answer": answer }));
    }
    Ok(Json(Value::Array(outcomes)))
}

/// Every incident that waits is from now on held by a worker.
async fn started(State(stub): Shared) -> StatusCode {
    for item in lock(&stub.items).values_mut().filter(|item| item.get("sk") == Some(&json!({"S": "HEAD"}))) {
        item.insert("state".into(), json!({"S": "running"}));
        item.insert("epoch".into(), json!({"N": "1"}));
        item.insert("attempts".into(), json!({"N": "1"}));
        item.insert("owner".into(), json!({"S": "0123456789abcdef0123456789abcdef"}));
        item.insert("lease_until".into(), json!({"N": "4102444800000"}));
    }
    StatusCode::OK
}

async fn counts(State(stub): Shared) -> Json<BTreeMap<String, u64>> {
    Json(lock(&stub.counts).clone())
}

// --- DynamoDB and SQS ----------------------------------------------------------------------------------------------

async fn aws(State(stub): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let answer_at = tokio::time::Instant::now() + DELAY;
    let target = headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    *lock(&stub.counts).entry(operation.to_owned()).or_default() += 1;
    let (status, answer) = match serde_json::from_slice::<Value>(&body) {
        Ok(asked) => stub.answer(operation, &asked),
        Err(_) => (StatusCode::BAD_REQUEST, json!({"__type": "SerializationException"})),
    };
    let response = answer_json(status, &answer);
    tokio::time::sleep_until(answer_at).await;
    response
}

impl Stub {
    fn answer(&self, operation: &str, asked: &Value) -> (StatusCode, Value) {
        let sent = |id: Option<&Value>| json!({"Id": id, "MessageId": "5fea7756-0ea4-451a-a703-a558b933e274", "MD5OfMessageBody": "fafb00f5732ab283681e124bf8747ed1"});
        let unknown =
            (StatusCode::BAD_REQUEST, json!({"__type": "UnknownOperationException", "message": operation}));
        match operation {
            "PutItem" => self.put_item(asked).unwrap_or(unknown),
            "UpdateItem" => self.update_item(asked).unwrap_or(unknown),
            "GetItem" => self.get_item(asked).unwrap_or(unknown),
            "SendMessage" => (StatusCode::OK, sent(None)),
            "SendMessageBatch" => {
                let entries =
                    asked.get("Entries").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let sent: Vec<_> = entries.iter().map(|entry| sent(entry.get("Id"))).collect();
                (StatusCode::OK, json!({"Successful": sent, "Failed": []}))
            }
            _ => unknown,
        }
    }

    /// A create where something stands is refused with what stands there; every other condition holds.
    fn put_item(&self, asked: &Value) -> Option<(StatusCode, Value)> {
        let item = asked.get("Item")?.as_object()?;
        let condition = asked.get("ConditionExpression").and_then(Value::as_str).unwrap_or_default();
        let mut items = lock(&self.items);
        let key = key(item)?;
        if condition.starts_with("attribute_not_exists")
            && let Some(found) = items.get(&key)
        {
            let refused = json!({
                "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
                "message": "The conditional request failed", "Item": found
            });
            return Some((StatusCode::BAD_REQUEST, refused));
        }
        items.insert(key, item.clone());
        Some((StatusCode::OK, json!({})))
    }

    /// `SET a = :b, c = :d`, which is all that Powertools asks.
    fn update_item(&self, asked: &Value) -> Option<(StatusCode, Value)> {
        let names = asked.get("ExpressionAttributeNames")?;
        let values = asked.get("ExpressionAttributeValues")?;
        let keys = asked.get("Key")?.as_object()?;
        let mut items = lock(&self.items);
        let item = items.entry(key(keys)?).or_insert_with(|| keys.clone());
        for set in asked.get("UpdateExpression")?.as_str()?.strip_prefix("SET ")?.split(',') {
            let (name, value) = set.split_once('=')?;
            let name = names.get(name.trim())?.as_str()?;
            item.insert(name.to_owned(), values.get(value.trim())?.clone());
        }
        Some((StatusCode::OK, json!({})))
    }

    fn get_item(&self, asked: &Value) -> Option<(StatusCode, Value)> {
        let found = lock(&self.items).get(&key(asked.get("Key")?.as_object()?)?).cloned();
        Some((StatusCode::OK, found.map_or_else(|| json!({}), |item| json!({ "Item": item }))))
    }
}

/// The table's key: of Sentinel's table, or of Powertools'.
fn key(of: &Map<String, Value>) -> Option<String> {
    let text = |name: &str| of.get(name).and_then(|v| v.get("S")).and_then(Value::as_str);
    match (text("pk"), text("sk")) {
        (Some(pk), Some(sk)) => Some(format!("{pk} {sk}")),
        _ => text("id").map(str::to_owned),
    }
}

fn answer_json(status: StatusCode, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", axum::http::HeaderValue::from_static("application/x-amz-json-1.0"));
    response
}
