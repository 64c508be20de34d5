//! What says who swept a table last, and when: so that a table that comes back from a backup, or that nobody looked after
//! for long, does not tell and investigate what fell due meanwhile, until a person has decided about it.

use std::time::Duration;

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use sentinel_core::UnixMs;
use sentinel_core::incident::IncidentId;
use sentinel_core::ports::StoreError;

use crate::DynamoStore;
use crate::error::store_error;
use crate::item::{self, Item, attr, number, text};

/// After so long without a sweep nobody knows what has become of what was due.
const AWAY: Duration = Duration::from_hours(24);
/// How often a sweep says that it is there.
const SAYS_SO: Duration = Duration::from_hours(1);

/// Who swept a table last.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Keeper {
    /// The deployment and the table's name, as they were; nothing where a person decided before anybody swept.
    by: Option<String>,
    at: UnixMs,
    /// What was due before is left.
    from: UnixMs,
}

impl Keeper {
    fn of(item: &Item) -> Self {
        let time = |name: &str| item.get(name).and_then(|v| v.as_n().ok()).and_then(|n| n.parse().ok());
        Self {
            by: item.get("by").and_then(|v| v.as_s().ok()).cloned(),
            at: UnixMs::new(time(attr::AT).unwrap_or_default()),
            from: UnixMs::new(time("from").unwrap_or_default()),
        }
    }

    fn item(&self) -> Item {
        let mut item = item::keeper_key();
        item.extend(self.by.as_ref().map(|by| ("by".to_owned(), text(by))));
        item.insert(attr::AT.into(), number(self.at.get()));
        item.insert("from".into(), number(self.from.get()));
        item
    }

    /// What a sweep of `by` at `now` makes of it; nothing where it need not say so.
    fn swept(before: Option<&Self>, by: &str, now: UnixMs) -> Option<Self> {
        let mine = Some(by.to_owned());
        let Some(before) = before else {
            return Some(Self { by: mine, at: now, from: UnixMs::new(0) });
        };
        let since = now.since(before.at);
        match &before.by {
            Some(last) if last == by && since < SAYS_SO => None,
            Some(last) if last == by && since < AWAY => Some(Self { at: now, ..before.clone() }),
            None => Some(Self { by: mine, at: now, ..before.clone() }),
            Some(_) => Some(Self { by: mine, at: now, from: now }),
        }
    }
}

impl DynamoStore {
    /// A sweep of this deployment begins. What was due before the time that this gives is left, because nobody swept the
    /// table then: it comes from a backup, from another deployment, or was not swept for a day. [`Self::resume`] decides
    /// otherwise.
    ///
    /// # Errors
    /// As every call of the store.
    pub async fn sweeping(&self, stack: &str, now: UnixMs) -> Result<UnixMs, StoreError> {
        let by = format!("{stack} {}", self.table());
        let before = self.keeper().await?;
        let Some(after) = Keeper::swept(before.as_ref(), &by, now) else {
            return Ok(before.map_or(UnixMs::new(0), |before| before.from));
        };
        if after.from == now {
            let last = before.as_ref().and_then(|before| before.by.as_deref()).unwrap_or_default();
            tracing::warn!(
                last,
                "this table was not swept by this deployment lately: what fell due meanwhile is left until `sentinel \
                 incidents resume --table NAME --since TIME` says what of it is to go on"
            );
        }
        self.keep(&after, before.as_ref()).await?;
        Ok(after.from)
    }

    /// A person decides: what was due before `since` is left, and the rest goes on. Gives what was left before.
    ///
    /// # Errors
    /// As every call of the store; [`StoreError::Contended`] where a sweep began at the same time.
    pub async fn resume(&self, since: UnixMs, now: UnixMs) -> Result<UnixMs, StoreError> {
        let before = self.keeper().await?;
        let after = match &before {
            Some(before) => Keeper { from: since, ..before.clone() },
            None => Keeper { by: None, at: now, from: since },
        };
        self.keep(&after, before.as_ref()).await?;
        Ok(before.map_or(UnixMs::new(0), |before| before.from))
    }

    async fn keeper(&self) -> Result<Option<Keeper>, StoreError> {
        let got = self.client().get_item().table_name(self.table()).set_key(Some(item::keeper_key()));
        let got = got.consistent_read(true).send().await;
        let got = got.map_err(|e| store_error(self.action("reading", "who swept last"), &e))?;
        Ok(got.item.as_ref().map(Keeper::of))
    }

    async fn keep(&self, after: &Keeper, before: Option<&Keeper>) -> Result<(), StoreError> {
        let put = self.client().put_item().table_name(self.table()).set_item(Some(after.item()));
        let put = match before {
            None => put.condition_expression("attribute_not_exists(sk)"),
            Some(before) => put
                .condition_expression("#at = :at AND #from = :from")
                .expression_attribute_names("#at", attr::AT)
                .expression_attribute_names("#from", "from")
                .expression_attribute_values(":at", number(before.at.get()))
                .expression_attribute_values(":from", number(before.from.get())),
        };
        match put.send().await {
            Ok(_) => Ok(()),
            Err(e)
                if e.as_service_error().is_some_and(PutItemError::is_conditional_check_failed_exception) =>
            {
                Err(StoreError::Contended(IncidentId::new("(who swept the table last)")))
            }
            Err(e) => Err(store_error(self.action("writing", "who swept last"), &e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs::new(1_800_000_000_000);

    fn keeper(by: Option<&str>, ago: Duration, from: i64) -> Keeper {
        Keeper { by: by.map(str::to_owned), at: NOW.minus(ago), from: UnixMs::new(from) }
    }

    #[test]
    fn a_table_that_is_swept_is_no_news_and_one_that_was_not_is_left_as_it_is() {
        let hour = Duration::from_hours(1);
        let from = |before: Option<Keeper>| {
            Keeper::swept(before.as_ref(), "eu t", NOW).map(|after| after.from.get())
        };
        assert_eq!(from(None), Some(0), "a new table, or one of an earlier Sentinel");
        assert_eq!(from(Some(keeper(Some("eu t"), hour / 2, 7))), None);
        assert_eq!(
            from(Some(keeper(Some("eu t"), hour, 7))),
            Some(7),
            "it says that it is there, once an hour"
        );
        assert_eq!(from(Some(keeper(Some("eu t"), 24 * hour, 7))), Some(NOW.get()), "nobody was, for a day");
        assert_eq!(from(Some(keeper(Some("us t"), hour / 2, 7))), Some(NOW.get()), "another deployment's");
        assert_eq!(
            from(Some(keeper(Some("eu copy"), hour / 2, 7))),
            Some(NOW.get()),
            "restored under a new name"
        );
        assert_eq!(from(Some(keeper(None, 48 * hour, 7))), Some(7), "somebody has decided already");
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let mut written = keeper(Some("eu t"), Duration::ZERO, 5);
        assert_eq!(Keeper::of(&written.item()), written);
        written.by = None;
        assert_eq!(Keeper::of(&written.item()), written);
    }
}
