//! Alertmanagers: what they see, send, and send again until it is answered with 200.

use sentinel_core::alert::Labels;
use sentinel_core::incident::{Head, IncidentId, MemberId};
use sentinel_core::lifecycle::{Arrival, Member, Note};

use crate::rule::{Answer, Asked, Mutant};
use crate::scenario::Scenario;
use crate::shell::{Finished, Start, Step};
use crate::world::{Acked, Call, Post, Told, Who, World, at};

/// How an episode is named on a notice.
fn entry(told: &Told) -> String {
    format!("{}.{}", told.alert, told.episode)
}

impl Scenario {
    /// What a sender would send now: all that fires, and the ends of what it had told to fire.
    pub(crate) fn view(&self, w: &World, n: usize) -> Vec<Told> {
        let mut told = Vec::new();
        for (alert, truth) in w.truth.iter().enumerate().filter(|(alert, _)| self.sees(n, *alert)) {
            let acked = w.senders[n].acked[alert];
            let (episode, start) = (truth.episode, truth.start);
            match truth.end {
                _ if episode == 0 => {}
                None => told.push(Told { alert, episode, start, end: None }),
                Some(_) if self.notice => {}
                // Two senders do not agree to the second when an alert ended.
                Some(end) if matches!(acked, Acked::Fires(_)) => {
                    let end = end + self.off(Who::Sender(n)).max(0);
                    told.push(Told { alert, episode, start, end: Some(end) });
                }
                Some(_) => {}
            }
        }
        told
    }

    /// Whether that is news to whoever gets it.
    pub(crate) fn must_flush(&self, w: &World, n: usize) -> bool {
        self.view(w, n).iter().any(|t| match t.end {
            None => w.senders[n].acked[t.alert] != Acked::Fires(t.episode),
            Some(_) => true,
        })
    }

    pub(crate) fn may_repeat(&self, w: &World, n: usize) -> bool {
        self.view(w, n).iter().any(|t| t.end.is_none())
    }

    /// Begins a notification, or tries it again.
    pub(crate) fn post(&self, w: &mut World, n: usize, told: Vec<Told>) {
        let asked = self.asked(&told);
        let firing = told.iter().any(|t| t.end.is_none());
        w.senders[n].post = Some(Post { told, drive: None, stored: false, sent: false, looks_again: false });
        let start = if firing { Start::Absent } else { Start::Load };
        let step = self.begin(w, Who::Sender(n), asked, start);
        self.sender_went(w, n, step);
    }

    fn asked(&self, told: &[Told]) -> Asked {
        if !self.notice {
            return Asked::Arrival(self.arrival(told));
        }
        let entry = told.first().map(entry).unwrap_or_default();
        let id = IncidentId::new("notice");
        Asked::Note(Note { id, sink: "log".into(), entry, reason: "used up".into() })
    }

    fn arrival(&self, told: &[Told]) -> Arrival {
        let members = told.iter().map(|t| Member {
            id: MemberId(t.alert as u64 + 1),
            firing: t.end.is_none(),
            starts_at: (!self.undated).then(|| at(t.start)),
            ends_at: t.end.map(at),
        });
        Arrival {
            id: IncidentId::new("incident"),
            card: "card".into(),
            labels: Labels::new(),
            members: members.collect(),
            truncated: false,
        }
    }

    pub(crate) fn sender_calls(&self, w: &mut World, n: usize, call: Call, lost: bool) {
        let Some(drive) = w.senders[n].post.as_ref().and_then(|p| p.drive.clone()) else { return };
        let step = self.call(w, Who::Sender(n), drive, call, lost);
        self.sender_went(w, n, step);
    }

    pub(crate) fn sender_went(&self, w: &mut World, n: usize, step: Step) {
        match step {
            Step::On(drive) => {
                if let Some(post) = &mut w.senders[n].post {
                    post.drive = Some(drive);
                }
            }
            Step::Finished((Answer::Noted, head)) => self.noted(w, n, head.as_deref()),
            Step::Finished(finished) => self.answer_ok(w, n, &finished),
        }
    }

    /// It is on the notice. One that was created just now had its list written after it, so it is looked at once more.
    fn noted(&self, w: &mut World, n: usize, head: Option<&Head>) {
        let Some(post) = &mut w.senders[n].post else { return };
        let created = head.is_some_and(|h| h.version == 1);
        if created && !post.looks_again && self.mutant != Some(Mutant::NotedOnce) {
            post.looks_again = true;
            let asked = self.asked(&post.told.clone());
            let step = self.begin(w, Who::Sender(n), asked, Start::Load);
            return self.sender_went(w, n, step);
        }
        let Some(post) = w.senders[n].post.take() else { return };
        w.witness.answered = true;
        for t in &post.told {
            w.senders[n].acked[t.alert] = Acked::Fires(t.episode);
            w.witness.noted(entry(t));
        }
    }

    /// The webhook answers 200.
    fn answer_ok(&self, w: &mut World, n: usize, (answer, head): &Finished) {
        Self::check_ok(w, n, answer, head.as_deref());
        let Some(post) = w.senders[n].post.take() else { return };
        for t in &post.told {
            w.senders[n].acked[t.alert] = match t.end {
                None => Acked::Fires(t.episode),
                Some(_) => Acked::Ended,
            };
        }
        let window = i64::try_from(self.rules.dedupe_ttl.as_secs()).unwrap_or(i64::MAX);
        w.witness.answered(&post.told, window);
    }

    /// The webhook's process died, or it answered 503, or the answer was lost: the sender will try again.
    pub(crate) fn refuse(w: &mut World, n: usize) {
        if let Some(post) = &mut w.senders[n].post {
            post.drive = None;
        }
    }

    /// The sender gives a notification up, because something else is to be told by now.
    pub(crate) fn recompose(&self, w: &mut World, n: usize) {
        let told = self.view(w, n);
        w.witness.unsure = true;
        if told.is_empty() {
            w.senders[n].post = None;
        } else {
            self.post(w, n, told);
        }
    }
}
