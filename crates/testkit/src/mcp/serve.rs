//! What the server does with a request: the checks of a real one, and the script's answer.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Answer, Builder, Request, Shared};
use crate::server::{broken, header_map, raw};

/// The revisions that it speaks, the newest last.
const REVISIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

/// The revision without `initialize` and without sessions.
const MODERN: &str = "2026-07-28";

pub(super) async fn serve(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let headers = header_map(&headers);
    let request = Request {
        http_method: method.to_string(),
        path: uri.path().to_owned(),
        headers: headers.clone(),
        body: message.clone(),
    };
    let first = shared.script.first.as_ref().and_then(|first| first(&request));
    if method != Method::GET {
        shared.requests.push(request);
    }
    let stop = shared.stop();
    if let Some(answer) = first {
        let id = message.get("id").unwrap_or(&Value::Null);
        return tokio::select! {
            () = stop.cancelled() => broken(),
            response = shared.script.play(answer, id) => response,
        };
    }
    if uri.path() != shared.script.path.unwrap_or("/mcp") {
        return StatusCode::NOT_FOUND.into_response();
    }
    if method == Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    tokio::select! {
        () = stop.cancelled() => broken(),
        response = answer(&shared, &method, &headers, &message) => response,
    }
}

async fn answer(
    shared: &Shared,
    method: &Method,
    headers: &BTreeMap<String, String>,
    message: &Value,
) -> Response {
    let script = &shared.script;
    if script.required.iter().any(|(name, value)| headers.get(name) != Some(value)) {
        let mut response = raw(StatusCode::UNAUTHORIZED, "text/plain", "unauthorized");
        response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        return response;
    }
    let rpc_method = message.get("method").and_then(Value::as_str).unwrap_or_default();
    let session = headers.get("mcp-session-id");
    if let Some(answer) = script.before_session.get(rpc_method) {
        return script.play(answer.clone(), message.get("id").unwrap_or(&Value::Null)).await;
    }
    if script.modern {
        if let Err(wrong) = check_modern(headers, message, rpc_method) {
            return raw(StatusCode::BAD_REQUEST, "text/plain", format!("wrong {wrong}"));
        }
    } else if rpc_method != "initialize" {
        match session {
            None => return raw(StatusCode::BAD_REQUEST, "text/plain", "no Mcp-Session-Id"),
            Some(id) if !shared.with_sessions(|sessions| sessions.live.contains(id)) => {
                return raw(StatusCode::NOT_FOUND, "text/plain", "no such session");
            }
            Some(_) => {}
        }
    }
    if method == Method::DELETE {
        shared.with_sessions(|sessions| session.is_some_and(|id| sessions.live.remove(id)));
        return StatusCode::OK.into_response();
    }
    let accept = headers.get("accept").map_or("", String::as_str);
    if !(accept.contains("application/json") && accept.contains("text/event-stream")) {
        return raw(
            StatusCode::NOT_ACCEPTABLE,
            "text/plain",
            "accept application/json and text/event-stream",
        );
    }
    let Some(id) = message.get("id").filter(|_| !rpc_method.is_empty()) else {
        // A notification, or an answer to a question that this server never asks.
        let status = if message.is_object() { StatusCode::ACCEPTED } else { StatusCode::BAD_REQUEST };
        return status.into_response();
    };
    let params = message.get("params").unwrap_or(&Value::Null);
    let answer =
        script.overrides.get(rpc_method).cloned().unwrap_or_else(|| shared.answer(rpc_method, params));
    let mut response = script.play(answer, id).await;
    if rpc_method == "initialize" && !script.modern && response.status() == StatusCode::OK {
        let id = shared.with_sessions(|sessions| {
            sessions.opened += 1;
            let id = format!("session-{}", sessions.opened);
            sessions.live.insert(id.clone());
            id
        });
        response.headers_mut().insert("mcp-session-id", id.parse().expect("a header value"));
    }
    response
}

/// A request of the modern revision says so itself, in its headers, and names its method there too.
fn check_modern(
    headers: &BTreeMap<String, String>,
    message: &Value,
    method: &str,
) -> Result<(), &'static str> {
    let header = |name: &str| headers.get(name).map_or("", String::as_str);
    let of = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // A notification of a cancelled request carries no more than the request's id.
    let is_request = message.get("id").is_some();
    let revision = of("/params/_meta/io.modelcontextprotocol~1protocolVersion");
    let wrong = if header("mcp-protocol-version") != MODERN {
        "MCP-Protocol-Version"
    } else if header("mcp-method") != method {
        "Mcp-Method"
    } else if method == "tools/call" && header("mcp-name") != of("/params/name") {
        "Mcp-Name"
    } else if is_request && revision != MODERN {
        "_meta"
    } else if headers.contains_key("mcp-session-id") {
        "Mcp-Session-Id"
    } else {
        return Ok(());
    };
    Err(wrong)
}

