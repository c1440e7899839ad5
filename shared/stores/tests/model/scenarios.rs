//! The scenarios. Each explores one kind of fault fully; all kinds together would have too many states.
//!
//! To add a scenario: write it here, add it to [`all`], list the events that it must show, and add a test to
//! `check.rs`.

use crate::{
    scenario::{Cast, EARLY, LATE, LONG, SHORT, Scenario},
    state::Budget,
    witness::Event::{
        AbandonedCommit, AbandonedStale, AbandonedTooLate, AnnouncementExpired, Certified,
        CertifiedWhileWorking, CertifiedWithoutExcused, Changed, Counted, CountedAfterRejectedRetry,
        CountedStaysCounted, CountedWithinRebuild, DetachedTotal, DiedAfterAcknowledging,
        DiedBeforeAcknowledging, DiedBeforeAnswer, DiedBeforeCommit, DiedBeforeCounting, DiedBeforeJudging,
        DiedBeforeRaise, DiedBeforeReload, DiedLoading, DiedWithinRaise, DuplicateDelivery, DuplicateRetry,
        HealedByLoad, HealedByRedelivery, HeldTwice, JudgedAgain, LateEpoch, LateTotal, LedgerDied,
        LedgerForgot, LedgerTimedOut, RaiseRefused, RaiseTimedOut, Rebuilt, RecordedLate, Rejected,
        RejectedStaysRejected, RejectedWhileCounted, Settled, Stopped,
    },
};

/// Returns a vote with a client's id, which a retry repeats.
const fn with_id(poll: usize, at: i64) -> Cast {
    Cast { poll, at, id: Some(1), taps: 1, continues: false }
}

/// Returns a vote identified only by its message.
const fn plain(poll: usize, at: i64) -> Cast {
    Cast { poll, at, id: None, taps: 1, continues: false }
}

/// Crashes and redeliveries: a vote, its retry, and a vote in another poll.
pub fn deaths() -> Scenario {
    Scenario {
        name: "deaths",
        workers: 2,
        messages: vec![with_id(0, EARLY), with_id(0, EARLY), plain(1, EARLY)],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 2, redeliveries: 1, ..Budget::default() },
        shows: &[
            Counted,
            DuplicateDelivery,
            DuplicateRetry,
            HeldTwice,
            HealedByRedelivery,
            DetachedTotal,
            AbandonedCommit,
            AbandonedTooLate,
            DiedBeforeJudging,
            DiedBeforeCounting,
            DiedBeforeCommit,
            DiedBeforeAnswer,
            DiedBeforeRaise,
            DiedWithinRaise,
            DiedBeforeAcknowledging,
            LedgerDied,
            LedgerForgot,
            Settled,
        ],
    }
}

/// A message with two votes of several taps, and a retry of its half with another content, after the early close.
pub fn lists() -> Scenario {
    let taps = |taps| Cast { taps, ..with_id(0, EARLY) };
    let retry = Cast { taps: 5, ..with_id(0, LATE) };
    Scenario {
        name: "lists",
        workers: 2,
        messages: vec![taps(2), Cast { continues: true, ..taps(3) }, retry],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, changes: 1, ..Budget::default() },
        shows: &[
            Counted,
            Rejected,
            DuplicateDelivery,
            DuplicateRetry,
            JudgedAgain,
            HealedByRedelivery,
            CountedAfterRejectedRetry,
            Settled,
        ],
    }
}

/// Three concurrent workers: two votes in one poll, and a retry.
pub fn crowd() -> Scenario {
    Scenario {
        name: "crowd",
        workers: 3,
        messages: vec![with_id(0, EARLY), with_id(0, EARLY), plain(0, EARLY)],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, ..Budget::default() },
        shows: &[DuplicateRetry, HeldTwice, LateTotal, HealedByRedelivery, AbandonedTooLate, Settled],
    }
}

/// Redis loses its data, fails or is slow while polls are loaded.
pub fn redis_faults() -> Scenario {
    Scenario {
        name: "redis faults",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(1, EARLY)],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, redis_faults: 1, loads: 1, ..Budget::default() },
        shows: &[
            HealedByRedelivery,
            HealedByLoad,
            RaiseRefused,
            RaiseTimedOut,
            DetachedTotal,
            DiedLoading,
            Settled,
        ],
    }
}

/// Two faults of Redis: failed and empty, or slow twice.
pub fn redis_fails_twice() -> Scenario {
    Scenario {
        name: "redis fails twice",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(1, EARLY)],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 1, redis_faults: 2, loads: 1, ..Budget::default() },
        shows: &[HealedByLoad, RaiseRefused, RaiseTimedOut, DetachedTotal, Settled],
    }
}

