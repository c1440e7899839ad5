//! Idle connections that are cut by a restart, a failover or an operator. The next call succeeds over a new
//! connection.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{Fixture, LIMIT};
use domain::{Action, Basis, ContestantNumber, Order, Poll, PollId, Tally};
use ledger::{Error, Ledger, Outage, Outcome};
use local_stores::{
    Given, Stores,
    upstream::{Upstream, redis_through},
};
use ranking::RankingStore;
use runtime::Retry;
use serde_json::json;
use sqlx::AssertSqlSafe;
use tempfile::TempDir;
use tokio::net::TcpListener;

const SHORT: Duration = Duration::from_millis(200);

fn totals(poll: PollId, votes: u64) -> BTreeMap<(PollId, i32), Tally> {
    [((poll, 1), [(ContestantNumber(1), votes)].into())].into()
}

#[tokio::test]
async fn a_batch_that_finds_its_connection_cut_counts_at_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    for round in 0..3 {
        fixture.scratch.cut_database().await.unwrap();
        let counted = fixture.count(&fixture.votes(&poll, round * 3..round * 3 + 3)).await;
        assert_eq!(counted.counted, 3, "no redelivery is needed");
    }
    assert_eq!(fixture.ledger_votes(&poll).await, 9);
}

#[tokio::test]
async fn every_call_of_the_ledger_outlives_a_cut_connection() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let cut = || async { fixture.scratch.cut_database().await.unwrap() };
    cut().await;
    assert_eq!(fixture.ledger.current_polls().await.unwrap().len(), 1);
    cut().await;
    assert_eq!(fixture.ledger.polls(&[poll.id]).await.unwrap().len(), 1);
    cut().await;
    assert_eq!(fixture.ledger.progress(poll.id).await.unwrap().votes, 0);
    cut().await;
    fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
    cut().await;
    assert!(fixture.ledger.rebuild(poll.id, "crew", LIMIT).await.unwrap());
    cut().await;
    let order = Order::new("crew", Action::Patch);
    let renamed = fixture.ledger.change_poll(poll.id, &order, |poll, _, _| {
        Ok(Poll { title: "Who goes?".to_owned(), ..poll.clone() })
    });
    assert_eq!(renamed.await.unwrap().unwrap().poll.title, "Who goes?");
    cut().await;
    assert!(fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap().is_some());
}

#[tokio::test]
async fn a_column_that_a_migration_adds_fails_no_call() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let order = Order::new("crew", Action::Patch);
    let every_call = async |round: u32| {
        let title = format!("Round {round}");
        let rename = |poll: &Poll, _: &_, _| Ok(Poll { title: title.clone(), ..poll.clone() });
        fixture.ledger.change_poll(poll.id, &order, rename).await.unwrap();
        fixture.poll(json!({})).await;
        fixture.ledger.polls(&[poll.id]).await.unwrap();
        fixture.ledger.current_polls().await.unwrap();
        fixture.ledger.unfinished_polls().await.unwrap();
        fixture.ledger.publishable(SHORT).await.unwrap();
        fixture.ledger.journal(poll.id, None).await.unwrap();
    };
    every_call(1).await;
    let mut owner = fixture.scratch.connect().await.unwrap();
    for table in ["polls", "journal", "certificates", "tallies"] {
        let sql = format!("ALTER TABLE {table} ADD COLUMN later text");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    }
    every_call(2).await;
}

/// A failover may keep the connections to a primary that it makes read-only. A session keeps the setting with which it
/// began, so only a new one finds the server that takes writes.
#[tokio::test]
async fn a_connection_that_refuses_writes_is_left_at_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut owner = fixture.scratch.connect().await.unwrap();
    let mut refuse_writes = async |refuse: bool| {
        let sql = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = {refuse}', current_database()); END $$"
        );
        sqlx::query(AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    };
    refuse_writes(true).await;
    let (counting, changing) = (fixture.second_ledger(), fixture.second_ledger());
    for ledger in [&counting, &changing] {
        let error = ledger.count(&fixture.votes(&poll, 0..3)).await.unwrap_err();
        assert!(matches!(error, Error::Outage(Outage::Unavailable(_))), "{error}");
        assert_eq!(error.retry(), Retry::AtOnce);
        ledger.current_polls().await.unwrap();
    }
    refuse_writes(false).await;
    assert!(matches!(counting.count(&fixture.votes(&poll, 0..3)).await.unwrap(), Outcome::Counted(_)));
    let order = Order::new("crew", Action::Patch);
    let renamed = |poll: &Poll, _: &_, _| Ok(Poll { title: "Who goes?".to_owned(), ..poll.clone() });
    changing.change_poll(poll.id, &order, renamed).await.unwrap();
}

