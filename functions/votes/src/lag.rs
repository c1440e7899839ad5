//! How far the ranking is behind the votes.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use domain::Timestamp;

/// The age of the oldest vote that the ranking may lack. It grows while the ranking cannot be updated: a metric that is
/// missing then would keep its alarm silent.
#[derive(Debug, Default)]
pub struct RankingLag {
    /// When the oldest vote was cast of the batches since the last update.
    missing_since: Mutex<Option<Timestamp>>,
}

impl RankingLag {
    /// Records the update for a batch whose oldest vote was cast at `oldest`, and returns the lag after it.
    pub fn record(&self, oldest: Timestamp, updated: bool, now: Timestamp) -> Duration {
        let mut missing_since = self.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
        let since = if updated { oldest } else { missing_since.map_or(oldest, |since| since.min(oldest)) };
        *missing_since = (!updated).then_some(since);
        Duration::from_millis(u64::try_from(now.millis() - since.millis()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_grows_while_the_ranking_is_not_updated() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000).unwrap();
        let lag = RankingLag::default();
        let record = |oldest, updated, now| lag.record(at(oldest), updated, at(now)).as_secs();
        assert_eq!(record(100, true, 103), 3);
        assert_eq!(record(110, false, 112), 2);
        assert_eq!(record(140, false, 142), 32, "since the first vote that is missing");
        assert_eq!(record(130, false, 143), 33);
        assert_eq!(record(150, true, 153), 3, "an update carries absolute totals");
        assert_eq!(record(160, false, 159), 0, "a clock that is behind");
    }
}
