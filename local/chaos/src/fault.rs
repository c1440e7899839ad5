//! What can be broken, and the record of what was.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use clap::ValueEnum;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Fault {
    /// SIGKILL of a votes process in mid-batch
    Kill,
    /// A votes process dies at each named point inside a batch
    Crash,
    /// A batch is delivered to two processes at once
    Duplicate,
    /// A counted batch is not deleted, or only in part, and comes again
    LostAck,
    /// The answer to a batch is malformed, or names messages as failed
    BadResponse,
    /// SIGKILL of PostgreSQL, and a new start
    PostgresKill,
    /// PostgreSQL is stopped for a long time
    PostgresStop,
    /// PostgreSQL's connections say nothing, then all at once
    PostgresHang,
    /// PostgreSQL answers late
    PostgresSlow,
    /// A lock on the votes that CREATE INDEX takes is held
    TableLock,
    /// The event source is disabled: nothing is counted
    CountingStopped,
    /// A release of the votes function that cannot start
    VotesBroken,
    /// The queue behaves as badly as SQS may: old counts, single messages late, any order, pollers that pause
    BadQueue,
    /// SIGKILL of Redis, and a new start, empty
    RedisKill,
    /// Redis is stopped for a long time, and comes back empty
    RedisStop,
    /// FLUSHALL
    RedisFlush,
    /// Redis's connections say nothing, then all at once
    RedisHang,
    /// Redis answers late
    RedisSlow,
    /// Each process has a clock of its own, up to an hour wrong
    Clock,
}

/// The points of [`Fault::Crash`], as `functions/votes` names them.
pub const CRASH_POINTS: [&str; 5] = ["judged", "counting", "committed", "raising", "raised"];

impl Fault {
    /// As on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What the record calls it: one label, but for crashes one for each point.
    pub fn labels(self) -> Vec<String> {
        match self {
            Self::Crash => CRASH_POINTS.iter().map(|point| crash_label(point)).collect(),
            other => vec![other.name()],
        }
    }
}

/// The label of a crash point.
pub fn crash_label(point: &str) -> String {
    format!("crash {point}")
}

/// What has been injected so far, and what is going on.
#[derive(Debug)]
pub struct Record {
    wanted: Vec<Fault>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    injected: BTreeMap<String, u64>,
    going_on: BTreeSet<String>,
}

impl Record {
    /// Nothing yet.
    pub fn new(wanted: Vec<Fault>) -> Self {
        Self { wanted, state: Mutex::default() }
    }

    /// Whether a fault was asked for.
    pub fn wants(&self, fault: Fault) -> bool {
        self.wanted.contains(&fault)
    }

    /// It has happened once more.
    pub fn add(&self, label: &str) {
        *self.lock().injected.entry(label.to_owned()).or_default() += 1;
    }

    /// How often it has happened.
    pub fn count(&self, label: &str) -> u64 {
        self.lock().injected.get(label).copied().unwrap_or_default()
    }

    /// How often anything has happened.
    pub fn total(&self) -> u64 {
        self.lock().injected.values().sum()
    }

    /// All that has happened, by label.
    pub fn injected(&self) -> BTreeMap<String, u64> {
        self.lock().injected.clone()
    }

    /// Labels of what was asked for and has not happened.
    pub fn missing(&self) -> Vec<String> {
        let state = self.lock();
        let labels = self.wanted.iter().flat_map(|fault| fault.labels());
        labels.filter(|label| !state.injected.contains_key(label)).collect()
    }

    /// Shows it as going on, or no more.
    pub fn set_going_on(&self, label: &str, on: bool) {
        let mut state = self.lock();
        if on {
            state.going_on.insert(label.to_owned());
        } else {
            state.going_on.remove(label);
        }
    }

    /// What is going on, for people.
    pub fn going_on(&self) -> String {
        self.lock().going_on.iter().cloned().collect::<Vec<_>>().join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
