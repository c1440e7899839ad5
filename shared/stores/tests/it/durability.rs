//! What a crash of PostgreSQL leaves. Each test has a server of its own, in which nobody but the commits brings the log
//! to the disk.

use domain::Poll;
use ledger::{Batch, Ledger, Outcome, Schema};
use local_stores::{End, Given, Store, Stores};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::{Fixture, LIMIT};

struct Fragile {
    fixture: Fixture,
    poll: Poll,
    /// A batch of three votes that nobody has counted.
    batch: Batch,
    stores: Stores,
    helpers: Vec<i32>,
    _folder: TempDir,
}

impl Fragile {
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
        let helpers: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        assert!(!helpers.is_empty());
        for &helper in &helpers {
            kill(Pid::from_raw(helper), Signal::SIGSTOP).unwrap();
        }
        Self { fixture, poll, batch, stores, helpers, _folder: folder }
    }

    /// Counts the batch; what is committed waits for no disk.
    async fn count_in_haste(&self) {
        let url = format!("{}&options[synchronous_commit]=off", self.stores.database_url);
        let hasty = Ledger::new(&url, LIMIT).unwrap();
        assert!(matches!(hasty.count(&self.batch).await.unwrap(), Outcome::Counted(_)));
    }

    /// The votes that a crash leaves.
    async fn votes_after_crash(mut self) -> u64 {
        self.stores.take_down(Store::Postgres, End::Killed).await.unwrap();
        for helper in self.helpers {
            kill(Pid::from_raw(helper), Signal::SIGKILL).unwrap();
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
    let fragile = Fragile::new().await;
    assert_eq!(fragile.fixture.count(&fragile.batch).await.counted, 3);
    assert_eq!(fragile.votes_after_crash().await, 3);
}

/// Else the tests beside this one show nothing.
#[tokio::test]
async fn what_is_committed_in_haste_is_lost() {
    let fragile = Fragile::new().await;
    fragile.count_in_haste().await;
    assert_eq!(fragile.fixture.ledger_votes(&fragile.poll).await, 3, "seen by all, on no disk");
    assert_eq!(fragile.votes_after_crash().await, 0);
}

/// It is acknowledged, so the votes that it found counted must be there to stay.
#[tokio::test]
async fn a_batch_of_duplicates_is_answered_when_their_votes_are_on_disk() {
    let fragile = Fragile::new().await;
    fragile.count_in_haste().await;
    assert_eq!(fragile.fixture.count(&fragile.batch).await.counted, 0);
    assert_eq!(fragile.votes_after_crash().await, 3);
}

#[tokio::test]
async fn totals_to_be_raised_are_on_disk() {
    let fragile = Fragile::new().await;
    fragile.count_in_haste().await;
    let loaded = fragile.fixture.ledger.polls(&[fragile.poll.id]).await.unwrap().pop().unwrap();
    assert_eq!(loaded.tally.values().sum::<u64>(), 3);
    assert_eq!(fragile.votes_after_crash().await, 3);
}

#[tokio::test]
async fn totals_to_be_published_are_on_disk() {
    let fragile = Fragile::new().await;
    fragile.count_in_haste().await;
    let due = fragile.fixture.ledger.publishable(LIMIT).await.unwrap().pop().unwrap();
    assert_eq!(due.loaded.tally.values().sum::<u64>(), 3);
    assert_eq!(fragile.votes_after_crash().await, 3);
}
