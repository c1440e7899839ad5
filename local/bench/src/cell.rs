//! A cell of the plan: one configuration, measured repeatedly and interleaved with the others.
use std::{collections::BTreeMap, path::Path};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::{
    floor,
    pipeline::{Load, Pipeline},
    test_bed::{Database, TestBed},
    usage::Cpu,
};
use processes::memory;

/// Default numbers of contestants and open polls, for cells that do not vary them.
pub const CONTESTANTS: u64 = 10;
pub const POLLS: u64 = 1;

/// Warm-up batches of each instance: it opens its connections, and PostgreSQL replans its statements five times
/// before it keeps a plan.
const WARM_UP_BATCHES: u64 = 8;
/// The warm-up has at most one in this many of the measured votes.
const WARM_UP_SHARE: u64 = 5;

/// A configuration to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// The design that counts the votes.
    pub design: Design,
    /// Concurrent batches or connections.
    pub concurrency: u64,
    /// Votes per batch.
    pub batch: u64,
    /// Contestants of each poll.
    pub contestants: u64,
    /// Number of open polls.
    pub polls: u64,
    /// Votes in the ledger at the start.
    pub ledger_votes: u64,
    /// Votes of a hundred that are sent twice; `None`: votes without ids of their clients, which cannot be retried.
    pub retried: Option<u64>,
    /// Votes counted in one repetition.
    pub votes: u64,
}

/// A design that counts votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Design {
    /// The votes function.
    Votes,
    /// An insert-only client.
    Floor,
    /// The first design: one invocation, one insert and one increment for each vote.
    First,
}

/// The figures of one repetition.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Counted votes.
    pub votes: u64,
    /// Seconds from the first batch to the last acknowledgement.
    pub seconds: f64,
    /// CPU time used during the repetition.
    pub cpu: Cpu,
    /// Invocations of the function.
    pub invocations: u64,
    /// Commits per vote, including the warm-up.
    pub commits_per_vote: f64,
    /// WAL syncs per vote, including the warm-up.
    pub syncs_per_vote: f64,
    /// Bytes written to PostgreSQL's write-ahead log.
    pub wal_bytes: i64,
    /// Commands executed by Redis.
    pub redis_commands: u64,
    /// Growth of the table of votes.
    pub table_bytes: i64,
    /// Growth of its indexes.
    pub index_bytes: i64,
    /// Highest resident memory of any instance.
    pub memory_peak_bytes: u64,
}

impl Sample {
    /// Returns the votes per second.
    pub fn rate(&self) -> f64 {
        self.votes as f64 / self.seconds
    }

    /// Returns the CPU time of PostgreSQL and the function, in microseconds per vote.
    pub fn cpu_us(&self) -> f64 {
        (self.cpu.postgres + self.cpu.function) * 1e6 / self.votes as f64
    }
}

impl Cell {
    /// Returns a cell of the votes function with an empty ledger.
    pub fn capacity(concurrency: u64, batch: u64, votes: u64) -> Self {
        Self {
            design: Design::Votes,
            concurrency,
            batch,
            contestants: CONTESTANTS,
            polls: POLLS,
            ledger_votes: 0,
            retried: None,
            votes,
        }
    }

    /// Returns whether both have the same polls, ledger and votes, whatever their load and design.
    pub fn is_like(&self, other: Self) -> bool {
        (self.contestants, self.polls, self.ledger_votes, self.retried)
            == (other.contestants, other.polls, other.ledger_votes, other.retried)
    }

    /// Returns the cell's name for the display.
    pub fn name(&self) -> String {
        let Self { concurrency, batch, .. } = self;
        let mut name = match self.design {
            Design::Votes => format!("capacity {concurrency} × {batch}"),
            Design::Floor => format!("floor {concurrency} × {batch}"),
            Design::First => format!("first design {concurrency} × {batch}"),
        };
        if self.contestants != CONTESTANTS {
            name += &format!(", {} contestants", self.contestants);
        }
        if self.polls != POLLS {
            name += &format!(", {} polls", self.polls);
        }
        if let Some(percent) = self.retried {
            name += &format!(", {percent} % retried");
        }
        if self.ledger_votes > 0 {
            name += &format!(", {} million votes before", self.ledger_votes / 1_000_000);
        }
        name
    }

