//! Row Sweep, the restart of the embedded service, and when the sweeper has to look.

use super::*;

#[test]
fn a_pending_one_is_sent_again_ever_more_slowly() {
    let mut s = Story::pending();
    let mut last = 0;
    let mut gaps = Vec::new();
    for _ in 0..5 {
        let due = (due_at(s.head()).expect("due").get() - START) / 1000;
        assert_eq!(s.at(due - 1).take(&Sweep), Swept::Left);
        assert_eq!(s.at(due).take(&Sweep), Swept::Sent);
        assert_eq!((s.head().sent_at, s.sent), (Some(at(due)), Some(Duration::ZERO)));
        gaps.push((due - last) / 60);
        last = due;
    }
    assert_eq!(gaps, [2, 4, 8, 15, 15]);
    assert_eq!(s.head().sends, 5);
}

#[test]
fn a_pending_one_is_not_sent_before_its_time() {
    let mut s = Story::with(Rules { wait: secs(300), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(due_at(s.head()), Some(at(420)));
    s.edit().sent_at = Some(at(60));
    assert_eq!(due_at(s.head()), Some(at(420)), "the later of the two counts");
    s.edit().sent_at = Some(at(360));
    assert_eq!(due_at(s.head()), Some(at(480)));
}

#[test]
fn a_wait_of_hours_is_one_message_and_the_sweepers() {
    let mut s = Story::with(Rules { wait: Duration::from_hours(3), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.sent, Some(Duration::from_hours(3)), "the queue cuts it to what it can do");
    assert_eq!(s.at(900).claim("w"), Claimed::Deferred);
    assert_eq!((s.wrote, s.sent), (false, None), "no chain of hops");
    assert_eq!(due_at(s.head()), Some(at(10_800)), "when it may start");
    assert_eq!(s.at(10_799).take(&Sweep), Swept::Left);
    assert_eq!(s.at(10_800).take(&Sweep), Swept::Sent);
    assert_eq!(due_at(s.head()), Some(at(10_800 + 4 * 60)), "from then on as any other");
    // What is left of a shorter wait is waited for in the queue.
    let mut s = Story::with(Rules { wait: secs(1_000), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.at(900).claim("w"), Claimed::Deferred);
    assert_eq!(s.sent, Some(secs(100)));
}

#[test]
fn what_waits_to_be_begun_has_less_hurry_than_anything_else_that_is_due() {
    let s = Story::pending();
    assert_eq!(Owed::of(s.head()), Owed::Queued);
    let (mut s, fence) = Story::running();
    assert_eq!(Owed::of(s.head()), Owed::Soon);
    let _ = s.commit(fence);
    assert_eq!(Owed::of(s.head()), Owed::Soon);
    assert!(Owed::Soon < Owed::Queued && Owed::ALL.is_sorted());
}

#[test]
fn how_long_one_waits_does_not_start_anew_when_its_job_is_sent_again() {
    let mut s = Story::pending();
    let since = waits_since(s.head());
    assert_eq!(s.at(120).take(&Sweep), Swept::Sent);
    assert_eq!((since, waits_since(s.head())), (Some(at(0)), since));
    assert_eq!(waits_since(Story::done().head()), None);
}

#[test]
fn a_running_one_is_due_when_its_lease_ends() {
    let (mut s, _) = Story::running();
    assert_eq!(due_at(s.head()), Some(at(60)));
    assert_eq!(s.at(59).take(&Sweep), Swept::Left);
    assert_eq!(s.at(61).take(&Sweep), Swept::Sent);
    assert_eq!((s.wrote, s.sent), (false, Some(Duration::ZERO)));
}

#[test]
fn an_ended_one_is_due_with_its_first_delivery() {
    for (i, state) in [State::Done, State::Failed, State::Suppressed, State::Aborted].into_iter().enumerate()
    {
        let (mut s, fence) = Story::running();
        let _ = s.commit(fence);
        s.edit().state = state;
        let _ = s.claim_delivery(Event::Findings, "d1");
        assert_eq!(due_at(s.head()), Some(at(120)), "{i}: when the claim is over");
        assert_eq!(s.at(119).take(&Sweep), Swept::Left);
        assert_eq!(s.at(120).take(&Sweep), Swept::Sent);
        assert!(!s.wrote);
        let _ = s.delivered(Event::Findings, "d1");
        assert_eq!((due_at(s.head()), s.at(9999).take(&Sweep)), (None, Swept::Left));
    }
}

#[test]
fn nothing_is_swept_where_nothing_is() {
    let mut s = Story::new();
    assert_eq!((s.take(&Sweep), s.take(&Restart)), (Swept::Left, Swept::Left));
}

#[test]
fn a_restart_ends_leases_and_sends_what_has_not_ended() {
    let (mut s, _) = Story::running();
    assert_eq!(s.at(5).take(&Restart), Swept::Sent);
    assert_eq!((s.head().lease_until, s.sent), (Some(at(5)), Some(Duration::ZERO)));
    assert_eq!(s.begin("w2").epoch, 2);
}

#[test]
fn a_restart_keeps_the_wait() {
    let mut s = Story::with(Rules { wait: secs(300), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.at(100).take(&Restart), Swept::Sent);
    assert_eq!((s.wrote, s.sent), (false, Some(secs(200))));
}

#[test]
fn a_restart_takes_claims_over_and_keeps_back_offs() {
    let (mut s, fence) = Story::running();
    let _ = s.commit(fence);
    let _ = s.claim_delivery(Event::Findings, "d1");
    assert_eq!(s.at(5).take(&Restart), Swept::Sent);
    assert_eq!(s.sent, Some(Duration::ZERO));
    assert!(matches!(s.claim_delivery(Event::Findings, "d2"), DeliveryClaimed::Tell { .. }));
    let _ = s.missed(Event::Findings, "d2", Some(secs(300)));
    let _ = s.take(&Restart);
    assert_eq!((s.wrote, s.sent), (false, Some(secs(300))));
}

#[test]
fn a_restart_leaves_what_is_settled() {
    let mut s = Story::done();
    assert_eq!(s.take(&Restart), Swept::Left);
    assert_eq!((s.wrote, s.sent), (false, None));
}
