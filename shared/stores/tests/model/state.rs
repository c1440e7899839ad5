//! The state of the model.

use crate::{scenario::FROZEN, set::Set};

/// Polls of every scenario. There are two, so that a pipeline can end in the middle.
pub const POLLS: usize = 2;
/// Epochs: before and after the rebuild.
pub const EPOCHS: usize = 2;
/// Maximum number of messages in a scenario.
pub const MESSAGES_MAX: usize = 4;
/// Maximum number of instances of `functions/votes` in a scenario.
pub const WORKERS_MAX: usize = 3;

/// The relevant parts of a poll's definition: `polls.version`, its window, `polls.epoch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Definition {
    /// Version; 0 if unknown.
    pub version: u8,
    /// Index into [`WINDOWS`](crate::scenario::WINDOWS).
    pub window: u8,
    /// Epoch, from 0.
    pub epoch: u8,
}

/// Definitions by poll.
pub type Definitions = [Definition; POLLS];

/// The queue. A message in neither set is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Queue {
    /// Messages to deliver.
    pub waiting: Set,
    /// Acknowledged messages.
    pub deleted: Set,
}

/// PostgreSQL's committed data, visible to every transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ledger {
    /// `polls`.
    pub polls: Definitions,
    /// Rows of `votes`, by the message that they were inserted for.
    pub rows: [u8; MESSAGES_MAX],
    /// `tallies`.
    pub tally: [u8; POLLS],
    /// `rejections`.
    pub rejected: Set,
    /// Whether `signs` has an unexpired sign.
    pub signed: bool,
    /// Not in PostgreSQL: initial excess of the first poll's tally, until a rebuild.
    pub drift: u8,
    /// Not in PostgreSQL: whether a batch was ever committed by an old definition.
    pub outdated: bool,
}

/// Redis's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Redis {
    /// Whether Redis refuses every command.
    pub down: bool,
    /// `poll:{id}`.
    pub cached: Definitions,
    /// `ranking:{id}:{epoch}`; 0 if absent.
    pub ranking: [[u8; EPOCHS]; POLLS],
}

/// The effects and locks of an open transaction of `count_votes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    /// Messages with inserted votes.
    pub inserted: Set,
    /// Messages with recorded rejections.
    pub recorded: Set,
    /// The totals of the answer after the commit.
    pub totals: [u8; POLLS],
}

/// A call of `count_votes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// The messages.
    pub batch: Set,
    /// The definitions by which they were judged.
    pub judged: Definitions,
    /// The open transaction; `None` before the start.
    pub transaction: Option<Transaction>,
}

/// A sent pipeline of `ZADD`s, not yet completely executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pipeline {
    /// Totals by poll.
    pub totals: [u8; POLLS],
    /// Epochs by poll.
    pub epochs: [u8; POLLS],
    /// Polls whose `ZADD` is not executed yet; Redis executes them in order.
    pub remaining: Set,
}

/// Progress of an instance of `functions/votes` in `Handler::handle`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Between two batches.
    #[default]
    Idle,
    /// Holds a batch, before `Definitions::find`.
    Holding(Set),
    /// The batch is judged; `count_votes` has not started, or its transaction is open.
    Counting(Call),
    /// A definition has changed; before `Definitions::reload`.
    Stale(Set),
    /// Only with [`Mutation::TallyApart`](crate::mutation::Mutation::TallyApart): the votes are committed, the
    /// tally is not.
    Adding(Call),
    /// Committed and visible; possibly not on disk yet.
    Committed(Set, Pipeline),
    /// On disk; the ranking is being raised.
    Raising(Set, Pipeline),
    /// The ranking is raised; before the acknowledgement.
    Raised(Set),
}

/// A batch's announcement to `functions/results`. Used in scenarios that certify, until the certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Announcement {
    /// There is no batch, or its announcement was removed.
    #[default]
    None,
    /// Redis was unavailable when the batch was delivered.
    Failed,
    /// Redis has lost the announcement.
    Lost,
    /// Redis has the announcement.
    Present,
    /// Redis has the announcement since before the probes were decided: certification waits for it.
    Awaited,
}

