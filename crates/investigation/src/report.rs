//! The report: its schema, the checks that code makes, and what becomes of the verdict.

use std::sync::OnceLock;

use sentinel_core::alert::Labels;
use sentinel_core::report::{Citation, NextStep, Report, ReportSource, Statement, Usage, Verdict};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments;
use crate::evidence::{CallStatus, EvidenceRecord, normal_id};
use crate::fence::clip;
use crate::quotes::{self, Looked, Mark, Searchable};
use crate::schema::Schema;
use crate::situation::Situation;

/// The JSON Schema of what the model hands to `submit_report`. No property is optional and no other is allowed, so
/// that it also serves where a model is held to it strictly.
pub(crate) fn schema() -> Value {
    let citations = json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "id": {"type": "string", "description": "The evidence, e.g. E1."},
                "quote": {"type": "string", "description": "Text copied from it, character by character."}
            },
            "required": ["id", "quote"],
            "additionalProperties": false
        }
    });
    json!({
        "type": "object",
        "properties": {
            "verdict": {"type": "string", "enum": ["action_required", "no_action", "inconclusive"]},
            "title": {"type": "string", "description": "One line: what is wrong with what."},
            "summary": {"type": "string", "description": "A few sentences for whoever is on call."},
            "hypotheses": {
                "type": "array",
                "description": "Possible causes, the likeliest first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "statement": {"type": "string"},
                        "confidence": {"type": "number", "description": "From 0 to 1."},
                        "evidence": citations
                    },
                    "required": ["statement", "confidence", "evidence"],
                    "additionalProperties": false
                }
            },
            "ruled_out": {
                "type": "array",
                "description": "Causes that the evidence speaks against.",
                "items": {
                    "type": "object",
                    "properties": {"statement": {"type": "string"}, "evidence": citations},
                    "required": ["statement", "evidence"],
                    "additionalProperties": false
                }
            },
            "gaps": {"type": "array", "description": "What could not be found out.", "items": {"type": "string"}},
            "next_steps": {
                "type": "array",
                "description": "What a person could do next.",
                "items": {
                    "type": "object",
                    "properties": {"action": {"type": "string"}, "why": {"type": "string"}},
                    "required": ["action", "why"],
                    "additionalProperties": false
                }
            }
        },
        "required": ["verdict", "title", "summary", "hypotheses", "ruled_out", "gaps", "next_steps"],
        "additionalProperties": false
    })
}

/// What the model hands in.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(crate) struct Submission {
    verdict: Verdict,
    title: String,
    summary: String,
    hypotheses: Vec<Statement>,
    ruled_out: Vec<Statement>,
    gaps: Vec<String>,
    next_steps: Vec<NextStep>,
}

/// The longest report that is read, in bytes of JSON: with what code adds it has to fit into an item of 400 KB.
pub(crate) const LONGEST_REPORT: usize = 128 * 1024;

/// The most problems of a report that the model is told.
const MOST_TOLD: usize = 40;

static SCHEMA: OnceLock<Result<Schema, String>> = OnceLock::new();

/// The report that stands in a text: the text itself, or the one block of code in it, where that keeps the schema.
pub(crate) fn in_text(text: &str) -> Option<&str> {
    let fenced = || {
        let (_, rest) = text.split_once("```")?;
        let (block, rest) = rest.split_once("```")?;
        let is_only_one = !rest.contains("```");
        // The first line names the language.
        let json = block.get(block.find('{')?..)?;
        is_only_one.then_some(json)
    };
    let bare = Some(text).filter(|text| text.trim_start().starts_with('{'));
    bare.or_else(fenced).filter(|report| read(report).is_ok())
}

