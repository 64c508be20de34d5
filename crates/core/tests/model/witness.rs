//! A witness who sees everything, and notes what may never happen. Nobody in the model asks it.

use sentinel_core::UnixMs;
use sentinel_core::incident::{Event, Gen, Head, MemberId, Openings, State};
use sentinel_core::lifecycle::{BETWEEN_NOTICES, Claimed, Taken};

use crate::rule::{Answer, Asked};
use crate::world::{Told, at, second};

/// The promises. Each is a property of the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    StoredBeforeOk,
    EndsAndIsTold,
    OneLiveLease,
    OneCommit,
    SpentWithinCap,
    OneCallAtOnce,
    EpochGrows,
    DeliveredMeansCommitted,
    NeverPaidAgain,
    NeverSwallowed,
    TtlOnlyWhenSettled,
    PaidIsNotSuppressed,
    ToldBeforeNext,
    JobAfterHead,
    ResolveIsTold,
    StartBeforeEnd,
    GenerationsWithinHour,
    OneNoticeAnHour,
    NobodyIsRefusedSilently,
    NotShownAsResolved,
    InvestigatedAfterTheWindow,
}

impl Promise {
    pub(crate) const ALL: [(Self, &'static str); 21] = [
        (Self::StoredBeforeOk, "a 200 means stored, and sent where it waits"),
        (Self::EndsAndIsTold, "a 200 ends in DONE, SUPPRESSED, ABORTED or FAILED, and is told"),
        (Self::OneLiveLease, "at most one live lease"),
        (Self::OneCommit, "at most one commit a generation"),
        (Self::SpentWithinCap, "spent stays within the cap"),
        (Self::OneCallAtOnce, "at most one paid call at once"),
        (Self::EpochGrows, "epochs and generations only grow"),
        (Self::DeliveredMeansCommitted, "what is delivered is committed"),
        (Self::NeverPaidAgain, "a continuing alert is never paid for again"),
        (Self::NeverSwallowed, "a later episode is investigated or told"),
        (Self::TtlOnlyWhenSettled, "a ttl stands only on what is over and told"),
        (Self::PaidIsNotSuppressed, "what was paid for, or fires, is not suppressed"),
        (Self::ToldBeforeNext, "a generation is left only when it is told"),
        (Self::JobAfterHead, "a job is sent only for what is stored"),
        (Self::ResolveIsTold, "the end of all alerts is told"),
        (Self::StartBeforeEnd, "a start is told before the end, or not at all"),
        (Self::GenerationsWithinHour, "an hour has no more generations than the card allows"),
        (Self::OneNoticeAnHour, "storm notices come once an hour"),
        (Self::NobodyIsRefusedSilently, "who is refused a model is on a notice that is told"),
        (Self::NotShownAsResolved, "what fires is shown and told as resolved to nobody"),
        (Self::InvestigatedAfterTheWindow, "what fires again is investigated when its window is over"),
    ];
}

/// One alert's episode, as it truly is.
type Episode = (usize, u8);

#[derive(Clone, PartialEq, Hash, Debug)]
struct Generation {
    id: Gen,
    calls: u32,
    /// Calls whose answer was lost with their caller: each may be made once more.
    wasted: u32,
    commits: u32,
    /// Episodes that its investigation is about.
    episodes: Vec<Episode>,
    /// It was opened for nothing but episodes that had been paid for.
    again: bool,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a note of its own")]
#[derive(Clone, PartialEq, Hash, Debug, Default)]
pub(crate) struct Witness {
    /// Clocks or views differ, so that senders and workers are not interchangeable.
    pub(crate) tells_apart: bool,
    broken: u32,
    /// A firing alert was answered with 200.
    pub(crate) answered: bool,
    /// A notification may be stored whose sender believes that it is not.
    pub(crate) unsure: bool,
    generations: Vec<Generation>,
    /// Episodes that are investigated, or told as an update.
    covered: Vec<Episode>,
    /// Episodes that came up when there were findings on others already.
    later: Vec<Episode>,
    /// The latest episode of each alert that a notification told of.
    latest: [u8; 2],
    /// Whether the sink was told last that all is resolved.
    pub(crate) told_as_resolved: bool,
    /// The latest generation that the sink was told of: what is told late of an older one is about that.
    told_of: Option<Gen>,
    latest_start: Option<i64>,
    recorded_end: Option<i64>,
    /// How many workers there are; where they have second halves, those come after them.
    pub(crate) workers: usize,
    /// Generations of which a sink was told the end.
    ended: Vec<Gen>,
    /// What was to be put on a notice, and what a notice that was told has listed.
    noted: Vec<String>,
    listed: Vec<String>,
    /// The notice that was told last, and when that was first done.
    notice: Option<(Gen, i64)>,
}

impl Witness {
    pub(crate) fn new(tells_apart: bool, workers: usize) -> Self {
        Self { tells_apart, workers, ..Self::default() }
    }

