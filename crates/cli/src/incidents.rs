//! `sentinel incidents`: through the running `up` where one holds the data folder, else from its store.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use sentinel_aws::{Aws, CallLimits, DynamoStore, MachineClock, fresh_ids};
use sentinel_core::chain::{IncidentRecord, read_export};
use sentinel_core::drive::{Start, drive};
use sentinel_core::incident::IncidentId;
use sentinel_core::lifecycle::{Abort, Aborted, Rules};
use sentinel_core::ports::{Clock as _, IncidentStore, Ports};
use sentinel_core::redact::Redactor;
use sentinel_core::view::Display;
use sentinel_local::{Backend, LocalError, LocalQueue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Exit;
use crate::access::TOKEN_FILE;
use crate::api::{self, Detail, Record, Summary};
use crate::args::{DATA_DIR, Incidents, IncidentsCommand, StoreFlags};
use crate::environment::Environment;
use crate::listing::{self, Cursor, Listed, Wanted};
use crate::render::{Screen, stored};
use crate::server::{ByWhom, CURSOR};
use crate::{audit, case, deletion, pager, render, resume, setup};

/// The most incidents that a running `up` lists in one answer.
const PAGE: usize = 1000;

pub(crate) async fn run(args: Incidents, env: &Environment) -> anyhow::Result<Exit> {
    let mut out = anstream::stdout();
    match args.command {
        IncidentsCommand::List(args) => {
            let place = Place::of(&args.store).await?.keeping_back(&args.store, env);
            let limit = usize::try_from(args.limit)?;
            let Listed { incidents, next } = place.list(&args.wanted, args.cursor, limit).await?;
            if args.store.json {
                writeln!(out, "{}", serde_json::to_string_pretty(&incidents)?)?;
            } else if incidents.is_empty() {
                writeln!(out, "No incidents.")?;
            } else {
                writeln!(out, "{}", render::listing(&incidents, MachineClock::default().now()))?;
            }
            if let Some(next) = next {
                env.note(&format!("there may be more: --cursor {next}"));
            }
        }
        IncidentsCommand::Show(args) => {
            let place = Place::of(&args.store).await?.keeping_back(&args.store, env);
            let id = place.whole_id(&args.id).await?;
            let Some(detail) = place.detail(&id).await? else { bail!("there is no incident {id}") };
            if args.store.json {
                writeln!(out, "{}", serde_json::to_string_pretty(&detail)?)?;
            } else if let Some(deleted) = &detail.deleted {
                writeln!(
                    out,
                    "Incident {id} was deleted by {} at {}.",
                    render::inert(&deleted.who),
                    deleted.at
                )?;
            } else {
                let more = deeper(&detail, &of_store(&args.store));
                let screen = Screen { width: env.columns, full: args.full, more: &more };
                write!(out, "{}", render::incident(&detail, &screen))?;
            }
        }
        IncidentsCommand::Evidence(args) => {
            let record = kept(&args.id, &args.store, env).await?;
            match &args.evidence {
                None => {
                    show(&stored::evidence_list(&record, env.columns), &record.evidence, &args.store, env)?;
                }
                Some(given) => {
                    let Some(one) = stored::find(&record, given) else {
                        let ids =
                            record.evidence.iter().map(|e| e.id.as_str()).collect::<Vec<_>>().join(", ");
                        let has = if ids.is_empty() { "none".to_owned() } else { ids };
                        bail!("the incident has no evidence {given:?}; it has {has}");
                    };
                    let Some(text) = stored::evidence(&record, one, args.around.as_deref()) else {
                        bail!("that text does not stand in {}; without --around all of it is shown", one.id);
                    };
                    show(&text, one, &args.store, env)?;
                }
            }
        }
        IncidentsCommand::Turns(args) => {
            let record = kept(&args.id, &args.store, env).await?;
            show(&stored::turns(&record, env.columns), &record.turns, &args.store, env)?;
        }
        IncidentsCommand::Alerts(args) => {
            let record = kept(&args.id, &args.store, env).await?;
            show(&stored::alerts(&record, env.columns), &record.notifications, &args.store, env)?;
        }
        IncidentsCommand::Record(args) => {
            let record = kept(&args.id, &args.store, env).await?;
            show(&stored::record(&record, env.columns), &record, &args.store, env)?;
        }
        IncidentsCommand::Export(args) => return case::run(args, env).await,
        IncidentsCommand::Delete(args) => return deletion::run(args, env).await,
        IncidentsCommand::Resume(args) => return resume::run(args).await,
        IncidentsCommand::Abort(args) => {
            let place = Place::of(&args.store).await?.keeping_back(&args.store, env);
            let id = place.whole_id(&args.id).await?;
            place.abort(&id, args.who, &args.store, env).await?;
            if args.store.json {
                writeln!(out, "{}", serde_json::json!({"id": id, "outcome": "aborted"}))?;
            } else {
                writeln!(out, "Incident {id} is aborted.")?;
            }
        }
    }
    Ok(Exit::Done)
}

/// The commands that go deeper into an incident of the store that `of_store` names.
pub(crate) fn deeper(detail: &Detail, of_store: &str) -> Vec<String> {
    let id: String = detail.id.as_str().chars().take(12).collect();
    let cited = detail.view.cause.as_ref().and_then(|cause| cause.best_quote());
    let cited = cited.map(|quote| format!(" {}", quote.evidence)).unwrap_or_default();
    vec![
        format!("sentinel incidents evidence {id}{cited}{of_store}"),
        format!("sentinel incidents show {id} --full{of_store}; also: turns, alerts, record"),
    ]
}

/// The flags that name this store, where they are not the usual ones.
fn of_store(flags: &StoreFlags) -> String {
    match &flags.table {
        Some(table) => format!(" --table {table}"),
        None if flags.data_dir == Path::new(DATA_DIR) => String::new(),
        None => format!(" --data-dir {}", flags.data_dir.display()),
    }
}

/// All that is kept of an incident.
pub(crate) async fn kept(given: &str, flags: &StoreFlags, env: &Environment) -> anyhow::Result<Record> {
    let place = Place::of(flags).await?.keeping_back(flags, env);
    let id = place.whole_id(given).await?;
    let mut record = place.record(&id).await?.with_context(|| format!("there is no incident {id}"))?;
    for evidence in &mut record.evidence {
        // Before quotes are marked: a mark would stand inside what the redactor looks for.
        evidence.text = env.without_secrets(&evidence.text).into_owned();
    }
    Ok(record)
}

/// Shows it, on a terminal in the pager; with --json what it is made from. Neither with secrets.
fn show(text: &str, what: &impl Serialize, flags: &StoreFlags, env: &Environment) -> anyhow::Result<()> {
    if flags.json {
        writeln!(anstream::stdout(), "{}", env.json_without_secrets(what)?)?;
        return Ok(());
    }
    pager::show(&env.without_secrets(text), env)
}

/// Where the incidents are.
pub(crate) enum Place {
    /// A running `up`.
    Service(Service),
    /// A folder that nobody else holds, or a table on AWS.
    Store {
        /// The store.
        store: Arc<dyn IncidentStore>,
        /// What is shown of it lacks the secrets that this knows.
        redactor: Redactor,
        /// How it is shown.
        display: Arc<Display>,
    },
}

impl Place {
    pub(crate) async fn of(flags: &StoreFlags) -> anyhow::Result<Self> {
        if let Some(table) = &flags.table {
            return Ok(Self::of_table(table, None, None).await);
        }
        if !flags.data_dir.is_dir() {
            bail!("there is no data folder {}: `sentinel up` makes one", flags.data_dir.display());
        }
        match Backend::open(&flags.data_dir).await {
            Ok(backend) => Ok(Self::store(backend.store())),
            Err(LocalError::Held { url: Some(url), .. }) => {
                Ok(Self::Service(Service::new(url, flags.data_dir.join(TOKEN_FILE))?))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A table on AWS, in this region and with this profile's credentials, or those of the environment.
    pub(crate) async fn of_table(table: &str, region: Option<String>, profile: Option<String>) -> Self {
        let client = Aws::of_profile(CallLimits::default(), region, profile).await.dynamo();
        Self::store(Arc::new(DynamoStore::new(client, table)))
    }

    fn store(store: Arc<dyn IncidentStore>) -> Self {
        Self::Store { store, redactor: Redactor::default(), display: Arc::default() }
    }

    /// The same, of which what is shown lacks the configuration's secrets, where a configuration can be read.
    pub(crate) fn keeping_back(self, flags: &StoreFlags, env: &Environment) -> Self {
        let (redactor, display) = setup::shown_if_known(flags.config.config.as_deref(), env);
        env.keep_back(redactor.clone());
        match self {
            Self::Store { store, .. } => Self::Store { store, redactor, display },
            service @ Self::Service(_) => service,
        }
    }

    /// Of the incidents that are wanted the newest after `from`, at most `limit`.
    pub(crate) async fn list(
        &self,
        wanted: &Wanted,
        mut from: Option<Cursor>,
        limit: usize,
    ) -> anyhow::Result<Listed> {
        let mut all = Listed::default();
        loop {
            let left = limit.saturating_sub(all.incidents.len());
            let page = match self {
                Self::Service(service) => service.list(wanted, from.as_ref(), left).await?,
                Self::Store { store, redactor, .. } => {
                    listing::list(store.as_ref(), redactor, wanted, from.as_ref(), left).await?
                }
            };
            all.incidents.extend(page.incidents);
            all.next = page.next;
            if all.next.is_none() || all.incidents.len() >= limit {
                return Ok(all);
            }
            from.clone_from(&all.next);
        }
    }

    /// All incidents that are wanted.
    pub(crate) async fn all(&self, wanted: &Wanted) -> anyhow::Result<Vec<Summary>> {
        Ok(self.list(wanted, None, usize::MAX).await?.incidents)
    }

    pub(crate) async fn detail(&self, id: &IncidentId) -> anyhow::Result<Option<Detail>> {
        match self {
            Self::Service(service) => service.get(&format!("api/incidents/{id}")).await,
            Self::Store { store, redactor, display } => {
                let now = MachineClock::default().now();
                Ok(api::detail(store.as_ref(), redactor, display, now, id).await?)
            }
        }
    }

    pub(crate) async fn record(&self, id: &IncidentId) -> anyhow::Result<Option<Record>> {
        match self {
            Self::Service(service) => service.get(&format!("api/incidents/{id}/record")).await,
            Self::Store { store, redactor, .. } => Ok(api::record(store.as_ref(), redactor, id).await?),
        }
    }

    /// Everything that is stored of an incident; `None`: nothing.
    pub(crate) async fn whole_record(&self, id: &IncidentId) -> anyhow::Result<Option<IncidentRecord>> {
        match self {
            Self::Service(service) => {
                let Some(text) = service.text(&format!("api/incidents/{id}/audit")).await? else {
                    return Ok(None);
                };
                let (record, found) = read_export(&text);
                if let Some(finding) = found.first() {
                    bail!("the running `sentinel up` gave a record that cannot be read: {finding}");
                }
                Ok(Some(record))
            }
            Self::Store { store, .. } => Ok(audit::whole_record(store.as_ref(), id).await?),
        }
    }

    /// All incidents and storm notices of a store; of a running `up` its incidents.
    pub(crate) async fn every(&self) -> anyhow::Result<audit::Listed> {
        match self {
            Self::Service(_) => {
                let listed = self.all(&Wanted::default()).await?;
                Ok(listed.into_iter().map(|summary| (summary.generation, summary.id)).collect())
            }
            Self::Store { store, .. } => {
                let heads = store.recent(usize::MAX).await?;
                Ok(heads.into_iter().map(|head| (head.generation, head.id)).collect())
            }
        }
    }

    /// The id that begins with `given`.
    pub(crate) async fn whole_id(&self, given: &str) -> anyhow::Result<IncidentId> {
        if given.len() >= 64 {
            return Ok(IncidentId::new(given));
        }
        let found: Vec<IncidentId> = self
            .all(&Wanted::default())
            .await?
            .into_iter()
            .map(|i| i.id)
            .filter(|id| id.as_str().starts_with(given))
            .collect();
        match found.as_slice() {
            [id] => Ok(id.clone()),
            [] => bail!("no incident that is kept has an id that begins with {given:?}"),
            more => bail!("{} incidents have ids that begin with {given:?}: say more of it", more.len()),
        }
    }

    /// Deletes all that is kept of an incident; why not, where it did not.
    pub(crate) async fn delete(
        &self,
        id: &IncidentId,
        who: String,
        flags: &StoreFlags,
    ) -> anyhow::Result<Option<String>> {
        match self {
            Self::Service(service) => service.delete(id, who).await,
            Self::Store { store, redactor, .. } => {
                let who = redactor.for_incident(id).redact(&who).into_owned();
                let outcome = sentinel_core::delete::delete(&ports_of(store, flags)?, id, who).await?;
                Ok(deletion::why_not(outcome))
            }
        }
    }

    async fn abort(
        &self,
        id: &IncidentId,
        who: String,
        flags: &StoreFlags,
        env: &Environment,
    ) -> anyhow::Result<()> {
        let aborted = match self {
            Self::Service(service) => return service.abort(id, who).await,
            Self::Store { store, redactor, .. } => {
                let who = redactor.for_incident(id).redact(&who).into_owned();
                let Ok(loaded) = setup::load(flags.config.config.as_deref(), env) else {
                    bail!("the sinks to tell are not known without a configuration");
                };
                let ports = ports_of(store, flags)?;
                let card = store.load(id).await?.map(|head| head.card);
                let rules = loaded
                    .settings
                    .cards
                    .iter()
                    .find(|c| card.as_deref() == Some(&c.name))
                    .map_or_else(Rules::of_no_card, Rules::of);
                drive(&ports, id, &Abort { who }, &rules, Start::Load, None).await?.outcome
            }
        };
        match aborted {
            Aborted::Aborted => Ok(()),
            Aborted::AlreadyEnded(state) => bail!("incident {id} had ended before: {state}"),
            Aborted::Unknown => bail!("there is no incident {id}"),
        }
    }
}

/// The ports on a store that no `up` holds.
fn ports_of(store: &Arc<dyn IncidentStore>, flags: &StoreFlags) -> anyhow::Result<Ports> {
    let clock = Arc::new(MachineClock::default());
    // Nobody listens to this queue: the next `up`, or the sweeper, finds what is to be told.
    let (queue, _) = LocalQueue::new(clock.clone());
    let signing_key = match &flags.table {
        Some(_) => None,
        None => sentinel_local::signing_key(&flags.data_dir)?,
    };
    Ok(Ports { store: Arc::clone(store), queue: Arc::new(queue), clock, fresh: fresh_ids(), signing_key })
}

/// A running `up`, over its API, with the token that it wrote into its data folder for this.
pub(crate) struct Service {
    url: String,
    token_file: PathBuf,
    token: SecretString,
    http: reqwest::Client,
}

impl Service {
    fn new(url: String, token_file: PathBuf) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        let token = fs::read_to_string(&token_file).with_context(|| {
            let file = token_file.display();
            format!("the token for the running `sentinel up` at {url} cannot be read: {file}, which it writes at its start")
        })?;
        Ok(Self { url, token_file, token: token.into(), http })
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.bearer_auth(self.token.expose_secret()).send().await;
        let response =
            response.with_context(|| format!("the running `sentinel up` at {} does not answer", self.url))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let (url, file) = (&self.url, self.token_file.display());
            bail!(
                "the running `sentinel up` at {url} does not take the token in {file}: was the file changed since its start?"
            );
        }
        Ok(response)
    }

    async fn list(&self, wanted: &Wanted, from: Option<&Cursor>, limit: usize) -> anyhow::Result<Listed> {
        let mut asked = wanted.query();
        asked.push(("limit", limit.min(PAGE).to_string()));
        asked.extend(from.map(|from| ("cursor", from.to_string())));
        let request = self.http.get(format!("{}/api/incidents", self.url)).query(&asked);
        let answer = accepted(self.send(request).await?).await?;
        let next = answer.headers().get(CURSOR).and_then(|next| next.to_str().ok()?.parse().ok());
        Ok(Listed { incidents: answer.json().await?, next })
    }

    /// `None`: there is no such incident.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Option<T>> {
        let response = self.send(self.http.get(format!("{}/{path}", self.url))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(accepted(response).await?.json().await?))
    }

    /// A body as text; `None`: there is no such incident.
    async fn text(&self, path: &str) -> anyhow::Result<Option<String>> {
        let response = self.send(self.http.get(format!("{}/{path}", self.url))).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        Ok(Some(accepted(response).await?.text().await?))
    }

    async fn abort(&self, id: &IncidentId, who: String) -> anyhow::Result<()> {
        let url = format!("{}/api/incidents/{id}/abort", self.url);
        accepted(self.send(self.http.post(url).json(&ByWhom { who })).await?).await?;
        Ok(())
    }

    async fn delete(&self, id: &IncidentId, who: String) -> anyhow::Result<Option<String>> {
        let url = format!("{}/api/incidents/{id}/delete", self.url);
        let response = self.send(self.http.post(url).json(&ByWhom { who })).await?;
        if matches!(response.status(), StatusCode::CONFLICT | StatusCode::NOT_FOUND) {
            let body: serde_json::Value = response.json().await?;
            let why = body
                .get("error")
                .and_then(|why| why.as_str())
                .unwrap_or("the running `sentinel up` does not say why");
            return Ok(Some(why.to_owned()));
        }
        accepted(response).await?;
        Ok(None)
    }
}

/// The response, or what the service says is wrong.
async fn accepted(response: Response) -> anyhow::Result<Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let error = serde_json::from_str::<serde_json::Value>(&body)
        .ok()
        .and_then(|v| v.get("error").and_then(|e| e.as_str().map(str::to_owned)))
        .unwrap_or(body);
    bail!("the running `sentinel up` says {status}: {error}")
}
