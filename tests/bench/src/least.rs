//! What the program `least` does for an event: a create; then a snapshot's write and a send at once, or nothing where
//! the create was refused.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use lambda_http::{Body, Error};
use sentinel_aws::{Aws, Deployment};
use serde_json::Value;

/// The SDK's clients, and where they write.
#[derive(Debug)]
pub struct Least {
    dynamo: Client,
    sqs: aws_sdk_sqs::Client,
    to: Deployment,
}

impl Least {
    /// With the functions' own connections, table and queue.
    ///
    /// # Errors
    /// A variable that is not set.
    pub fn new(aws: &Aws, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        Ok(Self { dynamo: aws.dynamo(), sqs: aws.sqs(), to: Deployment::of(env)? })
    }

    /// Takes the first alert of a webhook, by its name.
    ///
    /// # Errors
    /// A webhook without one; a call that fails.
    pub async fn answer(&self, webhook: &Body) -> Result<&'static str, Error> {
        let Body::Text(webhook) = webhook else { return Err("a webhook is text".into()) };
        let read: Value = serde_json::from_str(webhook)?;
        let name = read.pointer("/alerts/0/labels/alertname").and_then(Value::as_str);
        let name = name.ok_or("a webhook has an alert with a name")?;
        let head = crate::attributes()
            .fold(self.put(name, "HEAD"), |put, (attribute, value)| put.item(attribute, text(value)));
        let head = head.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match head.send().await {
            Ok(_) => {}
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                return Ok(r#"{"duplicates":1}"#);
            }
            Err(error) => return Err(error.into()),
        }
        let snapshot = self.put(name, "SNAPSHOT").item("body", text(webhook)).send();
        let job = r#"{"incident":"0123456789abcdef0123456789abcdef","gen":1}"#;
        let send = self.sqs.send_message().queue_url(&self.to.queue_url).message_body(job).send();
        let (snapshot, send) = tokio::join!(snapshot, send);
        snapshot?;
        send?;
        Ok(r#"{"accepted":1}"#)
    }

    fn put(&self, name: &str, sort: &str) -> PutItemFluentBuilder {
        let put = self.dynamo.put_item().table_name(&self.to.table);
        put.condition_expression("attribute_not_exists(pk)").item("pk", text(name)).item("sk", text(sort))
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}
