//! What infra/template.yaml promises: who may do what, a table as the code makes it, and numbers that fit each other.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod alarms;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use sentinel_aws::{Answer, CallLimits, client_for_engine, create_table};
use serde_json::{Map, Value, json};

fn infra() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../infra"))
}

/// The template, as it is where the stack makes its own table.
fn template() -> Value {
    static TEMPLATE: LazyLock<Value> = LazyLock::new(|| {
        let text = fs::read_to_string(infra().join("template.yaml")).unwrap();
        with_own_table(serde_saphyr::from_str(&text).unwrap())
    });
    TEMPLATE.clone()
}

/// Where a table that is there already may be used instead, the same is said of both: only its name differs.
fn with_own_table(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            if let Some([Value::String(condition), own, existing]) =
                map.get("Fn::If").and_then(Value::as_array).map(Vec::as_slice)
                && condition == "MakesTable"
            {
                let named = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/${ExistingTableName}";
                let same = if own == &json!({"Ref": "Table"}) {
                    json!({"Ref": "ExistingTableName"})
                } else if own == &json!({"Fn::GetAtt": ["Table", "Arn"]}) {
                    json!({"Fn::Sub": named})
                } else {
                    json!({"Fn::Sub": own["Fn::Sub"].as_str().unwrap().replace("${Table.Arn}", named)})
                };
                assert_eq!(existing, &same, "{own}");
                return own.clone();
            }
            Value::Object(map.into_iter().map(|(key, value)| (key, with_own_table(value))).collect())
        }
        Value::Array(list) => list.into_iter().map(with_own_table).collect(),
        other => other,
    }
}

fn resources_of(template: &Value, kind: &str) -> BTreeMap<String, Value> {
    let all = template["Resources"].as_object().unwrap();
    let of_kind = all.iter().filter(|(_, resource)| resource["Type"] == kind);
    of_kind.map(|(name, resource)| (name.clone(), resource["Properties"].clone())).collect()
}

/// `Fn::If` with nothing in its other branch: the condition, and what holds under it.
fn under_condition(value: &Value) -> Option<(&Value, &Value)> {
    let [condition, then, otherwise] = value.get("Fn::If")?.as_array()?.as_slice() else { return None };
    assert_eq!(otherwise, &json!({"Ref": "AWS::NoValue"}), "{value}");
    Some((condition, then))
}