/// Reads what the model handed in.
///
/// # Errors
/// What is wrong with it, for the model.
pub(crate) fn read(written: &str) -> Result<Submission, Vec<String>> {
    if written.len() > LONGEST_REPORT {
        let reason = format!("the report has {} bytes, and {LONGEST_REPORT} at most are read", written.len());
        return Err(vec![reason]);
    }
    let read =
        arguments::read(written, &mut |_| {}).map_err(|e| vec![format!("the report is not JSON: {e}")])?;
    if let Some(key) = read.duplicate {
        return Err(vec![format!(
            "the key {:?} stands twice in one object: write each key once",
            clip(&key, 80)
        )]);
    }
    let value = read.value;
    let schema = SCHEMA.get_or_init(|| Schema::new(&schema())).as_ref().map_err(|e| vec![e.clone()])?;
    let broken = schema.problems(&value, "the arguments");
    if !broken.is_empty() {
        return Err(broken);
    }
    serde_json::from_value(value).map_err(|e| vec![e.to_string()])
}

/// A report whose quotes code has looked up.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Draft {
    submission: Submission,
    /// What the model is asked to mend; empty: nothing.
    pub(crate) problems: Vec<String>,
    /// Quotes that stand where they are said to, and all quotes.
    pub(crate) found: usize,
    pub(crate) quotes: usize,
}

/// Looks up every quote, and sets `found` and `supported`.
pub(crate) fn check<'e>(
    mut submission: Submission,
    find: impl Fn(&str) -> Option<&'e EvidenceRecord>,
    alert: &Searchable,
) -> Draft {
    let mut draft_problems = Vec::new();
    let statements = submission.hypotheses.iter().chain(&submission.ruled_out);
    let cited: Vec<_> =
        statements.flat_map(|s| &s.evidence).map(|citation| (&*citation.id, &*citation.quote)).collect();
    let quotes = cited.len();
    let mut all = quotes::check(&cited, find, alert).into_iter();
    let mut found = 0;
    for statement in submission.hypotheses.iter_mut().chain(&mut submission.ruled_out) {
        let mut weak = Vec::new();
        let (mut stands, mut invented) = (false, false);
        for (citation, Looked { mark, original }) in statement.evidence.iter_mut().zip(&mut all) {
            found += usize::from(mark.is_found());
            citation.found = Some(mark.is_found());
            citation.id = normal_id(&citation.id);
            stands |= mark == Mark::Stands;
            invented |= !mark.is_found();
            if let Some(problem) = mark.problem() {
                let line = problem_line(citation, problem);
                if mark.is_found() { weak.push(line) } else { draft_problems.push(line) }
            }
            // What is shown is the original's words, without what the model put around them.
            if let Some(original) = original.filter(|original| !is_same(original, &citation.quote)) {
                citation.quote = original;
            }
        }
        statement.supported = Some(stands);
        if !stands && !invented {
            draft_problems.append(&mut weak);
        }
    }
    for hypothesis in &mut submission.hypotheses {
        let confidence = hypothesis.confidence.filter(|c| c.is_finite()).unwrap_or(0.0);
        hypothesis.confidence = Some(confidence.clamp(0.0, 1.0));
    }
    for cause in &mut submission.ruled_out {
        cause.confidence = None;
    }
    let supported = submission.hypotheses.iter().any(|h| h.supported == Some(true));
    if submission.verdict != Verdict::Inconclusive && !supported {
        draft_problems.push(format!(
            "the verdict {} needs at least one hypothesis with a quote that stands in the evidence",
            submission.verdict
        ));
    }
    let more = draft_problems.len().saturating_sub(MOST_TOLD);
    if more > 0 {
        draft_problems.truncate(MOST_TOLD);
        draft_problems.push(format!("and {more} more"));
    }
    Draft { submission, problems: draft_problems, found, quotes }
}

/// Whether two texts differ in their blanks at most.
fn is_same(one: &str, other: &str) -> bool {
    one.split_whitespace().eq(other.split_whitespace())
}

fn problem_line(citation: &Citation, problem: &str) -> String {
    format!("{} {:?} {problem}", clip(&citation.id, 20), clip(&citation.quote, 200))
}

/// What both kinds of report are made with.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) situation: &'a Situation,
    pub(crate) gaps: &'a [String],
    pub(crate) outputs: Vec<&'a EvidenceRecord>,
    pub(crate) model: Option<String>,
    pub(crate) usage: Usage,
}

