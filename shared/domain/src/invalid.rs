use super::definition::{
    CONTESTANTS_MAX, ERRATA_MAX, ERRATUM_CHARS_MAX, GAPS_MAX, NAME_CHARS_MAX, TITLE_CHARS_MAX, URL_CHARS_MAX,
    VOTES_PER_VOTER_MAX,
};

/// Why a definition, or a change of one, is refused. The message names the field.
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
    /// None or too many.
    #[error("contestants: expected 1 to {CONTESTANTS_MAX}, got {0}")]
    ContestantCount(usize),
    /// Two contestants of one number.
    #[error("contestants[{index}].number: {number} is already taken")]
    NumberTaken {
        /// Place in the list, from 0.
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
    /// The poll has no contestant of this number.
    #[error("contestant: the poll has no contestant of number {0}")]
    UnknownContestant(i64),
    /// Empty, invisible or too long.
    #[error("text: expected 1 to {ERRATUM_CHARS_MAX} visible characters")]
    Erratum,
    /// Votes would be lost.
    #[error("contestants: the poll has votes, so number {0} must stay")]
    RemovedWithVotes(i16),
    /// Votes would seem to be another contestant's.
    #[error(
        "contestants: since the poll opened another number has had the name of number {0}; a number may take back \
         only a name of its own"
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
    /// A public poll does not become a draft again.
    #[error("draft: the poll is public, and stays so")]
    Published,
    /// What is certified never changes.
    #[error("poll: its result is certified, so nothing of it can change; a correction is an erratum")]
    Certified,
    /// What is not certified can be changed, so it needs no erratum.
    #[error("poll: its result is not certified, so it has no errata")]
    NotCertified,
    /// As many errata as a poll may have.
    #[error("poll: it has {ERRATA_MAX} errata, and no more are taken")]
    TooManyErrata,
    /// As many gaps as a poll may have.
    #[error("poll: it was reopened {GAPS_MAX} times, and is not opened again")]
    ReopenedTooOften,
    /// Nothing to close.
    #[error("poll: it is not open, so it cannot be closed")]
    NotOpen,
    /// Not over yet.
    #[error("poll: it is not closed, so it cannot be archived")]
    NotClosed,
}

/// What cannot be done with a poll that has opened: votes may be on their way that nobody has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AfterOpening {
    /// Moving the opening.
    #[error("opensAt: the poll has opened, so its opening stays")]
    MoveOpening,
    /// Removing this contestant.
    #[error("contestants: the poll has opened, so number {0} can be withdrawn but not removed")]
    Remove(i16),
    /// Setting, removing or lowering the limit.
    #[error("votesPerVoter: the poll has opened, so a limit can be raised but not lowered, set or removed")]
    Limit,
    /// Deleting the poll.
    #[error("poll: it has opened, so it cannot be deleted; once closed it can be archived")]
    Delete,
}

impl Invalid {
    /// The stable code of the HTTP contract.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Title => "invalidTitle",
            Self::ClosesBeforeOpening | Self::ClosesInThePast => "invalidWindow",
            Self::VotesPerVoter => "invalidVotesPerVoter",
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

    /// Whether the same request could be right for a poll in another state (409) or never is (422).
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Title
            | Self::ClosesBeforeOpening
            | Self::ClosesInThePast
            | Self::VotesPerVoter
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
