//! `sentinel audit`: holds incidents' records against their hash chains, and writes one as a file that verifies offline.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sentinel_core::UnixMs;
use sentinel_core::chain::{IncidentRecord, Kind, PublicKey, Verified, read_export, verify, write_export};
use sentinel_core::incident::{Gen, IncidentId};
use sentinel_core::ports::{IncidentStore, StoreError};
use serde::Serialize;

use crate::Exit;
use crate::args::{Audit, AuditCommand, AuditExport, AuditVerify};
use crate::environment::Environment;
use crate::incidents::Place;
use crate::render;

/// The largest export that is read, in bytes.
const LARGEST_FILE: u64 = 1 << 30;
/// How often `--all` says how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Audit, env: &Environment) -> anyhow::Result<Exit> {
    match args.command {
        AuditCommand::Verify(args) => match &args.file {
            Some(file) => Ok(tell(&[from_file(file, args.key.as_ref())?], args.store.json)?),
            None => from_store(args, env).await,
        },
        AuditCommand::Export(args) => export(args).await,
        AuditCommand::Key(args) => {
            let key = sentinel_local::make_signing_key(&args.data_dir)?;
            writeln!(anstream::stdout(), "{}", key.public())?;
            Ok(Exit::Done)
        }
    }
}

/// What came of one incident.
#[derive(Serialize)]
struct Looked {
    incident: IncidentId,
    #[serde(flatten)]
    verified: Verified,
}

fn from_file(file: &Path, by: Option<&PublicKey>) -> anyhow::Result<Looked> {
    let size = fs::metadata(file).with_context(|| format!("{}", file.display()))?.len();
    if size > LARGEST_FILE {
        bail!("{} has {size} bytes: no export is larger than {LARGEST_FILE}", file.display());
    }
    let bytes = fs::read(file).with_context(|| format!("{}", file.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let (record, found) = read_export(&text);
    let mut verified = verify(&record, by);
    verified.findings.splice(0..0, found);
    Ok(Looked { incident: record.id, verified })
}

async fn from_store(args: AuditVerify, env: &Environment) -> anyhow::Result<Exit> {
    let place = Place::of(&args.store).await?;
    if let Some(id) = &args.id {
        let id = place.whole_id(id).await?;
        let Some(record) = place.whole_record(&id).await? else { bail!("there is no incident {id}") };
        return tell(
            &[Looked { incident: id, verified: verify(&record, args.key.as_ref()) }],
            args.store.json,
        );
    }
    let since = match &args.since {
        Some(text) => UnixMs::parse_rfc3339(text)
            .with_context(|| format!("--since takes a time like 2026-01-31T12:00:00Z, not {text:?}"))?,
        None => UnixMs::new(i64::MIN),
    };
    all(&place, since, args.key.as_ref(), args.store.json, env).await
}

/// Every incident whose latest generation is not older, the oldest first: so that what was not reached can be gone on
/// with by the time that was said last.
async fn all(
    place: &Place,
    since: UnixMs,
    by: Option<&PublicKey>,
    json: bool,
    env: &Environment,
) -> anyhow::Result<Exit> {
    let mut incidents = place.every().await?;
    incidents.retain(|(generation, _)| generation.0 >= since.get());
    incidents.sort();
    let (number, began) = (incidents.len(), Instant::now());
    let (mut entries, mut broken, mut said) = (0_u64, 0_u64, began);
    let mut out = anstream::stdout();
    for (done, (generation, id)) in incidents.iter().enumerate() {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let at = UnixMs::new(generation.0);
            env.note(&format!(
                "{done} of {number} incidents, {entries} entries; to go on from here: --since {at}"
            ));
        }
        // Deleted since it was listed.
        let Some(record) = place.whole_record(id).await? else { continue };
        let looked = Looked { incident: id.clone(), verified: verify(&record, by) };
        entries += looked.verified.entries;
        if looked.verified.breaches().next().is_some() {
            broken += 1;
        }
        if json {
            writeln!(out, "{}", serde_json::to_string(&looked)?)?;
        } else if !looked.verified.findings.is_empty() {
            write!(out, "{}", words(&looked))?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = entries as f64 / seconds.max(1e-9);
    env.note(&format!(
        "{number} incidents, {entries} entries in {seconds:.1} s ({rate:.0}/s); {broken} do not verify"
    ));
    Ok(if broken == 0 { Exit::Done } else { Exit::Failed })
}

fn tell(looked: &[Looked], json: bool) -> anyhow::Result<Exit> {
    let mut out = anstream::stdout();
    let mut exit = Exit::Done;
    for one in looked {
        if json {
            writeln!(out, "{}", serde_json::to_string_pretty(one)?)?;
        } else {
            write!(out, "{}", words(one))?;
        }
        if one.verified.breaches().next().is_some() {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// For people.
fn words(looked: &Looked) -> String {
    let Verified { entries, children, n, hash, signed_by, findings } = &looked.verified;
    let breaches = looked.verified.breaches().count();
    let verdict =
        if breaches == 0 { "verifies".to_owned() } else { format!("DOES NOT VERIFY, {breaches} breaches") };
    let mut text = format!(
        "Incident {} {verdict}: {entries} entries, {children} children, the last entry is {n} with hash {hash}\n",
        looked.incident
    );
    if let Some(key) = signed_by {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "  signed by {}", render::inert(key));
    }
    for finding in findings {
        let kind = if finding.kind == Kind::Breach { "breach" } else { "note" };
        let _ = writeln!(text, "  {kind}: {}", render::inert(&finding.to_string()));
    }
    text
}

async fn export(args: AuditExport) -> anyhow::Result<Exit> {
    let place = Place::of(&args.store).await?;
    let id = place.whole_id(&args.id).await?;
    let Some(record) = place.whole_record(&id).await? else { bail!("there is no incident {id}") };
    let text = write_export(&record)?;
    fs::write(&args.file, &text).with_context(|| format!("{}", args.file.display()))?;
    let looked = Looked { incident: id, verified: verify(&record, None) };
    let mut out = anstream::stdout();
    if args.store.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&looked)?)?;
    } else {
        writeln!(out, "{} bytes in {}", text.len(), args.file.display())?;
        write!(out, "{}", words(&looked))?;
    }
    // What is broken is exported as it is: it is evidence.
    Ok(Exit::Done)
}

/// Everything that a store holds of an incident; `None`: nothing.
pub(crate) async fn whole_record(
    store: &dyn IncidentStore,
    id: &IncidentId,
) -> Result<Option<IncidentRecord>, StoreError> {
    let (head, children) = (store.load(id).await?, store.all_children(id).await?);
    if head.is_none() && children.is_empty() {
        return Ok(None);
    }
    Ok(Some(IncidentRecord::new(id.clone(), head, children)))
}

/// Incidents with their latest generations.
pub(crate) type Listed = Vec<(Gen, IncidentId)>;
