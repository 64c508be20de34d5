//! What holds for any input from outside. The ordinary tests play it near good inputs, the fuzz targets in `tests/fuzz/` with
//! whatever they find.

use sentinel_core::UnixMs;
use sentinel_core::card::ToolId;
use sentinel_core::incident::{Child, ChildName, Gen};
use sentinel_core::redact::Redactor;
use serde_json::{Map, Value};

use crate::evidence::{self, CallStatus, EvidenceRecord};
use crate::policy::shaped;
use crate::ports::{Output, Said, ToolDefinition, TurnResponse, TurnUsage};
use crate::problem::Part;
use crate::quotes::Searchable;
use crate::rule::{Facts, Rule};
use crate::search::{MOST_MATCHES, Search};
use crate::{hosted, playbook, quotes, report, schema, tools, transcript};

fn held() -> EvidenceRecord {
    EvidenceRecord {
        id: "E1".to_owned(),
        tool: "k8s.events".to_owned(),
        arguments: Map::new(),
        ok: true,
        status: CallStatus::Answered,
        refusal: None,
        turn: 0,
        own: None,
        at: UnixMs::new(0),
        ms: 1,
        bytes: 60,
        sha256: String::new(),
        redactions: 0,
        left_out: 0,
        head: 0,
        text: "secret \"api-db\" not found, 12.5 of 99 pods\nsecond line".to_owned(),
        remarks: Vec::new(),
    }
}

/// What the model hands to `submit_report` is a report whose quotes are marked, or there are reasons.
///
/// # Panics
/// Where that does not hold.
pub fn submission(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let held = held();
    match report::read(text) {
        Ok(read) => {
            let draft = report::check(read, |id| (id == "E1").then_some(&held), &Searchable::new("alert"));
            assert!(draft.found <= draft.quotes);
        }
        Err(reasons) => assert!(reasons.iter().all(|reason| !reason.is_empty()) && !reasons.is_empty()),
    }
}

/// Quotes of any length and number are looked up within their bound: the first line is the evidence, each further one a
/// quote.
///
/// # Panics
/// Where that does not hold.
pub fn quoted(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let mut lines = text.lines();
    let held = EvidenceRecord { text: lines.next().unwrap_or_default().repeat(20), ..held() };
    let cited: Vec<_> = lines.map(|line| ("E1", line)).collect();
    let (marks, compared) = quotes::counted(&cited, |_| Some(&held), &Searchable::new("alert"));
    assert!(marks.len() == cited.len() && compared <= quotes::MOST_COMPARED);
}

/// Any pattern searches any text within its bound: the first line is the pattern.
///
/// # Panics
/// Where that does not hold.
pub fn search(body: &[u8]) {
    let Some((pattern, text)) = std::str::from_utf8(body).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let Ok(search) = Search::new(pattern) else { return };
    let (found, searched) = search.counted(text.lines().enumerate());
    assert!(searched <= crate::search::MOST_SEARCHED && found.places <= MOST_MATCHES);
    // A line is looked at once for each place in it, and once more where there is no further one.
    let most = (found.places as u64 + text.lines().count() as u64) * (text.len() as u64 + 1);
    assert!(searched <= most.saturating_mul(search.states()), "{searched}");
}

