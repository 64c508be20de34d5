//! What Sentinel runs on: incidents in `DynamoDB`, jobs in SQS, secrets in Secrets Manager, and the machine's own clock
//! and randomness.
//!
//! [`Aws`] makes the SDK clients; [`DynamoStore`] and [`SqsQueue`] are the adapters of core's ports, [`Secrets`] is a
//! cache of secrets. [`Deployment`] is what the template tells a function. [`create_table`] makes the table where no
//! template does; [`client_for_engine`] speaks to a `DynamoDB` in this process. How records become items is in
//! `item.rs`, which is the whole definition of the stored format.
//!
//! No other crate names the AWS SDK but the benchmarks'. It holds no rule about incidents: conditions on writes are about
//! existence and version, and in the counters of spending about amounts; never about state.

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_input;
mod away;
mod bucket;
mod budget;
mod calls;
mod client;
mod deployment;
mod engine;
mod error;
mod item;
mod machine;
mod secrets;
mod sqs;
mod store;
mod table;
mod tag_key;
#[cfg(test)]
mod test_support;
mod transport;

pub use bucket::{Bucket, BucketError, Fetched};
pub use calls::{Calls, deadline};
#[cfg(feature = "default-chain")]
pub use client::credentials_of_environment;
pub use client::{Aws, CallLimits, credentials_of_function};
pub use deployment::{Deployment, StartError};
pub use engine::{Answer, Engine, client_for_engine};
pub use item::PART_BYTES;
pub use machine::{MachineClock, environment, fresh_ids};
pub use secrets::{SecretError, SecretTexts, Secrets};
pub use sqs::SqsQueue;
pub use store::DynamoStore;
pub use table::create_table;

/// The SDK client that the store speaks through.
pub use aws_sdk_dynamodb::Client;
/// The keys of an AWS account, for [`Aws::at_endpoint`].
pub use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
