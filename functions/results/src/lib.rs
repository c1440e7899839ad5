//! Makes results public: writes each poll's file every 3 s from its opening until its certified result is out, repairs
//! the ranking as it goes, and certifies what is closed on evidence that no vote is outstanding.
//!
//! Started every minute, and woken by a message after every change. With nothing to do it ends at once; else it goes on
//! for most of a minute. One of all instances works at a time, by lease, and writes no file of a poll as it was before
//! another may have begun.

mod certify;
mod deleted;
mod evidence;
mod publish;
mod start;

use std::time::Duration;

use aws::Aws;
use domain::{CertificationPolicy, Timestamp, VoterHasher};
use lambda_runtime::Diagnostic;
use ledger::Publishable;
use ranking::Lease;
use runtime::{
    Clock,
    environment::{self, Reader},
    telemetry::error_chain,
};
use stores::Stores;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

pub use start::Start;

/// As long as the edge keeps a file.
const TICK: Duration = Duration::from_secs(3);

/// From start to end: the next start is a minute after this one.
const SHIFT: Duration = Duration::from_secs(57);

/// Longer than one tick's files take; a dead holder keeps the others out for so long.
const LEASE: Duration = Duration::from_secs(20);
/// From the beginning of a tick, no file is begun after these: the wait for the tick and the last file's own time are
/// within the lease, too. Else an old file could take the place of the next holder's.
const WRITTEN_WITHIN: Duration = Duration::from_secs(12);
const LEASE_NAME: &str = "results";

/// How long a woken one waits for the holder of the lease: a holder that is at work sees the change with its next tick,
/// and is one that has just found nothing to do if it ends before.
const WAKE_WAIT: Duration = Duration::from_secs(5);
const CLAIM_AGAIN: Duration = Duration::from_millis(200);

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
    policy: CertificationPolicy,
    hasher: VoterHasher,
    metrics_namespace: String,
    clock: Clock,
}

/// What a tick found to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// A poll is open, or closed and not certified, or about to open; or a deleted one had a file.
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
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let stores = Stores::read(&mut reader, &clock);
        let aws = Aws::read(&mut reader, &clock);
        let bucket = reader.text("RESULTS_BUCKET");
        let queue_url = reader.text("VOTES_QUEUE_URL");
        let invalidations_url = reader.text("INVALIDATIONS_QUEUE_URL");
        let live = reader.text("LIVE_CACHE_CONTROL");
        let certified = reader.text("CERTIFIED_CACHE_CONTROL");
        let policy = stores::certification_policy(&mut reader);
        let hasher = reader.parsed("VOTER_HASH_KEY");
        let metrics_namespace = reader.text("METRICS_NAMESPACE");
        let built = || {
            Some(Self {
                stores: stores?,
                aws: aws?,
                bucket: bucket?,
                queue_url: queue_url?,
                invalidations_url: invalidations_url?,
                live_cache_control: live?,
                certified_cache_control: certified?,
                policy: policy?,
                hasher: hasher?,
                metrics_namespace: metrics_namespace?,
                clock,
            })
        };
        reader.finish(built())
    }

    /// One shift.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn handle(&self, start: Start) -> Result<(), Ended> {
        let end = Instant::now() + SHIFT;
        let lease = match self.claim(start, end).await {
            Ok(Some(lease)) => Some(lease),
            Ok(None) => return Ok(()),
            // The ledger's work must not wait for Redis.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "ranking.unavailable");
                None
            }
        };
        let worked = self.work(lease.as_ref(), end).await;
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

    /// The lease, as soon as its holder is done: one that has just found nothing to do must not be what a wake meets,
    /// and a shift that a wake began may end in the middle of a minute.
    async fn claim(&self, start: Start, end: Instant) -> Result<Option<Lease>, ranking::Error> {
        let until = match start {
            Start::Scheduled => end - TICK,
            Start::Woken => Instant::now() + WAKE_WAIT,
        };
        loop {
            let lease = self.stores.ranking.claim(LEASE_NAME, LEASE).await?;
            if lease.is_some() || Instant::now() + CLAIM_AGAIN > until {
                return Ok(lease);
            }
            sleep(CLAIM_AGAIN).await;
        }
    }

    async fn work(&self, lease: Option<&Lease>, end: Instant) -> Result<(), ledger::Error> {
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

    /// Publishes everything that is to be published now, sends probes, and takes certificates a piece further.
    ///
    /// # Errors
    /// When the ledger does not say what is to be published. What else fails is logged, and done with the next tick.
    pub async fn tick(&self) -> Result<Tick, ledger::Error> {
        let deleted = self.delete_files().await?;
        let (as_of, started) = (self.clock.now(), Instant::now());
        let due = self.stores.ledger.publishable(SHIFT).await?;
        if due.is_empty() {
            return Ok(if deleted { Tick::Busy } else { Tick::Idle });
        }
        self.repair(&due, as_of).await;
        let later = self.later_certificates(&due).await;
        let publishing = self.publish(&due, later, as_of, started + WRITTEN_WITHIN);
        let (certified, observation) = tokio::join!(publishing, self.observe_and_probe(&due));
        for (poll, later) in certified {
            self.remember(poll, &later).await;
        }
        match observation {
            Ok(observation) => self.certify(&due, &observation).await,
            Err(error) => tracing::error!(error = error_chain(&error), "counting.not_observed"),
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
}
