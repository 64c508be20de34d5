//! Chat Completions (`POST /chat/completions`): for services that speak nothing else. It hosts no MCP servers.

pub(crate) mod answer;
pub(crate) mod request;
