//! What the view says in words, the same on every surface.

use std::fmt;

use super::{Affected, Claim, Firing, Quote, RECURRENCE, Recurrence, Standing};

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Investigating => "INVESTIGATING",
            Self::ActionRequired => "ACTION REQUIRED",
            Self::NoAction => "NO ACTION NEEDED",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::EvidenceOnly => "EVIDENCE ONLY, NO MODEL CONCLUDED",
            Self::NotInvestigated => "NOT INVESTIGATED TO THE END",
            Self::Aborted => "INVESTIGATION ABORTED",
            Self::ResolvedByItself => "RESOLVED BY ITSELF, NOT INVESTIGATED",
            Self::FiresAgain => "NOT INVESTIGATED, FIRES AGAIN",
        })
    }
}

impl Quote {
    /// What it says: itself, where that is no piece of JSON.
    pub fn says(&self) -> String {
        self.said.clone().unwrap_or_else(|| format!("“{}”", self.quote))
    }

    /// Where it comes from: `E7 prom.execute_query`.
    pub fn source(&self) -> String {
        self.tool.as_ref().map_or_else(|| self.evidence.clone(), |tool| format!("{} {tool}", self.evidence))
    }
}

impl Claim {
    /// The quote that says most for it: the first that stands where it is said to.
    pub fn best_quote(&self) -> Option<&Quote> {
        self.quotes.iter().find(|quote| quote.found)
    }

    /// How many of its quotes stand where they are said to.
    pub fn found(&self) -> usize {
        self.quotes.iter().filter(|quote| quote.found).count()
    }

    /// How sure, and how far its quotes carry it: `98 %, 3 of 3 quotes found`.
    pub fn carried(&self) -> String {
        let confidence = self.confidence.map(|c| format!("{:.0} %, ", c * 100.0)).unwrap_or_default();
        let unsupported = if self.supported { "" } else { "NOT SUPPORTED, " };
        let quotes = if self.quotes.len() == 1 { "quote" } else { "quotes" };
        format!("{confidence}{unsupported}{} of {} {quotes} found", self.found(), self.quotes.len())
    }
}

/// `20 Nov 13:02 CET, 8 d 22 h ago; resolved 14:02 CET, 2 h ago, after 8 d 20 h`; with `{:#}`, for what is read later,
/// without how long ago it was.
impl fmt::Display for Firing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.since {
            None => f.write_str("not said by the sender")?,
            Some(since) if f.alternate() => f.write_str(&since.local)?,
            Some(since) => write!(f, "{}, {} ago", since.local, since.distance)?,
        }
        if let Some(at) = &self.resolved {
            write!(f, "; resolved {}", at.local)?;
            if !f.alternate() {
                write!(f, ", {} ago", at.distance)?;
            }
            if let Some(lasted) = &self.lasted {
                write!(f, ", after {lasted}")?;
            }
        }
        if let (Some(again), Some(not_before)) = (&self.again, &self.again_not_before) {
            let (since, from) = (&again.local, &not_before.local);
            write!(f, "; again since {since}; not investigated again before {from}")?;
        }
        Ok(())
    }
}

/// `7 alerts, 6 firing: pod=a; pod=b and 5 more`; of a single alert only what it is about.
impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.objects.join("; ");
        if self.count != 1 {
            write!(
                f,
                "{} alerts, {} firing{}",
                self.count,
                self.firing,
                if named.is_empty() { "" } else { ": " }
            )?;
        }
        f.write_str(&named)?;
        let more = self.count.saturating_sub(self.objects.len() as u64);
        if more > 0 && !named.is_empty() {
            write!(f, " and {more} more")?;
        }
        if self.left_out > 0 {
            write!(f, " ({} left out by the sender)", self.left_out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = RECURRENCE.as_secs() / 86_400;
        match self.count {
            2 => write!(f, "second time in {days} days")?,
            3 => write!(f, "third time in {days} days")?,
            n => {
                let ending = match (n % 10, n % 100) {
                    (1, 0..=10 | 12..) => "st",
                    (2, 0..=11 | 13..) => "nd",
                    (3, 0..=12 | 14..) => "rd",
                    _ => "th",
                };
                write!(f, "{n}{ending} time in {days} days")?;
            }
        }
        write!(f, ", before on {}", self.before.local)
    }
}
