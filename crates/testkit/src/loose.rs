//! A `DynamoDB` that does everything that the real one may do, and an embedded one never does: a read that does not ask
//! for consistency is answered from some writes ago, an index lags, a page of a query holds one item, a batch gives back
//! half of its keys as unprocessed, the reply of a conditional write is lost, and a failed condition does not say what
//! stood there.
//!
//! It stands below the AWS SDK: what it is given and answers are the operations' JSON bodies.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dynoxide::{Database, DynoxideError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// What it makes use of, of all that it may do. Pages of one, unprocessed keys and reads from some writes ago are always
/// among it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Liberties {
    /// Indexes are as far behind as reads that do not ask for consistency, until [`Loose::catch_up`].
    pub index_lags: bool,
    /// Of so many conditional writes one loses its first reply, and this is the first that does: the service says that
    /// something went wrong inside of it.
    pub loses_replies: Option<(usize, usize)>,
    /// Failed conditions do not say what stood there.
    pub hides_what_stood: bool,
}

/// The `DynamoDB`.
pub struct Loose {
    liberties: Liberties,
    now: Database,
    behind: Database,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Writes that inconsistent reads do not see yet.
    unseen: VecDeque<(String, Vec<u8>)>,
    asked: Vec<(String, Value)>,
    /// The conditional writes.
    conditional: BTreeSet<Vec<u8>>,
    /// So many writes are still taken; `None`: all.
    left: Option<usize>,
}

/// How many writes an inconsistent read is behind.
const LAG: usize = 4;

impl Loose {
    /// An empty one.
    pub fn new(liberties: Liberties) -> Self {
        let memory = || Database::memory().expect("a database in memory");
        Self { liberties, now: memory(), behind: memory(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was asked since this was last called: the operation and its body.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state().asked)
    }

    /// From now on so many writes are taken, and all after them fail, as if whoever makes them had died; `None`: all are
    /// taken.
    pub fn take_writes(&self, left: Option<usize>) {
        self.state().left = left;
    }

    /// Every read sees every write that was made.
    pub fn catch_up(&self) {
        let unseen = std::mem::take(&mut self.state().unseen);
        for (operation, body) in unseen {
            let _ = run(&self.behind, &operation, &body);
        }
    }

    /// Answers one request: the HTTP status, and the body.
    pub fn answer(&self, operation: &str, body: &[u8]) -> (u16, String) {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        self.state().asked.push((operation.to_owned(), request.clone()));
        let answered = match operation {
            "PutItem" | "UpdateItem" | "DeleteItem" => self.write(operation, body, &request),
            "GetItem" => run(self.read_from(&request), operation, body),
            "Query" => self.page(request),
            "BatchGetItem" => self.half(request),
            // The table itself.
            _ => run(&self.behind, operation, body).and_then(|_| run(&self.now, operation, body)),
        };
        match answered {
            Ok(body) => (200, body),
            Err(error) => (error.status_code(), self.without_item(error.to_json())),
        }
    }

    fn write(&self, operation: &str, body: &[u8], request: &Value) -> Result<String, DynoxideError> {
        let broken = |why: &str| DynoxideError::InternalServerError(why.to_owned());
        if let Some(left) = &mut self.state().left {
            *left = left.checked_sub(1).ok_or_else(|| broken("nobody is there any more"))?;
        }
        let written = run(&self.now, operation, body);
        if written.is_ok() {
            let seen = {
                let mut state = self.state();
                state.unseen.push_back((operation.to_owned(), body.to_vec()));
                if state.unseen.len() > LAG { state.unseen.pop_front() } else { None }
            };
            if let Some((operation, body)) = seen {
                run(&self.behind, &operation, &body).expect("what was written once can be written again");
            }
        }
        if request.get("ConditionExpression").is_some() && self.loses_the_reply(body) {
            return Err(broken("the reply is lost"));
        }
        written
    }

    fn loses_the_reply(&self, body: &[u8]) -> bool {
        let mut state = self.state();
        let number = state.conditional.len();
        let is_new = state.conditional.insert(body.to_vec());
        self.liberties.loses_replies.is_some_and(|(of, first)| is_new && number % of == first)
    }

    fn read_from(&self, request: &Value) -> &Database {
        let consistent = request.get("ConsistentRead") == Some(&Value::Bool(true));
        let of_index = request.get("IndexName").is_some() && !self.liberties.index_lags;
        if consistent || of_index { &self.now } else { &self.behind }
    }

    /// A page of one.
    fn page(&self, mut request: Value) -> Result<String, DynoxideError> {
        let database = self.read_from(&request);
        if let Some(request) = request.as_object_mut() {
            request.insert("Limit".to_owned(), json!(1));
        }
        run(database, "Query", request.to_string().as_bytes())
    }

    /// Half of a batch.
    fn half(&self, mut request: Value) -> Result<String, DynoxideError> {
        let mut left = Map::new();
        let tables = request.get_mut("RequestItems").and_then(Value::as_object_mut);
        let mut consistent = true;
        for (table, asked) in tables.into_iter().flatten() {
            let Some(asked) = asked.as_object_mut() else { continue };
            consistent &= asked.get("ConsistentRead") == Some(&Value::Bool(true));
            let mut rest = asked.clone();
            let Some(keys) = asked.get_mut("Keys").and_then(Value::as_array_mut) else { continue };
            let unprocessed = keys.split_off(keys.len().div_ceil(2));
            if !unprocessed.is_empty() {
                rest.insert("Keys".to_owned(), Value::Array(unprocessed));
                left.insert(table.clone(), Value::Object(rest));
            }
        }
        let database = if consistent { &self.now } else { &self.behind };
        let answer = run(database, "BatchGetItem", request.to_string().as_bytes())?;
        let mut answer: Map<String, Value> = serde_json::from_str(&answer).unwrap_or_default();
        answer.insert("UnprocessedKeys".to_owned(), Value::Object(left));
        Ok(Value::Object(answer).to_string())
    }

    fn without_item(&self, error: String) -> String {
        let Ok(Value::Object(mut said)) = serde_json::from_str(&error) else { return error };
        if self.liberties.hides_what_stood {
            said.remove("Item");
        }
        Value::Object(said).to_string()
    }
}

fn run(database: &Database, operation: &str, body: &[u8]) -> Result<String, DynoxideError> {
    match operation {
        "PutItem" => parsed(body, |r| database.put_item(r)),
        "GetItem" => parsed(body, |r| database.get_item(r)),
        "DeleteItem" => parsed(body, |r| database.delete_item(r)),
        "UpdateItem" => parsed(body, |r| database.update_item(r)),
        "Query" => parsed(body, |r| database.query(r)),
        "BatchGetItem" => parsed(body, |r| database.batch_get_item(r)),
        "CreateTable" => parsed(body, |r| database.create_table(r)),
        "DescribeTable" => parsed(body, |r| database.describe_table(r)),
        "DescribeTimeToLive" => parsed(body, |r| database.describe_time_to_live(r)),
        "UpdateTimeToLive" => parsed(body, |r| database.update_time_to_live(r)),
        other => panic!("{other} is not known here"),
    }
}

fn parsed<Request: DeserializeOwned, Response: Serialize>(
    body: &[u8],
    operation: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<String, DynoxideError> {
    let unreadable = |e: serde_json::Error| DynoxideError::SerializationException(e.to_string());
    let answer = operation(serde_json::from_slice(body).map_err(unreadable)?)?;
    serde_json::to_string(&answer).map_err(|e| DynoxideError::InternalServerError(e.to_string()))
}

impl fmt::Debug for Loose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loose").field("liberties", &self.liberties).finish_non_exhaustive()
    }
}
