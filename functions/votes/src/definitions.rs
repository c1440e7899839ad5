//! A cache of poll definitions. An entry stays valid for as long as the ledger confirms its version.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{Message, Poll, PollId};
use stores::Catalog;

/// Maximum number of cache entries, missing polls included; the cache is cleared beyond it. A poll of 1,000
/// contestants takes about 100 kB, an ordinary one under 2 kB.
const ENTRIES_MAX: usize = 1_000;

/// The polls that a batch's votes name; `None` for a poll that does not exist.
pub type Polls = BTreeMap<PollId, Option<Arc<Poll>>>;

/// Finds definitions in memory, then in Redis, then in the ledger. Cache entries need no expiry: each batch passes
/// the versions that judged it to the ledger, absence included, and the ledger refuses an old one.
#[derive(Debug)]
pub struct Definitions {
    catalog: Catalog,
    entries: Mutex<HashMap<PollId, Option<Arc<Poll>>>>,
}

/// Returns the poll that a vote names, if its number is a valid poll number.
pub fn poll_of(message: &Message) -> Option<PollId> {
    let request = message.request.as_ref().ok()?;
    i32::try_from(request.poll).ok().filter(|&id| id > 0).map(PollId)
}

/// Returns every poll that a batch's votes name.
pub fn polls_in(messages: &[Message]) -> BTreeSet<PollId> {
    messages.iter().filter_map(poll_of).collect()
}

impl Definitions {
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, entries: Mutex::default() }
    }

    /// Returns the definitions of these polls, possibly stale.
    pub async fn find(&self, ids: &BTreeSet<PollId>) -> Result<Polls, ledger::Error> {
        let mut polls: Polls = {
            let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            ids.iter().filter_map(|id| Some((*id, entries.get(id)?.clone()))).collect()
        };
        let missing: Vec<_> = ids.iter().copied().filter(|id| !polls.contains_key(id)).collect();
        if !missing.is_empty() {
            let mut found = self.catalog.find(&missing).await?;
            polls.extend(self.insert(missing, |id| found.remove(&id)));
        }
        Ok(polls)
    }

    /// Loads the current definitions of these polls from the ledger.
    pub async fn reload(&self, ids: &BTreeSet<PollId>) -> Result<Polls, ledger::Error> {
        let ids: Vec<_> = ids.iter().copied().collect();
        let loaded = self.catalog.load(&ids).await?;
        let mut found: HashMap<_, _> =
            loaded.into_iter().map(|loaded| (loaded.poll.id, loaded.poll)).collect();
        Ok(self.insert(ids, |id| found.remove(&id)))
    }

    fn insert(&self, ids: Vec<PollId>, mut found: impl FnMut(PollId) -> Option<Poll>) -> Polls {
        let polls: Polls = ids.into_iter().map(|id| (id, found(id).map(Arc::new))).collect();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() + polls.len() > ENTRIES_MAX {
            entries.clear();
        }
        entries.extend(polls.iter().map(|(id, poll)| (*id, poll.clone())).take(ENTRIES_MAX));
        polls
    }
}
