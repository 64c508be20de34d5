//! What the SDK's errors mean to a caller: later, or never.

use std::error::Error;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use sentinel_core::ports::StoreError;

/// Answers below 500 that a later try of the same call may not get.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html>
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html>
const PASSING: [&str; 11] = [
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "LimitExceededException",
    "ReplicatedWriteConflictException",
    "TransactionConflictException",
    "TransactionInProgressException",
    "RequestTimeout",
    "RequestThrottled",
    "InternalServiceError",
];

/// What the codes of all answers hold that ask for less at once.
const THROTTLING: [&str; 3] = ["Throttl", "ProvisionedThroughputExceeded", "RequestLimitExceeded"];

/// Whether an answer that is an error asks for less at once.
pub(crate) fn is_throttled(status: u16, body: &str) -> bool {
    status == 429 || THROTTLING.iter().any(|code| body.contains(code))
}

/// What an SDK error means, with the reason for people.
pub(crate) enum Fault {
    /// The same call may work later.
    Passing(String),
    /// It never will as things are.
    Lasting(String),
}

impl Fault {
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            // Nothing was sent: no region, no credentials in the configuration, a request that cannot be built.
            SdkError::ConstructionFailure(_) => Self::Lasting(DisplayErrorContext(error).to_string()),
            SdkError::ServiceError(e) => {
                let code = e.err().code().unwrap_or("an answer without an error code");
                let reason = format!("{code}: {}", e.err().message().unwrap_or("no message"));
                let status = e.raw().status().as_u16();
                if status >= 500 || status == 429 || PASSING.contains(&code) {
                    Self::Passing(reason)
                } else {
                    Self::Lasting(reason)
                }
            }
            // A reply that could not be read says nothing about whether the write was done: as good as lost.
            _ => Self::Passing(DisplayErrorContext(error).to_string()),
        }
    }
}

/// Turns an SDK error into the port's. `action` says what was asked of which table.
pub(crate) fn store_error<E>(action: impl Into<String>, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let action = action.into();
    match Fault::of(error) {
        Fault::Passing(reason) => StoreError::Unavailable(format!("{action}: {reason}")),
        Fault::Lasting(reason) => StoreError::Refused { action, reason },
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::error::{ConnectorError, ErrorMetadata};
    use aws_sdk_dynamodb::operation::put_item::PutItemError;
    use aws_smithy_types::body::SdkBody;

    use super::*;

    fn answered(status: u16, code: &str) -> StoreError {
        let raw = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        let error = PutItemError::generic(ErrorMetadata::builder().code(code).message("the message").build());
        store_error("put into table t", &SdkError::service_error(error, raw))
    }

    #[test]
    fn throttling_server_errors_and_lost_connections_are_retryable() {
        for (status, code) in [
            (400, "ProvisionedThroughputExceededException"),
            (400, "ThrottlingException"),
            (400, "RequestLimitExceeded"),
            (429, "Anything"),
            (500, "InternalServerError"),
            (503, "ServiceUnavailable"),
        ] {
            assert!(answered(status, code).is_retryable(), "{status} {code}");
        }
        let lost: SdkError<PutItemError, HttpResponse> =
            SdkError::dispatch_failure(ConnectorError::io("connection reset".into()));
        let lost = store_error("put into table t", &lost);
        assert!(lost.is_retryable());
        assert!(lost.to_string().contains("connection reset"), "{lost}");
        let slow: SdkError<PutItemError, HttpResponse> = SdkError::timeout_error("8 s");
        assert!(store_error("put into table t", &slow).is_retryable());
    }

    #[test]
    fn refusals_name_the_action_the_code_and_the_message() {
        for code in ["ResourceNotFoundException", "AccessDeniedException", "ValidationException"] {
            let error = answered(400, code);
            assert!(!error.is_retryable(), "{code}");
            assert_eq!(error.to_string(), format!("the store refused put into table t: {code}: the message"));
        }
    }

    #[test]
    fn a_client_that_is_not_configured_is_refused() {
        let unbuilt: SdkError<PutItemError, HttpResponse> = SdkError::construction_failure("no region");
        let unbuilt = store_error("put into table t", &unbuilt);
        assert!(
            matches!(&unbuilt, StoreError::Refused { reason, .. } if reason.contains("no region")),
            "{unbuilt}"
        );
    }
}
