//! `sentinel aws`: what it asks of the AWS command line, and what it says of the answers.

use sentinel_tests::Home;
use sentinel_tests::aws::{FakeAws, gives, refuses};
use serde_json::{Value, json};

const KEY: &str = "sk-of-the-model-0123456789";
const BUCKET: &str = "sentinel-code-123456789012-eu-central-1";

fn absent() -> Value {
    refuses("ValidationError", "Stack with id sentinel does not exist")
}

fn stack(status: &str, parameters: &[(&str, &str)]) -> Value {
    let parameters: Vec<Value> =
        parameters.iter().map(|(key, value)| json!({"ParameterKey": key, "ParameterValue": value})).collect();
    let outputs = [
        ("WebhookUrl", "https://abc.execute-api.eu-central-1.amazonaws.com/webhook/alertmanager"),
        ("TableName", "sentinel-Table-1"),
        ("QueueUrl", "https://sqs/q"),
        ("DeadLetterQueueUrl", "https://sqs/dead"),
        ("IngestTokenArn", "arn:aws:secretsmanager:eu-central-1:123456789012:secret:token"),
        ("Version", env!("CARGO_PKG_VERSION")),
    ];
    let outputs = outputs.map(|(key, value)| json!({"OutputKey": key, "OutputValue": value}));
    gives(json!({"Stacks": [{
        "StackStatus": status, "Description": "Sentinel investigates alerts with an LLM agent, and so on",
        "Outputs": outputs, "Parameters": parameters,
    }]}))
}

fn who() -> Value {
    gives(json!({"Account": "123456789012"}))
}

/// An account in which everything goes well; these rules come first.
fn account(first: &[(&str, &[Value])]) -> FakeAws {
    let done = gives(json!(""));
    let one = std::slice::from_ref(&done);
    let secret = [gives(json!({"ARN": "arn:model-key"}))];
    let head = [refuses("404", "Not Found")];
    let stacks = [absent(), stack("CREATE_COMPLETE", &[])];
    let who = [who()];
    let rest: [(&str, &[Value]); 9] = [
        ("sts get-caller-identity", &who),
        ("cloudformation describe-stacks", &stacks),
        ("s3api head-bucket", &head),
        ("s3 mb", one),
        ("s3api put-public-access-block", one),
        ("secretsmanager create-secret", &secret),
        ("secretsmanager describe-secret", &secret),
        ("cloudformation package", one),
        ("cloudformation deploy", one),
    ];
    FakeAws::new(&[first, &rest].concat())
}

#[test]
fn init_makes_the_whole_stack_and_says_what_to_paste() {
    let aws = account(&[]);
    let home = aws.home().env("OPENAI_API_KEY", KEY);
    let said = home.run(&["aws", "init", "--parameter", "LogRetentionDays=7"], 0).stdout;
    let asked = aws.asked();
    let at = |beginning: &str| {
        asked
            .iter()
            .position(|words| words.starts_with(beginning))
            .unwrap_or_else(|| panic!("{beginning}: {asked:#?}"))
    };
    assert!(
        at(&format!("s3 mb s3://{BUCKET}")) < at(&format!("s3api put-public-access-block --bucket {BUCKET}"))
    );
    assert!(at("cloudformation package") < at("cloudformation deploy"));
    let deployed = &asked[at("cloudformation deploy")];
    for part in [
        "--stack-name sentinel",
        "CAPABILITY_IAM",
        "Architecture=arm64",
        "ModelSecretArn=arn:model-key",
        "LogRetentionDays=7",
    ] {
        assert!(deployed.contains(part), "{part}: {deployed}");
    }
    // The key went by a file that is gone, and is nowhere else.
    assert_eq!(aws.files(), [KEY]);
    assert!(!asked.iter().any(|words| words.contains(KEY)) && !said.contains(KEY));
    for part in [
        "bash infra/build.sh arm64",
        "cargo lambda deploy --region eu-central-1 --binary-name sentinel-worker sentinel-worker",
        "url: https://abc.execute-api.eu-central-1.amazonaws.com/webhook/alertmanager",
        "credentials_file: ",
        "aws secretsmanager get-secret-value",
        "sentinel aws send",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("sentinel-watcher"), "there is none by default: {said}");
}

#[test]
fn without_a_models_key_the_stack_is_made_and_that_is_said() {
    let none = [refuses("ResourceNotFoundException", "no secret")];
    let aws = account(&[("secretsmanager describe-secret", &none)]);
    let said = aws.home().run(&["aws", "init"], 0).stderr;
    assert!(said.contains("OPENAI_API_KEY is not set: reports will be made of evidence only"), "{said}");
    assert!(
        !aws.asked().iter().any(|words| words.contains("ModelSecretArn") || words.contains("create-secret"))
    );
}

