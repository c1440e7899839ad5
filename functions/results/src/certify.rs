//! Certifying closed polls, each for itself: what goes wrong with one is logged, and the next goes on.

use std::time::Duration;

use domain::{Basis, Observation, PollId, Timestamp};
use ledger::{Frozen, Observed, Publishable};
use runtime::telemetry::error_chain;
use tokio::time::Instant;

use crate::{Handler, TICK};

/// A tick's share of a certificate: some hundred thousand votes take a second.
const PIECE_ROWS: u32 = 200_000;
/// The last piece counts all of the poll's votes, and its voters.
const PIECE_LIMIT: Duration = Duration::from_secs(120);

impl Handler {
    /// Remembers what each closed poll waits for, freezes those that wait for nothing, and takes certificates further.
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

    /// `None`: it is not closed, or frozen already.
    fn judge(&self, one: &Publishable, observation: &Observation) -> Option<Observed> {
        let closes_at = closed_at(one, observation.now)?;
        let opens_at = one.loaded.poll.opens_at.unwrap_or(closes_at);
        let waiting = observation.judge(opens_at, closes_at, self.policy).err();
        Some(Observed { poll: one.loaded.poll.id, closes_at, waiting })
    }

    /// Unless its close has moved meanwhile: what was observed is of this close.
    async fn freeze(&self, ready: &Observed) -> Result<bool, ledger::Error> {
        let basis = Basis::Evidence;
        let frozen = self.stores.ledger.freeze_by(ready.poll, Some(ready.closes_at), basis, None).await?;
        tracing::info!(poll = ready.poll.0, basis = basis.name(), frozen = ?frozen, "poll.frozen");
        Ok(matches!(frozen, Some(Frozen::Now | Frozen::Before)))
    }

    /// As far as a tick goes; the certified file is written by the tick after the last piece.
    async fn advance_certificate(&self, poll: PollId) -> Result<(), ledger::Error> {
        in_pieces(async || self.stores.ledger.advance_certificate(poll, PIECE_ROWS, PIECE_LIMIT).await).await
    }

    /// The same for a certificate beside the first, where one has been issued.
    async fn advance_later_certificate(&self, poll: PollId) -> Result<(), ledger::Error> {
        in_pieces(async || self.stores.ledger.advance_later_certificate(poll, PIECE_ROWS, PIECE_LIMIT).await)
            .await
    }
}

/// Makes pieces until `piece` says that it was the last, or a tick is over.
async fn in_pieces(piece: impl AsyncFn() -> Result<bool, ledger::Error>) -> Result<(), ledger::Error> {
    let until = Instant::now() + TICK;
    while !piece().await? {
        if Instant::now() > until {
            break;
        }
    }
    Ok(())
}

/// When a poll closed that waits for its certificate; `None`: it is open, or has one or gets one.
pub(crate) fn closed_at(one: &Publishable, now: Timestamp) -> Option<Timestamp> {
    let poll = &one.loaded.poll;
    poll.closes_at
        .filter(|&closes_at| closes_at <= now && poll.frozen_at.is_none() && one.certificate.is_none())
}

fn is_frozen(one: &Publishable) -> bool {
    one.certificate.is_none() && one.loaded.poll.frozen_at.is_some()
}
