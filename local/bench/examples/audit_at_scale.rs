//! Measures an audit and a rebuild of a large poll under load: their duration, the latency of concurrent batches, and
//! that their totals belong to one instant.
//!
//! ```sh
//! cargo run -p cli -- stores -- cargo run -p bench --example audit_at_scale
//! ```
#![expect(clippy::unwrap_used, reason = "an error fails the measurement")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use domain::{Message, Poll, VoteKey, VoteRequest, VoterHasher, judge};
use ledger::{Batch, Ledger, Outcome};
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::json;
use uuid::Uuid;

const BATCH_VOTES: usize = 300;
const CONTESTANTS: i16 = 10;
/// Longer than any call that ends.
const TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Parser)]
struct Arguments {
    /// Votes in the ledger at the start
    #[arg(long, default_value_t = 10_000_000)]
    votes: u64,
    /// Functions that count batches concurrently
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Pause after each batch, in milliseconds: the load of an open poll
    #[arg(long, default_value_t = 50)]
    pause_ms: u64,
    /// Seconds of the baseline before the audit
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Durations of batches since the last report.
#[derive(Default)]
struct Batches {
    durations_ms: Mutex<Vec<u64>>,
    votes: AtomicU64,
    stop: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scratch = Scratch::new().await?;
    let ledger = Ledger::new(&scratch.database_url, TIMEOUT)?;
    let contestants: Vec<_> = (1..=CONTESTANTS).map(|number| json!({"name": number.to_string()})).collect();
    let draft = serde_json::from_value(json!({ "title": "Scale", "contestants": contestants }))?;
    let poll = ledger.create_poll(&draft, "crew").await?.poll;
    fill(&scratch, &poll, arguments.votes).await?;

    let batches = Arc::new(Batches::default());
    let writers: Vec<_> = (0..arguments.writers)
        .map(|_| {
            let ledger = Ledger::new(&scratch.database_url, TIMEOUT)?;
            let pause = Duration::from_millis(arguments.pause_ms);
            Ok(tokio::spawn(write(ledger, poll.clone(), pause, Arc::clone(&batches))))
        })
        .collect::<Result<_>>()?;
    tokio::time::sleep(Duration::from_secs(arguments.seconds)).await;
    batches.report("before");
    for round in 1..=2 {
        let started = Instant::now();
        let audit = ledger.audit(poll.id, TIMEOUT).await?;
        println!("audit {round}: {:.1} s, {} votes", started.elapsed().as_secs_f64(), sum(&audit.ledger));
        ensure!(audit.ledger == audit.tally, "the audit's votes and tally differ");
        batches.report("during the audit");
    }
    let mut connection = scratch.connect().await?;
    sqlx::query("UPDATE tallies SET votes = votes + 5 WHERE contestant = 1").execute(&mut connection).await?;
    let started = Instant::now();
    ledger.rebuild(poll.id, "crew", TIMEOUT).await?;
    println!("rebuild: {:.1} s", started.elapsed().as_secs_f64());
    batches.report("during the rebuild");

    batches.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    let audit = ledger.audit(poll.id, TIMEOUT).await?;
    let expected = arguments.votes + batches.votes.load(Ordering::Relaxed);
    ensure!(audit.ledger == audit.tally && sum(&audit.ledger) == expected, "a vote was lost");
    println!("at the end: {expected} votes, ledger and tally agree");
    Ok(())
}

fn sum(tally: &domain::Tally) -> u64 {
    tally.values().sum()
}

/// Inserts votes into ledger and tally directly, as if they had been counted over the last hour.
async fn fill(scratch: &Scratch, poll: &Poll, votes: u64) -> Result<()> {
    let started = Instant::now();
    let mut connection = scratch.connect().await?;
    let sql = "INSERT INTO votes (key, voter, cast_at, poll, contestant) \
               SELECT (lpad(to_hex(($3 + n * 3600000 / $2) >> 12), 9, '0') || substr(md5(n::text), 1, 23))::uuid, \
                      hashint8(n), to_timestamp(($3 + n * 3600000 / $2) / 1000.0), $1, n % $4 + 1 \
               FROM generate_series(1, $2) AS n";
    let hour_ago = Clock::system().now().millis() - 3_600_000;
    let (votes, contestants) = (i64::try_from(votes)?, i64::from(CONTESTANTS));
    sqlx::query(sql)
        .bind(poll.id.0)
        .bind(votes)
        .bind(hour_ago)
        .bind(contestants)
        .execute(&mut connection)
        .await?;
    let sql = "UPDATE tallies SET votes = counted \
               FROM (SELECT contestant AS number, count(*) AS counted FROM votes GROUP BY contestant) AS ledger \
               WHERE contestant = number";
    sqlx::query(sql).execute(&mut connection).await?;
    println!("{votes} votes inserted: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Counts new votes until `stop` is set.
async fn write(ledger: Ledger, mut poll: Poll, pause: Duration, batches: Arc<Batches>) -> Result<()> {
    let hasher: VoterHasher = "0".repeat(64).parse()?;
    let message = Message {
        id: Uuid::nil(),
        sent_at: Clock::system().now(),
        voter: Some(hasher.voter("somebody")),
        request: VoteRequest::parse(&json!({"poll": poll.id.0, "contestant": 1}).to_string()),
    };
    let judged = Poll { opens_at: Some(poll.created_at), ..poll.clone() };
    let sample = judge(&message, Some(&judged), &hasher).find_map(Result::ok).context("not a valid vote")?;
    while !batches.stop.load(Ordering::Relaxed) {
        let prefix = (Clock::system().now().millis() as u128 >> 12) << 92;
        let ids: Vec<_> = (0..BATCH_VOTES).map(|_| Uuid::new_v4()).collect();
        let started = Instant::now();
        loop {
            let mut batch = Batch::default();
            batch.judged_by(poll.id, poll.version);
            for id in &ids {
                let key = VoteKey(Uuid::from_u128(prefix | id.as_u128() >> 36));
                batch.vote(*id, domain::Vote { key, ..sample });
            }
            match ledger.count(&batch).await? {
                Outcome::Counted(counted) => {
                    batches.votes.fetch_add(counted.counted, Ordering::Relaxed);
                    break;
                }
                // The rebuild creates a new version of the poll.
                Outcome::Stale => poll = ledger.polls(&[poll.id]).await?.pop().unwrap().poll,
            }
        }
        batches.durations_ms.lock().unwrap().push(started.elapsed().as_millis() as u64);
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

impl Batches {
    fn report(&self, when: &str) {
        let mut durations_ms = std::mem::take(&mut *self.durations_ms.lock().unwrap());
        durations_ms.sort_unstable();
        let of = |percent: usize| {
            durations_ms.get((durations_ms.len() * percent / 100).min(durations_ms.len().saturating_sub(1)))
        };
        println!(
            "  batches {when}: {}, median {} ms, 99 % {} ms, slowest {} ms",
            durations_ms.len(),
            of(50).unwrap_or(&0),
            of(99).unwrap_or(&0),
            durations_ms.last().unwrap_or(&0)
        );
    }
}
