//! Poll definitions, in memory for as long as the ledger confirms them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{Message, Poll, PollId};
use stores::Catalog;

/// Numbers of polls that are remembered, existing or not; then memory starts anew. A poll of 1,000 contestants
/// takes about 100 kB, an ordinary one under 2 kB.
const REMEMBERED_MAX: usize = 1_000;

/// Each poll that a batch's votes name; `None`: there is no such poll.
pub type Polls = BTreeMap<PollId, Option<Arc<Poll>>>;

/// Finds definitions: memory, then Redis, then the ledger. What is remembered need not expire: each batch tells
/// the ledger which versions it was judged by, absence included, and is not counted by an old one.
#[derive(Debug)]
pub struct Definitions {
    catalog: Catalog,
    remembered: Mutex<HashMap<PollId, Option<Arc<Poll>>>>,
}

/// The poll that a vote names, if it can be the number of one.
pub fn poll_of(message: &Message) -> Option<PollId> {
    let request = message.request.as_ref().ok()?;
    i32::try_from(request.poll).ok().filter(|&id| id > 0).map(PollId)
}

/// Every poll that a batch's votes name.
pub fn polls_in(messages: &[Message]) -> BTreeSet<PollId> {
    messages.iter().filter_map(poll_of).collect()
}

impl Definitions {
    pub fn new(catalog: Catalog) -> Self {
        Self { catalog, remembered: Mutex::default() }
    }

    /// The definitions of these polls, perhaps out of date.
    pub async fn find(&self, ids: &BTreeSet<PollId>) -> Result<Polls, ledger::Error> {
        let mut polls: Polls = {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            ids.iter().filter_map(|id| Some((*id, remembered.get(id)?.clone()))).collect()
        };
        let missing: Vec<_> = ids.iter().copied().filter(|id| !polls.contains_key(id)).collect();
        if !missing.is_empty() {
            let mut found = self.catalog.find(&missing).await?;
            polls.extend(self.remember(missing, |id| found.remove(&id)));
        }
        Ok(polls)
    }

    /// The definitions of these polls as the ledger has them now.
    pub async fn reload(&self, ids: &BTreeSet<PollId>) -> Result<Polls, ledger::Error> {
        let ids: Vec<_> = ids.iter().copied().collect();
        let loaded = self.catalog.load(&ids).await?;
        let mut found: HashMap<_, _> =
            loaded.into_iter().map(|loaded| (loaded.poll.id, loaded.poll)).collect();
        Ok(self.remember(ids, |id| found.remove(&id)))
    }

    fn remember(&self, ids: Vec<PollId>, mut found: impl FnMut(PollId) -> Option<Poll>) -> Polls {
        let polls: Polls = ids.into_iter().map(|id| (id, found(id).map(Arc::new))).collect();
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() + polls.len() > REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.extend(polls.iter().map(|(id, poll)| (*id, poll.clone())).take(REMEMBERED_MAX));
        polls
    }
}
