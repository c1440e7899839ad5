//! What a check starts from. Votes are judged, and get their keys, by the real `domain::judge`.

use domain::{
    Contestant, ContestantNumber, Message, Poll, PollId, Rejected, Results, Timestamp, VoteKey, VoteRequest,
    VoterHasher, judge,
};
use uuid::Uuid;

use crate::{
    set::Set,
    state::{Budget, Definition, MESSAGES_MAX, POLLS, WORKERS_MAX},
    witness::Event,
};

/// The windows between which the show moves the first poll, and whether it is frozen: open for long, closed early, and
/// what certification makes of the long one.
pub const WINDOWS: [(i64, i64, bool); 3] = [(0, 100, false), (0, 50, false), (0, 100, true)];
/// The window with a late bell.
pub const LONG: u8 = 0;
/// The window with an early bell.
pub const SHORT: u8 = 1;
/// The window of a certified poll.
pub const FROZEN: u8 = 2;

/// Counts whatever the window.
pub const EARLY: i64 = 10;
/// Counts by the long window only.
pub const LATE: i64 = 70;

/// A message in the queue: one voter's vote.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// Which poll.
    pub poll: usize,
    /// When.
    pub at: i64,
    /// Minted by the client: the same in a retry.
    pub id: Option<u128>,
}

/// What a check starts from, and how much may go wrong.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// For reports.
    pub name: &'static str,
    /// Instances of `functions/votes`.
    pub workers: usize,
    /// In the order of casting.
    pub messages: Vec<Cast>,
    /// The first poll's window.
    pub window: u8,
    /// Whether the first poll has closed and is to be certified.
    pub certifies: bool,
    /// What the first poll's tally, and with it the ranking, has too much.
    pub drift: u8,
    /// How often what need not happen may happen. Heals need no number here, there are enough.
    pub budget: Budget,
    /// What it is there to show.
    pub shows: &'static [Event],
}

/// What judging says of each message, by every definition.
#[derive(Debug)]
pub struct Verdicts {
    messages: Vec<Verdict>,
}

#[derive(Debug)]
struct Verdict {
    poll: usize,
    counts: [bool; WINDOWS.len()],
    same_key: Set,
}

impl Scenario {
    /// Judges every message by every definition there can be.
    pub fn verdicts(&self) -> Verdicts {
        assert!(self.messages.len() <= MESSAGES_MAX && self.workers <= WORKERS_MAX);
        let hasher: VoterHasher = "5e".repeat(32).parse().expect("64 hexadecimal digits");
        let judged = |index: usize, window| {
            let message = message(index, self.messages[index], &hasher);
            judge(&message, Some(&poll(self.messages[index].poll, window)), &hasher)
        };
        let key = |index| -> VoteKey {
            let keys = WINDOWS.map(|window| match judged(index, window) {
                Ok(vote) => vote.key,
                Err(Rejected { key, .. }) => key.expect("rejected by the window only"),
            });
            assert!(keys.iter().all(|key| *key == keys[0]), "a key is a property of the vote");
            keys[0]
        };
        let verdict = |index: usize| Verdict {
            poll: self.messages[index].poll,
            counts: WINDOWS.map(|window| judged(index, window).is_ok()),
            same_key: (0..self.messages.len()).filter(|&other| key(other) == key(index)).collect(),
        };
        Verdicts { messages: (0..self.messages.len()).map(verdict).collect() }
    }

    /// The budget from the start. Each load in the end makes a ranking whole, unless something went wrong since; so
    /// there are enough of them, and if there were not, the ranking would be found short.
    pub fn budget(&self) -> Budget {
        let enough = self.budget.total() + POLLS as u8;
        Budget { heals: enough, ..self.budget }
    }

    /// Whether any definition may change.
    pub fn has_changes(&self) -> bool {
        self.budget.changes + self.budget.rebuilds > 0 || self.certifies
    }
}

impl Verdicts {
    /// Every message.
    pub fn all(&self) -> Set {
        Set::below(self.messages.len())
    }

    /// The poll that a message names.
    pub fn poll(&self, message: usize) -> usize {
        self.messages[message].poll
    }

    /// The polls that a batch names: `polls_in`.
    pub fn polls_in(&self, batch: Set) -> Set {
        batch.iter().map(|message| self.poll(message)).collect()
    }

    /// The messages of a batch that name a poll.
    pub fn of_poll(&self, batch: Set, poll: usize) -> Set {
        batch.iter().filter(|&message| self.poll(message) == poll).collect()
    }

    /// The messages of a batch that count by these definitions; the others are rejected.
    pub fn votes(&self, batch: Set, judged: &[Definition; POLLS]) -> Set {
        let counts = |message: usize| {
            let Verdict { poll, counts, .. } = &self.messages[message];
            counts[usize::from(judged[*poll].window)]
        };
        batch.iter().filter(|&message| counts(message)).collect()
    }

    /// The messages that carry the same vote, itself included.
    pub fn same_key(&self, message: usize) -> Set {
        self.messages[message].same_key
    }
}

fn message(index: usize, cast: Cast, hasher: &VoterHasher) -> Message {
    let id = cast.id.map(|id| format!(r#","id":"{}""#, Uuid::from_u128(id))).unwrap_or_default();
    Message {
        id: Uuid::from_u128(index as u128),
        sent_at: at(cast.at),
        voter: Some(hasher.voter("alice")),
        request: VoteRequest::parse(&format!(r#"{{"poll":{},"contestant":7{id}}}"#, cast.poll + 1)),
    }
}

fn poll(index: usize, (opens_at, closes_at, is_frozen): (i64, i64, bool)) -> Poll {
    Poll {
        id: PollId(index as i32 + 1),
        title: "Who stays?".to_owned(),
        opens_at: Some(at(opens_at)),
        closes_at: Some(at(closes_at)),
        votes_per_voter: None,
        results: Results::Live,
        contestants: vec![Contestant {
            number: ContestantNumber(7),
            name: "Seven".to_owned(),
            image_url: None,
            withdrawn_at: None,
        }],
        draft: false,
        archived_at: None,
        gaps: Vec::new(),
        errata: Vec::new(),
        version: 1,
        epoch: 1,
        created_at: at(0),
        frozen_at: is_frozen.then(|| at(closes_at)),
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).expect("a time in 1970")
}
