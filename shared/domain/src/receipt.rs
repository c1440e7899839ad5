use serde::Serialize;
use uuid::Uuid;

use super::{
    ContestantNumber, Poll, PollId, ReceiptTag, Timestamp, VoteKey, Voter, VoterHasher,
    definition::VOTES_PER_VOTER_MAX,
};

/// What became of a vote, for whoever cast it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Receipt {
    /// It is in the result.
    Counted {
        /// Whom it counts for.
        contestant: ContestantNumber,
        /// When it was cast.
        cast_at: Timestamp,
        /// Which of the voter's votes it is, in a limited poll.
        ballot: Option<i16>,
    },
    /// It is not in the result.
    Rejected {
        /// The name of a [`Rejection`](super::Rejection).
        reason: String,
        /// When it was cast.
        cast_at: Timestamp,
    },
    /// Not received, or not yet judged.
    Unknown,
}

/// A voter's question after one of their votes in a poll, and where the ledger would have it.
///
/// No answer is another voter's: the keys are made of the voter, or their votes compared with the voter, and the tag
/// is.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// The poll.
    pub poll: PollId,
    /// Who asks.
    pub voter: Voter,
    /// Of the vote's message, or given by its client: which of them is for the ledger to find out.
    pub id: Uuid,
    /// The id as it is stored.
    pub tag: ReceiptTag,
    /// Every key the vote may have counted by.
    pub keys: Vec<VoteKey>,
}

impl Inquiry {
    /// Asks at `now`.
    ///
    /// In a limited poll, the keys are those of every ballot there can be: the limit may have been higher when the
    /// vote counted. In another, they are the client id's and the [message's](VoterHasher::message_keys) within the
    /// poll's window. So there, a vote that carries an id is not found by its message once it has counted, nor is
    /// one that only an earlier, wider window let count.
    pub fn new(poll: &Poll, voter: Voter, id: Uuid, now: Timestamp, hasher: &VoterHasher) -> Self {
        let keys = if poll.votes_per_voter.is_some() {
            hasher.ballot_keys(poll, voter, VOTES_PER_VOTER_MAX)
        } else {
            let first = poll.opens_at.map_or(poll.created_at, |opening| opening.max(poll.created_at));
            let last = poll.closes_at.map_or(now, |bell| bell.min(now));
            let client_key = hasher.client_key(poll.id, poll.created_at, voter, id);
            hasher.message_keys(poll.id, first, last, id).chain([client_key]).collect()
        };
        Self { poll: poll.id, voter, id, tag: hasher.receipt_tag(voter, id), keys }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::tests::hasher,
        poll::tests::{at, poll},
    };

    const DAY: i64 = 86_400_000;

    /// Whether a message sent then would be found, in a poll that was created after a day and has this window.
    fn finds(opens_at: Option<i64>, closes_at: Option<i64>, now: i64, sent_at: i64) -> bool {
        let poll =
            Poll { created_at: at(DAY), opens_at: opens_at.map(at), closes_at: closes_at.map(at), ..poll() };
        let id = Uuid::from_u128(9);
        let inquiry = Inquiry::new(&poll, hasher().voter("alice"), id, at(now), &hasher());
        inquiry.keys.contains(&hasher().message_key(poll.id, at(sent_at), id))
    }

    #[test]
    fn a_message_is_looked_for_while_its_poll_was_open() {
        let (opening, bell) = (DAY + 60_000, DAY + 120_000);
        let window = |now, sent_at| finds(Some(opening), Some(bell), now, sent_at);
        assert!(window(30 * DAY, opening) && window(30 * DAY, bell - 1), "however long ago that was");
        assert!(!window(30 * DAY, opening - 10_000) && !window(30 * DAY, bell + 10_000));
        assert!(!window(opening, opening + 10_000), "nor later than now");
        assert!(finds(Some(opening), None, bell, bell), "there may be no bell");
        assert!(!finds(Some(0), Some(bell), bell, DAY - 10_000), "nor before there was a poll");
        assert!(finds(None, None, bell, DAY), "nor an opening");
    }

    #[test]
    fn a_ballot_is_looked_for_whatever_the_limit_is_now() {
        let limited = Poll { votes_per_voter: Some(1), ..poll() };
        let voter = hasher().voter("alice");
        let inquiry = Inquiry::new(&limited, voter, Uuid::from_u128(9), at(1_500), &hasher());
        let last = hasher().ballot_key(limited.id, limited.created_at, voter, VOTES_PER_VOTER_MAX);
        assert!(inquiry.keys.contains(&last) && inquiry.keys.len() == 100);
    }
}
