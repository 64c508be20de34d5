//! `sentinel eval`: a folder of cases, each an alert with what the tools say and what a good report holds, and a
//! scorecard. The whole pipeline runs; only the tools are the case's own, and, unless a live model is named, its turns.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use regex::{Regex, RegexBuilder};
use sentinel_config::{Settings, read_text};
use sentinel_core::report::{Report, Statement, Verdict};
use sentinel_worker::{Mind, Playbooks, Replacement};
use serde::{Deserialize, Serialize};

use crate::api::Detail;
use crate::args::Eval;
use crate::environment::Environment;
use crate::render::inert;
use crate::stage::{Stage, alone};
use crate::{Exit, replay, setup};

/// A case's file. Paths are relative to it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// What it is about, for people.
    #[serde(rename = "about")]
    _about: String,
    /// The webhook.
    event: PathBuf,
    /// A recorded run: the tools' outputs, and the turns where no live model is asked.
    run: PathBuf,
    expect: Expect,
}

/// What a good report holds. Texts are regular expressions, in any case of letters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Expect {
    verdict: Verdict,
    /// Each stands in the title, the summary, a supported hypothesis or a next step.
    #[serde(default)]
    must_mention: Vec<String>,
    /// None stands in a hypothesis.
    #[serde(default)]
    must_not_blame: Vec<String>,
}

/// How one case went.
#[derive(Debug, Serialize)]
struct Score {
    case: String,
    passed: bool,
    /// Why not.
    failures: Vec<String>,
    verdict: Option<Verdict>,
    /// Hypotheses and causes that were ruled out.
    claims: usize,
    /// Those of them that no evidence supports.
    unsupported: usize,
    turns: u32,
    input_tokens: u64,
    /// `None`: the model has no price in the configuration.
    usd: Option<f64>,
    ms: u64,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Scorecard {
    /// The live model that was asked; `None`: the recorded turns.
    model: Option<String>,
    cases: Vec<Score>,
    passed: usize,
    pass_rate: f64,
    unsupported_claim_rate: f64,
    usd: Option<f64>,
    ms: u64,
}

pub(crate) async fn run(args: Eval, env: &Environment) -> anyhow::Result<Exit> {
    let mut loaded = match setup::load_to_run(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run.loaded,
        Err(exit) => return Ok(exit),
    };
    setup::logs_of_a_trial(&loaded, env)?;
    alone(&mut loaded);
    for card in &mut loaded.settings.cards {
        // A case's tools are written down without what a server says about itself.
        card.lock = None;
        if let Some(model) = &args.model {
            card.model = model.as_str().into();
            card.fallback_models.clear();
        }
    }
    let playbooks = match sentinel_worker::compile(&loaded) {
        Ok(playbooks) => playbooks,
        Err(problems) => return Ok(setup::tell(&problems, env)),
    };
    let files = files(&args.dir)?;
    let mut cases = Vec::new();
    for file in &files {
        cases.push(one(file, &loaded.settings, &playbooks, args.model.is_some()).await?);
    }
    let scorecard = Scorecard::of(args.model, cases);
    let mut out = anstream::stdout();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&scorecard)?)?;
    } else {
        writeln!(out, "{}", text(&scorecard))?;
    }
    Ok(if scorecard.passed == scorecard.cases.len() { Exit::Done } else { Exit::Failed })
}

/// The cases of a folder, by name.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read the folder {}", dir.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    if files.is_empty() {
        bail!("there is no case (*.json) in {}", dir.display());
    }
    Ok(files)
}

/// Reads a case: what is wrong with it is an error, not a bad score.
fn read(file: &Path) -> anyhow::Result<(Case, Wanted)> {
    let shown = file.display();
    let text = read_text(file).with_context(|| format!("cannot read the case {shown}"))?;
    let case: Case = serde_json::from_str(&text).with_context(|| format!("{shown} is not a case"))?;
    let wanted = Wanted::of(&case.expect).with_context(|| format!("{shown} is not a case"))?;
    Ok((case, wanted))
}

async fn one(
    file: &Path,
    settings: &Settings,
    playbooks: &Arc<Playbooks>,
    live: bool,
) -> anyhow::Result<Score> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (case, wanted) = read(file)?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let event = folder.join(&case.event);
    let body = replay::read(&event)?;
    let recorded = replay::recorded(&folder.join(&case.run))?;
    let mut stage = Stage::new(settings, Arc::clone(playbooks), None, None).await?;
    let run = match (live, stage.mind()) {
        (false, _) => recorded,
        (true, Mind::Model(model)) => Replacement { model: model.clone(), tools: recorded.tools },
        (true, Mind::None { reason }) => bail!("no model can be asked: {reason}"),
    };
    let _ = stage.arrive(&settings.cards, &event.display().to_string(), &body, Some(&run)).await?;
    stage.settle().await?;
    let details = stage.details().await?;
    let [detail] = details.as_slice() else {
        bail!("{}: its event opens {} incidents, not one", file.display(), details.len());
    };
    Ok(wanted.score(name, detail))
}

