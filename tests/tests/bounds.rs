//! Attacks that once kept every thread of `up` busy for ever: it goes on answering while they run, also after `kill -9`
//! and a restart, they end in reports that say what was refused, and SIGTERM ends it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use sentinel_testkit::mcp::{Answer, FakeMcp};
use sentinel_testkit::openai::{Scripted, ScriptedOpenAi, function_call, function_calls};
use sentinel_tests::wire::{LOOPBACK, openai, output_of, report, trouble};
use sentinel_tests::{Home, Sentinel, client};
use serde_json::{Map, Value, json};

/// Incidents at the same time: more than there are threads.
const INCIDENTS: usize = 3;

fn home(mcp: &FakeMcp, model: &ScriptedOpenAi, card: &str) -> Home {
    Home::with(&format!(
        "{LOOPBACK}{}mcp-servers: [{{name: fake, server-url: \"{}\"}}]\n\
         resources: [{{name: trouble, filters: {{alertname: Trouble}}}}]\n\
         incident-cards:\n- {{name: trouble, resource: trouble, prompt: Find out why., tools: [fake.look]{card}}}\n",
        openai(&model.base_url()),
        mcp.url()
    ))
}

/// Asks for what everybody may ask for, while the incidents are attacked.
async fn answers(up: &Sentinel) {
    for _ in 0..5 {
        let healthy = client().get(format!("{}/healthz", up.url)).send().await.unwrap();
        assert!(healthy.status().is_success(), "{}", healthy.status());
        let (status, _) = up.post(&json!({"alerts": [], "version": "4"})).await;
        assert!(!status.is_server_error(), "{status}");
    }
}

/// Attacks, kills once the model has been asked `asked` times, starts again, and gives how the incidents ended.
async fn attacked(home: &Home, model: &ScriptedOpenAi, asked: usize) -> Vec<Value> {
    let mut up = home.up().await;
    let mut ids = Vec::new();
    for n in 0..INCIDENTS {
        ids.push(up.open(&trouble(&format!("host-{n}"))).await);
    }
    answers(&up).await;
    model.wait_for_requests(asked).await;
    answers(&up).await;
    up.child.kill();

    let mut up = home.up().await;
    answers(&up).await;
    let mut ended = Vec::new();
    for id in &ids {
        ended.push(up.ended(id).await);
    }
    answers(&up).await;
    up.child.terminate();
    let status = up.child.wait_for_exit().await;
    assert!(status.success(), "{status}");
    ended
}

/// Definitions that name the next one twice, one level deeper in the value each time: 6 KB, and 2^40 ways.
fn doubled() -> Value {
    let mut all = Map::new();
    for level in 0..40 {
        let branch =
            json!({"properties": {"x": {"$ref": format!("#/$defs/d{}", level + 1)}}, "required": ["x"]});
        all.insert(format!("d{level}"), json!({"anyOf": [branch, branch]}));
    }
    all.insert("d40".to_owned(), json!({"type": "string"}));
    json!({"type": "object", "$defs": all, "$ref": "#/$defs/d0"})
}

