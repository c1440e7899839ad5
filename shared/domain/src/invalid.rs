use super::definition::{
    CONTESTANTS_MAX, ERRATA_MAX, ERRATUM_CHARS_MAX, GAPS_MAX, NAME_CHARS_MAX, TAPS_MAX, TITLE_CHARS_MAX,
    URL_CHARS_MAX, VOTES_PER_VOTER_MAX,
};

/// The reason why a definition or a change is refused. The message begins with the field.
///
/// To add one: 1. Add the variant with its message. 2. Give it a stable code in [`Invalid::code`]. 3. Decide between
/// 409 and 422 in [`Invalid::is_conflict`]. 4. Document the code in `docs/openapi.yaml`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Empty, blank or too long.
    #[error("title: expected one line of visible text, {TITLE_CHARS_MAX} characters at most")]
    Title,
    /// The window is empty or reversed.
    #[error("closesAt: must be after opensAt")]
    ClosesBeforeOpening,
    /// Votes that were valid when they were cast would be outside the window.
    #[error("closesAt: the poll has opened, so it cannot close before the present moment")]
    ClosesInThePast,
    /// Out of range.
    #[error("votesPerVoter: expected 1 to {VOTES_PER_VOTER_MAX}, or null for no limit")]
    VotesPerVoter,
    /// Out of range.
    #[error("tapsMax: expected 1 to {TAPS_MAX}")]
    TapsMax,
    /// A ballot is one vote.
    #[error("tapsMax: a poll with votesPerVoter takes one tap a vote, so only 1 is possible")]
    TapsWithLimit,
    /// One voter could send any number of requests.
    #[error(
        "tapsMax: more than 1 needs a limit of votes by token at the edge, which no client can bypass: give \
         the stack a DomainName, which closes the gateway's own address, and set WafVotesPerToken to 10 or more"
    )]
    TapsUnlimited,
    /// None or too many.
    #[error("contestants: expected 1 to {CONTESTANTS_MAX}, got {0}")]
    ContestantCount(usize),
    /// Two contestants have the same number.
    #[error("contestants[{index}].number: {number} is already taken")]
    NumberTaken {
        /// The index in the list, from 0.
        index: usize,
        /// The number.
        number: i16,
    },
    /// Zero or negative.
    #[error("contestants[{0}].number: expected 1 to 32767")]
    Number(usize),
    /// Empty, blank or too long.
    #[error("contestants[{0}].name: expected one line of visible text, {NAME_CHARS_MAX} characters at most")]
    Name(usize),
    /// Not a web address.
    #[error(
        "contestants[{0}].imageUrl: expected an http or https address of at most {URL_CHARS_MAX} characters"
    )]
    ImageUrl(usize),
    /// The poll has no contestant with this number.
    #[error("contestant: the poll has no contestant with number {0}")]
    UnknownContestant(i64),
    /// Empty, invisible or too long.
    #[error("text: expected 1 to {ERRATUM_CHARS_MAX} visible characters")]
    Erratum,
    /// Votes would be lost.
    #[error("contestants: the poll has votes, so number {0} must stay")]
    RemovedWithVotes(i16),
    /// Votes would appear to be another contestant's.
    #[error(
        "contestants: the name of number {0} has belonged to another number since the poll opened; a number may only \
         reuse its own names"
    )]
    NameTaken(i16),
    /// Votes would get other keys and count again.
    #[error("votesPerVoter: the poll has votes, so a limit can be changed but neither set nor removed")]
    LimitWithVotes,
    /// Votes would be lost.
    #[error("poll: it has votes, so it cannot be deleted")]
    DeletedWithVotes,
    /// Votes that were valid when they were cast would be lost.
    #[error("{0}")]
    Opened(AfterOpening),
    /// A public poll cannot become a draft again.
    #[error("draft: a public poll cannot become a draft again")]
    Published,
    /// A certified result never changes.
    #[error("poll: its result is certified and cannot change; publish a correction as an erratum")]
    Certified,
    /// An uncertified poll can be changed, so it needs no erratum.
    #[error("poll: its result is not certified, so it cannot have errata")]
    NotCertified,
    /// The poll has the maximum number of errata.
    #[error("poll: it already has {ERRATA_MAX} errata, the maximum")]
    TooManyErrata,
    /// The poll has the maximum number of gaps.
    #[error("poll: it was already reopened {GAPS_MAX} times, the maximum")]
    ReopenedTooOften,
    /// The poll is scheduled, so it cannot be closed.
    #[error("poll: it is not open, so it cannot be closed")]
    NotOpen,
    /// The poll is not over, so it cannot be archived.
    #[error("poll: it is not closed, so it cannot be archived")]
    NotClosed,
}

