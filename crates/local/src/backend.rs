//! The store: a `DynamoDB` in this process behind the AWS adapter.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dynoxide::{Database, DynoxideError};
use sentinel_aws::{Answer, CallLimits, DynamoStore, client_for_engine, create_table};
use sentinel_core::ports::IncidentStore;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::LocalError;
use crate::folder::Folder;

/// The embedded table's name: nobody else is in the database.
const TABLE: &str = "sentinel";
/// How often expired items are collected; they stay readable until then, as on AWS.
const COLLECT_EVERY: Duration = Duration::from_hours(1);

/// A store of its own, in a data folder or in memory. The data folder is owned until the backend and every store taken
/// from it are dropped.
pub struct Backend {
    store: Arc<DynamoStore>,
    engine: Arc<Embedded>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("folder", &self.engine.folder).finish_non_exhaustive()
    }
}

/// The database, and after it (fields drop in order) the folder that it is in.
struct Embedded {
    database: Database,
    folder: Option<Folder>,
}

impl Backend {
    /// Opens the store in `data_dir`, which is created where it is absent, and owns it from here on.
    ///
    /// What was written is on disk when a call returns (`SQLite`'s write-ahead log, with its default of syncing at
    /// every commit), so a killed process loses nothing.
    ///
    /// # Errors
    /// The folder cannot be written, another process owns it, or what is in it is no database.
    pub async fn open(data_dir: &Path) -> Result<Self, LocalError> {
        let folder = Folder::claim(data_dir)?;
        let file = folder.database();
        let unreadable = |reason: String| LocalError::Unreadable { file: file.clone(), reason };
        let path = file.to_str().ok_or_else(|| unreadable("its path is not UTF-8".into()))?;
        let database = Database::new(path).map_err(|e| unreadable(e.to_string()))?;
        let backend = Self::with(Embedded { database, folder: Some(folder) }).await?;
        tokio::spawn(collect_expired(Arc::downgrade(&backend.engine)));
        Ok(backend)
    }

    /// A store in memory, gone when it is dropped.
    ///
    /// # Errors
    /// The database refuses the table.
    pub async fn memory() -> Result<Self, LocalError> {
        let database = Database::memory()
            .map_err(|e| LocalError::Unreadable { file: ":memory:".into(), reason: e.to_string() })?;
        Self::with(Embedded { database, folder: None }).await
    }

    async fn with(engine: Embedded) -> Result<Self, LocalError> {
        let engine = Arc::new(engine);
        let answering = Arc::clone(&engine);
        let client = client_for_engine(
            Arc::new(move |operation: &str, body: &[u8]| answer(&answering.database, operation, body)),
            CallLimits::EMBEDDED,
        );
        create_table(&client, TABLE).await?;
        Ok(Self { store: Arc::new(DynamoStore::new(client, TABLE)), engine })
    }

    /// The store.
    pub fn store(&self) -> Arc<dyn IncidentStore> {
        Arc::clone(&self.store) as Arc<dyn IncidentStore>
    }

    /// Tells whoever finds the data folder held where this process's API answers: `url`, its base.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn announce(&self, url: &str) -> Result<(), LocalError> {
        self.engine.folder.as_ref().map_or(Ok(()), |folder| folder.announce(Some(url)))
    }
}

/// Deletes expired items now and then, as the service on AWS does by itself, for as long as somebody else holds the
/// database.
async fn collect_expired(engine: Weak<Embedded>) {
    let mut every = tokio::time::interval(COLLECT_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        let Some(engine) = engine.upgrade() else { return };
        match tokio::task::spawn_blocking(move || engine.database.sweep_ttl()).await {
            Ok(Ok(deleted)) => tracing::debug!(deleted, "expired items collected"),
            Ok(Err(e)) => tracing::warn!(error = %e, "expired items were not collected"),
            Err(e) => tracing::warn!(error = %e, "expired items were not collected"),
        }
    }
}

/// One request of the SDK. Operations that the store does not use are refused.
fn answer(db: &Database, operation: &str, body: &[u8]) -> Answer {
    let answered = match operation {
        "PutItem" => run(body, |r| db.put_item(r)),
        "GetItem" => run(body, |r| db.get_item(r)),
        "DeleteItem" => run(body, |r| db.delete_item(r)),
        "Query" => run(body, |r| db.query(r)),
        "UpdateItem" => run(body, |r| db.update_item(r)),
        "BatchGetItem" => run(body, |r| db.batch_get_item(r)),
        "CreateTable" => run(body, |r| db.create_table(r)),
        "DescribeTable" => run(body, |r| db.describe_table(r)),
        "DescribeTimeToLive" => run(body, |r| db.describe_time_to_live(r)),
        "UpdateTimeToLive" => run(body, |r| db.update_time_to_live(r)),
        _ => Err(DynoxideError::ValidationException(format!("{operation} is not embedded"))),
    };
    match answered {
        Ok(body) => Answer { status: 200, body },
        Err(e) => Answer { status: e.status_code(), body: e.to_json() },
    }
}

fn run<Request: DeserializeOwned, Response: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<String, DynoxideError> {
    let request =
        serde_json::from_slice(body).map_err(|e| DynoxideError::SerializationException(e.to_string()))?;
    serde_json::to_string(&operation(request)?).map_err(|e| DynoxideError::InternalServerError(e.to_string()))
}
