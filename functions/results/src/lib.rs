//! The results function: writes each poll's file every 3 s, from the opening until the certified result is published, and
//! the list of polls after every change.
//! The function also repairs the ranking, certifies closed polls once the evidence shows that no vote is outstanding,
//! and supplements certificates by a pass over the votes. These three run beside each other, so none waits for another.
//!
//! A schedule starts a shift every minute, and a message wakes one after every change. A shift without work ends at
//! once; otherwise it lasts most of a minute. A lease elects one instance. The holder begins no file so late that a
//! stale file could replace the next holder's.

mod ahead;
mod certify;
mod cuts;
mod deleted;
mod evidence;
mod list;
mod names;
mod publish;
mod start;
mod supplement;

use std::time::Duration;

use aws::Aws;
use domain::{CertificationPolicy, Timestamp, VoterHasher};
use lambda_runtime::Diagnostic;
use ledger::{Ledger, Publishable};
use ranking::Lease;
use runtime::{
    Clock,
    environment::{self, Reader},
    telemetry::{Condition, ConditionMetric, error_chain},
};
use stores::Stores;
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep},
};

use publish::Edition;
pub use start::Start;

/// The interval of publishing: as long as the edge caches a file.
const TICK: Duration = Duration::from_secs(3);

/// The length of a shift. The next one starts a minute after this one.
const SHIFT: Duration = Duration::from_secs(57);

/// TTL of the lease: longer than writing one tick's files. A dead holder blocks the others for this long.
const LEASE: Duration = Duration::from_secs(20);
/// No file is begun later than this after the start of a tick. The lease also covers the wait for the tick and the
/// last write; otherwise a stale file could replace the next holder's.
const WRITE_DEADLINE: Duration = Duration::from_secs(12);
const LEASE_NAME: &str = "results";

/// How long a woken shift waits for the lease. A holder at work sees the change at its next tick. A holder that ends
/// within this time may have found nothing to do before the change, so the woken shift takes over.
const WAKE_WAIT: Duration = Duration::from_secs(5);
const CLAIM_INTERVAL: Duration = Duration::from_millis(200);

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    stores: Stores,
    /// For the certifications, beside the publishing.
    certifying: Ledger,
    /// For the supplements, beside both.
    supplementing: Ledger,
    aws: Aws,
    bucket: String,
    queue_url: String,
    invalidations_url: String,
    live_cache_control: String,
    certified_cache_control: String,
    immutable_cache_control: String,
    last_list: list::LastList,
    log_progress: cuts::Progress,
    policy: CertificationPolicy,
    hasher: VoterHasher,
    metrics_namespace: String,
    clock: Clock,
}

/// Whether a tick found work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// A poll is about to open, open, or closed and not certified, a certificate has no supplement, or a deleted poll's
    /// file was found.
    Busy,
    /// There is no work.
    Idle,
}

/// An error that ends a shift early. The next one begins within a minute.
#[derive(Debug)]
pub struct Error(ledger::Error);

