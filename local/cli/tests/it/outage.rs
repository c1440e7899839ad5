//! Stores that are away while votes come in: nothing is given up, and all is counted when they are back.

use local_stores::scratch::Scratch;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    stack::{WITHOUT_PROBES, Whole, until},
    whole::Gate,
};

/// As many as one batch takes, so that each failed batch is one delivery of each.
const VOTES: u64 = 10;

/// Redeliveries in an hour, at the template's visibility timeout of 123 s.
const DELIVERIES_IN_AN_HOUR: f64 = 30.0;

/// An hour's redeliveries in half a minute: each after a second.
const FAST: [&str; 6] = [
    "--set",
    "VotesQueue.VisibilityTimeout=1",
    "--set",
    "VotesFunction.Events.Votes.BatchSize=10",
    "--set",
    "VotesFunction.Events.Votes.MaximumBatchingWindowInSeconds=0",
];

/// Lets nobody connect to a test's database, or lets them again; whoever is connected is cut off.
async fn allow(database_url: &str, allowed: bool) {
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
    let stack = Whole::start(&scratch, &[WITHOUT_PROBES.as_slice(), &FAST].concat());
    allow(&scratch.database_url, false).await;
    for vote in 0..u32::try_from(VOTES).unwrap() {
        stack.vote(vote % 8 + 1);
    }
    // Votes that came in apart fail apart: then this is more than an hour for none of them.
    let failed = || stack.metric(r#"lambda_errors_total{function="VotesFunction"}"#);
    until("an hour of redeliveries", || failed() >= DELIVERIES_IN_AN_HOUR * 2.0);
    assert_eq!(stack.dead_letters(), 0);
    allow(&scratch.database_url, true).await;
    stack.until_the_queue_is_empty();
    // The crew's function, too, first has to find out that it was cut off.
    until("the books can be checked", || stack.answers_the_crew());
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["inSync"]), (&VOTES.into(), &true.into()), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_count_while_redis_hangs_and_the_ranking_heals_when_somebody_looks() {
    let scratch = Scratch::new().await.unwrap();
    let gate = Gate::before(&scratch.redis_url);
    let behind_gate = Scratch { redis_url: gate.url.clone(), ..scratch };
    let stack = Whole::start(&behind_gate, &WITHOUT_PROBES);
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