    /// A sink was told something. `in_order`: nobody is frozen, so that a start which comes after its end is wrong.
    pub(crate) fn told(&mut self, head: &Head, event: Event, listed: &[String], now: i64, in_order: bool) {
        let id = head.generation;
        // What flaps is told as such, whatever it does for the rest of its hour.
        if self.told_of <= Some(id) {
            self.told_of = Some(id);
            let so = event == Event::Resolved || head.resolved().is_some();
            self.told_as_resolved = so && event != Event::Flapping;
        }
        if event.is_ending() && !self.ended.contains(&id) {
            self.ended.push(id);
        }
        if event == Event::Started && in_order && self.ended.contains(&id) {
            self.broke(Promise::StartBeforeEnd);
        }
        if event == Event::Storm {
            self.listed.extend_from_slice(listed);
            self.listed.sort_unstable();
            self.listed.dedup();
            match self.notice {
                Some((last, _)) if last == id => {}
                Some((_, at)) if now < at + BETWEEN_NOTICES.as_secs().cast_signed() => {
                    self.broke(Promise::OneNoticeAnHour);
                }
                _ => self.notice = Some((id, now)),
            }
        }
    }

    /// Somebody believes that it is on a notice.
    pub(crate) fn noted(&mut self, entry: String) {
        self.noted.push(entry);
        self.noted.sort_unstable();
        self.noted.dedup();
    }

    pub(crate) fn all_listed(&self) -> bool {
        self.noted.iter().all(|entry| self.listed.contains(entry))
    }

    /// Of the generations that there were, no more began in an hour than so many.
    pub(crate) fn began(&mut self, most: u32) {
        let mut hour: Option<(Gen, u32)> = None;
        for generation in &self.generations {
            let Gen(id) = generation.id;
            let within =
                hour.filter(|(since, _)| UnixMs::new(id) < UnixMs::new(since.0).plus(Openings::WINDOW));
            let (since, count) = within.map_or((Gen(id), 1), |(since, count)| (since, count + 1));
            if count > most {
                return self.broke(Promise::GenerationsWithinHour);
            }
            hour = Some((since, count));
        }
    }

    pub(crate) fn broke(&mut self, promise: Promise) {
        self.broken |= 1 << promise as u32;
    }

    pub(crate) fn kept(&self, promise: Promise) -> bool {
        self.broken & (1 << promise as u32) == 0
    }

    fn generation(&mut self, id: Gen) -> &mut Generation {
        let found = self.generations.iter().position(|g| g.id == id);
        let at = found.unwrap_or_else(|| {
            let new = Generation { id, calls: 0, wasted: 0, commits: 0, episodes: vec![], again: false };
            self.generations.push(new);
            self.generations.len() - 1
        });
        &mut self.generations[at]
    }

    pub(crate) fn commits(&self, id: Gen) -> u32 {
        self.generations.iter().find(|g| g.id == id).map_or(0, |g| g.commits)
    }

    /// A paid call is made.
    pub(crate) fn paid(&mut self, id: Gen, turns: u32) {
        let generation = self.generation(id);
        generation.calls += 1;
        let (over, again) = (generation.calls > turns + generation.wasted, generation.again);
        if over {
            self.broke(Promise::SpentWithinCap);
        }
        if again {
            self.broke(Promise::NeverPaidAgain);
        }
    }

