//! Rows Notify.

use super::*;

#[test]
fn a_first_alert_opens_a_generation_named_by_the_time() {
    let mut s = Story::new();
    assert_eq!(s.tell(&[fires(1, -30)]), Taken::Accepted);
    let head = s.head();
    assert_eq!((head.state, head.generation, head.epoch), (State::Pending, Gen(START), 0));
    assert_eq!((head.began, head.seen, head.resolved_at), (Some(at(-30)), Some(at(-30)), None));
    assert_eq!((head.not_before, head.reopen_after), (at(0), at(WINDOW)));
    assert_eq!((&head.known, &head.firing), (&members([1]), &members([1])));
    assert_eq!((s.appended, s.sent), (true, Some(Duration::ZERO)));
}

#[test]
fn a_first_alert_waits_as_long_as_the_card_says() {
    let mut s = Story::with(Rules { wait: secs(120), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.head().not_before, at(120));
    assert_eq!(s.sent, Some(secs(120)));
}

#[test]
fn a_first_notification_knows_its_resolved_members_too() {
    let mut s = Story::new();
    let _ = s.tell(&[fires(1, 0), ended(2, -60, -10)]);
    assert_eq!(s.head().known, members([1, 2]));
    assert_eq!(s.head().firing, members([1]));
}

fn suppressed() -> Story {
    let mut s = Story::with(Rules { wait: secs(120), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.at(30).tell(&[ended(1, 0, 20)]), Taken::Suppressed);
    s
}

#[test]
fn a_later_start_reopens_what_was_suppressed_at_once() {
    let mut s = suppressed();
    let before = s.head().generation;
    assert_eq!(s.at(40).tell(&[fires(1, 35)]), Taken::Accepted);
    assert_eq!(s.state(), State::Pending);
    assert!(s.head().generation > before);
    assert_eq!((s.head().resolved_at, s.head().not_before, s.sent), (None, at(160), Some(secs(120))));
    assert!(s.appended);
}

#[test]
fn reopening_cancels_the_notice_of_the_suppression() {
    let mut s = suppressed();
    assert_eq!(s.owed(), [Event::Suppressed]);
    let _ = s.at(40).tell(&[fires(1, 35)]);
    assert_eq!(s.head().deliveries, []);
}

#[test]
fn the_same_start_reopens_what_was_suppressed() {
    assert_eq!(suppressed().at(40).tell(&[fires(1, 0)]), Taken::Accepted);
}

#[test]
fn a_member_never_seen_reopens_what_was_suppressed_whenever_it_began() {
    assert_eq!(suppressed().at(40).tell(&[fires(2, -300)]), Taken::Accepted);
}

#[test]
fn a_start_that_nobody_gave_reopens_what_was_suppressed() {
    assert_eq!(suppressed().at(40).tell(&[fires_undated(1)]), Taken::Accepted);
    let mut s = Story::new();
    let _ = s.tell(&[fires_undated(1)]);
    assert_eq!(s.tell(&[ended(1, 0, 20)]), Taken::Suppressed);
    assert_eq!(
        s.tell(&[fires(1, -300)]),
        Taken::Accepted,
        "the suppressed one has no beginning to be older than"
    );
}

#[test]
fn an_older_start_of_a_known_member_stays_suppressed() {
    let mut s = suppressed();
    assert_eq!(s.at(40).tell(&[fires(1, -300)]), Taken::Duplicate);
    assert_eq!(s.state(), State::Suppressed);
    assert_eq!(s.owed(), [Event::Suppressed], "it is no news");
}

#[test]
fn a_member_that_was_not_told_apart_reopens_what_was_suppressed() {
    // 65 members were seen, all but one of them resolved, then that one.
    let mut s = Story::with(Rules { wait: secs(600), ..rules() });
    let _ = s.tell(&(1..=40).map(|n| fires(n, 0)).collect::<Vec<_>>());
    let rest: Vec<Member> = (2..=40).map(|n| ended(n, 0, 5)).chain((41..=65).map(|n| fires(n, 0))).collect();
    let _ = s.tell(&rest);
    assert!(s.head().known.is_many());
    assert!(!s.head().firing.is_many());
    let all: Vec<Member> = (1..=65).map(|n| ended(n, 0, 9)).collect();
    assert_eq!(s.tell(&all), Taken::Suppressed);
    assert_eq!(s.tell(&[fires(99, -300)]), Taken::Accepted, "nothing was spent, so nobody is turned away");
}

#[test]
fn a_pending_duplicate_writes_nothing_and_sends_again() {
    let mut s = Story::with(Rules { wait: secs(120), ..rules() });
    let _ = s.tell(&[fires(1, 0)]);
    assert_eq!(s.at(50).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert!(!s.wrote);
    assert_eq!((s.appended, s.sent), (true, Some(secs(70))), "a lost snapshot or message is mended here");
}

#[test]
fn a_member_that_joins_a_pending_one_is_known_to_it() {
    let mut s = Story::pending();
    assert_eq!(s.at(10).tell(&[fires(2, 5)]), Taken::Joined);
    assert_eq!((&s.head().known, &s.head().firing), (&members([1, 2]), &members([1, 2])));
    assert_eq!((s.head().began, s.head().seen), (Some(at(5)), Some(at(5))));
    assert_eq!(s.owed(), [], "whoever investigates will see it");
    assert!(s.appended && s.sent.is_some());
}

#[test]
fn a_later_start_while_pending_is_recorded() {
    let mut s = Story::pending();
    assert_eq!(s.at(60).tell(&[fires(1, 50)]), Taken::Joined);
    assert_eq!((s.head().began, s.head().seen), (Some(at(50)), Some(at(50))));
}

#[test]
fn a_new_episode_while_pending_takes_back_the_resolve() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    assert_eq!(s.at(20).tell(&[ended(1, 0, 15)]), Taken::Resolved);
    let _ = s.put_off(fence, 60);
    assert_eq!(s.at(30).tell(&[fires(1, 25)]), Taken::Joined);
    assert_eq!(s.head().resolved(), None);
}

#[test]
fn a_late_copy_of_the_old_firing_while_pending_leaves_the_resolve() {
    let (mut s, fence) = Story::running();
    let _ = s.pay(fence, 1, 10);
    let _ = s.at(20).tell(&[ended(1, 0, 15)]);
    let _ = s.put_off(fence, 60);
    assert_eq!(s.at(30).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!((s.head().resolved_at, s.head().again), (Some(at(15)), None));
}

#[test]
fn a_new_episode_after_the_window_opens_the_next_generation() {
    let mut s = Story::done();
    s.edit().truncated = true;
    let old = s.head().clone();
    assert_eq!(s.at(700).tell(&[fires(1, 650)]), Taken::Accepted);
    let head = s.head();
    assert_eq!((head.state, head.generation, head.epoch), (State::Pending, Gen(START + 700_000), old.epoch));
    assert_eq!((head.attempts, head.slices, head.sends, head.turn), (0, 0, 0, 0));
    assert_eq!((head.sent_at, head.resolved_at, head.lease_until, head.ttl), (None, None, None, None));
    assert_eq!((&head.owner, head.verdict, &head.reason, head.truncated), (&None, None, &None, false));
    assert_eq!((head.not_before, head.reopen_after), (at(700), at(700 + WINDOW)));
    assert_eq!(head.deliveries, []);
    assert!(s.appended && s.sent == Some(Duration::ZERO));
}

#[test]
fn the_next_generation_knows_its_members_and_whoever_still_fires() {
    let mut s = Story::done();
    assert_eq!(s.at(10).tell(&[fires(1, 0), fires(2, 5)]), Taken::Joined);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(3, 690)]), Taken::Accepted);
    assert_eq!(s.head().known, members([1, 2, 3]));
    assert_eq!(s.head().firing, members([1, 2, 3]));
}