impl Shared {
    /// What an untouched method answers.
    fn answer(&self, method: &str, params: &Value) -> Answer {
        let script = &self.script;
        match method {
            "server/discover" if script.modern => Answer::Result(json!({
                "resultType": "complete",
                "supportedVersions": [MODERN],
                "capabilities": {"tools": {}},
                "ttlMs": 0,
                "cacheScope": "private",
                "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "fake-mcp", "version": "1.0.0"}},
            })),
            "initialize" if !script.modern => {
                let asked = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
                let revision = REVISIONS.into_iter().find(|r| *r == asked).unwrap_or("2025-11-25");
                Answer::Result(json!({
                    "protocolVersion": revision,
                    "capabilities": {"tools": {"listChanged": false}},
                    "serverInfo": {"name": "fake-mcp", "version": "1.0.0"},
                }))
            }
            "ping" if !script.modern => Answer::Result(json!({})),
            "tools/list" => self.list(params),
            "tools/call" => {
                let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
                let tool =
                    script.tools.iter().find(|(t, _)| t.get("name").and_then(Value::as_str) == Some(name));
                match tool {
                    Some((_, handler)) => handler(params.get("arguments").unwrap_or(&Value::Null)),
                    None => Answer::RpcError(-32602, format!("Unknown tool: {name}")),
                }
            }
            _ => Answer::RpcError(-32601, format!("Method not found: {method}")),
        }
    }

    /// One page of tools; the cursor is the number of the page's first tool.
    fn list(&self, params: &Value) -> Answer {
        let first = match params.get("cursor").and_then(Value::as_str).map(str::parse::<usize>) {
            None => 0,
            Some(Ok(first)) => first,
            Some(Err(_)) => return Answer::RpcError(-32602, "Invalid cursor".to_owned()),
        };
        let script = &self.script;
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let now = |tool: &Value| {
            let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
            replaced.get(name).unwrap_or(tool).clone()
        };
        let size = script.page_size.unwrap_or(usize::MAX);
        let page: Vec<Value> =
            script.tools.iter().skip(first).take(size).map(|(tool, _)| now(tool)).collect();
        let next = first + page.len();
        let mut result = json!({"tools": page});
        let fields = result.as_object_mut().expect("an object");
        if next < script.tools.len() {
            fields.insert("nextCursor".to_owned(), json!(next.to_string()));
        }
        if script.modern {
            let ttl = script.ttl_ms.unwrap_or(300_000);
            fields.extend([("ttlMs".to_owned(), json!(ttl)), ("cacheScope".to_owned(), json!("private"))]);
        }
        Answer::Result(result)
    }
}

impl Builder {
    async fn play(&self, mut answer: Answer, id: &Value) -> Response {
        let text = |text: String| json!([{"type": "text", "text": text}]);
        loop {
            let result = match answer {
                Answer::Text(said) => json!({"content": text(said), "isError": false}),
                Answer::Error(said) => json!({"content": text(said), "isError": true}),
                Answer::Result(result) => result,
                Answer::RpcError(code, message) => {
                    let error = json!({"code": code, "message": message});
                    return self.send(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
                }
                Answer::Status(status, body) => {
                    return raw(
                        StatusCode::from_u16(status).expect("a status that exists"),
                        "text/plain",
                        body,
                    );
                }
                Answer::Redirect(target) => {
                    let mut response = raw(StatusCode::TEMPORARY_REDIRECT, "text/plain", "");
                    response.headers_mut().insert("location", target.parse().expect("a header value"));
                    return response;
                }
                Answer::Raw(status, headers, body) => {
                    let status = StatusCode::from_u16(status).expect("a status that exists");
                    let mut response = raw(status, "application/json", body.replace("$id", &id.to_string()));
                    for (name, value) in headers {
                        response.headers_mut().insert(name, value.parse().expect("a header value"));
                    }
                    return response;
                }
                Answer::Garbage(bytes) => return raw(StatusCode::OK, "application/json", bytes),
                Answer::Events(bytes) => return raw(StatusCode::OK, "text/event-stream", bytes),
                Answer::Hang => pending().await,
                Answer::Close => return broken(),
                Answer::After(gate, rest) => {
                    gate.passed().await;
                    answer = *rest;
                    continue;
                }
                Answer::Late(by, rest) => {
                    tokio::time::sleep(by).await;
                    answer = *rest;
                    continue;
                }
            };
            return self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
        }
    }

    fn send(&self, message: &Value) -> Response {
        let mut message = message.clone();
        if self.modern
            && let Some(result) = message.get_mut("result").and_then(Value::as_object_mut)
        {
            result.entry("resultType").or_insert_with(|| json!("complete"));
        }
        if self.event_stream {
            raw(StatusCode::OK, "text/event-stream", format!("event: message\ndata: {message}\n\n"))
        } else {
            raw(StatusCode::OK, "application/json", message.to_string())
        }
    }
}
