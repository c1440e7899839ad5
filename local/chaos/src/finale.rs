//! The last batches of a run, where no later batch can put right what they leave.
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::timeout;

use crate::{
    comparison::Books,
    deliveries::VOTES,
    driver::Sending,
    fault::{Fault, crash_label},
    injector::Injector,
    polls::Window,
    store_proxy::Passage,
    vote::{Fate, Identity, Vote},
};

/// For a batch, its redelivery and a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends the last votes of a run whose faults are over, but for the two that are staged here.
#[derive(Debug)]
pub struct Finale<'a> {
    /// To stage with.
    pub injector: &'a Injector,
    /// With an empty queue.
    pub sending: &'a Sending,
}

impl Finale<'_> {
    /// Plays it, and returns how the rankings of the open polls then differ from the ledger, and what else went wrong.
    /// Nobody has read them, so nothing has healed them but the batches themselves.
    pub async fn play(&self, books: &Books) -> Vec<String> {
        let differences = self.try_to_play(books).await;
        differences.unwrap_or_else(|error| vec![format!("the last batches: {error:#}")])
    }

    async fn try_to_play(&self, books: &Books) -> Result<Vec<String>> {
        // The processes of the run may be about to die, or still be waiting for a store that hung.
        self.injector.functions.end_idle(VOTES);
        // Whatever the run left behind is put right by this; from here on nothing may go wrong any more.
        self.vote_in_each_open_poll().await?;
        let mut differences = Vec::new();
        if self.injector.record.wants(Fault::Crash) {
            self.die_before_the_ranking().await?;
            differences.extend(self.compare("a process died between commit and ranking", books).await?);
        }
        if self.injector.record.wants(Fault::RedisHang) {
            self.raise_late().await?;
            differences.extend(self.compare("old totals came after new ones", books).await?);
        }
        Ok(differences)
    }

    /// The batch is committed, and the process dies: the redelivery finds nothing new, and must raise all the same.
    async fn die_before_the_ranking(&self) -> Result<()> {
        let label = crash_label("committed");
        let before = self.injector.record.count(&label);
        self.injector.deliveries.arm(Some(("committed", "0:0".to_owned())));
        self.injector.functions.start_next_anew(VOTES);
        self.vote_in_each_open_poll().await?;
        ensure!(self.injector.record.count(&label) > before, "no process died between commit and ranking");
        Ok(())
    }

    /// A batch's totals are on their way to Redis until after those of the next batch have arrived.
    async fn raise_late(&self) -> Result<()> {
        self.injector.redis.set(Passage::HeldSoFar);
        self.vote_in_each_open_poll().await?;
        self.injector.functions.start_next_anew(VOTES);
        self.vote_in_each_open_poll().await?;
        self.injector.redis.set(Passage::Free);
        self.injector.redis.passed().await;
        Ok(())
    }

    async fn vote_in_each_open_poll(&self) -> Result<()> {
        for (place, id) in self.open_polls() {
            self.sending.enqueue(&Vote {
                voter: Some(0),
                body: format!(r#"{{"poll":{id},"contestant":1}}"#),
                kind: "last",
                fate: Fate::Counts { poll: place, contestant: 1, identity: Identity::Message },
                by_http: false,
            })?;
        }
        timeout(PATIENCE, self.sending.queue.emptied()).await.context("the queue does not become empty")
    }

    /// Place and number of those without a limit, in which a vote needs nothing but a contestant.
    fn open_polls(&self) -> Vec<(usize, i32)> {
        let book = self.sending.book();
        let polls = book.polls().iter().enumerate();
        polls
            .filter(|(_, poll)| poll.kind.window == Window::Open && poll.kind.limit.is_none())
            .map(|(place, poll)| (place, poll.id))
            .collect()
    }

    async fn compare(&self, what: &str, books: &Books) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for (_, id) in self.open_polls() {
            let found = books.compare(id).await?.differences;
            differences.extend(found.into_iter().map(|difference| format!("after {what}: {difference}")));
        }
        Ok(differences)
    }
}