/// Any value is held against any schema within the bound, or there is a reason: a list of the two.
///
/// # Panics
/// Where that does not hold.
pub fn schema_and_value(body: &[u8]) {
    let Ok((schema, value)) = serde_json::from_slice::<(Value, Value)>(body) else { return };
    match schema::Schema::new(&schema) {
        Ok(schema) => {
            let steps = schema.steps(&value);
            assert!(steps.is_none_or(|steps| steps <= schema::MOST_STEPS));
            let problems = schema.problems(&value, "it");
            assert!(steps.is_some() || problems.len() == 1);
            assert!(problems.iter().all(|problem| problem.chars().count() < 600), "{problems:?}");
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
}

/// Any rule over any arguments gives an answer within its bound, or a reason: the first line is the rule.
///
/// # Panics
/// Where that does not hold.
pub fn rule(body: &[u8]) {
    let Some((rule, args)) = std::str::from_utf8(body).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let args: Value = serde_json::from_str(args).unwrap_or_default();
    let mut problems = Vec::new();
    let Some(rule) = Rule::compile(rule, &["args"], Part::Policy(0), &mut problems) else {
        assert!(!problems.is_empty());
        return;
    };
    let Ok(facts) = Facts::new([("args", &args)]) else { return };
    if let Err(reason) = rule.holds(&facts) {
        assert!(!reason.is_empty());
    }
}

/// Any template over any labels writes no more than it may, or there is a reason: the first line is the template.
///
/// # Panics
/// Where that does not hold.
pub fn template(body: &[u8]) {
    let Some((template, labels)) = std::str::from_utf8(body).ok().and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let labels: Value = serde_json::from_str(labels).unwrap_or_default();
    match playbook::rendered(template, &labels, 1000) {
        Ok(text) => assert!(text.len() <= 1000),
        Err(reason) => assert!(!reason.is_empty()),
    }
}

/// Arguments of any function are ones that may be called with, or there is a reason for the model.
///
/// # Panics
/// Where that does not hold.
pub fn arguments(body: &[u8]) {
    let Ok(text) = std::str::from_utf8(body) else { return };
    let held = held();
    let takes = serde_json::json!({
        "type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"],
    });
    let Ok(takes) = schema::Schema::new(&takes) else { return };
    match shaped("f", &takes, text) {
        Ok(arguments) => assert!(arguments.contains_key("n")),
        Err(refusal) => assert!(refusal.to_string().starts_with("Error: ")),
    }
    if let Ok(shown) = evidence::read(text, |id| (id == "E1").then_some(&held), 100) {
        assert!(!shown.is_empty());
    }
    hosted::any_arguments(text);
}

/// What a response says of hosted servers can be stored and shown, without a secret.
///
/// # Panics
/// Where that does not hold.
pub fn hosted_items(body: &[u8]) {
    let Ok(items) = serde_json::from_slice::<Vec<Value>>(body) else { return };
    let stored = serde_json::json!({"model": "m", "items": items, "usage": TurnUsage::default()});
    let Ok(TurnResponse { mut outputs, .. }) = serde_json::from_value(stored) else { return };
    let redactor = Redactor::new(["swordfish-1234".to_owned()]);
    let _ = hosted::hosted_tools(outputs.clone(), "k8s", &redactor);
    let (taken, _) = hosted::take_outputs(&mut outputs, &redactor);
    assert!(taken.values().all(|output| !output.kept.text.contains("swordfish-1234")));
    let mut asked = std::collections::BTreeSet::new();
    let is_answerable = |output: &&Output| match &output.said {
        Said::HostedRequest(request) => !request.id.is_empty() && asked.insert(request.id.clone()),
        _ => true,
    };
    let shown = hosted::shown(&outputs, true, |_| Some("[E1]".to_owned()));
    assert_eq!(shown.len(), outputs.iter().filter(is_answerable).count());
    let is_hosted = |output: &Output| {
        matches!(output.said, Said::HostedRequest(_) | Said::HostedCall(_) | Said::HostedList(_))
    };
    assert!(!hosted::shown(&outputs, false, |_| None).iter().any(is_hosted));
}

/// A tool with any schema is one that may be offered, or there is a reason.
///
/// # Panics
/// Where that does not hold.
pub fn tool_schema(body: &[u8]) {
    let Ok(input_schema) = serde_json::from_slice::<Value>(body) else { return };
    let tool = ToolId { server: "s".to_owned(), tool: "a".to_owned() };
    let definition = ToolDefinition {
        tool: tool.tool.clone(),
        description: String::new(),
        input_schema,
        read_only_hint: None,
        destructive_hint: None,
        more: Map::new(),
        unusable: None,
    };
    match tools::judge(&tool, &[definition], None, false) {
        Ok((_, schema)) => drop(shaped("s__a", &schema, r#"{"n": 1, "m": [null, "x"]}"#)),
        Err(unfit) => assert!(!unfit.to_string().is_empty()),
    }
}

/// What is stored of a run is read, or passed over by those who only look.
pub fn stored(body: &[u8]) {
    let Ok(body) = std::str::from_utf8(body) else { return };
    let child = |name| Child { generation: Gen(1), name, body: body.to_owned() };
    let children = [
        child(ChildName::Snapshot("d".to_owned())),
        child(ChildName::Turn(1)),
        child(ChildName::Output(1)),
        child(ChildName::Report),
    ];
    for record in transcript::evidence_of(&children) {
        drop(record.shown());
        drop(record.for_model(100));
    }
    drop(transcript::turns_of(&children));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sentinel_testkit::inputs::near;
    use sentinel_testkit::openai::{mcp_approval_request_item, mcp_call_item, mcp_list_item};
    use serde_json::json;

    use super::*;

    fn submissions() -> Vec<String> {
        let cites = json!([{"id": "e1", "quote": "12.5 of 99 pods"}, {"id": "E2", "quote": "secret"}]);
        let report = json!({
            "verdict": "action_required", "title": "t", "summary": "s",
            "hypotheses": [{"statement": "s", "confidence": 0.5, "evidence": cites}],
            "ruled_out": [{"statement": "r", "evidence": []}], "gaps": ["g"],
            "next_steps": [{"action": "a", "why": "w"}],
        });
        vec![report.to_string()]
    }

    fn calls() -> Vec<String> {
        let read = json!({"id": "E1", "pattern": "sec(ret)?", "lines": "1-2"}).to_string();
        vec![read, r#"{"n": 7}"#.to_owned(), "null".to_owned()]
    }

    fn items() -> Vec<String> {
        let down = json!({"type": "http_error", "code": 502, "message": "swordfish-1234"});
        let all = json!([
            mcp_list_item("k8s", &[("pod", json!({"readOnlyHint": true}))]),
            mcp_approval_request_item("k8s", "pod", &json!({"a": 1}), "mcpr_1"),
            mcp_call_item("k8s", "pod", &json!({}), "mcpr_1", Ok("token swordfish-1234")),
            mcp_call_item("k8s", "pod", &json!({}), "mcpr_2", Err(down)),
        ]);
        vec![all.to_string()]
    }

    fn schemas() -> Vec<String> {
        let whole = json!({
            "type": "object", "$defs": {"x": {"$ref": "#/$defs/x"}}, "additionalProperties": false,
            "properties": {"n": {"type": "integer", "minimum": 1}, "m": {"items": {"pattern": "^(a|b)*$"}}},
        });
        vec![whole.to_string(), json!({"$ref": "https://elsewhere.example/s"}).to_string()]
    }

    fn records() -> Vec<String> {
        let response = json!({
            "model": "m", "items": [], "calls": [], "text": "",
            "usage": {"input_tokens": 1, "cached_tokens": 0, "output_tokens": 1},
        });
        let turn = json!({"turn": 1, "at": 5, "ms": 1, "forced": "last_turn", "response": response});
        let head = EvidenceRecord { left_out: 9, head: 12, ..held() };
        vec![turn.to_string(), json!(held()).to_string(), json!(head).to_string()]
    }

    fn lines() -> Vec<String> {
        vec![
            "secret \"api-db\" 12.5 of 99\n2.5 of 99\nsecret\n\\u0073ecret".to_owned(),
            "(a|b)+[0-9]{1,3}$\nab12\n\nbb7 aab\n".to_owned(),
            "args.a.exists(x, x.matches('^a+$')) || size(args) > 2\n{\"a\": [\"aa\", \"b\"]}".to_owned(),
            "{% for a in labels %}{{ a | upper }}{{ labels[a] * 9 }}{% endfor %}\n{\"a\": \"b\"}".to_owned(),
        ]
    }

    fn pairs() -> Vec<String> {
        let schema = json!({
            "$defs": {"d": {"anyOf": [{"properties": {"x": {"$ref": "#/$defs/d"}}}, {"pattern": "^a{1,9}$"}]}},
            "oneOf": [{"$ref": "#/$defs/d"}, {"unevaluatedProperties": false}], "uniqueItems": true, "enum": [{"x": "a"}],
        });
        vec![json!([schema, {"x": {"x": ["a", "a"]}}]).to_string()]
    }

    proptest! {
        #[test]
        fn any_quotes_are_looked_up_within_their_bound(body in near(lines())) {
            quoted(&body);
        }

        #[test]
        fn any_pattern_searches_within_its_bound(body in near(lines())) {
            search(&body);
        }

        #[test]
        fn any_value_is_held_against_any_schema_within_the_bound(body in near(pairs())) {
            schema_and_value(&body);
        }

        #[test]
        fn any_rule_runs_within_its_bound(body in near(lines())) {
            rule(&body);
        }

        #[test]
        fn any_template_writes_no_more_than_it_may(body in near(lines())) {
            template(&body);
        }

        #[test]
        fn any_submission_is_a_report_or_has_reasons(body in near(submissions())) {
            submission(&body);
        }

        #[test]
        fn any_arguments_may_be_called_with_or_have_a_reason(body in near(calls())) {
            arguments(&body);
        }

        #[test]
        fn any_hosted_items_can_be_stored_and_shown(body in near(items())) {
            hosted_items(&body);
        }

        #[test]
        fn any_schema_may_be_offered_or_has_a_reason(body in near(schemas())) {
            tool_schema(&body);
        }

        #[test]
        fn any_stored_record_is_read_or_passed_over(body in near(records())) {
            stored(&body);
        }
    }
}
