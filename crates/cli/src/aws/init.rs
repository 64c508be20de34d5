//! `sentinel aws init`: the whole stack by `CloudFormation`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sentinel_config::{Loaded, Problems, Source};
use serde_json::json;

use super::args::Init;
use super::stack::{FUNCTIONS, Stack, State, TEMPLATE, half_made, why_failed};
use super::tool::Tool;
use super::{bucket_of, fit, model_key_of, scratch};
use crate::environment::Environment;
use crate::{Exit, setup};

/// What stands in the functions until `cargo lambda deploy` puts the programs there.
const PLACEHOLDER: &str =
    "#!/bin/sh\necho 'this function has no code yet: deploy it as `sentinel aws init` said' >&2\nexit 1\n";
/// The configuration that travels in the zips.
const DEPLOYED: &str = include_str!("../../../../infra/aws.yaml");

pub(super) async fn run(args: &Init, env: &Environment) -> anyhow::Result<Exit> {
    let name = &args.stack.name;
    let tool = Tool::new(env, args.stack.region.as_deref(), args.stack.profile.as_deref());
    let Some(loaded) = fit_configuration(args, env)? else { return Ok(Exit::Usage) };
    if let Some(zips) = &args.zips {
        zips_are_there(zips)?;
    }

    // Nothing is made before everything that can be known is known.
    let who = tool.json(&["sts", "get-caller-identity"]).await?;
    let account = who.get("Account").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    if let Some(stack) = Stack::find(&tool, name).await? {
        stack.is_ours_or_refuse(name)?;
        match stack.state() {
            State::Busy => {
                bail!("the stack {name} is being changed ({}): come again when that is over", stack.status)
            }
            State::HalfMade => bail!("{}", half_made(name, &stack.status)),
            State::Whole if args.zips.is_none() => bail!(
                "there is a stack {name} already, and nothing was changed: `sentinel aws doctor --name {name}` looks at it; to bring it to this version, build the zips and say --zips target/lambda; another one needs another --name"
            ),
            State::Whole => {
                env.note(&format!("Bringing the stack {name} to version {}.", env!("CARGO_PKG_VERSION")));
            }
        }
    }
    models_are_there(&tool, &loaded).await?;
    let region =
        tool.region().await.context("no region: say --region, or set one with `aws configure set region`")?;

    let bucket = make_bucket(&tool, name, &account, &region).await?;
    let model_key = put_model_key(&tool, name, env).await?;
    let mut parameters = vec![format!("Architecture={}", args.architecture.as_str())];
    parameters.extend(model_key.map(|arn| format!("ModelSecretArn={arn}")));
    parameters.extend(args.parameters.iter().cloned());
    env.note(&format!("Making the stack {name}: this takes some minutes."));
    if let Err(error) = deploy(&tool, name, &bucket, args.zips.as_deref(), &parameters).await {
        let why = why_failed(&tool, name).await.unwrap_or_else(|| error.to_string());
        let left = match Stack::find(&tool, name).await {
            Ok(Some(stack)) => {
                format!("the stack {name} ({}) and the bucket {bucket} are left", stack.status)
            }
            _ => format!("the bucket {bucket} is left"),
        };
        bail!(
            "the stack {name} could not be made: {why}; {left}: `sentinel aws remove --name {name}` removes them, then come again"
        );
    }
    let stack = Stack::whole(&tool, &args.stack).await?;
    tell(args, &stack, &bucket, &region, env)?;
    Ok(Exit::Done)
}

/// The configuration that will be read there; `None`: it cannot be, and that has been told.
fn fit_configuration(args: &Init, env: &Environment) -> anyhow::Result<Option<Loaded>> {
    let source = match &args.config {
        Some(file) => Source::read(file, &env.cwd)?,
        None => Source {
            name: "infra/aws.yaml".into(),
            text: DEPLOYED.to_owned(),
            base_dir: Some(env.cwd.clone()),
        },
    };
    let loaded = match load_as_deployed(&source, env) {
        Ok(loaded) => loaded,
        Err(problems) => {
            setup::tell(&problems, env);
            return Ok(None);
        }
    };
    env.keep_back(loaded.settings.redactor());
    let problems = fit::problems(&loaded);
    for problem in &problems {
        env.error(&format!("{}: {problem}", source.name.display()));
    }
    Ok(problems.is_empty().then_some(loaded))
}

/// As the functions will read it: what the template puts into their environment is known by name.
pub(super) fn load_as_deployed(source: &Source, env: &Environment) -> Result<Loaded, Problems> {
    sentinel_config::load(source, &|name| match name {
        "SENTINEL_INGEST_SECRET" | "SENTINEL_MODEL_SECRET" => Some(format!("the secret in {name}")),
        name => env.var(name),
    })
}

