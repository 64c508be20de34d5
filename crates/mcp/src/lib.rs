//! The `ToolBox` port over MCP servers (streamable HTTP, and programs on this machine), by rmcp. The only crate that
//! names rmcp.
//!
//! [`Servers`] holds one connection to each server, made when it is first needed and shared by everybody. What a
//! server does wrong is told to the model in a plain sentence; nothing that a server does is fatal.

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod client;
mod events;
mod fault;
mod oauth;
mod output;
mod program;
mod reading;
mod server;
mod session;
mod spec;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use sentinel_core::card::ToolId;
use sentinel_http::HttpClient;
use sentinel_investigation::ports::{ToolBox, ToolDefinition, ToolError, ToolOutput};
use serde_json::{Map, Value};

use server::Server;
pub use spec::{Credential, Endpoint, OAuth, Program, Reach, ServerSpec};

/// The MCP servers of a process.
#[derive(Debug)]
pub struct Servers {
    servers: HashMap<String, Server>,
}

impl Servers {
    /// The servers, called through `http`. Nothing is connected yet. Of two with one name the later stands.
    pub fn new(servers: Vec<ServerSpec>, http: &Arc<HttpClient>) -> Self {
        let named = |spec: ServerSpec| (spec.name.clone(), Server::new(spec, Arc::clone(http)));
        Self { servers: servers.into_iter().map(named).collect() }
    }

    /// Ends all sessions, so that the servers need not keep them; waits two seconds at most. A later call connects
    /// again.
    pub async fn close(&self) {
        join_all(self.servers.values().map(Server::close)).await;
    }

    fn server(&self, name: &str) -> Result<&Server, ToolError> {
        self.servers
            .get(name)
            .ok_or_else(|| ToolError::RespondToModel(format!("there is no MCP server {name}")))
    }
}

#[async_trait]
impl ToolBox for Servers {
    async fn list(&self, server: &str, within: Duration) -> Result<Vec<ToolDefinition>, ToolError> {
        self.server(server)?.list(within).await
    }

    async fn call(
        &self,
        tool: &ToolId,
        arguments: &Map<String, Value>,
        within: Duration,
    ) -> Result<ToolOutput, ToolError> {
        self.server(&tool.server)?.call(&tool.tool, arguments, within).await
    }

    fn left_alone(&self) -> Vec<(String, bool)> {
        self.servers.iter().map(|(name, server)| (name.clone(), server.is_left_alone())).collect()
    }
}
