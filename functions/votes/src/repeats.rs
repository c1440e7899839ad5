//! Predicts whether a batch contains votes that are in the ledger already: retries come in times, not singly.

use std::sync::atomic::{AtomicU32, Ordering};

/// Batches without a repeated vote after which none is expected. With fewer, batches that alternate would often be
/// inserted twice; with more, a single retry would slow many batches down.
const MEMORY: u32 = 20;

/// The number of batches for which this instance still expects repeated votes.
#[derive(Debug, Default)]
pub struct Repeats(AtomicU32);

impl Repeats {
    /// Returns whether to expect repeated votes in the next batch.
    pub fn are_expected(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Records whether a counted batch contained repeated votes.
    pub fn record(&self, found: bool) {
        let next = |left: u32| Some(if found { MEMORY } else { left.saturating_sub(1) });
        // The closure always returns a value, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_vote_is_remembered_for_some_batches() {
        let repeats = Repeats::default();
        repeats.record(false);
        assert!(!repeats.are_expected());
        repeats.record(true);
        for _ in 1..MEMORY {
            repeats.record(false);
            assert!(repeats.are_expected());
        }
        repeats.record(false);
        assert!(!repeats.are_expected());
    }
}