/// [`Expect`], compiled.
struct Wanted {
    verdict: Verdict,
    mentioned: Vec<Regex>,
    not_blamed: Vec<Regex>,
}

impl Wanted {
    fn of(expect: &Expect) -> anyhow::Result<Self> {
        let compiled = |patterns: &[String]| -> anyhow::Result<Vec<Regex>> {
            patterns.iter().map(|p| Ok(RegexBuilder::new(p).case_insensitive(true).build()?)).collect()
        };
        Ok(Self {
            verdict: expect.verdict,
            mentioned: compiled(&expect.must_mention)?,
            not_blamed: compiled(&expect.must_not_blame)?,
        })
    }

    fn score(&self, case: String, detail: &Detail) -> Score {
        let Some(report) = &detail.report else {
            let reason = detail.reason.clone().unwrap_or_else(|| detail.state.to_string());
            return Score {
                case,
                passed: false,
                failures: vec![format!("no report: {reason}")],
                verdict: None,
                claims: 0,
                unsupported: 0,
                turns: 0,
                input_tokens: 0,
                usd: Some(0.0),
                ms: 0,
            };
        };
        let failures = self.failures(report);
        let claims: Vec<&Statement> = report.hypotheses.iter().chain(&report.ruled_out).collect();
        Score {
            case,
            passed: failures.is_empty(),
            failures,
            verdict: Some(report.verdict),
            claims: claims.len(),
            unsupported: claims.iter().filter(|claim| claim.supported != Some(true)).count(),
            turns: report.usage.turns,
            input_tokens: report.usage.input_tokens,
            usd: report.usage.usd,
            ms: report.usage.ms,
        }
    }

    fn failures(&self, report: &Report) -> Vec<String> {
        let mut failures = Vec::new();
        if report.verdict != self.verdict {
            failures.push(format!("the verdict is {}, not {}", report.verdict, self.verdict));
        }
        let supported = report.hypotheses.iter().filter(|h| h.supported == Some(true));
        let said: Vec<&str> = [report.title.as_str(), report.summary.as_str()]
            .into_iter()
            .chain(supported.map(|h| h.statement.as_str()))
            .chain(report.next_steps.iter().map(|step| step.action.as_str()))
            .collect();
        for wanted in &self.mentioned {
            if !said.iter().any(|text| wanted.is_match(text)) {
                failures.push(format!("nothing mentions {wanted}"));
            }
        }
        for unwanted in &self.not_blamed {
            if let Some(h) = report.hypotheses.iter().find(|h| unwanted.is_match(&h.statement)) {
                failures.push(format!("{unwanted} is blamed: {}", h.statement));
            }
        }
        failures
    }
}

impl Scorecard {
    fn of(model: Option<String>, cases: Vec<Score>) -> Self {
        let passed = cases.iter().filter(|score| score.passed).count();
        let (claims, unsupported) =
            cases.iter().fold((0, 0), |(claims, none), s| (claims + s.claims, none + s.unsupported));
        Self {
            model,
            passed,
            pass_rate: rate(passed, cases.len()),
            unsupported_claim_rate: rate(unsupported, claims),
            usd: cases.iter().map(|score| score.usd).sum(),
            ms: cases.iter().map(|score| score.ms).sum(),
            cases,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of cases and claims")]
fn rate(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn text(card: &Scorecard) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["CASE", "", "VERDICT", "UNSUPPORTED", "TURNS", "COST", "TIME"]);
    for s in &card.cases {
        table.add_row([
            inert(&s.case),
            if s.passed { "passed".to_owned() } else { "FAILED".to_owned() },
            s.verdict.map_or_else(|| "-".to_owned(), |v| v.to_string()),
            format!("{}/{}", s.unsupported, s.claims),
            s.turns.to_string(),
            cost(s.usd),
            time(s.ms),
        ]);
    }
    // Writing to a String cannot fail.
    let mut text = table.trim_fmt();
    for s in card.cases.iter().filter(|s| !s.passed) {
        for failure in &s.failures {
            let _ = write!(text, "\n{}: {}", inert(&s.case), inert(failure));
        }
    }
    let by = card.model.as_deref().map_or("recorded turns".to_owned(), inert);
    let _ = write!(
        text,
        "\n{} of {} passed ({:.0}%), {:.1}% of the claims unsupported, {} in all, {}, {by}",
        card.passed,
        card.cases.len(),
        card.pass_rate * 100.0,
        card.unsupported_claim_rate * 100.0,
        cost(card.usd),
        time(card.ms),
    );
    text
}

fn cost(usd: Option<f64>) -> String {
    usd.map_or_else(|| "unknown".to_owned(), |usd| format!("${usd:.4}"))
}

fn time(ms: u64) -> String {
    format!("{:.1} s", Duration::from_millis(ms).as_secs_f64())
}
