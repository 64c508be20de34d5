//! The on-call's card as one message: the one view of the incident in parts, for destinations where each event is a message of
//! its own. A destination lays the parts out in its own markup; their texts are inert and bounded here.

use sentinel_core::incident::Event;
use sentinel_core::ports::Telling;
use sentinel_core::view::{Claim, Findings, Quote};

use crate::text::inert;
use crate::words::{
    MAX_ENTRIES, MAX_ENTRY, MAX_LINK, MAX_QUOTES, MAX_TEXT, about, again_words, firing_now, happened, labels,
    quoted, standing, took,
};

/// The longest title.
const MAX_TITLE: usize = 300;
/// The most links: Teams shows six actions of a card.
const MAX_LINKS: usize = 6;
/// The longest text of a link: what it leads to, and its host.
const MAX_LINK_TEXT: usize = 100;
/// The longest id of an incident, or name of a card, at the foot.
const MAX_NAME: usize = 128;

/// A piece that is shown whole or not at all.
#[derive(Debug)]
pub(crate) enum Part {
    /// A name and what is said to it.
    Line { name: &'static str, text: String },
    /// A paragraph; its name stands only among what was left out.
    Text { name: &'static str, text: String },
    /// A possible cause.
    Cause {
        name: String,
        statement: String,
        /// How sure it is, and how far its quotes carry it.
        carried: String,
        supported: bool,
        quotes: Vec<String>,
    },
    /// A list.
    List { name: String, entries: Vec<String> },
}

impl Part {
    fn name(&self) -> &str {
        match self {
            Self::Line { name, .. } | Self::Text { name, .. } => name,
            Self::Cause { name, .. } | Self::List { name, .. } => name,
        }
    }
}

/// Where a reader goes next.
#[derive(Debug)]
pub(crate) struct CardLink {
    /// What it leads to, and its host.
    pub(crate) text: String,
    pub(crate) address: String,
}

/// One message.
#[derive(Debug)]
pub(crate) struct Card {
    /// How it stands.
    pub(crate) standing: String,
    pub(crate) title: String,
    /// The most telling first.
    pub(crate) parts: Vec<Part>,
    /// What stands in the place of parts and links that are not shown.
    pub(crate) left_out: Option<String>,
    pub(crate) links: Vec<CardLink>,
    /// Which incident it is.
    pub(crate) foot: String,
    id: String,
    links_left_out: usize,
}

impl Card {
    /// What this event is told as.
    pub(crate) fn of(telling: &Telling) -> Self {
        let head = &telling.head;
        let id = inert(head.id.as_str(), MAX_NAME);
        let foot = format!("incident {id}, card {}, {}", inert(&head.card, MAX_NAME), telling.event);
        let mut card = Self {
            standing: String::new(),
            title: String::new(),
            parts: Vec::new(),
            left_out: None,
            links: Vec::new(),
            foot,
            id,
            links_left_out: 0,
        };
        if telling.event == Event::Storm {
            card.storm(telling);
        } else {
            card.incident(telling);
        }
        card
    }

    /// As much of it as fits into `most` bytes: whole parts, from the first on. `cost` is what a part takes.
    pub(crate) fn within(mut self, most: usize, cost: impl Fn(&Part) -> usize) -> Self {
        let mut left = most;
        let fit = self.parts.iter().take_while(|part| {
            let rest = left.checked_sub(cost(part));
            left = rest.unwrap_or(left);
            rest.is_some()
        });
        let shown = fit.count();
        let mut out: Vec<String> =
            self.parts.split_off(shown).iter().map(|part| part.name().to_owned()).collect();
        out.dedup();
        if self.links_left_out > 0 {
            out.push(format!("links ({})", self.links_left_out));
        }
        if !out.is_empty() {
            let names = inert(&out.join(", "), MAX_ENTRY);
            self.left_out =
                Some(format!("… left out: {names}. All of it: sentinel incidents show {}", self.id));
        }
        self
    }

    fn line(&mut self, name: &'static str, text: &str) {
        self.parts.push(Part::Line { name, text: inert(text, MAX_TEXT) });
    }

    fn text(&mut self, name: &'static str, text: &str) {
        self.parts.push(Part::Text { name, text: inert(text, MAX_TEXT) });
    }

    fn list(&mut self, name: &str, all: &[String]) {
        if all.is_empty() {
            return;
        }
        let mut entries: Vec<String> =
            all.iter().take(MAX_ENTRIES).map(|text| inert(text, MAX_ENTRY)).collect();
        if let Some(more) = all.len().checked_sub(MAX_ENTRIES).filter(|more| *more > 0) {
            entries.push(format!("… and {more} more"));
        }
        self.parts.push(Part::List { name: inert(name, MAX_ENTRY), entries });
    }

    /// A cause, with some of its quotes.
    fn cause<'q>(&mut self, name: &str, claim: &Claim, quotes: impl IntoIterator<Item = &'q Quote>) {
        self.parts.push(Part::Cause {
            name: name.to_owned(),
            statement: inert(&claim.statement, MAX_TEXT),
            carried: claim.carried(),
            supported: claim.supported,
            quotes: quotes.into_iter().map(quoted).collect(),
        });
    }

    /// What ended without a model, by card and labels.
    fn storm(&mut self, telling: &Telling) {
        "BUDGET USED UP".clone_into(&mut self.standing);
        self.title = format!("{} incidents ended on their evidence alone", telling.listed.len());
        self.line("Why", telling.head.reason.as_deref().unwrap_or("no reason is recorded"));
        for of_card in telling.listed.chunk_by(|a, b| a.card == b.card) {
            let card = of_card.first().map_or("", |listed| listed.card.as_str());
            for some in of_card.chunks(MAX_ENTRIES) {
                let entries: Vec<String> = some.iter().map(|listed| labels(&listed.labels)).collect();
                self.list(&format!("{} of card {card}", of_card.len()), &entries);
            }
        }
    }

    fn incident(&mut self, telling: &Telling) {
        let v = telling.view();
        self.standing = standing(telling, &v);
        self.title = inert(&v.title, MAX_TITLE);
        if let Some((_, whole)) = happened(telling) {
            self.text("what happened", &whole);
        }
        if let Some(again) = telling.head.again.filter(|_| telling.event != Event::Updated) {
            self.line("Fires again", &again_words(again));
        }
        if let Some(cause) = &v.cause {
            self.cause("Likeliest cause", cause, cause.best_quote());
        }
        if let Some(step) = &v.next_step {
            self.line("Next step", &step.action);
        }
        for (name, said) in about(telling, &v) {
            self.line(name, &said);
        }
        self.list("Firing now", &firing_now(telling));
        if telling.event == Event::Findings
            && let Some(findings) = &v.findings
        {
            self.findings(findings);
        }
        let fit = v.links.iter().filter(|link| link.address.len() <= MAX_LINK);
        self.links = fit
            .take(MAX_LINKS)
            .map(|link| CardLink {
                text: inert(&format!("{} ({})", link.kind, link.host), MAX_LINK_TEXT),
                address: link.address.clone(),
            })
            .collect();
        self.links_left_out = v.links.len().saturating_sub(self.links.len());
    }

    /// What the report says beyond the first look.
    fn findings(&mut self, findings: &Findings) {
        self.text("summary", &findings.summary);
        for (n, cause) in findings.causes.iter().take(MAX_ENTRIES).enumerate() {
            self.cause(&format!("Cause {}", n + 1), cause, cause.quotes.iter().take(MAX_QUOTES));
        }
        let ruled_out: Vec<String> = findings.ruled_out.iter().map(|claim| claim.statement.clone()).collect();
        self.list("Ruled out", &ruled_out);
        self.list("Not found out", &findings.gaps);
        let steps = findings.next_steps.iter().map(|step| format!("{}: {}", step.action, step.why));
        self.list("Next steps", &steps.collect::<Vec<_>>());
        let failed = findings.checklist.iter().filter(|check| !check.passed);
        self.list("Checks that failed", &failed.map(|check| check.name.clone()).collect::<Vec<_>>());
        self.list("Notes", &findings.notes);
        self.text("what it took", &took(findings));
    }
}
