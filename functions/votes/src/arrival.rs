//! What a batch says of the way that it came: probes that are in it, and signs that a batch before it has failed.

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

/// Announces batches in Redis, so that one that fails, or whose function dies, is missed.
#[derive(Debug)]
pub struct Announcer {
    ranking: RankingStore,
    /// An announcement has failed since the last count.
    failed: Arc<AtomicBool>,
}

/// A batch's announcement, which may still be on its way.
#[derive(Debug)]
pub struct Announcement {
    /// The name that the batch was announced by.
    pub batch: Uuid,
    sending: JoinHandle<()>,
}

impl Announcement {
    /// Waits until it has been sent, or has failed: taken back before, it would stay for good. By the time that a batch is
    /// counted it nearly always has.
    pub async fn sent(&mut self) {
        // It cannot panic, and nobody cancels it.
        let _ended = (&mut self.sending).await;
    }
}

/// A batch's arrival, apart from its messages.
#[derive(Debug)]
pub struct Arrival {
    /// How it was announced.
    pub announcement: Announcement,
    /// The probes in it, and when each was sent.
    pub probes: Vec<(ProbeId, Timestamp)>,
    /// Whether a record was delivered before.
    pub redelivered: bool,
}

impl Announcer {
    pub fn new(ranking: RankingStore) -> Self {
        Self { ranking, failed: Arc::default() }
    }

    /// Announces a batch, and does not wait for it: [`Announcement::sent`] does, before it is taken back.
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

    /// Whether an announcement has failed since this was asked last. Whoever cannot pass it on gives it back.
    pub fn take_failure(&self) -> bool {
        self.failed.swap(false, Ordering::SeqCst)
    }

    /// Gives a failure back.
    pub fn give_back(&self, failure: bool) {
        self.failed.fetch_or(failure, Ordering::SeqCst);
    }
}

impl Arrival {
    /// Adds what it says to the batch.
    pub fn add_to(&self, batch: &mut Batch, unannounced: bool) {
        for &(probe, sent_at) in &self.probes {
            batch.probe(probe, sent_at);
        }
        batch.signs(self.redelivered, unannounced);
    }
}
