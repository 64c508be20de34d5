//! `sentinel aws`: a stack is made, looked at, tried, mended and removed, all through the user's AWS command line.

pub mod args;
mod config;
mod doctor;
mod fit;
mod init;
mod remove;
mod send;
mod stack;
mod tool;

use std::io::Write;

use anyhow::Context;
use args::{AwsArgs, AwsCommand, ConfigCommand, Resume, StackFlags};
use sentinel_aws::{Aws, CallLimits, DynamoStore};
use serde_json::json;
use stack::Stack;
use tempfile::TempDir;
use tool::Tool;

use crate::Exit;
use crate::environment::Environment;

pub(crate) async fn run(args: AwsArgs, env: &Environment) -> anyhow::Result<Exit> {
    match args.command {
        AwsCommand::Init(args) => init::run(&args, env).await,
        AwsCommand::Doctor(flags) => doctor::run(&flags, env).await,
        AwsCommand::Send(args) => send::run(&args, env).await,
        AwsCommand::Redrive(flags) => redrive(&flags, env).await,
        AwsCommand::Remove(args) => remove::run(&args, env).await,
        AwsCommand::Resume(args) => resume(&args, env).await,
        AwsCommand::Config(args) => match args.command {
            ConfigCommand::Push(args) => config::push(&args, env).await,
        },
    }
}

fn tool<'e>(flags: &StackFlags, env: &'e Environment) -> Tool<'e> {
    Tool::new(env, flags.region.as_deref(), flags.profile.as_deref())
}

/// The bucket of a stack's zips.
fn bucket_of(name: &str, account: &str, region: &str) -> String {
    format!("{name}-code-{account}-{region}")
}

/// The secret that is the key of a stack's model.
fn model_key_of(name: &str) -> String {
    format!("{name}/model-key")
}

/// A folder that only this user can look into, and that is gone with the command.
fn scratch() -> anyhow::Result<TempDir> {
    tempfile::Builder::new().prefix("sentinel-aws").tempdir().context("a temporary folder cannot be made")
}

/// Looks the stack's table up, and decides about it.
async fn resume(args: &Resume, env: &Environment) -> anyhow::Result<Exit> {
    let flags = &args.stack;
    let stack = Stack::whole(&tool(flags, env), flags).await?;
    let aws = Aws::of_profile(CallLimits::default(), flags.region.clone(), flags.profile.clone()).await;
    let store = DynamoStore::new(aws.dynamo(), stack.output("TableName")?);
    crate::resume::since(&store, args.since, flags.json).await
}

/// Messages go back as they are; the worker takes each for what the table says it is.
async fn redrive(flags: &StackFlags, env: &Environment) -> anyhow::Result<Exit> {
    let tool = tool(flags, env);
    let stack = Stack::whole(&tool, flags).await?;
    let dead = stack.output("DeadLetterQueueUrl")?;
    let asked = [
        "sqs",
        "get-queue-attributes",
        "--queue-url",
        dead,
        "--attribute-names",
        "QueueArn",
        "ApproximateNumberOfMessages",
    ];
    let attributes = tool.json(&asked).await?;
    let text = |name: &str| {
        attributes.pointer(&format!("/Attributes/{name}")).and_then(|v| v.as_str()).unwrap_or_default()
    };
    let waiting: u64 = text("ApproximateNumberOfMessages").parse().unwrap_or_default();
    if waiting > 0 {
        tool.json(&["sqs", "start-message-move-task", "--source-arn", text("QueueArn")]).await?;
    }
    let mut out = anstream::stdout();
    if flags.json {
        writeln!(out, "{}", json!({"moved": waiting}))?;
    } else if waiting == 0 {
        writeln!(out, "The dead-letter queue is empty.")?;
    } else {
        writeln!(
            out,
            "About {waiting} messages go back to the queue; what fails again comes back, and the worker's log says why."
        )?;
    }
    Ok(Exit::Done)
}
