//! The benchmark's stores and databases.
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use domain::{Draft, PollId};
use emulator::clock;
use ledger::Ledger;
use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tempfile::TempDir;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, sleep};

use super::{ballots::Ballots, pipeline::VOTES_FUNCTION, usage::Servers};
use crate::arguments::BenchArguments;
use local_stores::{Given, Stores, scratch};

/// A fixed key: the figures need no secret.
pub const VOTER_HASH_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Timeout of creating a poll.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections of ended functions close within milliseconds.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_POLL: Duration = Duration::from_millis(10);

/// Votes per second of a filled ledger's past: the rate of a large show.
const PAST_VOTES_PER_SECOND: u64 = 60_000;
/// Votes inserted by one statement, so that an interrupted run has little to roll back.
const FILL_STEP: u64 = 1_000_000;

/// The stores and the binaries.
#[derive(Debug)]
pub struct TestBed {
    /// The functions' release binaries, a folder each.
    pub artifacts: PathBuf,
    /// The same, with the first design instead of the votes function.
    pub first_design: PathBuf,
    /// The template.
    pub template: PathBuf,
    /// Folder of the data and logs.
    pub folder: TempDir,
    /// Both stores, private to the benchmark.
    pub stores: Stores,
    /// The stores' processes.
    pub servers: Servers,
    databases: AtomicU32,
}

/// Counters since the server's start.
pub struct Commits {
    /// Committed transactions of a database.
    pub commits: i64,
    /// WAL syncs of the server; several commits may share one.
    pub syncs: i64,
}

/// A database with the schema and open polls.
#[derive(Debug)]
pub struct Database {
    name: String,
    /// URL for the owner.
    pub url: String,
    /// URL for the functions.
    pub functions_url: String,
    /// Generator of votes in this database's polls.
    pub ballots: Ballots,
}

/// Size of the table of votes, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct LedgerSize {
    /// Rows.
    pub table: i64,
    /// Both indexes.
    pub indexes: i64,
}

impl TestBed {
    /// Starts the stores.
    ///
    /// # Errors
    /// A store does not start, or a binary is missing.
    pub async fn prepare(arguments: &BenchArguments) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("votes-bench-").tempdir_in(&arguments.scratch)?;
        // PostgreSQL's user must be able to enter the folder.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o711))?;
        let artifacts = std::path::absolute(&arguments.artifacts)?;
        ensure!(artifacts.is_dir(), "--artifacts {} is not a folder", artifacts.display());
        let first_design = link_first_design(&arguments.first_design, &artifacts, folder.path())?;
        let stores = Stores::start(folder.path(), &Given::default(), false).await?;
        let pid = |name| {
            let found = stores.pids().into_iter().find(|(store, _)| *store == name);
            found.map(|(_, pid)| pid).with_context(|| format!("{name} does not run"))
        };
        let servers = Servers { postgres: pid("postgres")?, redis: pid("redis")? };
        let template = arguments.template.clone();
        Ok(Self { artifacts, first_design, template, folder, stores, servers, databases: AtomicU32::new(0) })
    }

    /// Creates a database with open polls and empties Redis.
    ///
    /// # Errors
    /// A store fails.
    pub async fn database(&self, polls: u64, contestants: u64) -> Result<Database> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.execute(&format!("CREATE DATABASE {name}")).await?;
        let options = PgConnectOptions::from_str(&self.stores.database_url)?;
        let url = options.database(&name).to_url_lossy().to_string();
        let functions_url = scratch::grant(&url).await?;
        let polls = open_polls(&url, polls, contestants).await?;
        self.redis("FLUSHALL").await?;
        Ok(Database { name, url, functions_url, ballots: Ballots { polls, contestants } })
    }

    /// Drops a database and frees its disk space.
    ///
    /// # Errors
    /// The server fails.
    pub async fn remove(&self, database: Database) -> Result<()> {
        self.execute(&format!("DROP DATABASE {} WITH (FORCE)", database.name)).await
    }

    /// Runs a checkpoint, so that every measurement starts in the same state.
    ///
    /// # Errors
    /// The server fails.
    pub async fn checkpoint(&self) -> Result<()> {
        self.execute("CHECKPOINT").await
    }

    /// Returns the end of the write-ahead log, in bytes since the cluster was initialized.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn wal_bytes(&self) -> Result<i64> {
        let sql = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
        Ok(sqlx::query_scalar(sql).fetch_one(&mut self.connect().await?).await?)
    }

    /// Returns a setting of the PostgreSQL server.
    ///
    /// # Errors
    /// The setting does not exist.
    pub async fn setting(&self, name: &str) -> Result<String> {
        let sql = "SELECT current_setting($1)";
        Ok(sqlx::query_scalar(sql).bind(name).fetch_one(&mut self.connect().await?).await?)
    }

    /// Returns both servers' names and versions.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn versions(&self) -> Result<String> {
        self.stores.versions().await
    }

    /// Returns a field of Redis's `INFO`.
    ///
    /// # Errors
    /// The server does not answer, or the field does not exist.
    pub async fn redis_fact(&self, name: &str) -> Result<String> {
        let info: String = self.redis_query("INFO").await?;
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.with_context(|| format!("Redis has no {name}"))?.to_owned())
    }

    /// Returns the number of commands that Redis has executed.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn redis_commands(&self) -> Result<u64> {
        Ok(self.redis_fact("total_commands_processed").await?.parse()?)
    }

    async fn redis(&self, command: &str) -> Result<()> {
        self.redis_query(command).await
    }

    async fn redis_query<T: redis::FromRedisValue>(&self, command: &str) -> Result<T> {
        let client = redis::Client::open(self.stores.redis_url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        Ok(redis::cmd(command).query_async(&mut connection).await?)
    }

    async fn connect(&self) -> Result<PgConnection> {
        let options = PgConnectOptions::from_str(&self.stores.database_url)?;
        Ok(options.database("postgres").connect().await?)
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        // Injection is impossible: database names consist of letters, digits and underscores.
        sqlx::query(AssertSqlSafe(sql)).execute(&mut self.connect().await?).await?;
        Ok(())
    }

    /// Returns the counters of a database. Waits until its connections are closed, since each reports its commits
    /// at its end.
    ///
    /// # Errors
    /// A connection stays open, or the server does not answer.
    pub async fn commits(&self, database: &Database) -> Result<Commits> {
        let mut connection = self.connect().await?;
        let open =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'";
        let give_up = Instant::now() + CLOSE_TIMEOUT;
        while sqlx::query_scalar::<_, i64>(open).bind(&database.name).fetch_one(&mut connection).await? > 0 {
            ensure!(Instant::now() < give_up, "a connection to {} stays open", database.name);
            sleep(CLOSE_POLL).await;
        }
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = $1";
        let commits = sqlx::query_scalar(sql).bind(&database.name).fetch_one(&mut connection).await?;
        let sql = "SELECT current_setting('server_version_num')::integer";
        let syncs_sql = if sqlx::query_scalar::<_, i32>(sql).fetch_one(&mut connection).await? < 180_000 {
            "SELECT wal_sync FROM pg_stat_wal"
        } else {
            "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'"
        };
        Ok(Commits { commits, syncs: sqlx::query_scalar(syncs_sql).fetch_one(&mut connection).await? })
    }
}

