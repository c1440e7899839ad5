//! Of any number of concurrent readers, one loads from the ledger.

use std::time::Duration;

use domain::{Poll, PollId};
use ledger::Ledger;
use ranking::RankingStore;
use runtime::Clock;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use stores::Catalog;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{Fixture, LIMIT, at, until};

const READERS: usize = 12;
const FRESH: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(30);

/// A fixture whose ledger counts its loads, and the poll that is read.
struct Setup {
    fixture: Fixture,
    poll: Poll,
    ranking: RankingStore,
    connection: PgConnection,
}

impl Setup {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        let poll = fixture.poll(json!({})).await;
        let mut connection = fixture.scratch.connect().await.unwrap();
        for sql in [
            "CREATE SEQUENCE loads MINVALUE 0",
            "SELECT nextval('loads')",
            "ALTER TABLE polls RENAME TO kept_polls",
            "CREATE VIEW polls AS SELECT kept_polls.* FROM kept_polls, \
             (SELECT nextval('loads') AS number OFFSET 0) AS load WHERE number > 0",
            "GRANT SELECT ON polls TO votes",
            "GRANT USAGE ON SEQUENCE loads TO votes",
        ] {
            sqlx::query(sql).execute(&mut connection).await.unwrap();
        }
        let ranking = fixture.ranking();
        Self { fixture, poll, ranking, connection }
    }

    /// Returns a reader with connections of its own, like another instance.
    fn reader(&self) -> Catalog {
        Catalog::new(self.fixture.second_ledger(), self.fixture.ranking(), FRESH, LEASE, Clock::system())
    }

    async fn load_count(&mut self) -> i64 {
        sqlx::query_scalar("SELECT last_value FROM loads").fetch_one(&mut self.connection).await.unwrap()
    }

    /// Caches a stale definition with another title.
    async fn make_stale(&self) {
        let mut loaded = self.fixture.ledger.polls(&[self.poll.id]).await.unwrap();
        loaded[0].poll.title = "outdated".to_owned();
        let long_ago = at(Clock::system().now().millis() - 10 * 60_000);
        self.ranking.keep_polls(&loaded, long_ago).await.unwrap();
    }

    /// Returns a reader whose ledger is unreachable.
    fn reader_without_ledger(&self, lease: Duration) -> Catalog {
        let away = Ledger::new(&self.fixture.scratch.refusing_url().unwrap(), LIMIT).unwrap();
        Catalog::new(away, self.fixture.ranking(), FRESH, lease, Clock::system())
    }
}

fn lease_of(poll: &Poll) -> String {
    format!("poll:{}", poll.id.0)
}

const LOAD_IS_BLOCKED: &str =
    "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'kept_polls'::regclass";

#[tokio::test]
async fn while_one_reloads_the_others_show_what_there_is() {
    let mut setup = Setup::new().await;
    setup.make_stale().await;
    let before = setup.load_count().await;
    let mut holder = setup.fixture.scratch.connect().await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    sqlx::query("LOCK TABLE kept_polls").execute(&mut *lock).await.unwrap();
    let (id, first) = (setup.poll.id, setup.reader());
    let first = tokio::spawn(async move { first.poll(id).await });
    until(&mut setup.connection, LOAD_IS_BLOCKED).await;
    for reader in (1..READERS).map(|_| setup.reader()) {
        let seen = timeout(LIMIT, reader.poll(id)).await.expect("it does not wait").unwrap().unwrap();
        assert_eq!(seen.title, "outdated");
    }
    lock.commit().await.unwrap();
    assert_eq!(first.await.unwrap().unwrap().unwrap().title, setup.poll.title);
    assert_eq!(setup.reader().poll(id).await.unwrap().unwrap().title, setup.poll.title, "for all others too");
    assert_eq!(setup.load_count().await - before, 1);
}

#[tokio::test]
async fn with_nothing_to_show_the_others_wait_for_the_one() {
    let mut setup = Setup::new().await;
    let before = setup.load_count().await;
    let mut holder = setup.fixture.scratch.connect().await.unwrap();
    let mut lock = holder.begin().await.unwrap();
    sqlx::query("LOCK TABLE kept_polls").execute(&mut *lock).await.unwrap();
    let id = setup.poll.id;
    let mut readers = JoinSet::new();
    for reader in (0..READERS).map(|_| setup.reader()) {
        readers.spawn(async move { (reader.standing(id).await, reader.current_polls().await) });
    }
    until(&mut setup.connection, LOAD_IS_BLOCKED).await;
    lock.commit().await.unwrap();
    for (standing, polls) in readers.join_all().await {
        assert_eq!(standing.unwrap().value.unwrap().poll.id, id);
        assert_eq!(polls.unwrap().len(), 1);
    }
    assert_eq!(setup.load_count().await - before, 2, "one of the standing, one of the list");
}

