//! The last batches of a run, where no later batch can put right what they leave.
use std::{
    sync::{Mutex, atomic::AtomicU64},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::time::timeout;

use crate::{
    chaos::{
        book::Book,
        books_compared::Books,
        deliveries::VOTES,
        driver::{enter, message, now_ms},
        fault::{Fault, crash_label},
        injector::Injector,
        polls::Window,
        store_proxy::Passage,
        vote::{Fate, Identity, Vote},
    },
    sqs::Queue,
};

/// For a batch, its redelivery and a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends the last votes of a run whose faults are over, but for the two that are staged here.
#[derive(Debug)]
pub struct Finale<'a> {
    /// To stage with.
    pub injector: &'a Injector,
    /// Empty when the finale begins.
    pub queue: &'a Queue,
    /// Where the votes are entered.
    pub book: &'a Mutex<Book>,
    /// Votes accepted so far.
    pub accepted: &'a AtomicU64,
}

impl Finale<'_> {
    /// Plays it, and returns how the rankings of the open polls then differ from the ledger. Nobody has read them,
    /// so nothing has healed them but the batches themselves.
    ///
    /// # Errors
    /// A batch does not come through, or a store cannot be read.
    pub async fn play(&self, books: &Books) -> Result<Vec<String>> {
        // Whatever the run left behind is put right by this; from here on nothing may go wrong any more.
        self.vote_in_each_open_poll().await?;
        let mut differences = Vec::new();
        if self.injector.record.wants(Fault::Crash) {
            self.die_before_the_ranking().await.context("the last batch's death")?;
            differences.extend(self.compare("a process died between commit and ranking", books).await?);
        }
        if self.injector.record.wants(Fault::RedisHang) {
            self.raise_late().await.context("the late totals")?;
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
        if self.injector.record.count(&label) == before {
            return Err(anyhow!("no process died: see the log of {VOTES}"));
        }
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
        for vote in self.votes() {
            let first_ms = now_ms();
            let sent = self.queue.send(message(&vote))?;
            enter(self.book, self.accepted, &vote, sent.message_id, first_ms);
        }
        timeout(PATIENCE, self.queue.emptied()).await.context("the queue does not become empty")
    }

    fn votes(&self) -> Vec<Vote> {
        let book = self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let open = book.polls().iter().enumerate();
        let open = open.filter(|(_, poll)| poll.kind.window == Window::Open && poll.kind.limit.is_none());
        let votes = open.map(|(place, poll)| Vote {
            voter: Some(0),
            body: format!(r#"{{"poll":{},"contestant":1}}"#, poll.id),
            kind: "last",
            fate: Fate::Counts { poll: place, contestant: 1, identity: Identity::Message },
            by_http: false,
        });
        votes.collect()
    }

    async fn compare(&self, what: &str, books: &Books) -> Result<Vec<String>> {
        let ids: Vec<i32> = {
            let book = self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let open = |poll: &&crate::chaos::polls::Poll| {
                poll.kind.window == Window::Open && poll.kind.limit.is_none()
            };
            book.polls().iter().filter(open).map(|poll| poll.id).collect()
        };
        let mut differences = Vec::new();
        for id in ids {
            let found = books.compare(id).await?.differences;
            differences.extend(found.into_iter().map(|difference| format!("after {what}: {difference}")));
        }
        Ok(differences)
    }
}
