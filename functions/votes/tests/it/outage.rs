//! Batches while a store is down, hangs or is slow.

use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::net::TcpListener;

use crate::support::{Fixture, LIMIT, vote};

#[tokio::test]
async fn votes_count_while_redis_is_away() {
    let (_silent, hanging) = silent_server().await;
    for address in ["127.0.0.1:1", &hanging] {
        let url = format!("redis://{address}");
        let fixture = Fixture::with(|_, name| (name == "REDIS_URL").then(|| url.clone())).await;
        let poll = fixture.poll(json!({})).await;
        let body = json!({"poll": poll.id.0, "contestant": 1});
        for batch in 1..=3 {
            assert!(fixture.deliver(&[vote(batch, "alice", &body)]).await.unwrap().is_empty());
        }
        assert_eq!(fixture.votes(&poll).await, 3);
    }
}

#[tokio::test]
async fn while_the_ledger_is_away_the_batch_fails_whole() {
    let (_silent, hanging) = silent_server().await;
    for address in ["127.0.0.1:1", &hanging] {
        let fixture = Fixture::with(|_, name| match name {
            "DATABASE_URL" => Some(format!("postgres://nobody@{address}/nothing")),
            "DATABASE_TIMEOUT_MS" => Some("200".to_owned()),
            _ => None,
        })
        .await;
        let votes = [vote(1, "alice", &json!({"poll": 1, "contestant": 1}))];
        let error = tokio::time::timeout(LIMIT, fixture.deliver(&votes)).await.unwrap().unwrap_err();
        assert!(matches!(error, votes::Error::Ledger(_)), "{error}");
    }
}

/// Each call has its own timeout; the batch has one for all of them, shorter than the function's.
#[tokio::test]
async fn a_batch_that_cannot_finish_in_time_fails_whole_and_counts_when_it_comes_again() {
    let fixture = Fixture::with(|_, name| match name {
        "DATABASE_TIMEOUT_MS" => Some("60000".to_owned()),
        "BATCH_TIMEOUT_MS" => Some("300".to_owned()),
        _ => None,
    })
    .await;
    let poll = fixture.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    fixture.deliver(&[vote(1, "alice", &body)]).await.unwrap();
    let mut holder = fixture.scratch.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(&mut holder).await.unwrap();
    let votes = [vote(2, "alice", &body), vote(3, "alice", &body)];
    let error = fixture.deliver(&votes).await.unwrap_err();
    assert!(matches!(error, votes::Error::BatchTimeout(_)), "{error}");
    sqlx::query("SELECT pg_advisory_unlock(fence())").execute(&mut holder).await.unwrap();
    fixture.deliver(&votes).await.unwrap();
    assert_eq!(fixture.votes(&poll).await, 3);
}

/// A short version of an hour's outage and its redeliveries.
#[tokio::test]
async fn a_handler_whose_connection_was_refused_for_a_while_goes_on_by_itself() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    fixture.deliver(&[vote(1, "alice", &body)]).await.unwrap();
    let database: String = {
        let mut connection = fixture.scratch.connect().await.unwrap();
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap()
    };
    let mut server = PgConnection::connect(&std::env::var("DATABASE_URL").unwrap()).await.unwrap();
    let mut allow = async |allowed: bool| {
        let sql = format!("ALTER DATABASE {database} WITH ALLOW_CONNECTIONS {allowed}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1";
        sqlx::query(cut).bind(&database).execute(&mut server).await.unwrap();
    };
    allow(false).await;
    let votes = [vote(2, "alice", &body)];
    for _ in 0..3 {
        assert!(fixture.deliver(&votes).await.is_err());
    }
    allow(true).await;
    fixture.deliver(&votes).await.unwrap();
    let ledger = ledger::Ledger::new(&fixture.scratch.database_url, LIMIT).unwrap();
    assert_eq!(ledger.audit(poll.id, LIMIT).await.unwrap().ledger.values().sum::<u64>(), 2);
}

/// A server that accepts connections and never answers.
async fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}
