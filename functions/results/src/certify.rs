//! Certifies closed polls independently: a failure of one poll is logged and does not affect the others.

use domain::{Basis, Observation, Poll, Timestamp};
use ledger::Observed;
use runtime::telemetry::error_chain;

use crate::{Handler, SHIFT};

impl Handler {
    /// Observes the counting, records what each closed poll waits for, and certifies the polls that wait for nothing.
    pub(crate) async fn certify_due(&self) {
        let polls = match self.certifying.uncertified(SHIFT).await {
            Ok(polls) if polls.is_empty() => return,
            Ok(polls) => polls,
            Err(error) => {
                tracing::error!(error = error_chain(&error), "polls.not_read");
                return;
            }
        };
        let observation = match self.observe_and_probe(&polls).await {
            Ok(observation) => observation,
            Err(error) => {
                tracing::error!(error = error_chain(&error), "counting.not_observed");
                return;
            }
        };
        let observed: Vec<_> = polls.iter().filter_map(|poll| self.judge(poll, &observation)).collect();
        if !observed.is_empty()
            && let Err(error) = self.certifying.note_closings(&observed).await
        {
            tracing::error!(error = error_chain(&error), "closings.not_noted");
        }
        // One after the other: each excludes all batches for a moment.
        for ready in observed.iter().filter(|one| one.waiting.is_none()) {
            self.certify(ready).await;
        }
    }

    /// Judges the evidence for a closed poll. Returns `None` if it is not closed.
    fn judge(&self, poll: &Poll, observation: &Observation) -> Option<Observed> {
        let closes_at = closed_at(poll, observation.now)?;
        let opens_at = poll.opens_at.unwrap_or(closes_at);
        let waiting = observation.judge(opens_at, closes_at, self.policy).err();
        Some(Observed { poll: poll.id, closes_at, waiting })
    }

    /// Certifies the poll, unless its close has moved since the observation.
    async fn certify(&self, ready: &Observed) {
        let (poll, basis) = (ready.poll, Basis::Evidence);
        match self.certifying.certify_by(poll, Some(ready.closes_at), basis, None).await {
            Ok(certified) => {
                tracing::info!(poll = poll.0, basis = basis.name(), ?certified, "poll.certified");
            }
            Err(error) => {
                tracing::error!(error = error_chain(&error), poll = poll.0, "poll.not_certified");
            }
        }
    }
}

/// Returns when an uncertified poll closed; `None` if it is open.
pub(crate) fn closed_at(poll: &Poll, now: Timestamp) -> Option<Timestamp> {
    poll.closes_at.filter(|&closes_at| closes_at <= now)
}