    /// A call's answer was lost.
    pub(crate) fn wasted(&mut self, id: Gen) {
        self.generation(id).wasted += 1;
    }

    /// A head was written.
    pub(crate) fn wrote(&mut self, before: Option<&Head>, after: &Head, asked: &Asked, answer: &Answer) {
        if let Some(before) = before {
            let grown = after.generation > before.generation;
            if after.epoch < before.epoch || after.generation < before.generation {
                self.broke(Promise::EpochGrows);
            }
            if before.state != State::Running && after.state == State::Running && after.epoch <= before.epoch
            {
                self.broke(Promise::EpochGrows);
            }
            let over = before.state.is_terminal() && before.is_settled();
            if grown && !over && before.state != State::Suppressed {
                self.broke(Promise::ToldBeforeNext);
            }
        }
        if matches!(answer, Answer::Claimed(Claimed::Investigate(_))) && after.turn == 0 {
            self.read(after);
        }
        let settled = after.state.is_terminal() && after.is_settled() && after.again.is_none();
        if after.ttl.is_some() != settled {
            self.broke(Promise::TtlOnlyWhenSettled);
        }
        let calls = self.generation(after.generation).calls;
        if after.state == State::Suppressed && calls > 0 {
            self.broke(Promise::PaidIsNotSuppressed);
        }
        if matches!((asked, answer), (Asked::Commit(_), Answer::Ended(_))) {
            self.generation(after.generation).commits += 1;
            if self.commits(after.generation) > 1 {
                self.broke(Promise::OneCommit);
            }
        }
    }

    /// A worker begins, or begins again with nothing paid for, and reads what fires by now.
    fn read(&mut self, head: &Head) {
        let latest = self.latest;
        let episodes = &mut self.generation(head.generation).episodes;
        for (alert, episode) in
            latest.into_iter().enumerate().filter(|(alert, _)| head.firing.contains(member(*alert)))
        {
            if !episodes.contains(&(alert, episode)) {
                episodes.push((alert, episode));
            }
        }
        episodes.sort_unstable();
    }

    /// A notification changed the head. `may_pay_again`: the card wants a continuing alert investigated again, and it
    /// truly goes on.
    pub(crate) fn took(
        &mut self,
        before: Option<&Head>,
        after: &Head,
        told: &[Told],
        taken: Taken,
        may_pay_again: bool,
    ) {
        // An end of all, not of a part.
        if matches!(taken, Taken::Resolved | Taken::Suppressed) && after.resolved().is_some() {
            self.recorded_end = self.recorded_end.max(told.iter().filter_map(|t| t.end).max());
        }
        let fires: Vec<&Told> = told.iter().filter(|t| t.end.is_none()).collect();
        if !fires.is_empty() && after.resolved().is_some() {
            self.broke(Promise::NotShownAsResolved);
        }
        for t in &fires {
            self.latest[t.alert] = self.latest[t.alert].max(t.episode);
            let known = before.is_none_or(|b| b.known.contains(member(t.alert)));
            let again = before.and_then(|b| b.resolved_at).is_some_and(|end| at(t.start) > end);
            if (again || !known) && !self.later.contains(&(t.alert, t.episode)) {
                self.later.push((t.alert, t.episode));
                self.later.sort_unstable();
            }
        }
        let opened = before.is_none_or(|b| after.generation > b.generation);
        if opened && !fires.is_empty() {
            let paid = |e: &Episode| self.generations.iter().any(|g| g.calls > 0 && g.episodes.contains(e));
            let again = fires.iter().all(|t| paid(&(t.alert, t.episode)));
            self.generation(after.generation).again = again && !may_pay_again;
        }
        // A run that is put off before its first paid call reads the latest notification when it begins again.
        let begun = after.turn > 0;
        let will_tell = after
            .deliveries
            .iter()
            .any(|d| d.key.event == Event::Updated && !d.is_settled() && (d.claimer.is_none() || d.rearmed));
        for t in fires {
            // Where the payload does not say when it began, what waits for its window is no part of the generation.
            let since = |began| at(t.start) <= began;
            let within =
                after.known.contains(member(t.alert)) && after.began.map_or(after.again.is_none(), since);
            let episodes = &mut self.generation(after.generation).episodes;
            if !after.state.is_terminal() && within && !episodes.contains(&(t.alert, t.episode)) {
                episodes.push((t.alert, t.episode));
                episodes.sort_unstable();
            }
            // One notice stands for what comes in the rest of its hour.
            let flaps = after.deliveries.iter().any(|d| d.key.event == Event::Flapping)
                && after.openings.is_some_and(|o| at(t.start) < o.since.plus(Openings::WINDOW));
            // Nobody hears of what was deleted: what comes up late is investigated when the window is over.
            let comes_back = after.deleted.is_some() && after.again.is_some();
            if opened || will_tell || comes_back || flaps || (after.state == State::Pending && !begun) {
                self.cover(t);
            }
        }
    }

