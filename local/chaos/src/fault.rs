//! The kinds of faults and the record of the injected ones.
//!
//! To add a fault: 1. add a variant to [`Fault`]; its doc comment is the help text. 2. Give it a track in
//! `track_of` and a duration in `Plan::next` (`plan.rs`), and correct the counts in the test there. 3. Inject it in
//! `Injector::inject` (`injector.rs`), or before the load in `Run::prepare_ledger` (`lib.rs`). 4. Call [`Record::add`] where it takes effect: a fault that never happens
//! makes the verdict inconclusive.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use clap::ValueEnum;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Fault {
    /// SIGKILL a votes process during a batch
    Kill,
    /// A votes process dies at each named crash point of a batch
    Crash,
    /// A batch is delivered to two processes at once
    Duplicate,
    /// A counted batch is deleted only in part or not at all, and is redelivered
    LostAck,
    /// The answer to a batch is malformed, or names messages as failed
    BadResponse,
    /// SIGKILL and restart PostgreSQL
    PostgresKill,
    /// PostgreSQL is stopped for the length of an outage
    PostgresStop,
    /// PostgreSQL's connections stall, then deliver everything at once
    PostgresHang,
    /// PostgreSQL answers slowly
    PostgresSlow,
    /// The votes table is locked as by CREATE INDEX
    TableLock,
    /// PostgreSQL keeps its clients and refuses writes, as after a failover
    ReadOnly,
    /// All connections to both stores are ended
    ConnectionsIdleKilled,
    /// Before the run, the votes of an earlier, certified poll are in the ledger
    History,
    /// The planner's statistics of the votes are those of an empty table
    StatisticsStale,
    /// The event source is disabled: nothing is counted
    CountingStopped,
    /// New processes of the votes function cannot start, as after a broken release
    VotesBroken,
    /// The queue is as unreliable as SQS may be: stale counts, single messages late, any order, pausing pollers
    BadQueue,
    /// SIGKILL and restart Redis, empty
    RedisKill,
    /// Redis is stopped for the length of an outage and restarts empty
    RedisStop,
    /// FLUSHALL in Redis
    RedisFlush,
    /// Redis keeps its clients and its data and refuses writes, as after a failover
    RedisDemote,
    /// Redis's connections stall, then deliver everything at once
    RedisHang,
    /// Redis answers slowly
    RedisSlow,
    /// The clock of each process is wrong by up to an hour
    Clock,
}

/// The crash points of [`Fault::Crash`], named as in `functions/votes`.
pub const CRASH_POINTS: [&str; 5] = ["judged", "counting", "committed", "raising", "raised"];

impl Fault {
    /// Returns the name used on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Returns the fault's labels in the record: one for each crash point, else one.
    pub fn labels(self) -> Vec<String> {
        match self {
            Self::Crash => CRASH_POINTS.iter().map(|point| crash_label(point)).collect(),
            other => vec![other.name()],
        }
    }
}

/// Returns the label of a crash point.
pub fn crash_label(point: &str) -> String {
    format!("crash {point}")
}

/// The injected faults and the active ones.
#[derive(Debug)]
pub struct Record {
    requested: Vec<Fault>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    injected: BTreeMap<String, u64>,
    active: BTreeSet<String>,
}

impl Record {
    /// Returns an empty record. `requested` are the requested faults.
    pub fn new(requested: Vec<Fault>) -> Self {
        Self { requested, state: Mutex::default() }
    }

    /// Tells whether a fault was requested.
    pub fn is_requested(&self, fault: Fault) -> bool {
        self.requested.contains(&fault)
    }

    /// Counts one occurrence.
    pub fn add(&self, label: &str) {
        *self.lock().injected.entry(label.to_owned()).or_default() += 1;
    }

    /// Returns the number of occurrences of a label.
    pub fn count(&self, label: &str) -> u64 {
        self.lock().injected.get(label).copied().unwrap_or_default()
    }

    /// Returns the number of occurrences of all labels.
    pub fn total(&self) -> u64 {
        self.lock().injected.values().sum()
    }

    /// Returns the numbers of occurrences by label.
    pub fn injected(&self) -> BTreeMap<String, u64> {
        self.lock().injected.clone()
    }

    /// Returns the labels of requested faults that have not happened.
    pub fn missing(&self) -> Vec<String> {
        let state = self.lock();
        let labels = self.requested.iter().flat_map(|fault| fault.labels());
        labels.filter(|label| !state.injected.contains_key(label)).collect()
    }

    /// Marks a fault as active or over.
    pub fn set_active(&self, label: &str, on: bool) {
        let mut state = self.lock();
        if on {
            state.active.insert(label.to_owned());
        } else {
            state.active.remove(label);
        }
    }

    /// Returns the active faults, as text for people.
    pub fn active(&self) -> String {
        self.lock().active.iter().cloned().collect::<Vec<_>>().join(", ")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
