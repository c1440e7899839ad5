//! Measures contention between batches: the same load counted by few and by many concurrent functions, on one poll
//! and on 100 polls in each batch. Uses the real ledger code and a durable PostgreSQL.
//!
//! ```sh
//! cargo run -p cli -- stores -- cargo run -p bench --example contention
//! ```
#![expect(clippy::unwrap_used, reason = "an error fails the measurement")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use domain::{ContestantNumber, Message, Poll, Vote, VoteKey, VoteRequest, VoterHasher, judge};
use ledger::{Batch, Ledger, Outcome};
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::json;
use tokio::sync::Barrier;
use uuid::Uuid;

/// The template's batch size.
const BATCH_VOTES: usize = 300;
const CONTESTANTS: i16 = 10;
/// PostgreSQL replans a prepared statement for its first five uses in a connection.
const WARM_UP_BATCHES: usize = 6;
/// Far longer than any batch waits; a batch that reaches it is reported as failed.
const TIMEOUT: Duration = Duration::from_secs(30);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

#[derive(Parser)]
struct Arguments {
    /// Numbers of concurrent functions; every round measures each of them
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 11, 50])]
    concurrency: Vec<usize>,
    /// Numbers of polls in each batch; one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    polls: Vec<usize>,
    /// Give votes UUIDv7 ids as clients do: keys then begin with the millisecond, not with 4,096 ms
    #[arg(long)]
    ids: bool,
    /// Rounds; the table has their median
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// Totals of one measurement.
#[derive(Default)]
struct Measurement {
    /// Votes counted before the measurement.
    warm_up: AtomicU64,
    votes: AtomicU64,
    elapsed_ms: AtomicU64,
    failures: AtomicU64,
    slowest_ms: AtomicU64,
}

struct Fixture {
    scratch: Scratch,
    polls: Arc<Vec<Poll>>,
    sample: Vote,
    /// Low bits of the millisecond clock that keys leave out.
    shift: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for &polls in &arguments.polls {
        let fixture = Fixture::new(polls, if arguments.ids { 0 } else { 12 }).await?;
        measure(&fixture, &arguments).await?;
    }
    Ok(())
}

async fn measure(fixture: &Fixture, arguments: &Arguments) -> Result<()> {
    println!("\n{} poll(s) in each batch of {BATCH_VOTES}, {CONTESTANTS} contestants", fixture.polls.len());
    let mut rates = BTreeMap::<usize, Vec<u64>>::new();
    let (mut counted, mut failures) = (0, 0);
    let mut slowest_ms = BTreeMap::<usize, u64>::new();
    let mut waits = BTreeMap::<(usize, String), u64>::new();
    for _ in 0..arguments.rounds {
        for &concurrency in &arguments.concurrency {
            let measurement =
                fixture.measurement(concurrency, Duration::from_secs(arguments.seconds), &mut waits).await?;
            let votes = measurement.votes.into_inner();
            counted += votes + measurement.warm_up.into_inner();
            failures += measurement.failures.into_inner();
            let rate = 1_000 * votes / measurement.elapsed_ms.into_inner();
            rates.entry(concurrency).or_default().push(rate);
            let slowest = slowest_ms.entry(concurrency).or_default();
            *slowest = measurement.slowest_ms.into_inner().max(*slowest);
        }
    }
    let medians: BTreeMap<_, _> =
        rates.iter().map(|(&concurrency, rates)| (concurrency, median(rates))).collect();
    let best = medians.values().copied().max().unwrap_or(1);
    println!("functions   votes/s  of best  slowest batch  rounds");
    for (concurrency, median) in &medians {
        let share = 100 * median / best;
        let slowest = slowest_ms[concurrency];
        println!("{concurrency:9} {median:9} {share:7}% {slowest:10} ms  {:?}", rates[concurrency]);
    }
    print_waits(&waits);
    let in_ledger = fixture.ledger_votes().await?;
    println!("failed batches: {failures}; counted {counted}, in ledger and tally {in_ledger}");
    ensure!(failures == 0 && counted == in_ledger, "contention must not fail a batch or lose a vote");
    Ok(())
}

fn print_waits(waits: &BTreeMap<(usize, String), u64>) {
    let mut totals = BTreeMap::<usize, u64>::new();
    for ((concurrency, _), seen) in waits {
        *totals.entry(*concurrency).or_default() += seen;
    }
    for (concurrency, total) in totals {
        let mut events: Vec<_> = waits.iter().filter(|((of, _), _)| *of == concurrency).collect();
        events.sort_by_key(|(_, seen)| std::cmp::Reverse(**seen));
        let shown =
            events.iter().take(4).map(|((_, event), seen)| format!("{event} {}%", **seen * 100 / total));
        println!(
            "  {concurrency} functions, wait events of their sessions: {}",
            shown.collect::<Vec<_>>().join(", ")
        );
    }
}