fn zips_are_there(zips: &Path) -> anyhow::Result<()> {
    for function in FUNCTIONS {
        let zip = zips.join(format!("sentinel-{function}/bootstrap.zip"));
        if !zip.is_file() {
            bail!(
                "{} is not there: `bash infra/build.sh arm64` builds the zips into target/lambda",
                zip.display()
            );
        }
    }
    Ok(())
}

/// What Bedrock does not have in the region that is asked would only be seen at the first incident.
async fn models_are_there(tool: &Tool<'_>, loaded: &Loaded) -> anyhow::Result<()> {
    for (model, region) in fit::bedrock(&loaded.settings) {
        let profile = [
            "bedrock",
            "get-inference-profile",
            "--inference-profile-identifier",
            &model,
            "--region",
            &region,
        ];
        let foundation =
            ["bedrock", "get-foundation-model", "--model-identifier", &model, "--region", &region];
        if tool.json(&foundation).await.is_err()
            && let Err(refusal) = tool.json(&profile).await
        {
            bail!(
                "Amazon Bedrock in {region} has no model {model} for this account: name one that `aws bedrock list-foundation-models --region {region}` lists, or another region in base-url ({refusal})"
            );
        }
    }
    Ok(())
}

/// The bucket of the stack's zips, which nobody else can read.
async fn make_bucket(tool: &Tool<'_>, name: &str, account: &str, region: &str) -> anyhow::Result<String> {
    let bucket = bucket_of(name, account, region);
    match tool.json(&["s3api", "head-bucket", "--bucket", &bucket]).await {
        Ok(_) => return Ok(bucket),
        Err(refusal) if refusal.is_absent() => {}
        Err(refusal) => return Err(refusal).with_context(|| {
            format!(
                "the bucket {bucket} belongs to somebody else, or may not be looked at; choose another --name"
            )
        }),
    }
    tool.text(&["s3", "mb", &format!("s3://{bucket}")]).await?;
    let closed =
        "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true";
    let block = [
        "s3api",
        "put-public-access-block",
        "--bucket",
        &bucket,
        "--public-access-block-configuration",
        closed,
    ];
    tool.json(&block)
        .await
        .with_context(|| format!("the bucket {bucket} was made, and could not be closed to the public"))?;
    Ok(bucket)
}

/// Stores `OPENAI_API_KEY`, where it is set, as the secret that the worker reads. On the way it is in a file that only this
/// user can read, never on a command line.
async fn put_model_key(tool: &Tool<'_>, name: &str, env: &Environment) -> anyhow::Result<Option<String>> {
    let secret = model_key_of(name);
    let describe = ["secretsmanager", "describe-secret", "--secret-id", &secret];
    let Some(key) = env.var("OPENAI_API_KEY").filter(|key| !key.trim().is_empty()) else {
        let stored = tool.json(&describe).await.ok();
        if stored.is_none() {
            env.note("OPENAI_API_KEY is not set: reports will be made of evidence only. Set it and come again with --zips, or give ModelSecretArn.");
        }
        return Ok(stored.and_then(|secret| Some(secret.get("ARN")?.as_str()?.to_owned())));
    };
    let folder = scratch()?;
    let file = folder.path().join("key");
    fs::write(&file, key.trim())?;
    let from = format!("file://{}", file.display());
    let create = [
        "secretsmanager",
        "create-secret",
        "--name",
        &secret,
        "--description",
        "The key of Sentinel's model.",
        "--secret-string",
        &from,
    ];
    match tool.json(&create).await {
        Ok(created) => Ok(created.get("ARN").and_then(|arn| arn.as_str()).map(str::to_owned)),
        Err(refusal) if refusal.is_there_already() => {
            let put =
                ["secretsmanager", "put-secret-value", "--secret-id", &secret, "--secret-string", &from];
            let changed = tool.json(&put).await?;
            Ok(changed.get("ARN").and_then(|arn| arn.as_str()).map(str::to_owned))
        }
        Err(refusal) => Err(refusal).context("the model's key could not be stored"),
    }
}

