//! The catalog of polls: a read-through cache in Redis over the ledger.
//!
//! Each load from the ledger writes the poll to Redis together with its totals, so the next load repairs a ranking
//! that was lost or missed updates.
//!
//! Many viewers read at the same moment, so one instance of the whole fleet, the holder of a lease, reloads a stale
//! entry. The other instances serve the stale entry meanwhile, and wait only if there is none. A failed reload keeps
//! its lease: the ledger is queried again after the lease has expired, and until then no reader waits for it.

use std::{collections::HashMap, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

use domain::PollWithTally;
use domain::{Poll, PollId, Tally, Timestamp};
use ledger::Ledger;
use ranking::{Cached, Lease, RankingStore};
use runtime::{Clock, telemetry::error_chain};

/// How often a reader without a cached value polls for the result of the lease's holder.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A reader of polls through both stores.
#[derive(Debug, Clone)]
pub struct Catalog {
    ledger: Ledger,
    ranking: RankingStore,
    fresh: Duration,
    lease: Duration,
    clock: Clock,
}

/// The result of a lookup in Redis.
enum Lookup<T> {
    Fresh(T),
    Stale(T),
    Missing,
    /// Redis did not answer.
    Unavailable,
}

impl Catalog {
    /// Creates a catalog. `fresh` is the maximum age of a fresh cache entry. `lease` is the time that one instance
    /// has for a reload while the others wait or serve stale entries. It must exceed the time of any load. Zero
    /// disables leases.
    pub fn new(
        ledger: Ledger,
        ranking: RankingStore,
        fresh: Duration,
        lease: Duration,
        clock: Clock,
    ) -> Self {
        Self { ledger, ranking, fresh, lease, clock }
    }

    /// Returns the existing polls among these numbers, possibly stale. It suits callers that detect stale
    /// definitions, such as batches, which the ledger checks. It never waits for the load of another instance.
    ///
    /// # Errors
    /// If the ledger is needed and does not answer.
    pub async fn find(&self, ids: &[PollId]) -> Result<HashMap<PollId, Poll>, ledger::Error> {
        let cached = or_log(self.ranking.polls(ids).await).unwrap_or_default();
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

    /// Loads the existing polls among these numbers from the ledger, and caches them.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn load(&self, ids: &[PollId]) -> Result<Vec<PollWithTally>, ledger::Error> {
        let (loaded, kept) = self.load_and_keep(ids).await?;
        or_log(kept);
        Ok(loaded)
    }

    /// Does the same as [`Self::load`], and returns whether Redis has taken the polls.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn load_and_keep(
        &self,
        ids: &[PollId],
    ) -> Result<(Vec<PollWithTally>, Result<(), ranking::Error>), ledger::Error> {
        let loaded_at = self.clock.now();
        let loaded = self.ledger.polls(ids).await?;
        let kept = self.ranking.keep_polls(&loaded, loaded_at).await;
        Ok((loaded, kept))
    }

    /// Returns a poll for a public reader, and `None` for a draft. While the ledger is unavailable, a cache entry of any age
    /// is valid.
    ///
    /// # Errors
    /// If neither store has an answer.
    pub async fn poll(&self, id: PollId) -> Result<Option<Poll>, ledger::Error> {
        let load =
            |was_here| async move { Ok(self.load_one(id, was_here).await?.value.map(|loaded| loaded.poll)) };
        let found = self.view(&lease_name(id), || self.read_poll(id), load).await?;
        let now = self.clock.now();
        Ok(found.filter(|poll| !poll.is_draft(now)))
    }

    /// Returns a poll with its totals for a public reader, and the time when the ledger last confirmed them. The
    /// totals may already include votes counted since. Drafts do not exist, and while the ledger is unavailable, a
    /// cache entry of any age is valid.
    ///
    /// # Errors
    /// If neither store has an answer.
    pub async fn standing(&self, id: PollId) -> Result<Cached<Option<PollWithTally>>, ledger::Error> {
        let load = |was_here| self.load_one(id, was_here);
        let found = self.view(&lease_name(id), || self.read_standing(id), load).await?;
        let now = self.clock.now();
        let value = found.value.filter(|loaded| !loaded.poll.is_draft(now));
        Ok(Cached { value, loaded_at: found.loaded_at })
    }

    /// Returns the current polls for a public reader. While the ledger is unavailable, a cache entry of any age is
    /// valid.
    ///
    /// # Errors
    /// If neither store has an answer.
    pub async fn current_polls(&self) -> Result<Vec<Poll>, ledger::Error> {
        self.view("polls", || self.read_current_polls(), |_| self.refresh_current_polls()).await
    }

    /// Loads the list of current polls from the ledger, and caches it.
    ///
    /// # Errors
    /// If the ledger does not answer.
    pub async fn refresh_current_polls(&self) -> Result<Vec<Poll>, ledger::Error> {
        let loaded_at = self.clock.now();
        let polls = self.ledger.current_polls().await?;
        or_log(self.ranking.keep_current_polls(&polls, loaded_at).await);
        Ok(polls)
    }

    /// Returns a fresh cache entry, or lets one instance reload it. The argument of `load` is whether there was a
    /// stale entry.
    async fn view<T, S, L>(
        &self,
        name: &str,
        read: impl Fn() -> S,
        load: impl Fn(bool) -> L,
    ) -> Result<T, ledger::Error>
    where
        S: Future<Output = Lookup<T>>,
        L: Future<Output = Result<T, ledger::Error>>,
    {
        match read().await {
            Lookup::Fresh(value) => return Ok(value),
            Lookup::Unavailable => return load(false).await,
            Lookup::Stale(_) | Lookup::Missing => {}
        }
        let deadline = Instant::now() + self.lease;
        loop {
            let Some(claim) = self.claim(name).await else { return load(false).await };
            // Read again after the claim: the previous holder wrote the entry before it released the lease.
            match (claim, read().await) {
                (Claim::Held, Lookup::Fresh(value) | Lookup::Stale(value)) => return Ok(value),
                (Claim::Held, Lookup::Missing) if Instant::now() < deadline => sleep(POLL_INTERVAL).await,
                (Claim::Held, Lookup::Missing) => return Err(ledger::Outage::Timeout(self.lease).into()),
                (Claim::Acquired(lease), Lookup::Fresh(value)) => {
                    self.release(lease).await;
                    return Ok(value);
                }
                (Claim::Acquired(lease), Lookup::Stale(value)) => match load(true).await {
                    Ok(loaded) => {
                        self.release(lease).await;
                        return Ok(loaded);
                    }
                    // The lease is kept: all readers have a stale entry, and the ledger gets no queries until it
                    // expires.
                    Err(error) => {
                        tracing::warn!(error = error_chain(&error), name, "view.not_reloaded");
                        return Ok(value);
                    }
                },
                (Claim::Acquired(lease), Lookup::Missing | Lookup::Unavailable) => {
                    let loaded = load(false).await;
                    self.release(lease).await;
                    return loaded;
                }
                (Claim::Held, Lookup::Unavailable) => return load(false).await,
            }
        }
    }

    /// Claims the lease of a load. Returns `None` if Redis does not answer.
    async fn claim(&self, name: &str) -> Option<Claim> {
        if self.lease.is_zero() {
            return Some(Claim::Acquired(None));
        }
        let lease = or_log(self.ranking.claim(name, self.lease).await)?;
        Some(lease.map_or(Claim::Held, |lease| Claim::Acquired(Some(lease))))
    }

    async fn release(&self, lease: Option<Lease>) {
        if let Some(lease) = lease {
            or_log(self.ranking.release(lease).await);
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
            or_log(self.ranking.keep_absence(id, was_here, loaded_at, self.fresh).await);
        }
        Ok(Cached { value, loaded_at })
    }

    async fn read_cached_poll(&self, id: PollId) -> Lookup<Cached<Option<Poll>>> {
        self.lookup(self.ranking.polls(&[id]).await.map(|mut found| found.pop().flatten()))
    }

    async fn read_poll(&self, id: PollId) -> Lookup<Option<Poll>> {
        self.read_cached_poll(id).await.map(|cached| cached.value)
    }

    async fn read_current_polls(&self) -> Lookup<Vec<Poll>> {
        self.lookup(self.ranking.current_polls().await).map(|cached| cached.value)
    }

    /// Reads a poll with its totals from Redis. A ranking that lacks a contestant counts as missing.
    async fn read_standing(&self, id: PollId) -> Lookup<Cached<Option<PollWithTally>>> {
        let cached_poll = self.read_cached_poll(id).await;
        let poll = match &cached_poll {
            Lookup::Fresh(Cached { value: Some(poll), .. })
            | Lookup::Stale(Cached { value: Some(poll), .. }) => poll,
            _ => return cached_poll.map(|cached| Cached { value: None, loaded_at: cached.loaded_at }),
        };
        let is_whole =
            |tally: &Tally| poll.contestants.iter().all(|contestant| tally.contains_key(&contestant.number));
        match self.ranking.tally(poll).await {
            Ok(Some(tally)) if is_whole(&tally) => cached_poll.map(|cached| Cached {
                value: cached.value.map(|poll| PollWithTally { poll, tally: tally.clone() }),
                loaded_at: cached.loaded_at,
            }),
            Ok(_) => Lookup::Missing,
            Err(error) => self.lookup(Err(error)),
        }
    }

    fn lookup<T>(&self, answer: Result<Option<Cached<T>>, ranking::Error>) -> Lookup<Cached<T>> {
        match or_log(answer) {
            Some(Some(cached)) if self.is_fresh(cached.loaded_at) => Lookup::Fresh(cached),
            Some(Some(cached)) => Lookup::Stale(cached),
            Some(None) => Lookup::Missing,
            None => Lookup::Unavailable,
        }
    }

    /// Returns whether an entry is fresh. A time of loading in the future comes from a clock that is ahead, so its
    /// distance from now is limited in the same way.
    fn is_fresh(&self, loaded_at: Timestamp) -> bool {
        let age_ms = self.clock.now().millis() - loaded_at.millis();
        u128::from(age_ms.unsigned_abs()) < self.fresh.as_millis()
    }
}

/// The outcome of claiming the lease of a load.
enum Claim {
    /// This reader loads. There is no lease if leases are disabled.
    Acquired(Option<Lease>),
    /// Another instance holds the lease.
    Held,
}

impl<T> Lookup<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Lookup<U> {
        match self {
            Self::Fresh(value) => Lookup::Fresh(change(value)),
            Self::Stale(value) => Lookup::Stale(change(value)),
            Self::Missing => Lookup::Missing,
            Self::Unavailable => Lookup::Unavailable,
        }
    }
}

fn lease_name(id: PollId) -> String {
    format!("poll:{}", id.0)
}

/// Logs an error of Redis and returns `None`, so that callers continue as with an empty cache.
fn or_log<T>(answer: Result<T, ranking::Error>) -> Option<T> {
    answer
        .inspect_err(|error| match error {
            ranking::Error::Outage(_) => tracing::warn!(error = error_chain(error), "ranking.unavailable"),
            ranking::Error::Defect(_) => tracing::error!(error = error_chain(error), "ranking.defect"),
        })
        .ok()
}