/// The poll closes and reopens: a vote and its retry on both sides of the early close.
pub fn window_moves() -> Scenario {
    Scenario {
        name: "window moves",
        workers: 2,
        messages: vec![with_id(0, EARLY), with_id(0, LATE)],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 2, redeliveries: 1, changes: 2, ..Budget::default() },
        shows: &[
            Rejected,
            JudgedAgain,
            CountedStaysCounted,
            RejectedStaysRejected,
            CountedAfterRejectedRetry,
            RejectedWhileCounted,
            AbandonedStale,
            DiedBeforeReload,
            DiedAfterAcknowledging,
            LedgerTimedOut,
            Changed,
            Settled,
        ],
    }
}

/// The poll reopens and closes: a late vote and its retry, three workers.
pub fn window_moves_back() -> Scenario {
    Scenario {
        name: "window moves back",
        workers: 3,
        messages: vec![with_id(0, LATE), with_id(0, LATE)],
        window: SHORT,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, changes: 2, ..Budget::default() },
        shows: &[
            Rejected,
            DuplicateRetry,
            JudgedAgain,
            CountedStaysCounted,
            RejectedStaysRejected,
            Changed,
            Settled,
        ],
    }
}

/// The window changes while Redis fails or has an old definition.
pub fn window_and_redis() -> Scenario {
    Scenario {
        name: "window and Redis",
        workers: 2,
        messages: vec![with_id(0, LATE), with_id(0, LATE)],
        window: LONG,
        certifies: false,
        drift: 0,
        budget: Budget { failures: 1, redis_faults: 1, changes: 1, loads: 1, ..Budget::default() },
        shows: &[Rejected, JudgedAgain, CountedStaysCounted, HealedByLoad, RaiseRefused, Changed, Settled],
    }
}

/// A tally that is too high is rebuilt while votes come in.
pub fn rebuild() -> Scenario {
    Scenario {
        name: "rebuild",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(0, EARLY)],
        window: LONG,
        certifies: false,
        drift: 1,
        budget: Budget { failures: 1, redeliveries: 1, rebuilds: 1, loads: 1, ..Budget::default() },
        shows: &[JudgedAgain, HealedByLoad, Rebuilt, CountedWithinRebuild, LateEpoch, Settled],
    }
}

/// The closed first poll is certified while a batch fails, counting stops for a time, and a message is withheld.
pub fn certification() -> Scenario {
    Scenario {
        name: "certification",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(0, EARLY)],
        window: LONG,
        certifies: true,
        drift: 0,
        budget: Budget { failures: 1, stops: 1, withheld: 1, ..Budget::default() },
        shows: &[
            Stopped,
            AnnouncementExpired,
            Certified,
            CertifiedWhileWorking,
            CertifiedWithoutExcused,
            RecordedLate,
            Settled,
        ],
    }
}

/// The same while Redis loses the announcements or fails.
pub fn certification_and_redis() -> Scenario {
    Scenario {
        name: "certification and Redis",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(0, EARLY)],
        window: LONG,
        certifies: true,
        drift: 0,
        budget: Budget { failures: 1, redis_faults: 1, ..Budget::default() },
        shows: &[
            AnnouncementExpired,
            RaiseRefused,
            RaiseTimedOut,
            Certified,
            CertifiedWithoutExcused,
            Settled,
        ],
    }
}

/// Returns every scenario.
pub fn all() -> [Scenario; 11] {
    [
        deaths(),
        lists(),
        crowd(),
        redis_faults(),
        redis_fails_twice(),
        window_moves(),
        window_moves_back(),
        window_and_redis(),
        rebuild(),
        certification(),
        certification_and_redis(),
    ]
}

/// Returns larger scenarios, with more messages and faults.
pub fn wider() -> [Scenario; 6] {
    let mut crowd = crowd();
    crowd.messages.push(plain(1, EARLY));
    let mut redis_faults = redis_faults();
    redis_faults.budget.redis_faults += 1;
    let mut window_moves = window_moves();
    window_moves.messages.push(plain(0, LATE));
    window_moves.budget.failures -= 1;
    let mut window_and_redis = window_and_redis();
    window_and_redis.budget.redeliveries += 1;
    let mut rebuild = rebuild();
    rebuild.budget.changes += 1;
    let mut certification = certification();
    certification.budget.failures += 1;
    certification.budget.redis_faults += 1;
    [redis_faults, window_moves, window_and_redis, rebuild, crowd, certification]
}
