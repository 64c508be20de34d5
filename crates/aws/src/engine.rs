//! A client whose `DynamoDB` is a function in this process: no socket that a neighbour could reach, no TLS roots to
//! load, and yet every request and reply goes through the SDK as it would on AWS.

use std::fmt;
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::{HttpRequest, HttpResponse};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, HttpClient, Region, RuntimeComponents};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use tokio::sync::Mutex;

use crate::CallLimits;

/// What an [`Engine`] answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The reply's JSON; on an error, with its `__type`.
    pub body: String,
}

/// Answers one request: the operation's name (`PutItem`) and its JSON body. It may block, and is called by one thread at
/// a time.
pub type Engine = Arc<dyn Fn(&str, &[u8]) -> Answer + Send + Sync>;

/// A client that calls `engine` instead of the network.
pub fn client_for_engine(engine: Engine, limits: CallLimits) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        // Requests are signed although nobody checks: the client is then the same as on AWS, and it costs microseconds.
        .credentials_provider(Credentials::new("embedded", "embedded", None, None, "embedded"))
        .endpoint_url("http://embedded.invalid")
        .http_client(InProcess { engine, turn: Arc::default() })
        .retry_config(limits.retries())
        .timeout_config(limits.timeouts())
        .build();
    Client::from_conf(config)
}

#[derive(Clone)]
struct InProcess {
    engine: Engine,
    /// Requests wait here, not in threads: the embedded database does one thing at a time anyway.
    turn: Arc<Mutex<()>>,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl HttpClient for InProcess {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for InProcess {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { engine, turn } = self.clone();
        HttpConnectorFuture::new(async move {
            let turn = turn.lock_owned().await;
            let work = move || {
                let _turn = turn;
                answer(&engine, &request)
            };
            tokio::task::spawn_blocking(work).await.map_err(|e| ConnectorError::other(e.into(), None))?
        })
    }
}

fn answer(engine: &Engine, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let target = request.headers().get("x-amz-target").unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let body =
        request.body().bytes().ok_or_else(|| ConnectorError::user("a streaming request body".into()))?;
    let answer = engine(operation, body);
    let status = answer.status.try_into().map_err(|e| ConnectorError::other(Box::new(e), None))?;
    let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
    response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
    Ok(response)
}