/// What a policy applies to, in a word. Fails on everything that could stand for more than one resource unseen.
fn resource(value: &Value) -> String {
    let text = if let Some([of, "Arn"]) = strings(&value["Fn::GetAtt"]).as_deref() {
        format!("{of}.Arn")
    } else if let Some([of, "Id"]) = strings(&value["Fn::GetAtt"]).as_deref() {
        // A secret's ARN.
        (*of).to_owned()
    } else if let Some(text) = value["Fn::Sub"].as_str().or(value["Ref"].as_str()) {
        text.to_owned()
    } else {
        panic!("a resource that is not one of the template's: {value}");
    };
    assert!(!text.contains(['*', '?']), "a wildcard in {value}");
    text
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

/// A role as iam.expected.json writes it.
fn grants(role: &Value) -> Vec<Value> {
    let mut grants = Vec::new();
    for policy in role["Policies"].as_array().unwrap() {
        for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
            let (condition, statement) = match under_condition(statement) {
                Some((condition, statement)) => (Some(condition), statement),
                None => (None, statement),
            };
            let mut statement = statement.as_object().unwrap().clone();
            let narrowed = statement.remove("Condition");
            let keys: Vec<_> = statement.keys().map(String::as_str).collect();
            assert_eq!(keys, ["Action", "Effect", "Resource"], "nothing that turns a statement around");
            assert_eq!(statement["Effect"], "Allow");
            let mut actions = strings(&statement["Action"]).expect("a list of actions");
            actions.sort_unstable();
            let mut grant = json!({"Action": actions, "Resource": resource(&statement["Resource"])});
            if let Some(condition) = condition {
                grant["If"] = condition.clone();
            }
            if let Some(narrowed) = narrowed {
                let keys = &narrowed["ForAllValues:StringLike"]["dynamodb:LeadingKeys"];
                let whole = json!({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": keys}});
                assert_eq!(narrowed, whole, "no condition but this one");
                grant["LeadingKeys"] = keys.clone();
            }
            grants.push(grant);
        }
    }
    if let Some(managed) = role.get("ManagedPolicyArns") {
        let (condition, policies) =
            under_condition(managed).expect("AWS's own policies only under a condition");
        for policy in policies.as_array().unwrap() {
            grants.push(json!({"If": condition, "ManagedPolicy": policy["Fn::Sub"]}));
        }
    }
    grants
}

#[test]
fn every_role_may_do_what_the_list_says_and_nothing_else() {
    let template = template();
    let expected = fs::read_to_string(infra().join("iam.expected.json")).unwrap();
    let expected: Map<String, Value> = serde_json::from_str(&expected).unwrap();
    let roles = resources_of(&template, "AWS::IAM::Role");
    let names: Vec<_> = roles.keys().collect();
    assert_eq!(names, expected.keys().collect::<Vec<_>>(), "a role more or less");
    for (name, role) in &roles {
        let keys: Vec<_> = role.as_object().unwrap().keys().map(String::as_str).collect();
        for key in keys {
            assert!(
                ["AssumeRolePolicyDocument", "ManagedPolicyArns", "Policies"].contains(&key),
                "{name}: {key}"
            );
        }
        let trust = json!([{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]);
        assert_eq!(role["AssumeRolePolicyDocument"]["Statement"], trust, "{name}");
        assert_eq!(Value::from(grants(role)), expected[name], "{name}: {:#}", Value::from(grants(role)));
    }
    // Permissions hang on roles only, and each function has its own.
    for kind in ["AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"] {
        assert!(resources_of(&template, kind).is_empty(), "{kind}");
    }
    let functions = resources_of(&template, "AWS::Serverless::Function");
    assert!(!functions.is_empty());
    for (name, function) in functions {
        let role = format!("{}Role", name.strip_suffix("Function").unwrap());
        assert_eq!(function["Role"], json!({"Fn::GetAtt": [role, "Arn"]}), "{name}");
        assert!(function.get("Policies").is_none(), "{name}: SAM would write a policy of its own");
    }
}

/// Whether a role's own policy lets it do this with the items of a partition, as IAM decides: an explicit Deny refuses,
/// else an Allow is needed, and a statement counts where its action, its resource and its condition match.
fn may(role: &str, action: &str, partition: &str) -> bool {
    let template = template();
    let role = &template["Resources"][role]["Properties"];
    let policies = role["Policies"].as_array().unwrap().iter();
    let statements = policies.flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().unwrap());
    // Everything that is granted under a condition of the template's is granted.
    let statements = statements.map(|s| under_condition(s).map_or(s, |(_, statement)| statement));
    let request = BTreeMap::from([("dynamodb:LeadingKeys", vec![partition])]);
    let table = json!({"Fn::GetAtt": ["Table", "Arn"]});
    let matching: Vec<_> = statements
        .filter(|s| strings(&s["Action"]).unwrap().iter().any(|pattern| is_like(pattern, action)))
        .filter(|s| s["Resource"] == table)
        .filter(|s| s.get("Condition").is_none_or(|condition| holds(condition, &request)))
        .map(|s| s["Effect"].as_str().unwrap())
        .collect();
    matching.contains(&"Allow") && !matching.contains(&"Deny")
}

/// Whether a condition block holds: all of its operators, all of their keys.
fn holds(condition: &Value, request: &BTreeMap<&str, Vec<&str>>) -> bool {
    condition.as_object().unwrap().iter().all(|(operator, keys)| {
        keys.as_object().unwrap().iter().all(|(key, patterns)| {
            let patterns = strings(patterns).unwrap();
            let values = request.get(key.as_str()).cloned().unwrap_or_default();
            let matches = |value: &&str| patterns.iter().any(|pattern| is_like(pattern, value));
            match operator.as_str() {
                // Also true where the request has no such key: then it is no request for items.
                "ForAllValues:StringLike" => values.iter().all(matches),
                "ForAnyValue:StringLike" => values.iter().any(matches),
                other => panic!("an operator that is not evaluated here: {other}"),
            }
        })
    })
}

/// `*` stands for any text, `?` for one character.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => {
            let rest = &pattern[1..];
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| is_like(rest, &text[at..]))
        }
        Some(wanted) => text.chars().next().is_some_and(|c| {
            (wanted == '?' || wanted == c) && is_like(&pattern[wanted.len_utf8()..], &text[c.len_utf8()..])
        }),
    }
}

