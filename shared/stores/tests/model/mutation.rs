//! Protocols with one defect each.
//!
//! To add a mutation: 1. add it to [`Mutation`]. 2. Read it with `Protocol::has` where the defect takes effect. 3.
//! Add a test with the scenario and the promises that it breaks.

/// A defect. Each must break a promise, else the model would not notice the same defect in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Redis gets the batch's increments (`ZINCRBY`), not totals.
    Increments,
    /// Only totals of polls with new votes are sent.
    TotalsOfNewVotesOnly,
    /// `ZADD` without `GT`: the last total wins, not the greatest.
    LastTotalStays,
    /// A batch is acknowledged before its transaction is committed.
    AcknowledgedBeforeCommit,
    /// `count_votes` answers without waiting for the flush barrier.
    AnsweredBeforeDisk,
    /// `count_votes` waits for the flush barrier only after inserting votes or recording rejections.
    DuplicatesSkipFlush,
    /// Loading a poll reads totals that are not on disk yet.
    LoadsBeforeDisk,
    /// `count_votes` does not compare versions.
    NoVersionCheck,
    /// A poll is changed without waiting for the batches in flight.
    NoDefinitionLock,
    /// The tally is updated by a second transaction, after that of the votes.
    TallyApart,
    /// The tally counts rows, not taps.
    TallyCountsRows,
    /// `INSERT INTO votes` without the primary key's `ON CONFLICT DO NOTHING`.
    KeyNotUnique,
    /// Votes are inserted even for rejected messages.
    CountsWhatWasRejected,
    /// Rejections are recorded even for counted votes.
    RejectsWhatWasCounted,
    /// Loading a poll caches its definition and does not raise its total.
    LoadsDoNotRaise,
    /// A rebuild corrects the tally and stays in its epoch.
    RebuildInSameEpoch,
    /// A poll is certified when its votes have not increased for some time.
    CertifiesOnQuiet,
    /// A poll is certified without a probe sent after its close.
    CertifiesWithoutProbes,
    /// A poll is certified despite signs of failed batches.
    IgnoresSigns,
    /// Batches do not announce themselves.
    FailsUnannounced,
    /// The series of probes ends with the burst after the close.
    ProbesEndAfterTheClose,
    /// A loss of Redis's data is no sign.
    FlushIsNoSign,
}

#[cfg(test)]
mod tests {
    use super::Mutation;
    use crate::{
        check::breaks,
        properties::{
            BY_CURRENT_DEFINITION, CERTIFIED_WHOLE, COUNTED_ONCE, NEVER_AHEAD, NOTHING_DROPPED, ONE_OUTCOME,
            SETTLES, TALLY_IS_LEDGER, WHOLE_BY_ITSELF,
        },
        scenarios,
    };

    #[test]
    fn increments_overtake_a_load_and_are_lost_with_their_sender() {
        breaks(Mutation::Increments, scenarios::redis_faults(), &[NEVER_AHEAD, WHOLE_BY_ITSELF]);
    }

    #[test]
    fn without_the_totals_of_duplicates_a_redelivery_heals_nothing() {
        breaks(Mutation::TotalsOfNewVotesOnly, scenarios::deaths(), &[WHOLE_BY_ITSELF]);
    }

    #[test]
    fn without_gt_a_late_total_takes_votes_away() {
        breaks(Mutation::LastTotalStays, scenarios::crowd(), &[WHOLE_BY_ITSELF]);
    }

    #[test]
    fn a_batch_acknowledged_before_its_commit_may_be_lost() {
        let promises = [NOTHING_DROPPED, SETTLES];
        breaks(Mutation::AcknowledgedBeforeCommit, scenarios::deaths(), &promises);
    }

    #[test]
    fn a_batch_answered_before_it_is_on_disk_may_be_lost() {
        breaks(Mutation::AnsweredBeforeDisk, scenarios::deaths(), &[NOTHING_DROPPED, NEVER_AHEAD]);
    }

    #[test]
    fn duplicates_may_be_of_votes_that_are_not_on_disk() {
        breaks(Mutation::DuplicatesSkipFlush, scenarios::deaths(), &[NOTHING_DROPPED, NEVER_AHEAD]);
    }

    #[test]
    fn a_total_must_be_on_disk_before_it_is_raised() {
        breaks(Mutation::LoadsBeforeDisk, scenarios::redis_faults(), &[NEVER_AHEAD]);
    }

    #[test]
    fn without_the_version_check_an_old_definition_counts() {
        let promises = [BY_CURRENT_DEFINITION, ONE_OUTCOME];
        breaks(Mutation::NoVersionCheck, scenarios::window_moves(), &promises);
    }

    #[test]
    fn without_the_definition_lock_a_definition_changes_during_a_transaction() {
        breaks(Mutation::NoDefinitionLock, scenarios::window_moves(), &[BY_CURRENT_DEFINITION, ONE_OUTCOME]);
    }

    #[test]
    fn a_tally_of_another_transaction_is_not_the_ledgers() {
        breaks(Mutation::TallyApart, scenarios::deaths(), &[TALLY_IS_LEDGER, SETTLES]);
    }

    #[test]
    fn a_tally_of_rows_is_not_the_ledgers_taps() {
        breaks(Mutation::TallyCountsRows, scenarios::lists(), &[TALLY_IS_LEDGER, SETTLES]);
    }

    #[test]
    fn without_a_unique_key_a_vote_counts_twice() {
        breaks(Mutation::KeyNotUnique, scenarios::deaths(), &[COUNTED_ONCE]);
    }

    #[test]
    fn a_rejected_message_must_not_count_later() {
        breaks(Mutation::CountsWhatWasRejected, scenarios::window_moves_back(), &[ONE_OUTCOME]);
    }

    #[test]
    fn a_counted_message_must_not_be_rejected_later() {
        breaks(Mutation::RejectsWhatWasCounted, scenarios::window_moves(), &[ONE_OUTCOME]);
    }

    #[test]
    fn a_lost_ranking_needs_loads_that_raise_it() {
        breaks(Mutation::LoadsDoNotRaise, scenarios::redis_faults(), &[SETTLES]);
    }

    #[test]
    fn votes_that_do_not_grow_are_no_evidence() {
        breaks(Mutation::CertifiesOnQuiet, scenarios::certification(), &[CERTIFIED_WHOLE]);
    }

    #[test]
    fn without_probes_queued_votes_go_unnoticed() {
        breaks(Mutation::CertifiesWithoutProbes, scenarios::certification(), &[CERTIFIED_WHOLE]);
    }

    #[test]
    fn without_signs_a_failed_batch_is_missed() {
        breaks(Mutation::IgnoresSigns, scenarios::certification(), &[CERTIFIED_WHOLE]);
    }

    #[test]
    fn a_batch_that_fails_unannounced_is_seen_too_late() {
        breaks(Mutation::FailsUnannounced, scenarios::certification(), &[CERTIFIED_WHOLE]);
    }

    #[test]
    fn signs_expire_while_nothing_is_counted_unless_probes_are_missing() {
        breaks(Mutation::ProbesEndAfterTheClose, scenarios::certification(), &[CERTIFIED_WHOLE]);
    }

    #[test]
    fn a_redis_that_lost_its_data_has_lost_announcements() {
        breaks(Mutation::FlushIsNoSign, scenarios::certification_and_redis(), &[CERTIFIED_WHOLE]);
    }

    #[test]
    fn totals_that_shrink_need_another_epoch() {
        breaks(Mutation::RebuildInSameEpoch, scenarios::rebuild(), &[NEVER_AHEAD]);
    }
}
