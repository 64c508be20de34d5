//! The real functions, deployed by infra/template.yaml to an AWS on this machine that checks their roles.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod page;
mod storm;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sentinel_aws::{Aws, CallLimits, Credentials};
use sentinel_testkit::gate::Gate;
use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, function_call};
use sentinel_testkit::process::{Ministack, Service, Stack, alertmanager, ministack};
use sentinel_tests::wire::{LOOPBACK, MODEL_KEY, output_of, report, trouble};
use sentinel_tests::{Home, Sentinel, client, eventually, eventually_within, workspace};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

const TOKEN: &str = "a-token-from-the-secret-store";
/// What nobody can read as a job.
const UNREADABLE: &str = "not a job at all";
/// A killed worker's lease goes on for a minute.
const UNTIL_SWEPT: Duration = Duration::from_secs(100);

/// A deployed Sentinel, and who looks at it.
struct Deployed {
    aws: Ministack,
    stack: Stack,
    /// Commands that find the local AWS.
    home: Home,
    sdk: Aws,
}

impl Deployed {
    async fn with(mcp: &FakeMcp, model: &ScriptedOpenAi) -> Self {
        let aws = ministack().await;
        let credentials = Credentials::new("test", "test", None, None, "test");
        let sdk = Aws::at_endpoint(&aws.service.base, "us-east-1", credentials, CallLimits::EMBEDDED);
        let secret = async |name: &str, text: &str| {
            let created = sdk.secrets().create_secret().name(name).secret_string(text).send().await.unwrap();
            created.arn.unwrap()
        };
        let token = secret("ingest", TOKEN).await;
        let key = secret("worker", &json!({"openai": MODEL_KEY}).to_string()).await;

        let config = format!(
            "{LOOPBACK}\
             ingest: {{bearer: ['${{secret:{token}}}']}}\n\
             openai: {{model: gpt-4.1-mini, base-url: '{}', api-key: '${{secret:{key}#openai}}', timeout: 10s}}\n\
             mcp-servers: [{{name: fake, server-url: '{}', timeout: 5s}}]\n\
             resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
             incident-cards:\n\
             - {{name: trouble, resource: trouble, prompt: Find out why., tools: [fake.look]}}\n",
            model.base_url(),
            mcp.url()
        );
        let zips = workspace().join("target/lambda");
        assert!(
            zips.join("sentinel-worker/bootstrap.zip").is_file(),
            "there are no zips: bash infra/build.sh"
        );
        let parameters = [
            &*format!("IngestSecretArns={token}"),
            &format!("WorkerSecretArns={key}"),
            "WorkerTimeout=60",
            // Far below what AWS advises, so that messages come back while their job is still worked on.
            "QueueVisibilityTimeout=10",
        ];
        let stack = aws.deploy(&zips, &config, &parameters).await;
        let home = aws.environment().iter().fold(Home::empty(), |home, (name, value)| home.env(name, value));
        Self { aws, stack, home, sdk }
    }

    /// `sentinel incidents … --table … --json`.
    fn incidents(&self, args: &[&str]) -> Value {
        let table = ["--table", self.stack.output("TableName"), "--json"];
        self.home.run(&[&["incidents"], args, &table].concat(), 0).json()
    }

    /// Waits until the incident of this instance is as `good` wants it, and gives it whole.
    async fn wait_for(
        &self,
        instance: &str,
        within: Duration,
        what: &str,
        good: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually_within(within, what, async || {
            let all = self.incidents(&["list"]);
            let all = all.as_array().unwrap();
            let Some(found) = all.iter().find(|i| i["labels"]["instance"] == instance) else {
                return Err(format!("{all:#?}"));
            };
            let incident = self.incidents(&["show", found["id"].as_str().unwrap()]);
            if good(&incident) { Ok(incident) } else { Err(format!("{incident:#}")) }
        })
        .await
    }

    /// Messages that can be received from this queue now, and that somebody has received and not yet deleted.
    async fn messages(&self, queue: &str) -> (u32, u32) {
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let request = self.sdk.sqs().get_queue_attributes().queue_url(self.stack.output(queue));
        let request = names.iter().fold(request, |request, name| request.attribute_names((*name).into()));
        let counts = request.send().await.unwrap().attributes.unwrap();
        let count = |name: &str| counts[&name.into()].parse().unwrap();
        (count(names[0]), count(names[1]))
    }

