//! How many connections the stores see: one for each instance, at any concurrency.

use futures_util::future::join_all;
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::json;
use sqlx::PgConnection;

use crate::support::{Fixture, LIMIT, vote};

/// Counts the connections to a test's own stores, but for its own two.
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
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let database: i64 = sqlx::query_scalar(sql).fetch_one(&mut self.database).await.unwrap();
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut self.redis).await.unwrap();
        let ours = list.lines().filter(|line| line.contains(&self.redis_number)).count();
        (database as usize, ours - 1)
    }

    /// The most that there ever are while `work` goes on.
    async fn most_during<T>(&mut self, work: impl Future<Output = T>) -> ((usize, usize), T) {
        let mut most = (0, 0);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return (most, done),
                (database, redis) = self.count() => most = (most.0.max(database), most.1.max(redis)),
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
        let (most, _) = counter.most_during(all).await;
        // The fixture has one too, to make the poll.
        assert!(most.0 <= instances + 1 && most.1 <= instances, "{most:?} for {instances}");
        assert_eq!(fixture.votes(&poll).await, instances as u64 * 80);
    }
}

/// What is given up while it waits in the database is gone there soon after: it must not add up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_instances_gave_up_does_not_add_up() {
    const INSTANCES: usize = 20;
    const ATTEMPTS: usize = 8;
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let lookup = |name: &str| match name {
        // The server's own timeout must not be what ends the statement.
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
    let (most, _) = counter.most_during(all).await;
    // Two attempts' worth within the second that the server takes to notice, and the one under way; without its
    // noticing, one for each attempt.
    assert!(most.0 <= INSTANCES * 5, "{most:?} for {INSTANCES} instances");
    let gone = async {
        while counter.count().await.0 > 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
}
