//! A stack of `CloudFormation`'s, and whether it is one of ours.

use std::collections::BTreeMap;

use anyhow::bail;
use serde_json::Value;

use super::args::StackFlags;
use super::tool::{Tool, missing_permission};

/// The template, as it is deployed.
pub(super) const TEMPLATE: &str = include_str!("../../../../infra/template.yaml");
/// What its description begins with: by this a stack is known for ours.
const OURS: &str = "Sentinel investigates alerts";
/// The functions of every stack.
pub(super) const FUNCTIONS: [&str; 4] = ["ingest", "worker", "sweeper", "watcher"];

/// A stack as `CloudFormation` describes it.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    pub(super) status: String,
    pub(super) is_ours: bool,
    outputs: BTreeMap<String, String>,
    parameters: BTreeMap<String, String>,
}

/// What can be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It stands.
    Whole,
    /// Something is being done with it.
    Busy,
    /// Its making or its removal broke off.
    HalfMade,
}

impl Stack {
    /// `None`: there is no stack of this name.
    pub(super) async fn find(tool: &Tool<'_>, name: &str) -> anyhow::Result<Option<Self>> {
        match tool.json(&["cloudformation", "describe-stacks", "--stack-name", name]).await {
            Ok(answer) => Ok(answer.pointer("/Stacks/0").map(Self::read)),
            Err(refusal) if refusal.is_absent() => Ok(None),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// One that stands, for commands that need one.
    pub(super) async fn whole(tool: &Tool<'_>, flags: &StackFlags) -> anyhow::Result<Self> {
        let name = &flags.name;
        let Some(stack) = Self::find(tool, name).await? else {
            bail!(
                "there is no stack {name} here: `sentinel aws init --name {name}` makes one, --region and --profile say where"
            );
        };
        stack.is_ours_or_refuse(name)?;
        match stack.state() {
            State::Whole => Ok(stack),
            State::Busy => {
                bail!("the stack {name} is being changed ({}): come again when that is over", stack.status)
            }
            State::HalfMade => bail!("{}", half_made(name, &stack.status)),
        }
    }

    pub(super) fn is_ours_or_refuse(&self, name: &str) -> anyhow::Result<()> {
        if !self.is_ours {
            bail!("the stack {name} is none of Sentinel's: it was left alone; choose another --name");
        }
        Ok(())
    }

    fn read(stack: &Value) -> Self {
        let pairs = |list: &str, key: &str, value: &str| {
            let items = stack.get(list).and_then(Value::as_array).into_iter().flatten();
            let text = |item: &Value, name: &str| Some(item.get(name)?.as_str()?.to_owned());
            items.filter_map(|item| Some((text(item, key)?, text(item, value)?))).collect()
        };
        let text = |name: &str| stack.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let outputs: BTreeMap<String, String> = pairs("Outputs", "OutputKey", "OutputValue");
        // One that is half made has no outputs yet, and the template's description.
        let has_ours =
            ["IngestFunctionName", "DeadLetterQueueUrl"].iter().all(|name| outputs.contains_key(*name));
        Self {
            status: text("StackStatus"),
            is_ours: has_ours || text("Description").starts_with(OURS),
            outputs,
            parameters: pairs("Parameters", "ParameterKey", "ParameterValue"),
        }
    }

    pub(super) fn state(&self) -> State {
        match self.status.as_str() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_COMPLETE" => {
                State::Whole
            }
            "REVIEW_IN_PROGRESS" => State::HalfMade,
            busy if busy.ends_with("_IN_PROGRESS") => State::Busy,
            _ => State::HalfMade,
        }
    }

    /// An output of the template.
    pub(super) fn output(&self, name: &str) -> anyhow::Result<&str> {
        let found = self.optional_output(name);
        found.ok_or_else(|| {
            anyhow::anyhow!(
                "the stack has no output {name}: it is of another version; update it with this one's template"
            )
        })
    }

    pub(super) fn optional_output(&self, name: &str) -> Option<&str> {
        self.outputs.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A parameter, as it was given or by default.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }
}

/// What to do about a stack that is neither there nor gone.
pub(super) fn half_made(name: &str, status: &str) -> String {
    format!(
        "the stack {name} is half made ({status}) and does nothing: `sentinel aws remove --name {name}` removes what is left of it; no table is touched"
    )
}

/// Why `CloudFormation` could not make or change a stack: the first thing that failed, in its own words.
pub(super) async fn why_failed(tool: &Tool<'_>, name: &str) -> Option<String> {
    let events = tool.json(&["cloudformation", "describe-stack-events", "--stack-name", name]).await.ok()?;
    let events = events.get("StackEvents")?.as_array()?;
    let text =
        |event: &Value, key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    // They come newest first; what is cancelled because of another thing is not the reason.
    let failed = events.iter().rev().find(|event| {
        text(event, "ResourceStatus").ends_with("_FAILED")
            && !text(event, "ResourceStatusReason").contains("cancelled")
    })?;
    let (resource, reason) = (text(failed, "LogicalResourceId"), text(failed, "ResourceStatusReason"));
    if let Some(lacks) = missing_permission(&reason) {
        return Some(format!("{resource}: {lacks}"));
    }
    let help = if reason.contains("already exists") {
        "; something of that name is left from before, or belongs to another: remove it, or choose another --name"
    } else if reason.contains("UnreservedConcurrentExecution") {
        "; the account's quota of concurrent executions is small: --parameter ReserveWorkerConcurrency=false"
    } else {
        ""
    };
    Some(format!("{resource}: {reason}{help}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_template_is_known_for_ours() {
        assert!(TEMPLATE.contains(&format!("Description: {OURS}")));
        for function in FUNCTIONS {
            assert!(
                TEMPLATE.contains(&format!("CodeUri: ../target/lambda/sentinel-{function}/bootstrap.zip")),
                "{function}"
            );
        }
    }

    #[test]
    fn a_stack_stands_is_busy_or_is_half_made() {
        for (status, state) in [
            ("CREATE_COMPLETE", State::Whole),
            ("UPDATE_ROLLBACK_COMPLETE", State::Whole),
            ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", State::Busy),
            ("REVIEW_IN_PROGRESS", State::HalfMade),
            ("ROLLBACK_COMPLETE", State::HalfMade),
            ("DELETE_FAILED", State::HalfMade),
        ] {
            assert_eq!(Stack::read(&json!({"StackStatus": status})).state(), state, "{status}");
        }
    }
}
