//! A store that is unavailable, hangs or has dropped the connection fails a call within its deadline, and only that
//! call.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use domain::LedgerAddress;
use ledger::Ledger;
use ranking::RankingStore;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{Fixture, LIMIT, until};

const SHORT: Duration = Duration::from_millis(200);

fn ranking_at(address: &str) -> RankingStore {
    let ledger = LedgerAddress::new("ledger", 5432, "votes");
    RankingStore::new(&format!("redis://{address}"), ledger, SHORT, 600).unwrap()
}

/// Starts a server that accepts connections and never answers.
async fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_ledger_that_is_away_fails_at_once() {
    let ledger = Ledger::new("postgres://nobody@127.0.0.1:1/nothing", Duration::from_secs(60)).unwrap();
    let started = Instant::now();
    assert!(matches!(
        ledger.current_polls().await.unwrap_err(),
        ledger::Error::Outage(ledger::Outage::Unavailable(_))
    ));
    assert!(started.elapsed() < Duration::from_secs(30), "it did not wait for the limit");
}

#[tokio::test]
async fn what_no_later_call_can_do_is_a_defect_and_no_outage() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut owner = fixture.scratch.connect().await.unwrap();
    sqlx::query("ALTER TABLE tallies RENAME COLUMN votes TO ballots").execute(&mut owner).await.unwrap();
    let error = fixture.ledger.count(&fixture.votes(&poll, [1])).await.unwrap_err();
    assert!(matches!(error, ledger::Error::Defect(_)) && !error.retry().is_transient(), "{error}");
    let ranking = fixture.ranking();
    let mut redis =
        redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap().get_connection().unwrap();
    redis::cmd("SET")
        .arg(format!("{}:ranking:{}:{}", fixture.ledger.address(), poll.id.0, poll.epoch))
        .arg("no set")
        .exec(&mut redis)
        .unwrap();
    let error = ranking.tally(&poll).await.unwrap_err();
    assert!(matches!(error, ranking::Error::Defect(_)) && !error.retry().is_transient(), "{error}");
}

#[tokio::test]
async fn a_pooler_that_refuses_startup_options_is_named() {
    for (code, message) in [
        ("08P01", "unsupported startup parameter in options: client_connection_check_interval"),
        ("0A000", "Feature not supported: RDS Proxy currently doesn't support command-line options."),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let startup_bytes = client.read_u32().await.unwrap();
            let mut startup = vec![0; startup_bytes as usize - 4];
            client.read_exact(&mut startup).await.unwrap();
            let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
            client.write_u8(b'E').await.unwrap();
            client.write_u32(fields.len() as u32 + 4).await.unwrap();
            client.write_all(fields.as_bytes()).await.unwrap();
        });
        let ledger = Ledger::new(&format!("postgres://v@{address}/d?sslmode=disable"), LIMIT).unwrap();
        let error = ledger.current_polls().await.unwrap_err();
        assert!(matches!(error, ledger::Error::Defect(ledger::Defect::Pooler(_))), "{error}");
        assert!(error.to_string().contains("RDS Proxy"), "{error}");
        refused.await.unwrap();
    }
}

#[tokio::test]
async fn a_ledger_that_hangs_fails_within_the_limit() {
    let (_listener, address) = silent_server().await;
    let ledger = Ledger::new(&format!("postgres://nobody@{address}/nothing"), SHORT).unwrap();
    assert!(matches!(
        ledger.current_polls().await.unwrap_err(),
        ledger::Error::Outage(ledger::Outage::Timeout(SHORT))
    ));
}

#[tokio::test]
async fn a_redis_that_is_away_or_hangs_fails_within_the_limit() {
    let (_listener, hanging) = silent_server().await;
    for address in ["127.0.0.1:1", &hanging] {
        let ranking = ranking_at(address);
        let error = ranking.raise(&BTreeMap::from([((domain::PollId(1), 1), [].into())]), &[].into()).await;
        let error = error.and(ranking.current_polls().await.map(drop)).unwrap_err();
        assert!(
            matches!(
                error,
                ranking::Error::Outage(ranking::Outage::Unavailable(_))
                    | ranking::Error::Outage(ranking::Outage::Timeout(SHORT))
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_redis_that_hangs_is_left_alone_for_a_while() {
    let (listener, address) = silent_server().await;
    let ranking = ranking_at(&address);
    let silence = ranking.current_polls().await.unwrap_err();
    assert!(!matches!(silence, ranking::Error::Outage(ranking::Outage::CircuitOpen)), "it was asked");
    let same_instance = ranking.clone();
    assert!(matches!(
        same_instance.current_polls().await.unwrap_err(),
        ranking::Error::Outage(ranking::Outage::CircuitOpen)
    ));
    // A refused connection fails immediately, so it does not open the circuit breaker.
    drop(listener);
    let ranking = ranking_at("127.0.0.1:1");
    for _ in 0..2 {
        assert!(matches!(
            ranking.current_polls().await.unwrap_err(),
            ranking::Error::Outage(ranking::Outage::Unavailable(_))
        ));
    }
}

/// A killed function must not hold its locks until the statement timeout.
#[tokio::test]
async fn an_abandoned_statement_ends_soon_after_its_client() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut holder = fixture.scratch.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(&mut holder).await.unwrap();
    let ledger = Ledger::new(&fixture.scratch.database_url, 10 * LIMIT).unwrap();
    let batch = fixture.votes(&poll, 0..3);
    let counting = tokio::spawn(async move { ledger.count(&batch).await });
    fixture.until_definition_lock_has_waiter().await;
    counting.abort();
    let is_aborted = "SELECT count(*) = 0 FROM pg_stat_activity \
                    WHERE datname = current_database() AND wait_event = 'advisory'";
    until(&mut holder, is_aborted).await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_given_up_by_the_server_too() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut holder = fixture.scratch.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(&mut holder).await.unwrap();
    let ledger = Ledger::new(&fixture.scratch.database_url, SHORT).unwrap();
    let batch = fixture.votes(&poll, 0..3);
    assert!(ledger.count(&batch).await.is_err());
    let is_aborted = "SELECT count(*) = 0 FROM pg_stat_activity \
                    WHERE datname = current_database() AND wait_event = 'advisory'";
    until(&mut holder, is_aborted).await;
    sqlx::query("SELECT pg_advisory_unlock(fence())").execute(&mut holder).await.unwrap();
    assert_eq!(fixture.ledger_votes(&poll).await, 0);
    assert_eq!(fixture.count(&batch).await.counted, 3);
}
