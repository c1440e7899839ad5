//! Compares ledger, tally and ranking of a poll. The reads repair nothing.
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::{LedgerAddress, PollId, Tally};
use ledger::Ledger;
use ranking::RankingStore;

/// Counting millions of rows takes seconds.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(120);
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// Unused: nothing is written through this store.
const TTL_SECONDS: u64 = 60;

/// Connections to both stores that bypass the proxies.
#[derive(Debug)]
pub struct StoreReaders {
    ledger: Ledger,
    ranking: RankingStore,
}

/// A poll's totals in the three places.
#[derive(Debug)]
pub struct PollTotals {
    /// The poll.
    pub poll: i32,
    /// Votes in the ledger: the sum of their counts.
    pub ledger: u64,
    /// Sum of the poll's counters in PostgreSQL.
    pub tally: u64,
    /// Sum of the ranking in Redis.
    pub ranking: u64,
    /// Contestants with different totals, as texts for people.
    pub differences: Vec<String>,
}

impl StoreReaders {
    /// Prepares the connections. `functions_ledger` is the ledger's address as the functions see it.
    ///
    /// # Errors
    /// A URL cannot be parsed.
    pub fn new(database_url: &str, redis_url: &str, functions_ledger: LedgerAddress) -> Result<Self> {
        Ok(Self {
            ledger: Ledger::new(database_url, STORE_TIMEOUT)?,
            ranking: RankingStore::new(redis_url, functions_ledger, STORE_TIMEOUT, TTL_SECONDS)?,
        })
    }

    /// Compares the three totals of each contestant.
    ///
    /// # Errors
    /// A store does not answer.
    pub async fn compare(&self, id: i32) -> Result<PollTotals> {
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
        if audit.ledger_casts != audit.tally_casts {
            let (rows, counter) = (audit.ledger_casts, audit.tally_casts);
            differences.push(format!("poll {}: {rows} rows, their counter {counter}", id.0));
        }
        let sum = |tally: &Tally| tally.values().sum();
        Ok(PollTotals {
            poll: id.0,
            ledger: sum(&audit.ledger),
            tally: sum(&audit.tally),
            ranking: sum(&ranking),
            differences,
        })
    }
}
