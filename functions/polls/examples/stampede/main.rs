//! Measures a cache stampede: USERS viewers request one ranking at the same moment, at each expiry, while a load
//! from the ledger takes half a second. Prints the loads per expiry and the viewers' latency, with each protection
//! disabled in turn.
//!
//! The edge is configured by `template.yaml`. Behind it are FLEET real handlers with connections of their own; each
//! takes one request at a time, as in Lambda. Run it with `make loadtest SCENARIO=stampede`.
#![expect(clippy::unwrap_used, reason = "a failed measurement needs no error handling")]

mod test_bed;

use std::{env, time::Duration};

use test_bed::{Disabled, Round, TestBed};

/// The disabled protections of each row.
const ROWS: [(&str, Disabled); 4] = [
    ("nothing", Disabled { edge_cache: false, lease: false }),
    ("edge cache", Disabled { edge_cache: true, lease: false }),
    ("lease", Disabled { edge_cache: false, lease: true }),
    ("edge cache, lease", Disabled { edge_cache: true, lease: true }),
];

/// The interval of rounds: `s-maxage`, the load of half a second, and a margin.
const ROUND_INTERVAL: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (users, fleet, rounds) = (number("USERS", 2_000), number("FLEET", 80), number("ROUNDS", 8));
    println!("{users} viewers at once, {fleet} instances, a load takes 500 ms, {rounds} expiries\n");
    println!("| switched off | PostgreSQL | loads | origin requests | p50 ms | p95 ms | worst ms | failed |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, disabled) in ROWS {
        let test_bed = TestBed::new(disabled, fleet).await;
        print(name, "cold start", &[test_bed.round(users).await]);
        print(name, "answers", &test_bed.rounds(users, rounds, ROUND_INTERVAL).await);
        test_bed.hang_the_ledger().await;
        print(name, "hangs", &test_bed.rounds(users, rounds, ROUND_INTERVAL).await);
    }
}

/// Prints one row; loads and origin requests are means of the rounds.
fn print(disabled: &str, ledger: &str, rounds: &[Round]) {
    let mut waits_ms: Vec<_> = rounds.iter().flat_map(|round| round.waits_ms.iter().copied()).collect();
    waits_ms.sort_by(f64::total_cmp);
    let mean =
        |figure: fn(&Round) -> u64| rounds.iter().map(figure).sum::<u64>() as f64 / rounds.len() as f64;
    let at = |part: f64| waits_ms[((waits_ms.len() - 1) as f64 * part) as usize];
    println!(
        "| {disabled} | {ledger} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {} |",
        mean(|round| round.loads),
        mean(|round| round.origin_requests),
        at(0.5),
        at(0.95),
        at(1.0),
        rounds.iter().map(|round| round.failed).sum::<u64>(),
    );
}