    /// Lets the worker have messages, or none.
    async fn poll(&self, on: bool) {
        let (id, on) = (self.stack.output("MappingId"), if on { "--enabled" } else { "--no-enabled" });
        self.aws.aws(&["lambda", "update-event-source-mapping", "--uuid", id, on]).await;
    }
}

impl Drop for Deployed {
    /// A test that fails shows what the functions logged.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for function in ["sentinel-ingest", "sentinel-worker", "sentinel-sweeper"] {
                eprintln!("--- {function}\n{}", self.aws.logs(function).replace('\t', "\n"));
            }
        }
    }
}

fn told(events: &[&str]) -> impl Fn(&Value) -> bool {
    let told: Vec<String> = events.iter().map(|event| format!("{event} to log: sent")).collect();
    move |incident| incident["state"] == "done" && Sentinel::told(incident) == told
}

/// An Alertmanager that tells each instance on its own.
async fn sender(stack: &Stack) -> Service {
    alertmanager(&format!(
        "route: {{receiver: sentinel, group_by: [alertname, instance], group_wait: 100ms, group_interval: 1s}}\n\
         receivers:\n\
         - name: sentinel\n\
         \x20 webhook_configs:\n\
         \x20 - {{url: '{}', send_resolved: true, http_config: {{authorization: {{credentials: {TOKEN}}}}}}}\n",
        stack.webhook()
    ))
    .await
}

/// Fires `Trouble` at an Alertmanager, or resolves it.
async fn fire(at: &Service, instance: &str, resolved: bool) {
    #[expect(clippy::disallowed_methods, reason = "a real Alertmanager lives by the machine's clock")]
    let now = jiff::Timestamp::now();
    let mut alert = json!({"labels": {"alertname": "Trouble", "instance": instance}});
    if resolved {
        alert["endsAt"] = json!(now.to_string());
    }
    let response = client().post(at.url("/api/v2/alerts")).json(&[alert]).send().await.unwrap();
    assert!(response.status().is_success(), "{}", response.text().await.unwrap());
}

