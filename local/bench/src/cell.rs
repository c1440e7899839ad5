//! One cell of the plan: what is measured again and again, in turn with the others.
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

/// Contestants of a poll, and polls open, where these are not what is measured.
pub const CONTESTANTS: u64 = 10;
pub const POLLS: u64 = 1;

/// Batches that each instance gets before anything is measured: it opens its connections, and PostgreSQL plans its
/// statements anew five times before it keeps a plan.
const WARM_UP_BATCHES: u64 = 8;
/// The same where a batch is one vote: their number is bounded by what is measured.
const WARM_UP_SHARE: u64 = 5;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cell {
    /// Who does it.
    pub design: Design,
    /// Batches, or connections, at a time.
    pub concurrency: u64,
    /// Votes of a batch.
    pub batch: u64,
    /// Of each poll.
    pub contestants: u64,
    /// Open.
    pub polls: u64,
    /// In the ledger before.
    pub ledger_votes: u64,
    /// To be counted in one repetition.
    pub votes: u64,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Design {
    /// The votes function.
    Votes,
    /// A client that only inserts.
    Floor,
    /// One invocation, one insert, one increment for each vote.
    First,
}

/// One repetition.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Votes counted.
    pub votes: u64,
    /// From the first batch to the last acknowledgement.
    pub seconds: f64,
    /// Used meanwhile.
    pub cpu: Cpu,
    /// Of the function.
    pub invocations: u64,
    /// Commits for each vote, warm-up included.
    pub commits_per_vote: f64,
    /// Times that the server waited for the disk to have its log, for each vote, warm-up included.
    pub syncs_per_vote: f64,
    /// Written to PostgreSQL's log of writes.
    pub wal_bytes: i64,
    /// Commands that Redis carried out.
    pub redis_commands: u64,
    /// By which the table grew.
    pub table_bytes: i64,
    /// By which its indexes grew.
    pub index_bytes: i64,
    /// Highest resident memory of any instance.
    pub memory_peak_bytes: u64,
}

impl Sample {
    /// Votes a second.
    pub fn rate(&self) -> f64 {
        self.votes as f64 / self.seconds
    }

    /// CPU of PostgreSQL and the function, in microseconds for each vote.
    pub fn cpu_us(&self) -> f64 {
        (self.cpu.postgres + self.cpu.function) * 1e6 / self.votes as f64
    }
}

impl Cell {
    /// The votes function with an empty ledger.
    pub fn capacity(concurrency: u64, batch: u64, votes: u64) -> Self {
        Self {
            design: Design::Votes,
            concurrency,
            batch,
            contestants: CONTESTANTS,
            polls: POLLS,
            ledger_votes: 0,
            votes,
        }
    }

    /// What it is called while it is measured.
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
        if self.ledger_votes > 0 {
            name += &format!(", {} million votes before", self.ledger_votes / 1_000_000);
        }
        name
    }

    /// Measures once. `filled`: ledgers by the votes they had at first.
    ///
    /// # Errors
    /// It went wrong, or not every vote was counted: then there is no figure.
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
        let way = Load { concurrency: self.concurrency, batch: self.batch };
        let pipeline = Pipeline::new(test_bed, database, way, artifacts).await?;
        let whole_batches = |votes: u64| votes.div_ceil(self.batch) * self.batch;
        let warm_up =
            (WARM_UP_BATCHES * self.concurrency * self.batch).min(whole_batches(self.votes / WARM_UP_SHARE));
        database.ballots.cast(0, warm_up, &pipeline.queue)?;
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
        database.ballots.cast(first, self.votes, &pipeline.queue)?;
        let before = database.votes(self.counts_rows()).await?;
        let size = database.size().await?;
        test_bed.checkpoint().await?;
        let (commands, wal) = (test_bed.redis_commands().await?, test_bed.wal_bytes().await?);
        let invocations = pipeline.counts().invocations;
        let cpu = test_bed.servers.cpu(&pipeline.counts().pids);
        let taken = pipeline.drain().await?;
        let counts = pipeline.counts();
        let cpu = test_bed.servers.cpu(&counts.pids) - cpu;
        let counted = database.votes(self.counts_rows()).await? - before;
        ensure!(counted == self.votes as i64, "{} votes were cast, {counted} were counted", self.votes);
        let grown = database.size().await?;
        Ok(Sample {
            votes: self.votes,
            seconds: taken.as_secs_f64(),
            cpu,
            invocations: counts.invocations - invocations,
            commits_per_vote: 0.0,
            syncs_per_vote: 0.0,
            wal_bytes: test_bed.wal_bytes().await? - wal,
            // Asking is a command too.
            redis_commands: test_bed.redis_commands().await? - commands - 1,
            table_bytes: grown.table - size.table,
            index_bytes: grown.indexes - size.indexes,
            memory_peak_bytes: counts.pids.iter().filter_map(|pid| Some(memory(*pid)?.1)).max().unwrap_or(0),
        })
    }

    /// The first design keeps no tally; to count a great ledger's rows takes longer than to measure.
    pub fn counts_rows(&self) -> bool {
        self.design != Design::Votes
    }
}
