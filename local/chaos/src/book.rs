//! The driver's book: every accepted message with its expected outcome, independent of the functions.
//!
//! A vote takes 16 bytes, or 32 if several outcomes are valid, so that a run of millions fits into memory.
use std::collections::BTreeMap;

use domain::{Timestamp, VoterHasher};
use uuid::Uuid;

use crate::{
    polls::Poll,
    vote::{Identity, Outcome, Vote},
};

/// A vote's key in the ledger without its time prefix: 64 bits of the hash.
pub type Key = u64;

/// The row that a counted vote makes in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// The vote's key; messages of one vote share it.
    pub key: Key,
    /// Index of the poll in the run.
    pub poll: u16,
    /// Number of the contestant.
    pub contestant: i16,
    /// Taps that the vote stands for.
    pub taps: i16,
}

/// A message's id and a place in it, shortened to 64 bits.
pub type MessageKey = u64;

/// Shortens a message's id and a place in it.
pub fn message_key(id: Uuid, place: i16) -> MessageKey {
    // Places must not turn one id into another: the multiplier is 2⁶⁴ divided by the golden ratio.
    (id.as_u128() as u64) ^ u64::from(place.unsigned_abs()).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// Shortens a vote's key.
pub fn key(key: Uuid) -> Key {
    key.as_u128() as u64
}

/// Shortens an entry of the public log, tag and check, to 64 bits.
pub fn log_key(entry: &[u8; 32]) -> u64 {
    let half =
        |start: usize| entry[start..start + 8].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    half(8) ^ half(16)
}

/// A vote that either counts or is rejected for one of these reasons. Each outcome is valid, but no two together.
#[derive(Debug, Clone, Copy)]
pub struct Either {
    /// The message and the vote's place in it.
    pub message: MessageKey,
    /// The expected row, if the vote counts.
    pub count: Count,
    /// The expected reason, if the vote is rejected for its time.
    pub reason: Option<Reason>,
    /// Whether it may be rejected because another vote has used its ballot.
    pub has_ballot: bool,
}

impl Either {
    /// Tells whether a row may be this vote; else it is rejected, or a duplicate of another vote.
    pub fn can_count(&self) -> bool {
        self.count.taps > 0
    }

    /// Tells whether the vote may be rejected for a reason.
    pub fn allows(&self, name: &str) -> bool {
        (self.has_ballot && name == BALLOT_USED) || (self.reason.is_some() && self.reason == reason(name))
    }
}

/// Rejection reason of a vote whose ballot another vote has used. The ledger alone knows it.
pub const BALLOT_USED: &str = "ballotUsed";

/// Rejection reason of a vote that was cast in time and arrives after its poll's certificate.
pub const LATE: &str = "late";

/// Index into [`domain::Rejection::ALL`].
pub type Reason = u8;

/// Returns the index of a reason, or `None` for an unknown one.
pub fn reason(name: &str) -> Option<Reason> {
    let found = domain::Rejection::ALL.iter().position(|reason| reason.name() == name)?;
    u8::try_from(found).ok()
}

/// The time of sending a message.
#[derive(Debug, Clone, Copy)]
struct Time {
    first_ms: i64,
    last_ms: i64,
    is_withheld: bool,
}

/// The accepted messages and their expected outcomes.
#[derive(Debug)]
pub struct Book {
    hasher: VoterHasher,
    polls: Vec<Poll>,
    /// Number of accepted messages.
    pub messages: u64,
    /// Number of votes in them; a malformed message counts as one.
    pub accepted: u64,
    /// Number of accepted messages by kind of vote.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Votes that must count or be duplicates of a counted one.
    pub counts: Vec<Count>,
    /// Votes that must be rejected.
    pub rejected: Vec<(MessageKey, Reason)>,
    /// Votes with several valid outcomes.
    pub either: Vec<Either>,
    /// [`log_key`] of each vote that may count.
    pub logged: Vec<u64>,
}

impl Book {
    /// Returns an empty book. `hasher` has the stack's secret.
    pub fn new(hasher: VoterHasher, polls: Vec<Poll>) -> Self {
        let (counts, rejected, either, logged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self {
            hasher,
            polls,
            messages: 0,
            accepted: 0,
            by_kind: BTreeMap::new(),
            counts,
            rejected,
            either,
            logged,
        }
    }

    /// Returns the book and leaves an empty one.
    pub fn take(&mut self) -> Self {
        let empty = Self::new(self.hasher.clone(), Vec::new());
        std::mem::replace(self, empty)
    }

    /// Returns the polls of the run.
    pub fn polls(&self) -> &[Poll] {
        &self.polls
    }

    /// Records an accepted message, sent between `first_ms` and `last_ms`. `is_withheld` tells that the queue
    /// withholds this message, so that it may arrive after its poll's certificate.
    ///
    /// # Panics
    /// The vote expects an unknown reason.
    pub fn enter(&mut self, vote: &Vote, message: Uuid, first_ms: i64, last_ms: i64, is_withheld: bool) {
        self.messages += 1;
        self.accepted += vote.outcomes.len() as u64;
        *self.by_kind.entry(vote.kind).or_default() += 1;
        for (place, outcome) in (0..).zip(&vote.outcomes) {
            let message = (message, place);
            match *outcome {
                Outcome::Rejected(name) => {
                    let reason = reason(name).unwrap_or_else(|| panic!("there is no reason {name}"));
                    self.rejected.push((message_key(message.0, place), reason));
                }
                Outcome::RejectedUnlessKnown { poll, reason: name, identity } => {
                    let key = self.key(vote, &self.polls[poll], identity, message);
                    // No row has this contestant and so many taps.
                    let count = Count { key, poll: poll as u16, contestant: 0, taps: 0 };
                    let message = message_key(message.0, place);
                    self.either.push(Either { message, count, reason: reason(name), has_ballot: false });
                }
                Outcome::Counts { poll, contestant, taps, identity } => {
                    let key = self.key(vote, &self.polls[poll], identity, message);
                    let count = Count { key, poll: poll as u16, contestant, taps };
                    self.logged.extend(log_entry(vote, self.polls[poll].id, message, count, identity));
                    let time = Time { first_ms, last_ms, is_withheld };
                    self.enter_count(message_key(message.0, place), count, identity, time);
                }
            }
        }
    }

    fn enter_count(&mut self, message: MessageKey, count: Count, identity: Identity, time: Time) {
        let poll = &self.polls[usize::from(count.poll)];
        let has_ballot = matches!(identity, Identity::Ballot(_));
        let outside = reason(poll.outside_reason());
        let mut either = |reason| self.either.push(Either { message, count, reason, has_ballot });
        match (poll.holds(time.first_ms, time.last_ms), identity) {
            (Some(true), _) if time.is_withheld => either(reason(LATE)),
            (Some(true), Identity::Ballot(_)) => either(None),
            (Some(true), _) => self.counts.push(count),
            // No other message belongs to this vote, and this one is too early or too late.
            (Some(false), Identity::Message) => self.rejected.extend(outside.map(|reason| (message, reason))),
            // Another message of the same vote may have been in time; this one is then its duplicate.
            (Some(false), _) | (None, _) => either(outside),
        }
    }

    fn key(&self, vote: &Vote, poll: &Poll, identity: Identity, (message, place): (Uuid, i16)) -> Key {
        let id = domain::PollId(poll.id);
        // The book's key leaves out the time prefix, so any time will do.
        let any_time = Timestamp::from_millis(0).unwrap_or_else(|| unreachable!("1970 is a time"));
        let voter = self.hasher.voter(&vote.voter.map(subject).unwrap_or_default());
        let full = match identity {
            Identity::Message => self.hasher.message_key(id, any_time, message),
            Identity::Client(client) => self.hasher.client_key(id, any_time, voter, client, place),
            Identity::Ballot(ballot) => self.hasher.ballot_key(id, any_time, voter, ballot),
        };
        key(full.0)
    }
}

/// Returns the [`log_key`] of a vote in the public log. Its id is that in the body, also where a ballot identifies it.
fn log_entry(
    vote: &Vote,
    poll: i32,
    (message, place): (Uuid, i16),
    count: Count,
    identity: Identity,
) -> Option<u64> {
    let body: serde_json::Value = serde_json::from_str(&vote.body).ok()?;
    let id = body["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()).unwrap_or(message);
    let ballot = if let Identity::Ballot(ballot) = identity { ballot } else { 0 };
    let request = domain::LogSubject::new(&subject(vote.voter?)).request(poll.into(), id);
    let entry = request.entry(place, ballot.into());
    let check = domain::log_check(&entry.opening, domain::ContestantNumber(count.contestant), count.taps);
    let mut both = [0; 32];
    both[..16].copy_from_slice(&entry.tag);
    both[16..].copy_from_slice(&check);
    Some(log_key(&both))
}

/// Returns a voter's `sub`.
pub fn subject(voter: u32) -> String {
    format!("voter-{voter}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polls::{KINDS, Kind, Window};

    const CLOSE_MS: i64 = 1_000;

    fn book() -> Book {
        let index = KINDS.iter().position(|kind| matches!(kind.window, Window::Closes(_)));
        let kind: Kind = KINDS[index.unwrap()];
        let closing = Poll { id: 7, kind, opens_ms: 0, closes_ms: Some(CLOSE_MS) };
        Book::new("0".repeat(64).parse().unwrap(), vec![closing])
    }

    fn vote(voter: u32, identity: Identity) -> Vote {
        let outcomes = vec![Outcome::Counts { poll: 0, contestant: 1, taps: 1, identity }];
        Vote { voter: Some(voter), body: String::new(), kind: "", outcomes, by_http: false }
    }

    fn outcomes(identity: Identity, first_ms: i64, last_ms: i64) -> (usize, usize, usize) {
        let mut book = book();
        book.enter(&vote(1, identity), Uuid::new_v4(), first_ms, last_ms, false);
        assert_eq!(book.accepted, 1);
        (book.counts.len(), book.rejected.len(), book.either.len())
    }

    #[test]
    fn the_close_decides_where_the_time_is_known() {
        for identity in [Identity::Message, Identity::Client(Uuid::from_u128(1)), Identity::Ballot(1)] {
            let in_time = if matches!(identity, Identity::Ballot(_)) { (0, 0, 1) } else { (1, 0, 0) };
            assert_eq!(outcomes(identity, CLOSE_MS - 2, CLOSE_MS - 1), in_time, "{identity:?} in time");
            assert_eq!(outcomes(identity, CLOSE_MS - 1, CLOSE_MS), (0, 0, 1), "{identity:?} at the close");
        }
        assert_eq!(outcomes(Identity::Message, CLOSE_MS, CLOSE_MS), (0, 1, 0));
        // The message may be a late retry of a vote that was in time.
        assert_eq!(outcomes(Identity::Ballot(1), CLOSE_MS, CLOSE_MS), (0, 0, 1));
    }

    #[test]
    fn a_withheld_message_may_come_after_the_certificate() {
        let mut book = book();
        book.enter(&vote(1, Identity::Message), Uuid::new_v4(), 0, 0, true);
        assert_eq!((book.counts.len(), book.rejected.len()), (0, 0));
        assert_eq!(book.either.iter().map(|either| either.reason).collect::<Vec<_>>(), [reason(LATE)]);
    }

    #[test]
    fn messages_of_one_vote_share_its_key() {
        let mut book = book();
        for (voter, identity) in [
            (1, Identity::Ballot(1)),
            (1, Identity::Ballot(1)),
            (1, Identity::Ballot(2)),
            (2, Identity::Ballot(1)),
            (1, Identity::Message),
            (1, Identity::Message),
        ] {
            book.enter(&vote(voter, identity), Uuid::new_v4(), 0, 0, false);
        }
        let ballots: Vec<Key> = book.either.iter().map(|either| either.count.key).collect();
        assert_eq!(ballots[0], ballots[1]);
        assert!(
            book.either.iter().all(|either| either.allows(BALLOT_USED) && !either.allows("afterClosing"))
        );
        let mut keys: Vec<Key> = book.counts.iter().map(|count| count.key).chain(ballots).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 5);
    }

    #[test]
    fn each_vote_of_a_list_has_its_own_key() {
        let mut book = book();
        let id = Identity::Client(Uuid::from_u128(1));
        let counts = |taps| Outcome::Counts { poll: 0, contestant: 1, taps, identity: id };
        let outcomes = vec![counts(3), Outcome::Rejected("wrongType"), counts(1)];
        let list = Vote { outcomes, ..vote(1, id) };
        book.enter(&list, Uuid::new_v4(), 0, 0, false);
        book.enter(&list, Uuid::new_v4(), 0, 0, false);
        assert_eq!((book.messages, book.accepted, book.rejected.len()), (2, 6, 2));
        let [first, third, again, _] = book.counts[..] else { panic!("{:?}", book.counts) };
        assert!(first == again && first.key != third.key && (first.taps, third.taps) == (3, 1));
    }
}
