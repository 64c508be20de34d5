//! The shell around the rules, against a store and a queue that fail: what is called, in which order, and what a
//! sender's retry finds.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{Fault, World, card, firing, message, resolved};
use futures::executor::block_on;
use sentinel_core::drive::{DriveError, Start, drive};
use sentinel_core::incident::{Fence, IncidentId, State};
use sentinel_core::intake::{Receipt, intake};
use sentinel_core::lifecycle::{
    Abort, Aborted, Claim, Claimed, Commit, Ended, FIRST_LEASE, Paid, PaidOutcome, Rules, Sweep, Swept,
};
use sentinel_core::ports::StoreError;
use sentinel_core::redact::Redactor;
use sentinel_core::report::Verdict;

fn post(world: &Arc<World>, alerts: Vec<sentinel_core::alert::Alert>) -> Result<Receipt, DriveError> {
    block_on(intake(&world.ports(), &[card("pods")], &Redactor::default(), &message(alerts)))
}

fn rules() -> Rules {
    Rules::of(&card("pods"))
}

/// One stored incident, of which nothing is remembered but its record.
fn with_one() -> Arc<World> {
    let world = World::new();
    assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().accepted, 1);
    let _ = world.calls();
    world
}

fn claim(world: &Arc<World>, owner: &str) -> Claimed {
    let head = world.only();
    let input = Claim { generation: head.generation, owner: owner.into() };
    block_on(drive(&world.ports(), &head.id, &input, &rules(), Start::Load, None)).unwrap().outcome
}

fn running() -> (Arc<World>, Fence) {
    let world = with_one();
    let Claimed::Investigate(fence) = claim(&world, "w1") else { panic!("no lease") };
    let _ = world.calls();
    (world, fence)
}

fn done() -> Arc<World> {
    let (world, fence) = running();
    let id = world.only().id;
    let input = Commit { fence, verdict: Verdict::NoAction };
    let ended = block_on(drive(&world.ports(), &id, &input, &rules(), Start::Load, None)).unwrap();
    assert!(matches!(ended.outcome, Ended::Ended(_)));
    let _ = world.calls();
    world
}

#[test]
fn a_new_alert_is_one_create_then_its_snapshot_beside_its_job() {
    let world = World::new();
    let receipt = post(&world, vec![firing("Down", "a", 0)]).unwrap();
    let calls = world.calls();
    assert_eq!(calls, ["create", "append", "send"], "and nothing else, not even a read");
    assert_eq!(receipt.accepted, 1);
    let head = world.only();
    assert_eq!((head.version, head.state), (1, State::Pending));
    assert!(world.has_snapshot_of(&head));
    let jobs = world.jobs.lock().unwrap();
    assert_eq!((&jobs[0].0.incident, jobs[0].0.generation), (&head.id, head.generation));
}

#[test]
fn a_duplicate_of_a_running_or_ended_incident_is_one_conditional_write_and_nothing_else() {
    for world in [running().0, done()] {
        let before = world.only();
        assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().duplicates, 1);
        assert_eq!(world.calls(), ["create"]);
        assert_eq!(world.only(), before);
    }
}

#[test]
fn a_duplicate_of_a_pending_incident_stores_its_snapshot_and_sends_again() {
    let world = with_one();
    assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().duplicates, 1);
    assert_eq!(world.calls(), ["create", "append", "send"]);
    assert_eq!(world.only().version, 1, "nothing is written");
}

#[test]
fn a_join_appends_before_it_swaps() {
    let (world, _) = running();
    assert_eq!(post(&world, vec![firing("Down", "b", 5)]).unwrap().joined, 1);
    assert_eq!(world.calls(), ["create", "append", "swap"]);
    assert!(world.has_snapshot_of(&world.only()));
}

#[test]
fn a_join_to_a_pending_incident_sends_after_the_swap() {
    let world = with_one();
    assert_eq!(post(&world, vec![firing("Down", "b", 5)]).unwrap().joined, 1);
    assert_eq!(world.calls(), ["create", "append", "swap", "send"]);
}

#[test]
fn a_head_never_refers_to_a_snapshot_that_is_not_stored() {
    let (world, _) = running();
    world.fail("append", &[Fault::Before]);
    let before = world.only();
    assert!(post(&world, vec![firing("Down", "b", 5)]).unwrap_err().is_retryable());
    assert_eq!(world.calls(), ["create", "append"]);
    assert_eq!(world.only(), before);
    assert_eq!(post(&world, vec![firing("Down", "b", 5)]).unwrap().joined, 1, "the retry joins it");
}