/// The error that Lambda reports. The cause has been logged.
impl From<Error> for Diagnostic {
    fn from(error: Error) -> Self {
        Self { error_type: "NotPublished".to_owned(), error_message: error.0.to_string() }
    }
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting.
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let stores = Stores::read(&mut reader, &clock);
        let aws = Aws::read(&mut reader, &clock);
        let bucket = reader.text("RESULTS_BUCKET");
        let queue_url = reader.text("VOTES_QUEUE_URL");
        let invalidations_url = reader.text("INVALIDATIONS_QUEUE_URL");
        let live = reader.text("LIVE_CACHE_CONTROL");
        let certified = reader.text("CERTIFIED_CACHE_CONTROL");
        let immutable = reader.text("IMMUTABLE_CACHE_CONTROL");
        let policy = stores::certification_policy(&mut reader);
        let hasher = reader.parsed("VOTER_HASH_KEY");
        let metrics_namespace = reader.text("METRICS_NAMESPACE");
        let built = || {
            let stores: Stores = stores?;
            Some(Self {
                certifying: stores.ledger.beside(),
                supplementing: stores.ledger.beside(),
                stores,
                aws: aws?,
                bucket: bucket?,
                queue_url: queue_url?,
                invalidations_url: invalidations_url?,
                live_cache_control: live?,
                certified_cache_control: certified?,
                immutable_cache_control: immutable?,
                last_list: list::LastList::default(),
                log_progress: cuts::Progress::default(),
                policy: policy?,
                hasher: hasher?,
                metrics_namespace: metrics_namespace?,
                clock,
            })
        };
        reader.finish(built())
    }

    /// Runs one shift.
    ///
    /// # Errors
    /// The ledger does not answer.
    pub async fn handle(&self, start: Start) -> Result<(), Error> {
        let end = Instant::now() + SHIFT;
        let lease = match self.claim(start, end).await {
            Ok(Some(lease)) => Some(lease),
            Ok(None) => return Ok(()),
            // Certification needs only the ledger and must not wait for Redis.
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "ranking.unavailable");
                None
            }
        };
        let worked = self.work(lease.as_ref(), end).await;
        if let Some(lease) = lease
            && let Err(error) = self.stores.ranking.release(lease).await
        {
            tracing::warn!(error = error_chain(&error), "ranking.unavailable");
        }
        self.delete_unused_names().await;
        self.forget_rejections().await;
        worked.map_err(|error| {
            tracing::error!(error = error_chain(&error), "results.failed");
            Error(error)
        })
    }

    /// Claims the lease, and retries while another shift holds it. A woken shift must not give up on a holder that
    /// has just found no work, and a scheduled shift takes over when a woken one ends in the middle of a minute.
    async fn claim(&self, start: Start, end: Instant) -> Result<Option<Lease>, ranking::Error> {
        let until = match start {
            Start::Scheduled => end - TICK,
            Start::Woken => Instant::now() + WAKE_WAIT,
        };
        loop {
            let lease = self.stores.ranking.claim(LEASE_NAME, LEASE).await?;
            if lease.is_some() || Instant::now() + CLAIM_INTERVAL > until {
                return Ok(lease);
            }
            sleep(CLAIM_INTERVAL).await;
        }
    }

    async fn work(&self, lease: Option<&Lease>, end: Instant) -> Result<(), ledger::Error> {
        let (stop, stopped) = watch::channel(false);
        let publishing = async {
            let published = self.keep_publishing(lease, end).await;
            stop.send_replace(true);
            published
        };
        let (published, (), ()) =
            tokio::join!(publishing, self.keep_certifying(stopped.clone()), self.keep_supplementing(stopped));
        published
    }

    /// Publishes at every tick, until there is nothing to do, another instance has the lease, or the shift ends.
    async fn keep_publishing(&self, lease: Option<&Lease>, end: Instant) -> Result<(), ledger::Error> {
        let mut ticks = ticks();
        while Instant::now() + TICK < end {
            ticks.tick().await;
            if self.publish_due().await? == Tick::Idle {
                break;
            }
            if let Some(lease) = lease
                && let Ok(false) = self.stores.ranking.renew(lease, LEASE).await
            {
                break;
            }
        }
        Ok(())
    }

    /// Observes the counting and certifies at every tick. It is stopped between two ticks only: probes that were sent
    /// and not recorded as sent would count as a sign of failure.
    async fn keep_certifying(&self, mut stopped: Stopped) {
        let mut ticks = ticks();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            self.certify_due().await;
        }
    }

    /// Supplements certificates, piece after piece. A piece that is not finished when it is stopped is made again.
    async fn keep_supplementing(&self, mut stopped: Stopped) {
        let supplementing = async {
            let mut ticks = ticks();
            loop {
                ticks.tick().await;
                while self.supplement_due().await {}
            }
        };
        tokio::select! {
            () = supplementing => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Does what is due, once: publishes, certifies, supplements.
    ///
    /// # Errors
    /// The ledger does not return the polls that are due. Other failures are logged and retried at the next tick.
    pub async fn tick(&self) -> Result<Tick, ledger::Error> {
        let published = self.publish_due().await?;
        self.certify_due().await;
        while self.supplement_due().await {}
        Ok(published)
    }

    /// Publishes the list and all polls that are due. The list comes first: a page that learns of a newer one finds it.
    async fn publish_due(&self) -> Result<Tick, ledger::Error> {
        let deleted = self.delete_files().await?;
        let (as_of, started) = (self.clock.now(), Instant::now());
        let current = self.current_polls().await?;
        let due = self.stores.ledger.publishable(SHIFT).await?;
        let names =
            self.write_names(current.polls.iter().chain(due.iter().map(|one| &one.loaded.poll))).await?;
        self.publish_list(&current, &names, !due.is_empty()).await;
        if due.is_empty() {
            let is_busy = deleted || !self.stores.ledger.unsupplemented().await?.is_empty();
            return Ok(if is_busy { Tick::Busy } else { Tick::Idle });
        }
        self.delete_ahead(&due).await;
        self.repair(&due, as_of).await;
        let later = self.later_certificates(&due).await;
        let logs = self.cut_logs(&due).await;
        let until = started + WRITE_DEADLINE;
        let edition =
            Edition { names: &names, logs: logs.as_ref(), list_version: current.version, as_of, until };
        for poll in self.publish(&due, later, &edition).await {
            self.record_published(poll).await;
        }
        Ok(Tick::Busy)
    }

    /// Prints the metric of a condition.
    fn report(&self, condition: Condition, holds: bool) {
        let metric =
            ConditionMetric { namespace: &self.metrics_namespace, at: self.clock.now(), condition, holds };
        println!("{}", metric.line());
    }

    /// Overwrites ranking and definitions in Redis with the ledger's.
    async fn repair(&self, polls: &[Publishable], loaded_at: Timestamp) {
        let loaded: Vec<_> = polls.iter().map(|one| one.loaded.clone()).collect();
        if let Err(error) = self.stores.ranking.keep_polls(&loaded, loaded_at).await {
            tracing::warn!(error = error_chain(&error), "ranking.not_repaired");
        }
    }
}

/// Becomes true when a shift is over.
type Stopped = watch::Receiver<bool>;

fn ticks() -> Interval {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
