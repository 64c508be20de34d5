//! The port's methods, as `DynamoDB` calls.

mod index;

use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::put_item::builders::PutItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValuesOnConditionCheckFailure};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use sentinel_core::UnixMs;
use sentinel_core::budget::{Entered, Entry, Scope, Spent};
use sentinel_core::incident::{Child, Gen, Head, IncidentId};
use sentinel_core::lifecycle::{Owed, Rules, due_at};
use sentinel_core::ports::{Appended, Clock as _, Created, DuePage, IncidentStore, StoreError, Swapped};

use index::IndexQuery;

use crate::MachineClock;
use crate::error::store_error;
use crate::item::{self, Item, Keep, Partition, attr, number, partition, record_partition, text};

/// The most items that one `BatchGetItem` takes.
const BATCH: usize = 100;
/// How often the rest of a batch is asked for of which nothing comes, and how long the first pause is.
const BATCH_TRIES: u32 = 5;
const BATCH_PAUSE: Duration = Duration::from_millis(50);

/// How many items of a deleted incident are deleted at once.
const DELETED_AT_ONCE: usize = 8;

/// Incidents in one `DynamoDB` table.
#[derive(Clone, Debug)]
pub struct DynamoStore {
    client: Client,
    table: String,
    /// Since when records have partitions of their own, once that is known.
    since: Arc<OnceLock<Gen>>,
    keep: Keep,
}