#[test]
fn a_job_that_was_not_accepted_fails_the_intake_and_a_retry_mends_it() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new();
        world.fail("send", &[fault]);
        let error = post(&world, vec![firing("Down", "a", 0)]).unwrap_err();
        assert!(matches!(error, DriveError::Queue(_)) && error.is_retryable());
        let stored = world.only();
        assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().duplicates, 1);
        assert_eq!(world.only(), stored, "one generation");
        assert!(!world.jobs.lock().unwrap().is_empty());
    }
}

#[test]
fn a_snapshot_that_was_not_stored_fails_the_intake_and_a_retry_mends_it() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new();
        world.fail("append", &[fault]);
        assert!(post(&world, vec![firing("Down", "a", 0)]).unwrap_err().is_retryable());
        assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().duplicates, 1);
        assert!(world.has_snapshot_of(&world.only()));
        assert_eq!(world.snapshots().len(), 1);
    }
}

#[test]
fn a_lost_reply_to_create_opens_no_second_generation() {
    let world = World::new();
    world.fail("create", &[Fault::After]);
    assert!(post(&world, vec![firing("Down", "a", 0)]).unwrap_err().is_retryable());
    let first = world.only().generation;
    assert_eq!(world.calls(), ["create"]);
    world.pass(3);
    assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().duplicates, 1);
    assert_eq!(world.only().generation, first);
    assert!(world.has_snapshot_of(&world.only()));
    assert_eq!(world.jobs.lock().unwrap().len(), 1, "the job that the first try did not send");
}

#[test]
fn a_create_that_never_arrived_is_mended_by_the_retry() {
    let world = World::new();
    world.fail("create", &[Fault::Before]);
    assert!(post(&world, vec![firing("Down", "a", 0)]).unwrap_err().is_retryable());
    assert!(world.heads().is_empty());
    assert_eq!(post(&world, vec![firing("Down", "a", 0)]).unwrap().accepted, 1);
}

#[test]
fn a_lost_reply_to_the_swap_that_opens_is_mended_by_the_retry() {
    let world = done();
    let mut head = world.only();
    head.deliveries.clear();
    world.put(head.clone());
    world.pass(700);
    world.fail("swap", &[Fault::After]);
    assert!(post(&world, vec![firing("Down", "a", 690)]).unwrap_err().is_retryable());
    let opened = world.only().generation;
    assert!(opened > head.generation);
    world.pass(1);
    assert_eq!(post(&world, vec![firing("Down", "a", 690)]).unwrap().duplicates, 1);
    assert_eq!(world.only().generation, opened);
    assert_eq!(world.jobs.lock().unwrap().last().unwrap().0.generation, opened);
}

#[test]
fn a_stale_swap_decides_again_on_what_it_found() {
    let (world, _) = running();
    world.fail("swap", &[Fault::Stale, Fault::Stale]);
    assert_eq!(post(&world, vec![firing("Down", "b", 5)]).unwrap().joined, 1);
    assert_eq!(world.calls(), ["create", "append", "swap", "append", "swap", "append", "swap"]);
    assert_eq!(world.only().known.iter().count(), 2);
}

#[test]
fn of_two_claims_at_once_one_gets_the_lease() {
    let world = with_one();
    let head = world.only();
    let claim = |owner: &str| Claim { generation: head.generation, owner: owner.into() };
    let (one, two) = (claim("w1"), claim("w2"));
    let (ports, rules) = (world.ports(), rules());
    let (a, b) = block_on(async {
        futures::join!(
            drive(&ports, &head.id, &one, &rules, Start::Load, None),
            drive(&ports, &head.id, &two, &rules, Start::Load, None)
        )
    });
    let outcomes = [a.unwrap().outcome, b.unwrap().outcome];
    assert_eq!(outcomes.iter().filter(|o| matches!(o, Claimed::Investigate(_))).count(), 1, "{outcomes:?}");
    assert!(outcomes.contains(&Claimed::Acknowledge), "the other found the lease taken");
    assert_eq!(world.only().epoch, 1);
}

#[test]
fn a_claim_whose_reply_was_lost_is_the_same_claim_when_it_is_made_again() {
    let world = with_one();
    let head = world.only();
    world.fail("swap", &[Fault::After]);
    let input = Claim { generation: head.generation, owner: "w1".into() };
    let error = block_on(drive(&world.ports(), &head.id, &input, &rules(), Start::Load, None)).unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(claim(&world, "w1"), Claimed::Investigate(Fence { generation: head.generation, epoch: 1 }));
    assert_eq!(world.only().attempts, 1);
}

