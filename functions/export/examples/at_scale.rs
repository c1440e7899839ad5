//! Exports a poll of many votes into a fake bucket that discards them. Prints votes per second and memory, which
//! must not grow with the number of votes.
//!
//! `local stores -- cargo run --example at_scale -- 1000000 4000000` exports these numbers of votes, one run after
//! the other.

use std::{
    io::Error,
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::DefaultBodyLimit, http::Method};
use domain::{Basis, PollId};
use export::Handler;
use ledger::Ledger;
use local_stores::scratch::Scratch;
use runtime::Clock;

const LIMIT: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{:>10} {:>8} {:>10} {:>12} {:>14} {:>14}",
        "votes", "s", "votes/s", "bytes/vote", "memory, MB", "at most, MB"
    );
    for votes in std::env::args().skip(1) {
        export(votes.parse()?).await?;
    }
    Ok(())
}

async fn export(votes: i64) -> Result<(), Box<dyn std::error::Error>> {
    let scratch = Scratch::new().await?;
    let endpoint = bucket().await?;
    let lookup = |name: &str| match name {
        "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
        "CALL_TIMEOUT_MS" => Some("20000".to_owned()),
        "PART_BYTES" => Some("8388608".to_owned()),
        "SHIFT_SECONDS" => Some("50".to_owned()),
        _ => scratch.environment(name),
    };
    let handler = Handler::new(&lookup, &Clock::system())?;
    let ledger = Ledger::new(&scratch.database_url, LIMIT)?;
    let poll = certified(&scratch, &ledger, votes).await?;
    let before = memory("VmRSS:")?;
    let (started, mut shifts) = (Instant::now(), 0);
    ledger.ask_for_export(poll, LIMIT).await?;
    let done = loop {
        handler.handle().await?;
        shifts += 1;
        let export = ledger.export(poll).await?.ok_or_else(|| Error::other("no export"))?;
        if export.finished_at.is_some() {
            break export;
        }
    };
    let took = started.elapsed().as_secs_f64();
    println!(
        "{votes:>10} {took:>8.1} {:>10.0} {:>12.1} {:>14} {:>14}   {} parts, {shifts} shifts",
        votes as f64 / took,
        done.bytes as f64 / votes.max(1) as f64,
        before / 1024,
        memory("VmHWM:")? / 1024,
        done.etags.len(),
    );
    Ok(())
}

/// Starts a fake S3 that accepts and discards every part.
async fn bucket() -> Result<String, Error> {
    let answer = |method: Method, _: Bytes| async move {
        let begun = "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
        ([("etag", "\"1\"")], if method == Method::POST { begun } else { "" })
    };
    let router = Router::new().fallback(answer).layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(endpoint)
}

/// Creates a certified poll with realistic votes: keys that begin with a time, and pseudonyms.
async fn certified(
    scratch: &Scratch,
    ledger: &Ledger,
    votes: i64,
) -> Result<PollId, Box<dyn std::error::Error>> {
    let mut connection = scratch.connect().await?;
    let sql = "INSERT INTO polls (title, opens_at, closes_at, results, contestants) \
               VALUES ('Who stays?', now() - interval '1 hour', now() - interval '1 minute', 'live', '[]') RETURNING id";
    let id: i32 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
    let sql = "INSERT INTO votes (key, voter, cast_at, poll, contestant) SELECT (lpad(to_hex(1700000000 + n / 3000), 9, '0') || substr(md5(n::text), 1, 23))::uuid, \
               ('x' || substr(md5((n / 3)::text), 1, 16))::bit(64)::bigint, now() - n * interval '1 millisecond', $1, n % 12 + 1 \
               FROM generate_series(1, $2) AS n";
    sqlx::query(sql).bind(id).bind(votes).execute(&mut connection).await?;
    let sql = "INSERT INTO tallies SELECT poll, contestant, count(*), count(*) FROM votes WHERE poll = $1 GROUP BY poll, contestant";
    sqlx::query(sql).bind(id).execute(&mut connection).await?;
    sqlx::query("VACUUM ANALYZE votes").execute(&mut connection).await?;
    ledger.certify(PollId(id), Basis::Forced).await?;
    while !ledger.advance_supplement(PollId(id), 200_000, LIMIT).await? {}
    Ok(PollId(id))
}

/// Returns a memory figure of this process, in kB.
fn memory(which: &str) -> Result<u64, Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let figure = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    figure.ok_or_else(|| Error::other("no figure of memory"))
}
