//! An [`IncidentStore`] in memory, for tests that run a great many incidents through the real handlers.
//!
//! It has the adapter's exact semantics, and is held to them by the same suite (`sentinel-aws`, test `contract`): a
//! head is created where none stands and swapped where its version is the one read, a write that finds itself there
//! was this very write, a child stays as it was first written, and a record of a newer Sentinel is refused.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sentinel_core::UnixMs;
use sentinel_core::budget::{self, Entered};
use sentinel_core::chain::IncidentRecord;
use sentinel_core::incident::{Child, ChildName, Gen, Head, IncidentId};
use sentinel_core::lifecycle::{Owed, due_at};
use sentinel_core::ports::{Appended, Created, DuePage, IncidentStore, StoreError, Swapped};

use crate::counters::Counters;

/// Is shown each head that is written, with what stood there before.
type Watcher = Box<dyn Fn(Option<&Head>, &Head) + Send + Sync>;
/// Is shown each entry of a budget, with what is then spent in its scope and windows.
type Accountant = Box<dyn Fn(&budget::Entry, &budget::Spent) + Send + Sync>;

/// Incidents in memory.
#[derive(Default)]
pub struct MemoryStore {
    items: Mutex<Items>,
    counters: Counters,
    watcher: Option<Watcher>,
    accountant: Option<Accountant>,
}

#[derive(Default)]
struct Items {
    heads: BTreeMap<IncidentId, Head>,
    children: BTreeMap<(IncidentId, Gen), BTreeMap<ChildName, String>>,
    /// Generations of which a child cannot be put together any more.
    damaged: BTreeSet<(IncidentId, Gen)>,
}

