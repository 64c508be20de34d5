//! Deleting an incident: its head becomes a tombstone, and everything that is stored of it goes.

use crate::drive::{DriveError, Driven, Start, drive};
use crate::incident::{Gen, IncidentId};
use crate::lifecycle::{Delete, Deletion, Rules};
use crate::ports::Ports;

/// Deletes all that is stored of an incident, and leaves a tombstone that says who did it and when.
///
/// The tombstone comes first. After a crash in between the same call goes on: it finds the tombstone and deletes the rest.
/// Where no head is there (it has expired), what is left without one goes.
///
/// # Errors
/// The store. Deleting again is harmless.
pub async fn delete(ports: &Ports, id: &IncidentId, who: String) -> Result<Deletion, DriveError> {
    let begun = Gen(ports.clock.now().get());
    let input = Delete { who };
    let Driven { outcome, head } = drive(ports, id, &input, &Rules::of_no_card(), Start::Load, None).await?;
    match (outcome, head) {
        (Deletion::Deleted, Some(tombstone)) => {
            let items = ports.store.remove(id, tombstone.generation).await?;
            tracing::info!(incident = %id, items, who = input.who, "incident deleted");
            Ok(Deletion::Deleted)
        }
        (Deletion::Unknown, None) => match ports.store.remove(id, begun).await? {
            0 => Ok(Deletion::Unknown),
            items => {
                tracing::info!(incident = %id, items, who = input.who, "what was left of an incident deleted");
                Ok(Deletion::Deleted)
            }
        },
        (outcome, _) => Ok(outcome),
    }
}
