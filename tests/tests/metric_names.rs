//! What the template's alarms and dashboard, the rules and the dashboard for Prometheus, and the page of operations call the
//! metrics of the code.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeSet;
use std::fs;

use sentinel_telemetry::{FAMILIES, Kind, NAMESPACE, STACK, catalogue, counted_as};
use sentinel_testkit::process::command;
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

/// The page's table of what `/metrics` gives, row by row: name, kind, labels, and the names on `CloudWatch`.
fn on_metrics(page: &str) -> BTreeSet<String> {
    let table = page.split("\n| on `/metrics` | kind | says | by | on CloudWatch |\n").nth(1).unwrap();
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let rows = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    rows.map(|row| format!("{} {} {} {}", row[1], row[2], row[4], row[5]).replace(['`', ','], "")).collect()
}

#[test]
fn the_page_of_operations_lists_all_that_metrics_gives_and_every_measurement_is_among_it() {
    let page = fs::read_to_string(workspace().join("docs/operations.md")).unwrap();
    let (measured, catalogue) = (counted_as(), catalogue());
    let given = FAMILIES.iter().map(|family| {
        let of = measured.iter().filter(|(_, families)| families.contains(&family.name));
        let of: Vec<&str> = of.map(|(name, _)| *name).filter(|name| catalogue.contains_key(name)).collect();
        let (kind, labels) = (family.kind.as_str(), family.labels.join(" "));
        format!("{} {kind} {labels} {}", family.name, of.join(" "))
    });
    assert_eq!(on_metrics(&page), given.collect());
    let names: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    for (metric, families) in measured {
        assert!(!families.is_empty() && families.iter().all(|name| names.contains(name)), "{metric}");
    }
}

/// Every word of a text that is named as our metrics are.
fn words(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("sentinel_")).collect()
}

/// The names of all series: a histogram has three.
fn series() -> BTreeSet<String> {
    let of = |name: &str, kind| match kind {
        Kind::Histogram(_) => ["bucket", "sum", "count"].map(|part| format!("{name}_{part}")).to_vec(),
        Kind::Counter | Kind::Gauge => vec![name.to_owned()],
    };
    FAMILIES.iter().flat_map(|family| of(family.name, family.kind)).collect()
}

#[test]
fn rules_their_tests_and_the_dashboard_name_only_what_metrics_gives() {
    let series = series();
    for (file, least) in
        [("prometheus/rules.yaml", 10), ("prometheus/rules_test.yaml", 10), ("grafana/dashboard.json", 30)]
    {
        let text = fs::read_to_string(workspace().join("infra").join(file)).unwrap();
        let named = words(&text);
        assert!(named.len() >= least, "{file}: {named:?}");
        let unknown: Vec<&&str> = named.iter().filter(|name| !series.contains(**name)).collect();
        assert!(unknown.is_empty(), "{file}: /metrics gives no {unknown:?}");
    }
}

#[test]
fn prometheus_takes_the_rules_and_each_alert_fires_when_it_should() {
    let folder = workspace().join("infra/prometheus");
    for arguments in [["check", "rules", "rules.yaml"], ["test", "rules", "rules_test.yaml"]] {
        let mut promtool = command("promtool");
        let ended = promtool.args(arguments).current_dir(&folder).output().unwrap();
        let said = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        assert!(ended.status.success(), "{arguments:?} (promtool: bash tests/setup.sh)\n{said}");
    }
    let rules = fs::read_to_string(folder.join("rules.yaml")).unwrap();
    let tested = fs::read_to_string(folder.join("rules_test.yaml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for alert in alerts {
        assert!(tested.contains(alert), "no test has {alert} fire");
    }
}

#[test]
fn every_panel_of_the_dashboard_has_an_expression_and_a_place_of_its_own() {
    let text = fs::read_to_string(workspace().join("infra/grafana/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut places = BTreeSet::new();
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(places.insert((place["y"].as_u64().unwrap(), place["x"].as_u64().unwrap())), "{panel:#}");
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            assert!(!words(target["expr"].as_str().unwrap()).is_empty(), "{panel:#}");
        }
    }
    assert!(panels.len() > 20, "{}", panels.len());
}
