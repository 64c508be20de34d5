//! What a deployment tells its functions.

use std::sync::Arc;

use sentinel_core::ports::{Clock, Ports};
use thiserror::Error;

use crate::{Aws, DynamoStore, SqsQueue, fresh_ids};

/// The variables that the template sets.
const TABLE: &str = "SENTINEL_TABLE";
const QUEUE_URL: &str = "SENTINEL_QUEUE_URL";

/// Which table and which queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment {
    /// `SENTINEL_TABLE`: the table's name.
    pub table: String,
    /// `SENTINEL_QUEUE_URL`: where jobs are sent.
    pub queue_url: String,
}

/// What a function's environment lacks. Not worth a retry.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StartError {
    /// A variable that the deployment has to set.
    #[error("the environment variable {0} is not set; on AWS, Lambda or the deployment's template sets it")]
    Missing(&'static str),
    /// Certificates to trust, which nobody can trust.
    #[error("{variable}: the file {path} {reason}")]
    Bundle {
        /// Which variable names the file.
        variable: &'static str,
        /// The file, as it is named there.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A variable that must be there and not be empty.
pub(crate) fn required(
    env: &dyn Fn(&str) -> Option<String>,
    name: &'static str,
) -> Result<String, StartError> {
    env(name).filter(|value| !value.is_empty()).ok_or(StartError::Missing(name))
}

impl Deployment {
    /// Reads it from the environment, which `env` looks up.
    ///
    /// # Errors
    /// A variable that is unset or empty.
    pub fn of(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        Ok(Self { table: required(env, TABLE)?, queue_url: required(env, QUEUE_URL)? })
    }

    /// The store in this table.
    pub fn store(&self, aws: &Aws) -> DynamoStore {
        DynamoStore::new(aws.dynamo(), &*self.table)
    }

    /// The ports on this store and the queue.
    pub fn ports(&self, store: DynamoStore, aws: &Aws, clock: Arc<dyn Clock>) -> Ports {
        Ports {
            store: Arc::new(store),
            queue: Arc::new(SqsQueue::new(aws.sqs(), &*self.queue_url)),
            clock,
            fresh: fresh_ids(),
            signing_key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_is_named() {
        let empty_table = |name: &str| Some(if name == TABLE { String::new() } else { "x".into() });
        let error = Deployment::of(&empty_table).unwrap_err().to_string();
        assert!(error.contains("SENTINEL_TABLE"), "{error}");
        let table_only = |name: &str| (name == TABLE).then(|| "t".to_owned());
        let error = Deployment::of(&table_only).unwrap_err().to_string();
        assert!(error.contains("SENTINEL_QUEUE_URL"), "{error}");
    }
}
