//! Everything the promise depends on, at one instant.

use crate::{scenario::FROZEN, set::Set};

/// Polls of every scenario. The second is there so that a pipeline has a middle.
pub const POLLS: usize = 2;
/// An epoch before the rebuild and one after it.
pub const EPOCHS: usize = 2;
/// Most messages in a scenario.
pub const MESSAGES_MAX: usize = 4;
/// Most instances of `functions/votes` in a scenario.
pub const WORKERS_MAX: usize = 3;

/// What matters of a poll's definition: `polls.version`, its window, `polls.epoch`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Definition {
    /// 0: not known.
    pub version: u8,
    /// Which of [`WINDOWS`](crate::scenario::WINDOWS).
    pub window: u8,
    /// From 0.
    pub epoch: u8,
}

/// By poll.
pub type Definitions = [Definition; POLLS];

/// The queue; a message that is neither is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Queue {
    /// To be delivered.
    pub waiting: Set,
    /// Acknowledged.
    pub deleted: Set,
}

/// What PostgreSQL has committed, as everybody sees it.
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
    /// A young sign in `signs`.
    pub signed: bool,
    /// Not in PostgreSQL: by how much the first poll's tally was wrong from the start, until a rebuild.
    pub drift: u8,
    /// Not in PostgreSQL: whether a batch was ever committed by an old definition.
    pub outdated: bool,
}

/// What Redis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Redis {
    /// It refuses every command.
    pub away: bool,
    /// `poll:{id}`.
    pub cached: Definitions,
    /// `ranking:{id}:{epoch}`; 0 where there is none.
    pub ranking: [[u8; EPOCHS]; POLLS],
}

/// What an open transaction of `count_votes` has done so far, and the locks that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    /// Messages whose votes it inserted.
    pub inserted: Set,
    /// Messages whose rejection it recorded.
    pub recorded: Set,
    /// The totals it answers with once it is committed.
    pub totals: [u8; POLLS],
}

/// A call of `count_votes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// Its messages.
    pub batch: Set,
    /// What they were judged by.
    pub judged: Definitions,
    /// `None`: sent, and not begun.
    pub transaction: Option<Transaction>,
}

/// A pipeline of `ZADD`s, sent and not yet carried out to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pipeline {
    /// By poll.
    pub totals: [u8; POLLS],
    /// By poll.
    pub epochs: [u8; POLLS],
    /// Polls whose `ZADD` is still to come; Redis takes them in their order.
    pub remaining: Set,
}

/// Where an instance of `functions/votes` is in `Handler::handle`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Between two batches.
    #[default]
    Idle,
    /// Has a batch, before `Definitions::find`.
    Holding(Set),
    /// Has judged it; `count_votes` has not begun, or has its transaction open.
    Counting(Call),
    /// Was told that a definition has changed, before `Definitions::reload`.
    Stale(Set),
    /// Only where the tally is updated by another transaction: the votes are committed, the tally is not.
    Adding(Call),
    /// Committed, and seen by everybody; the disk may not have it.
    Committed(Set, Pipeline),
    /// On disk; the ranking is being raised.
    Raising(Set, Pipeline),
    /// About to acknowledge.
    Raised(Set),
}

/// What `functions/results` can know of a batch under way: only in a scenario that certifies, until it has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Announcement {
    /// There is no batch, or its announcement is taken back.
    #[default]
    None,
    /// Redis was away when the batch was delivered.
    Failed,
    /// Redis has lost it.
    Wiped,
    /// Redis has it.
    There,
    /// Redis has it from before the probes were decided.
    Needed,
}

/// An instance of `functions/votes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Worker {
    /// `Definitions::remembered`.
    pub memory: Definitions,
    /// What it is doing.
    pub phase: Phase,
    /// Of the batch it holds.
    pub announcement: Announcement,
}

impl Worker {
    /// The messages it holds.
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

/// A `Catalog::load` under way, of one poll, in any function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Load {
    /// Which poll.
    pub poll: usize,
    /// Read from the ledger together with the total.
    pub definition: Definition,
    /// The tally.
    pub total: u8,
    /// Whether Redis has taken the definition; the total comes next.
    pub kept: bool,
}