/// Creating a poll is the one change that must not be repeated.
#[tokio::test]
async fn a_poll_made_over_a_cut_connection_is_made_once() {
    let fixture = Fixture::new().await;
    fixture.poll(json!({})).await;
    fixture.scratch.cut_database().await.unwrap();
    fixture.poll(json!({"title": "Who goes?"})).await;
    assert_eq!(fixture.ledger.current_polls().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_ranking_that_finds_its_connection_cut_is_raised_at_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let ranking = fixture.ranking();
    for votes in 1..4 {
        ranking.raise(&totals(poll.id, votes), &[].into()).await.unwrap();
        fixture.scratch.cut_redis().await.unwrap();
        assert_eq!(ranking.tally(&poll).await.unwrap().unwrap()[&ContestantNumber(1)], votes);
        fixture.scratch.cut_redis().await.unwrap();
    }
}

/// A port whose new connections lead to `upstream`; connections that are open stay where they are.
async fn movable_port(upstream: Arc<Mutex<Upstream>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let upstream = upstream.lock().unwrap().clone();
            tokio::spawn(async move {
                let mut server = upstream.connect().await.unwrap();
                // An end by either side is an end.
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_primary_that_became_a_replica_and_keeps_its_clients_is_left_at_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let given = Given { database_url: Some(fixture.scratch.owner_url.clone()), redis_url: None };
    let old = Stores::start(folders[0].path(), &given, false).await.unwrap();
    let new = Stores::start(folders[1].path(), &given, false).await.unwrap();
    let target = Arc::new(Mutex::new(Upstream::of_redis(&old.redis_url).unwrap()));
    let port = movable_port(Arc::clone(&target)).await;
    let address = fixture.ledger.address();
    let ranking =
        RankingStore::new(&redis_through(&old.redis_url, port).unwrap(), address, LIMIT, 600).unwrap();
    ranking.raise(&totals(poll.id, 1), &[].into()).await.unwrap();

    let mut demoted = redis::Client::open(old.redis_url.as_str()).unwrap().get_connection().unwrap();
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec(&mut demoted).unwrap();
    *target.lock().unwrap() = Upstream::of_redis(&new.redis_url).unwrap();
    ranking.raise(&totals(poll.id, 2), &[].into()).await.unwrap();
    assert_eq!(ranking.tally(&poll).await.unwrap().unwrap()[&ContestantNumber(1)], 2);
    let at_new = RankingStore::new(&new.redis_url, address, LIMIT, 600).unwrap();
    assert_eq!(at_new.tally(&poll).await.unwrap().unwrap()[&ContestantNumber(1)], 2, "on the new primary");
    old.stop().await;
    new.stop().await;
}

#[tokio::test]
async fn the_second_attempt_shares_the_first_ones_deadline() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let (behind, ways) = fixture.scratch.behind_ways().await.unwrap();
    let ledger = Ledger::new(&behind.database_url, SHORT).unwrap();
    let batch = fixture.votes(&poll, 0..3);
    // The first connection may time out on a busy machine.
    while !matches!(ledger.count(&batch).await, Ok(Outcome::Counted(_))) {}
    let before = ways.database.taken();
    ways.database.cut_and_fall_silent();
    let started = Instant::now();
    assert!(matches!(ledger.count(&batch).await.unwrap_err(), Error::Outage(Outage::Timeout(SHORT))));
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert_eq!(ways.database.taken(), before + 1, "one more connection, and no more");
}

#[tokio::test]
async fn a_second_attempt_at_redis_shares_the_first_ones_deadline() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let (behind, ways) = fixture.scratch.behind_ways().await.unwrap();
    let ranking = RankingStore::new(&behind.redis_url, fixture.ledger.address(), SHORT, 600).unwrap();
    let raise = || async { ranking.raise(&totals(poll.id, 1), &[].into()).await };
    while raise().await.is_err() {}
    ways.redis.cut_and_fall_silent();
    let started = Instant::now();
    let error = raise().await.unwrap_err();
    assert!(
        matches!(
            error,
            ranking::Error::Outage(ranking::Outage::Unavailable(_))
                | ranking::Error::Outage(ranking::Outage::Timeout(SHORT))
        ),
        "{error}"
    );
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    assert!(
        matches!(raise().await.unwrap_err(), ranking::Error::Outage(ranking::Outage::CircuitOpen)),
        "a timeout of the second attempt opens the circuit breaker, too"
    );
}
