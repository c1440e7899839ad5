//! What was seen to happen, so that no promise is kept for want of anything that could break it.
//!
//! These are properties of steps. As `Property::sometimes`, which looks at states, each would need a flag in the
//! state and multiply the states by two; a step is taken once for every state it leads from, so it can be noted
//! then.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// Something that a check is meant to go through.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[doc = $doc])* $name,)* }

        impl Event {
            /// Every one.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

events! {
    /// A vote is inserted.
    Counted,
    /// A redelivered message finds its vote counted.
    DuplicateDelivery,
    /// Another message with the same key finds the vote counted.
    DuplicateRetry,
    /// A rejection is recorded.
    Rejected,
    /// Two workers hold one message.
    HeldTwice,
    /// A batch was judged by a definition that has changed, and is judged again.
    JudgedAgain,
    /// A vote counted by an earlier definition is not rejected by a later one.
    CountedStaysCounted,
    /// A message rejected by an earlier definition is not counted by a later one.
    RejectedStaysRejected,
    /// A vote is counted though its retry has been rejected: each message has its own outcome.
    CountedAfterRejectedRetry,
    /// A retry is rejected at the moment when its vote is counted by another batch.
    RejectedWhileCounted,
    /// A batch without a new vote carries a total that the ranking lacks.
    HealedByRedelivery,
    /// Somebody's load raises the ranking.
    HealedByLoad,
    /// A total arrives after a greater one.
    LateTotal,
    /// Redis refuses the totals; the votes have counted.
    RaiseRefused,
    /// Redis is too slow; the batch is acknowledged all the same.
    RaiseTimedOut,
    /// A total arrives after its sender died or gave up.
    AdriftTotal,
    /// A transaction commits after its caller died or gave up.
    AbandonedCommit,
    /// A call begins after its caller died or gave up, and finds its votes counted.
    AbandonedTooLate,
    /// A call begins after its caller died or gave up, and finds a definition changed.
    AbandonedStale,
    /// Death with a batch, before it is judged.
    DiedBeforeJudging,
    /// Death with the batch judged, before `count_votes` has begun.
    DiedBeforeCounting,
    /// Death with the transaction open.
    DiedBeforeCommit,
    /// Death after learning that a definition has changed.
    DiedBeforeReload,
    /// Death after the commit, before the answer.
    DiedBeforeAnswer,
    /// Death after the answer, before the first `ZADD`.
    DiedBeforeRaise,
    /// Death between two `ZADD`s.
    DiedWithinRaise,
    /// Death after the last `ZADD`, before the acknowledgement.
    DiedBeforeAcknowledging,
    /// Death after the acknowledgement.
    DiedAfterAcknowledging,
    /// A call to the ledger fails, and the function lives on with what it remembers.
    LedgerTimedOut,
    /// PostgreSQL dies with a transaction open, or one that no disk has.
    LedgerDied,
    /// PostgreSQL dies and comes back without what it had committed.
    LedgerForgot,
    /// Death between reading a poll from the ledger and writing it to Redis.
    DiedLoading,
    /// The poll's window moves while a worker holds a batch.
    Changed,
    /// A rebuild puts a tally right while a worker holds a batch.
    Rebuilt,
    /// A vote is counted between a rebuild's finding the drift and its putting it right.
    CountedWithinRebuild,
    /// A total of an earlier epoch is sent after the rebuild.
    LateEpoch,
    /// Deliveries stop.
    Stopped,
    /// The announcement of a batch that failed is so old that the batch has come again.
    AnnouncementGrewOld,
    /// A poll is certified.
    Certified,
    /// A poll is certified while a worker has a batch, of votes that have been counted already.
    CertifiedWhileWorking,
    /// A poll is certified without a vote that a certificate may lack.
    CertifiedWithoutExcused,
    /// A vote cast in time is recorded as late.
    RecordedLate,
    /// Nothing is left to do, and all is well.
    Settled,
}

/// How many steps of each kind were taken.
#[derive(Debug)]
pub struct Witness([AtomicU64; Event::ALL.len()]);

impl Default for Witness {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Witness {
    /// Notes that it happened.
    pub fn note(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Notes it if it happened.
    pub fn note_if(&self, happened: bool, event: Event) {
        if happened {
            self.note(event);
        }
    }

    /// Whether it ever happened.
    pub fn has_seen(&self, event: Event) -> bool {
        self.0[event as usize].load(Ordering::Relaxed) > 0
    }
}
