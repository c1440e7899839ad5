//! Evidence that a batch carries besides its votes: probes, and signs that an earlier batch failed.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use domain::{ProbeId, Timestamp};
use ledger::Batch;
use ranking::RankingStore;
use runtime::telemetry::error_chain;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// Announces batches in Redis, so that a batch that fails, or whose function dies, is detected.
#[derive(Debug)]
pub struct Announcer {
    ranking: RankingStore,
    /// Whether an announcement has failed since the last count.
    failed: Arc<AtomicBool>,
}

/// A batch's announcement, which may still be in flight.
#[derive(Debug)]
pub struct Announcement {
    /// The id under which the batch was announced.
    pub batch: Uuid,
    sending: JoinHandle<()>,
}

impl Announcement {
    /// Waits until the announcement has been sent or has failed. Removing it earlier would leave it in Redis for
    /// good. It is nearly always sent by the time that its batch is counted.
    pub async fn sent(&mut self) {
        // The task cannot panic and is never cancelled.
        let _ended = (&mut self.sending).await;
    }
}

/// The arrival of a batch, without its messages.
#[derive(Debug)]
pub struct Arrival {
    /// The batch's announcement.
    pub announcement: Announcement,
    /// The batch's probes, and when each was sent.
    pub probes: Vec<(ProbeId, Timestamp)>,
    /// Whether any record was delivered before.
    pub redelivered: bool,
}

impl Announcer {
    pub fn new(ranking: RankingStore) -> Self {
        Self { ranking, failed: Arc::default() }
    }

    /// Announces a batch without waiting. Await [`Announcement::sent`] before removing the announcement.
    pub fn announce(&self) -> Announcement {
        let batch = Uuid::new_v4();
        let (ranking, failed) = (self.ranking.clone(), Arc::clone(&self.failed));
        let sending = tokio::spawn(async move {
            if let Err(error) = ranking.announce(batch).await {
                tracing::warn!(error = error_chain(&error), "batch.not_announced");
                failed.store(true, Ordering::SeqCst);
            }
        });
        Announcement { batch, sending }
    }

    /// Returns and clears the flag of a failed announcement. A caller that cannot record it calls `restore_failure`.
    pub fn take_failure(&self) -> bool {
        self.failed.swap(false, Ordering::SeqCst)
    }

    /// Sets the flag again.
    pub fn restore_failure(&self, failure: bool) {
        self.failed.fetch_or(failure, Ordering::SeqCst);
    }
}

impl Arrival {
    /// Adds probes and signs to the batch.
    pub fn add_to(&self, batch: &mut Batch, unannounced: bool) {
        for &(probe, sent_at) in &self.probes {
            batch.probe(probe, sent_at);
        }
        batch.signs(self.redelivered, unannounced);
    }
}