impl Items {
    fn children_of(&self, id: &IncidentId) -> Vec<Child> {
        let of = self.children.iter().filter(|((of, _), _)| of == id);
        let child = |generation: Gen, (name, body): (&ChildName, &String)| Child {
            generation,
            name: name.clone(),
            body: body.clone(),
        };
        of.flat_map(|((_, generation), children)| children.iter().map(|c| child(*generation, c))).collect()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl MemoryStore {
    /// An empty store that shows `watcher` every write of a head, in their order.
    pub fn watched(watcher: impl Fn(Option<&Head>, &Head) + Send + Sync + 'static) -> Self {
        Self { watcher: Some(Box::new(watcher)), ..Self::default() }
    }

    /// The same store, which also shows `accountant` every entry of a budget.
    #[must_use]
    pub fn counting(
        self,
        accountant: impl Fn(&budget::Entry, &budget::Spent) + Send + Sync + 'static,
    ) -> Self {
        Self { accountant: Some(Box::new(accountant)), ..self }
    }

    /// Every method leaves the items whole before it could panic.
    fn items(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All heads, in the order of their ids.
    pub fn heads(&self) -> Vec<Head> {
        self.items().heads.values().cloned().collect()
    }

    /// One head, without a call that could fail.
    pub fn head(&self, id: &IncidentId) -> Option<Head> {
        self.items().heads.get(id).cloned()
    }

    /// The body of a child.
    pub fn body(&self, id: &IncidentId, generation: Gen, name: &ChildName) -> Option<String> {
        self.items().children.get(&(id.clone(), generation))?.get(name).cloned()
    }

    /// Everything that is stored of an incident, without a call that could fail.
    pub fn record(&self, id: &IncidentId) -> IncidentRecord {
        let items = self.items();
        IncidentRecord::new(id.clone(), items.heads.get(id).cloned(), items.children_of(id))
    }

    /// When the first head has to be looked at, if any has.
    pub fn first_due(&self) -> Option<UnixMs> {
        self.items().heads.values().filter(|head| is_readable(head)).filter_map(due_at).min()
    }

    /// What is spent of the budgets.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Puts a head there behind everybody's back.
    pub fn put(&self, head: Head) {
        self.items().heads.insert(head.id.clone(), head);
    }

    /// Deletes a whole incident behind everybody's back, as a person with the AWS console can.
    pub fn delete(&self, id: &IncidentId) {
        let mut items = self.items();
        items.heads.remove(id);
        items.children.retain(|(of, _), _| of != id);
    }

    /// Damages a generation's children: they cannot be read any more, as a body whose parts are gone.
    pub fn damage(&self, id: &IncidentId, generation: Gen) {
        self.items().damaged.insert((id.clone(), generation));
    }

    /// Replaces a child's body behind everybody's back.
    pub fn rewrite(&self, id: &IncidentId, generation: Gen, name: ChildName, body: &str) {
        let mut items = self.items();
        items.children.entry((id.clone(), generation)).or_default().insert(name, body.to_owned());
    }

    fn write(&self, items: &mut Items, head: &Head) {
        let before = items.heads.insert(head.id.clone(), head.clone());
        if let Some(watcher) = &self.watcher {
            watcher(before.as_ref(), head);
        }
    }
}

fn is_readable(head: &Head) -> bool {
    head.schema <= Head::SCHEMA
}

fn readable(head: &Head) -> Result<Head, StoreError> {
    if is_readable(head) {
        return Ok(head.clone());
    }
    Err(StoreError::Unreadable {
        item: format!("INC#{}/HEAD", head.id),
        reason: format!("its schema is {}: upgrade this Sentinel", head.schema),
    })
}

#[async_trait]
impl IncidentStore for MemoryStore {
    async fn create(&self, head: &Head) -> Result<Created, StoreError> {
        let mut items = self.items();
        if let Some(found) = items.heads.get(&head.id) {
            let found = readable(found)?;
            let mine = found.writer == head.writer;
            return Ok(if mine { Created::New } else { Created::Exists(Box::new(found)) });
        }
        self.write(&mut items, head);
        Ok(Created::New)
    }

    async fn load(&self, id: &IncidentId) -> Result<Option<Head>, StoreError> {
        self.items().heads.get(id).map(readable).transpose()
    }

    async fn swap(&self, head: &Head) -> Result<Swapped, StoreError> {
        let mut items = self.items();
        let Some(found) = items.heads.get(&head.id) else { return Ok(Swapped::Stale(None)) };
        if found.version.checked_add(1) == Some(head.version) {
            self.write(&mut items, head);
            return Ok(Swapped::Stored);
        }
        let found = readable(found)?;
        let mine = found.writer == head.writer;
        Ok(if mine { Swapped::Stored } else { Swapped::Stale(Some(Box::new(found))) })
    }

    async fn append(&self, id: &IncidentId, child: &Child) -> Result<Appended, StoreError> {
        let mut items = self.items();
        let children = items.children.entry((id.clone(), child.generation)).or_default();
        match children.entry(child.name.clone()) {
            Entry::Vacant(place) => {
                place.insert(child.body.clone());
                Ok(Appended::Written)
            }
            Entry::Occupied(there) if *there.get() == child.body => Ok(Appended::Written),
            Entry::Occupied(_) => Ok(Appended::Other),
        }
    }

    async fn children(&self, id: &IncidentId, generation: Gen) -> Result<Vec<Child>, StoreError> {
        let key = (id.clone(), generation);
        let items = self.items();
        if items.damaged.contains(&key) {
            return Err(StoreError::Unreadable {
                item: format!("INC#{id}/GEN#{generation}"),
                reason: "its parts are missing".to_owned(),
            });
        }
        let children = items.children.get(&key).into_iter().flatten();
        Ok(children
            .map(|(name, body)| Child { generation, name: name.clone(), body: body.clone() })
            .collect())
    }

    async fn all_children(&self, id: &IncidentId) -> Result<Vec<Child>, StoreError> {
        Ok(self.items().children_of(id))
    }

    async fn remove(&self, id: &IncidentId, before: Gen) -> Result<usize, StoreError> {
        let mut items = self.items();
        let gone = |(of, generation): &(IncidentId, Gen)| of == id && *generation < before;
        let removed = items.children.iter().filter(|(key, _)| gone(key)).map(|(_, of)| of.len()).sum();
        items.children.retain(|key, _| !gone(key));
        Ok(removed)
    }

    async fn due(
        &self,
        owed: Owed,
        within: RangeInclusive<UnixMs>,
        limit: usize,
    ) -> Result<DuePage, StoreError> {
        let items = self.items();
        let readable = items.heads.values().filter(|head| is_readable(head) && Owed::of(head) == owed);
        let due = readable.filter_map(|head| Some((due_at(head).filter(|at| within.contains(at))?, head)));
        let mut due: Vec<(UnixMs, &Head)> = due.collect();
        due.sort_by_key(|(at, _)| *at);
        // One more says whether there are more.
        let page = due.into_iter().take(limit.saturating_add(1)).map(|(at, head)| (at, head.clone()));
        Ok(DuePage::of(page.collect(), limit))
    }

    async fn recent_before(&self, before: Gen, limit: usize) -> Result<Vec<Head>, StoreError> {
        let items = self.items();
        let mut heads: Vec<&Head> =
            items.heads.values().filter(|head| is_readable(head) && head.generation < before).collect();
        heads.sort_by_key(|head| std::cmp::Reverse(head.generation));
        Ok(heads.into_iter().take(limit).cloned().collect())
    }

    async fn budget(&self, entry: &budget::Entry) -> Result<Entered, StoreError> {
        let entered = self.counters.enter(entry);
        if let Some(accountant) = &self.accountant {
            let (budget::Entry::Reserve { reservation, .. } | budget::Entry::Settle { reservation, .. }) =
                entry;
            accountant(entry, &self.counters.spent(&reservation.scope, reservation.at));
        }
        Ok(entered)
    }
}
