//! The voters of a batch, for the estimates in Redis.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use domain::{PollId, Voters};
use ledger::Counted;
use ranking::VotersUpdate;

/// Maximum number of voters that wait for Redis, 80 kB. Beyond it their polls have no estimate any more.
const WAITING_MAX: usize = 10_000;

/// The voters of batches that could not be sent to Redis. They go with the next batch.
#[derive(Debug, Default)]
pub struct UnsentVoters(Mutex<VotersUpdate>);

impl UnsentVoters {
    /// Moves the waiting voters into an update.
    pub fn move_into(&self, update: &mut VotersUpdate) {
        let mut waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (poll, mut voters) in waiting.voters {
            update.voters.entry(poll).or_default().append(&mut voters);
        }
        update.lost.append(&mut waiting.lost);
    }

    /// Keeps the voters of an update that failed. Its claims to first votes are dropped: until the next batch, Redis
    /// may lose the voters of other batches, and a repeated claim would hide that.
    pub fn keep(&self, mut update: VotersUpdate) {
        update.first.clear();
        if update.voters.values().map(Vec::len).sum::<usize>() > WAITING_MAX {
            update.lost.extend(std::mem::take(&mut update.voters).into_keys());
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = update;
    }
}

/// Returns the update for a counted batch with so many `taps` of valid votes by poll. With first votes for a contestant,
/// the ledger returns the totals of all, so a sum equal to the batch's taps is the poll's.
pub fn update(counted: &Counted, voters: Voters, taps: &BTreeMap<PollId, u64>) -> VotersUpdate {
    let total = |poll: &PollId| counted.tallies.get(poll).map_or(0, |tally| tally.values().sum::<u64>());
    // A batch with duplicates knows the number of its new taps, but not their polls.
    let has_duplicates = counted.taps < taps.values().sum();
    let are_all_first = taps.keys().map(total).sum::<u64>() == counted.taps;
    let is_first =
        |(poll, taps): &(&PollId, &u64)| if has_duplicates { are_all_first } else { total(poll) == **taps };
    let first = taps.iter().filter(is_first).map(|(poll, _)| *poll).collect();
    VotersUpdate { voters, first, ..VotersUpdate::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update_of(poll: i32, voters: impl IntoIterator<Item = i64>) -> VotersUpdate {
        let poll = PollId(poll);
        VotersUpdate {
            voters: [(poll, voters.into_iter().collect())].into(),
            first: [poll].into(),
            ..VotersUpdate::default()
        }
    }

    #[test]
    fn unsent_voters_go_with_the_next_batch_once() {
        let unsent = UnsentVoters::default();
        unsent.keep(update_of(1, [1, 2]));
        let mut next = update_of(2, [3]);
        unsent.move_into(&mut next);
        assert_eq!(next.voters, [(PollId(1), vec![1, 2]), (PollId(2), vec![3])].into());
        assert_eq!(next.first, [PollId(2)].into());
        let mut after = update_of(2, [4]);
        unsent.move_into(&mut after);
        assert_eq!(after, update_of(2, [4]));
    }

    #[test]
    fn of_too_many_unsent_voters_only_their_polls_are_kept() {
        let unsent = UnsentVoters::default();
        unsent.keep(update_of(1, 0..10_001));
        let mut next = update_of(2, [3]);
        unsent.move_into(&mut next);
        assert_eq!(next, VotersUpdate { lost: [PollId(1)].into(), ..update_of(2, [3]) });
        unsent.keep(next);
        let mut after = update_of(1, [4]);
        unsent.move_into(&mut after);
        assert_eq!(after.lost, [PollId(1)].into(), "until Redis has been told");
    }
}
