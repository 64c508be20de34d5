//! The table's shape.

use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType, TableStatus, TimeToLiveSpecification, TimeToLiveStatus,
};
use sentinel_core::ports::StoreError;

use crate::error::store_error;
use crate::item::attr;

/// How often and how long a new table is waited for: AWS takes seconds, an embedded one none.
const LOOKS: u32 = 60;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Creates the table, its two indexes and its time-to-live, and waits until it can be used. What already exists is
/// left as it is.
pub async fn create_table(client: &Client, table: &str) -> Result<(), StoreError> {
    let create = client
        .create_table()
        .table_name(table)
        .billing_mode(BillingMode::PayPerRequest)
        .set_attribute_definitions(Some(vec![
            attribute(attr::PK, ScalarAttributeType::S)?,
            attribute(attr::SK, ScalarAttributeType::S)?,
            attribute(attr::DUE_SHARD, ScalarAttributeType::S)?,
            attribute(attr::DUE, ScalarAttributeType::N)?,
            attribute(attr::RECENT_SHARD, ScalarAttributeType::S)?,
            attribute(attr::GEN, ScalarAttributeType::N)?,
        ]))
        .set_key_schema(Some(keys(attr::PK, attr::SK)?))
        .global_secondary_indexes(index(attr::DUE_INDEX, attr::DUE_SHARD, attr::DUE)?)
        .global_secondary_indexes(index(attr::RECENT_INDEX, attr::RECENT_SHARD, attr::GEN)?);
    match create.send().await {
        Ok(_) => {}
        Err(e) if e.as_service_error().is_some_and(CreateTableError::is_resource_in_use_exception) => {}
        Err(e) => return Err(store_error(format!("creating table {table}"), &e)),
    }
    wait_until_active(client, table).await?;
    expire(client, table).await
}

/// Switches the time-to-live on, unless it is: a process may have ended right after it created the table.
async fn expire(client: &Client, table: &str) -> Result<(), StoreError> {
    let action = || format!("setting the time-to-live of table {table}");
    let seen = client.describe_time_to_live().table_name(table).send().await;
    let seen = seen.map_err(|e| store_error(action(), &e))?;
    let status = seen.time_to_live_description.and_then(|d| d.time_to_live_status);
    if matches!(status, Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)) {
        return Ok(());
    }
    let expiry = TimeToLiveSpecification::builder()
        .enabled(true)
        .attribute_name(attr::EXPIRES)
        .build()
        .map_err(unbuilt)?;
    let set = client.update_time_to_live().table_name(table).time_to_live_specification(expiry).send().await;
    set.map(|_| ()).map_err(|e| store_error(action(), &e))
}

async fn wait_until_active(client: &Client, table: &str) -> Result<(), StoreError> {
    for _ in 0..LOOKS {
        let seen = client
            .describe_table()
            .table_name(table)
            .send()
            .await
            .map_err(|e| store_error(format!("describing table {table}"), &e))?;
        if seen.table().and_then(|t| t.table_status()) == Some(&TableStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    Err(StoreError::Unavailable(format!("table {table} is still being created")))
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, StoreError> {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().map_err(unbuilt)
}

fn keys(hash: &str, range: &str) -> Result<Vec<KeySchemaElement>, StoreError> {
    [(hash, KeyType::Hash), (range, KeyType::Range)]
        .into_iter()
        .map(|(name, kind)| {
            KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(unbuilt)
        })
        .collect()
}

/// Keys only: the heads are then read consistently from the table, and a write that moves no key of an index does not
/// pay for it.
fn index(name: &str, hash: &str, range: &str) -> Result<GlobalSecondaryIndex, StoreError> {
    GlobalSecondaryIndex::builder()
        .index_name(name)
        .set_key_schema(Some(keys(hash, range)?))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .map_err(unbuilt)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn unbuilt(error: BuildError) -> StoreError {
    StoreError::Refused { action: "describing the table's shape".into(), reason: error.to_string() }
}
