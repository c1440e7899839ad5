//! The last batches of a run: no later batch can repair the rankings that they leave.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::timeout;

use crate::{
    comparison::StoreReaders,
    deliveries::VOTES,
    driver::VoteSink,
    fault::{Fault, crash_label},
    injector::Injector,
    polls::Window,
    store_proxy::Passage,
    vote::{Identity, Outcome, Vote},
};

/// Time for a batch and its redelivery on a slow machine.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends the last votes of a run, after its faults, and stages two more faults.
#[derive(Debug)]
pub struct Finale<'a> {
    /// Injects the staged faults.
    pub injector: &'a Injector,
    /// Queue and book; the queue is empty.
    pub sink: &'a VoteSink,
}

impl Finale<'_> {
    /// Runs the last batches and returns the differences between rankings and ledger of the open polls, and any other
    /// error. No reader has loaded these rankings before, so only the batches can have repaired them.
    pub async fn run(&self, readers: &StoreReaders) -> Vec<String> {
        let differences = self.try_run(readers).await;
        differences.unwrap_or_else(|error| vec![format!("the last batches: {error:#}")])
    }

    async fn try_run(&self, readers: &StoreReaders) -> Result<Vec<String>> {
        // Processes of the run may have a crash point set or still wait for a stalled store.
        self.injector.functions.end_idle(VOTES);
        // This batch repairs the run's leftovers; from here on the rankings must stay correct.
        self.vote_in_each_open_poll().await?;
        let mut differences = Vec::new();
        if self.injector.record.is_requested(Fault::Crash) {
            self.crash_before_ranking().await?;
            differences.extend(self.compare("a process died between commit and ranking", readers).await?);
        }
        if self.injector.record.is_requested(Fault::RedisHang) {
            self.reorder_totals().await?;
            differences.extend(self.compare("old totals arrived after newer ones", readers).await?);
        }
        Ok(differences)
    }

    /// Kills the process between commit and ranking: the redelivery finds only duplicates and must still raise the
    /// ranking.
    async fn crash_before_ranking(&self) -> Result<()> {
        let label = crash_label("committed");
        let before = self.injector.record.count(&label);
        self.injector.deliveries.arm(Some(("committed", "0:0".to_owned())));
        self.injector.functions.force_cold_start(VOTES);
        self.vote_in_each_open_poll().await?;
        ensure!(self.injector.record.count(&label) > before, "no process died between commit and ranking");
        Ok(())
    }

    /// Delays a batch's totals until those of the next batch have arrived in Redis.
    async fn reorder_totals(&self) -> Result<()> {
        self.injector.redis.set(Passage::HeldExisting);
        self.vote_in_each_open_poll().await?;
        self.injector.functions.force_cold_start(VOTES);
        self.vote_in_each_open_poll().await?;
        self.injector.redis.set(Passage::Immediate);
        self.injector.redis.flushed().await;
        Ok(())
    }

    async fn vote_in_each_open_poll(&self) -> Result<()> {
        for (index, id) in self.open_polls() {
            self.sink.enqueue(&Vote {
                voter: Some(0),
                body: format!(r#"{{"poll":{id},"contestant":1}}"#),
                kind: "last",
                outcomes: vec![Outcome::Counts {
                    poll: index,
                    contestant: 1,
                    taps: 1,
                    identity: Identity::Message,
                }],
                by_http: false,
            })?;
        }
        timeout(DRAIN_TIMEOUT, self.sink.queue.emptied()).await.context("the queue was not drained in time")
    }

    /// Returns index and id of the open polls without a limit: their votes need only a contestant.
    fn open_polls(&self) -> Vec<(usize, i32)> {
        let book = self.sink.book();
        let polls = book.polls().iter().enumerate();
        polls
            .filter(|(_, poll)| poll.kind.window == Window::Open && poll.kind.limit.is_none())
            .map(|(index, poll)| (index, poll.id))
            .collect()
    }

    async fn compare(&self, event: &str, readers: &StoreReaders) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for (_, id) in self.open_polls() {
            let found = readers.compare(id).await?.differences;
            differences.extend(found.into_iter().map(|difference| format!("after {event}: {difference}")));
        }
        Ok(differences)
    }
}
