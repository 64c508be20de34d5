//! SQS, Secrets Manager and S3 as far as Sentinel speaks to them: AWS's JSON protocol, and objects by their paths, on a
//! socket of the loopback.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::gate::Gate;
use crate::server::{Log, Running, raw};

/// Starts an empty `DynamoDB` in memory and gives its URL. It ends with the test's runtime.
pub async fn dynamo() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket on the loopback");
    let address = listener.local_addr().expect("a bound socket has an address");
    let database = dynoxide::Database::memory().expect("a database in memory");
    tokio::spawn(dynoxide::server::serve_on(listener, database));
    format!("http://{address}")
}

/// What the fake was asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Asked {
    /// The operation, such as `SendMessageBatch`.
    pub operation: String,
    /// The request's JSON.
    pub body: Value,
}

/// A message that the queue took.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The queue.
    pub queue_url: String,
    /// Its text.
    pub body: String,
    /// How long it is to be held back, in seconds.
    pub delay_seconds: i64,
}

/// What the fake does with a request instead of granting it.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// An error of the service.
    Error {
        /// The HTTP status.
        status: u16,
        /// Its code, such as `QueueDoesNotExist`.
        code: &'static str,
    },
    /// These entries of a batch fail, by their place; the others are taken.
    Entries {
        /// Which.
        places: BTreeSet<usize>,
        /// Whether the sender is to blame.
        sender_fault: bool,
    },
    /// It waits at the gate, and is then granted.
    Held(Gate),
}

/// A running fake. Dropping it stops it.
#[derive(Debug)]
pub struct FakeAws {
    server: Running,
    state: Arc<Fake>,
}

#[derive(Debug, Default)]
struct Fake {
    asked: Log<Asked>,
    messages: Log<Message>,
    secrets: Mutex<BTreeMap<String, String>>,
    /// What is in buckets, by its path: the text and its `ETag`.
    objects: Mutex<BTreeMap<String, (String, String)>>,
    script: Mutex<VecDeque<Trouble>>,
    always: Mutex<Option<Trouble>>,
}

impl FakeAws {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let state = Arc::new(Fake::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        Self { server: Running::start(router, CancellationToken::new()).await, state }
    }

    /// The endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The URL of its queue.
    pub fn queue_url(&self) -> String {
        format!("{}/000000000000/jobs", self.url())
    }

    /// Everything that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.all()
    }

    /// Waits until it was asked `n` times.
    pub async fn wait_for_asked(&self, n: usize) {
        self.state.asked.wait_for(n, "requests").await;
    }

    /// The messages that were taken, in order.
    pub fn messages(&self) -> Vec<Message> {
        self.state.messages.all()
    }

    /// Waits until `n` messages were taken.
    pub async fn wait_for_messages(&self, n: usize) {
        self.state.messages.wait_for(n, "messages").await;
    }

    /// The next request that finds no earlier script gets this.
    pub fn script(&self, trouble: Trouble) {
        self.state.script.lock().unwrap_or_else(PoisonError::into_inner).push_back(trouble);
    }

    /// Every request from now on gets this, or is granted again.
    pub fn always(&self, trouble: Option<Trouble>) {
        *self.state.always.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Puts a text into a bucket; nothing: takes it away. `path` is `bucket/key`.
    pub fn put_object(&self, path: &str, text: Option<&str>) {
        let mut objects = self.state.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match text {
            None => drop(objects.remove(path)),
            Some(text) => {
                let etag = format!("\"{}\"", sentinel_core::digest::sha256(text));
                objects.insert(path.to_owned(), (text.to_owned(), etag));
            }
        }
    }

    /// Stores a secret.
    pub fn put_secret(&self, id: &str, text: &str) {
        let mut secrets = self.state.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(id.to_owned(), text.to_owned());
    }
}