/// Whatever stands in the way is said before anything is made, with what to do.
#[test]
fn what_stands_in_the_way_of_a_new_stack_is_said_before_anything_is_made() {
    let foreign = gives(json!({"Stacks": [{"StackStatus": "CREATE_COMPLETE", "Description": "A shop"}]}));
    let denied = "User: arn:aws:iam::1:user/ann is not authorized to perform: cloudformation:DescribeStacks on resource: x";
    for (answer, says) in [
        (foreign, &["none of Sentinel's", "another --name"][..]),
        (stack("CREATE_COMPLETE", &[]), &["already", "nothing was changed", "--zips"]),
        (
            stack("ROLLBACK_COMPLETE", &[]),
            &["half made (ROLLBACK_COMPLETE)", "sentinel aws remove --name sentinel"],
        ),
        (stack("UPDATE_IN_PROGRESS", &[]), &["is being changed", "come again"]),
        (
            refuses("AccessDenied", denied),
            &["lacks the permission cloudformation:DescribeStacks", "--profile"],
        ),
        (refuses("ExpiredToken", "The token is expired"), &["sign in again"]),
    ] {
        let aws = account(&[("cloudformation describe-stacks", std::slice::from_ref(&answer))]);
        let said = aws.home().run(&["aws", "init"], 1).stderr;
        for part in says {
            assert!(said.contains(part), "{part}: {said}");
        }
        let made: Vec<_> = aws
            .asked()
            .into_iter()
            .filter(|words| !words.starts_with("sts") && !words.contains("describe"))
            .collect();
        assert_eq!(made, Vec::<String>::new());
    }
    let nobody = Home::empty().env("PATH", "/nowhere").env("AWS_REGION", "eu-central-1");
    assert!(nobody.run(&["aws", "init"], 1).stderr.contains("the AWS command line is needed"));
    for name in ["Sentinel", "a_b", "-a", "a-", "x234567890123456789012345678901"] {
        assert!(
            nobody
                .run(&["aws", "doctor", &format!("--name={name}")], 2)
                .stderr
                .contains("lower-case letters"),
            "{name}"
        );
    }
}

