//! The steps, each with the code that it stands for.

use crate::set::Set;

/// One atomic step of the protocol, or one thing that goes wrong.
///
/// First what is bound to happen unless something else comes first, then what need not happen and has a
/// [`Budget`](crate::state::Budget); nothing may depend on the latter.
///
/// A worker is an instance of `functions/votes`; its number is that of the moment, for workers are alike and kept
/// in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The event source mapping hands over a batch: any messages that wait, in any order. The visibility timeout of
    /// a failed batch has passed whenever its messages are taken again.
    Deliver { worker: usize, batch: Set },
    /// `functions/votes/src/definitions.rs`, `Definitions::find`, then `Handler::judged`: from memory, else from
    /// Redis where that has it, which is `believed` however old (`Catalog::find`), else from the ledger. What
    /// `Catalog::load` then writes to Redis is [`Load`](Self::Load).
    Find { worker: usize, believed: Set },
    /// `shared/ledger/migrations/0001_ledger.sql`, the body of `count_votes`: the shared fence, the comparison of versions,
    /// votes and tallies, rejections, totals. It waits where a row that it needs is locked.
    Begin { worker: usize },
    /// `shared/ledger/migrations/0001_ledger.sql`, the `COMMIT` of `count_votes`, which waits for no disk.
    Commit { worker: usize },
    /// `shared/ledger/src/count.rs`, `Ledger::count` returns: its answer is read until the server is ready again, which
    /// it is when the mark that `count_votes` ends with, and so all of the log before it, is on disk.
    Answer { worker: usize },
    /// `functions/votes/src/definitions.rs`, `Definitions::reload`, after `Outcome::Stale`; then judging again.
    Reload { worker: usize },
    /// Nowhere in the code: the second transaction of [`TallyApart`](crate::mutation::Mutation::TallyApart).
    AddTally { worker: usize },
    /// `shared/ranking/src/lib.rs`, `RankingStore::raise`: Redis carries out the pipeline's next `ZADD … GT`.
    Raise { worker: usize },
    /// `functions/votes/src/lib.rs`, `Handler::count_and_raise`: Redis is away, the error is logged, no more.
    GoOnUnraised { worker: usize },
    /// `functions/votes/src/lib.rs`, `Handler::handle` returns `Ok`, and the event source mapping deletes the batch.
    Acknowledge { worker: usize },

    /// PostgreSQL begins a call whose caller is gone: as [`Begin`](Self::Begin).
    AbandonedBegins,
    /// PostgreSQL commits a transaction whose caller is gone. Whether its mark ever follows, nobody waits for.
    AbandonedCommits,
    /// The call never arrived, or PostgreSQL noticed (`statement_timeout` in `shared/ledger/src/mod.rs`).
    AbandonedEnds,
    /// Redis carries out the next `ZADD` of a sender that is gone.
    AdriftRaises,
    /// The rest of the pipeline never arrived.
    AdriftEnds,

    /// `shared/ranking/src/lib.rs`, `RankingStore::keep_polls`: the script `KEEP_POLL`.
    KeepLoaded,
    /// `shared/ranking/src/lib.rs`, `RankingStore::keep_polls`: its `ZADD … GT`.
    RaiseLoaded,
    /// [`Load`](Self::Load) when nothing else is left to happen: viewers keep looking, and what Redis has is fresh
    /// for 3 seconds only.
    Heal { poll: usize },

    /// `shared/ledger/src/audit.rs`, `Ledger::rebuild`, from the fence to the commit. `functions/admin` then loads
    /// the poll: [`Load`](Self::Load).
    MoveEpoch,
    /// Deliveries go on after [`Stop`](Self::Stop).
    Resume,
    /// `functions/results` keeps observing while nothing is delivered, for longer than any sign counts: probes are sent
    /// and none is decided, and the votes do not grow.
    ObserveStop,
    /// The queue hands out again what it withheld.
    Release,
    /// The probes sent after the close are decided: `count_votes` in `shared/ledger/migrations/0001_ledger.sql`.
    DecideProbes,
    /// `CERTIFY_SIGN_SECONDS` pass since the latest sign.
    SignsAge,
    /// `functions/results/src/lib.rs`, `Handler::certify`: `Observation::judge`, then `Ledger::freeze`.
    Certify,

    /// Redis answers again, with the data it had; [`Flush`](Self::Flush) is without.
    RedisReturns,

    /// `shared/stores/src/catalog.rs`, `Catalog::load`, its first half: `Ledger::polls` reads a definition and its totals
    /// in one statement, and marks the log. By `functions/polls` for a viewer, `functions/admin` after a change, or
    /// `functions/votes`; by `functions/results` with `Ledger::publishable`, likewise.
    Load { poll: usize },
    /// `shared/ledger/src/polls.rs`, `Ledger::change_poll`: the fence, the update, the commit. One step, since the
    /// fence is its own.
    Change,
    /// `shared/ledger/src/audit.rs`, `Ledger::rebuild`, `drift_sql`: the drift in one snapshot, outside the fence.
    FindDrift,

    /// Nothing is delivered any more: the event source is disabled, the function throttled or its release broken.
    Stop,
    /// The queue withholds a message by itself, before anybody has received it.
    Withhold { message: usize },
    /// SQS delivers once more what is in flight (the visibility timeout passes while the worker still works, or at
    /// least once is twice) or was deleted (the acknowledgement was lost).
    Redeliver { message: usize },
    /// A function dies. What it has sent may still arrive: its call becomes the abandoned one, its pipeline the one
    /// adrift. There is room for one of each; a second is taken not to arrive.
    Die { worker: usize },
    /// `shared/ledger/src/mod.rs`, `Ledger::within`: no answer in time, or a broken connection. The batch fails
    /// whole, the function lives on.
    TimeOut { worker: usize },
    /// `shared/ranking/src/lib.rs`, `RankingStore::bounded`: no answer in time. The pipeline is adrift.
    RaiseTimesOut { worker: usize },
    /// PostgreSQL dies and recovers: what was not on disk is gone, every call fails.
    LedgerDies,
    /// Whoever was loading a poll dies.
    LoaderDies,
    /// The function that was rebuilding dies, with nothing changed.
    RebuilderDies,
    /// Redis loses everything (`FLUSHALL`, a restart without persistence).
    Flush,
    /// Redis refuses every command from now on.
    RedisLeaves,
}
