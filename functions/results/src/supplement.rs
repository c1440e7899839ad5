//! Supplements certificates by a pass over the votes, in pieces, and deletes old rejections. A failure of one poll does not
//! affect the others.

use std::time::Duration;

use runtime::telemetry::error_chain;

use crate::Handler;

/// Timeout of a piece. The last one counts all of the poll's voters.
const PIECE_LIMIT: Duration = Duration::from_secs(50);

/// Rejections deleted in one shift: fourteen million in a day.
const FORGOTTEN_ROWS: u32 = 10_000;

impl Handler {
    /// Deletes rejections that no redelivery can need any more. A failure is logged; the next shift tries again.
    pub(crate) async fn forget_rejections(&self) {
        if let Err(error) = self.supplementing.forget_rejections(FORGOTTEN_ROWS).await {
            tracing::warn!(error = error_chain(&error), "rejections.not_forgotten");
        }
    }

    /// Advances each unfinished certificate by one piece. Returns whether one of them can be advanced further.
    pub(crate) async fn supplement_due(&self) -> bool {
        let polls = self.supplementing.unsupplemented().await.unwrap_or_else(|error| {
            tracing::error!(error = error_chain(&error), "certificates.not_read");
            Vec::new()
        });
        let mut is_unfinished = false;
        for poll in polls {
            match self.supplementing.advance_certificates(poll, PIECE_LIMIT).await {
                Ok(is_done) => is_unfinished |= !is_done,
                Err(error) => {
                    tracing::error!(
                        error = error_chain(&error),
                        poll = poll.0,
                        "certificate.not_supplemented"
                    );
                }
            }
        }
        is_unfinished
    }
}