impl Database {
    /// Opens a connection.
    ///
    /// # Errors
    /// The server rejects the connection.
    pub async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    /// Returns the number of counted votes, from the tally or by counting the ledger's `rows`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn votes(&self, rows: bool) -> Result<i64> {
        let sql = if rows {
            "SELECT count(*) FROM votes"
        } else {
            "SELECT coalesce(sum(votes), 0)::bigint FROM tallies"
        };
        Ok(sqlx::query_scalar(sql).fetch_one(&mut self.connect().await?).await?)
    }

    /// Returns the disk space of the votes.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn size(&self) -> Result<LedgerSize> {
        let sql = "SELECT pg_relation_size('show_votes'), pg_indexes_size('show_votes')";
        let (table, indexes) = sqlx::query_as(sql).fetch_one(&mut self.connect().await?).await?;
        Ok(LedgerSize { table, indexes })
    }

    /// Fills the ledger with votes in a past poll, as if they had just been cast.
    ///
    /// # Errors
    /// The server fails, for instance because the disk is full.
    pub async fn fill(&self, votes: u64) -> Result<()> {
        let mut connection = self.connect().await?;
        // Building the index at the end takes one sort instead of a million descents, and leaves it as dense as
        // inserts at its right edge do.
        sqlx::query("ALTER TABLE votes DROP CONSTRAINT votes_pkey").execute(&mut connection).await?;
        let first_second =
            OffsetDateTime::from(clock::now()).unix_timestamp() - (votes / PAST_VOTES_PER_SECOND) as i64 - 60;
        for start in (0..votes).step_by(FILL_STEP as usize) {
            let end = (start + FILL_STEP).min(votes);
            sqlx::query(
                "INSERT INTO votes (key, voter, cast_at, poll, contestant) \
                 SELECT (lpad(to_hex((ms >> 12)::bigint), 9, '0') || right(md5(n::text), 23))::uuid, \
                        hashint8extended(n, 0), to_timestamp(ms / 1000.0), 0, 1 + n % 10 \
                 FROM (SELECT n, ($3 + n / $4) * 1000 AS ms FROM generate_series($1, $2) AS n) AS cast_vote",
            )
            .bind(start as i64)
            .bind(end as i64 - 1)
            .bind(first_second)
            .bind(PAST_VOTES_PER_SECOND as i64)
            .execute(&mut connection)
            .await?;
        }
        for sql in [
            "SET maintenance_work_mem = '1GB'",
            "ALTER TABLE votes ADD PRIMARY KEY (poll, key)",
            "VACUUM (ANALYZE, FREEZE) votes",
        ] {
            sqlx::query(sql).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }
}

async fn open_polls(url: &str, polls: u64, contestants: u64) -> Result<Vec<PollId>> {
    let ledger = Ledger::new(url, LEDGER_TIMEOUT)?;
    let opens_at = (OffsetDateTime::from(clock::now()) - Duration::from_secs(3_600)).format(&Rfc3339)?;
    let names: Vec<_> = (1..=contestants).map(|n| json!({ "name": format!("Contestant {n}") })).collect();
    let draft = json!({ "title": "Measured", "opensAt": opens_at, "contestants": names });
    let draft: Draft = serde_json::from_value(draft)?;
    let mut ids = Vec::new();
    for _ in 0..polls {
        ids.push(ledger.create_poll(&draft, "crew").await?.poll.id);
    }
    Ok(ids)
}

/// Creates a folder of artifacts whose votes function is the first design.
fn link_first_design(binary: &Path, artifacts: &Path, folder: &Path) -> Result<PathBuf> {
    let links = folder.join("first-design");
    let binary = binary.canonicalize().with_context(|| format!("--first-design {}", binary.display()))?;
    fs::create_dir_all(links.join(VOTES_FUNCTION))?;
    std::os::unix::fs::symlink(binary, links.join(VOTES_FUNCTION).join("bootstrap"))?;
    for entry in fs::read_dir(artifacts)?.flatten().filter(|entry| entry.file_name() != VOTES_FUNCTION) {
        std::os::unix::fs::symlink(entry.path(), links.join(entry.file_name()))?;
    }
    Ok(links)
}
