//! Outages of the stores while votes come in: no vote becomes a dead letter, and all count afterwards.

use local_stores::scratch::Scratch;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    stack::{TestStack, WITHOUT_PROBES, until},
    whole::Gate,
};

/// One batch, so that each failed batch is one delivery of each vote.
const VOTES: u64 = 10;

/// Redeliveries in an hour, at the template's visibility timeout of 123 s.
const DELIVERIES_IN_AN_HOUR: f64 = 30.0;

/// Redelivers after one second: an hour's redeliveries take half a minute.
const FAST: [&str; 6] = [
    "--set",
    "VotesQueue.VisibilityTimeout=1",
    "--set",
    "VotesFunction.Events.Votes.BatchSize=10",
    "--set",
    "VotesFunction.Events.Votes.MaximumBatchingWindowInSeconds=0",
];

/// Allows or forbids connections to a test's database, and terminates the open ones.
async fn allow_connections(database_url: &str, allowed: bool) {
    let mut server = PgConnection::connect(&std::env::var("DATABASE_URL").unwrap()).await.unwrap();
    let database = database_url.rsplit('/').next().unwrap().split('?').next().unwrap();
    let sql = format!("ALTER DATABASE {database} WITH ALLOW_CONNECTIONS {allowed}");
    sqlx::query(AssertSqlSafe(sql)).execute(&mut server).await.unwrap();
    let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1";
    sqlx::query(cut).bind(database).execute(&mut server).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hours_redeliveries_without_postgresql_give_no_vote_up() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[WITHOUT_PROBES.as_slice(), &FAST].concat());
    allow_connections(&scratch.database_url, false).await;
    for vote in 0..u32::try_from(VOTES).unwrap() {
        stack.vote(vote % 8 + 1);
    }
    // Votes in separate batches fail separately; twice the number of errors is then still at most an hour for each.
    let failed = || stack.metric(r#"lambda_errors_total{function="VotesFunction"}"#);
    until("an hour of redeliveries", || failed() >= DELIVERIES_IN_AN_HOUR * 2.0);
    assert_eq!(stack.dead_letters(), 0);
    allow_connections(&scratch.database_url, true).await;
    stack.until_the_queue_is_empty();
    // The admin function's connection was cut, too; it reconnects on its next call.
    until("the audit answers", || stack.answers_the_crew());
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["inSync"]), (&VOTES.into(), &true.into()), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_count_while_redis_hangs_and_the_ranking_heals_when_somebody_looks() {
    let scratch = Scratch::new().await.unwrap();
    let gate = Gate::before(&scratch.redis_url);
    let behind_gate = Scratch { redis_url: gate.url.clone(), ..scratch };
    let stack = TestStack::start(&behind_gate, &WITHOUT_PROBES);
    stack.vote(1);
    stack.until_the_queue_is_empty();
    gate.shut();
    for _ in 1..VOTES {
        stack.vote(2);
    }
    stack.until_the_queue_is_empty();
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["tallyVotes"]), (&VOTES.into(), &VOTES.into()), "{audit}");
    gate.reopen();
    until("a viewer sees every vote", || stack.ranking()["totalVotes"] == VOTES);
    until("the ranking itself has every vote", || {
        stack.ranking();
        stack.audit()["inSync"] == true
    });
}
