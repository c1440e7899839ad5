//! The scenarios. Each gives one kind of trouble its full freedom; all of them at once would be too many states.

use crate::{
    scenario::{Cast, EARLY, LATE, LONG, SHORT, Scenario},
    state::Budget,
    witness::Event,
};

/// A vote with the client's id, which a retry repeats.
const fn with_id(poll: usize, at: i64) -> Cast {
    Cast { poll, at, id: Some(1) }
}

/// A vote known by its message only.
const fn plain(poll: usize, at: i64) -> Cast {
    Cast { poll, at, id: None }
}

/// Deaths and redeliveries: a vote, its retry, and a vote on another poll.
pub fn deaths() -> Scenario {
    Scenario {
        name: "deaths",
        workers: 2,
        messages: vec![with_id(0, EARLY), with_id(0, EARLY), plain(1, EARLY)],
        window: LONG,
        drift: 0,
        budget: Budget { failures: 2, redeliveries: 1, ..Budget::default() },
        unseen: &[],
    }
}

/// Three workers at once on two votes of one poll, a retry, and a vote on another poll.
pub fn crowd() -> Scenario {
    Scenario {
        name: "crowd",
        workers: 3,
        messages: vec![with_id(0, EARLY), with_id(0, EARLY), plain(0, EARLY), plain(1, EARLY)],
        window: LONG,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, ..Budget::default() },
        unseen: &[],
    }
}

/// Redis loses its data, goes away, is slow, while polls are loaded.
pub fn redis_faults() -> Scenario {
    Scenario {
        name: "redis faults",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(1, EARLY)],
        window: LONG,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, redis_faults: 2, loads: 1, ..Budget::default() },
        unseen: &[],
    }
}

/// The poll closes and opens again: a vote and its retry on both sides of the early bell, and another late one.
pub fn window_moves() -> Scenario {
    Scenario {
        name: "window moves",
        workers: 2,
        messages: vec![with_id(0, EARLY), with_id(0, LATE), plain(0, LATE)],
        window: LONG,
        drift: 0,
        budget: Budget { failures: 1, redeliveries: 1, changes: 2, ..Budget::default() },
        unseen: &[],
    }
}

/// The poll opens again and closes, under more failures.
pub fn window_moves_back() -> Scenario {
    Scenario {
        name: "window moves back",
        workers: 3,
        messages: vec![with_id(0, LATE), with_id(0, LATE)],
        window: SHORT,
        drift: 0,
        budget: Budget { failures: 2, redeliveries: 1, changes: 2, ..Budget::default() },
        unseen: &[],
    }
}

/// The window moves while Redis fails and has old definitions.
pub fn window_and_redis() -> Scenario {
    Scenario {
        name: "window and Redis",
        workers: 2,
        messages: vec![plain(0, LATE), plain(0, LATE)],
        window: LONG,
        drift: 0,
        budget: Budget {
            failures: 1,
            redeliveries: 1,
            redis_faults: 1,
            changes: 1,
            loads: 1,
            ..Budget::default()
        },
        unseen: &[],
    }
}

/// A tally that is too high is rebuilt while votes keep coming.
pub fn rebuild() -> Scenario {
    Scenario {
        name: "rebuild",
        workers: 2,
        messages: vec![plain(0, EARLY), plain(0, EARLY)],
        window: LONG,
        drift: 1,
        budget: Budget { failures: 1, redeliveries: 1, rebuilds: 1, loads: 1, ..Budget::default() },
        unseen: &[],
    }
}

/// Every scenario.
pub fn all() -> Vec<Scenario> {
    vec![
        deaths(),
        crowd(),
        redis_faults(),
        window_moves(),
        window_moves_back(),
        window_and_redis(),
        rebuild(),
    ]
}