    /// A generation was opened because the window of the one before it was over.
    pub(crate) fn reopened(&mut self, after: &Head) {
        let firing = (0..self.latest.len()).filter(|alert| after.firing.contains(member(*alert)));
        let episodes: Vec<Episode> = firing.map(|alert| (alert, self.latest[alert])).collect();
        let paid = |e: &Episode| self.generations.iter().any(|g| g.calls > 0 && g.episodes.contains(e));
        let again = episodes.iter().all(paid);
        let generation = self.generation(after.generation);
        generation.again = again;
        generation.episodes = episodes;
    }

    /// Whether this episode came up late, and no generation is about it.
    pub(crate) fn is_left(&self, alert: usize, episode: u8) -> bool {
        let it = (alert, episode);
        self.later.contains(&it) && !self.generations.iter().any(|g| g.episodes.contains(&it))
    }

    fn cover(&mut self, t: &Told) {
        let episode = (t.alert, t.episode);
        if !self.covered.contains(&episode) {
            self.covered.push(episode);
            self.covered.sort_unstable();
        }
        self.latest_start = self.latest_start.max(Some(t.start));
    }

    /// A notification was answered with 200.
    pub(crate) fn answered(&mut self, told: &[Told], window: i64) {
        for t in told.iter().filter(|t| t.end.is_none()) {
            self.answered = true;
            if self.covered.contains(&(t.alert, t.episode)) {
                continue;
            }
            let stranger = self.covered.iter().all(|(alert, _)| *alert != t.alert);
            let after_window = self.latest_start.is_none_or(|s| t.start > s + window);
            let after_end = self.recorded_end.is_some_and(|e| t.start > e);
            if stranger || after_window || after_end {
                self.broke(Promise::NeverSwallowed);
            }
            self.cover(t);
        }
    }
}

/// The member that an alert of the model is.
fn member(alert: usize) -> MemberId {
    MemberId(alert as u64 + 1)
}

/// Whether the end of a generation was told to everybody.
pub(crate) fn is_told(head: &Head) -> bool {
    if head.deleted.is_some() {
        // It was told before, or could not have been deleted.
        return head.is_settled();
    }
    let event = match head.state {
        State::Done if head.is_notice() => Event::Storm,
        State::Done => Event::Findings,
        State::Failed => Event::Failed,
        State::Suppressed => Event::Suppressed,
        State::Aborted => Event::Aborted,
        State::Pending | State::Running => return false,
    };
    head.is_settled() && was_sent(head, event)
}

pub(crate) fn was_sent(head: &Head, event: Event) -> bool {
    use sentinel_core::incident::DeliveryState;
    head.deliveries.iter().any(|d| d.key.event == event && d.state == DeliveryState::Sent)
}

/// Whether a lease that ends then, by a clock that may be off by so much, has certainly not ended.
pub(crate) fn certainly_live(until: Option<UnixMs>, now: i64, off: i64) -> bool {
    until.is_some_and(|until| second(until) - 2 * off > now)
}
