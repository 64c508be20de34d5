//! `sentinel doctor`: everything that a first evening trips over, tried.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use reqwest::header::DATE;
use sentinel_aws::MachineClock;
use sentinel_config::{Settings, SinkKind};
use sentinel_core::UnixMs;
use sentinel_core::ports::Clock;
use sentinel_local::{Backend, LocalError};

use crate::Exit;
use crate::args::Doctor;
use crate::environment::Environment;
use crate::finding::{self, Finding};
use crate::{models, setup, tools};

/// How long anybody has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far a clock may be off: signatures of AWS and of webhooks are refused from five minutes on.
const CLOCK_OFF: Duration = Duration::from_mins(2);

pub(crate) async fn run(args: Doctor, env: &Environment) -> anyhow::Result<Exit> {
    let to_run = match setup::load_whole(args.config.config.as_deref(), env).await? {
        Ok(to_run) => to_run,
        Err(exit) => return Ok(exit),
    };
    let playbooks = match sentinel_worker::compile(&to_run.loaded) {
        Ok(playbooks) => playbooks,
        Err(problems) => return Ok(setup::tell(&problems, env)),
    };
    setup::logs(&to_run.loaded, env)?;
    let settings = &to_run.loaded.settings;
    let cards = settings.cards.len();
    let mut found =
        vec![Finding::good("configuration", format!("{}: {cards} cards", to_run.source.name.display()))];
    let warned = to_run.loaded.warnings.iter().cloned();
    for warning in warned.chain(sentinel_worker::warnings(&to_run.loaded, &playbooks)) {
        found.push(Finding::note("configuration", warning.to_string(), "`sentinel validate` says it again"));
    }
    if let Err(problems) = settings.refuse_unread_secrets() {
        let unread = problems.diagnostics.iter();
        found.extend(
            unread.map(|d| Finding::trouble("configuration", d.to_string(), "`sentinel up` refuses this")),
        );
    }
    found.extend(models::findings(settings).await?);
    let folder = to_run.source.base_dir.as_deref().unwrap_or(&env.cwd);
    found.extend(tools::findings(settings, folder, env).await?);
    found.extend(sinks(settings).await?);
    found.push(clock(settings).await);
    found.push(data_folder(&args.data_dir).await);
    finding::tell(&found, args.json, env)
}

/// The destinations of cards, as far as they can be asked without being told something.
async fn sinks(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let http = sentinel_worker::http_client(settings);
    let clock: Arc<dyn Clock> = Arc::new(MachineClock::default());
    let built = sentinel_worker::sinks(settings, &http, &clock)?;
    let asked = built.iter().map(async |(name, sink)| {
        let of = format!("sink {name}");
        match tokio::time::timeout(PATIENCE, sink.check()).await {
            Ok(Ok(Some(whose))) => Finding::good(&of, format!("takes the credentials: {whose}")),
            Ok(Ok(None)) if settings.sink(name).is_some_and(|s| matches!(s.kind, SinkKind::Log { .. })) => {
                Finding::good(&of, "is the process's log")
            }
            Ok(Ok(None)) => Finding::note(
                &of,
                "cannot be asked without being told something",
                "`sentinel replay EVENT --deliver` tells it a sample",
            ),
            Ok(Err(error)) => {
                Finding::trouble(&of, error.to_string(), "mend its token, its address or its channel")
            }
            Err(_) => Finding::trouble(
                &of,
                format!("does not answer within {} s", PATIENCE.as_secs()),
                "mend its address, or the way out (`network.proxy`)",
            ),
        }
    });
    let mut found: Vec<Finding> = join_all(asked).await;
    let unbuilt = settings.sinks.iter().filter_map(|sink| match &sink.kind {
        SinkKind::Unbuilt(kind) => Some((&sink.name, kind)),
        _ => None,
    });
    found.extend(unbuilt.map(|(name, kind)| {
        let seen = format!("is of type {kind}, which is not built: nothing is told there");
        Finding::trouble(&format!("sink {name}"), seen, "name another sink in the cards")
    }));
    Ok(found)
}

/// The machine's clock, against the `Date` of a model's service.
async fn clock(settings: &Settings) -> Finding {
    let unknown = |why: String| {
        Finding::note("clock", format!("could not be compared: {why}"), "see that it is set by NTP")
    };
    let Some(service) = settings.models.services().find(|service| service.can_be_asked()) else {
        return unknown("no model's service can be asked".to_owned());
    };
    let http = sentinel_worker::http_client(settings);
    let asked = async {
        let url = service.base_url.clone();
        http.check_url(&url).map_err(|e| e.to_string())?;
        let client = http.client().map_err(|e| e.to_string())?;
        // Whatever it answers has a date.
        let answer =
            client.head(url).timeout(PATIENCE).send().await.map_err(|e| e.without_url().to_string())?;
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
        date.ok_or_else(|| format!("{} says no date", service.name))
    };
    let theirs = match asked.await {
        Ok(date) => date,
        Err(why) => return unknown(why),
    };
    let theirs = theirs.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let theirs = UnixMs::new(i64::try_from(theirs.as_millis()).unwrap_or(i64::MAX));
    let ours = MachineClock::default().now();
    let off = ours.since(theirs).max(theirs.since(ours));
    if off > CLOCK_OFF {
        let seen = format!("is {} s off what {} says", off.as_secs(), service.name);
        return Finding::trouble(
            "clock",
            seen,
            "set it (NTP): requests that are signed are refused otherwise",
        );
    }
    Finding::good("clock", format!("agrees with {}", service.name))
}

/// The data folder, and the `up` that holds it.
async fn data_folder(folder: &Path) -> Finding {
    let of = format!("data folder {}", folder.display());
    if !folder.is_dir() {
        return Finding::note(&of, "is not there", "`sentinel up` makes it");
    }
    match Backend::open(folder).await {
        Ok(_) => Finding::good(&of, "can be read and written; no `sentinel up` runs on it"),
        Err(LocalError::Held { url: Some(url), .. }) => {
            let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
            let asked = async { client?.get(format!("{url}/healthz")).send().await?.error_for_status() };
            match asked.await {
                Ok(_) => Finding::good(&of, format!("`sentinel up` runs on it, and answers at {url}")),
                Err(error) => Finding::trouble(
                    &of,
                    format!("`sentinel up` holds it and does not answer at {url}: {}", error.without_url()),
                    "end it, and start it again",
                ),
            }
        }
        Err(error) => Finding::trouble(
            &of,
            error.to_string(),
            "give it to the user that runs Sentinel, or name another",
        ),
    }
}