impl DynamoStore {
    /// A store in `table`, which [`crate::create_table`] or the deployment's template has made.
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self { client, table: table.into(), since: Arc::default(), keep: Keep::of(Rules::AUDIT_RETENTION) }
    }

    /// The same, which keeps the record of a generation for so long from its opening, and 30 days.
    #[must_use]
    pub fn keeping(self, audit_retention: Duration) -> Self {
        Self { keep: Keep::of(audit_retention), ..self }
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// What an error says was asked, of which table.
    pub(crate) fn action(&self, what: &str, of: &str) -> String {
        format!("{what} {of} in table {}", self.table)
    }

    /// A conditional write. `Err(Some(item))`: the condition failed, and this is what stands there.
    async fn put(&self, action: &str, of: &IncidentId, put: PutItemFluentBuilder) -> Result<Put, StoreError> {
        let sent = put
            .table_name(&self.table)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(Put::Stored),
            Err(SdkError::ServiceError(e)) if e.err().is_conditional_check_failed_exception() => {
                match e.into_err() {
                    PutItemError::ConditionalCheckFailedException(e) => Ok(Put::Found(e.item)),
                    other => {
                        Err(StoreError::Unavailable(format!("{}: {other}", self.action(action, of.as_str()))))
                    }
                }
            }
            Err(e) => Err(store_error(self.action(action, of.as_str()), &e)),
        }
    }

    /// The head that a failed condition found. An engine that leaves it out of its answer is asked again.
    async fn found(&self, id: &IncidentId, item: Option<Item>) -> Result<Option<Head>, StoreError> {
        match item {
            Some(item) => item::head_from_item(item).map(Some),
            None => self.load(id).await,
        }
    }

    /// Since when records have partitions of their own in this table; `None`: not yet.
    async fn since(&self) -> Result<Option<Gen>, StoreError> {
        if let Some(since) = self.since.get() {
            return Ok(Some(*since));
        }
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(item::since_key()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| store_error(self.action("reading", "the record's beginning"), &e))?;
        Ok(got.item.as_ref().and_then(item::since_from_item).map(|since| *self.since.get_or_init(|| since)))
    }

    /// Says that records have partitions of their own from now on, unless that is said.
    async fn begin_record(&self) -> Result<(), StoreError> {
        if self.since.get().is_some() {
            return Ok(());
        }
        let now = Gen(MachineClock::default().now().get());
        let mut item = item::since_key();
        item.insert(attr::AT.into(), number(now.0));
        let put =
            self.client.put_item().set_item(Some(item)).condition_expression("attribute_not_exists(sk)");
        let of = IncidentId::new("the record's beginning");
        match self.put("writing", &of, put).await? {
            Put::Stored => {
                self.since.get_or_init(|| now);
            }
            Put::Found(found) => match found.as_ref().and_then(item::since_from_item) {
                Some(since) => {
                    self.since.get_or_init(|| since);
                }
                None => {
                    self.since().await?;
                }
            },
        }
        Ok(())
    }

    /// The items of one partition whose sort keys begin so.
    async fn items(
        &self,
        id: &IncidentId,
        pk: AttributeValue,
        prefix: &str,
    ) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
            .expression_attribute_values(":pk", pk)
            .expression_attribute_values(":prefix", text(prefix))
            .into_paginator()
            .items()
            .send();
        while let Some(item) = pages.next().await {
            items.push(
                item.map_err(|e| store_error(self.action("reading the children of", id.as_str()), &e))?,
            );
        }
        Ok(items)
    }

    /// The keys of all items of one partition that belong to generations before this one.
    async fn child_keys(
        &self,
        id: &IncidentId,
        pk: AttributeValue,
        before: Gen,
    ) -> Result<Vec<Item>, StoreError> {
        let mut keys = Vec::new();
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :before")
            .projection_expression("pk, sk")
            .expression_attribute_values(":pk", pk)
            .expression_attribute_values(":first", text(item::CHILDREN))
            // What no key is of this generation itself: each has more behind it.
            .expression_attribute_values(":before", text(item::generation_prefix(before)))
            .into_paginator()
            .items()
            .send();
        while let Some(key) = pages.next().await {
            keys.push(key.map_err(|e| store_error(self.action("listing the children of", id.as_str()), &e))?);
        }
        Ok(keys)
    }

    /// The children of both partitions whose keys begin so.
    async fn both(&self, id: &IncidentId, prefix: &str) -> Result<Vec<Child>, StoreError> {
        let (since, incident, record) = futures::try_join!(
            self.since(),
            self.items(id, partition(id), prefix),
            self.items(id, record_partition(id), prefix)
        )?;
        let mut children = item::children_from_items(Partition::Incident { since }, incident)?;
        children.extend(item::children_from_items(Partition::Record, record)?);
        Ok(item::in_order(children))
    }

    /// Reads heads consistently, in no order. Those that are gone by now are left out, and so are those that cannot be
    /// read: one of them must not keep the sweeper from all others.
    async fn heads(&self, mut keys: Vec<Item>) -> Result<Vec<Head>, StoreError> {
        // A head that moved while the index was paged may be listed twice, and a batch with a key twice is refused.
        let mut seen = HashSet::new();
        keys.retain(|key| {
            key.get(attr::PK).and_then(|v| v.as_s().ok()).is_some_and(|pk| seen.insert(pk.clone()))
        });
        let batches = keys.chunks(BATCH).map(|batch| self.batch(batch.to_vec()));
        let items = try_join_all(batches).await?.into_iter().flatten();
        Ok(items
            .filter_map(|item| {
                item::head_from_item(item).inspect_err(|e| tracing::error!(error = %e, "head left out")).ok()
            })
            .collect())
    }

    async fn batch(&self, mut keys: Vec<Item>) -> Result<Vec<Item>, StoreError> {
        let mut items = Vec::new();
        let (mut tries, mut pause) = (0, BATCH_PAUSE);
        while tries < BATCH_TRIES {
            let asked = keys.len();
            let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            let request = request.map_err(|e| StoreError::Refused {
                action: self.action("reading", "heads"),
                reason: e.to_string(),
            })?;
            let mut answer = self
                .client
                .batch_get_item()
                .request_items(&self.table, request)
                .send()
                .await
                .map_err(|e| store_error(self.action("reading", "heads"), &e))?;
            items.extend(answer.responses.as_mut().and_then(|r| r.remove(&self.table)).unwrap_or_default());
            let left = answer.unprocessed_keys.as_mut().and_then(|k| k.remove(&self.table));
            keys = left.map(|k| k.keys).unwrap_or_default();
            if keys.is_empty() {
                return Ok(items);
            }
            // A rest that gets smaller ends some day; what counts is how often nothing of it came.
            if keys.len() < asked {
                (tries, pause) = (0, BATCH_PAUSE);
            } else {
                tries += 1;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(StoreError::Unavailable(format!("{}: throttled", self.action("reading", "heads"))))
    }
}

/// How a conditional write ended.
enum Put {
    Stored,
    /// Its condition failed; the item found, where the answer carries it.
    Found(Option<Item>),
}

#[async_trait]
impl IncidentStore for DynamoStore {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let put = self
            .client
            .put_item()
            .set_item(Some(item::head_to_item(head, self.keep)?))
            .condition_expression("attribute_not_exists(pk)");
        match self.put("creating", &head.id, put).await? {
            Put::Stored => Ok(Created::New),
            Put::Found(found) => match self.found(&head.id, found).await? {
                // The SDK tried again after a lost reply: it was this very write.
                Some(found) if found.writer == head.writer => Ok(Created::New),
                Some(found) => Ok(Created::Exists(Box::new(found))),
                None => Err(StoreError::Contended(head.id.clone())),
            },
        }
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(attr::PK, partition(id))
            .key(attr::SK, text(item::HEAD))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| store_error(self.action("reading", id.as_str()), &e))?;
        got.item.map(item::head_from_item).transpose()
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        let put = self
            .client
            .put_item()
            .set_item(Some(item::head_to_item(head, self.keep)?))
            .condition_expression("#version = :read")
            .expression_attribute_names("#version", attr::VERSION)
            .expression_attribute_values(":read", number(head.version.saturating_sub(1)));
        match self.put("changing", &head.id, put).await? {
            Put::Stored => Ok(Swapped::Stored),
            Put::Found(found) => match self.found(&head.id, found).await? {
                Some(found) if found.writer == head.writer => Ok(Swapped::Stored),
                found => Ok(Swapped::Stale(found.map(Box::new))),
            },
        }
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        if !child.name.is_intakes() {
            self.begin_record().await?;
        }
        let items = item::child_to_items(id, child, self.keep, MachineClock::default().now());
        for part in items.parts {
            self.client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(part))
                .send()
                .await
                .map_err(|e| store_error(self.action("writing a part of", id.as_str()), &e))?;
        }
        let put = self
            .client
            .put_item()
            .set_item(Some(items.named.clone()))
            .condition_expression("attribute_not_exists(sk)");
        match self.put("writing a child of", id, put).await? {
            Put::Stored => Ok(Appended::Written),
            Put::Found(Some(found)) if item::has_body(&found, &child.body) => Ok(Appended::Written),
            Put::Found(Some(_)) => Ok(Appended::Other),
            Put::Found(None) => {
                let mut key = items.named;
                key.retain(|name, _| name == attr::PK || name == attr::SK);
                let found = self.batch(vec![key]).await?;
                let same = found.first().is_some_and(|found| item::has_body(found, &child.body));
                Ok(if same { Appended::Written } else { Appended::Other })
            }
        }
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        self.both(id, &item::generation_prefix(generation)).await
    }

    async fn received(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let items = self.items(id, partition(id), &item::generation_prefix(generation)).await?;
        let mut children = item::children_from_items(Partition::Incident { since: None }, items)?;
        children.retain(|child| child.name.is_intakes());
        Ok(item::in_order(children))
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        self.both(id, item::CHILDREN).await
    }

    async fn generations(&self, id: &IncidentId, since: Gen) -> Result<Vec<Gen>, StoreError> {
        let mut pages = self
            .client
            .query()
            .table_name(&self.table)
            .consistent_read(true)
            .key_condition_expression("pk = :pk AND sk BETWEEN :since AND :end")
            .expression_attribute_values(":pk", partition(id))
            .expression_attribute_values(":since", text(item::generation_prefix(since)))
            .expression_attribute_values(":end", text(item::generation_prefix(Gen(i64::MAX))))
            .projection_expression(attr::SK)
            .into_paginator()
            .items()
            .send();
        let mut found = BTreeSet::new();
        while let Some(item) = pages.next().await {
            let item =
                item.map_err(|e| store_error(self.action("reading the generations of", id.as_str()), &e))?;
            found.extend(item::generation_from_item(&item));
        }
        Ok(found.into_iter().collect())
    }

    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError> {
        let keys = futures::try_join!(
            self.child_keys(id, partition(id), before),
            self.child_keys(id, record_partition(id), before)
        )?;
        let all: Vec<Item> = keys.0.into_iter().chain(keys.1).collect();
        let removed = all.len();
        stream::iter(all)
            .map(|key| async move {
                let delete = self.client.delete_item().table_name(&self.table).set_key(Some(key));
                let deleted = delete.send().await;
                deleted
                    .map(drop)
                    .map_err(|e| store_error(self.action("deleting a child of", id.as_str()), &e))
            })
            .buffer_unordered(DELETED_AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(removed)
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        if limit == 0 {
            return Ok(DuePage::default());
        }
        let until = *within.end();
        let shards = item::due_shards(owed).map(|shard| {
            self.index_keys(IndexQuery {
                index: attr::DUE_INDEX,
                shard_name: attr::DUE_SHARD,
                shard,
                sort_name: attr::DUE,
                within: within.start().get()..=until.get(),
                ascending: true,
                // One more says whether there are more.
                limit: limit.saturating_add(1),
            })
        });
        let mut keys: Vec<_> = try_join_all(shards).await?.into_iter().flatten().collect();
        keys.sort_by_key(|(due, _)| *due);
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().map(|(due, _)| UnixMs::new(*due)).filter(|_| more);
        let heads = self.heads(keys.into_iter().map(|(_, key)| key).collect()).await?;
        // The index lags behind the table: what was dealt with in the meantime is not due any more.
        let mut due: Vec<_> = heads
            .into_iter()
            .filter_map(|head| due_at(&head).filter(|due| *due <= until).map(|due| (due, head)))
            .collect();
        due.sort_by_key(|(due, _)| *due);
        Ok(DuePage { heads: due.into_iter().map(|(_, head)| head).collect(), next })
    }

    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError> {
        let shards = item::recent_shards().map(|shard| {
            self.index_keys(IndexQuery {
                index: attr::RECENT_INDEX,
                shard_name: attr::RECENT_SHARD,
                shard,
                sort_name: attr::GEN,
                within: 0..=before.0.saturating_sub(1),
                ascending: false,
                limit,
            })
        });
        let mut keys: Vec<_> = try_join_all(shards).await?.into_iter().flatten().collect();
        keys.sort_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        keys.truncate(limit);
        let mut heads = self.heads(keys.into_iter().map(|(_, key)| key).collect()).await?;
        heads.sort_by_key(|head| std::cmp::Reverse(head.generation));
        Ok(heads)
    }

    async fn budget(&self, entry: &Entry) -> Result<Entered, StoreError> {
        self.enter(entry).await
    }

    async fn spent(&self, scope: &Scope, at: UnixMs) -> Result<Option<Spent>, StoreError> {
        self.counted(scope, at).await.map(Some)
    }
}
