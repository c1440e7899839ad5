use serde::{Deserialize, Serialize};

/// The reason why a vote was not counted. Metrics and the audit show its name. The name is stored, so it never
/// changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rejection {
    /// The message has no time, or its id is no UUID. SQS never sends such a message.
    Unreadable,
    /// The body is not JSON.
    NotJson,
    /// A field does not have the type that the contract defines.
    WrongType,
    /// `poll` or `contestant` is absent, or the `id` of a request with `votes`.
    MissingField,
    /// The `id` is not a UUID of version 4 or 7, which have at least 62 random bits.
    WeakId,
    /// `votes` is empty.
    NoVotes,
    /// `votes` has more than [`VOTES_MAX`](super::VOTES_MAX) elements.
    TooManyVotes,
    /// The vote has a `count` and its request no `id`.
    CountWithoutId,
    /// The body is larger than [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX).
    TooLarge,
    /// The message did not come through the gateway's authorizer.
    NoVoter,
    /// The poll does not exist.
    UnknownPoll,
    /// The poll has no such contestant.
    UnknownContestant,
    /// Cast before the poll opened.
    BeforeOpening,
    /// Cast at or after the close, or between a close and a reopening.
    AfterClosing,
    /// Cast in time, for a contestant that had been withdrawn.
    Withdrawn,
    /// Cast in time and otherwise valid, but the result was certified before the vote arrived.
    Late,
    /// The poll has a limit and the vote names no ballot.
    BallotMissing,
    /// The ballot is 0 or negative.
    BallotBelowOne,
    /// The ballot is above the poll's limit.
    BallotAboveLimit,
    /// The poll has no limit, yet the vote names a ballot.
    BallotNotAllowed,
    /// The poll has a limit, yet the vote has a `count`.
    CountNotAllowed,
    /// The `count` is below 1 or above the poll's `tapsMax`.
    CountOutOfRange,
}

impl Rejection {
    /// Every reason, in the order in which the checks run.
    pub const ALL: [Self; 22] = [
        Self::Unreadable,
        Self::TooLarge,
        Self::NotJson,
        Self::MissingField,
        Self::WrongType,
        Self::WeakId,
        Self::NoVotes,
        Self::TooManyVotes,
        Self::CountWithoutId,
        Self::NoVoter,
        Self::UnknownPoll,
        Self::UnknownContestant,
        Self::BallotMissing,
        Self::BallotBelowOne,
        Self::BallotAboveLimit,
        Self::BallotNotAllowed,
        Self::CountNotAllowed,
        Self::CountOutOfRange,
        Self::BeforeOpening,
        Self::AfterClosing,
        Self::Withdrawn,
        Self::Late,
    ];

    /// Returns the name in metrics, the ledger and the audit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::NotJson => "notJson",
            Self::WrongType => "wrongType",
            Self::MissingField => "missingField",
            Self::WeakId => "weakId",
            Self::NoVotes => "noVotes",
            Self::TooManyVotes => "tooManyVotes",
            Self::CountWithoutId => "countWithoutId",
            Self::TooLarge => "tooLarge",
            Self::NoVoter => "noVoter",
            Self::UnknownPoll => "unknownPoll",
            Self::UnknownContestant => "unknownContestant",
            Self::BeforeOpening => "beforeOpening",
            Self::AfterClosing => "afterClosing",
            Self::Withdrawn => "withdrawn",
            Self::Late => "late",
            Self::BallotMissing => "ballotMissing",
            Self::BallotBelowOne => "ballotBelowOne",
            Self::BallotAboveLimit => "ballotAboveLimit",
            Self::BallotNotAllowed => "ballotNotAllowed",
            Self::CountNotAllowed => "countNotAllowed",
            Self::CountOutOfRange => "countOutOfRange",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_also_the_json() {
        for reason in Rejection::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
    }
}
