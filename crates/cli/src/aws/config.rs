//! `sentinel aws config push`: no broken configuration reaches the functions.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::bail;
use sentinel_config::Source;
use sentinel_core::card::PromptSource;
use serde_json::json;

use super::args::Push;
use super::init::load_as_deployed;
use super::stack::Stack;
use super::{fit, tool};
use crate::environment::Environment;
use crate::{Exit, setup};

pub(super) async fn push(args: &Push, env: &Environment) -> anyhow::Result<Exit> {
    let name = &args.stack.name;
    let source = match Source::read(&args.file, &env.cwd) {
        Ok(source) => source,
        Err(error) => {
            env.error(&error.to_string());
            return Ok(Exit::Usage);
        }
    };
    let loaded = match load_as_deployed(&source, env) {
        Ok(loaded) => loaded,
        Err(problems) => return Ok(setup::tell(&problems, env)),
    };
    env.keep_back(loaded.settings.redactor());
    setup::print_diagnostics(&loaded.warnings, env);
    let problems = fit::problems(&loaded);
    if !problems.is_empty() {
        for problem in &problems {
            env.error(&format!("{}: {problem}", source.name.display()));
        }
        return Ok(Exit::Usage);
    }

    let tool = tool(&args.stack, env);
    let stack = Stack::whole(&tool, &args.stack).await?;
    let target = stack.parameter("ConfigPath");
    let Some((bucket, key)) = target.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) else {
        bail!(
            "the stack {name} reads its configuration from its zips ({target}): edit it there, build and deploy; or have it read one from S3: --parameter ConfigPath=s3://BUCKET/KEY --parameter ConfigArns=arn:aws:s3:::BUCKET/FOLDER/*"
        );
    };
    // Prompts first: no function may read a configuration whose prompts are not there yet.
    let file = env.cwd.join(&args.file);
    let folder = file.parent().unwrap_or(&env.cwd);
    let mut sent = vec![];
    for prompt in prompts(&loaded.settings.cards) {
        let at = beside(key, prompt.strip_prefix(folder).unwrap_or(&prompt))?;
        put(&tool, &prompt, bucket, &at).await?;
        sent.push(at);
    }
    put(&tool, &file, bucket, key).await?;
    sent.push(key.to_owned());
    let mut out = anstream::stdout();
    if args.stack.json {
        writeln!(out, "{}", json!({"bucket": bucket, "keys": sent}))?;
    } else {
        writeln!(
            out,
            "Put into s3://{bucket}: {}. The functions take it up within a minute of their next event.",
            sent.join(", ")
        )?;
    }
    Ok(Exit::Done)
}

/// The prompt files of all cards, from the configuration's folder.
fn prompts(cards: &[sentinel_core::card::Card]) -> BTreeSet<PathBuf> {
    let files = cards.iter().filter_map(|card| match &card.prompt.source {
        PromptSource::File(path) => Some(path.clone()),
        _ => None,
    });
    files.collect()
}

/// Where a file lies in the bucket that the configuration at `key` writes as `path`.
fn beside(key: &str, path: &Path) -> anyhow::Result<String> {
    let mut parts: Vec<&str> = key.split('/').collect();
    parts.pop();
    let text = path.to_string_lossy();
    if path.is_absolute() {
        bail!("the prompt {text} has a path of this machine: write it relative to the configuration");
    }
    for part in text.split('/') {
        match part {
            "." | "" => {}
            ".." if parts.pop().is_some() => {}
            ".." => bail!(
                "the prompt {text} would lie outside the bucket: put the configuration into a folder (ConfigPath), as deep as the prompt's path goes up"
            ),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

async fn put(tool: &super::Tool<'_>, file: &Path, bucket: &str, key: &str) -> anyhow::Result<()> {
    let body = file.display().to_string();
    tool.json(&["s3api", "put-object", "--bucket", bucket, "--key", key, "--body", &body]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_lie_where_the_configuration_looks_for_them() {
        let at = |key: &str, path: &str| beside(key, Path::new(path)).map_err(|e| e.to_string());
        assert_eq!(at("team/infra/sentinel.yaml", "../prompts/a.j2").unwrap(), "team/prompts/a.j2");
        assert_eq!(at("sentinel.yaml", "./prompts/a.j2").unwrap(), "prompts/a.j2");
        assert!(at("sentinel.yaml", "../prompts/a.j2").unwrap_err().contains("outside the bucket"));
        assert!(at("sentinel.yaml", "/etc/a.j2").unwrap_err().contains("relative"));
    }
}