#[test]
fn a_known_head_saves_the_read() {
    let (world, fence) = running();
    let head = world.only();
    let input = Paid { fence, turn: 1, timeout: Duration::from_secs(90) };
    let start = Start::Known(Box::new(head.clone()));
    let driven = block_on(drive(&world.ports(), &head.id, &input, &rules(), start, None)).unwrap();
    assert!(matches!(driven.outcome, PaidOutcome::Granted { .. }));
    assert_eq!(world.calls(), ["swap"]);
    assert_eq!(driven.head, Some(world.only()));
}

#[test]
fn a_known_head_that_is_old_news_loses_to_what_is_stored() {
    let (world, fence) = running();
    let head = world.only();
    world.pass(i64::try_from(FIRST_LEASE.as_secs()).unwrap());
    assert!(matches!(claim(&world, "w2"), Claimed::Investigate(_)));
    let input = Commit { fence, verdict: Verdict::NoAction };
    let start = Start::Known(Box::new(head.clone()));
    let driven = block_on(drive(&world.ports(), &head.id, &input, &rules(), start, None)).unwrap();
    assert_eq!(driven.outcome, Ended::NotMine);
    assert_eq!(world.only().state, State::Running);
}

#[test]
fn an_incident_that_somebody_deleted_during_a_run_is_nobodys() {
    let (world, fence) = running();
    let head = world.only();
    world.delete(&head.id);
    let input = Commit { fence, verdict: Verdict::NoAction };
    let start = Start::Known(Box::new(head.clone()));
    let driven = block_on(drive(&world.ports(), &head.id, &input, &rules(), start, None)).unwrap();
    assert_eq!((driven.outcome, driven.head), (Ended::NotMine, None));
    assert!(world.heads().is_empty());
}

#[test]
fn a_join_to_an_incident_that_is_deleted_meanwhile_opens_it_anew() {
    let (world, _) = running();
    let head = world.only();
    let a =
        sentinel_core::intake::fold(&[card("pods")], &message(vec![]).envelope, &[firing("Down", "b", 5)])
            .0
            .remove(0);
    world.delete(&head.id);
    let start = Start::Known(Box::new(head.clone()));
    let driven =
        block_on(drive(&world.ports(), &head.id, &a.arrival, &rules(), start, Some(&a.notification)))
            .unwrap();
    assert_eq!(driven.outcome.taken, sentinel_core::lifecycle::Taken::Accepted);
    assert_eq!(world.only().state, State::Pending);
    assert_eq!(world.calls(), ["append", "swap", "create", "append", "send"]);
}

#[test]
fn a_head_that_changes_under_every_try_is_given_up_retryably() {
    let (world, _) = running();
    world.fail("swap", &[Fault::Stale; 100]);
    let error = post(&world, vec![firing("Down", "b", 5)]).unwrap_err();
    assert!(matches!(error, DriveError::Store(StoreError::Contended(_))) && error.is_retryable());
    assert!(world.calls().len() < 100);
}

#[test]
fn a_resolve_of_nothing_is_one_read() {
    let world = World::new();
    assert_eq!(post(&world, vec![resolved("Down", "a", 0, 5)]).unwrap().duplicates, 1);
    assert_eq!(world.calls(), ["load"]);
    assert!(world.heads().is_empty());
}

#[test]
fn a_resolve_during_wait_is_one_read_its_snapshot_one_swap_and_the_job_that_tells_it() {
    let world = with_one();
    assert_eq!(post(&world, vec![resolved("Down", "a", 0, 5)]).unwrap().suppressed, 1);
    assert_eq!(world.calls(), ["load", "append", "swap", "send"]);
}

#[test]
fn an_abort_of_nothing_touches_nothing() {
    let world = World::new();
    let input = Abort { who: "me".into() };
    let id = IncidentId::new("none");
    let driven = block_on(drive(&world.ports(), &id, &input, &rules(), Start::Load, None)).unwrap();
    assert_eq!(driven.outcome, Aborted::Unknown);
    assert_eq!(world.calls(), ["load"]);
}

#[test]
fn a_sweep_sends_after_it_has_written_that_it_does() {
    let world = with_one();
    world.pass(121);
    let head = world.only();
    let start = Start::Known(Box::new(head.clone()));
    let driven = block_on(drive(&world.ports(), &head.id, &Sweep, &rules(), start, None)).unwrap();
    assert_eq!(driven.outcome, Swept::Sent);
    assert_eq!(world.calls(), ["swap", "send"]);
}
