//! The two servers that investigations are measured against: a model behind the Responses API and an MCP server, both
//! with a set time to answer. `/MODEL_MS/TOOL_MS/TURNS/CALLS/BYTES/v1/responses` calls tools in TURNS turns, CALLS at once,
//! then reports; the tools behind `/…/mcp` answer with BYTES bytes. Whoever offers `submit_report` is sent to it, everybody
//! else gets a message.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

/// Stands in every output, so that a report can quote it.
const LINE: &str = "2026-01-05T08:00:00Z api-7d9f E dial tcp 10.0.0.7:5432: connect: connection refused";

/// What was asked, since the last reset.
#[derive(Default, Clone, Debug)]
struct Counts {
    turns: u64,
    calls: u64,
    lists: u64,
    /// Bytes of instructions, conversation and tools, as JSON.
    sent: u64,
    /// The same with every output whole.
    whole: u64,
}

type Shared = Arc<Mutex<Counts>>;

fn lock(counts: &Shared) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves on a free port of the loopback, and writes its address to standard output.
///
/// # Errors
/// A socket.
pub async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    crate::say(&json!({"address": listener.local_addr()?.to_string()}))?;
    let router = Router::new()
        .route("/{model}/{tool}/{turns}/{calls}/{bytes}/v1/responses", post(respond))
        .route("/{model}/{tool}/{turns}/{calls}/{bytes}/mcp", any(mcp))
        .route("/counts", get(counts).delete(reset))
        .layer(DefaultBodyLimit::disable())
        .with_state(Shared::default());
    Ok(axum::serve(listener, router).await?)
}

async fn counts(State(counts): State<Shared>) -> Json<Value> {
    let Counts { turns, calls, lists, sent, whole } = lock(&counts).clone();
    Json(json!({"turns": turns, "calls": calls, "lists": lists, "sent": sent, "whole": whole}))
}

async fn reset(State(counts): State<Shared>) -> StatusCode {
    *lock(&counts) = Counts::default();
    StatusCode::OK
}

/// What the path says.
type Play = Path<(u64, u64, u64, u64, usize)>;

async fn respond(
    State(counts): State<Shared>,
    Path((model_ms, _, turns, calls, bytes)): Play,
    Json(request): Json<Value>,
) -> Json<Value> {
    let answer_at = Instant::now() + Duration::from_millis(model_ms);
    let items = request.get("input").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let outputs = items.iter().filter(|item| item.get("type") == Some(&json!("function_call_output")));
    let shown: Vec<u64> = outputs.map(|item| length(item.get("output"))).collect();
    let done = u64::try_from(shown.len()).unwrap_or(u64::MAX);
    let sent =
        ["instructions", "input", "tools"].into_iter().map(|part| length(request.get(part))).sum::<u64>();
    {
        let mut counts = lock(&counts);
        counts.turns += 1;
        counts.sent += sent;
        let whole = length(Some(&json!(output("", bytes))));
        counts.whole += sent + done * whole - shown.iter().sum::<u64>().min(done * whole + sent);
    }
    let tools = request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |end: &str| {
        tools.iter().filter_map(|tool| tool.get("name")?.as_str()).find(|name| name.ends_with(end))
    };
    let turn = done / calls.max(1) + 1;
    let call = |name: &str, arguments: &Value, id: &str| {
        json!({
            "type": "function_call", "id": format!("fc_{id}"), "call_id": format!("call_{id}"), "name": name,
            "arguments": arguments.to_string(), "status": "completed",
        })
    };
    let items: Vec<Value> = match (named("look"), named("submit_report")) {
        (Some(look), _) if turn <= turns => (1..=calls)
            .map(|k| call(look, &json!({"at": format!("{turn}-{k}")}), &format!("{turn}_{k}")))
            .collect(),
        (_, Some(submit)) => vec![call(submit, &report(), "report")],
        _ => vec![json!({
            "type": "message", "id": "msg_report", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": report().to_string(), "annotations": [], "logprobs": []}],
        })],
    };
    let tokens = sent / 4;
    let answer = json!({
        "id": format!("resp_{turn}"), "object": "response", "created_at": 1_790_000_000, "status": "completed",
        "error": null, "incomplete_details": null, "instructions": null, "metadata": {}, "model": "scripted",
        "output": items, "parallel_tool_calls": true, "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto",
        "tools": [], "usage": {
            "input_tokens": tokens, "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 50, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": tokens + 50,
        },
    });
    sleep_until(answer_at).await;
    Json(answer)
}

fn length(value: Option<&Value>) -> u64 {
    value.map_or(0, |value| u64::try_from(value.to_string().len()).unwrap_or(u64::MAX))
}

fn report() -> Value {
    json!({
        "verdict": "action_required", "title": "The database refuses connections",
        "summary": "The pods cannot reach their database.",
        "hypotheses": [{
            "statement": "The database is down.", "confidence": 0.9,
            "evidence": [{"id": "E1", "quote": "dial tcp 10.0.0.7:5432: connect: connection refused"}],
        }],
        "ruled_out": [], "gaps": [], "next_steps": [{"action": "Look at the database.", "why": "It refuses."}],
    })
}

/// An output of `bytes` bytes, another one for each `at`.
fn output(at: &str, bytes: usize) -> String {
    let mut text = format!("{at}: {LINE}\n");
    let mut n = 0;
    while text.len() < bytes {
        n += 1;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{n} {LINE}");
    }
    text.truncate(bytes.max(LINE.len() + 16));
    text
}

async fn mcp(
    State(counts): State<Shared>,
    Path((_, tool_ms, _, _, bytes)): Play,
    method: Method,
    body: Bytes,
) -> Response {
    let answer_at = Instant::now() + Duration::from_millis(tool_ms);
    match method {
        Method::POST => {}
        Method::DELETE => return StatusCode::OK.into_response(),
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(id) = message.get("id") else { return StatusCode::ACCEPTED.into_response() };
    let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let method = text("/method");
    let result = match method {
        "initialize" => json!({
            "protocolVersion": text("/params/protocolVersion"), "capabilities": {"tools": {}},
            "serverInfo": {"name": "bench", "version": "1.0.0"},
        }),
        "ping" => json!({}),
        "tools/list" => {
            lock(&counts).lists += 1;
            json!({"tools": [{
                "name": "look", "description": "Reads the log at a place.",
                "inputSchema": {
                    "type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"],
                },
            }]})
        }
        "tools/call" => {
            lock(&counts).calls += 1;
            sleep_until(answer_at).await;
            let said = output(text("/params/arguments/at"), bytes);
            json!({"content": [{"type": "text", "text": said}], "isError": false})
        }
        other => {
            let error = json!({"code": -32601, "message": format!("Method not found: {other}")});
            return Json(json!({"jsonrpc": "2.0", "id": id, "error": error})).into_response();
        }
    };
    let mut response = Json(json!({"jsonrpc": "2.0", "id": id, "result": result})).into_response();
    if method == "initialize" {
        response.headers_mut().insert("mcp-session-id", axum::http::HeaderValue::from_static("bench"));
    }
    response
}