#[tokio::test]
async fn that_there_is_no_such_poll_is_loaded_once_too() {
    let setup = Setup::new().await;
    let unknown = PollId(setup.poll.id.0 + 1);
    assert!(setup.reader().poll(unknown).await.unwrap().is_none());
    assert!(setup.reader_without_ledger(LEASE).poll(unknown).await.unwrap().is_none(), "no ledger is asked");
}

#[tokio::test]
async fn a_poll_that_was_made_meanwhile_is_not_taken_for_absent() {
    let setup = Setup::new().await;
    let (id, made) = (setup.poll.id, setup.fixture.ledger.polls(&[setup.poll.id]).await.unwrap());
    let is_there = async || setup.reader_without_ledger(LEASE).poll(id).await.unwrap().is_some();
    setup.ranking.keep_absence(id, false, Clock::system().now(), FRESH).await.unwrap();
    assert!(!is_there().await);
    setup.ranking.keep_polls(&made, Clock::system().now()).await.unwrap();
    assert!(is_there().await);
    setup.ranking.keep_absence(id, false, Clock::system().now(), FRESH).await.unwrap();
    assert!(is_there().await);
    setup.ranking.keep_absence(id, true, Clock::system().now(), FRESH).await.unwrap();
    assert!(!is_there().await, "what was seen and is gone was deleted");
}

#[tokio::test]
async fn a_lease_whose_holder_died_runs_out() {
    let setup = Setup::new().await;
    let held = setup.ranking.claim(&lease_of(&setup.poll), Duration::from_millis(200)).await.unwrap();
    assert!(held.is_some());
    assert!(setup.reader().poll(setup.poll.id).await.unwrap().is_some());
}

#[tokio::test]
async fn nobody_waits_longer_than_a_lease() {
    let setup = Setup::new().await;
    setup.ranking.claim(&lease_of(&setup.poll), LEASE * 10).await.unwrap().unwrap();
    let lease = Duration::from_millis(200);
    let reader =
        Catalog::new(setup.fixture.second_ledger(), setup.fixture.ranking(), FRESH, lease, Clock::system());
    let error = reader.poll(setup.poll.id).await.unwrap_err();
    assert!(
        matches!(error, ledger::Error::Outage(ledger::Outage::Timeout(waited)) if waited == lease),
        "{error}"
    );
}

#[tokio::test]
async fn a_ledger_that_fails_is_asked_once_a_lease_and_nobody_is_told() {
    let setup = Setup::new().await;
    setup.make_stale().await;
    let reader = setup.reader_without_ledger(LEASE);
    for _ in 0..READERS {
        let standing = reader.standing(setup.poll.id).await.unwrap();
        assert_eq!(standing.value.unwrap().poll.title, "outdated");
        assert!(standing.loaded_at < Clock::system().now(), "and it says how old it is");
    }
    assert!(setup.ranking.claim(&lease_of(&setup.poll), LEASE).await.unwrap().is_none(), "the lease is kept");
}

#[tokio::test]
async fn a_ledger_that_fails_with_nothing_to_show_is_an_error_for_each() {
    let setup = Setup::new().await;
    let reader = setup.reader_without_ledger(LEASE);
    for _ in 0..READERS {
        assert!(timeout(LIMIT, reader.poll(setup.poll.id)).await.expect("the lease is given back").is_err());
    }
}

#[tokio::test]
async fn a_lease_that_has_passed_on_cannot_be_given_back() {
    let setup = Setup::new().await;
    let first = setup.ranking.claim("it", Duration::from_millis(1)).await.unwrap().unwrap();
    let second = loop {
        if let Some(second) = setup.ranking.claim("it", LEASE).await.unwrap() {
            break second;
        }
    };
    setup.ranking.release(first).await.unwrap();
    assert!(setup.ranking.claim("it", LEASE).await.unwrap().is_none());
    setup.ranking.release(second).await.unwrap();
    assert!(setup.ranking.claim("it", LEASE).await.unwrap().is_some());
}

#[tokio::test]
async fn without_a_lease_everybody_reloads() {
    let mut setup = Setup::new().await;
    setup.make_stale().await;
    let before = setup.load_count().await;
    let reader = Catalog::new(
        setup.fixture.second_ledger(),
        setup.ranking.clone(),
        Duration::ZERO,
        Duration::ZERO,
        Clock::system(),
    );
    for _ in 0..3 {
        assert_eq!(reader.poll(setup.poll.id).await.unwrap().unwrap().title, setup.poll.title);
    }
    assert_eq!(setup.load_count().await - before, 3);
}
