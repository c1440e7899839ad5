//! The driver's own book: what was accepted, and what is to become of it. It knows nothing of what the functions did.
//!
//! 16 bytes a message, 24 where two outcomes are right, so that a run of millions fits anywhere.
use std::collections::BTreeMap;

use domain::{Timestamp, VoterHasher};
use uuid::Uuid;

use crate::{
    polls::Poll,
    vote::{Fate, Identity, Vote},
};

/// A vote's key in the ledger without its time: 64 bits of its hash.
pub type Key = u64;

/// Where a vote counts, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count {
    /// What makes it one vote.
    pub key: Key,
    /// Place of the poll in the run.
    pub poll: u16,
    /// Number.
    pub contestant: i16,
}

/// A message's id, in short: 64 of its random bits.
pub type MessageKey = u64;

/// The short form of a message's id.
pub fn message_key(id: Uuid) -> MessageKey {
    id.as_u128() as u64
}

/// The short form of a vote's key.
pub fn key(key: Uuid) -> Key {
    key.as_u128() as u64
}

/// A message that counts, or is rejected for this reason: the ledger decides which, and it may not be both.
#[derive(Debug, Clone, Copy)]
pub struct Either {
    /// The message.
    pub message: MessageKey,
    /// If it counts.
    pub count: Count,
    /// If not.
    pub reason: Reason,
}

/// Why a vote cast in time is rejected behind its poll's certificate.
pub const LATE: &str = "late";

/// Index into [`domain::Rejection::ALL`].
pub type Reason = u8;

/// The index of a reason; `None`: there is no such reason.
pub fn reason(name: &str) -> Option<Reason> {
    let found = domain::Rejection::ALL.iter().position(|reason| reason.name() == name)?;
    u8::try_from(found).ok()
}

/// What was accepted, and what is expected of it.
#[derive(Debug)]
pub struct Book {
    hasher: VoterHasher,
    polls: Vec<Poll>,
    /// Messages accepted.
    pub accepted: u64,
    /// By kind.
    pub by_kind: BTreeMap<&'static str, u64>,
    /// Each message that must count, or be the duplicate of one that does.
    pub counts: Vec<Count>,
    /// Each message that must be rejected.
    pub rejected: Vec<(MessageKey, Reason)>,
    /// Each message whose outcome only the ledger can tell.
    pub either: Vec<Either>,
}

impl Book {
    /// Empty. `hasher`: with the stack's own secret.
    pub fn new(hasher: VoterHasher, polls: Vec<Poll>) -> Self {
        let (counts, rejected, either) = (Vec::new(), Vec::new(), Vec::new());
        Self { hasher, polls, accepted: 0, by_kind: BTreeMap::new(), counts, rejected, either }
    }

    /// Takes all of it out.
    pub fn take(&mut self) -> Self {
        let empty = Self::new(self.hasher.clone(), Vec::new());
        std::mem::replace(self, empty)
    }

    /// The polls of the run.
    pub fn polls(&self) -> &[Poll] {
        &self.polls
    }

    /// Enters an accepted message, sent at some time from `first` to `last`. `is_withheld`: the queue withholds it by
    /// itself, so that it may come after its poll's certificate.
    ///
    /// # Panics
    /// When the vote expects a reason that there is not.
    pub fn enter(&mut self, vote: &Vote, message: Uuid, first_ms: i64, last_ms: i64, is_withheld: bool) {
        self.accepted += 1;
        *self.by_kind.entry(vote.kind).or_default() += 1;
        let reason = |name: &str| reason(name).unwrap_or_else(|| panic!("there is no reason {name}"));
        let (place, contestant, identity) = match vote.fate {
            Fate::Rejected(name) => return self.rejected.push((message_key(message), reason(name))),
            Fate::Counts { poll, contestant, identity } => (poll, contestant, identity),
        };
        let poll = &self.polls[place];
        let key = self.key(vote, poll, identity, message);
        let count = Count { key, poll: place as u16, contestant };
        let message = message_key(message);
        match (poll.holds(first_ms, last_ms), identity) {
            (Some(true), _) if is_withheld => {
                self.either.push(Either { message, count, reason: reason(LATE) });
            }
            (Some(true), _) => self.counts.push(count),
            // Only this message can be that vote, and it is too early or too late.
            (Some(false), Identity::Message) => self.rejected.push((message, reason(poll.outside_reason()))),
            // Another message of the same vote may have been in time: then this one is its duplicate.
            (Some(false), _) | (None, _) => {
                self.either.push(Either { message, count, reason: reason(poll.outside_reason()) });
            }
        }
    }

    fn key(&self, vote: &Vote, poll: &Poll, identity: Identity, message: Uuid) -> Key {
        let id = domain::PollId(poll.id);
        // The time in a key is not part of what is kept here.
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

/// The `sub` of a voter.
pub fn subject(voter: u32) -> String {
    format!("voter-{voter}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polls::{KINDS, Kind, Window};

    const BELL_MS: i64 = 1_000;

    fn book() -> Book {
        let place = KINDS.iter().position(|kind| matches!(kind.window, Window::Closes(_)));
        let kind: Kind = KINDS[place.unwrap()];
        let bell = Poll { id: 7, kind, opens_ms: 0, closes_ms: Some(BELL_MS) };
        Book::new("0".repeat(64).parse().unwrap(), vec![bell])
    }

    fn vote(voter: u32, identity: Identity) -> Vote {
        let fate = Fate::Counts { poll: 0, contestant: 1, identity };
        Vote { voter: Some(voter), body: String::new(), kind: "", fate, by_http: false }
    }

    fn outcomes(identity: Identity, first_ms: i64, last_ms: i64) -> (usize, usize, usize) {
        let mut book = book();
        book.enter(&vote(1, identity), Uuid::new_v4(), first_ms, last_ms, false);
        assert_eq!(book.accepted, 1);
        (book.counts.len(), book.rejected.len(), book.either.len())
    }

    #[test]
    fn the_bell_decides_as_far_as_it_can_be_told() {
        for identity in [Identity::Message, Identity::Client(Uuid::from_u128(1)), Identity::Ballot(1)] {
            assert_eq!(outcomes(identity, BELL_MS - 2, BELL_MS - 1), (1, 0, 0), "{identity:?} in time");
            assert_eq!(outcomes(identity, BELL_MS - 1, BELL_MS), (0, 0, 1), "{identity:?} at the bell");
        }
        assert_eq!(outcomes(Identity::Message, BELL_MS, BELL_MS), (0, 1, 0));
        // It may be the late retry of a vote that was in time.
        assert_eq!(outcomes(Identity::Ballot(1), BELL_MS, BELL_MS), (0, 0, 1));
    }

    #[test]
    fn a_withheld_message_may_come_behind_the_certificate() {
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