/// The first poll on its way to a certificate. It has closed, and all of its votes were sent before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Certification {
    /// Whether the scenario certifies and has not yet.
    pub is_due: bool,
    /// Whether the probes sent after the close are decided.
    pub probes_decided: bool,
    /// Whether the event source is disabled, throttled or broken: nothing is delivered.
    pub stopped: bool,
    /// Whether that has lasted for longer than any sign counts.
    pub observed_stop: bool,
    /// Whether the votes have not grown for as long. No evidence: one mutation takes it for some.
    pub quiet: bool,
    /// Whether there is a young sign that is not in the ledger: a missing probe, or a Redis that lost its data.
    pub signed: bool,
    /// Whether an announcement is there whose batch has ended without taking it back.
    pub orphaned: bool,
    /// Messages that were ever delivered.
    pub delivered: Set,
    /// Messages that were ever delivered again: their receive count is above 1.
    pub again: Set,
    /// Messages that the queue withholds by themselves.
    pub withheld: Set,
    /// Votes that a certificate may lack, as `docs/ARCHITECTURE.md` says: the queue withheld them by themselves, or their
    /// batch came while Redis was away for so short a time that `functions/results` did not notice.
    pub excused: Set,
}

/// How many more times something may happen that need not happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process dies, or a call to the ledger fails.
    pub failures: u8,
    /// SQS delivers again what is in flight, or was deleted.
    pub redeliveries: u8,
    /// Redis loses its data, goes away or is too slow.
    pub redis_faults: u8,
    /// The show moves the first poll's window.
    pub changes: u8,
    /// The show rebuilds the first poll.
    pub rebuilds: u8,
    /// Somebody loads a poll while votes are being counted.
    pub loads: u8,
    /// Somebody loads a poll when nothing else is left to happen.
    pub heals: u8,
    /// Nothing is delivered for a time.
    pub stops: u8,
    /// The queue withholds one message.
    pub withheld: u8,
}

impl Budget {
    /// All of it.
    pub fn total(&self) -> u8 {
        let Self { failures, redeliveries, redis_faults, changes, rebuilds, loads, heals, stops, withheld } =
            self;
        failures + redeliveries + redis_faults + changes + rebuilds + loads + heals + stops + withheld
    }
}

/// The system at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// SQS.
    pub queue: Queue,
    /// PostgreSQL.
    pub ledger: Ledger,
    /// What of it a crash leaves.
    pub on_disk: Ledger,
    /// Redis.
    pub redis: Redis,
    /// Only the first [`Scenario::workers`](crate::scenario::Scenario::workers) of them ever work.
    pub workers: [Worker; WORKERS_MAX],
    /// A call whose caller died or gave up. PostgreSQL may still commit it.
    pub abandoned: Option<Call>,
    /// A pipeline whose sender died or gave up. Redis may still carry it out.
    pub adrift: Option<Pipeline>,
    /// A poll on its way from the ledger to Redis.
    pub load: Option<Load>,
    /// The drift that a rebuild has found and not yet put right.
    pub rebuild: Option<u8>,
    /// What `functions/results` waits for, and knows.
    pub certification: Certification,
    /// What may still go wrong.
    pub budget: Budget,
}

impl State {
    /// The total that the ranking of a poll's current epoch shows.
    pub fn ranked(&self, poll: usize) -> u8 {
        self.redis.ranking[poll][usize::from(self.ledger.polls[poll].epoch)]
    }

    /// Whether Redis shows what the ledger says.
    pub fn is_ranking_whole(&self) -> bool {
        (0..POLLS).all(|poll| self.ranked(poll) == self.ledger.tally[poll])
    }

    /// Whether no message waits and no worker has one.
    pub fn is_quiet(&self) -> bool {
        self.queue.waiting.is_empty() && self.workers.iter().all(|worker| worker.phase == Phase::Idle)
    }

    /// The transactions that are open; each shares the fence.
    pub fn open(&self) -> impl Iterator<Item = Transaction> {
        let of_workers = self.workers.iter().filter_map(|worker| match worker.phase {
            Phase::Counting(call) => call.transaction,
            _ => None,
        });
        of_workers.chain(self.abandoned.and_then(|call| call.transaction))
    }

    /// Goes down with every step, whichever: first what may happen no more, then the work that is left. So no
    /// state comes twice on a path, every path ends, and a state where nothing is left to do is where one ends.
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
            + self.adrift.map_or(0, |pipeline| u16::from(pipeline.remaining.len()))
            + self.load.map_or(0, |load| 2 - u16::from(load.kept))
            + self.rebuild.map_or(0, |_| 10)
            + u16::from(self.redis.away)
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

    /// Whether there is a sign of a failed batch that counts still.
    pub fn has_sign(&self) -> bool {
        self.certification.signed || self.certification.orphaned || self.ledger.signed
    }

    /// Whether the first poll's result is frozen.
    pub fn is_certified(&self) -> bool {
        self.ledger.polls[0].window == FROZEN
    }

    /// Whether a call was judged by a definition that is no longer the current one.
    pub fn is_outdated(&self, call: Call) -> bool {
        let known = |poll: usize| call.judged[poll].version > 0;
        (0..POLLS).any(|poll| known(poll) && call.judged[poll].version != self.ledger.polls[poll].version)
    }
}
