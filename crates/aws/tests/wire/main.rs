//! The queue and the secrets at the wire, against a fake that speaks AWS's JSON protocol.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod queue;
mod secrets;

use std::time::Duration;

use sentinel_aws::{Aws, CallLimits, Credentials};

/// As on AWS, but not as tight, because test machines are slow.
const LIMITS: CallLimits =
    CallLimits { attempts: 3, attempt: Duration::from_secs(20), operation: Duration::from_mins(1) };

fn aws(url: &str) -> Aws {
    Aws::at_endpoint(url, "us-east-1", Credentials::new("test", "test", None, None, "test"), LIMITS)
}

/// A port of the loopback that nobody listens on.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}
