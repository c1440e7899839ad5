//! Writes the public list of polls, `results/polls.json`.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use domain::{Poll, PollId, PublicList};

use crate::Handler;

/// The list's object key.
const KEY: &str = "results/polls.json";

/// The public polls, and the version of their list.
#[derive(Debug)]
pub(crate) struct CurrentPolls {
    pub(crate) version: i64,
    pub(crate) polls: Vec<Poll>,
}

/// The list that this instance wrote last.
#[derive(Debug, Default)]
pub(crate) struct LastList(Mutex<Option<Vec<u8>>>);

impl LastList {
    fn is(&self, body: &[u8]) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref() == Some(body)
    }

    fn set(&self, body: Vec<u8>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}

impl Handler {
    /// Returns the polls for the list. The version is read first, so the polls are at least of this version.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub(crate) async fn current_polls(&self) -> Result<CurrentPolls, ledger::Error> {
        let version = self.stores.ledger.list_version().await?;
        Ok(CurrentPolls { version, polls: self.stores.ledger.current_polls().await? })
    }

    /// Writes the list, if it is not the one that this instance wrote last, and at every tick while polls are published:
    /// as with their files, the next tick replaces whatever went wrong. So an idle service writes it after a change and
    /// once for each new instance. A failure is logged and retried at the next tick or shift.
    pub(crate) async fn publish_list(
        &self,
        current: &CurrentPolls,
        names: &HashMap<PollId, String>,
        is_busy: bool,
    ) {
        let list = PublicList::new(current.version, &current.polls, names, self.clock.now());
        let body = serde_json::to_vec(&list).expect("a list is plain data");
        if !is_busy && self.last_list.is(&body) {
            return;
        }
        if self.put(KEY, &self.live_cache_control, &body).await {
            self.last_list.set(body);
        }
    }
}