/// An instance of `functions/votes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    /// The instance's cache: `entries` of `Definitions`.
    pub memory: Definitions,
    /// Progress of the current batch.
    pub phase: Phase,
    /// Announcement of the current batch.
    pub announcement: Announcement,
}

impl Worker {
    /// Returns the messages that the worker holds.
    pub fn batch(&self) -> Set {
        match self.phase {
            Phase::Idle => Set::EMPTY,
            Phase::Counting(call) | Phase::Adding(call) => call.batch,
            Phase::Holding(batch)
            | Phase::Stale(batch)
            | Phase::Committed(batch, _)
            | Phase::Raising(batch, _)
            | Phase::Raised(batch) => batch,
        }
    }
}

/// A `Catalog::load` of one poll in progress, in any function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Load {
    /// Index of the poll.
    pub poll: usize,
    /// The definition, read together with the total.
    pub definition: Definition,
    /// The tally.
    pub total: u8,
    /// Whether Redis has the definition; the total follows.
    pub kept: bool,
}

/// Certification of the first poll, which has closed. All of its votes were sent before the close.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Certification {
    /// Whether the certificate is still to be issued.
    pub is_due: bool,
    /// Whether the probes sent after the close are decided.
    pub probes_decided: bool,
    /// Whether the event source is disabled, throttled or broken: nothing is delivered.
    pub stopped: bool,
    /// Whether the stop has lasted longer than any sign counts.
    pub observed_stop: bool,
    /// Whether the votes have not increased for as long. This is no evidence; one mutation uses it as such.
    pub quiet: bool,
    /// Whether there is an unexpired sign outside of the ledger: a missing probe or a loss of Redis's data.
    pub signed: bool,
    /// Whether Redis has the announcement of a batch that ended without removing it.
    pub orphaned: bool,
    /// Messages delivered at least once.
    pub delivered: Set,
    /// Messages delivered at least twice: their receive count is above 1.
    pub redelivered: Set,
    /// Single messages that the queue withholds.
    pub withheld: Set,
    /// Votes that may be missing from a certificate, as `docs/ARCHITECTURE.md` says: the queue withheld the single
    /// message, or the batch came during an outage of Redis too short for `functions/results` to notice.
    pub excused: Set,
}

/// Remaining numbers of optional steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Crashes of processes, or failed calls to the ledger.
    pub failures: u8,
    /// Redeliveries by SQS of messages in flight or deleted.
    pub redeliveries: u8,
    /// Losses of Redis's data, its outages or timeouts.
    pub redis_faults: u8,
    /// Changes of the first poll's window.
    pub changes: u8,
    /// Rebuilds of the first poll.
    pub rebuilds: u8,
    /// Loads of a poll while votes are counted.
    pub loads: u8,
    /// Loads of a poll when no other fair step is left.
    pub heals: u8,
    /// Stops of delivery.
    pub stops: u8,
    /// Withheld messages.
    pub withheld: u8,
}

impl Budget {
    /// Returns the sum.
    pub fn total(&self) -> u8 {
        let Self { failures, redeliveries, redis_faults, changes, rebuilds, loads, heals, stops, withheld } =
            self;
        failures + redeliveries + redis_faults + changes + rebuilds + loads + heals + stops + withheld
    }
}

/// The state of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// SQS.
    pub queue: Queue,
    /// PostgreSQL.
    pub ledger: Ledger,
    /// The part of PostgreSQL's data that survives a crash.
    pub on_disk: Ledger,
    /// Redis.
    pub redis: Redis,
    /// The instances; only the first [`Scenario::workers`](crate::scenario::Scenario::workers) are used.
    pub workers: [Worker; WORKERS_MAX],
    /// A call whose caller crashed or timed out. PostgreSQL may still commit it.
    pub abandoned: Option<Call>,
    /// A pipeline whose sender crashed or timed out. Redis may still execute it.
    pub detached: Option<Pipeline>,
    /// A load in progress.
    pub load: Option<Load>,
    /// The drift that a rebuild has found and not yet corrected.
    pub rebuild: Option<u8>,
    /// Progress of certification.
    pub certification: Certification,
    /// Remaining optional steps.
    pub budget: Budget,
}