#[test]
fn a_clock_that_went_back_still_opens_a_later_generation() {
    let mut s = Story::done();
    s.edit().reopen_after = at(-100);
    assert_eq!(s.at(-50).tell(&[fires(1, 650)]), Taken::Accepted);
    assert_eq!(s.head().generation, Gen(START + 1));
}

#[test]
fn each_kind_of_new_episode_opens_the_next_generation() {
    // A member never seen in this generation.
    assert_eq!(Story::done().at(700).tell(&[fires(2, 0)]), Taken::Accepted);
    // Later than the recorded end, however shortly.
    let mut s = Story::done();
    let _ = s.at(30).tell(&[ended(1, 0, 20)]);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(1, 21)]), Taken::Accepted);
    // No end was ever told, but it began later than the window allows.
    assert_eq!(Story::done().at(700).tell(&[fires(1, WINDOW + 1)]), Taken::Accepted);
    // The card asks for it.
    let mut s = Story::done();
    s.rules.reinvestigate_after = Some(secs(3600));
    assert_eq!(s.at(3599).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!(s.at(3600).tell(&[fires(1, 0)]), Taken::Accepted);
}

#[test]
fn an_alert_that_merely_goes_on_is_never_paid_for_again() {
    let mut s = Story::done();
    for day in 1..40 {
        assert_eq!(s.at(day * 86_400).tell(&[fires(1, 0)]), Taken::Duplicate);
    }
    // A restart of Prometheus moves the start, within the window.
    assert_eq!(s.at(41 * 86_400).tell(&[fires(1, WINDOW)]), Taken::Joined);
    assert_eq!((s.state(), s.owed(), s.head().again), (State::Done, vec![], None));
}

