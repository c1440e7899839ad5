//! Connections to the stores: one for each instance, at any concurrency.

use futures_util::future::join_all;
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::json;
use sqlx::PgConnection;

use crate::support::{Fixture, LIMIT, vote};

/// Counts the connections to a test's own stores, except the counter's own two.
struct Counter {
    database: PgConnection,
    redis: redis::aio::MultiplexedConnection,
    redis_number: String,
}

impl Counter {
    async fn new(scratch: &Scratch) -> Self {
        let redis = redis::Client::open(scratch.redis_url.as_str()).unwrap();
        Self {
            database: scratch.connect().await.unwrap(),
            redis: redis.get_multiplexed_async_connection().await.unwrap(),
            redis_number: format!(" db={} ", scratch.redis_url.rsplit('/').next().unwrap()),
        }
    }

    async fn count(&mut self) -> (usize, usize) {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let database: i64 = sqlx::query_scalar(sql).fetch_one(&mut self.database).await.unwrap();
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut self.redis).await.unwrap();
        let ours = list.lines().filter(|line| line.contains(&self.redis_number)).count();
        (database as usize, ours - 1)
    }

    /// Returns the maximum numbers of connections while `work` runs, and its result.
    async fn max_during<T>(&mut self, work: impl Future<Output = T>) -> ((usize, usize), T) {
        let mut max = (0, 0);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return (max, done),
                (database, redis) = self.count() => max = (max.0.max(database), max.1.max(redis)),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_has_one_connection_to_each_store_however_many_there_are() {
    for instances in [11, 50] {
        let fixture = Fixture::new().await;
        let poll = fixture.poll(json!({})).await;
        let lookup = |name: &str| match name {
            "DATABASE_TIMEOUT_MS" => Some("10000".to_owned()),
            _ => fixture.scratch.environment(name),
        };
        let handlers: Vec<_> =
            (0..instances).map(|_| votes::Handler::new(&lookup, Clock::system()).unwrap()).collect();
        let mut counter = Counter::new(&fixture.scratch).await;
        let all = join_all(handlers.iter().enumerate().map(|(instance, handler)| {
            let body = json!({"poll": poll.id.0, "contestant": instance % 3 + 1});
            async move {
                for batch in 0..4 {
                    let ids = (0..20).map(|vote| ((instance * 4 + batch) * 20 + vote) as u128);
                    let votes: Vec<_> = ids.map(|id| vote(id, "alice", &body)).collect();
                    crate::support::deliver(handler, &votes).await.unwrap();
                }
            }
        }));
        let (max, _) = counter.max_during(all).await;
        // The fixture has a connection too, to create the poll.
        assert!(max.0 <= instances + 1 && max.1 <= instances, "{max:?} for {instances}");
        assert_eq!(fixture.votes(&poll).await, instances as u64 * 80);
    }
}

/// PostgreSQL soon ends the statements of batches that timed out, so that their connections do not add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_timed_out_batches_do_not_add_up() {
    const INSTANCES: usize = 20;
    const ATTEMPTS: usize = 8;
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let lookup = |name: &str| match name {
        // So long that the server's statement timeout does not end the statement.
        "DATABASE_TIMEOUT_MS" => Some("60000".to_owned()),
        "BATCH_TIMEOUT_MS" => Some("500".to_owned()),
        _ => fixture.scratch.environment(name),
    };
    let handlers: Vec<_> =
        (0..INSTANCES).map(|_| votes::Handler::new(&lookup, Clock::system()).unwrap()).collect();
    let mut counter = Counter::new(&fixture.scratch).await;
    let mut holder = fixture.scratch.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(&mut holder).await.unwrap();
    let votes = [vote(1, "alice", &json!({"poll": poll.id.0, "contestant": 1}))];
    let all = join_all(handlers.iter().map(|handler| async {
        for _ in 0..ATTEMPTS {
            assert!(crate::support::deliver(handler, &votes).await.is_err());
        }
    }));
    let (max, _) = counter.max_during(all).await;
    // Two attempts within the second in which the server detects a closed connection, and one in flight. Without the
    // detection there would be one for each attempt.
    assert!(max.0 <= INSTANCES * 5, "{max:?} for {INSTANCES} instances");
    let gone = async {
        while counter.count().await.0 > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
}
