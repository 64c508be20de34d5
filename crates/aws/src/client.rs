//! SDK clients, with bounds on how long a call may take.

use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_types::SdkConfig;
use aws_types::sdk_config::StalledStreamProtectionConfig;

use crate::calls::Calls;
use crate::deployment::{StartError, required};
use crate::transport;

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

/// Where a service is, if not where AWS has it: the SDK's own variables, of which that of a service goes first.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// Clients that share one configuration: region, credentials and limits.
#[derive(Clone, Debug)]
pub struct Aws {
    config: SdkConfig,
    /// Endpoints of single services.
    dynamo: Option<String>,
    sqs: Option<String>,
    secrets: Option<String>,
    calls: Calls,
}

impl Aws {
    /// With what Lambda puts into a function's environment: the region and the credentials of its role. Nothing else is
    /// looked at, so that nothing else has to be linked, read or waited for at a cold start.
    ///
    /// `AWS_CA_BUNDLE` names a file with the certificates to trust in place of the system's, relative to `folder`: reading
    /// those of all authorities is more work than all the rest of a cold start, and AWS has five. `AWS_ENDPOINT_URL` and
    /// its variants for the services are followed.
    ///
    /// # Errors
    /// A variable that is missing, a bundle that cannot be read or holds no certificate.
    pub fn of_function(
        env: &dyn Fn(&str) -> Option<String>,
        folder: &Path,
        limits: CallLimits,
    ) -> Result<Self, StartError> {
        let credentials = credentials_of_function(env)?;
        let config = common(required(env, "AWS_REGION")?, credentials, limits)
            .http_client(transport::shared(env, folder, limits.attempt)?)
            // Answers are small and attempts are timed: watching how fast their bodies come would find nothing.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .build();
        let endpoint = |service: &str| {
            let given = |name: &str| env(name).filter(|url| !url.is_empty());
            given(&format!("{ENDPOINT}_{service}")).or_else(|| given(ENDPOINT))
        };
        let [dynamo, sqs, secrets] = ["DYNAMODB", "SQS", "SECRETS_MANAGER"].map(endpoint);
        Ok(Self { config, dynamo, sqs, secrets, calls: Calls::default() })
    }

    /// With the region and the credentials of the process's surroundings, as every AWS tool finds them: variables,
    /// profiles, single sign-on, the machine's role.
    #[cfg(feature = "default-chain")]
    pub async fn of_environment(limits: CallLimits) -> Self {
        Self::of_profile(limits, None, None).await
    }

    /// The same, in this region and with this profile where one is named.
    #[cfg(feature = "default-chain")]
    pub async fn of_profile(limits: CallLimits, region: Option<String>, profile: Option<String>) -> Self {
        let mut found = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(limits.retries())
            .timeout_config(limits.timeouts());
        if let Some(region) = region {
            found = found.region(Region::new(region));
        }
        if let Some(profile) = profile {
            found = found.profile_name(profile);
        }
        Self::with(found.load().await)
    }

    /// For one URL that speaks AWS's protocols, such as `DynamoDB` Local.
    pub fn at_endpoint(
        url: &str,
        region: impl Into<String>,
        credentials: Credentials,
        limits: CallLimits,
    ) -> Self {
        let credentials = SharedCredentialsProvider::new(credentials);
        Self::with(common(region.into(), credentials, limits).endpoint_url(url).build())
    }

    fn with(config: SdkConfig) -> Self {
        Self { config, dynamo: None, sqs: None, secrets: None, calls: Calls::default() }
    }

    /// What holds for every call of its clients.
    pub const fn calls(&self) -> &Calls {
        &self.calls
    }