/// A change that is forbidden once a poll has opened, since votes may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AfterOpening {
    /// Moving the opening.
    #[error("opensAt: the poll has opened, so its opening cannot move")]
    MoveOpening,
    /// Removing this contestant.
    #[error("contestants: the poll has opened, so number {0} can be withdrawn but not removed")]
    Remove(i16),
    /// Setting, removing or lowering the limit.
    #[error("votesPerVoter: the poll has opened, so a limit can be raised but not lowered, set or removed")]
    Limit,
    /// Lowering `tapsMax`.
    #[error("tapsMax: the poll has opened, so it can be raised but not lowered")]
    LowerTaps,
    /// Deleting the poll.
    #[error("poll: it has opened, so it cannot be deleted; once closed it can be archived")]
    Delete,
}

impl Invalid {
    /// Returns the stable code of the HTTP contract.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Title => "invalidTitle",
            Self::ClosesBeforeOpening | Self::ClosesInThePast => "invalidWindow",
            Self::VotesPerVoter => "invalidVotesPerVoter",
            Self::TapsMax | Self::TapsWithLimit => "invalidTapsMax",
            Self::TapsUnlimited => "votesNotLimited",
            Self::ContestantCount(_) => "invalidContestants",
            Self::NumberTaken { .. } => "contestantNumberTaken",
            Self::Number(_) => "invalidContestantNumber",
            Self::Name(_) => "invalidContestantName",
            Self::ImageUrl(_) => "invalidImageUrl",
            Self::UnknownContestant(_) => "unknownContestant",
            Self::Erratum => "invalidErratum",
            Self::RemovedWithVotes(_) | Self::LimitWithVotes | Self::DeletedWithVotes => "pollHasVotes",
            Self::NameTaken(_) => "contestantNameTaken",
            Self::Opened(_) => "pollOpened",
            Self::Published => "pollPublished",
            Self::Certified => "pollCertified",
            Self::NotCertified => "pollNotCertified",
            Self::TooManyErrata => "tooManyErrata",
            Self::ReopenedTooOften => "reopenedTooOften",
            Self::NotOpen => "pollNotOpen",
            Self::NotClosed => "pollNotClosed",
        }
    }

    /// Returns whether the request conflicts with the poll's state (409) and is not invalid in itself (422).
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Title
            | Self::ClosesBeforeOpening
            | Self::ClosesInThePast
            | Self::VotesPerVoter
            | Self::TapsMax
            | Self::TapsWithLimit
            | Self::TapsUnlimited
            | Self::ContestantCount(_)
            | Self::NumberTaken { .. }
            | Self::Number(_)
            | Self::Name(_)
            | Self::ImageUrl(_)
            | Self::UnknownContestant(_)
            | Self::Erratum => false,
            Self::RemovedWithVotes(_)
            | Self::NameTaken(_)
            | Self::LimitWithVotes
            | Self::DeletedWithVotes
            | Self::Opened(_)
            | Self::Published
            | Self::Certified
            | Self::NotCertified
            | Self::TooManyErrata
            | Self::ReopenedTooOften
            | Self::NotOpen
            | Self::NotClosed => true,
        }
    }
}
