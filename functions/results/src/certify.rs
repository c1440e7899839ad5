//! Certifies closed polls independently: a failure of one poll is logged and does not affect the others.

use std::time::Duration;

use domain::{Basis, Observation, PollId, Timestamp};
use ledger::{Frozen, Observed, Publishable};
use runtime::telemetry::error_chain;
use tokio::time::Instant;

use crate::{Handler, TICK};

/// Votes digested in one call. Some hundred thousand take a second.
const PIECE_ROWS: u32 = 200_000;
/// Timeout of a piece. The last one counts all of the poll's votes and voters.
const PIECE_LIMIT: Duration = Duration::from_secs(120);

impl Handler {
    /// Records what each closed poll waits for, freezes the polls that wait for nothing, and advances certificates.
    pub(crate) async fn certify(&self, polls: &[Publishable], observation: &Observation) {
        let observed: Vec<_> = polls.iter().filter_map(|one| self.judge(one, observation)).collect();
        if !observed.is_empty()
            && let Err(error) = self.stores.ledger.note_closings(&observed).await
        {
            tracing::error!(error = error_chain(&error), "closings.not_noted");
        }
        let mut frozen: Vec<_> =
            polls.iter().filter(|one| is_frozen(one)).map(|one| one.loaded.poll.id).collect();
        for ready in observed.iter().filter(|one| one.waiting.is_none()) {
            match self.freeze(ready).await {
                Ok(true) => frozen.push(ready.poll),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(error = error_chain(&error), poll = ready.poll.0, "poll.not_frozen");
                }
            }
        }
        for poll in frozen {
            if let Err(error) = self.advance_certificate(poll).await {
                tracing::error!(error = error_chain(&error), poll = poll.0, "poll.not_sealed");
            }
        }
        for one in polls.iter().filter(|one| one.certificate.is_some()) {
            let poll = one.loaded.poll.id;
            if let Err(error) = self.advance_later_certificate(poll).await {
                tracing::error!(error = error_chain(&error), poll = poll.0, "poll.not_sealed");
            }
        }
    }

    /// Judges the evidence for a closed poll. Returns `None` if it is not closed, or is frozen already.
    fn judge(&self, one: &Publishable, observation: &Observation) -> Option<Observed> {
        let closes_at = closed_at(one, observation.now)?;
        let opens_at = one.loaded.poll.opens_at.unwrap_or(closes_at);
        let waiting = observation.judge(opens_at, closes_at, self.policy).err();
        Some(Observed { poll: one.loaded.poll.id, closes_at, waiting })
    }

    /// Freezes the poll, unless its close has moved since the observation. Returns whether it is frozen.
    async fn freeze(&self, ready: &Observed) -> Result<bool, ledger::Error> {
        let basis = Basis::Evidence;
        let frozen = self.stores.ledger.freeze_by(ready.poll, Some(ready.closes_at), basis, None).await?;
        tracing::info!(poll = ready.poll.0, basis = basis.name(), frozen = ?frozen, "poll.frozen");
        Ok(matches!(frozen, Some(Frozen::Now | Frozen::Before)))
    }

    /// Advances the certificate for up to a tick. The tick after the last piece writes the certified file.
    async fn advance_certificate(&self, poll: PollId) -> Result<(), ledger::Error> {
        in_pieces(async || self.stores.ledger.advance_certificate(poll, PIECE_ROWS, PIECE_LIMIT).await).await
    }

    /// Advances a later certificate, if one was issued.
    async fn advance_later_certificate(&self, poll: PollId) -> Result<(), ledger::Error> {
        in_pieces(async || self.stores.ledger.advance_later_certificate(poll, PIECE_ROWS, PIECE_LIMIT).await)
            .await
    }
}

/// Calls `piece` until it returns that it was the last, or a tick is over.
async fn in_pieces(piece: impl AsyncFn() -> Result<bool, ledger::Error>) -> Result<(), ledger::Error> {
    let until = Instant::now() + TICK;
    while !piece().await? {
        if Instant::now() > until {
            break;
        }
    }
    Ok(())
}

/// Returns when a poll closed, if it is neither frozen nor certified; `None` otherwise.
pub(crate) fn closed_at(one: &Publishable, now: Timestamp) -> Option<Timestamp> {
    let poll = &one.loaded.poll;
    poll.closes_at
        .filter(|&closes_at| closes_at <= now && poll.frozen_at.is_none() && one.certificate.is_none())
}

fn is_frozen(one: &Publishable) -> bool {
    one.certificate.is_none() && one.loaded.poll.frozen_at.is_some()
}
