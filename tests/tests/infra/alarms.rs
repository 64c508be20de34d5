//! What is watched, what is told of it, and what that rests on.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::{grants, infra, resources_of, template};

#[test]
fn the_dashboard_can_be_read_and_shows_what_is_measured() {
    let template = template();
    let body =
        template["Resources"]["MetricsDashboard"]["Properties"]["DashboardBody"]["Fn::Sub"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let metrics = body["widgets"].as_array().unwrap().iter().map(|widget| &widget["properties"]["metrics"]);
    let shown: String = metrics.map(Value::to_string).collect();
    for name in [
        "AlertsReceived",
        "AlertsAccepted",
        "Duplicates",
        "Unmatched",
        "Refused",
        "AlertToClaimMs",
        "ClaimToStartMs",
        "StartToReportMs",
        "Turns",
        "ToolMs",
        "Tokens",
        "Usd",
        "BudgetExhausted",
        "Retries",
        "SinkResults",
        "RefusedCalls",
        "ApproximateNumberOfMessagesVisible",
    ] {
        assert!(shown.contains(name), "{name} is not on the dashboard");
    }
}

#[test]
fn each_alarm_tells_the_topic_where_there_is_one() {
    let alarms = resources_of(&template(), "AWS::CloudWatch::Alarm");
    let topic = json!({"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]});
    for (name, alarm) in &alarms {
        assert_eq!(alarm["AlarmActions"], topic, "{name}");
        assert_eq!(alarm["OKActions"], topic, "{name}");
    }
}

/// Namespace, metric and dimensions of everything that an alarm looks at.
fn watched() -> Vec<(String, String, Value)> {
    let template = template();
    let alarms = resources_of(&template, "AWS::CloudWatch::Alarm");
    let metrics = alarms.values().flat_map(|alarm| match alarm["Metrics"].as_array() {
        Some(several) => {
            several.iter().filter_map(|m| m.get("MetricStat").map(|stat| stat["Metric"].clone())).collect()
        }
        None => vec![alarm.clone()],
    });
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metrics.map(|m| (text(&m["Namespace"]), text(&m["MetricName"]), m["Dimensions"].clone())).collect()
}

#[test]
fn every_way_to_fail_has_an_alarm_and_two_stacks_of_an_account_are_apart() {
    let watched = watched();
    for metric in [
        "ApproximateNumberOfMessagesVisible",
        "OldestDueSeconds",
        "5xx",
        "WebhooksRefusedAtTheDoor",
        "Count",
        "Unmatched",
        "ModelRefusals",
        "InvestigationsFailed",
        "SinkRefusals",
        "BudgetExhausted",
        "RefusedCalls",
        "Throttled",
        "Throttles",
        "Errors",
        "ConfigurationRefused",
    ] {
        assert!(watched.iter().any(|(_, name, _)| name == metric), "no alarm on {metric}");
    }
    for (namespace, metric, dimensions) in watched {
        let dimensions = dimensions.as_array().unwrap();
        assert!(!dimensions.is_empty(), "{metric} is of all stacks of the account");
        if namespace == "Sentinel" {
            assert_eq!(
                dimensions[0],
                json!({"Name": "Stack", "Value": {"Ref": "AWS::StackName"}}),
                "{metric}"
            );
        }
    }
    let template = template();
    let told = &template["Globals"]["Function"]["Environment"]["Variables"]["SENTINEL_STACK"];
    assert_eq!(told, &json!({"Ref": "AWS::StackName"}));
    // What the API refuses by itself is counted from its log, which says whose it is.
    let counted = &template["Resources"]["RefusedWebhooks"]["Properties"]["MetricTransformations"][0];
    assert_eq!(counted["Dimensions"], json!([{"Key": "Stack", "Value": "$.stack"}]));
    let logged = template["Resources"]["ApiStage"]["Properties"]["AccessLogSettings"]["Format"]["Fn::Sub"]
        .as_str()
        .unwrap();
    let logged: Value = serde_json::from_str(logged).expect("one line of JSON");
    assert_eq!(
        (&logged["stack"], &logged["status"]),
        (&json!("${AWS::StackName}"), &json!("$context.status"))
    );
}

/// A sweeper that does not run writes nothing: that is a change of the alarm's state wherever there was data before, and
/// none for a stack that is new.
#[test]
fn a_silent_sweeper_is_told_and_a_new_one_is_not() {
    let alarm = &template()["Resources"]["OldestDueAlarm"]["Properties"];
    let topic = json!({"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]});
    assert_eq!((&alarm["TreatMissingData"], &alarm["InsufficientDataActions"]), (&json!("missing"), &topic));
}

#[test]
fn each_alarm_has_a_paragraph_in_the_runbook_and_the_runbook_no_other() {
    let runbook = fs::read_to_string(infra().join("../docs/runbook.md")).unwrap();
    let sections: BTreeMap<&str, &str> = runbook
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .filter(|(name, _)| name.ends_with("Alarm"))
        .collect();
    let alarms = resources_of(&template(), "AWS::CloudWatch::Alarm");
    assert_eq!(
        sections.keys().copied().collect::<Vec<_>>(),
        alarms.keys().map(String::as_str).collect::<Vec<_>>()
    );
    for (name, alarm) in &alarms {
        let told = format!("docs/runbook.md: {name}.");
        assert!(alarm["AlarmDescription"].as_str().unwrap().ends_with(&told), "{name} does not lead there");
        for part in ["**Means.**", "**Look.**", "**Mend.**"] {
            assert!(sections[name.as_str()].contains(part), "{name} has no {part}");
        }
    }
}

#[test]
fn your_own_key_is_taken_for_all_that_is_kept_and_each_role_may_use_it() {
    let template = template();
    let own = json!({"Fn::If": ["HasKey", {"Ref": "KmsKeyArn"}, {"Ref": "AWS::NoValue"}]});
    for (kind, key) in [
        ("AWS::SQS::Queue", "/KmsMasterKeyId"),
        ("AWS::Logs::LogGroup", "/KmsKeyId"),
        ("AWS::SecretsManager::Secret", "/KmsKeyId"),
        ("AWS::DynamoDB::Table", "/SSESpecification/KMSMasterKeyId"),
    ] {
        for (name, resource) in resources_of(&template, kind) {
            assert_eq!(resource.pointer(key), Some(&own), "{name}");
        }
    }
    for (name, role) in resources_of(&template, "AWS::IAM::Role") {
        let has =
            grants(&role).iter().any(|grant| grant["If"] == "HasKey" && grant["Resource"] == "KmsKeyArn");
        assert!(has, "{name}");
    }
}

#[test]
fn what_costs_by_the_month_is_off_unless_it_is_asked_for() {
    let template = template();
    assert_eq!(template["Parameters"]["Dashboard"]["Default"], "false");
    assert_eq!(template["Resources"]["MetricsDashboard"]["Condition"], "HasDashboard");
}

#[test]
fn the_template_belongs_to_the_version_of_the_programs() {
    assert_eq!(template()["Mappings"]["Sentinel"]["Template"]["Version"], env!("CARGO_PKG_VERSION"));
}
