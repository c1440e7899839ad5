//! Records events, so that no promise holds only because the events that could break it never happened.
//!
//! Events belong to steps, `Property::sometimes` to states: each event would need a flag in the state and
//! double the number of states. A step is applied once for every state that it leads from, so events are recorded
//! then.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! events {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// An event that a check must cover.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Event { $($(#[doc = $doc])* $name,)* }

        impl Event {
            /// Every event.
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
    /// A vote is counted although its retry was rejected: each message has its own outcome.
    CountedAfterRejectedRetry,
    /// A retry is rejected while another batch counts its vote.
    RejectedWhileCounted,
    /// A batch without a new vote has a total that the ranking lacks.
    HealedByRedelivery,
    /// A load raises the ranking.
    HealedByLoad,
    /// A total arrives after a greater one.
    LateTotal,
    /// Redis refuses the totals; the votes are counted.
    RaiseRefused,
    /// Redis is too slow; the batch is still acknowledged.
    RaiseTimedOut,
    /// A total arrives after its sender crashed or timed out.
    DetachedTotal,
    /// A transaction commits after its caller crashed or timed out.
    AbandonedCommit,
    /// A call starts after its caller crashed or timed out, and finds its votes counted.
    AbandonedTooLate,
    /// A call starts after its caller crashed or timed out, and finds a definition changed.
    AbandonedStale,
    /// A worker crashes before judging its batch.
    DiedBeforeJudging,
    /// A worker crashes after judging, before `count_votes` starts.
    DiedBeforeCounting,
    /// A worker crashes while the transaction is open.
    DiedBeforeCommit,
    /// A worker crashes after learning that a definition has changed.
    DiedBeforeReload,
    /// A worker crashes after the commit, before the answer.
    DiedBeforeAnswer,
    /// A worker crashes after the answer, before the first `ZADD`.
    DiedBeforeRaise,
    /// A worker crashes between two `ZADD`s.
    DiedWithinRaise,
    /// A worker crashes after the last `ZADD`, before the acknowledgement.
    DiedBeforeAcknowledging,
    /// A worker crashes after the acknowledgement.
    DiedAfterAcknowledging,
    /// A call to the ledger fails, and the function lives on with its cache.
    LedgerTimedOut,
    /// PostgreSQL crashes with an open or unflushed transaction.
    LedgerDied,
    /// PostgreSQL crashes and loses a committed transaction.
    LedgerForgot,
    /// A function crashes between reading a poll from the ledger and writing it to Redis.
    DiedLoading,
    /// The poll's window changes while a worker holds a batch.
    Changed,
    /// A rebuild corrects a tally while a worker holds a batch.
    Rebuilt,
    /// A vote is counted after a rebuild has found the drift and before it corrects it.
    CountedWithinRebuild,
    /// A total of an earlier epoch is sent after the rebuild.
    LateEpoch,
    /// Deliveries stop.
    Stopped,
    /// The announcement of a failed batch expires: the batch has been redelivered.
    AnnouncementExpired,
    /// A poll is certified.
    Certified,
    /// A poll is certified while a worker holds a batch of votes that are already counted.
    CertifiedWhileWorking,
    /// A poll is certified without an excused vote.
    CertifiedWithoutExcused,
    /// A vote cast in time is recorded as late.
    RecordedLate,
    /// No work is left, and every vote is counted and ranked.
    Settled,
}

/// Counters of events.
#[derive(Debug)]
pub struct Witness([AtomicU64; Event::ALL.len()]);

impl Default for Witness {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Witness {
    /// Records an event.
    pub fn note(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Records an event if it happened.
    pub fn note_if(&self, happened: bool, event: Event) {
        if happened {
            self.note(event);
        }
    }

    /// Tells whether an event ever happened.
    pub fn has_seen(&self, event: Event) -> bool {
        self.0[event as usize].load(Ordering::Relaxed) > 0
    }
}
