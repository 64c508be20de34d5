//! Models at the wire: what is sent, and what every kind of answer becomes.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod chat;
mod forms;
mod hosted;
mod messages;
mod responses;
mod support;
