//! What the template's alarms and dashboard, and the page of operations, call the metrics of the code.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;

use sentinel_telemetry::{NAMESPACE, STACK, catalogue};
use sentinel_tests::workspace;
use serde_json::Value;

/// Every object below a value that names a metric of ours, with the names of its dimensions.
fn named(value: &Value, found: &mut Vec<(String, BTreeSet<String>)>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| named(value, found)),
        Value::Object(map) => {
            if map.get("Namespace").and_then(Value::as_str) == Some(NAMESPACE) {
                let dimensions = map.get("Dimensions").and_then(Value::as_array).into_iter().flatten();
                let dimensions = dimensions.map(|dimension| dimension["Name"].as_str().unwrap().to_owned());
                found.push((map["MetricName"].as_str().unwrap().to_owned(), dimensions.collect()));
            }
            map.values().for_each(|value| named(value, found));
        }
        _ => {}
    }
}

/// The metrics that the template makes of log lines by itself.
fn made_here(template: &Value) -> BTreeSet<String> {
    let resources = template["Resources"].as_object().unwrap().values();
    let filters = resources.filter(|resource| resource["Type"] == "AWS::Logs::MetricFilter");
    let made = filters.flat_map(|filter| {
        let made = filter["Properties"]["MetricTransformations"].as_array().cloned().unwrap_or_default();
        made.into_iter().map(|metric| metric["MetricName"].as_str().unwrap().to_owned())
    });
    made.collect()
}

/// The name in a row of the page's table, and its dimensions.
fn columns(row: &str) -> String {
    let columns: Vec<&str> = row.split('|').map(str::trim).collect();
    format!("{} {}", columns[1], columns[3]).replace(['`', ','], "")
}

#[test]
fn every_alarm_is_on_a_metric_that_the_code_emits_with_the_dimensions_that_it_has() {
    let text = fs::read_to_string(workspace().join("infra/template.yaml")).unwrap();
    let template: Value = serde_saphyr::from_str(&text).unwrap();
    let (catalogue, made_here) = (catalogue(), made_here(&template));
    let mut found = Vec::new();
    named(&template["Resources"], &mut found);
    assert!(found.iter().any(|(name, _)| name == "ModelRefusals"), "{found:?}");
    for (name, mut dimensions) in found {
        if made_here.contains(&name) {
            continue;
        }
        let emitted = catalogue.get(name.as_str());
        let emitted =
            emitted.unwrap_or_else(|| panic!("the code emits no metric {name}: {:?}", catalogue.keys()));
        dimensions.remove(STACK);
        let emitted: BTreeSet<String> = emitted.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(dimensions, emitted, "{name}");
    }
}

#[test]
fn the_page_of_operations_lists_each_metric_that_the_code_emits_with_its_dimensions_and_no_other() {
    let page = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let table = page.split("\n| metric | counts | also by |\n").nth(1).unwrap().lines().skip(1);
    let listed: BTreeSet<String> = table.take_while(|line| line.starts_with('|')).map(columns).collect();
    let emitted =
        catalogue().into_iter().map(|(name, dimensions)| format!("{name} {}", dimensions.join(" ")));
    assert_eq!(listed, emitted.collect());
}
