//! `sentinel aws remove`: what `init` made, but for the incidents.

use std::io::Write;

use anyhow::bail;
use serde_json::{Value, json};

use super::args::Remove;
use super::stack::{Stack, State, why_failed};
use super::{bucket_of, model_key_of, tool};
use crate::Exit;
use crate::environment::Environment;

pub(super) async fn run(args: &Remove, env: &Environment) -> anyhow::Result<Exit> {
    let (tool, name) = (tool(&args.stack, env), &args.stack.name);
    let who = tool.json(&["sts", "get-caller-identity"]).await?;
    let account = who.get("Account").and_then(Value::as_str).unwrap_or_default();
    let stack = Stack::find(&tool, name).await?;
    let mut removed = vec![];
    let mut table = None;
    if let Some(stack) = &stack {
        stack.is_ours_or_refuse(name)?;
        if stack.state() == State::Busy {
            bail!("the stack {name} is being changed ({}): come again when that is over", stack.status);
        }
        table = stack.optional_output("TableName").map(str::to_owned);
        env.note(&format!("Deleting the stack {name}: this takes some minutes."));
        tool.text(&["cloudformation", "delete-stack", "--stack-name", name]).await?;
        if let Err(error) =
            tool.text(&["cloudformation", "wait", "stack-delete-complete", "--stack-name", name]).await
        {
            let why = why_failed(&tool, name).await.unwrap_or_else(|| error.to_string());
            bail!(
                "the stack {name} is not deleted whole: {why}; mend that and come again, its bucket and its model key are still there"
            );
        }
        removed.push(format!("the stack {name}"));
    }
    let secret = model_key_of(name);
    match tool
        .json(&["secretsmanager", "delete-secret", "--secret-id", &secret, "--force-delete-without-recovery"])
        .await
    {
        Ok(_) => removed.push(format!("the secret {secret}")),
        Err(refusal) if refusal.is_absent() => {}
        Err(refusal) => return Err(refusal.into()),
    }
    // The region's own name is in the bucket's; whatever region it is, there is one of these at most.
    for bucket in buckets(&tool, &bucket_of(name, account, "")).await? {
        tool.text(&["s3", "rb", "--force", &format!("s3://{bucket}")]).await?;
        removed.push(format!("the bucket {bucket}"));
    }
    let mut kept = None;
    if let Some(table) = table {
        if args.with_table {
            tool.json(&["dynamodb", "delete-table", "--table-name", &table]).await?;
            removed.push(format!("the table {table}"));
        } else {
            kept = Some(table);
        }
    }
    tell(args, &removed, kept.as_deref())?;
    Ok(Exit::Done)
}

async fn buckets(tool: &super::Tool<'_>, prefix: &str) -> anyhow::Result<Vec<String>> {
    let region = tool.region().await;
    let all = tool.json(&["s3api", "list-buckets"]).await?;
    let all = all.get("Buckets").and_then(Value::as_array).into_iter().flatten();
    let names = all.filter_map(|bucket| Some(bucket.get("Name")?.as_str()?.to_owned()));
    Ok(names
        .filter(|name| {
            name.strip_prefix(prefix).is_some_and(|rest| region.as_deref().is_none_or(|r| r == rest))
        })
        .collect())
}

fn tell(args: &Remove, removed: &[String], kept: Option<&str>) -> anyhow::Result<()> {
    let name = &args.stack.name;
    let mut out = anstream::stdout();
    if args.stack.json {
        return Ok(writeln!(out, "{}", json!({"removed": removed, "kept": kept}))?);
    }
    if removed.is_empty() {
        writeln!(out, "There is nothing of a stack {name} here; --region and --profile say where to look.")?;
    } else {
        writeln!(out, "Removed: {}.", removed.join(", "))?;
    }
    if let Some(table) = kept {
        writeln!(
            out,
            "Kept: the table {table} with its incidents. A new stack goes on with it by --parameter ExistingTableName={table}; `aws dynamodb delete-table --table-name {table}` deletes it for good."
        )?;
    }
    Ok(())
}
