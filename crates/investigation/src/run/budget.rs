//! What a run reserves before it pays, and settles afterwards.

use std::time::Duration;

use sentinel_core::budget::{Amount, Held, MicroUsd, Reserved, UsedUp, hour_of, reserve, settle};
use sentinel_core::card::ModelId;

use super::{Session, Stop};
use crate::ports::{TurnRequest, TurnUsage};
use crate::progress::Progress;

/// How long before the end of a lease its holder still gives back what it reserved: clocks are five seconds off, and
/// the store takes its time.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

impl Session<'_> {
    /// Whether this run spends money: what is recorded costs nothing.
    fn spends(&self) -> bool {
        !self.run.budget.is_empty() && self.run.model.is_some_and(|model| !model.is_recorded())
    }

    /// Counts the investigation, once a generation: before its first paid call, and not again when it is resumed.
    pub(super) async fn reserve_investigation(&mut self) -> Result<(), Stop> {
        if !self.spends() || !self.stored.turns.is_empty() || self.investigation.is_some() {
            return Ok(());
        }
        let at = self.now();
        // The same for every attempt of this hour: made twice it counts once, and it is settled where it is counted.
        let id = format!("{}-{}-{}", self.id, self.run.fence.generation, hour_of(at));
        match reserve(self.run.ports.store.as_ref(), self.run.budget, at, &id, Amount::INVESTIGATION).await? {
            Reserved::Held(held) => {
                self.investigation = Some(held);
                Ok(())
            }
            Reserved::UsedUp(limit) => Err(Stop::UsedUp(limit)),
        }
    }

    /// Holds the most that a call can cost.
    pub(super) async fn reserve_call(&self, request: &TurnRequest) -> Result<Held, Stop> {
        if !self.spends() {
            return Ok(Held::default());
        }
        let Some(most) = self.most_usd(&request.model, &self.most(request)) else {
            return Ok(Held::default());
        };
        let id = (self.run.ports.fresh)();
        match reserve(self.run.ports.store.as_ref(), self.run.budget, self.now(), &id, Amount::of(most))
            .await?
        {
            Reserved::Held(held) => Ok(held),
            Reserved::UsedUp(limit) => Err(Stop::UsedUp(limit)),
        }
    }

    /// What an answered call really cost.
    pub(super) fn cost(&self, model: &ModelId, usage: &TurnUsage) -> Amount {
        Amount::of(
            self.price(model)
                .map_or(MicroUsd::default(), |price| MicroUsd::from_usd(price.usd(usage.counted()))),
        )
    }

    /// Settles. Where the store does not take it, more stays counted than was spent, for a day at most: no reason to
    /// lose the investigation.
    pub(super) async fn settle(&self, held: Held, actual: Amount) {
        if let Err(error) = settle(self.run.ports.store.as_ref(), held, actual).await {
            tracing::warn!(%error, "what was reserved of the budget stays counted as spent");
        }
    }

    /// The investigation is paid for from here on (`spent`), or ends without a single answer of a model. It counts all
    /// the same where a call may be billed, where an earlier attempt never said how its own went (that one may still be
    /// answered), and where a later one may rely on what was reserved.
    pub(super) async fn settle_investigation(&mut self, spent: bool) {
        let head = &self.run.head;
        let overtaken = head.lease_until.is_none_or(|until| self.now().plus(SETTLED_WITHIN) >= until);
        let counts = spent || self.billed || overtaken || head.attempts > 1;
        if let Some(held) = self.investigation.take() {
            self.settle(held, if counts { Amount::INVESTIGATION } else { Amount::NOTHING }).await;
        }
    }

    /// Puts the incident on the storm notice, before anything ends: never silently. Gives the report's reason.
    pub(super) async fn used_up(&mut self, limit: &UsedUp) -> Result<String, Stop> {
        self.settle_investigation(false).await;
        let limit = limit.to_string();
        let mut head = self.run.head.clone();
        head.redact(self.run.redactor);
        sentinel_core::storm::note(self.run.ports, self.run.rules, &head, &limit).await?;
        self.tell(Progress::BudgetUsedUp { incident: self.id.clone(), limit: limit.clone() });
        let turns = self.stored.turns.len();
        let asked = match turns {
            0 => "no model was asked".to_owned(),
            1 => "the model was not asked again after its first turn".to_owned(),
            _ => format!("the model was not asked again after {turns} turns"),
        };
        Ok(format!("{limit}; {asked}"))
    }
}
