//! Makes results public: writes each poll's file every 3 s from its opening until its certified result is out, repairs
//! the ranking as it goes, and certifies what is closed once no vote is outstanding.
//!
//! Started every minute. With nothing to do it ends at once; else it goes on until the next start. One of all instances
//! works at a time, by lease; two would do no harm.

mod publish;

use std::time::Duration;

use aws::Aws;
use lambda_runtime::Diagnostic;
use shared::{
    clock,
    config::{self, Stores},
    domain::{Basis, Patience, PollId, Timestamp},
    ledger::{self, Frozen, Publishable},
    ranking::{Backlog, Lease},
};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// As long as the edge keeps a file.
const TICK: Duration = Duration::from_secs(3);

/// From start to end: the next start is a minute after this one.
const SHIFT: Duration = Duration::from_secs(57);

/// Longer than one tick's work takes; a dead holder keeps the others out for so long.
const LEASE: Duration = Duration::from_secs(15);
const LEASE_NAME: &str = "results";

/// A tick's share of a certificate: some hundred thousand votes take a second.
const PIECE_ROWS: u32 = 200_000;
/// The last piece counts all of the poll's votes, and its voters.
const PIECE_LIMIT: Duration = Duration::from_secs(120);

/// The function, built once at start.
#[derive(Debug)]
pub struct Handler {
    stores: Stores,
    aws: Aws,
    bucket: String,
    queue_url: String,
    invalidations_url: String,
    live_cache_control: String,
    certified_cache_control: String,
    patience: Patience,
}

/// What a tick found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// A poll is open, or closed and not certified, or about to open.
    Busy,
    /// There is nothing to do.
    Idle,
}

/// Why a shift ended early. The next one begins within a minute.
#[derive(Debug)]
pub struct Ended(ledger::Error);

/// What Lambda is told; the cause has been logged.
impl From<Ended> for Diagnostic {
    fn from(ended: Ended) -> Self {
        Self { error_type: "NotPublished".to_owned(), error_message: ended.0.to_string() }
    }
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting.
    ///
    /// # Errors
    /// All that is wrong with the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, config::Error> {
        let mut reader = config::Reader::new(lookup);
        let stores = reader.stores();
        let aws = Aws::read(&mut reader);
        let bucket = reader.text("RESULTS_BUCKET");
        let queue_url = reader.text("VOTES_QUEUE_URL");
        let invalidations_url = reader.text("INVALIDATIONS_QUEUE_URL");
        let live = reader.text("LIVE_CACHE_CONTROL");
        let certified = reader.text("CERTIFIED_CACHE_CONTROL");
        let patience = reader.patience();
        let built = || {
            Some(Self {
                stores: stores?,
                aws: aws?,
                bucket: bucket?,
                queue_url: queue_url?,
                invalidations_url: invalidations_url?,
                live_cache_control: live?,
                certified_cache_control: certified?,
                patience: patience?,
            })
        };
        reader.finish(built())
    }

    /// One shift.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn handle(&self) -> Result<(), Ended> {
        let lease = match self.stores.ranking.claim(LEASE_NAME, LEASE).await {
            Ok(Some(lease)) => Some(lease),
            Ok(None) => return Ok(()),
            // The ledger's work must not wait for Redis.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "ranking.unavailable");
                None
            }
        };
        let worked = self.work(lease.as_ref()).await;
        if let Some(lease) = lease
            && let Err(error) = self.stores.ranking.release(lease).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "ranking.unavailable");
        }
        worked.map_err(|error| {
            tracing::error!(error = &error as &dyn std::error::Error, "results.failed");
            Ended(error)
        })
    }

    async fn work(&self, lease: Option<&Lease>) -> Result<(), ledger::Error> {
        let end = Instant::now() + SHIFT;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while Instant::now() + TICK < end {
            ticks.tick().await;
            if self.tick().await? == Tick::Idle {
                break;
            }
            if let Some(lease) = lease
                && let Ok(false) = self.stores.ranking.renew(lease, LEASE).await
            {
                // Another one has taken over.
                break;
            }
        }
        Ok(())
    }

    /// Publishes everything that is to be published now, and takes certificates a piece further.
    ///
    /// # Errors
    /// When the ledger does not answer. A file that could not be written is logged, and written with the next tick.
    pub async fn tick(&self) -> Result<Tick, ledger::Error> {
        let as_of = clock::now();
        let due = self.stores.ledger.publishable(SHIFT).await?;
        if due.is_empty() {
            return Ok(Tick::Idle);
        }
        self.repair(&due, as_of).await;
        self.publish(&due, as_of).await;
        let queued = self.queued().await;
        for one in &due {
            self.certify(one, queued).await?;
        }
        Ok(Tick::Busy)
    }

    /// The ranking, and the definitions with it, as the ledger has them.
    async fn repair(&self, polls: &[Publishable], loaded_at: Timestamp) {
        let loaded: Vec<_> = polls.iter().map(|one| one.loaded.clone()).collect();
        if let Err(error) = self.stores.ranking.keep_polls(&loaded, loaded_at).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "ranking.not_repaired");
        }
    }

    /// Freezes a closed poll once no vote is outstanding; makes the certificate of a frozen one.
    async fn certify(&self, one: &Publishable, queued: Option<u64>) -> Result<(), ledger::Error> {
        let poll = &one.loaded.poll;
        if one.certificate.is_some() {
            return self.seal_later(poll.id).await;
        }
        if poll.frozen_at.is_some() {
            return self.seal(poll.id).await;
        }
        let Some(bell) = poll.closes_at.filter(|&bell| bell <= clock::now()) else {
            return Ok(());
        };
        let votes = one.loaded.tally.values().sum();
        let closing = self.stores.ledger.look(poll.id, bell, votes, queued).await?;
        let Some(basis) = closing.basis(self.patience) else { return Ok(()) };
        if self.freeze(poll.id, basis).await? { self.seal(poll.id).await } else { Ok(()) }
    }

    async fn freeze(&self, poll: PollId, basis: Basis) -> Result<bool, ledger::Error> {
        let frozen = self.stores.ledger.freeze(poll, basis).await?;
        tracing::info!(poll = poll.0, basis = basis.name(), frozen = ?frozen, "poll.frozen");
        Ok(matches!(frozen, Some(Frozen::Now | Frozen::Before)))
    }

    /// As far as a tick goes; the certified file is written by the tick after the last piece.
    async fn seal(&self, poll: PollId) -> Result<(), ledger::Error> {
        let until = Instant::now() + TICK;
        while !self.stores.ledger.seal(poll, PIECE_ROWS, PIECE_LIMIT).await? {
            if Instant::now() > until {
                break;
            }
        }
        Ok(())
    }

    /// The same for a certificate beside the first.
    async fn seal_later(&self, poll: PollId) -> Result<(), ledger::Error> {
        let until = Instant::now() + TICK;
        while !self.stores.ledger.seal_later(poll, PIECE_ROWS, PIECE_LIMIT).await? {
            if Instant::now() > until {
                break;
            }
        }
        Ok(())
    }

    /// What the queue holds, passed on to the crew as well; `None` where it does not tell.
    async fn queued(&self) -> Option<u64> {
        let as_of = clock::now();
        let queued = self.aws.queued(&self.queue_url).await;
        let messages = queued
            .inspect_err(|error| tracing::warn!(error = error as &dyn std::error::Error, "queue.unavailable"))
            .ok()?;
        if let Err(error) = self.stores.ranking.keep_backlog(Backlog { messages, as_of }).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "backlog.not_passed_on");
        }
        Some(messages)
    }
}
