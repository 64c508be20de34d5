//! The [`IncidentStore`](sentinel_core::ports::IncidentStore) port on `DynamoDB`.
//!
//! [`DynamoStore`] is the adapter; [`client_for_aws`], [`client_for_endpoint`] and [`client_for_engine`] make the SDK
//! client that it speaks through; [`create_table`] makes the table that it expects. How records become items is
//! in `item.rs`, which is the whole definition of the stored format.
//!
//! This is the only crate that names the AWS SDK. It holds no rule about incidents: conditions on writes are about
//! existence and version, never about state.

mod client;
mod engine;
mod error;
mod item;
mod store;
mod table;
#[cfg(test)]
mod test_support;

pub use client::{CallLimits, client_for_aws, client_for_endpoint};
pub use engine::{Answer, Engine, client_for_engine};
pub use item::PART_BYTES;
pub use store::DynamoStore;
pub use table::create_table;

/// The SDK client that the store speaks through.
pub use aws_sdk_dynamodb::Client;
/// The keys of an AWS account, for [`client_for_endpoint`].
pub use aws_sdk_dynamodb::config::Credentials;
