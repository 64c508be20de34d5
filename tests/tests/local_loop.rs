//! The developer's local loop: `cargo lambda watch` and `cargo lambda invoke` with every file of events/lambda, each with
//! the result that events/README.md documents.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use sentinel_aws::{Aws, CallLimits, Credentials, create_table};
use sentinel_testkit::aws::{FakeAws, dynamo};
use sentinel_testkit::process::{Child, command, free_port};
use sentinel_tests::{eventually, program, workspace};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;

const FUNCTIONS: [&str; 4] = ["sentinel-ingest", "sentinel-worker", "sentinel-sweeper", "sentinel-watcher"];
const TABLE: &str = "sentinel";

/// A row of the table in events/README.md: the event, its function, and what that answers.
#[derive(Debug)]
struct Documented {
    event: String,
    function: String,
    result: String,
}

fn documented() -> Vec<Documented> {
    let readme = fs::read_to_string(workspace().join("events/README.md")).unwrap();
    let rows = readme.lines().filter(|line| line.contains("| `sentinel-"));
    rows.map(|row| {
        let cells: Vec<&str> =
            row.trim_matches(['|', ' ']).split(" | ").map(|c| c.trim_matches('`')).collect();
        let [event, _, function, result] = cells[..] else { unreachable!("four columns: {row}") };
        Documented { event: event.to_owned(), function: function.to_owned(), result: result.to_owned() }
    })
    .collect()
}

/// An answer as the documentation writes it: an HTTP response as its status and its body, anything else as it is.
fn written(answer: &Value) -> (String, Value) {
    let Some(status) = answer["statusCode"].as_u64() else { return (String::new(), answer.clone()) };
    let body = answer["body"].as_str().expect("a body");
    (status.to_string(), serde_json::from_str(body).expect("JSON"))
}

fn cargo_lambda() -> Command {
    let program: PathBuf = workspace().join("target/testbench/aws/bin/cargo-lambda");
    assert!(program.is_file(), "{} is not there: run tests/setup.sh aws", program.display());
    let mut command = command(program);
    command.arg("lambda").current_dir(workspace());
    command
}

/// The function's program under the emulator at `port`, as `cargo lambda watch` would start it.
fn start(function: &str, port: u16, dynamo: &str, aws: &FakeAws) -> Child {
    let mut command = command(program(function));
    command.env_clear().current_dir(workspace()).envs([
        ("AWS_LAMBDA_RUNTIME_API", &*format!("http://127.0.0.1:{port}/.rt/{function}")),
        ("AWS_LAMBDA_FUNCTION_NAME", function),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamo),
        ("AWS_ENDPOINT_URL_SQS", &aws.url()),
        ("SENTINEL_TABLE", TABLE),
        ("SENTINEL_QUEUE_URL", &aws.queue_url()),
        ("SENTINEL_CONFIG", "events/lambda/sentinel.yaml"),
    ]);
    Child::start(function, command)
}

#[tokio::test]
async fn every_lambda_event_gives_the_documented_result() {
    let (dynamo, aws) = (dynamo().await, FakeAws::start().await);
    let credentials = Credentials::new("test", "test", None, None, "test");
    let sdk = Aws::at_endpoint(&dynamo, "us-east-1", credentials, CallLimits::EMBEDDED);
    create_table(&sdk.dynamo(), TABLE).await.unwrap();

    let port = free_port();
    let address = ["-A", "127.0.0.1", "-P", &port.to_string()];
    // The programs are those of this build: left to itself, it would build each again.
    let mut watch = cargo_lambda();
    watch.args(["watch", "--ignore-changes", "--only-lambda-apis"]).args(address);
    let _watch = Child::start("cargo lambda watch", watch);
    eventually("cargo lambda watch", async || {
        TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|e| e.to_string())
    })
    .await;
    let _functions = FUNCTIONS.map(|function| start(function, port, &dynamo, &aws));

    let documented = documented();
    for Documented { event, function, result } in &documented {
        let file = format!("events/lambda/{event}.json");
        let mut invoke = cargo_lambda();
        invoke.args(["invoke", function, "--output-format", "json", "--data-file", &file]).args(address);
        let output = spawn_blocking(move || invoke.output()).await.unwrap().unwrap();
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{event}: {said}{told}");
        let answer: Value =
            serde_json::from_str(&said).unwrap_or_else(|e| unreachable!("{event}: {e}: {said}"));

        let (status, body) = written(&answer);
        let expected = result.strip_prefix(&status).unwrap_or_else(|| unreachable!("{event}: {answer}"));
        let expected: Value = serde_json::from_str(expected.trim()).expect(event);
        match expected.as_object() {
            // What is documented of an object is what it says; it may say more.
            Some(expected) if !status.is_empty() => {
                for (key, value) in expected {
                    assert_eq!(&body[key], value, "{event}: {key} in {body}");
                }
            }
            _ => assert_eq!(body, expected, "{event}"),
        }
    }

    let files = fs::read_dir(workspace().join("events/lambda")).unwrap();
    let files = files.map(|f| f.unwrap().file_name().into_string().unwrap());
    let events: BTreeSet<String> = files.filter_map(|f| f.strip_suffix(".json").map(str::to_owned)).collect();
    assert_eq!(events, documented.into_iter().map(|d| d.event).collect(), "every event is documented");
    // Three incidents, one of them after its wait; that it is suppressed is to be told, and the sweeper finds that untold.
    let delays: Vec<i64> = aws.messages().iter().map(|m| m.delay_seconds).collect();
    assert_eq!(delays, [0, 0, 60, 0, 0], "{:#?}", aws.messages());
}