impl State {
    /// Returns the total in the ranking of a poll's current epoch.
    pub fn ranked(&self, poll: usize) -> u8 {
        self.redis.ranking[poll][usize::from(self.ledger.polls[poll].epoch)]
    }

    /// Tells whether the ranking agrees with the tally.
    pub fn is_ranking_whole(&self) -> bool {
        (0..POLLS).all(|poll| self.ranked(poll) == self.ledger.tally[poll])
    }

    /// Tells whether no message is queued and every worker is idle.
    pub fn is_quiet(&self) -> bool {
        self.queue.waiting.is_empty() && self.workers.iter().all(|worker| worker.phase == Phase::Idle)
    }

    /// Returns the open transactions; each holds the definition lock in shared mode.
    pub fn open(&self) -> impl Iterator<Item = Transaction> {
        let of_workers = self.workers.iter().filter_map(|worker| match worker.phase {
            Phase::Counting(call) => call.transaction,
            _ => None,
        });
        of_workers.chain(self.abandoned.and_then(|call| call.transaction))
    }

    /// Returns a measure that decreases with every step: the remaining budget, then the remaining work. So no state
    /// repeats on a path, every path ends, and it ends in a state without work.
    pub fn work_left(&self) -> (u8, u16) {
        let worker = |worker: &Worker| match worker.phase {
            Phase::Idle => 0,
            Phase::Raised(_) => 5,
            Phase::Raising(_, pipeline) => 6 + u16::from(pipeline.remaining.len()),
            Phase::Committed(..) => 9,
            Phase::Adding(_) => 10,
            Phase::Counting(Call { transaction: Some(_), .. }) => 11,
            Phase::Counting(call) => 12 + 2 * u16::from(self.is_outdated(call)),
            Phase::Stale(_) => 13,
            Phase::Holding(_) => 16,
        };
        let work = 20 * u16::from(self.queue.waiting.len())
            + self.workers.iter().map(worker).sum::<u16>()
            + self.abandoned.map_or(0, |call| 4 - 2 * u16::from(call.transaction.is_some()))
            + self.detached.map_or(0, |pipeline| u16::from(pipeline.remaining.len()))
            + self.load.map_or(0, |load| 2 - u16::from(load.kept))
            + self.rebuild.map_or(0, |_| 10)
            + u16::from(self.redis.down)
            + self.certification_left();
        (self.budget.total(), work)
    }

    fn certification_left(&self) -> u16 {
        let Certification { is_due, probes_decided, stopped, observed_stop, withheld, .. } =
            self.certification;
        let stop = if stopped { 3 - 2 * u16::from(observed_stop) } else { 0 };
        let due = if is_due { 20 + u16::from(!probes_decided) } else { 0 };
        due + stop + u16::from(withheld.len()) + u16::from(self.has_sign())
    }

    /// Tells whether there is an unexpired sign of a failed batch.
    pub fn has_sign(&self) -> bool {
        self.certification.signed || self.certification.orphaned || self.ledger.signed
    }

    /// Tells whether the first poll's result is frozen.
    pub fn is_certified(&self) -> bool {
        self.ledger.polls[0].window == FROZEN
    }

    /// Tells whether a call was judged by a definition that is no longer current.
    pub fn is_outdated(&self, call: Call) -> bool {
        let known = |poll: usize| call.judged[poll].version > 0;
        (0..POLLS).any(|poll| known(poll) && call.judged[poll].version != self.ledger.polls[poll].version)
    }
}
