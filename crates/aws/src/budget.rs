//! The counters of spending: one item a scope and a day, changed by conditional updates.
//!
//! A reservation adds its amount to the day and to its hour and leaves an attribute of its own, `open#<id>`, until it
//! is settled: by that a write whose reply was lost recognises itself, and nothing is given back twice. One update
//! changes everything, so no two writers conflict; an item takes 1,000 of them a second, a scope needs a few a turn.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use sentinel_core::UnixMs;
use sentinel_core::budget::{
    Amount, Entered, Entry, KEPT_AFTER, Limit, Limits, MicroUsd, Reservation, Scope, Spent, Window,
};
use sentinel_core::ports::StoreError;

use crate::error::store_error;
use crate::item::{Item, attr, number, text};
use crate::store::DynamoStore;

/// The sort key of a day's counters. A later format gets another one: what is counted lives for two days.
const COUNTERS: &str = "SPENT";

/// An update of one day's counters.
#[derive(Default)]
struct Update {
    set: Vec<String>,
    add: Vec<String>,
    remove: Vec<String>,
    conditions: Vec<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Update {
    /// A placeholder for an attribute's name.
    fn name(&mut self, name: String) -> String {
        let placeholder = format!("#a{}", self.names.len());
        self.names.insert(placeholder.clone(), name);
        placeholder
    }

    /// A placeholder for a value.
    fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    /// Adds to the day and to the hour of a reservation. Nothing is added for what does not change.
    fn count(&mut self, of: &Reservation, investigations: i128, usd: i128) {
        for window in [Window::Day, Window::Hour] {
            for (limit, change) in
                [(Limit::Investigations(0), investigations), (Limit::Usd(MicroUsd(0)), usd)]
            {
                if change != 0 {
                    let name = self.name(counter(of, window, limit));
                    let value = self.value(number(change));
                    self.add.push(format!("{name} {value}"));
                }
            }
        }
    }

    fn expression(&self) -> String {
        [("SET", &self.set), ("ADD", &self.add), ("REMOVE", &self.remove)]
            .into_iter()
            .filter(|(_, parts)| !parts.is_empty())
            .map(|(verb, parts)| format!("{verb} {}", parts.join(", ")))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn reserve(reservation: &Reservation, limits: &Limits) -> Self {
        let mut update = Self::default();
        let open = update.name(open(reservation));
        update.conditions.push(format!("attribute_not_exists({open})"));
        for (window, limit) in limits.on(reservation.amount) {
            let name = update.name(counter(reservation, window, limit));
            let most = limit.most_before(reservation.amount).unwrap_or(0);
            let most = update.value(number(most));
            update.conditions.push(format!("(attribute_not_exists({name}) OR {name} <= {most})"));
        }
        let held = update.value(number(reservation.amount.usd.0));
        update.set.push(format!("{open} = {held}"));
        let expires = update.name(attr::EXPIRES.to_owned());
        let day = std::time::Duration::from_hours(24);
        let at = update.value(number(reservation.day().plus(day).plus(KEPT_AFTER).ceil_seconds()));
        update.set.push(format!("{expires} = {at}"));
        let Amount { investigations, usd } = reservation.amount;
        update.count(reservation, investigations.into(), usd.0.into());
        update
    }

    fn settle(reservation: &Reservation, actual: Amount) -> Self {
        let mut update = Self::default();
        let open = update.name(open(reservation));
        update.conditions.push(format!("attribute_exists({open})"));
        update.remove.push(open);
        let held = reservation.amount;
        update.count(
            reservation,
            i128::from(actual.investigations) - i128::from(held.investigations),
            i128::from(actual.usd.0) - i128::from(held.usd.0),
        );
        update
    }
}

/// The attribute that a reservation leaves until it is settled.
fn open(reservation: &Reservation) -> String {
    format!("open#{}", reservation.id)
}

/// The attribute that counts: `investigations`, `usd` (millionths of a dollar), and the same with the hour behind it.
fn counter(of: &Reservation, window: Window, limit: Limit) -> String {
    let name = match limit {
        Limit::Investigations(_) => "investigations",
        Limit::Usd(_) => "usd",
    };
    match window {
        Window::Day => name.to_owned(),
        Window::Hour => format!("{name}#{:02}", of.hour()),
    }
}

/// The keys of the counters of a reservation's scope and day.
fn keys(reservation: &Reservation) -> [(String, AttributeValue); 2] {
    let day = reservation.day().to_string();
    let day = day.split_once('T').map_or(day.as_str(), |(date, _)| date);
    let scope = match &reservation.scope {
        Scope::Overall => "ALL".to_owned(),
        Scope::Card(card) => format!("CARD#{card}"),
    };
    [(attr::PK.into(), text(format!("BUDGET#{day}#{scope}"))), (attr::SK.into(), text(COUNTERS))]
}

/// What an item has counted in the windows of a reservation.
fn spent(item: &Item, of: &Reservation) -> Result<Spent, StoreError> {
    let counted = |window, limit| match item.get(&counter(of, window, limit)) {
        None => Ok(0_u64),
        Some(value) => {
            // Giving back never gives back more than was reserved, so nothing here is below zero.
            value.as_n().ok().and_then(|n| n.parse().ok()).ok_or_else(|| StoreError::Unreadable {
                item: format!("the budget {} of {}", of.scope, of.day()),
                reason: format!("{} is no whole number: {value:?}", counter(of, window, limit)),
            })
        }
    };
    let amount = |window| -> Result<Amount, StoreError> {
        let investigations = counted(window, Limit::Investigations(0))?;
        Ok(Amount {
            investigations: u32::try_from(investigations).unwrap_or(u32::MAX),
            usd: MicroUsd(counted(window, Limit::Usd(MicroUsd(0)))?),
        })
    };
    Ok(Spent { hour: amount(Window::Hour)?, day: amount(Window::Day)? })
}

impl DynamoStore {
    /// See [`sentinel_core::ports::IncidentStore::budget`].
    pub(crate) async fn enter(&self, entry: &Entry) -> Result<Entered, StoreError> {
        match entry {
            Entry::Reserve { reservation, limits } => {
                // More than a whole limit: no condition can say so, and nobody can have reserved it before.
                if let Some(limit) = limits.refuse(reservation, &Spent::default()) {
                    return Ok(Entered::UsedUp(limit));
                }
                match self.update(reservation, Update::reserve(reservation, limits)).await? {
                    None => Ok(Entered::Done),
                    Some(found) if found.contains_key(&open(reservation)) => Ok(Entered::Already),
                    Some(found) => match limits.refuse(reservation, &spent(&found, reservation)?) {
                        Some(limit) => Ok(Entered::UsedUp(limit)),
                        // Only where the item had to be read again, and something was given back in between.
                        None => Err(StoreError::Unavailable(format!(
                            "{}: it changed meanwhile",
                            self.budget_action(reservation)
                        ))),
                    },
                }
            }
            Entry::Settle { reservation, actual } => {
                // Not open: it was settled before, or its day's counters have expired.
                let _ = self.update(reservation, Update::settle(reservation, *actual)).await?;
                Ok(Entered::Done)
            }
        }
    }

    /// See [`sentinel_core::ports::IncidentStore::spent`].
    pub(crate) async fn counted(&self, scope: &Scope, at: UnixMs) -> Result<Spent, StoreError> {
        let of = Reservation { scope: scope.clone(), at, id: String::new(), amount: Amount::NOTHING };
        let item = self.counters(&of, keys(&of).into()).await?;
        spent(&item, &of)
    }

    fn budget_action(&self, reservation: &Reservation) -> String {
        self.action("changing the budget", &reservation.scope.to_string())
    }

    /// Makes an update. `Some`: its condition failed, and this is what stands there.
    async fn update(&self, of: &Reservation, update: Update) -> Result<Option<Item>, StoreError> {
        let expression = update.expression();
        let keys: Item = keys(of).into();
        let sent = self
            .client()
            .update_item()
            .table_name(self.table())
            .set_key(Some(keys.clone()))
            .update_expression(expression)
            .condition_expression(update.conditions.join(" AND "))
            .set_expression_attribute_names(Some(update.names))
            .set_expression_attribute_values((!update.values.is_empty()).then_some(update.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(None),
            Err(SdkError::ServiceError(e)) if e.err().is_conditional_check_failed_exception() => {
                match e.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(e) if e.item.is_some() => Ok(e.item),
                    // An engine that leaves it out of its answer is asked again.
                    _ => self.counters(of, keys).await.map(Some),
                }
            }
            Err(e) => Err(store_error(self.budget_action(of), &e)),
        }
    }

    async fn counters(&self, of: &Reservation, keys: Item) -> Result<Item, StoreError> {
        let got = self
            .client()
            .get_item()
            .table_name(self.table())
            .set_key(Some(keys))
            .consistent_read(true)
            .send()
            .await
            .map_err(|e| store_error(self.budget_action(of), &e))?;
        Ok(got.item.unwrap_or_default())
    }
}
