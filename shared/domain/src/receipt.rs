use serde::Serialize;
use uuid::Uuid;

use super::{
    ContestantNumber, Poll, PollId, ReceiptTag, Timestamp, VOTES_MAX, VoteKey, Voter, VoterHasher,
    definition::VOTES_PER_VOTER_MAX,
};

/// The outcome of a vote, for the voter who cast it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Receipt {
    /// The vote is in the result.
    Counted {
        /// The contestant of the vote.
        contestant: ContestantNumber,
        /// The taps that it stands for.
        #[serde(skip_serializing_if = "is_one")]
        count: i16,
        /// The time of casting.
        cast_at: Timestamp,
        /// The voter's ballot, in a poll with a limit.
        ballot: Option<i16>,
    },
    /// The vote is not in the result.
    Rejected {
        /// The name of a [`Rejection`](super::Rejection).
        reason: String,
        /// The time of casting.
        cast_at: Timestamp,
    },
}

/// The outcome of one vote of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedReceipt {
    /// The vote's place in the request, from 0.
    pub place: i16,
    /// The outcome.
    #[serde(flatten)]
    pub receipt: Receipt,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_one(count: &i16) -> bool {
    *count == 1
}

/// A voter's query for the votes of one of their requests in a poll, with every key that they may have in the ledger.
///
/// The answer never shows another voter's vote: the tag and most keys are derived from the voter, and the ledger
/// compares the voter of each vote that it finds.
#[derive(Debug, Clone)]
pub struct Inquiry {
    /// The poll.
    pub poll: PollId,
    /// The voter who asks.
    pub voter: Voter,
    /// The id of the message, or the id that the client gave. The ledger looks for both.
    pub id: Uuid,
    /// The stored form of the id.
    pub tag: ReceiptTag,
    /// Every key that a counted vote may have.
    pub keys: Vec<VoteKey>,
}

impl Inquiry {
    /// Creates the query of a voter at `now`.
    ///
    /// In a poll with a limit, the keys are those of every possible ballot, since the limit may have been higher when
    /// the vote was counted. In a poll without one, they are the keys of the client's id, one for each place in a
    /// request, and the [keys of the message](VoterHasher::message_keys) within the poll's window. So there, a counted vote with a
    /// client's id is not found by its message id, and neither is a vote from outside the current window.
    pub fn new(poll: &Poll, voter: Voter, id: Uuid, now: Timestamp, hasher: &VoterHasher) -> Self {
        let keys = if poll.votes_per_voter.is_some() {
            hasher.ballot_keys(poll, voter, VOTES_PER_VOTER_MAX)
        } else {
            let first = poll.opens_at.map_or(poll.created_at, |opening| opening.max(poll.created_at));
            let last = poll.closes_at.map_or(now, |close| close.min(now));
            let places = 0..VOTES_MAX as i16;
            let client_keys =
                places.map(|place| hasher.client_key(poll.id, poll.created_at, voter, id, place));
            hasher.message_keys(poll.id, first, last, id).chain(client_keys).collect()
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

    /// Returns whether the query finds a message sent at `sent_at`, in a poll with this window that was created at
    /// day 1.
    fn finds(opens_at: Option<i64>, closes_at: Option<i64>, now: i64, sent_at: i64) -> bool {
        let poll =
            Poll { created_at: at(DAY), opens_at: opens_at.map(at), closes_at: closes_at.map(at), ..poll() };
        let id = Uuid::from_u128(9);
        let inquiry = Inquiry::new(&poll, hasher().voter("alice"), id, at(now), &hasher());
        inquiry.keys.contains(&hasher().message_key(poll.id, at(sent_at), id))
    }

    #[test]
    fn a_message_is_looked_for_while_its_poll_was_open() {
        let (opening, close) = (DAY + 60_000, DAY + 120_000);
        let window = |now, sent_at| finds(Some(opening), Some(close), now, sent_at);
        assert!(window(30 * DAY, opening) && window(30 * DAY, close - 1), "however long ago that was");
        assert!(!window(30 * DAY, opening - 10_000) && !window(30 * DAY, close + 10_000));
        assert!(!window(opening, opening + 10_000), "nor later than now");
        assert!(finds(Some(opening), None, close, close), "there may be no close");
        assert!(!finds(Some(0), Some(close), close, DAY - 10_000), "nor before there was a poll");
        assert!(finds(None, None, close, DAY), "nor an opening");
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
