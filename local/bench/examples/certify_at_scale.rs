//! Measures the certification of large polls and its supplement, beside many votes of other polls.
//!
//! ```sh
//! cargo run -p cli -- stores -- cargo run -p bench --example certify_at_scale -- 1000 1000000 10000000
//! ```

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use domain::{Basis, PollId, Recount, Timestamp};
use ledger::{Ledger, PIECE_ROWS};
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const CONTESTANTS: i16 = 10;
/// Longer than any call that ends.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Votes of one earlier poll.
const EARLIER_POLL_VOTES: u64 = 1_000_000;
const FIRST_EARLIER_POLL: u64 = 1_000_000;

#[derive(Parser)]
struct Arguments {
    /// Votes of each measured poll
    votes: Vec<u64>,
    /// Votes of other polls
    #[arg(long, default_value_t = 50_000_000)]
    history: u64,
    /// Measure polls with a limit, whose keys have no order in time
    #[arg(long)]
    ballots: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scratch = Scratch::new().await?;
    let ledger = Ledger::new(&scratch.database_url, TIMEOUT)?;
    let mut owner = scratch.connect().await?;
    let mut polls = Vec::new();
    for _ in &arguments.votes {
        polls.push(create_poll(&ledger).await?);
    }
    let started = Instant::now();
    fill(&mut owner, &arguments, &polls).await?;
    println!("the ledger is filled: {:.0} s", started.elapsed().as_secs_f64());
    println!("{:>10} {:>12} {:>12} {:>14}", "votes", "certified, s", "supplement, s", "pieces");
    for (poll, votes) in polls.into_iter().zip(arguments.votes) {
        let started = Instant::now();
        ledger.certify(poll, Basis::Forced).await?;
        let certified = started.elapsed().as_secs_f64();
        let (started, mut pieces) = (Instant::now(), 1);
        while !ledger.advance_supplement(poll, PIECE_ROWS, TIMEOUT).await? {
            pieces += 1;
        }
        let supplemented = started.elapsed().as_secs_f64();
        let recount = ledger.certificate(poll).await?.and_then(|certificate| certificate.recount());
        ensure!(recount == Some(Recount::Equal), "the recount of {votes} votes is {recount:?}");
        println!("{votes:>10} {certified:>12.3} {supplemented:>12.1} {pieces:>14}");
    }
    Ok(())
}

async fn create_poll(ledger: &Ledger) -> Result<PollId> {
    let contestants: Vec<_> = (1..=CONTESTANTS).map(|number| json!({"name": number.to_string()})).collect();
    let now = Clock::system().now().millis();
    let [opens_at, closes_at] = [now - 3_600_000, now - 1_000].map(Timestamp::from_millis);
    let draft =
        json!({"title": "Scale", "contestants": contestants, "opensAt": opens_at, "closesAt": closes_at});
    Ok(ledger.create_poll(&serde_json::from_value(draft)?, "crew").await?.poll.id)
}

/// Inserts all votes, then builds the index, which takes one sort instead of a million descents.
async fn fill(owner: &mut PgConnection, arguments: &Arguments, polls: &[PollId]) -> Result<()> {
    sqlx::query("ALTER TABLE votes DROP CONSTRAINT votes_pkey").execute(&mut *owner).await?;
    let mut earlier = arguments.history;
    for poll in FIRST_EARLIER_POLL.. {
        let votes = earlier.min(EARLIER_POLL_VOTES);
        if votes == 0 {
            break;
        }
        insert(owner, poll, votes, false).await?;
        earlier -= votes;
    }
    for (poll, &votes) in polls.iter().zip(&arguments.votes) {
        insert(owner, poll.0.unsigned_abs().into(), votes, arguments.ballots).await?;
        let sql = "UPDATE tallies SET votes = counted FROM ( \
                       SELECT contestant AS number, count(*) AS counted FROM votes WHERE poll = $1 GROUP BY contestant \
                   ) AS ledger WHERE poll = $1 AND contestant = number";
        sqlx::query(sql).bind(poll.0).execute(&mut *owner).await?;
    }
    for sql in [
        "SET maintenance_work_mem = '1GB'",
        "ALTER TABLE votes ADD PRIMARY KEY (poll, key)",
        "VACUUM (FREEZE) votes",
        "CHECKPOINT",
    ] {
        sqlx::query(sql).execute(&mut *owner).await?;
    }
    owner.ping().await?;
    Ok(())
}

/// Inserts votes of a poll as if they had been counted over an hour.
async fn insert(owner: &mut PgConnection, poll: u64, votes: u64, is_limited: bool) -> Result<()> {
    let time = if is_limited { "0" } else { "(1750000000000 + n * 3600000 / GREATEST(1, {votes})) >> 12" };
    let time = time.replace("{votes}", &votes.to_string());
    let sql = format!(
        "INSERT INTO votes (key, voter, cast_at, poll, contestant, ballot) \
         SELECT (lpad(to_hex({time}), 9, '0') || substr(md5(n::text), 1, 23))::uuid, hashint8extended(n / 3, 0), \
                to_timestamp(1750000000 + n / 1000.0), {poll}, n % {CONTESTANTS} + 1, \
                CASE WHEN {is_limited} THEN 1 END \
         FROM generate_series(1::bigint, {votes}) AS n"
    );
    sqlx::query(AssertSqlSafe(sql)).execute(owner).await?;
    Ok(())
}