/// A model that looks once and then reports. `host-b`'s second turn is held back forever, the first time.
async fn model() -> ScriptedOpenAi {
    let mut held = false;
    ScriptedOpenAi::with(move |request, _| {
        let answer = match output_of(request, "call_1") {
            None => function_call("fake__look", &json!({}), "call_1"),
            Some(_) => function_call("submit_report", &report("E1", "all is well here"), "call_2"),
        };
        if output_of(request, "call_1").is_some() && request.to_string().contains("host-b") && !held {
            held = true;
            return Scripted::After(Gate::new(), Box::new(answer.into()));
        }
        answer.into()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_sentinel_reports_once_though_its_worker_is_killed() {
    let schema = json!({"type": "object"});
    let mcp = FakeMcp::builder().tool("look", schema, "Looks", |_| Answer::text("all is well here"));
    let mcp = mcp.start().await;
    let model = model().await;
    let deployed = Deployed::with(&mcp, &model).await;
    let stack = &deployed.stack;
    let sender = sender(stack).await;

    // Nobody comes in without the token of the secret store.
    for token in ["", "another-token"] {
        let post = client().post(stack.webhook()).bearer_auth(token).json(&trouble("host-x"));
        assert_eq!(post.send().await.unwrap().status(), 401);
    }
    assert_eq!(deployed.incidents(&["list"]), json!([]));

    // An unreadable message waits in the queue, and a good one with it: one batch has both.
    deployed.poll(false).await;
    let send = deployed.sdk.sqs().send_message().queue_url(stack.output("QueueUrl"));
    send.message_body(UNREADABLE).send().await.unwrap();
    fire(&sender, "host-a", false).await;
    eventually("two messages in the queue", async || match deployed.messages("QueueUrl").await {
        (2, 0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    deployed.poll(true).await;

    // The good one is investigated, and its report is in the table.
    let patience = Duration::from_mins(1);
    let a = deployed.wait_for("host-a", patience, "a report on host-a", told(&["findings"])).await;
    assert_eq!((&a["verdict"], &a["attempts"]), (&json!("action_required"), &json!(1)), "{a:#}");
    assert_eq!(a["report"]["source"], "model", "{a:#}");
    assert_eq!(a["report"]["hypotheses"][0]["supported"], true, "{a:#}");
    assert_eq!(a["evidence"][0]["text"], "all is well here", "{a:#}");
    assert_eq!(model.requests().len(), 2);

    // A worker is killed in the middle of an investigation: two turns are paid, the second has no answer yet.
    fire(&sender, "host-b", false).await;
    model.wait_for_requests(4).await;
    assert_ne!(deployed.aws.kill("sentinel-worker"), 0, "no worker ran");

    // Meanwhile a resolve is told at once, by a worker that is started anew.
    fire(&sender, "host-a", true).await;
    let a = deployed.wait_for("host-a", patience, "the end of host-a", told(&["findings", "resolved"])).await;
    assert_ne!(a["resolved_at"], Value::Null, "{a:#}");

    // The sweeper finds what the killed one left as soon as its lease is over, and another goes on where it was.
    eventually_within(UNTIL_SWEPT, "the killed worker's turn asked again", async || {
        let sweep = ["lambda", "invoke", "--function-name", "sentinel-sweeper", "/dev/null"];
        let swept: Value = serde_json::from_str(&deployed.aws.aws(&sweep).await).unwrap();
        assert_eq!(swept["FunctionError"], Value::Null);
        let asked = model.requests().len();
        if asked == 5 { Ok(()) } else { Err(format!("{asked} requests, {swept}")) }
    })
    .await;
    let b = deployed.wait_for("host-b", patience, "a report on host-b", told(&["findings"])).await;
    assert_eq!((&b["attempts"], &b["report"]["usage"]["turns"]), (&json!(2), &json!(2)), "{b:#}");
    let paid = model.finish();
    assert_eq!(paid.len(), 5, "host-b's two turns, and the one that was in flight once more");
    assert_eq!(paid[3].body["input"], paid[4].body["input"], "the same question again");
    assert!(paid.iter().all(|r| r.headers["authorization"] == format!("Bearer {MODEL_KEY}")));
    assert_eq!(mcp.calls().len(), 2, "no tool was called twice");
    assert_eq!(deployed.incidents(&["list"]).as_array().unwrap().len(), 2);

    // It comes by itself, too.
    eventually("the sweeper's minute", async || {
        let output = deployed.aws.service.child.stderr();
        if output.contains("Lambda sentinel-sweeper: dispatched") { Ok(()) } else { Err(output) }
    })
    .await;

    // What could not be read is in the dead-letter queue, alone; nothing is left in the other one.
    eventually("the unreadable message among the dead, and nothing waiting", async || {
        let (jobs, dead) =
            (deployed.messages("QueueUrl").await, deployed.messages("DeadLetterQueueUrl").await);
        if (jobs, dead) == ((0, 0), (1, 0)) { Ok(()) } else { Err(format!("{jobs:?}, dead: {dead:?}")) }
    })
    .await;
    let (sqs, dead) = (deployed.sdk.sqs(), stack.output("DeadLetterQueueUrl"));
    let message = sqs.receive_message().queue_url(dead).send().await.unwrap().messages.unwrap().remove(0);
    assert_eq!(message.body.as_deref(), Some(UNREADABLE));
    let delete = sqs.delete_message().queue_url(dead).receipt_handle(message.receipt_handle.unwrap());
    delete.send().await.unwrap();
    assert_eq!(deployed.messages("DeadLetterQueueUrl").await, (0, 0));
}

/// The newest build of sentinel-aws's test `contract`, which stands beside this one.
fn contract_suite() -> PathBuf {
    let beside = std::env::current_exe().unwrap().parent().unwrap().read_dir().unwrap();
    let builds = beside.map(|file| file.unwrap().path()).filter(|path| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("contract-") && path.extension().is_none()
    });
    let newest = builds.max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.expect("sentinel-aws's tests are not built: cargo test --workspace --no-run")
}

#[tokio::test]
async fn the_store_keeps_its_contract_on_another_dynamodb() {
    let aws = ministack().await;
    let mut suite = Command::new(contract_suite());
    suite.env("SENTINEL_TEST_DYNAMODB_URL", &aws.service.base);
    let run = spawn_blocking(move || suite.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
    for test in [
        "of_fifty_concurrent_claimers_one_wins_and_the_others_leave_it_alone",
        "budget::of_fifty_concurrent_reservations_as_many_win_as_there_is_room_for",
        "lost_reply::spending_whose_reply_was_lost_is_counted_once",
    ] {
        assert!(said.contains(&format!("{test} ... ok")), "{test}: {said}");
    }
}