    /// `DynamoDB`.
    pub fn dynamo(&self) -> aws_sdk_dynamodb::Client {
        let mut config =
            aws_sdk_dynamodb::config::Builder::from(&self.config).interceptor(self.calls.clone());
        if let Some(url) = &self.dynamo {
            config.set_endpoint_url(Some(url.clone()));
        }
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let mut config = aws_sdk_sqs::config::Builder::from(&self.config).interceptor(self.calls.clone());
        if let Some(url) = &self.sqs {
            config.set_endpoint_url(Some(url.clone()));
        }
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    /// Secrets Manager.
    pub fn secrets(&self) -> aws_sdk_secretsmanager::Client {
        let mut config =
            aws_sdk_secretsmanager::config::Builder::from(&self.config).interceptor(self.calls.clone());
        if let Some(url) = &self.secrets {
            config.set_endpoint_url(Some(url.clone()));
        }
        aws_sdk_secretsmanager::Client::from_conf(config.build())
    }
}

/// The credentials of a function's role, as Lambda puts them into its environment.
///
/// # Errors
/// A variable that is missing.
pub fn credentials_of_function(
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<SharedCredentialsProvider, StartError> {
    let credentials = Credentials::new(
        required(env, "AWS_ACCESS_KEY_ID")?,
        required(env, "AWS_SECRET_ACCESS_KEY")?,
        env("AWS_SESSION_TOKEN").filter(|token| !token.is_empty()),
        None,
        "Lambda",
    );
    Ok(SharedCredentialsProvider::new(credentials))
}

/// The credentials of the process's surroundings, as every AWS tool finds them. Nothing is looked for before they are
/// needed.
#[cfg(feature = "default-chain")]
pub fn credentials_of_environment() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(chain::Chain::default())
}

#[cfg(feature = "default-chain")]
mod chain {
    use aws_config::default_provider::credentials::DefaultCredentialsChain;
    use aws_credential_types::provider::{ProvideCredentials, future};
    use tokio::sync::OnceCell;

    #[derive(Debug, Default)]
    pub(super) struct Chain(OnceCell<DefaultCredentialsChain>);

    impl ProvideCredentials for Chain {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::new(async {
                let chain = self.0.get_or_init(|| DefaultCredentialsChain::builder().build()).await;
                chain.provide_credentials().await
            })
        }
    }
}

fn common(
    region: String,
    credentials: SharedCredentialsProvider,
    limits: CallLimits,
) -> aws_types::sdk_config::Builder {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .credentials_provider(credentials)
        .retry_config(limits.retries())
        .timeout_config(limits.timeouts())
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn given<'e>(variables: &'e BTreeMap<&str, &str>) -> impl Fn(&str) -> Option<String> + 'e {
        |name| variables.get(name).map(|value| (*value).to_owned())
    }

    fn of(variables: &[(&str, &str)]) -> Result<Aws, StartError> {
        let lambda = [("AWS_REGION", "r"), ("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let all: BTreeMap<_, _> = lambda.into_iter().chain(variables.iter().copied()).collect();
        Aws::of_function(&given(&all), Path::new(env!("CARGO_MANIFEST_DIR")), CallLimits::AWS)
    }

    #[test]
    fn what_lambda_always_sets_is_asked_for_by_name() {
        for name in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            let error = of(&[(name, "")]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn a_services_own_endpoint_goes_before_the_one_for_all() {
        let aws =
            of(&[(ENDPOINT, "http://all.example"), ("AWS_ENDPOINT_URL_SQS", "http://sqs.example")]).unwrap();
        assert_eq!(aws.sqs.as_deref(), Some("http://sqs.example"));
        assert_eq!(aws.dynamo.as_deref(), Some("http://all.example"));
        assert_eq!(aws.secrets.as_deref(), Some("http://all.example"));
        assert_eq!(of(&[(ENDPOINT, "")]).unwrap().dynamo, None);
    }

    #[test]
    fn a_bundle_that_holds_no_certificate_stops_the_start_and_is_named() {
        for (file, reason) in [("no-such-file.pem", "cannot be read"), ("Cargo.toml", "holds no certificate")]
        {
            let error = of(&[("AWS_CA_BUNDLE", file)]).unwrap_err().to_string();
            assert!(
                error.contains("AWS_CA_BUNDLE") && error.contains(file) && error.contains(reason),
                "{error}"
            );
        }
    }

    #[test]
    fn the_bundle_that_travels_in_the_zips_is_taken() {
        of(&[("AWS_CA_BUNDLE", "../../infra/aws-roots.pem")]).unwrap();
    }
}