/// Uploads the zips and creates or updates the stack.
async fn deploy(
    tool: &Tool<'_>,
    name: &str,
    bucket: &str,
    zips: Option<&Path>,
    parameters: &[String],
) -> anyhow::Result<()> {
    let folder = scratch()?;
    let root = folder.path();
    fs::create_dir_all(root.join("infra"))?;
    let template = root.join("infra/template.yaml");
    fs::write(&template, TEMPLATE)?;
    for function in FUNCTIONS {
        put_code(&root.join(format!("target/lambda/sentinel-{function}/bootstrap.zip")), zips, function)?;
    }
    let (template, packaged) =
        (template.display().to_string(), root.join("packaged.yaml").display().to_string());
    let package = [
        "cloudformation",
        "package",
        "--template-file",
        &template,
        "--s3-bucket",
        bucket,
        "--output-template-file",
        &packaged,
    ];
    tool.text(&package).await?;
    let deploy = [
        "cloudformation",
        "deploy",
        "--template-file",
        &packaged,
        "--stack-name",
        name,
        "--s3-bucket",
        bucket,
        "--capabilities",
        "CAPABILITY_IAM",
        "--no-fail-on-empty-changeset",
        "--parameter-overrides",
    ];
    let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
    tool.text(&[&deploy[..], &parameters].concat()).await?;
    Ok(())
}

/// A zip where the template has it; a folder is zipped by `aws cloudformation package`.
fn put_code(at: &Path, zips: Option<&Path>, function: &str) -> anyhow::Result<()> {
    let parent = at.parent().context("a path with a folder")?;
    fs::create_dir_all(parent)?;
    if let Some(zips) = zips {
        let zip = zips.join(format!("sentinel-{function}/bootstrap.zip"));
        fs::copy(&zip, at).with_context(|| format!("{} cannot be read", zip.display()))?;
        return Ok(());
    }
    fs::create_dir(at)?;
    let program: PathBuf = at.join("bootstrap");
    fs::write(&program, PLACEHOLDER)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Says what to do next, ready to paste.
fn tell(args: &Init, stack: &Stack, bucket: &str, region: &str, env: &Environment) -> anyhow::Result<()> {
    let name = &args.stack.name;
    let (url, table) = (stack.output("WebhookUrl")?, stack.output("TableName")?);
    let watcher = !stack.parameter("WatcherSchedule").is_empty();
    let functions = FUNCTIONS.into_iter().filter(|function| watcher || *function != "watcher");
    let mut deploy = vec![];
    if args.zips.is_none() {
        deploy.push(format!("bash infra/build.sh {}", args.architecture.as_str()));
        deploy.extend(
            functions.map(|f| {
                format!("cargo lambda deploy --region {region} --binary-name sentinel-{f} {name}-{f}")
            }),
        );
    }
    let token = stack.optional_output("IngestTokenArn").map(|arn| {
        format!("aws secretsmanager get-secret-value --region {region} --secret-id {arn} --query SecretString --output text > sentinel-token")
    });
    let receiver = receiver(url);
    let mut out = anstream::stdout();
    if args.stack.json {
        let all = json!({
            "stack": name, "region": region, "bucket": bucket, "webhook_url": url, "table": table,
            "deploy": deploy, "token": token, "receiver": receiver,
        });
        return Ok(writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?);
    }
    writeln!(
        out,
        "The stack {name} stands in {region}. Its table is {table}, its zips are in the bucket {bucket}."
    )?;
    if !deploy.is_empty() {
        writeln!(out, "\nIts functions have no code yet. Build and deploy it:\n")?;
        for line in &deploy {
            writeln!(out, "    {line}")?;
        }
    }
    if let Some(token) = token {
        writeln!(
            out,
            "\nThe token of those who post alerts, into a file that Alertmanager reads:\n\n    {token}"
        )?;
    }
    writeln!(out, "\nThe receiver, for Alertmanager's configuration:\n\n{receiver}")?;
    writeln!(
        out,
        "Then see that it works:\n\n    sentinel aws send events/alertmanager/watchdog.json --name {name}\n    sentinel aws doctor --name {name}"
    )?;
    env.note("Done.");
    Ok(())
}

fn receiver(url: &str) -> String {
    format!(
        "receivers:\n  - name: sentinel\n    webhook_configs:\n      - url: {url}\n        send_resolved: true\n        max_alerts: 0\n        http_config:\n          authorization:\n            type: Bearer\n            credentials_file: /etc/alertmanager/sentinel-token\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_a_new_stack_is_fit_for_it() {
        let args = Init {
            stack: super::super::args::StackFlags {
                name: "s".into(),
                region: None,
                profile: None,
                json: false,
            },
            architecture: super::super::args::Architecture::Arm64,
            zips: None,
            config: None,
            parameters: vec![],
        };
        assert!(fit_configuration(&args, &Environment::empty()).unwrap().is_some());
    }
}
