//! Reading the table's indexes.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use aws_sdk_dynamodb::types::AttributeValue;
use sentinel_core::ports::StoreError;

use super::DynamoStore;
use crate::error::store_error;
use crate::item::{Item, attr, number, text};

/// A part of one partition of an index, from one of its ends.
pub(super) struct IndexQuery<'a> {
    pub(super) index: &'a str,
    pub(super) shard_name: &'a str,
    pub(super) shard: String,
    pub(super) sort_name: &'a str,
    pub(super) within: RangeInclusive<i64>,
    pub(super) ascending: bool,
    pub(super) limit: usize,
}

impl IndexQuery<'_> {
    fn names(&self) -> HashMap<String, String> {
        HashMap::from([("#shard".into(), self.shard_name.into()), ("#sort".into(), self.sort_name.into())])
    }

    fn values(&self) -> HashMap<String, AttributeValue> {
        HashMap::from([
            (":shard".into(), text(&*self.shard)),
            (":from".into(), number(self.within.start())),
            (":until".into(), number(self.within.end())),
        ])
    }
}

impl DynamoStore {
    /// The table keys of the first `limit` entries of one partition of an index, with their sort values.
    pub(super) async fn index_keys(&self, ask: IndexQuery<'_>) -> Result<Vec<(i64, Item)>, StoreError> {
        let mut keys = Vec::new();
        let mut from = None;
        if ask.limit == 0 {
            return Ok(keys);
        }
        loop {
            let left = ask.limit.saturating_sub(keys.len());
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(ask.index)
                .key_condition_expression("#shard = :shard AND #sort BETWEEN :from AND :until")
                .set_expression_attribute_names(Some(ask.names()))
                .set_expression_attribute_values(Some(ask.values()))
                .scan_index_forward(ask.ascending)
                .limit(i32::try_from(left).unwrap_or(i32::MAX))
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|e| store_error(self.action("querying index", ask.index), &e))?;
            for mut item in page.items.unwrap_or_default() {
                let sort = item.get(ask.sort_name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok());
                let sort = sort.ok_or_else(|| StoreError::Unreadable {
                    item: format!("{item:?}"),
                    reason: format!("its {} is no number", ask.sort_name),
                })?;
                item.retain(|name, _| name == attr::PK || name == attr::SK);
                keys.push((sort, item));
            }
            from = page.last_evaluated_key;
            if from.is_none() || keys.len() >= ask.limit {
                return Ok(keys);
            }
        }
    }
}
