//! Measures how batches get in each other's way: the same votes counted by few and by many functions at once, on one
//! poll, and on 100 polls in the same batches. Real ledger code, real PostgreSQL with its durability.
//!
//! ```sh
//! cargo run -p cli -- stores -- cargo run -p bench --example contention
//! ```
#![expect(clippy::unwrap_used, reason = "what fails here fails the measurement")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Parser;
use domain::{ContestantNumber, Message, Poll, Vote, VoteKey, VoteRequest, VoterHasher, judge};
use ledger::{Batch, Ledger, Outcome};
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::json;
use tokio::sync::Barrier;
use uuid::Uuid;

/// A batch, as the template sets it.
const BATCH_VOTES: usize = 300;
const CONTESTANTS: i16 = 10;
/// PostgreSQL plans a statement anew for its first five uses in a connection.
const WARM_UP_BATCHES: usize = 6;
/// Far longer than any batch waits: what takes this long is reported as a failure.
const PATIENCE: Duration = Duration::from_secs(30);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

#[derive(Parser)]
struct Arguments {
    /// Functions at once; each number takes its turn in every round
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 11, 50])]
    concurrency: Vec<usize>,
    /// Polls in each batch; one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100])]
    polls: Vec<usize>,
    /// The votes have UUIDv7 ids of their clients: keys by the millisecond, in place of 4,096
    #[arg(long)]
    ids: bool,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds a turn lasts
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// What one turn came to.
#[derive(Default)]
struct Turn {
    /// Counted before the turn began.
    warm_up: AtomicU64,
    votes: AtomicU64,
    elapsed_ms: AtomicU64,
    failures: AtomicU64,
    slowest_ms: AtomicU64,
}

struct Bench {
    scratch: Scratch,
    polls: Arc<Vec<Poll>>,
    sample: Vote,
    /// Bits of the millisecond clock that keys leave out.
    shift: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    for &polls in &arguments.polls {
        let bench = Bench::new(polls, if arguments.ids { 0 } else { 12 }).await?;
        measure(&bench, &arguments).await?;
    }
    Ok(())
}

async fn measure(bench: &Bench, arguments: &Arguments) -> Result<()> {
    println!("\n{} poll(s) in each batch of {BATCH_VOTES}, {CONTESTANTS} contestants", bench.polls.len());
    let mut rates = BTreeMap::<usize, Vec<u64>>::new();
    let (mut counted, mut failures) = (0, 0);
    let mut slowest_ms = BTreeMap::<usize, u64>::new();
    let mut waits = BTreeMap::<(usize, String), u64>::new();
    for _ in 0..arguments.rounds {
        for &concurrency in &arguments.concurrency {
            let turn = bench.turn(concurrency, Duration::from_secs(arguments.seconds), &mut waits).await?;
            let votes = turn.votes.into_inner();
            counted += votes + turn.warm_up.into_inner();
            failures += turn.failures.into_inner();
            let rate = 1_000 * votes / turn.elapsed_ms.into_inner();
            rates.entry(concurrency).or_default().push(rate);
            let slowest = slowest_ms.entry(concurrency).or_default();
            *slowest = turn.slowest_ms.into_inner().max(*slowest);
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
    let in_ledger = bench.ledger_votes().await?;
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
            "  {concurrency} functions, what their sessions were at: {}",
            shown.collect::<Vec<_>>().join(", ")
        );
    }
}

fn median(rates: &[u64]) -> u64 {
    let mut sorted = rates.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

impl Bench {
    async fn new(polls: usize, shift: u32) -> Result<Self> {
        let scratch = Scratch::new().await?;
        let ledger = Ledger::new(&scratch.database_url, PATIENCE)?;
        let contestants: Vec<_> =
            (1..=CONTESTANTS).map(|number| json!({"name": number.to_string()})).collect();
        let draft = serde_json::from_value(json!({ "title": "Contention", "contestants": contestants }))?;
        let mut made = Vec::new();
        for _ in 0..polls {
            let poll = ledger.create_poll(&draft, "crew").await?.poll;
            made.push(Poll { opens_at: Some(poll.created_at), ..poll });
        }
        let hasher: VoterHasher = "0".repeat(64).parse()?;
        let message = Message {
            id: Uuid::nil(),
            sent_at: Clock::system().now(),
            voter: Some(hasher.voter("somebody")),
            request: VoteRequest::parse(&json!({"poll": made[0].id.0, "contestant": 1}).to_string()),
        };
        let sample = judge(&message, Some(&made[0]), &hasher).map_err(|why| anyhow::anyhow!("{why:?}"))?;
        Ok(Self { scratch, polls: Arc::new(made), sample, shift })
    }

    /// Counts batches of new votes for some seconds, from functions that are warm.
    async fn turn(
        &self,
        concurrency: usize,
        time: Duration,
        waits: &mut BTreeMap<(usize, String), u64>,
    ) -> Result<Turn> {
        let turn = Arc::new(Turn::default());
        let warm = Arc::new(Barrier::new(concurrency + 1));
        let functions: Vec<_> = (0..concurrency)
            .map(|_| {
                let ledger = Ledger::new(&self.scratch.database_url, PATIENCE)?;
                let (polls, sample, shift) = (Arc::clone(&self.polls), self.sample, self.shift);
                let (turn, warm) = (Arc::clone(&turn), Arc::clone(&warm));
                Ok(tokio::spawn(async move {
                    let before = Turn::default();
                    for _ in 0..WARM_UP_BATCHES {
                        count(&ledger, &batch(&polls, &sample, shift), &before).await;
                    }
                    turn.warm_up.fetch_add(before.votes.into_inner(), Ordering::Relaxed);
                    turn.failures.fetch_add(before.failures.into_inner(), Ordering::Relaxed);
                    warm.wait().await;
                    let ends = Instant::now() + time;
                    while Instant::now() < ends {
                        count(&ledger, &batch(&polls, &sample, shift), &turn).await;
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
        turn.elapsed_ms.store(started.elapsed().as_millis() as u64, Ordering::Relaxed);
        Ok(Arc::into_inner(turn).unwrap())
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

    /// The votes, counted one by one, after checking that the tallies say the same.
    async fn ledger_votes(&self) -> Result<u64> {
        let mut connection = self.scratch.connect().await?;
        let sql = "SELECT (SELECT count(*) FROM votes), (SELECT sum(votes)::bigint FROM tallies)";
        let (votes, tally): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
        ensure!(votes == tally, "{votes} votes, but the tallies say {tally}");
        Ok(votes.unsigned_abs())
    }
}

async fn count(ledger: &Ledger, batch: &Batch, turn: &Turn) {
    let started = Instant::now();
    match ledger.count(batch).await {
        Ok(Outcome::Counted(counted)) => turn.votes.fetch_add(counted.counted, Ordering::Relaxed),
        Ok(Outcome::Stale) => turn.failures.fetch_add(1, Ordering::Relaxed),
        Err(error) => {
            eprintln!("{:?}", anyhow::Error::from(error));
            turn.failures.fetch_add(1, Ordering::Relaxed)
        }
    };
    turn.slowest_ms.fetch_max(started.elapsed().as_millis() as u64, Ordering::Relaxed);
}

/// New votes, spread evenly over polls and contestants, with keys as votes cast now have them.
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
        batch.vote(message, &vote);
    }
    batch
}
