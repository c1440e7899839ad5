//! The test of a stampede: USERS viewers ask for one ranking at the same moment, again and again as it expires, while a
//! load from the ledger takes half a second. Prints, with each protection switched off in turn, how many loads an
//! expiry costs and how long the viewers wait.
//!
//! The edge is the one of `template.yaml`; behind it are FLEET real handlers with connections of their own, each with
//! one request at a time, as Lambda has them. `make loadtest SCENARIO=stampede`.
#![expect(clippy::unwrap_used, reason = "a measurement that fails has no other caller than its reader")]

mod stage;

use std::{env, time::Duration};

use stage::{Off, Round, Stage};

/// What is switched off.
const ROWS: [(&str, Off); 4] = [
    ("nothing", Off { edge_cache: false, lease: false }),
    ("edge cache", Off { edge_cache: true, lease: false }),
    ("lease", Off { edge_cache: false, lease: true }),
    ("edge cache, lease", Off { edge_cache: true, lease: true }),
];

/// From one round to the next: s-maxage, the load of half a second, and some.
const ROUND_INTERVAL: Duration = Duration::from_secs(4);

#[tokio::main]
async fn main() {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (users, fleet, rounds) = (number("USERS", 2_000), number("FLEET", 80), number("ROUNDS", 8));
    println!("{users} viewers at once, {fleet} instances, a load takes 500 ms, {rounds} expiries\n");
    println!("| switched off | PostgreSQL | loads | origin requests | p50 ms | p95 ms | worst ms | failed |");
    println!("|---|---|---|---|---|---|---|---|");
    for (name, off) in ROWS {
        let stage = Stage::new(off, fleet).await;
        print(name, "cold start", &[stage.round(users).await]);
        print(name, "answers", &stage.rounds(users, rounds, ROUND_INTERVAL).await);
        stage.hang_the_ledger().await;
        print(name, "hangs", &stage.rounds(users, rounds, ROUND_INTERVAL).await);
    }
}

/// One line; loads and origin requests are means of the rounds.
fn print(off: &str, ledger: &str, rounds: &[Round]) {
    let mut waits_ms: Vec<_> = rounds.iter().flat_map(|round| round.waits_ms.iter().copied()).collect();
    waits_ms.sort_by(f64::total_cmp);
    let mean =
        |figure: fn(&Round) -> u64| rounds.iter().map(figure).sum::<u64>() as f64 / rounds.len() as f64;
    let at = |part: f64| waits_ms[((waits_ms.len() - 1) as f64 * part) as usize];
    println!(
        "| {off} | {ledger} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {} |",
        mean(|round| round.loads),
        mean(|round| round.origin_requests),
        at(0.5),
        at(0.95),
        at(1.0),
        rounds.iter().map(|round| round.failed).sum::<u64>(),
    );
}
