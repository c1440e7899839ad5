//! A function is killed during a batch, before or after its commit: no vote is lost or counted twice.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use local_stores::scratch::Scratch;
use sqlx::PgConnection;

use crate::stack::{TIMEOUT, TestStack, WITHOUT_PROBES};

const VOTES: u64 = 5;

/// Shorter than the recommended 6 × function timeout, so that the redelivery does not take two minutes.
const VISIBILITY: &str = "VotesQueue.VisibilityTimeout=5";

fn cast_all(stack: &TestStack) {
    for contestant in 1..=u32::try_from(VOTES).unwrap() {
        stack.vote(contestant);
    }
}

fn assert_each_counted_once(stack: &TestStack) {
    stack.until_the_queue_is_empty();
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["inSync"]), (&VOTES.into(), &true.into()), "{audit}");
    assert!(stack.metric(r#"lambda_errors_total{function="VotesFunction"}"#) >= 1.0, "a batch was killed");
}

async fn until_at_least(minimum: i64, connection: &mut PgConnection, count: &'static str) {
    let reached = async {
        while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut *connection).await.unwrap() < minimum {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, reached)
        .await
        .unwrap_or_else(|_| panic!("not within {TIMEOUT:?}: {count}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_commit() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[WITHOUT_PROBES.as_slice(), &["--set", VISIBILITY]].concat());
    let mut connection = scratch.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(&mut connection).await.unwrap();
    cast_all(&stack);
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
    until_at_least(1, &mut connection, waiting).await;
    stack.kill_votes();
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND wait_event = 'advisory'";
    sqlx::query(cut).execute(&mut connection).await.unwrap();
    sqlx::query("SELECT pg_advisory_unlock(fence())").execute(&mut connection).await.unwrap();
    assert_each_counted_once(&stack);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_commit_and_the_ranking() {
    let scratch = Scratch::new().await.unwrap();
    let gate = Gate::before(&scratch.redis_url);
    let behind_gate = Scratch { redis_url: gate.url.clone(), ..scratch.clone() };
    let redis_timeout = "VotesFunction.Environment.Variables.REDIS_TIMEOUT_MS=15000";
    let set = [WITHOUT_PROBES.as_slice(), &["--set", VISIBILITY, "--set", redis_timeout]].concat();
    let stack = TestStack::start(&behind_gate, &set);
    stack.vote(1);
    stack.until_the_queue_is_empty();
    gate.shut();
    for contestant in 2..=u32::try_from(VOTES).unwrap() {
        stack.vote(contestant);
    }
    let mut connection = scratch.connect().await.unwrap();
    until_at_least(i64::try_from(VOTES).unwrap(), &mut connection, "SELECT count(*) FROM votes").await;
    stack.kill_votes();
    gate.reopen();
    assert_each_counted_once(&stack);
    let duplicates = stack.metric(r#"cloudwatch_metric_sum{metric="VotesDuplicate"}"#);
    assert!(duplicates >= 1.0, "the redelivery found duplicates and still sent the totals");
}

/// A proxy of Redis that can be shut: it then drops the clients' bytes.
pub struct Gate {
    pub url: String,
    open: Arc<AtomicBool>,
}

impl Gate {
    /// Starts an open proxy of a Redis.
    pub fn before(redis_url: &str) -> Self {
        let (host, database) = redis_url.trim_start_matches("redis://").split_once('/').unwrap();
        let host = host.to_owned();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}/{database}", listener.local_addr().unwrap());
        let open = Arc::new(AtomicBool::new(true));
        let is_open = Arc::clone(&open);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = std::net::TcpStream::connect(&host) else { return };
                let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let is_open = Arc::clone(&is_open);
                thread::spawn(move || relay(client, to_server, &is_open));
                thread::spawn(move || relay(server, to_client, &AtomicBool::new(true)));
            }
        });
        Self { url, open }
    }

    /// Drops the clients' bytes from now on, so that nothing is answered.
    pub fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Passes the clients' bytes again.
    pub fn reopen(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn relay(mut from: impl io::Read, mut to: impl io::Write, is_open: &AtomicBool) {
    let mut buffer = [0; 16_384];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if is_open.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
