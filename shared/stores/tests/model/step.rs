//! The steps, each with the code that it models.

use crate::set::Set;

/// An atomic step of the protocol, or a fault.
///
/// First come the fair steps, which happen eventually if they stay possible; then the optional ones, which have a
/// [`Budget`](crate::state::Budget). No promise may depend on an optional step.
///
/// A worker is an instance of `functions/votes`. Its number is valid for one state only, since workers are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The event source mapping delivers a batch: any queued messages, in any order. The visibility timeout of a
    /// failed batch has passed when its messages are delivered again.
    Deliver { worker: usize, batch: Set },
    /// `functions/votes/src/definitions.rs`, `Definitions::find`, then `Handler::judged`: definitions come from
    /// memory, else from Redis, however stale (`Catalog::find`; `from_cache` are the polls with a stale one), else
    /// from the ledger. The write of `Catalog::load` to Redis is [`Load`](Self::Load).
    Find { worker: usize, from_cache: Set },
    /// `shared/ledger/migrations/0001_ledger.sql`, the body of `count_votes`: the shared definition lock, the
    /// comparison of versions, votes and tallies, rejections, totals. The call waits if a row that it needs is
    /// locked.
    Begin { worker: usize },
    /// `shared/ledger/migrations/0001_ledger.sql`, the `COMMIT` of `count_votes`, asynchronous: it does not wait
    /// for the disk.
    Commit { worker: usize },
    /// `shared/ledger/src/count.rs`, `Ledger::count` returns: it reads the answer until the server is ready again.
    /// The server is ready when the flush barrier of `count_votes` (`mark_log`), and so the log before it, is on
    /// disk.
    Answer { worker: usize },
    /// `functions/votes/src/definitions.rs`, `Definitions::reload`, after `Outcome::Stale`; then the batch is
    /// judged again.
    Reload { worker: usize },
    /// Not in the code: the second transaction of [`TallyApart`](crate::mutation::Mutation::TallyApart).
    AddTally { worker: usize },
    /// `shared/ranking/src/lib.rs`, `RankingStore::raise`: Redis executes the pipeline's next `ZADD … GT`.
    Raise { worker: usize },
    /// `functions/votes/src/lib.rs`, `Handler::count_and_raise`: Redis is unavailable; the error is only logged.
    SkipRaise { worker: usize },
    /// `functions/votes/src/lib.rs`, `Handler::handle` returns `Ok`, and the event source mapping deletes the batch.
    Acknowledge { worker: usize },

    /// PostgreSQL starts a call whose caller is gone, as in [`Begin`](Self::Begin).
    AbandonedBegins,
    /// PostgreSQL commits a transaction whose caller is gone. Nothing waits for its flush barrier.
    AbandonedCommits,
    /// The call never arrived, or PostgreSQL cancelled it (`statement_timeout` in `shared/ledger/src/connect.rs`).
    AbandonedEnds,
    /// Redis executes the next `ZADD` of a sender that is gone.
    DetachedRaises,
    /// The rest of the pipeline never arrived.
    DetachedEnds,

    /// `shared/ranking/src/lib.rs`, `RankingStore::keep_polls`: the script `KEEP_POLL`.
    KeepLoaded,
    /// `shared/ranking/src/lib.rs`, `RankingStore::keep_polls`: its `ZADD … GT`.
    RaiseLoaded,
    /// [`Load`](Self::Load) when no other fair step is left: viewers keep reading, and Redis's data is fresh for only
    /// 3 seconds.
    Heal { poll: usize },

    /// `shared/ledger/src/audit.rs`, `Ledger::rebuild`, from the definition lock to the commit. `functions/admin`
    /// then loads the poll: [`Load`](Self::Load).
    MoveEpoch,
    /// Deliveries resume after [`Stop`](Self::Stop).
    Resume,
    /// `functions/results` observes a stop for longer than any sign counts: probes are sent and none is decided,
    /// and the votes do not increase.
    ObserveStop,
    /// The queue releases the withheld messages.
    Release,
    /// The probes sent after the close are decided: `count_votes` in `shared/ledger/migrations/0001_ledger.sql`.
    DecideProbes,
    /// `CERTIFY_SIGN_SECONDS` pass since the latest sign.
    SignsExpire,
    /// `functions/results/src/certify.rs`, `Handler::certify`: `Observation::judge`, then `Ledger::freeze`.
    Certify,

    /// Redis answers again with its former data; [`Flush`](Self::Flush) deletes it.
    RedisRecovers,

    /// `shared/stores/src/catalog.rs`, first half of `Catalog::load`: `Ledger::polls` reads a definition and its
    /// totals in one statement and waits for the flush barrier. Called by `functions/polls` for a viewer, by
    /// `functions/admin` after a change and by `functions/votes`; `functions/results` does the same with
    /// `Ledger::publishable`.
    Load { poll: usize },
    /// `shared/ledger/src/change.rs`, `Ledger::change_poll`: the definition lock, the update, the commit. One step,
    /// since the lock is exclusive.
    Change,
    /// `shared/ledger/src/audit.rs`, `Ledger::rebuild`: reads the drift in one snapshot, without the definition lock.
    FindDrift,

    /// Deliveries stop: the event source is disabled, the function throttled or its release broken.
    Stop,
    /// The queue withholds a single message before its first delivery.
    Withhold { message: usize },
    /// SQS redelivers a message in flight (the visibility timeout passed too early, or at-least-once delivery) or a
    /// deleted one (the acknowledgement was lost).
    Redeliver { message: usize },
    /// A function crashes. Its sent call or pipeline may still arrive: it becomes the abandoned call or the detached
    /// pipeline. The state has one of each; a second one never arrives.
    Die { worker: usize },
    /// `shared/ledger/src/lib.rs`, `Ledger::within`: no answer in time, or a broken connection. The whole batch
    /// fails, and the function lives on.
    TimeOut { worker: usize },
    /// `shared/ranking/src/lib.rs`, `RankingStore::bounded`: no answer in time. The pipeline is detached.
    RaiseTimesOut { worker: usize },
    /// PostgreSQL crashes and recovers: unflushed data is lost, and every call fails.
    LedgerDies,
    /// The function that loads a poll crashes.
    LoaderDies,
    /// The function that rebuilds crashes without an effect.
    RebuilderDies,
    /// Redis loses its data (`FLUSHALL`, a restart without persistence).
    Flush,
    /// Redis becomes unavailable and refuses every command.
    RedisFails,
}
