//! `sentinel incidents delete`: takes away all that is kept of incidents, and leaves who did it and when.

use std::io::Write as _;

use anyhow::{Context, bail};
use sentinel_core::UnixMs;
use sentinel_core::incident::{IncidentId, State};
use sentinel_core::lifecycle::Deletion;

use crate::Exit;
use crate::args::Delete;
use crate::environment::Environment;
use crate::incidents::Place;
use crate::listing::Wanted;

/// Why an incident was not deleted; `None`: it was.
pub(crate) fn why_not(outcome: Deletion) -> Option<String> {
    Some(match outcome {
        Deletion::Deleted => return None,
        Deletion::NotOver(State::Pending | State::Running) => {
            "it is not over: abort it first (`sentinel incidents abort`)".to_owned()
        }
        Deletion::NotOver(state) => {
            format!(
                "it is {state}, but somebody is still to be told, or it fires again: try again in some minutes"
            )
        }
        Deletion::Notice => "it is a storm notice, which goes by itself".to_owned(),
        Deletion::Unknown => "there is no such incident".to_owned(),
    })
}

/// `KEY=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a label is given as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// An instant, or the beginning of a day.
pub(crate) fn time(text: &str) -> Result<UnixMs, String> {
    let day = || UnixMs::parse_rfc3339(&format!("{text}T00:00:00Z"));
    UnixMs::parse_rfc3339(text)
        .or_else(|_| day())
        .map_err(|_| format!("{text:?} is no time like 2026-01-31 or 2026-01-31T12:00:00Z"))
}

pub(crate) async fn run(args: Delete, env: &Environment) -> anyhow::Result<Exit> {
    let place = Place::of(&args.store).await?.keeping_back(&args.store, env);
    let mut out = anstream::stdout();
    let named = !args.ids.is_empty();
    let mut meant: Vec<IncidentId> = Vec::new();
    if named {
        for given in &args.ids {
            meant.push(place.whole_id(given).await?);
        }
    } else {
        let wanted = Wanted { until: args.before, label: args.label.clone(), ..Wanted::default() };
        meant.extend(place.all(&wanted).await?.into_iter().map(|incident| incident.id));
    }
    let (mut deleted, mut left) = (Vec::new(), Vec::new());
    for id in meant {
        if args.dry_run {
            deleted.push(id);
            continue;
        }
        let outcome = place.delete(&id, args.who.clone(), &args.store).await;
        match outcome.with_context(|| format!("incident {id}; deleted before it: {}", deleted.len()))? {
            None => deleted.push(id),
            Some(why) if named => bail!("incident {id} is not deleted: {why}"),
            Some(why) => left.push((id, why)),
        }
    }
    if args.store.json {
        let left: Vec<_> = left.iter().map(|(id, why)| serde_json::json!({"id": id, "why": why})).collect();
        let told = serde_json::json!({"deleted": deleted, "left": left, "dry_run": args.dry_run});
        writeln!(out, "{told}")?;
        return Ok(Exit::Done);
    }
    let does = if args.dry_run { "would be deleted" } else { "is deleted" };
    for id in &deleted {
        writeln!(out, "Incident {id} {does}.")?;
    }
    for (id, why) in &left {
        env.note(&format!("incident {id} is left: {why}"));
    }
    if deleted.is_empty() && left.is_empty() {
        writeln!(out, "No such incidents.")?;
    }
    Ok(Exit::Done)
}
