//! A scripted tool box.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sentinel_core::card::ToolId;
use sentinel_investigation::ports::{ToolBox, ToolDefinition, ToolError, ToolOutput};
use serde_json::{Map, Value, json};

/// Tools of the server `k8s` and what they answer; counts what reaches them.
#[derive(Default)]
pub(crate) struct Tools {
    pub(crate) definitions: BTreeMap<String, Vec<ToolDefinition>>,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) fails: Mutex<BTreeMap<String, u32>>,
    pub(crate) fatal: Option<String>,
    pub(crate) hangs: Option<String>,
    /// What the server lists from the second time on.
    pub(crate) later: Option<Vec<ToolDefinition>>,
    listings: AtomicUsize,
    called: Mutex<Vec<String>>,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tools")
    }
}

impl Tools {
    /// `k8s.events` and `k8s.pod` take a namespace and answer; `k8s.delete` destroys.
    pub(crate) fn k8s() -> Self {
        let schema = json!({
            "type": "object", "properties": {"namespace": {"type": "string"}}, "required": ["namespace"]
        });
        let tool = |name: &str, destructive| ToolDefinition {
            tool: name.into(),
            description: format!("{name} of a namespace"),
            input_schema: schema.clone(),
            read_only_hint: Some(true),
            destructive_hint: Some(destructive),
            more: Map::new(),
            unusable: None,
        };
        let all = vec![tool("events", false), tool("pod", false), tool("log", false), tool("delete", true)];
        let outputs = [
            ("k8s.events", "MountVolume.SetUp failed for volume \"db\": secret \"api-db\" not found"),
            ("k8s.pod", "{\"phase\":\"Pending\",\"containers\":[{\"waiting\":\"ContainerCreating\"}]}"),
            ("k8s.log", "no log: the container has not started; token swordfish-1234"),
        ];
        Self {
            definitions: [("k8s".to_owned(), all)].into(),
            outputs: outputs.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            ..Self::default()
        }
    }

    pub(crate) fn called(&self) -> Vec<String> {
        self.called.lock().unwrap().clone()
    }
}

#[async_trait]
impl ToolBox for Tools {
    async fn list(&self, server: &str, _: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        let down = || ToolError::RespondToModel("connection refused".into());
        if self.listings.fetch_add(1, Ordering::SeqCst) > 0
            && let Some(later) = &self.later
        {
            return Ok(later.clone());
        }
        self.definitions.get(server).cloned().ok_or_else(down)
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        _: Duration,
    ) -> Result<ToolOutput, ToolError> {
        let tool = tool.to_string();
        self.called.lock().unwrap().push(format!("{tool} {}", Value::Object(arguments.clone())));
        if self.fatal.as_ref() == Some(&tool) {
            return Err(ToolError::Fatal("the tool box is broken".into()));
        }
        if self.hangs.as_ref() == Some(&tool) {
            std::future::pending::<()>().await;
        }
        if let Some(left) = self.fails.lock().unwrap().get_mut(&tool).filter(|n| **n > 0) {
            *left -= 1;
            return Err(ToolError::RespondToModel("no answer in time".into()));
        }
        let (text, is_error) = match self.outputs.get(&tool) {
            Some(text) => (text.clone(), false),
            None => (format!("{tool} not found here"), true),
        };
        Ok(ToolOutput { text, is_error, remarks: Vec::new() })
    }
}