#[test]
fn an_undated_alert_that_fires_again_after_its_resolve_is_a_new_episode_by_status() {
    let mut s = Story::new();
    let _ = s.tell(&[fires_undated(1)]);
    let fence = s.begin("w1");
    let _ = s.commit(fence);
    let _ = s.at(30).tell(&[Member { starts_at: None, ..ended(1, 0, 20) }]);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires_undated(1)]), Taken::Accepted);
}

#[test]
fn an_undated_alert_that_still_fires_is_no_new_episode() {
    let mut s = Story::new();
    let _ = s.tell(&[fires_undated(1)]);
    let fence = s.begin("w1");
    let _ = s.commit(fence);
    let _ = s.deliver_all();
    assert_eq!(s.at(86_400).tell(&[fires_undated(1)]), Taken::Duplicate);
}

#[test]
fn of_many_members_a_strange_one_is_no_new_episode_but_a_late_one_is() {
    let crowd: Vec<Member> = (1..=65).map(|n| fires(n, 0)).collect();
    let mut s = Story::new();
    let _ = s.tell(&crowd);
    assert!(s.head().known.is_many());
    let fence = s.begin("w1");
    let _ = s.commit(fence);
    let _ = s.deliver_all();
    assert_eq!(s.at(700).tell(&[fires(99, 0)]), Taken::Duplicate);
    assert_eq!(s.owed(), []);
    assert_eq!(s.at(700).tell(&[fires(99, WINDOW + 1)]), Taken::Accepted);
}

#[test]
fn nothing_reopens_before_the_window_is_over_but_people_are_told() {
    let mut s = Story::done();
    assert_eq!(s.at(WINDOW - 1).tell(&[fires(2, 500)]), Taken::Joined);
    assert_eq!((s.state(), s.owed()), (State::Done, vec![Event::Updated]));
    assert_eq!(s.deliver_all(), [Event::Updated]);
    assert_eq!(
        s.at(WINDOW).tell(&[fires(2, 500)]),
        Taken::Accepted,
        "the next repeat after the window opens it"
    );
}

#[test]
fn nothing_reopens_while_a_delivery_is_owed_but_people_are_told() {
    let (mut s, fence) = Story::running();
    let _ = s.commit(fence);
    assert_eq!(s.at(700).tell(&[fires(1, 650)]), Taken::Joined);
    assert_eq!(s.owed(), [Event::Findings, Event::Updated]);
    let _ = s.deliver_all();
    assert_eq!(s.tell(&[fires(1, 650)]), Taken::Accepted);
}

#[test]
fn a_join_to_a_running_one_within_the_window_belongs_to_its_generation() {
    let (mut s, _) = Story::running();
    assert_eq!(s.at(20).tell(&[fires(1, 0), fires(2, 10)]), Taken::Joined);
    assert_eq!((&s.head().known, &s.head().firing), (&members([1, 2]), &members([1, 2])));
    assert_eq!((s.head().began, s.head().seen), (Some(at(10)), Some(at(10))));
    assert_eq!((s.appended, s.sent), (true, None));
}

#[test]
fn news_during_a_run_is_told_once_it_has_ended() {
    let (mut s, fence) = Story::running();
    let _ = s.at(20).tell(&[fires(2, 10)]);
    assert_eq!(s.owed(), [Event::Updated]);
    assert_eq!(s.head().due_deliveries(at(9999)), [], "not while it runs");
    let _ = s.commit(fence);
    assert_eq!(s.deliver_all(), [Event::Findings, Event::Updated]);
}

#[test]
fn a_join_to_a_running_one_after_the_window_leaves_its_beginning_and_members() {
    let (mut s, _) = Story::running();
    assert_eq!(s.at(700).tell(&[fires(2, 690)]), Taken::Joined);
    assert_eq!((&s.head().known, &s.head().firing), (&members([1]), &members([1, 2])));
    assert_eq!((s.head().began, s.head().seen), (Some(at(0)), Some(at(690))));
}

#[test]
fn a_new_episode_while_running_takes_back_the_resolve() {
    let (mut s, fence) = Story::running();
    let _ = s.at(20).tell(&[ended(1, 0, 15)]);
    assert_eq!(s.at(30).tell(&[fires(1, 25)]), Taken::Joined);
    assert_eq!(s.head().resolved(), None);
    let _ = s.commit(fence);
    assert!(!s.owed().contains(&Event::Resolved));
}

