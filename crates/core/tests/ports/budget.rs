//! Reserving in several scopes, and giving back.

use futures::executor::block_on;
use sentinel_core::UnixMs;
use sentinel_core::budget::{Amount, Held, Limits, MicroUsd, Reserved, Scope, UsedUp, reserve, settle};
use sentinel_core::ports::StoreError;

use crate::support::{Fault, START, World};

fn scopes(card: u32, overall: u32) -> [(Scope, Limits); 2] {
    let limits = |most| Limits { per_hour: Some(most), ..Limits::default() };
    [(Scope::Card("pods".into()), limits(card)), (Scope::Overall, limits(overall))]
}

fn ask(world: &World, scopes: &[(Scope, Limits)], id: &str) -> Result<Reserved, StoreError> {
    block_on(reserve(world, scopes, UnixMs::new(START), id, Amount::INVESTIGATION))
}

fn held(world: &World, scopes: &[(Scope, Limits)], id: &str) -> Held {
    match ask(world, scopes, id).unwrap() {
        Reserved::Held(held) => held,
        Reserved::UsedUp(limit) => panic!("{limit}"),
    }
}

fn refused(world: &World, scopes: &[(Scope, Limits)], id: &str) -> UsedUp {
    match ask(world, scopes, id).unwrap() {
        Reserved::Held(held) => panic!("{held:?}"),
        Reserved::UsedUp(limit) => limit,
    }
}

#[test]
fn a_call_is_held_in_the_card_and_overall_until_it_is_settled() {
    let world = World::new();
    let held = held(&world, &scopes(5, 5), "a");
    assert_eq!(world.open.lock().unwrap().len(), 2);
    block_on(settle(&*world, held, Amount::INVESTIGATION)).unwrap();
    assert_eq!(world.open.lock().unwrap().len(), 0);
}

#[test]
fn a_scope_that_has_no_room_gives_back_what_the_others_held() {
    let world = World::new();
    let limit = refused(&world, &scopes(5, 0), "a");
    assert_eq!(limit.scope, Scope::Overall);
    assert_eq!(world.open.lock().unwrap().len(), 0);
    assert_eq!(refused(&world, &scopes(0, 5), "a").scope, Scope::Card("pods".into()));
    assert_eq!(
        world.calls(),
        ["budget", "budget", "budget", "budget"],
        "the card alone was asked the second time"
    );
}

#[test]
fn what_is_not_limited_is_not_counted() {
    let world = World::new();
    let none = [(Scope::Overall, Limits::default())];
    assert_eq!(held(&world, &none, "a"), Held::default());
    let money = [(Scope::Overall, Limits { usd_per_day: Some(MicroUsd(1)), ..Limits::default() })];
    assert_eq!(held(&world, &money, "a"), Held::default());
    assert_eq!(world.calls(), [""; 0]);
}

#[test]
fn a_store_that_does_not_answer_grants_nothing() {
    for (fault, left) in [(Fault::Before, 0), (Fault::After, 1)] {
        let world = World::new();
        world.fail("budget", &[fault]);
        assert!(ask(&world, &scopes(5, 5)[1..], "a").unwrap_err().is_retryable());
        // A reply that was lost leaves the reservation spent: too much is counted, never too little.
        assert_eq!(world.open.lock().unwrap().len(), left, "{fault:?}");
    }
}

#[test]
fn what_an_earlier_attempt_reserved_is_not_given_back_by_one_that_fails() {
    let world = World::new();
    // The card's is there already; the other scope does not answer, or has no room.
    let _ = held(&world, &scopes(5, 5)[..1], "a");
    world.fail("budget", &[Fault::None, Fault::Before]);
    assert!(ask(&world, &scopes(5, 5), "a").is_err());
    assert_eq!(world.open.lock().unwrap().len(), 1);
    assert_eq!(refused(&world, &scopes(5, 0), "a").scope, Scope::Overall);
    assert_eq!(world.open.lock().unwrap().len(), 1);
}

#[test]
fn one_scope_that_cannot_be_settled_keeps_no_other_from_it() {
    let world = World::new();
    let held = held(&world, &scopes(5, 5), "a");
    world.fail("budget", &[Fault::Before]);
    assert!(block_on(settle(&*world, held.clone(), Amount::NOTHING)).is_err());
    assert_eq!(world.open.lock().unwrap().len(), 1);
    block_on(settle(&*world, held, Amount::NOTHING)).unwrap();
    assert_eq!(world.open.lock().unwrap().len(), 0);
}