#[tokio::test]
async fn an_output_schema_that_doubles_on_each_level_is_not_held_against_the_output_and_stops_nobody() {
    let deep = (0..40).fold(json!(1), |inner, _| json!({"x": inner}));
    let tool = json!({"name": "look", "description": "Looks", "inputSchema": {"type": "object"}, "outputSchema": doubled()});
    let answer = move |_: &Value| Answer::Result(json!({"content": [], "structuredContent": deep}));
    let mcp = FakeMcp::builder().tool_defined(tool, answer).start().await;
    let model = ScriptedOpenAi::with(|_, n| match n {
        ..INCIDENTS => Scripted::Hang,
        _ => {
            Scripted::Json(function_call("submit_report", &report("E1", "nothing that stands there"), "call"))
        }
    })
    .await;
    let home = home(&mcp, &model, ", evidence: [{tool: fake.look}]");
    for incident in attacked(&home, &model, INCIDENTS).await {
        assert_eq!((&incident["state"], &incident["verdict"]), (&json!("done"), &json!("inconclusive")));
        let kept = &incident["evidence"][0];
        assert_eq!(kept["ok"], true, "{kept:#}");
        assert!(kept["text"].as_str().unwrap().starts_with(r#"{"x":{"x":"#), "{kept:#}");
        let notes = incident["report"]["notes"].to_string();
        assert!(notes.contains("would take more than 500000 steps"), "{notes}");
    }
    assert_eq!(mcp.calls().len(), INCIDENTS, "what is stored is not asked for again");
}

#[tokio::test]
async fn a_pattern_with_a_quadratic_number_of_steps_is_searched_in_part_and_stops_nobody() {
    let line = format!("{}\nall is well here", "A".repeat(256 * 1024));
    let schema = json!({"type": "object"});
    let mcp =
        FakeMcp::builder().tool("look", schema, "Looks", move |_| Answer::text(line.clone())).start().await;
    let mut hung = 0;
    let model = ScriptedOpenAi::with(move |request, _| {
        let Some(read) = output_of(request, "read") else {
            let call = if output_of(request, "look").is_none() {
                ("fake__look", json!({}), "look")
            } else {
                ("read_evidence", json!({"id": "E1", "pattern": ".*[^A-Z]|[A-Z]", "lines": null}), "read")
            };
            return Scripted::Json(function_calls(&[call]));
        };
        assert!(read.contains("the search ended in line 1"), "{read}");
        hung += 1;
        if hung <= INCIDENTS {
            return Scripted::Hang;
        }
        Scripted::Json(function_call("submit_report", &report("E1", "all is well here"), "call"))
    })
    .await;
    let home = home(&mcp, &model, "");
    for incident in attacked(&home, &model, 3 * INCIDENTS).await {
        assert_eq!((&incident["state"], &incident["verdict"]), (&json!("done"), &json!("action_required")));
    }
    assert_eq!(mcp.calls().len(), INCIDENTS, "what is stored is not asked for again");
}

#[tokio::test]
async fn a_report_of_thousands_of_quotes_is_looked_up_in_part_and_says_so() {
    let line = "12 ".repeat(80_000);
    let schema = json!({"type": "object"});
    let mcp =
        FakeMcp::builder().tool("look", schema, "Looks", move |_| Answer::text(line.clone())).start().await;
    let model = ScriptedOpenAi::with(|_, n| {
        if n < INCIDENTS {
            return Scripted::Hang;
        }
        // Each quote stands at nearly each place, and cuts a number there.
        let quote = json!({"id": "E1", "quote": format!("{}1", "12 ".repeat(1300))});
        let mut many = report("E1", "12 12 12 12");
        many["ruled_out"] = json!([{"statement": "No.", "evidence": vec![quote; 25]}]);
        Scripted::Json(function_call("submit_report", &many, "call"))
    })
    .await;
    let home = home(&mcp, &model, ", evidence: [{tool: fake.look}]");
    for incident in attacked(&home, &model, INCIDENTS).await {
        assert_eq!((&incident["state"], &incident["verdict"]), (&json!("done"), &json!("action_required")));
        let cited = &incident["report"]["ruled_out"][0];
        assert_eq!((&cited["supported"], &cited["evidence"][0]["found"]), (&json!(false), &json!(false)));
    }
}

/// The files of the workspace's crates and tests.
fn sources() -> Vec<(String, String)> {
    let top = sentinel_tests::workspace();
    let mut folders = ["crates", "functions", "tests"].map(|folder| top.join(folder)).to_vec();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&top).unwrap().to_str().unwrap().to_owned();
                files.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    files
}

#[test]
fn the_table_of_bounds_has_the_numbers_of_the_code_and_names_tests_that_exist() {
    let page = std::fs::read_to_string(sentinel_tests::workspace().join("docs/security.md")).unwrap();
    let (_, table) = page.split_once("## Bounds").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let sources = sources();
    let (mut numbers, mut tests) = (0, 0);
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        let mut file = None;
        for quoted in cells[1].split('`').skip(1).step_by(2) {
            if let Some((name, value)) = quoted.split_once(" = ") {
                let (path, source): &(String, String) = file.unwrap();
                let (start, end) = (format!("const {name}: "), format!(" = {value};"));
                let is_it = |line: &str| line.contains(&start) && line.trim_end().ends_with(&end);
                assert!(source.lines().any(is_it), "{path} has no {quoted}");
                numbers += 1;
            } else if let Some(found) = sources.iter().find(|(path, _)| path == quoted) {
                file = Some(found);
            }
        }
        let held_by: Vec<&str> = cells[3].split('`').skip(1).step_by(2).collect();
        assert!(!held_by.is_empty(), "{row}");
        for test in held_by {
            let function = format!("fn {test}(");
            assert!(sources.iter().any(|(_, source)| source.contains(&function)), "no test {test}");
            tests += 1;
        }
    }
    assert!(numbers > 40 && tests > 25, "{numbers} {tests}");
}
