//! The driver's book: every accepted message with its expected outcome, independent of the functions.
//!
//! A message takes 16 bytes, or 24 if two outcomes are valid, so that a run of millions fits into memory.
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
}

/// A message's id, shortened to 64 of its random bits.
pub type MessageKey = u64;

/// Shortens a message's id.
pub fn message_key(id: Uuid) -> MessageKey {
    id.as_u128() as u64
}

/// Shortens a vote's key.
pub fn key(key: Uuid) -> Key {
    key.as_u128() as u64
}

/// A message that either counts or is rejected for this reason. Both outcomes are valid, but not together.
#[derive(Debug, Clone, Copy)]
pub struct Either {
    /// The message.
    pub message: MessageKey,
    /// The expected row, if the message counts.
    pub count: Count,
    /// The expected reason, if the message is rejected.
    pub reason: Reason,
}

/// Rejection reason of a vote that was cast in time and arrives after its poll's certificate.
pub const LATE: &str = "late";

/// Index into [`domain::Rejection::ALL`].
pub type Reason = u8;

/// Returns the index of a reason, or `None` for an unknown one.
pub fn reason(name: &str) -> Option<Reason> {
    let found = domain::Rejection::ALL.iter().position(|reason| reason.name() == name)?;
    u8::try_from(found).ok()
}

/// The accepted messages and their expected outcomes.
#[derive(Debug)]
pub struct Book {
    hasher: VoterHasher,
    polls: Vec<Poll>,
    /// Number of accepted messages.
    pub accepted: u64,
    /// Number of accepted messages by kind of vote.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Messages that must count or be duplicates of a counted one.
    pub counts: Vec<Count>,
    /// Messages that must be rejected.
    pub rejected: Vec<(MessageKey, Reason)>,
    /// Messages with two valid outcomes.
    pub either: Vec<Either>,
}

impl Book {
    /// Returns an empty book. `hasher` has the stack's secret.
    pub fn new(hasher: VoterHasher, polls: Vec<Poll>) -> Self {
        let (counts, rejected, either) = (Vec::new(), Vec::new(), Vec::new());
        Self { hasher, polls, accepted: 0, by_kind: BTreeMap::new(), counts, rejected, either }
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
        self.accepted += 1;
        *self.by_kind.entry(vote.kind).or_default() += 1;
        let reason = |name: &str| reason(name).unwrap_or_else(|| panic!("there is no reason {name}"));
        let (index, contestant, identity) = match vote.outcome {
            Outcome::Rejected(name) => return self.rejected.push((message_key(message), reason(name))),
            Outcome::Counts { poll, contestant, identity } => (poll, contestant, identity),
        };
        let poll = &self.polls[index];
        let key = self.key(vote, poll, identity, message);
        let count = Count { key, poll: index as u16, contestant };
        let message = message_key(message);
        match (poll.holds(first_ms, last_ms), identity) {
            (Some(true), _) if is_withheld => {
                self.either.push(Either { message, count, reason: reason(LATE) });
            }
            (Some(true), _) => self.counts.push(count),
            // No other message belongs to this vote, and this one is too early or too late.
            (Some(false), Identity::Message) => self.rejected.push((message, reason(poll.outside_reason()))),
            // Another message of the same vote may have been in time; this one is then its duplicate.
            (Some(false), _) | (None, _) => {
                self.either.push(Either { message, count, reason: reason(poll.outside_reason()) });
            }
        }
    }

    fn key(&self, vote: &Vote, poll: &Poll, identity: Identity, message: Uuid) -> Key {
        let id = domain::PollId(poll.id);
        // The book's key leaves out the time prefix, so any time will do.
        let any_time = Timestamp::from_millis(0).unwrap_or_else(|| unreachable!("1970 is a time"));
        let voter = self.hasher.voter(&vote.voter.map(subject).unwrap_or_default());
        let full = match identity {
            Identity::Message => self.hasher.message_key(id, any_time, message),
            Identity::Client(client) => self.hasher.client_key(id, any_time, voter, client),
            Identity::Ballot(ballot) => self.hasher.ballot_key(id, any_time, voter, ballot),
        };
        key(full.0)
    }
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
        let outcome = Outcome::Counts { poll: 0, contestant: 1, identity };
        Vote { voter: Some(voter), body: String::new(), kind: "", outcome, by_http: false }
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
            assert_eq!(outcomes(identity, CLOSE_MS - 2, CLOSE_MS - 1), (1, 0, 0), "{identity:?} in time");
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
        assert_eq!(book.either.iter().map(|either| Some(either.reason)).collect::<Vec<_>>(), [reason(LATE)]);
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
        let mut keys: Vec<Key> = book.counts.iter().map(|count| count.key).collect();
        assert_eq!(keys[0], keys[1]);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 5);
    }
}
