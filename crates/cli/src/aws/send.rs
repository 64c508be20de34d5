//! `sentinel aws send`: the way of an alert through a deployed stack, from outside.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use sentinel_core::incident::IncidentId;
use sentinel_core::redact::Redactor;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::Send;
use super::stack::Stack;
use super::tool;
use crate::Exit;
use crate::environment::Environment;
use crate::incidents::{self, Place};
use crate::render;

/// Between two looks at the table.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest that the webhook may take: API Gateway gives up after 30 s.
const ANSWER: Duration = Duration::from_secs(35);

pub(super) async fn run(args: &Send, env: &Environment) -> anyhow::Result<Exit> {
    let tool = tool(&args.stack, env);
    let file = env.cwd.join(&args.event);
    let body = sentinel_config::read_file(&file)
        .with_context(|| format!("{} cannot be read", args.event.display()))?;
    let stack = Stack::whole(&tool, &args.stack).await?;
    let url = args.url.as_deref().map_or_else(|| stack.output("WebhookUrl"), Ok)?;
    let token = token(&tool, &stack, env).await?;

    let client = reqwest::Client::builder().timeout(ANSWER).build()?;
    let post = client.post(url).header("content-type", "application/json").body(body);
    let answer = post.bearer_auth(token.expose_secret()).send().await;
    let answer = answer.with_context(|| {
        format!("{url} did not answer: is it the stack's, and is there a way to it from here (--url)?")
    })?;
    let status = answer.status();
    let text = answer.text().await.unwrap_or_default();
    if !status.is_success() {
        let remedy = match status.as_u16() {
            401 => {
                "the stack's configuration takes another token than the stack's own: put it into SENTINEL_TOKEN"
            }
            429 => "the API throttles: wait, or raise ThrottleRate",
            500 => "ingest does not start or crashed: `sentinel aws doctor` and its log say why",
            503 => {
                "the store, the queue or the secret store did not do its part: `sentinel aws doctor` looks at them"
            }
            _ => "the answer says what is wrong with the event",
        };
        bail!("the webhook answered {status}: {}; {remedy}", text.trim());
    }
    let answer: Value =
        serde_json::from_str(&text).context("the webhook's answer is not JSON: is it Sentinel's?")?;
    let incidents = answer.get("incidents").and_then(Value::as_array).into_iter().flatten();
    let ids: Vec<IncidentId> =
        incidents.filter_map(|incident| Some(IncidentId::new(incident.get("id")?.as_str()?))).collect();
    if ids.is_empty() {
        env.note(&format!("The webhook took it, and no incident came of it: {}", text.trim()));
    }
    reports(args, &stack, &ids, env).await
}

/// The stack's own token, or what `SENTINEL_TOKEN` says.
async fn token(tool: &super::Tool<'_>, stack: &Stack, env: &Environment) -> anyhow::Result<SecretString> {
    let token = if let Some(token) = env.var("SENTINEL_TOKEN").filter(|token| !token.is_empty()) {
        token
    } else {
        let arn = stack.optional_output("IngestTokenArn").context(
            "the stack has no token of its own (IngestSecretArns): put the one that its configuration takes into SENTINEL_TOKEN",
        )?;
        let got = tool.json(&["secretsmanager", "get-secret-value", "--secret-id", arn]).await?;
        let text = got.get("SecretString").and_then(Value::as_str);
        text.context("the token's secret holds no text")?.to_owned()
    };
    env.keep_back(Redactor::new([token.clone()]));
    Ok(token.into())
}

/// Waits until each incident has ended, and prints it.
async fn reports(args: &Send, stack: &Stack, ids: &[IncidentId], env: &Environment) -> anyhow::Result<Exit> {
    let table = stack.output("TableName")?;
    let flags = &args.stack;
    let place = Place::of_table(table, flags.region.clone(), flags.profile.clone()).await;
    let until = Instant::now() + Duration::from_secs(args.wait);
    let (mut all, mut out) = (vec![], anstream::stdout());
    for id in ids {
        env.note(&format!("Waiting for incident {id}."));
        let detail = loop {
            let detail =
                place.detail(id).await.with_context(|| format!("the table {table} cannot be read"))?;
            if let Some(detail) = detail.filter(|detail| detail.state.is_terminal()) {
                break detail;
            }
            if Instant::now() >= until {
                bail!(
                    "incident {id} has not ended within {} s: `sentinel incidents show {id} --table {table}` looks again, `sentinel aws doctor` at the stack",
                    args.wait
                );
            }
            tokio::time::sleep(PAUSE).await;
        };
        if flags.json {
            all.push(json!(detail));
        } else {
            let more = incidents::deeper(&detail, &format!(" --table {table}"));
            let screen = render::Screen { width: env.columns, full: false, more: &more };
            write!(out, "{}", env.without_secrets(&render::incident(&detail, &screen)))?;
        }
    }
    if flags.json {
        writeln!(out, "{}", env.json_without_secrets(&all)?)?;
    }
    Ok(Exit::Done)
}