impl Fake {
    fn trouble(&self) -> Option<Trouble> {
        let scripted = self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        scripted.or_else(|| self.always.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn take(&self, request: &Value, message: &Value) {
        self.messages.push(Message {
            queue_url: text(request, "QueueUrl"),
            body: text(message, "MessageBody"),
            delay_seconds: message["DelaySeconds"].as_i64().unwrap_or_default(),
        });
    }

    fn send_batch(&self, request: &Value, failing: &BTreeSet<usize>, sender_fault: bool) -> Response {
        let (mut successful, mut failed) = (vec![], vec![]);
        for (place, entry) in request["Entries"].as_array().into_iter().flatten().enumerate() {
            if failing.contains(&place) {
                let fault = json!({"Id": entry["Id"], "SenderFault": sender_fault, "Code": "InternalError", "Message": "scripted"});
                failed.push(fault);
            } else {
                self.take(request, entry);
                successful.push(json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "d"}));
            }
        }
        granted(&json!({"Successful": successful, "Failed": failed}))
    }

    /// An object, where its request is signed as S3 wants it.
    fn object(&self, path: &str, headers: &HeaderMap) -> Response {
        let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let signed = header("authorization").contains("/s3/aws4_request")
            && !header("x-amz-content-sha256").is_empty();
        let xml = |status, code: &str| {
            raw(status, "application/xml", format!("<Error><Code>{code}</Code></Error>"))
        };
        if !signed {
            return xml(StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
        }
        match self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            // Whoever may not list the bucket is not told that there is none.
            None => xml(StatusCode::FORBIDDEN, "AccessDenied"),
            Some((_, etag)) if header("if-none-match") == etag => {
                raw(StatusCode::NOT_MODIFIED, "text/plain", String::new())
            }
            Some((text, etag)) => {
                let mut response = raw(StatusCode::OK, "text/plain", text.clone());
                response.headers_mut().insert("etag", etag.parse().expect("an ETag is a header"));
                response
            }
        }
    }

    fn secret(&self, request: &Value) -> Response {
        let id = text(request, "SecretId");
        match self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            Some(value) => granted(&json!({"ARN": id, "Name": id, "SecretString": value})),
            None => error(400, "ResourceNotFoundException"),
        }
    }
}

async fn answer(
    State(fake): State<Arc<Fake>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == Method::GET {
        let path = uri.path().trim_start_matches('/').to_owned();
        fake.asked.push(Asked { operation: "GetObject".to_owned(), body: json!({"path": path}) });
        return match fake.trouble() {
            Some(Trouble::Error { status, code }) => error(status, code),
            Some(Trouble::Held(gate)) => {
                gate.passed().await;
                fake.object(&path, &headers)
            }
            _ => fake.object(&path, &headers),
        };
    }
    let target = headers.get("x-amz-target").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let request: Value = serde_json::from_slice(&body).expect("the SDK sends JSON");
    fake.asked.push(Asked { operation: operation.clone(), body: request.clone() });
    let (mut failing, mut blame) = (BTreeSet::new(), false);
    match fake.trouble() {
        Some(Trouble::Error { status, code }) => return error(status, code),
        Some(Trouble::Entries { places, sender_fault }) => (failing, blame) = (places, sender_fault),
        Some(Trouble::Held(gate)) => gate.passed().await,
        None => {}
    }
    match operation.as_str() {
        "SendMessage" => {
            fake.take(&request, &request);
            granted(&json!({"MessageId": "m", "MD5OfMessageBody": "d"}))
        }
        "SendMessageBatch" => fake.send_batch(&request, &failing, blame),
        "ChangeMessageVisibility" => granted(&json!({})),
        "GetSecretValue" => fake.secret(&request),
        _ => error(400, "UnknownOperationException"),
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn granted(body: &Value) -> Response {
    raw(StatusCode::OK, "application/x-amz-json-1.0", body.to_string())
}

fn error(status: u16, code: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status code");
    let body = json!({"__type": format!("com.amazonaws#{code}"), "message": "scripted"});
    raw(status, "application/x-amz-json-1.0", body.to_string())
}
