//! Latency from casting to the ranking, from the votes function's logs.
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::spread::percentile;

/// One batch that reached the ranking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Moment of reaching the ranking, in milliseconds since 1970.
    pub at_ms: u64,
    /// Milliseconds since the batch's oldest vote was cast: an upper bound for its other votes.
    pub lag_ms: f64,
    /// Votes in the batch.
    pub votes: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    #[serde(rename = "_aws")]
    aws: Aws,
    votes_received: u64,
    ranking_lag: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Aws {
    timestamp: u64,
}

/// Reads the batches of a log, in its order.
///
/// # Errors
/// The log cannot be read.
pub fn read(log: &Path) -> Result<Vec<Lag>> {
    // A long log is rotated: this is its older half.
    let older = std::fs::read_to_string(log.with_extension("log.1")).unwrap_or_default();
    let newer = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let lines = older.lines().chain(newer.lines()).filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines
        .map(|line| Lag { at_ms: line.aws.timestamp, lag_ms: line.ranking_lag, votes: line.votes_received })
        .collect())
}

/// Returns the lag of a percentile of the votes, in milliseconds. Each vote has the lag of its batch's oldest vote.
pub fn of_share(lags: &[Lag], share: f64) -> Option<f64> {
    percentile(lags.iter().map(|lag| (lag.lag_ms, lag.votes)), share)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use runtime::{Clock, telemetry::BatchMetrics};

    use super::*;

    #[test]
    fn the_functions_log_is_read() {
        let at = Clock::system().now();
        let metrics = BatchMetrics {
            namespace: "Votes/bench",
            at,
            received: 300,
            counted: 299,
            duplicate: 1,
            rejected: &BTreeMap::new(),
            duration: Duration::from_millis(7),
            ranking_lag: Duration::from_millis(3_005),
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines: String = metrics.lines().iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(file.path(), format!("{{\"level\":\"INFO\"}}\n{lines}not json\n")).unwrap();
        let read = read(file.path()).unwrap();
        assert_eq!(read, [Lag { at_ms: at.millis() as u64, lag_ms: 3_005.0, votes: 300 }]);
        assert_eq!(of_share(&read, 0.99), Some(3_005.0));
    }
}
