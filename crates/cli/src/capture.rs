//! `sentinel capture`: keeps webhooks as they arrive in files that `replay` takes. Nothing is investigated.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::{Method, StatusCode};
use sentinel_alertmanager::MAX_BODY_BYTES;
use sentinel_aws::MachineClock;
use sentinel_core::ports::Clock;
use sentinel_ingest::Refusals;
use sentinel_local::write_private;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Exit;
use crate::args::Capture;
use crate::bodies::{BYTES, Bodies, discard};
use crate::connections::{Connections, Crowd};
use crate::ending::Ending;
use crate::environment::Environment;
use crate::render::inert;
use crate::server::problem;

/// Connections at once: who sends here is one Alertmanager, or somebody who tries.
const CONNECTIONS: usize = 64;
/// The longest that an end may take.
const DRAIN: Duration = Duration::from_secs(5);

/// What all requests share.
#[derive(Clone)]
struct Kept {
    folder: Arc<Path>,
    /// Webhooks that may still be kept.
    left: Arc<AtomicU32>,
    bodies: Bodies,
    clock: Arc<dyn Clock>,
    json: bool,
    full: CancellationToken,
}

pub(crate) async fn run(args: Capture, env: &Environment) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(&args.to).with_context(|| format!("{} cannot be made", args.to.display()))?;
    let listener =
        TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let url = format!("http://{}", listener.local_addr()?);
    let ending = Ending::default();
    let said = env.clone();
    ending
        .watch(DRAIN, move || said.error("ended while a webhook was being read"))
        .context("signals cannot be watched")?;
    let (crowd, clock): (_, Arc<dyn Clock>) = (Crowd::new(CONNECTIONS), Arc::new(MachineClock::default()));
    let kept = Kept {
        folder: args.to.into(),
        left: Arc::new(AtomicU32::new(args.most)),
        bodies: Bodies::new(BYTES, crowd.clone()),
        clock: Arc::clone(&clock),
        json: args.json,
        full: ending.asked.clone(),
    };
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", json!({"listening": url}))?;
    } else {
        writeln!(
            out,
            "Listening on {url}: every POST is kept in {}, and nothing is investigated",
            kept.folder.display()
        )?;
    }
    let router = Router::new().fallback(keep).with_state(kept);
    let stop = ending.asked.clone();
    Connections { router, crowd, refusals: Refusals::default(), clock, stop }.serve(listener).await;
    Ok(Exit::Done)
}

/// Keeps one webhook, whatever it says, and answers what Sentinel would read in it.
async fn keep(State(kept): State<Kept>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        discard(&parts, body).await;
        return problem(StatusCode::METHOD_NOT_ALLOWED, "post a webhook");
    }
    let whole = match kept.bodies.read(body, MAX_BODY_BYTES + 1).await {
        Ok(whole) => whole,
        Err(why) => {
            let (status, message) = why.said();
            return problem(status, message);
        }
    };
    if whole.bytes.len() > MAX_BODY_BYTES {
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "a webhook has six megabytes at most");
    }
    let Ok(before) = kept.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
    else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "as many as were asked for are kept");
    };
    let response = match kept.write(&whole.bytes, before) {
        Ok(told) => Json(told).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("it could not be kept: {error}")),
    };
    if before == 1 {
        kept.full.cancel();
    }
    response.map(Body::new)
}

impl Kept {
    /// Keeps it in a file. `number` is nobody else's.
    fn write(&self, bytes: &[u8], number: u32) -> std::io::Result<Value> {
        let now = self.clock.now();
        // The time sorts; the number tells those of one moment apart.
        let file: PathBuf = self.folder.join(format!("webhook-{}-{number}.json", now.get()));
        write_private(&file, bytes)?;
        let mut told = json!({"file": file});
        let read = match sentinel_alertmanager::parse(bytes, now) {
            Ok(message) => {
                format!("{} alerts, {} of them cannot be read", message.alerts.len(), message.refused.len())
            }
            Err(error) => format!("no webhook that Sentinel takes: {error}"),
        };
        if let Some(told) = told.as_object_mut() {
            told.insert("read".to_owned(), Value::String(read.clone()));
        }
        let mut out = anstream::stdout();
        if self.json {
            writeln!(out, "{told}")?;
        } else {
            writeln!(out, "{}: {}", file.display(), inert(&read))?;
        }
        Ok(told)
    }
}
