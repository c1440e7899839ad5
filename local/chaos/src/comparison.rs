//! Ledger, tally and ranking of a poll, side by side, read without healing anything.
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::{PollId, Tally};
use ledger::Ledger;
use ranking::RankingStore;

/// Counting some millions of votes one by one takes seconds.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(120);
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Nothing is written through this one; the limit of its keys' life is not used.
const TTL_SECONDS: u64 = 60;

/// Both stores, past the proxies.
#[derive(Debug)]
pub struct Books {
    ledger: Ledger,
    ranking: RankingStore,
}

/// What the three say of a poll.
#[derive(Debug)]
pub struct Line {
    /// The poll.
    pub poll: i32,
    /// Votes, counted one by one.
    pub ledger: u64,
    /// By its counters.
    pub tally: u64,
    /// In Redis.
    pub ranking: u64,
    /// Contestants about whom they differ, for people.
    pub differences: Vec<String>,
}

impl Books {
    /// Prepares the connections.
    ///
    /// # Errors
    /// The URLs are not those of stores.
    pub fn new(database_url: &str, redis_url: &str) -> Result<Self> {
        Ok(Self {
            ledger: Ledger::new(database_url, STORE_TIMEOUT)?,
            ranking: RankingStore::new(redis_url, STORE_TIMEOUT, TTL_SECONDS)?,
        })
    }

    /// Compares the three, contestant by contestant.
    ///
    /// # Errors
    /// A store does not answer.
    pub async fn compare(&self, id: i32) -> Result<Line> {
        let id = PollId(id);
        let found = self.ledger.polls(&[id]).await?.pop().context("a poll is gone")?;
        let audit = self.ledger.audit(id, AUDIT_TIMEOUT).await?;
        let ranking = self.ranking.tally(&found.poll).await?.unwrap_or_default();
        let votes = |tally: &Tally, number| tally.get(&number).copied().unwrap_or_default();
        let mut differences = Vec::new();
        for contestant in &found.poll.contestants {
            let number = contestant.number;
            let figures = [&audit.ledger, &audit.tally, &ranking].map(|tally| votes(tally, number));
            if figures.iter().any(|figure| *figure != figures[0]) {
                let [ledger, tally, ranking] = figures;
                let (poll, number) = (id.0, number.0);
                differences.push(format!(
                    "poll {poll}, contestant {number}: ledger {ledger}, tally {tally}, ranking {ranking}"
                ));
            }
        }
        let sum = |tally: &Tally| tally.values().sum();
        Ok(Line {
            poll: id.0,
            ledger: sum(&audit.ledger),
            tally: sum(&audit.tally),
            ranking: sum(&ranking),
            differences,
        })
    }
}