#[test]
fn a_stack_that_cannot_be_made_says_the_first_reason_and_what_is_left() {
    let event = |resource: &str, reason: &str| json!({"LogicalResourceId": resource, "ResourceStatus": "CREATE_FAILED", "ResourceStatusReason": reason});
    for (reason, says) in [
        (
            "User: arn:u is not authorized to perform: iam:CreateRole on resource: arn:r",
            "IngestRole: arn:u lacks the permission iam:CreateRole on arn:r",
        ),
        ("/aws/lambda/sentinel-ingest already exists", "remove it, or choose another --name"),
        (
            "decreases account's UnreservedConcurrentExecution below its minimum",
            "ReserveWorkerConcurrency=false",
        ),
    ] {
        let events = [gives(
            json!({"StackEvents": [event("Table", "Resource creation cancelled"), event("IngestRole", reason)]}),
        )];
        let failed = [refuses("", "Failed to create/update the stack")];
        let stacks = [absent(), stack("ROLLBACK_COMPLETE", &[])];
        let aws = account(&[
            ("cloudformation deploy", &failed),
            ("cloudformation describe-stack-events", &events),
            ("cloudformation describe-stacks", &stacks),
        ]);
        let said = aws.home().env("OPENAI_API_KEY", KEY).run(&["aws", "init"], 1).stderr;
        for part in [says, "(ROLLBACK_COMPLETE)", BUCKET, "sentinel aws remove --name sentinel"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

const LOCAL: &str = "mcp-servers:\n- {name: prom, server-url: 'http://localhost:8081/mcp'}\n- {name: files, command: [mcp-files]}\n\
network: {allow-insecure-hosts: [localhost], allow-private-hosts: [localhost]}\n\
resources: [{name: r}]\nincident-cards: [{name: c, resource: r, prompt: Look., tools: [prom.x, files.y]}]\n";

#[test]
fn a_configuration_that_works_on_one_machine_only_is_refused_with_what_to_write_instead() {
    let aws = account(&[]);
    let home = aws.home();
    home.write("config.yaml", LOCAL);
    for args in [&["aws", "init", "--config", "config.yaml"][..], &["aws", "config", "push", "config.yaml"]] {
        let said = home.run(args, 2).stderr;
        for part in [
            "prom is on this machine",
            "write the https address",
            "files is a program",
            "nobody may post webhooks",
            "$SENTINEL_INGEST_SECRET",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    assert_eq!(aws.asked(), Vec::<String>::new(), "nothing was asked of AWS");
}

#[test]
fn a_region_without_the_model_is_said_before_anything_is_made() {
    let none = [refuses("ResourceNotFoundException", "no such model")];
    let aws = account(&[("bedrock get-foundation-model", &none), ("bedrock get-inference-profile", &none)]);
    let home = aws.home();
    let config = "ingest: {allow-anonymous: true}\nmodel-services: [{name: b, base-url: 'https://bedrock-runtime.eu-north-9.amazonaws.com/openai/v1', auth: aws}]\n\
        resources: [{name: r}]\nincident-cards: [{name: c, resource: r, prompt: Look., model: {service: b, name: openai.gpt-9}}]\n";
    home.write("config.yaml", config);
    let said = home.run(&["aws", "init", "--config", "config.yaml"], 1).stderr;
    assert!(said.contains("in eu-north-9 has no model openai.gpt-9"), "{said}");
    assert!(!aws.asked().iter().any(|words| words.starts_with("s3")));
}

#[test]
fn a_configuration_is_pushed_after_its_prompts_and_only_where_the_stack_reads_it() {
    let zipped = [stack("CREATE_COMPLETE", &[("ConfigPath", "infra/aws.yaml")])];
    let in_s3 = [stack("CREATE_COMPLETE", &[("ConfigPath", "s3://team/sentinel/infra/sentinel.yaml")])];
    let put = [gives(json!({"ETag": "x"}))];
    let config = "ingest: {bearer: ['${secret:$SENTINEL_INGEST_SECRET}']}\nresources: [{name: r}]\nincident-cards: [{name: c, resource: r, prompt: ../prompts/c.md.j2}]\n";
    for (stacks, code) in [(&zipped, 1), (&in_s3, 0)] {
        let aws = FakeAws::new(&[("cloudformation describe-stacks", stacks), ("s3api put-object", &put)]);
        let home = aws.home();
        std::fs::create_dir_all(home.path().join("infra")).unwrap();
        std::fs::create_dir_all(home.path().join("prompts")).unwrap();
        home.write("infra/sentinel.yaml", config);
        home.write("prompts/c.md.j2", "Find out why.");
        let ended = home.run(&["aws", "config", "push", "infra/sentinel.yaml"], code);
        let puts: Vec<_> = aws.asked().into_iter().filter(|words| words.contains("put-object")).collect();
        if code == 0 {
            assert!(puts[0].contains("--bucket team --key sentinel/prompts/c.md.j2"), "{puts:?}");
            assert!(puts[1].contains("--key sentinel/infra/sentinel.yaml"), "{puts:?}");
            // A broken one goes nowhere.
            home.write("infra/sentinel.yaml", "incident-cads: []");
            assert!(
                home.run(&["aws", "config", "push", "infra/sentinel.yaml"], 2)
                    .stderr
                    .contains("incident-cads")
            );
            assert_eq!(aws.asked().iter().filter(|words| words.contains("put-object")).count(), 2);
        } else {
            assert_eq!(puts, Vec::<String>::new());
            assert!(ended.stderr.contains("ConfigPath=s3://"), "{}", ended.stderr);
        }
    }
}

#[test]
fn redrive_and_remove_do_what_they_say_and_keep_the_table() {
    let stacks = [stack("CREATE_COMPLETE", &[])];
    let done = [gives(json!(""))];
    let dead = [gives(json!({"Attributes": {"QueueArn": "arn:dead", "ApproximateNumberOfMessages": "3"}}))];
    let buckets = [gives(
        json!({"Buckets": [{"Name": BUCKET}, {"Name": "sentinel-code-123456789012-us-east-1"}, {"Name": "other"}]}),
    )];
    let who = [who()];
    let rules: &[(&str, &[Value])] = &[
        ("cloudformation describe-stacks", &stacks),
        ("sqs get-queue-attributes", &dead),
        ("sqs start-message-move-task --source-arn arn:dead", &done),
        ("sts get-caller-identity", &who),
        ("cloudformation delete-stack", &done),
        ("cloudformation wait stack-delete-complete", &done),
        ("secretsmanager delete-secret", &done),
        ("s3api list-buckets", &buckets),
        ("s3 rb", &done),
        ("dynamodb delete-table", &done),
    ];
    let aws = FakeAws::new(rules);
    assert!(aws.home().run(&["aws", "redrive"], 0).stdout.contains("About 3 messages"));
    let said = aws.home().run(&["aws", "remove"], 0).stdout;
    for part in [
        "the stack sentinel",
        "the secret sentinel/model-key",
        BUCKET,
        "Kept: the table sentinel-Table-1",
        "ExistingTableName=sentinel-Table-1",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let asked = aws.asked();
    assert!(!asked.iter().any(|words| words.contains("delete-table")), "{asked:#?}");
    assert_eq!(
        asked.iter().filter(|words| words.starts_with("s3 rb")).count(),
        1,
        "another region's stack is another one"
    );
    assert!(
        aws.home().run(&["aws", "remove", "--with-table"], 0).stdout.contains("the table sentinel-Table-1")
    );
    assert!(
        aws.asked()
            .iter()
            .any(|words| words.starts_with("dynamodb delete-table --table-name sentinel-Table-1"))
    );
}

#[test]
fn doctor_names_each_trouble_with_its_remedy() {
    let stacks = [stack("UPDATE_COMPLETE", &[("Architecture", "arm64"), ("WorkerSecretArns", "arn:slack")])];
    let function = |size: u64| {
        gives(json!({
            "State": "Active", "LastUpdateStatus": "Successful", "CodeSize": size, "Role": "arn:role",
            "Environment": {"Variables": {"SENTINEL_REDACTION_KEY": "arn:redaction"}},
        }))
    };
    let ingest = [function(5_000_000)];
    let worker = [function(300)];
    let old = json!({"fields": {"message": "sentinel-ingest starts", "version": "0.0.9"}}).to_string();
    let starts = [gives(json!({"events": [{"message": old}]}))];
    let secret = [gives(json!({"ARN": "x"}))];
    let simulated = [gives(json!({"EvaluationResults": [
        {"EvalDecision": "allowed", "EvalResourceName": "arn:redaction"}, {"EvalDecision": "implicitDeny", "EvalResourceName": "arn:slack"},
    ]}))];
    let waiting = [gives(
        json!({"Attributes": {"ApproximateNumberOfMessages": "2", "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0"}}),
    )];
    let alarms = [gives(json!({"MetricAlarms": [
        {"AlarmName": "sentinel-BudgetAlarm-AB12", "StateValue": "ALARM", "StateReason": "Threshold Crossed"},
        {"AlarmName": "sentinel-OldestDueAlarm-AB13", "StateValue": "INSUFFICIENT_DATA"},
    ]}))];
    let points = [
        gives(
            json!({"Datapoints": [{"Timestamp": "2026-11-02T10:00:00Z"}, {"Timestamp": "2026-11-02T12:00:00Z"}]}),
        ),
        gives(json!({"Datapoints": []})),
    ];
    let aws = FakeAws::new(&[
        ("cloudformation describe-stacks", &stacks),
        ("lambda get-function-configuration --function-name sentinel-ingest", &ingest),
        ("lambda get-function-configuration --function-name sentinel-worker", &worker),
        (
            "lambda get-function-configuration --function-name sentinel-sweeper",
            &[refuses("ResourceNotFoundException", "gone")],
        ),
        ("logs filter-log-events", &starts),
        ("secretsmanager describe-secret", &secret),
        ("iam simulate-principal-policy", &simulated),
        ("sqs get-queue-attributes", &waiting),
        ("cloudwatch describe-alarms", &alarms),
        ("cloudwatch get-metric-statistics", &points),
    ]);
    let home = aws.home().env("SENTINEL_WEBHOOK_URL", "http://127.0.0.1:9/");
    let said = home.run(&["aws", "doctor"], 1).stdout;
    for part in [
        "sentinel-ingest: runs version 0.0.9, the template is of",
        "sentinel-worker: has no code yet",
        "cargo lambda deploy --binary-name sentinel-worker sentinel-worker",
        "sentinel-sweeper: is gone",
        "its role may not read arn:slack",
        "webhook: http://127.0.0.1:9/ does not answer",
        "ok      queue: 2 waiting",
        "TROUBLE dead-letter queue: 2 waiting",
        "sentinel aws redrive",
        "TROUBLE BudgetAlarm: in ALARM: Threshold Crossed",
        "docs/runbook.md: BudgetAlarm",
        "note    OldestDueAlarm: without data",
        "last webhook: in the hour from 2026-11-02T12:00:00Z",
        "last report: none within 14 days",
        "to be mended.",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json = home.run(&["aws", "doctor", "--json"], 1).json();
    assert!(
        json.as_array()
            .unwrap()
            .iter()
            .all(|finding| finding["grade"] == "good" || finding["remedy"].is_string()),
        "{json:#}"
    );
}
