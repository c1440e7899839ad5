//! Protocols that are wrong in one place.

/// What is wrong. The model must find a promise broken by each, or it would not notice its loss in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Redis is sent what a batch has added (`ZINCRBY`), not the total.
    Increments,
    /// Only polls with new votes get their totals sent.
    TotalsOfNewVotesOnly,
    /// `ZADD` without `GT`: the last total stays, not the greatest.
    LastTotalStays,
    /// A batch is acknowledged before its transaction is committed.
    AcknowledgedBeforeCommit,
    /// `count_votes` does not compare versions.
    NoVersionCheck,
    /// A poll is changed without waiting for the batches under way.
    NoFence,
    /// The tally is updated by a second transaction, after the one that inserted the votes.
    TallyApart,
    /// `INSERT INTO votes` without the primary key's `ON CONFLICT DO NOTHING`.
    KeyNotUnique,
    /// Votes are inserted also for messages that have been rejected.
    CountsWhatWasRejected,
    /// Rejections are recorded also for votes that have been counted.
    RejectsWhatWasCounted,
    /// Loading a poll keeps its definition, and does not raise its total.
    LoadsDoNotRaise,
    /// A rebuild puts the tally right and stays in its epoch.
    RebuildInSameEpoch,
}