#[test]
fn a_join_to_an_ended_one_changes_only_digest_firing_seen_and_what_waits() {
    let mut s = Story::done();
    let old = s.head().clone();
    assert_eq!(s.at(30).tell(&[fires(1, 0), fires(2, 20)]), Taken::Joined);
    let new = s.head().clone();
    assert_ne!(new.digest, old.digest);
    assert_eq!((new.firing.clone(), new.seen, new.ttl), (members([1, 2]), Some(at(20)), None));
    let same = Head {
        version: old.version,
        digest: old.digest.clone(),
        firing: old.firing.clone(),
        seen: old.seen,
        again: None,
        ttl: old.ttl,
        deliveries: old.deliveries.clone(),
        ..new
    };
    assert_eq!(same, old);
}

#[test]
fn an_update_is_armed_again_when_it_is_being_told_already() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[fires(2, 20)]);
    assert!(matches!(s.claim_delivery(Event::Updated, "d1"), DeliveryClaimed::Tell { .. }));
    let _ = s.at(31).tell(&[fires(3, 30)]);
    assert!(s.delivery(Event::Updated).rearmed);
    let _ = s.delivered(Event::Updated, "d1");
    assert_eq!(s.deliver_all(), [Event::Updated], "the third member came up while the second was told");
    assert_eq!(s.owed(), []);
}

#[test]
fn an_update_is_due_again_when_it_was_told_before() {
    let mut s = Story::done();
    let _ = s.at(30).tell(&[fires(2, 20)]);
    let _ = s.deliver_all();
    let _ = s.at(40).tell(&[fires(3, 30)]);
    assert_eq!(s.owed(), [Event::Updated]);
    assert_eq!(s.claim_delivery(Event::Updated, "d2"), DeliveryClaimed::Tell { remote: Some("r-1".into()) });
}

#[test]
fn a_duplicate_of_a_running_or_ended_one_does_nothing() {
    let (mut s, _) = Story::running();
    assert_eq!(s.at(5).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!((s.wrote, s.appended, s.sent), (false, false, None));
    let mut s = Story::done();
    assert_eq!(s.at(5).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!((s.wrote, s.appended, s.sent), (false, false, None));
}

#[test]
fn a_later_start_of_a_running_one_is_seen_although_it_is_no_news() {
    // Otherwise the late resolve of the episode before would pass for this one's.
    let (mut s, fence) = Story::running();
    assert_eq!(s.at(320).tell(&[fires(1, 300)]), Taken::Joined);
    assert_eq!((s.head().began, s.head().seen, s.owed()), (Some(at(300)), Some(at(300)), vec![]));
    let _ = s.put_off(fence, 400);
    assert_eq!(s.at(330).tell(&[ended(1, 0, 200)]), Taken::Duplicate);
    assert_eq!(
        s.state(),
        State::Pending,
        "an alert that fires is not suppressed by the end of the one before"
    );
}

#[test]
fn a_head_that_is_still_spoken_of_is_kept() {
    let day = 86_400;
    let mut s = Story::done();
    assert_eq!(s.head().ttl, Some(at(30 * day)));
    let _ = s.at(14 * day).tell(&[fires(1, 0)]);
    assert!(!s.wrote, "before its half-life a repeat costs nothing");
    assert_eq!(s.at(16 * day).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!(s.head().ttl, Some(at(46 * day)));
    // It has expired, but nobody has collected it yet.
    assert_eq!(s.at(90 * day).tell(&[fires(1, 0)]), Taken::Duplicate);
    assert_eq!(s.head().ttl, Some(at(120 * day)));
}

#[test]
fn a_digest_tells_members_their_status_and_their_starts_and_nothing_else() {
    let digest = |members: &[Member]| {
        let mut s = Story::done();
        let _ = s.at(10).tell(members);
        s.head().digest.clone()
    };
    let repeat = digest(&[fires(1, 0)]);
    assert_ne!(digest(&[fires(1, 30)]), repeat);
    assert_ne!(digest(&[fires_undated(1)]), repeat);
    assert_ne!(digest(&[fires(2, 0)]), repeat);
    assert_ne!(digest(&[fires(1, 0), ended(2, 0, 5)]), digest(&[fires(1, 0), fires(2, 0)]));
    assert_eq!(digest(&[fires(1, 0), fires(2, 0)]), digest(&[fires(2, 0), fires(1, 0)]));
}

#[test]
fn labels_on_a_head_are_cut_so_that_it_stays_small() {
    let mut a = arrival(&[fires(1, 0)]);
    a.labels = (0..40).map(|n| (format!("label{n:02}"), "ß".repeat(200))).collect();
    let mut s = Story::new();
    let _ = s.take(&a);
    let shown = &s.head().labels;
    assert!(shown.len() <= 16);
    assert!(shown.values().all(|v| v.len() <= 120 && !v.is_empty()));
    assert!(shown.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() <= 800);
}