fn median(rates: &[u64]) -> u64 {
    let mut sorted = rates.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

impl Fixture {
    async fn new(polls: usize, shift: u32) -> Result<Self> {
        let scratch = Scratch::new().await?;
        let ledger = Ledger::new(&scratch.database_url, TIMEOUT)?;
        let contestants: Vec<_> =
            (1..=CONTESTANTS).map(|number| json!({"name": number.to_string()})).collect();
        let draft = serde_json::from_value(json!({ "title": "Contention", "contestants": contestants }))?;
        let mut created = Vec::new();
        for _ in 0..polls {
            let poll = ledger.create_poll(&draft, "crew").await?.poll;
            created.push(Poll { opens_at: Some(poll.created_at), ..poll });
        }
        let hasher: VoterHasher = "0".repeat(64).parse()?;
        let message = Message {
            id: Uuid::nil(),
            sent_at: Clock::system().now(),
            voter: Some(hasher.voter("somebody")),
            request: VoteRequest::parse(&json!({"poll": created[0].id.0, "contestant": 1}).to_string()),
        };
        let sample = judge(&message, Some(&created[0]), &hasher).find_map(Result::ok);
        let sample = sample.context("not a valid vote")?;
        Ok(Self { scratch, polls: Arc::new(created), sample, shift })
    }

    /// Counts batches of new votes for some seconds, after a warm-up.
    async fn measurement(
        &self,
        concurrency: usize,
        time: Duration,
        waits: &mut BTreeMap<(usize, String), u64>,
    ) -> Result<Measurement> {
        let measurement = Arc::new(Measurement::default());
        let warm = Arc::new(Barrier::new(concurrency + 1));
        let functions: Vec<_> = (0..concurrency)
            .map(|_| {
                let ledger = Ledger::new(&self.scratch.database_url, TIMEOUT)?;
                let (polls, sample, shift) = (Arc::clone(&self.polls), self.sample, self.shift);
                let (measurement, warm) = (Arc::clone(&measurement), Arc::clone(&warm));
                Ok(tokio::spawn(async move {
                    let before = Measurement::default();
                    for _ in 0..WARM_UP_BATCHES {
                        count(&ledger, &batch(&polls, &sample, shift), &before).await;
                    }
                    measurement.warm_up.fetch_add(before.votes.into_inner(), Ordering::Relaxed);
                    measurement.failures.fetch_add(before.failures.into_inner(), Ordering::Relaxed);
                    warm.wait().await;
                    let ends = Instant::now() + time;
                    while Instant::now() < ends {
                        count(&ledger, &batch(&polls, &sample, shift), &measurement).await;
                    }
                }))
            })
            .collect::<Result<_>>()?;
        warm.wait().await;
        let started = Instant::now();
        self.sample_waits(started + time, concurrency, waits).await?;
        for function in functions {
            function.await?;
        }
        measurement.elapsed_ms.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok(Arc::into_inner(measurement).unwrap())
    }

    async fn sample_waits(
        &self,
        ends: Instant,
        concurrency: usize,
        waits: &mut BTreeMap<(usize, String), u64>,
    ) -> Result<()> {
        let mut connection = self.scratch.connect().await?;
        let sql = "SELECT coalesce(wait_event_type || ':' || wait_event, 'CPU') FROM pg_stat_activity \
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
        while Instant::now() < ends {
            for event in sqlx::query_scalar::<_, String>(sql).fetch_all(&mut connection).await? {
                *waits.entry((concurrency, event)).or_default() += 1;
            }
            tokio::time::sleep(SAMPLE_EVERY).await;
        }
        Ok(())
    }

    /// Returns the number of rows of votes and checks that the tallies agree.
    async fn ledger_votes(&self) -> Result<u64> {
        let mut connection = self.scratch.connect().await?;
        let sql = "SELECT (SELECT count(*) FROM votes), (SELECT sum(votes)::bigint FROM tallies)";
        let (votes, tally): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
        ensure!(votes == tally, "{votes} votes, but the tallies have {tally}");
        Ok(votes.unsigned_abs())
    }
}

async fn count(ledger: &Ledger, batch: &Batch, measurement: &Measurement) {
    let started = Instant::now();
    match ledger.count(batch).await {
        Ok(Outcome::Counted(counted)) => measurement.votes.fetch_add(counted.counted, Ordering::Relaxed),
        Ok(Outcome::Stale) => measurement.failures.fetch_add(1, Ordering::Relaxed),
        Err(error) => {
            eprintln!("{:?}", anyhow::Error::from(error));
            measurement.failures.fetch_add(1, Ordering::Relaxed)
        }
    };
    measurement.slowest_ms.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
}

/// Returns a batch of new votes, spread evenly over polls and contestants, with keys like those of votes cast now.
fn batch(polls: &[Poll], sample: &Vote, shift: u32) -> Batch {
    let mut batch = Batch::default();
    for poll in polls {
        batch.judged_by(poll.id, poll.version);
    }
    let now = Clock::system().now();
    let prefix = (now.millis() as u128 >> shift) << (80 + shift);
    for number in 0..BATCH_VOTES {
        let message = Uuid::new_v4();
        let vote = Vote {
            key: VoteKey(Uuid::from_u128(prefix | message.as_u128() >> (48 - shift))),
            poll: polls[number % polls.len()].id,
            contestant: ContestantNumber((number / polls.len()) as i16 % CONTESTANTS + 1),
            cast_at: now,
            ..*sample
        };
        batch.vote(message, vote);
    }
    batch
}