#[test]
fn ingest_can_neither_read_nor_forge_the_record_of_an_investigation_and_the_worker_can() {
    let id = "ab".repeat(32);
    let (incident, record) = (format!("INC#{id}"), format!("REC#{id}"));
    for role in ["IngestRole", "WatcherRole"] {
        for action in [
            "GetItem",
            "BatchGetItem",
            "Query",
            "PutItem",
            "UpdateItem",
            "DeleteItem",
            "BatchWriteItem",
            "Scan",
        ] {
            let action = format!("dynamodb:{action}");
            assert!(!may(role, &action, &record), "{role} may {action} a record");
            assert!(!may(role, &action, "REC#"), "{role} may {action} the record's beginning");
        }
        for action in ["dynamodb:GetItem", "dynamodb:PutItem"] {
            assert!(may(role, action, &incident), "{role} may not {action} an incident");
            assert!(!may(role, action, "BUDGET#2026-01-01#ALL"), "{role} may {action} a budget");
        }
    }
    assert!(!may("IngestRole", "dynamodb:Query", &incident));
    for action in ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"] {
        assert!(may("WorkerRole", action, &incident) && may("WorkerRole", action, &record), "{action}");
    }
    assert!(may("SweeperRole", "dynamodb:PutItem", &record), "it moves the record's entries out of a head");
    for action in ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"] {
        assert!(may("SweeperRole", action, &incident), "{action}");
        assert!(!may("SweeperRole", action, "BUDGET#2026-01-01#ALL"), "the sweeper may {action} a budget");
    }
}

#[test]
fn the_evaluator_takes_patterns_as_iam_does() {
    for (pattern, text, is) in [
        ("INC#*", "INC#ab", true),
        ("INC#*", "INC#", true),
        ("INC#*", "REC#INC#ab", false),
        ("*", "", true),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*#*", "REC#x", true),
    ] {
        assert_eq!(is_like(pattern, text), is, "{pattern} {text}");
    }
}

#[test]
fn the_networks_wildcard_policy_needs_a_network() {
    let template = template();
    let unset = |name: &str| json!({"Fn::Equals": [{"Fn::Select": [0, {"Ref": name}]}, ""]});
    let set = |name: &str| json!({"Fn::Not": [unset(name)]});
    assert_eq!(
        template["Conditions"]["InVpc"],
        json!({"Fn::Or": [set("SubnetIds"), set("SecurityGroupIds")]})
    );
    assert_eq!(template["Conditions"]["HasIngestSecrets"], set("IngestSecretArns"));
    assert_eq!(template["Conditions"]["HasWorkerSecrets"], set("WorkerSecretArns"));
    assert_eq!(template["Conditions"]["HasWatcherSecrets"], set("WatcherSecretArns"));
    for name in ["SubnetIds", "SecurityGroupIds", "IngestSecretArns", "WorkerSecretArns"] {
        assert_eq!(template["Parameters"][name]["Default"], "", "{name}");
    }
}

