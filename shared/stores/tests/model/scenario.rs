//! The initial state of a check. The real `domain::judge` judges the votes and makes their keys.

use domain::{
    Contestant, ContestantNumber, Message, Pace, Poll, PollId, Rejected, Results, Timestamp, VoteKey,
    VoteRequest, VoterHasher, judge,
};
use uuid::Uuid;

use crate::{
    set::Set,
    state::{Budget, Definition, MESSAGES_MAX, POLLS, WORKERS_MAX},
    witness::Event,
};

/// The first poll's possible windows (open, close) and whether it is frozen: a late close, an early close, and the
/// certified poll with the late close.
pub const WINDOWS: [(i64, i64, bool); 3] = [(0, 100, false), (0, 50, false), (0, 100, true)];
/// Index of the window with a late close.
pub const LONG: u8 = 0;
/// Index of the window with an early close.
pub const SHORT: u8 = 1;
/// Index of a certified poll's window.
pub const FROZEN: u8 = 2;

/// A moment inside of both windows.
pub const EARLY: i64 = 10;
/// A moment inside of the long window only.
pub const LATE: i64 = 70;

/// One voter's vote: a message in the queue, or one of several in a message. The state calls each a message, since each
/// has its own outcome; a message with several is delivered as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    /// Index of the poll.
    pub poll: usize,
    /// Moment of casting.
    pub at: i64,
    /// The client's id; a retry repeats it.
    pub id: Option<u128>,
    /// Taps that it stands for.
    pub taps: u8,
    /// Whether it is in the same message as the vote before it.
    pub continues: bool,
}

/// The initial state of a check and its budget of faults.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Name for reports.
    pub name: &'static str,
    /// Number of instances of `functions/votes`.
    pub workers: usize,
    /// Messages, in the order of casting.
    pub messages: Vec<Cast>,
    /// Index of the first poll's window.
    pub window: u8,
    /// Whether the first poll has closed and must be certified.
    pub certifies: bool,
    /// Initial excess of the first poll's tally and ranking.
    pub drift: u8,
    /// Limits of the optional steps. Heals need no number here: there are enough.
    pub budget: Budget,
    /// Events that must happen in this scenario.
    pub shows: &'static [Event],
}

/// Verdicts on each message by every definition.
#[derive(Debug)]
pub struct Verdicts {
    messages: Vec<Verdict>,
}

#[derive(Debug)]
struct Verdict {
    poll: usize,
    taps: u8,
    same_message: Set,
    counts: [bool; WINDOWS.len()],
    same_key: Set,
}

impl Scenario {
    /// Judges every message by every possible definition.
    pub fn verdicts(&self) -> Verdicts {
        assert!(self.messages.len() <= MESSAGES_MAX && self.workers <= WORKERS_MAX);
        let hasher: VoterHasher = "5e".repeat(32).parse().expect("64 hexadecimal digits");
        let judged = |index: usize, window| {
            let first = self.first_of_message(index);
            let message = message(first, &self.messages[first..], &hasher);
            let poll = poll(self.messages[index].poll, window);
            judge(&message, Some(&poll), &hasher).nth(index - first).expect("each vote has an outcome")
        };
        let key = |index| -> VoteKey {
            let keys = WINDOWS.map(|window| match judged(index, window) {
                Ok(vote) => vote.key,
                Err(Rejected { key, .. }) => key.expect("only the window rejects"),
            });
            assert!(keys.iter().all(|key| *key == keys[0]), "a key does not depend on the window");
            keys[0]
        };
        let verdict = |index: usize| Verdict {
            poll: self.messages[index].poll,
            taps: self.messages[index].taps,
            same_message: (0..self.messages.len())
                .filter(|&other| self.first_of_message(other) == self.first_of_message(index))
                .collect(),
            counts: WINDOWS.map(|window| judged(index, window).is_ok()),
            same_key: (0..self.messages.len()).filter(|&other| key(other) == key(index)).collect(),
        };
        Verdicts { messages: (0..self.messages.len()).map(verdict).collect() }
    }

