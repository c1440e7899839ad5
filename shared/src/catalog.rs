//! Polls as the functions find them: from Redis while that is fresh, else from the ledger.
//!
//! Whatever is loaded from the ledger is written to Redis together with its totals, so a ranking that missed
//! updates, or was lost, is whole again after the next load.

use std::{collections::HashMap, time::Duration};

use crate::{
    clock,
    domain::{Poll, PollId, Tally},
    ledger::{self, Ledger, PollWithTally},
    ranking::{self, Cached, RankingStore},
    telemetry::causes,
};

/// Finds polls in both stores.
#[derive(Debug, Clone)]
pub struct Catalog {
    ledger: Ledger,
    ranking: RankingStore,
    fresh: Duration,
}

impl Catalog {
    /// `fresh`: how long Redis is believed before the ledger is asked again.
    pub fn new(ledger: Ledger, ranking: RankingStore, fresh: Duration) -> Self {
        Self { ledger, ranking, fresh }
    }

    /// The polls of these numbers that exist, perhaps some seconds old.
    ///
    /// # Errors
    /// When the ledger is needed and does not answer.
    pub async fn find(&self, ids: &[PollId]) -> Result<HashMap<PollId, Poll>, ledger::Error> {
        let mut found = HashMap::with_capacity(ids.len());
        for cached in noted(self.ranking.polls(ids).await).unwrap_or_default().into_iter().flatten() {
            if self.is_fresh(&cached) {
                found.insert(cached.value.id, cached.value);
            }
        }
        let missing: Vec<_> = ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
        if !missing.is_empty() {
            found.extend(self.load(&missing).await?.into_iter().map(|loaded| (loaded.poll.id, loaded.poll)));
        }
        Ok(found)
    }

    /// The polls of these numbers that exist, as the ledger has them now.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn load(&self, ids: &[PollId]) -> Result<Vec<PollWithTally>, ledger::Error> {
        let loaded = self.ledger.polls(ids).await?;
        noted(self.ranking.keep_polls(&loaded, clock::now()).await);
        Ok(loaded)
    }

    /// One poll for a reader. While the ledger is away, what Redis has is good however old it is.
    ///
    /// # Errors
    /// When neither store has an answer.
    pub async fn poll(&self, id: PollId) -> Result<Option<Poll>, ledger::Error> {
        let cached = noted(self.ranking.polls(&[id]).await).and_then(|mut found| found.pop().flatten());
        match cached {
            Some(cached) if self.is_fresh(&cached) => Ok(Some(cached.value)),
            stale => match self.load(&[id]).await {
                Ok(mut loaded) => {
                    let loaded = loaded.pop().map(|loaded| loaded.poll);
                    if loaded.is_none() && stale.is_some() {
                        noted(self.ranking.forget_poll(id).await);
                    }
                    Ok(loaded)
                }
                Err(error) => stale.map(|stale| Some(stale.value)).ok_or(error),
            },
        }
    }

    /// The current polls for a reader, likewise.
    ///
    /// # Errors
    /// When neither store has an answer.
    pub async fn current_polls(&self) -> Result<Vec<Poll>, ledger::Error> {
        match noted(self.ranking.current_polls().await).flatten() {
            Some(cached) if self.is_fresh(&cached) => Ok(cached.value),
            stale => match self.refresh_current_polls().await {
                Ok(polls) => Ok(polls),
                Err(error) => stale.map(|stale| stale.value).ok_or(error),
            },
        }
    }

    /// Loads the list of current polls from the ledger into Redis.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn refresh_current_polls(&self) -> Result<Vec<Poll>, ledger::Error> {
        let polls = self.ledger.current_polls().await?;
        noted(self.ranking.keep_current_polls(&polls, clock::now()).await);
        Ok(polls)
    }

    /// A poll's totals for a reader: the ranking, or the tally where the ranking is not whole.
    ///
    /// # Errors
    /// When neither store has an answer.
    pub async fn tally(&self, poll: &Poll) -> Result<Tally, ledger::Error> {
        let ranked = noted(self.ranking.tally(poll).await).flatten();
        let is_whole =
            |tally: &Tally| poll.contestants.iter().all(|contestant| tally.contains_key(&contestant.number));
        match ranked {
            Some(tally) if is_whole(&tally) => Ok(tally),
            partial => match self.load(&[poll.id]).await {
                Ok(mut loaded) => Ok(loaded.pop().map(|loaded| loaded.tally).unwrap_or_default()),
                Err(error) => partial.ok_or(error),
            },
        }
    }

    /// What was loaded in the future was loaded by a clock that is ahead: believed no longer than what is old.
    fn is_fresh<T>(&self, cached: &Cached<T>) -> bool {
        let age_ms = clock::now().millis() - cached.loaded_at.millis();
        u128::from(age_ms.unsigned_abs()) < self.fresh.as_millis()
    }
}

/// Redis being away is noted and otherwise the same as its knowing nothing.
fn noted<T>(answer: Result<T, ranking::Error>) -> Option<T> {
    answer.inspect_err(|error| tracing::warn!(error = causes(error), "ranking.unavailable")).ok()
}
