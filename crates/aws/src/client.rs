//! SDK clients, with bounds on how long a call may take.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};

/// How long a call may take, and how often it is tried.
///
/// The SDK's own defaults have no time-out on an attempt, so that one lost packet could use up the time in which a
/// webhook has to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallLimits {
    /// The most attempts, the first one included.
    pub attempts: u32,
    /// The longest that one attempt may take.
    pub attempt: Duration,
    /// The longest that all attempts and the pauses between them may take together.
    pub operation: Duration,
}

impl CallLimits {
    /// For a table on AWS: three attempts of a second.
    pub const AWS: Self =
        Self { attempts: 3, attempt: Duration::from_secs(1), operation: Duration::from_secs(8) };

    /// For a table in this process: a slow disk is waited for, and nothing gets lost on the way that a second
    /// attempt would bring back.
    pub const EMBEDDED: Self =
        Self { attempts: 1, attempt: Duration::from_secs(10), operation: Duration::from_secs(10) };

    pub(crate) fn retries(self) -> RetryConfig {
        RetryConfig::standard().with_max_attempts(self.attempts)
    }

    pub(crate) fn timeouts(self) -> TimeoutConfig {
        TimeoutConfig::builder()
            .operation_attempt_timeout(self.attempt)
            .operation_timeout(self.operation)
            .build()
    }
}

impl Default for CallLimits {
    fn default() -> Self {
        Self::AWS
    }
}

/// Clients that share one configuration: region, credentials and limits.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
}

impl Aws {
    /// With the region and the credentials of the process's surroundings, as every AWS tool finds them.
    pub async fn of_environment(limits: CallLimits) -> Self {
        let config = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(limits.retries())
            .timeout_config(limits.timeouts())
            .load()
            .await;
        Self { config }
    }

    /// For one URL that speaks AWS's protocols, such as `DynamoDB` Local.
    pub fn at_endpoint(
        url: &str,
        region: impl Into<String>,
        credentials: Credentials,
        limits: CallLimits,
    ) -> Self {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.into()))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .endpoint_url(url)
            .retry_config(limits.retries())
            .timeout_config(limits.timeouts())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .build();
        Self { config }
    }

    /// `DynamoDB`.
    pub fn dynamo(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }

    /// Secrets Manager.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }
}
