//! The embedded backend: what a deployment on AWS has, in one process.
//!
//! [`Backend`] is an [`IncidentStore`](sentinel_core::ports::IncidentStore) on a `DynamoDB` that lives in this
//! process, on a `SQLite` file in a data folder that it owns alone, behind the very adapter and SDK client that AWS
//! gets. Nothing listens: requests reach the database by a function call. [`LocalQueue`] is a
//! [`JobQueue`](sentinel_core::ports::JobQueue) in memory; the store and the sweeper make it durable.

mod audit_key;
mod backend;
mod folder;
mod key_file;
mod private;
mod queue;
mod tag_key;

pub use audit_key::{make_signing_key, signing_key};
pub use backend::Backend;
pub use folder::LocalError;
pub use private::write_private;
pub use queue::{Handled, LocalQueue, Receiver, Stats};
pub use tag_key::{passing_tag_keys, tag_keys};
