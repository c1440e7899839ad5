//! Durability after a crash of PostgreSQL. Each test has a server of its own, whose background processes are
//! stopped, so that only commits flush the write-ahead log to disk.

use domain::Poll;
use ledger::{Batch, Ledger, Outcome, Schema};
use local_stores::{End, Given, Store, Stores};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;

use crate::support::{Fixture, LIMIT};

struct CrashTest {
    fixture: Fixture,
    poll: Poll,
    /// An uncounted batch of three votes.
    batch: Batch,
    stores: Stores,
    background_processes: Vec<i32>,
    _folder: TempDir,
}

impl CrashTest {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let folder = tempfile::tempdir().unwrap();
        let given = Given { redis_url: Some(fixture.scratch.redis_url.clone()), ..Given::default() };
        let stores = Stores::start(folder.path(), &given, false).await.unwrap();
        Schema::new(&stores.database_url).unwrap().migrate().await.unwrap();
        let fixture = Fixture { ledger: Ledger::new(&stores.database_url, LIMIT).unwrap(), ..fixture };
        let poll = fixture.poll(json!({})).await;
        let batch = fixture.votes(&poll, [1, 2, 3]);
        let mut connection = PgConnection::connect(&stores.database_url).await.unwrap();
        let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend'";
        let background_processes: Vec<i32> =
            sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        assert!(!background_processes.is_empty());
        for &process in &background_processes {
            kill(Pid::from_raw(process), Signal::SIGSTOP).unwrap();
        }
        Self { fixture, poll, batch, stores, background_processes, _folder: folder }
    }

    /// Counts the batch without its flush barrier.
    async fn count_without_flush(&self) {
        let mut owner = PgConnection::connect(&self.stores.database_url).await.unwrap();
        // These commits must not flush the batch's.
        sqlx::query("SET synchronous_commit = off").execute(&mut owner).await.unwrap();
        self.replace_barrier(&mut owner, "SELECT NULL::pg_lsn").await;
        let ledger = Ledger::new(&self.stores.database_url, LIMIT).unwrap();
        assert!(matches!(ledger.count(&self.batch).await.unwrap(), Outcome::Counted(_)));
        self.replace_barrier(&mut owner, "SELECT pg_logical_emit_message(true, 'votes', '')").await;
    }

    async fn replace_barrier(&self, owner: &mut PgConnection, body: &str) {
        let sql = format!(
            "CREATE OR REPLACE FUNCTION mark_log() RETURNS pg_lsn LANGUAGE sql VOLATILE AS $${body}$$"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(owner).await.unwrap();
    }

    /// Crashes and restarts PostgreSQL, and counts the remaining votes.
    async fn votes_after_crash(mut self) -> u64 {
        self.stores.take_down(Store::Postgres, End::Killed).await.unwrap();
        for process in self.background_processes {
            kill(Pid::from_raw(process), Signal::SIGKILL).unwrap();
        }
        self.stores.bring_back(Store::Postgres).await.unwrap();
        let ledger = Ledger::new(&self.stores.database_url, LIMIT).unwrap();
        let votes = Fixture { ledger, ..self.fixture }.ledger_votes(&self.poll).await;
        self.stores.stop().await;
        votes
    }
}

#[tokio::test]
async fn what_is_answered_is_on_disk() {
    let test = CrashTest::new().await;
    assert_eq!(test.fixture.count(&test.batch).await.counted, 3);
    assert_eq!(test.votes_after_crash().await, 3);
}

#[tokio::test]
async fn what_is_answered_is_on_disk_whatever_the_role_is_set_to() {
    let test = CrashTest::new().await;
    let mut owner = PgConnection::connect(&test.stores.database_url).await.unwrap();
    sqlx::query("ALTER ROLE CURRENT_USER SET synchronous_commit = off").execute(&mut owner).await.unwrap();
    let ledger = Ledger::new(&test.stores.database_url, LIMIT).unwrap();
    assert!(matches!(ledger.count(&test.batch).await.unwrap(), Outcome::Counted(_)));
    assert_eq!(test.votes_after_crash().await, 3);
}

/// The control: it shows that the other tests can fail.
#[tokio::test]
async fn what_is_committed_in_haste_is_lost() {
    let test = CrashTest::new().await;
    test.count_without_flush().await;
    assert_eq!(test.fixture.ledger_votes(&test.poll).await, 3, "seen by all, on no disk");
    assert_eq!(test.votes_after_crash().await, 0);
}

/// The batch of duplicates is acknowledged, so the votes that it found must be durable.
#[tokio::test]
async fn a_batch_of_duplicates_is_answered_when_their_votes_are_on_disk() {
    let test = CrashTest::new().await;
    test.count_without_flush().await;
    assert_eq!(test.fixture.count(&test.batch).await.counted, 0);
    assert_eq!(test.votes_after_crash().await, 3);
}

#[tokio::test]
async fn totals_to_be_raised_are_on_disk() {
    let test = CrashTest::new().await;
    test.count_without_flush().await;
    let loaded = test.fixture.ledger.polls(&[test.poll.id]).await.unwrap().pop().unwrap();
    assert_eq!(loaded.tally.values().sum::<u64>(), 3);
    assert_eq!(test.votes_after_crash().await, 3);
}

#[tokio::test]
async fn totals_to_be_published_are_on_disk() {
    let test = CrashTest::new().await;
    test.count_without_flush().await;
    let due = test.fixture.ledger.publishable(LIMIT).await.unwrap().pop().unwrap();
    assert_eq!(due.loaded.tally.values().sum::<u64>(), 3);
    assert_eq!(test.votes_after_crash().await, 3);
}

#[tokio::test]
async fn votes_to_be_cut_are_on_disk() {
    let test = CrashTest::new().await;
    test.count_without_flush().await;
    let position = test.fixture.ledger.log_positions(&[test.poll.id]).await.unwrap().pop().unwrap();
    let batches = test.fixture.ledger.log_batches(position).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.entries.len()).sum::<usize>(), 3 * domain::LOGGED_BYTES);
    assert_eq!(test.votes_after_crash().await, 3);
}
