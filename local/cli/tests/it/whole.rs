//! A function is killed in mid-batch, before and after its commit: nothing is lost, nothing doubled.

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

use crate::stack::{PATIENCE, WITHOUT_PROBES, Whole};

const VOTES: u64 = 5;

/// Sooner than 6 × the function's timeout, so that the redelivery does not take two minutes.
const VISIBILITY: &str = "VotesQueue.VisibilityTimeout=5";

fn cast_all(stack: &Whole) {
    for contestant in 1..=u32::try_from(VOTES).unwrap() {
        stack.vote(contestant);
    }
}

fn assert_each_counted_once(stack: &Whole) {
    stack.until_the_queue_is_empty();
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["inSync"]), (&VOTES.into(), &true.into()), "{audit}");
    assert!(stack.metric(r#"lambda_errors_total{function="VotesFunction"}"#) >= 1.0, "a batch was cut short");
}

async fn until_at_least(wanted: i64, connection: &mut PgConnection, count: &'static str) {
    let reached = async {
        while sqlx::query_scalar::<_, i64>(count).fetch_one(&mut *connection).await.unwrap() < wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {count}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_commit() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &[WITHOUT_PROBES.as_slice(), &["--set", VISIBILITY]].concat());
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
    let patience = "VotesFunction.Environment.Variables.REDIS_TIMEOUT_MS=15000";
    let set = [WITHOUT_PROBES.as_slice(), &["--set", VISIBILITY, "--set", patience]].concat();
    let stack = Whole::start(&behind_gate, &set);
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
    assert!(duplicates >= 1.0, "the redelivery found them counted and sent the totals all the same");
}

/// A way to Redis that can be shut: what is sent meanwhile is lost.
pub struct Gate {
    pub url: String,
    open: Arc<AtomicBool>,
}

impl Gate {
    /// Opens a way to a Redis.
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
                thread::spawn(move || pass(client, to_server, &is_open));
                thread::spawn(move || pass(server, to_client, &AtomicBool::new(true)));
            }
        });
        Self { url, open }
    }

    /// From now on what is sent is lost, and nothing answered.
    pub fn shut(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// Ends that.
    pub fn reopen(&self) {
        self.open.store(true, Ordering::SeqCst);
    }
}

fn pass(mut from: impl io::Read, mut to: impl io::Write, is_open: &AtomicBool) {
    let mut buffer = [0; 16_384];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if is_open.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
}
