//! The real function after its idle connections were cut: the next batch counts without a redelivery.

use std::time::Duration;

use ledger::Ledger;
use local_stores::scratch::Scratch;
use serde_json::json;

use crate::one_call::{Call, Function, with_a_poll};

/// Consecutive votes in one instance. Both stores' connections are cut before each one except the first.
const VOTES: i64 = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_batch_counts_at_once_after_both_stores_have_cut_their_connections() {
    let scratch = Scratch::new().await.unwrap();
    with_a_poll(&scratch).await;
    let function = Function::on(&scratch, "votes");
    for vote in 0..VOTES {
        if vote > 0 {
            scratch.cut_database().await.unwrap();
            scratch.cut_redis().await.unwrap();
        }
        let answer = function.invoke(Call::Vote).await.unwrap();
        assert_eq!(answer, json!({"batchItemFailures": []}), "vote {vote}");
    }
    assert_eq!(function.cold_starts(), 1, "one instance handled all votes");
    let log = function.end().await;
    assert!(!log.contains("batch.failed") && !log.contains("ranking.not_raised"), "{log}");
    let mut connection = scratch.connect().await.unwrap();
    let counted: i64 =
        sqlx::query_scalar("SELECT count(*) FROM votes").fetch_one(&mut connection).await.unwrap();
    assert_eq!(counted, VOTES);
    let client = redis::Client::open(scratch.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let ledger = Ledger::new(&scratch.database_url, Duration::from_secs(20)).unwrap();
    let key = format!("{}:ranking:1:1", ledger.address());
    let ranked: i64 = redis::cmd("ZSCORE").arg(key).arg(1).query_async(&mut redis).await.unwrap();
    assert_eq!(ranked, VOTES, "each batch raised the ranking");
}
