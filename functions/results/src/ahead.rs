//! Finds polls in Redis that are ahead of the ledger: they belong to another history of it, which a restored backup has
//! ended. `ZADD GT` and the comparison of versions would keep them.

use std::collections::HashMap;

use domain::{Poll, PollId, PollWithTally, Tally};
use ledger::Publishable;
use runtime::telemetry::error_chain;

use crate::Handler;

/// What Redis has of a poll.
struct Kept {
    poll: PollId,
    /// The epoch of `tally`: the ledger's, before Redis was read.
    epoch: i32,
    tally: Tally,
    definition: Option<Poll>,
}

impl Handler {
    /// Deletes all polls in Redis that are ahead of the ledger, so that the next repair writes the ledger's. Failures
    /// are logged and retried at the next tick.
    ///
    /// A total is sent to Redis after its commit, and a definition likewise. So what Redis has is at most what the
    /// ledger says *afterwards*. The polls that look ahead of `due`, which was read before Redis, are therefore
    /// compared again with a later read.
    pub(crate) async fn delete_ahead(&self, due: &[Publishable]) {
        let kept = match self.kept(due).await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "ranking.unavailable");
                return;
            }
        };
        let suspects: Vec<_> = kept
            .iter()
            .zip(due)
            .filter(|(kept, one)| kept.is_ahead_of(&one.loaded))
            .map(|(kept, _)| kept)
            .collect();
        if suspects.is_empty() {
            return;
        }
        let ids: Vec<_> = suspects.iter().map(|kept| kept.poll).collect();
        let now: HashMap<_, _> = match self.stores.ledger.polls(&ids).await {
            Ok(loaded) => loaded.into_iter().map(|loaded| (loaded.poll.id, loaded)).collect(),
            Err(error) => {
                tracing::error!(error = error_chain(&error), "ranking.not_compared");
                return;
            }
        };
        for kept in suspects {
            if now.get(&kept.poll).is_some_and(|loaded| kept.is_ahead_of(loaded)) {
                self.delete(kept).await;
            }
        }
    }

    async fn kept(&self, due: &[Publishable]) -> Result<Vec<Kept>, ranking::Error> {
        let polls: Vec<_> = due.iter().map(|one| (one.loaded.poll.id, one.loaded.poll.epoch)).collect();
        let ids: Vec<_> = polls.iter().map(|(id, _)| *id).collect();
        let tallies = self.stores.ranking.tallies(&polls).await?;
        let definitions = self.stores.ranking.polls(&ids).await?;
        let both = polls.into_iter().zip(tallies).zip(definitions);
        let kept = |(((poll, epoch), tally), cached): (_, Option<ranking::Cached<Option<Poll>>>)| Kept {
            poll,
            epoch,
            tally,
            definition: cached.and_then(|cached| cached.value),
        };
        Ok(both.map(kept).collect())
    }

    async fn delete(&self, kept: &Kept) {
        let votes: u64 = kept.tally.values().sum();
        tracing::error!(poll = kept.poll.0, votes, "ranking.ahead_of_ledger");
        let epochs: Vec<_> = kept.definition.iter().map(|poll| poll.epoch).chain([kept.epoch]).collect();
        if let Err(error) = self.stores.ranking.delete_poll(kept.poll, &epochs).await {
            tracing::warn!(error = error_chain(&error), poll = kept.poll.0, "ranking.not_repaired");
        }
    }
}

impl Kept {
    /// Whether Redis has more votes than the ledger, or a later definition. Totals of another epoch, which a rebuild
    /// has ended, are not compared.
    fn is_ahead_of(&self, ledger: &PollWithTally) -> bool {
        let in_ledger = |number| ledger.tally.get(number).copied().unwrap_or(0);
        let has_more = self.tally.iter().any(|(number, &votes)| votes > in_ledger(number));
        let is_later = |poll: &Poll| poll.version > ledger.poll.version;
        has_more && self.epoch == ledger.poll.epoch || self.definition.as_ref().is_some_and(is_later)
    }
}