    /// Measures one repetition. `filled` are prepared ledgers by their initial number of votes.
    ///
    /// # Errors
    /// A batch failed, or not every vote was counted; there is no figure then.
    pub async fn run(&self, test_bed: &TestBed, filled: &BTreeMap<u64, Database>) -> Result<Sample> {
        if let Some(database) = filled.get(&self.ledger_votes) {
            return self.run_on(test_bed, database).await;
        }
        let database = test_bed.database(self.polls, self.contestants).await?;
        let sample = self.run_on(test_bed, &database).await;
        test_bed.remove(database).await?;
        sample
    }

    async fn run_on(&self, test_bed: &TestBed, database: &Database) -> Result<Sample> {
        match self.design {
            Design::Votes => self.drain(test_bed, database, &test_bed.artifacts).await,
            Design::First => self.drain(test_bed, database, &test_bed.first_design).await,
            Design::Floor => floor::run(self, test_bed, database).await,
        }
    }

    async fn drain(&self, test_bed: &TestBed, database: &Database, artifacts: &Path) -> Result<Sample> {
        let before = test_bed.commits(database).await?;
        let load = Load { concurrency: self.concurrency, batch: self.batch };
        let pipeline = Pipeline::new(test_bed, database, load, artifacts).await?;
        let whole_batches = |votes: u64| votes.div_ceil(self.batch) * self.batch;
        let warm_up =
            (WARM_UP_BATCHES * self.concurrency * self.batch).min(whole_batches(self.votes / WARM_UP_SHARE));
        database.ballots.cast(0, warm_up, self.retried, &pipeline.queue)?;
        pipeline.drain().await?;
        let sample = self.measure(test_bed, database, &pipeline, warm_up).await;
        pipeline.close().await?;
        let mut sample = sample?;
        let after = test_bed.commits(database).await?;
        let per_vote = |count: i64| count as f64 / (warm_up + self.votes) as f64;
        sample.commits_per_vote = per_vote(after.commits - before.commits);
        sample.syncs_per_vote = per_vote(after.syncs - before.syncs);
        Ok(sample)
    }

    async fn measure(
        &self,
        test_bed: &TestBed,
        database: &Database,
        pipeline: &Pipeline,
        first: u64,
    ) -> Result<Sample> {
        database.ballots.cast(first, self.votes, self.retried, &pipeline.queue)?;
        let before = database.votes(self.counts_rows()).await?;
        let size = database.size().await?;
        test_bed.checkpoint().await?;
        let (commands, wal) = (test_bed.redis_commands().await?, test_bed.wal_bytes().await?);
        let invocations = pipeline.counts().invocations;
        let cpu = test_bed.servers.cpu(&pipeline.counts().pids);
        let elapsed = pipeline.drain().await?;
        let counts = pipeline.counts();
        let cpu = test_bed.servers.cpu(&counts.pids) - cpu;
        let counted = database.votes(self.counts_rows()).await? - before;
        ensure!(counted == self.votes as i64, "{} votes were cast, {counted} were counted", self.votes);
        let grown = database.size().await?;
        Ok(Sample {
            votes: self.votes,
            seconds: elapsed.as_secs_f64(),
            cpu,
            invocations: counts.invocations - invocations,
            commits_per_vote: 0.0,
            syncs_per_vote: 0.0,
            wal_bytes: test_bed.wal_bytes().await? - wal,
            // Reading the counter is a command, too.
            redis_commands: test_bed.redis_commands().await? - commands - 1,
            table_bytes: grown.table - size.table,
            index_bytes: grown.indexes - size.indexes,
            memory_peak_bytes: counts.pids.iter().filter_map(|pid| Some(memory(*pid)?.1)).max().unwrap_or(0),
        })
    }

    /// Tells whether to count rows instead of the tally. Only the votes function keeps a tally, and counting a large
    /// ledger's rows takes longer than the measurement.
    pub fn counts_rows(&self) -> bool {
        self.design != Design::Votes
    }
}