impl Facts<'_> {
    /// Everything that was missing, by code.
    fn all_gaps(&self) -> Vec<String> {
        let mut gaps = self.gaps.to_vec();
        if self.situation.truncated_alerts > 0 {
            gaps.push(format!("{} alerts were left out by the sender.", self.situation.truncated_alerts));
        }
        for output in self.outputs.iter().filter(|o| !o.ok) {
            let what = match output.status {
                CallStatus::Answered | CallStatus::ToolError => "failed",
                CallStatus::NoAnswer => "gave no answer",
                CallStatus::Refused => "was not called",
            };
            let reason = clip(&output.text.split_whitespace().collect::<Vec<_>>().join(" "), 200);
            gaps.push(format!("{} ({}) {what}: {reason}", output.id, output.tool));
        }
        gaps
    }
}

/// Makes the report of a draft: a conclusion needs a supported hypothesis.
pub(crate) fn conclude(draft: Draft, facts: Facts<'_>, recorded: bool) -> Report {
    let Submission { mut verdict, title, summary, hypotheses, ruled_out, mut gaps, next_steps } =
        draft.submission;
    if verdict != Verdict::Inconclusive && !hypotheses.iter().any(|h| h.supported == Some(true)) {
        gaps.push(format!(
            "The model concluded {verdict}, but no hypothesis is supported by a quote that stands in the evidence."
        ));
        verdict = Verdict::Inconclusive;
    }
    for gap in facts.all_gaps() {
        if !gaps.contains(&gap) {
            gaps.push(gap);
        }
    }
    Report {
        verdict,
        title: clip(&title.split_whitespace().collect::<Vec<_>>().join(" "), 300),
        summary,
        hypotheses,
        ruled_out,
        gaps,
        next_steps,
        checklist: Vec::new(),
        notes: Vec::new(),
        source: if recorded { ReportSource::Recorded } else { ReportSource::Model },
        model: facts.model,
        truncated_alerts: facts.situation.truncated_alerts,
        usage: facts.usage,
    }
}

/// The report without a conclusion: what was gathered, and why nobody concluded from it.
pub(crate) fn evidence_only(reason: &str, annotations: &Labels, facts: Facts<'_>) -> Report {
    let given: Vec<&&EvidenceRecord> = facts.outputs.iter().filter(|o| o.ok).collect();
    let mut summary = format!(
        "Evidence only: {reason}. {} of {} tool calls gave an output.",
        given.len(),
        facts.outputs.len()
    );
    for (_, text) in annotations.iter().filter(|(name, _)| matches!(name.as_str(), "summary" | "description"))
    {
        summary.push_str(" The alert says: ");
        summary.push_str(&clip(text, 400));
    }
    let mut next_steps: Vec<NextStep> = given
        .iter()
        .map(|output| NextStep {
            action: format!(
                "Read {} ({} {})",
                output.id,
                output.tool,
                clip(&json!(output.arguments).to_string(), 200)
            ),
            why: format!("It was gathered and nobody has concluded from it ({} bytes).", output.bytes),
        })
        .collect();
    for (_, text) in annotations.iter().filter(|(name, _)| matches!(name.as_str(), "runbook" | "runbook_url"))
    {
        next_steps.push(NextStep {
            action: format!("Follow the runbook: {}", clip(text, 300)),
            why: "The alert names it.".to_owned(),
        });
    }
    let mut gaps = vec![format!("No conclusion: {reason}.")];
    gaps.extend(facts.all_gaps());
    Report {
        verdict: Verdict::Inconclusive,
        title: clip(&facts.situation.title(), 300),
        summary,
        hypotheses: Vec::new(),
        ruled_out: Vec::new(),
        gaps,
        next_steps,
        checklist: Vec::new(),
        notes: Vec::new(),
        source: ReportSource::EvidenceOnly,
        model: facts.model,
        truncated_alerts: facts.situation.truncated_alerts,
        usage: facts.usage,
    }
}
