//! The counting protocol, checked in every order of its steps, with every fault at every step.
mod ledger;
mod mutation;
mod properties;
mod protocol;
mod redis;
mod scenario;
mod set;
mod state;
mod step;
mod witness;
mod worker;

use protocol::Protocol;
use scenario::{Cast, EARLY, LATE, LONG, SHORT, Scenario};
use state::Budget;
use stateright::{Checker, Model};

fn retry(poll: usize, at: i64) -> Cast {
    Cast { poll, at, id: Some(1) }
}
fn plain(poll: usize, at: i64) -> Cast {
    Cast { poll, at, id: None }
}

fn run(s: Scenario) {
    let t = std::time::Instant::now();
    let p = Protocol::new(s, None);
    let w = p.witness.clone();
    let name = p.scenario.name;
    let c = p.checker().spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, depth {}, {:?}",
        c.unique_state_count(),
        c.state_count(),
        c.max_depth(),
        t.elapsed()
    );
    println!("missing {:?}", w.missing());
    for (n, path) in c.discoveries() {
        println!("BROKEN {n}: {:?}", path.into_actions());
    }
}

fn env(k: &str) -> u8 {
    std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(0)
}

#[test]
fn probe() {
    let budget = Budget {
        failures: env("F"),
        redeliveries: env("R"),
        redis_faults: env("S"),
        changes: env("C"),
        rebuilds: env("B"),
        loads: env("L"),
        heals: 2 + 2 * (env("F") + env("S") + env("B") + env("R") + env("C")),
    };
    let messages = match env("M") {
        1 => vec![retry(0, EARLY)],
        2 => vec![retry(0, EARLY), plain(1, EARLY)],
        3 => vec![retry(0, EARLY), retry(0, EARLY), plain(1, EARLY)],
        4 => vec![retry(0, EARLY), retry(0, LATE)],
        5 => vec![plain(0, EARLY), plain(0, LATE)],
        6 => vec![retry(0, EARLY), retry(0, LATE), plain(0, LATE)],
        7 => vec![retry(0, LATE), plain(1, EARLY)],
        _ => vec![plain(0, EARLY), plain(0, EARLY), plain(1, EARLY)],
    };
    run(Scenario {
        name: "probe",
        workers: env("W").into(),
        messages,
        window: if env("X") == 1 { SHORT } else { LONG },
        drift: env("D"),
        budget,
    });
}
