//! Lists of incidents: what is wanted, page by page, from every store.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::sync::Arc;

use proptest::prelude::*;
use sentinel_cli::listing::{Cursor, Wanted, list};
use sentinel_core::UnixMs;
use sentinel_core::incident::{Gen, Head, IncidentId, State};
use sentinel_core::ports::IncidentStore;
use sentinel_core::redact::Redactor;
use sentinel_core::report::Verdict;
use sentinel_testkit::builders;
use sentinel_testkit::memory::MemoryStore;

/// What a head of the tests is made of: state, moment, card, label.
type Made = (usize, i64, bool, bool);

const STATES: [State; 6] =
    [State::Pending, State::Running, State::Done, State::Failed, State::Suppressed, State::Aborted];

fn head(n: usize, (state, moment, pods, web): Made) -> Head {
    let state = *STATES.get(state % STATES.len()).unwrap();
    // Ids in another order than times.
    let id = format!("{:064x}", n.wrapping_mul(2_654_435_761) % 0xffff_ffff);
    let mut head = builders::head(&id);
    head.generation = Gen(builders::NOON.get() + moment);
    head.state = state;
    if pods { "pods" } else { "nodes" }.clone_into(&mut head.card);
    head.verdict = (state == State::Done).then_some(Verdict::NoAction);
    if !web {
        head.labels = [("namespace".to_owned(), "other".to_owned())].into();
    }
    head
}

async fn store(heads: &[Head]) -> Arc<dyn IncidentStore> {
    let store = MemoryStore::default();
    for head in heads {
        let _ = store.create(head).await.unwrap();
    }
    Arc::new(store)
}

async fn ids(store: &dyn IncidentStore, wanted: &Wanted, limit: usize) -> Vec<IncidentId> {
    let (mut all, mut from) = (Vec::new(), None::<Cursor>);
    loop {
        let page = list(store, &Redactor::default(), wanted, from.as_ref(), limit).await.unwrap();
        assert!(page.incidents.len() <= limit);
        all.extend(page.incidents.into_iter().map(|incident| incident.id));
        let Some(next) = page.next else { return all };
        // As a client sends it back.
        assert_eq!(next.to_string().parse(), Ok(next.clone()));
        assert_ne!(from, Some(next.clone()), "it goes on");
        from = Some(next);
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let time = || proptest::option::of((-2..9_i64).prop_map(|at| UnixMs::new(builders::NOON.get() + at)));
    let card = proptest::option::of(prop_oneof![Just("pods".to_owned()), Just("none".to_owned())]);
    let state = proptest::collection::vec(proptest::sample::select(STATES.to_vec()), 0..3);
    let verdict = proptest::option::of(Just(Verdict::NoAction));
    let label = proptest::collection::vec(Just(("namespace".to_owned(), "web".to_owned())), 0..2);
    (card, state, verdict, label, time(), time(), any::<bool>()).prop_map(
        |(card, state, verdict, label, since, until, open)| Wanted {
            card,
            state,
            verdict,
            label,
            since,
            until,
            open,
        },
    )
}

proptest! {
    /// Many of one moment, any filter, pages of any size: all that is wanted once, in one order, and nothing else.
    #[test]
    fn page_by_page_everything_that_is_wanted_comes_once_the_newest_first(
        made in proptest::collection::vec((0..6_usize, 0..7_i64, any::<bool>(), any::<bool>()), 0..40),
        wanted in wanted(),
        limit in 1..9_usize,
    ) {
        let heads: Vec<Head> = made.into_iter().enumerate().map(|(n, made)| head(n, made)).collect();
        let is_meant = |head: &&Head| {
            let opened = UnixMs::new(head.generation.0);
            wanted.card.as_ref().is_none_or(|card| *card == head.card)
                && (wanted.state.is_empty() || wanted.state.contains(&head.state))
                && wanted.verdict.is_none_or(|_| head.state == State::Done)
                && (wanted.label.is_empty() || head.labels.get("namespace").is_some_and(|n| n == "web"))
                && wanted.since.is_none_or(|since| opened >= since)
                && wanted.until.is_none_or(|until| opened < until)
                && (!wanted.open || head.state != State::Suppressed)
        };
        let mut meant: Vec<&Head> = heads.iter().filter(is_meant).collect();
        meant.sort_by_key(|head| (std::cmp::Reverse(head.generation), head.id.clone()));
        let meant: Vec<IncidentId> = meant.into_iter().map(|head| head.id.clone()).collect();
        let listed = block_on(async { ids(store(&heads).await.as_ref(), &wanted, limit).await });
        prop_assert_eq!(listed, meant);
    }

    /// What a command asks a running service for is what the service reads.
    #[test]
    fn a_filter_that_is_sent_is_the_filter_that_is_read(wanted in wanted()) {
        let sent: Vec<(String, String)> =
            wanted.query().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        prop_assert_eq!(Wanted::of_query(&sent).unwrap().0, wanted);
    }
}

#[test]
fn what_is_rare_among_many_gives_a_short_page_that_says_where_to_go_on() {
    block_on(async {
        let rare = (2, 0, true, true);
        let heads: Vec<Head> = (0..10_050)
            .map(|n| {
                let moment = i64::try_from(n).unwrap();
                head(n, if n == 10 { rare } else { (0, moment + 1, true, true) })
            })
            .collect();
        let store = store(&heads).await;
        let wanted = Wanted { state: vec![State::Done], ..Wanted::default() };
        let first = list(store.as_ref(), &Redactor::default(), &wanted, None, 5).await.unwrap();
        assert_eq!(first.incidents, []);
        let second =
            list(store.as_ref(), &Redactor::default(), &wanted, first.next.as_ref(), 5).await.unwrap();
        assert_eq!((second.incidents.len(), second.next), (1, None));
    });
}

#[test]
fn of_two_ends_the_earlier_one_counts() {
    for (until, before) in [("1970-01-01T00:00:02Z", "5000"), ("1970-01-01T00:00:05Z", "2000")] {
        for names in [["until", "before"], ["before", "until"]] {
            let value = |name: &str| if name == "until" { until } else { before };
            let asked = names.map(|name| (name.to_owned(), value(name).to_owned()));
            assert_eq!(Wanted::of_query(&asked).unwrap().0.until, Some(UnixMs::new(2_000)), "{asked:?}");
        }
    }
}

#[test]
fn a_filter_that_is_none_is_told_with_its_name() {
    for (name, value, said) in [
        ("colour", "red", "there is no filter `colour`"),
        ("state", "open", "`state`: unknown variant `open`"),
        ("verdict", "yes", "`verdict`: unknown variant"),
        ("label", "namespace", "`label`: a label is given as NAME=VALUE"),
        ("since", "yesterday", "`since`: \"yesterday\" is no time"),
        ("open", "perhaps", "`open`: \"perhaps\" is neither true nor false"),
        ("limit", "-1", "`limit`: \"-1\""),
        ("cursor", "7", "`cursor`: \"7\" is no cursor"),
        ("before", "now", "`before`: \"now\""),
    ] {
        let error = Wanted::of_query(&[(name.to_owned(), value.to_owned())]).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}
