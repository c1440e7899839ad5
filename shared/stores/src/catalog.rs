//! Polls as the functions find them: from Redis while that is fresh, else from the ledger.
//!
//! Whatever is loaded from the ledger is written to Redis together with its totals, so a ranking that missed
//! updates, or was lost, is whole again after the next load.
//!
//! An audience comes all at once, so what a reader finds out of date is reloaded by one of the whole fleet, who holds
//! a lease on it. The others show what there is meanwhile, and wait only where there is nothing to show. A load that
//! fails keeps the lease: the ledger is asked again when it has run out, and until then nobody waits for it.

use std::{collections::HashMap, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use domain::PollWithTally;
use domain::{Poll, PollId, Tally, Timestamp};
use ledger::Ledger;
use ranking::{Cached, Lease, RankingStore};
use runtime::{Clock, telemetry::error_chain};

/// How often who has nothing to show looks whether the holder of the lease is done.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Finds polls in both stores.
#[derive(Debug, Clone)]
pub struct Catalog {
    ledger: Ledger,
    ranking: RankingStore,
    fresh: Duration,
    lease: Duration,
    clock: Clock,
}

/// What a reader sees in Redis.
enum Sight<T> {
    Fresh(T),
    Stale(T),
    Nothing,
    /// Redis does not answer.
    Blind,
}

impl Catalog {
    /// `fresh`: how long Redis is believed before the ledger is asked again. `lease`: how long one reader may take to
    /// do so while the others hold back, longer than any load takes; zero: nobody holds back.
    pub fn new(
        ledger: Ledger,
        ranking: RankingStore,
        fresh: Duration,
        lease: Duration,
        clock: Clock,
    ) -> Self {
        Self { ledger, ranking, fresh, lease, clock }
    }

    /// The polls of these numbers that exist, perhaps long out of date: for who is told if they are, as batches are
    /// by the ledger. Waits for nobody else's load.
    ///
    /// # Errors
    /// When the ledger is needed and does not answer.
    pub async fn find(&self, ids: &[PollId]) -> Result<HashMap<PollId, Poll>, ledger::Error> {
        let cached = noted(self.ranking.polls(ids).await).unwrap_or_default();
        let mut known: HashMap<_, _> =
            ids.iter().copied().zip(cached).filter_map(|(id, cached)| Some((id, cached?.value))).collect();
        let missing: Vec<_> = ids.iter().copied().filter(|id| !known.contains_key(id)).collect();
        if !missing.is_empty() {
            known.extend(
                self.load(&missing).await?.into_iter().map(|loaded| (loaded.poll.id, Some(loaded.poll))),
            );
        }
        Ok(known.into_iter().filter_map(|(id, poll)| Some((id, poll?))).collect())
    }

    /// The polls of these numbers that exist, as the ledger has them now.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn load(&self, ids: &[PollId]) -> Result<Vec<PollWithTally>, ledger::Error> {
        let loaded_at = self.clock.now();
        let loaded = self.ledger.polls(ids).await?;
        noted(self.ranking.keep_polls(&loaded, loaded_at).await);
        Ok(loaded)
    }

    /// One poll for a reader, to whom a draft does not exist. While the ledger is away, what Redis has is good however
    /// old it is.
    ///
    /// # Errors
    /// When neither store has an answer.
    pub async fn poll(&self, id: PollId) -> Result<Option<Poll>, ledger::Error> {
        let load =
            |was_here| async move { Ok(self.load_one(id, was_here).await?.value.map(|loaded| loaded.poll)) };
        let found = self.view(&lease_name(id), || self.see_poll(id), load).await?;
        let now = self.clock.now();
        Ok(found.filter(|poll| !poll.is_draft(now)))
    }

    /// One poll with its totals for a reader, likewise, and when the ledger last confirmed them; votes counted since may be in
    /// them already. While the ledger is away, what Redis has is good however old it is.
    ///
    /// # Errors
    /// When neither store has an answer.
    pub async fn standing(&self, id: PollId) -> Result<Cached<Option<PollWithTally>>, ledger::Error> {
        let load = |was_here| self.load_one(id, was_here);
        let found = self.view(&lease_name(id), || self.see_standing(id), load).await?;
        let now = self.clock.now();
        let value = found.value.filter(|loaded| !loaded.poll.is_draft(now));
        Ok(Cached { value, loaded_at: found.loaded_at })
    }

    /// The current polls for a reader, likewise.
    ///
    /// # Errors
    /// When neither store has an answer.
    pub async fn current_polls(&self) -> Result<Vec<Poll>, ledger::Error> {
        self.view("polls", || self.see_current_polls(), |_| self.refresh_current_polls()).await
    }

    /// Loads the list of current polls from the ledger into Redis.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn refresh_current_polls(&self) -> Result<Vec<Poll>, ledger::Error> {
        let loaded_at = self.clock.now();
        let polls = self.ledger.current_polls().await?;
        noted(self.ranking.keep_current_polls(&polls, loaded_at).await);
        Ok(polls)
    }

    /// What Redis shows while it is fresh; else reloaded, by one reader of all. `load` is told whether there was
    /// something to show.
    async fn view<T, S, L>(
        &self,
        name: &str,
        see: impl Fn() -> S,
        load: impl Fn(bool) -> L,
    ) -> Result<T, ledger::Error>
    where
        S: Future<Output = Sight<T>>,
        L: Future<Output = Result<T, ledger::Error>>,
    {
        match see().await {
            Sight::Fresh(seen) => return Ok(seen),
            Sight::Blind => return load(false).await,
            Sight::Stale(_) | Sight::Nothing => {}
        }
        let deadline = Instant::now() + self.lease;
        loop {
            let Some(turn) = self.claim(name).await else { return load(false).await };
            // Seen after the claim: a holder writes before giving the lease back.
            match (turn, see().await) {
                (Turn::Theirs, Sight::Fresh(seen) | Sight::Stale(seen)) => return Ok(seen),
                (Turn::Theirs, Sight::Nothing) if Instant::now() < deadline => sleep(POLL_INTERVAL).await,
                (Turn::Theirs, Sight::Nothing) => return Err(ledger::Outage::Timeout(self.lease).into()),
                (Turn::Ours(lease), Sight::Fresh(seen)) => {
                    self.release(lease).await;
                    return Ok(seen);
                }
                (Turn::Ours(lease), Sight::Stale(seen)) => match load(true).await {
                    Ok(loaded) => {
                        self.release(lease).await;
                        return Ok(loaded);
                    }
                    // The lease is kept: everybody has something to show, and the ledger is left alone.
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, name, "view.not_reloaded");
                        return Ok(seen);
                    }
                },
                (Turn::Ours(lease), Sight::Nothing | Sight::Blind) => {
                    let loaded = load(false).await;
                    self.release(lease).await;
                    return loaded;
                }
                (Turn::Theirs, Sight::Blind) => return load(false).await,
            }
        }
    }

    /// Whose turn it is to load; `None`: Redis does not say.
    async fn claim(&self, name: &str) -> Option<Turn> {
        if self.lease.is_zero() {
            return Some(Turn::Ours(None));
        }
        let lease = noted(self.ranking.claim(name, self.lease).await)?;
        Some(lease.map_or(Turn::Theirs, |lease| Turn::Ours(Some(lease))))
    }

    async fn release(&self, lease: Option<Lease>) {
        if let Some(lease) = lease {
            noted(self.ranking.release(lease).await);
        }
    }

    async fn load_one(
        &self,
        id: PollId,
        was_here: bool,
    ) -> Result<Cached<Option<PollWithTally>>, ledger::Error> {
        let loaded_at = self.clock.now();
        let value = self.load(&[id]).await?.pop();
        if value.is_none() {
            noted(self.ranking.keep_absence(id, was_here, loaded_at, self.fresh).await);
        }
        Ok(Cached { value, loaded_at })
    }

    async fn see_cached_poll(&self, id: PollId) -> Sight<Cached<Option<Poll>>> {
        self.sight(self.ranking.polls(&[id]).await.map(|mut found| found.pop().flatten()))
    }

    async fn see_poll(&self, id: PollId) -> Sight<Option<Poll>> {
        self.see_cached_poll(id).await.map(|cached| cached.value)
    }

    async fn see_current_polls(&self) -> Sight<Vec<Poll>> {
        self.sight(self.ranking.current_polls().await).map(|cached| cached.value)
    }

    /// A ranking that lacks a contestant is no standing.
    async fn see_standing(&self, id: PollId) -> Sight<Cached<Option<PollWithTally>>> {
        let seen = self.see_cached_poll(id).await;
        let poll = match &seen {
            Sight::Fresh(Cached { value: Some(poll), .. })
            | Sight::Stale(Cached { value: Some(poll), .. }) => poll,
            _ => return seen.map(|cached| Cached { value: None, loaded_at: cached.loaded_at }),
        };
        let is_whole =
            |tally: &Tally| poll.contestants.iter().all(|contestant| tally.contains_key(&contestant.number));
        match self.ranking.tally(poll).await {
            Ok(Some(tally)) if is_whole(&tally) => seen.map(|cached| Cached {
                value: cached.value.map(|poll| PollWithTally { poll, tally: tally.clone() }),
                loaded_at: cached.loaded_at,
            }),
            Ok(_) => Sight::Nothing,
            Err(error) => self.sight(Err(error)),
        }
    }

    fn sight<T>(&self, answer: Result<Option<Cached<T>>, ranking::Error>) -> Sight<Cached<T>> {
        match noted(answer) {
            Some(Some(cached)) if self.is_fresh(cached.loaded_at) => Sight::Fresh(cached),
            Some(Some(cached)) => Sight::Stale(cached),
            Some(None) => Sight::Nothing,
            None => Sight::Blind,
        }
    }

    /// What was loaded in the future was loaded by a clock that is ahead: believed no longer than what is old.
    fn is_fresh(&self, loaded_at: Timestamp) -> bool {
        let age_ms = self.clock.now().millis() - loaded_at.millis();
        u128::from(age_ms.unsigned_abs()) < self.fresh.as_millis()
    }
}

/// Who loads what a reader found out of date.
enum Turn {
    /// The reader; without a lease where nobody holds back.
    Ours(Option<Lease>),
    /// Somebody else.
    Theirs,
}

impl<T> Sight<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Sight<U> {
        match self {
            Self::Fresh(seen) => Sight::Fresh(change(seen)),
            Self::Stale(seen) => Sight::Stale(change(seen)),
            Self::Nothing => Sight::Nothing,
            Self::Blind => Sight::Blind,
        }
    }
}

fn lease_name(id: PollId) -> String {
    format!("poll:{}", id.0)
}

/// Logs a failure of Redis, which otherwise counts as a Redis that knows nothing.
fn noted<T>(answer: Result<T, ranking::Error>) -> Option<T> {
    answer
        .inspect_err(|error| match error {
            ranking::Error::Outage(_) => tracing::warn!(error = error_chain(error), "ranking.unavailable"),
            ranking::Error::Defect(_) => tracing::error!(error = error_chain(error), "ranking.defect"),
        })
        .ok()
}