    /// Returns the first vote of a vote's message.
    fn first_of_message(&self, index: usize) -> usize {
        (0..=index)
            .rev()
            .find(|&index| !self.messages[index].continues)
            .expect("the first vote begins a message")
    }

    /// Returns the initial budget. Each final load completes a ranking unless a fault follows, so one heal per
    /// fault and poll is enough; with too few, the check would find an incomplete ranking.
    pub fn budget(&self) -> Budget {
        let enough = self.budget.total() + POLLS as u8;
        Budget { heals: enough, ..self.budget }
    }

    /// Tells whether any definition may change.
    pub fn has_changes(&self) -> bool {
        self.budget.changes + self.budget.rebuilds > 0 || self.certifies
    }
}

impl Verdicts {
    /// Returns every message.
    pub fn all(&self) -> Set {
        Set::below(self.messages.len())
    }

    /// Returns the poll that a message names.
    pub fn poll(&self, message: usize) -> usize {
        self.messages[message].poll
    }

    /// Returns the polls that a batch names: `polls_in`.
    pub fn polls_in(&self, batch: Set) -> Set {
        batch.iter().map(|message| self.poll(message)).collect()
    }

    /// Returns the messages of a batch that name a poll.
    pub fn of_poll(&self, batch: Set, poll: usize) -> Set {
        batch.iter().filter(|&message| self.poll(message) == poll).collect()
    }

    /// Returns the messages of a batch that count by these definitions; the others are rejected.
    pub fn votes(&self, batch: Set, judged: &[Definition; POLLS]) -> Set {
        let counts = |message: usize| {
            let Verdict { poll, counts, .. } = &self.messages[message];
            counts[usize::from(judged[*poll].window)]
        };
        batch.iter().filter(|&message| counts(message)).collect()
    }

    /// Returns the taps of these votes.
    pub fn taps(&self, votes: Set) -> u8 {
        votes.iter().map(|vote| self.messages[vote].taps).sum()
    }

    /// Returns the votes of a vote's message, including this one.
    pub fn same_message(&self, message: usize) -> Set {
        self.messages[message].same_message
    }

    /// Tells whether a set has each message as a whole.
    pub fn is_whole(&self, messages: Set) -> bool {
        messages.iter().all(|message| self.same_message(message).without(messages).is_empty())
    }

    /// Returns the messages with the same vote, including this one.
    pub fn same_key(&self, message: usize) -> Set {
        self.messages[message].same_key
    }
}

/// The bits of a UUIDv4.
const V4: u128 = 0x4000_8000_0000_0000_0000;

/// Builds the message that begins with the first of these votes.
fn message(index: usize, casts: &[Cast], hasher: &VoterHasher) -> Message {
    let (first, rest) = casts.split_first().expect("a message has a vote");
    let rest: Vec<_> = rest.iter().take_while(|cast| cast.continues).collect();
    let id = first.id.map(|id| format!(r#","id":"{}""#, Uuid::from_u128(V4 | id))).unwrap_or_default();
    let vote = |cast: &Cast| match cast.taps {
        1 => r#""contestant":7"#.to_owned(),
        taps => format!(r#""contestant":7,"count":{taps}"#),
    };
    let votes = if rest.is_empty() {
        vote(first)
    } else {
        let rest: String = rest.into_iter().map(|cast| format!(",{{{}}}", vote(cast))).collect();
        format!(r#""votes":[{{{}}}{rest}]"#, vote(first))
    };
    Message {
        id: Uuid::from_u128(index as u128),
        sent_at: at(first.at),
        voter: Some(hasher.voter("alice")),
        request: VoteRequest::parse(&format!(r#"{{"poll":{},{votes}{id}}}"#, first.poll + 1)),
    }
}

fn poll(index: usize, (opens_at, closes_at, is_frozen): (i64, i64, bool)) -> Poll {
    Poll {
        id: PollId(index as i32 + 1),
        title: "Who stays?".to_owned(),
        opens_at: Some(at(opens_at)),
        closes_at: Some(at(closes_at)),
        votes_per_voter: None,
        taps_max: 100,
        results: Results::Live,
        pace: Pace::Auto,
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