/// What the code sends to make its table.
async fn asked_for() -> BTreeMap<String, Value> {
    let asked = Arc::new(Mutex::new(BTreeMap::new()));
    let log = Arc::clone(&asked);
    let engine = move |operation: &str, body: &[u8]| {
        log.lock().unwrap().insert(operation.to_owned(), serde_json::from_slice(body).unwrap());
        let body = match operation {
            "DescribeTable" => json!({"Table": {"TableStatus": "ACTIVE"}}),
            "DescribeTimeToLive" => json!({"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}}),
            _ => json!({}),
        };
        Answer { status: 200, body: body.to_string() }
    };
    let client = client_for_engine(Arc::new(engine), CallLimits::EMBEDDED);
    create_table(&client, "incidents").await.unwrap();
    asked.lock().unwrap().clone()
}

/// A list of objects, in the order of one of their values.
fn by(key: &str, list: &Value) -> Vec<Value> {
    let mut list = list.as_array().unwrap().clone();
    list.sort_by_key(|item| item[key].to_string());
    list
}

#[tokio::test]
async fn the_table_is_the_one_that_the_code_makes() {
    let asked = asked_for().await;
    let created = &asked["CreateTable"];
    let template = template();
    let table = &template["Resources"]["Table"]["Properties"];
    assert_eq!(table["KeySchema"], created["KeySchema"]);
    assert_eq!(
        by("AttributeName", &table["AttributeDefinitions"]),
        by("AttributeName", &created["AttributeDefinitions"])
    );
    let indexes = by("IndexName", &created["GlobalSecondaryIndexes"]);
    assert_eq!(by("IndexName", &table["GlobalSecondaryIndexes"]), indexes);
    assert!(!indexes.is_empty());
    assert_eq!(table["BillingMode"], created["BillingMode"]);
    assert_eq!(table["TimeToLiveSpecification"], asked["UpdateTimeToLive"]["TimeToLiveSpecification"]);
    // What the embedded table has no need of.
    assert_eq!(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
    assert_eq!(table["SSESpecification"]["SSEEnabled"], true);
    assert_eq!(template["Resources"]["Table"]["DeletionPolicy"], "RetainExceptOnCreate");
}

#[test]
fn the_workers_numbers_fit_each_other() {
    let template = template();
    let parameter = |name: &str, key: &str| template["Parameters"][name][key].as_i64().unwrap();
    assert_eq!(parameter("QueueVisibilityTimeout", "Default"), 6 * parameter("WorkerTimeout", "Default"));
    assert_eq!(parameter("WorkerTimeout", "Default"), 720);
    assert_eq!(parameter("WorkerConcurrency", "MinValue"), 2);
    assert_eq!(parameter("WorkerBatchSize", "Default"), 4);

    let worker = &template["Resources"]["WorkerFunction"]["Properties"];
    let concurrency = json!({"Ref": "WorkerConcurrency"});
    let (_, reserved) = under_condition(&worker["ReservedConcurrentExecutions"]).unwrap();
    assert_eq!(reserved, &concurrency, "not below what SQS is allowed to start");
    let jobs = &worker["Events"]["Jobs"]["Properties"];
    assert_eq!(jobs["ScalingConfig"]["MaximumConcurrency"], concurrency);
    assert_eq!(jobs["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]));
    assert_eq!(jobs["BatchSize"], json!({"Ref": "WorkerBatchSize"}));
    assert_eq!(worker["Timeout"], json!({"Ref": "WorkerTimeout"}));

    let queue = &template["Resources"]["Queue"]["Properties"];
    assert_eq!(queue["VisibilityTimeout"], json!({"Ref": "QueueVisibilityTimeout"}));
    assert_eq!(queue["RedrivePolicy"]["maxReceiveCount"], json!({"Ref": "MaxReceiveCount"}));
    assert_eq!(parameter("MaxReceiveCount", "Default"), 5);
    // What resumes sends to the queue that it came from, more often than Lambda lets a chain be.
    assert_eq!(worker["RecursiveLoop"], "Allow");
    assert_eq!(parameter("WorkerTimeout", "MinValue"), 60, "time for a run to yield in");
    assert_eq!(
        queue["RedrivePolicy"]["deadLetterTargetArn"],
        json!({"Fn::GetAtt": ["DeadLetterQueue", "Arn"]})
    );
}

#[test]
fn the_routes_are_the_ones_that_ingest_answers() {
    let template = template();
    let routes = resources_of(&template, "AWS::ApiGatewayV2::Route");
    let mut keys: Vec<_> = routes.values().map(|route| route["RouteKey"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["GET /healthz", "POST /webhook/alertmanager"]);
    let integration = &template["Resources"]["IngestIntegration"]["Properties"];
    assert_eq!(integration["PayloadFormatVersion"], "2.0");
    // A stage with a name would stand in front of the path.
    assert_eq!(template["Resources"]["ApiStage"]["Properties"]["StageName"], "$default");
}
