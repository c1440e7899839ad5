//! Telemetry: error chains for the log, and metrics in CloudWatch's embedded metric format. Each observation is one
//! line of JSON on standard output, from which CloudWatch extracts metrics without an API call.
//!
//! To add a metric: 1. Add its name and unit in a `line` or `lines` function here, the only place with metric names.
//! 2. Use it in an alarm or dashboard of `template.yaml`. Format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::{collections::BTreeMap, error::Error, time::Duration};

use serde_json::{Value, json};

use domain::{Rejection, Timestamp};

/// The metrics of one processed batch.
#[derive(Debug)]
pub struct BatchMetrics<'a> {
    /// CloudWatch's namespace. Each stack has its own, so that the metrics of two stacks in one account do not add
    /// up.
    pub namespace: &'a str,
    /// The end of processing.
    pub at: Timestamp,
    /// Votes received. A malformed message is one.
    pub received: u64,
    /// Votes counted now.
    pub counted: u64,
    /// Votes counted before, and rejections recorded before.
    pub duplicate: u64,
    /// Rejections recorded now, by reason.
    pub rejected: &'a BTreeMap<String, u64>,
    /// The time from receiving the batch to answering.
    pub duration: Duration,
    /// The age of the oldest vote that was missing in the ranking before this batch, or still is if the update of the
    /// ranking failed.
    pub ranking_lag: Duration,
}

/// A condition that an alarm watches: its metric is 1 while it holds, else 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Votes wait, and nothing counts them.
    CountingStopped,
    /// The votes of a certified poll, counted one by one, are not those of its certificate.
    RecountDiffers,
}

/// One observation of a condition.
#[derive(Debug)]
pub struct ConditionMetric<'a> {
    /// See [`BatchMetrics::namespace`].
    pub namespace: &'a str,
    /// The time of the observation.
    pub at: Timestamp,
    /// The observed condition.
    pub condition: Condition,
    /// Whether it holds.
    pub holds: bool,
}

impl ConditionMetric<'_> {
    /// Returns the line to print.
    pub fn line(&self) -> Value {
        let name = match self.condition {
            Condition::CountingStopped => "CountingStopped",
            Condition::RecountDiffers => "RecountDiffers",
        };
        line(self.namespace, self.at, None, vec![(name, "Count", json!(u8::from(self.holds)))])
    }
}

impl BatchMetrics<'_> {
    /// Returns the lines to print: one for the batch, and one for each rejection reason.
    pub fn lines(&self) -> Vec<Value> {
        let mut metrics = vec![
            ("VotesReceived", "Count", json!(self.received)),
            ("VotesCounted", "Count", json!(self.counted)),
            ("VotesDuplicate", "Count", json!(self.duplicate)),
            ("BatchDuration", "Milliseconds", json!(self.duration.as_secs_f64() * 1_000.0)),
            ("RankingLag", "Milliseconds", json!(self.ranking_lag.as_millis() as u64)),
        ];
        if let Some(late) = self.rejected.get(Rejection::Late.name()) {
            metrics.push(("LateVotes", "Count", json!(late)));
        }
        let batch = self.line(None, metrics);
        let reasons = self.rejected.iter().map(|(reason, count)| {
            self.line(Some(("Reason", reason)), vec![("VotesRejected", "Count", json!(count))])
        });
        std::iter::once(batch).chain(reasons).collect()
    }

    fn line(&self, dimension: Option<(&str, &str)>, metrics: Vec<(&str, &str, Value)>) -> Value {
        line(self.namespace, self.at, dimension, metrics)
    }
}

fn line(
    namespace: &str,
    at: Timestamp,
    dimension: Option<(&str, &str)>,
    metrics: Vec<(&str, &str, Value)>,
) -> Value {
    let definitions: Vec<_> =
        metrics.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
    let dimensions: Vec<_> = dimension.iter().map(|(name, _)| name).collect();
    let mut line = json!({"_aws": {"Timestamp": at.millis(), "CloudWatchMetrics": [
        {"Namespace": namespace, "Dimensions": [dimensions], "Metrics": definitions},
    ]}});
    for (name, _, value) in metrics {
        line[name] = value;
    }
    if let Some((name, value)) = dimension {
        line[name] = value.into();
    }
    line
}

/// Formats an error and its chain of causes in one line, since JSON logs do not show causes by themselves.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut shown = text.len();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some errors already contain the text of their cause.
        if !text[text.len() - shown..].contains(&cause) {
            text = format!("{text}: {cause}");
            shown = cause.len();
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_named_is_given() {
        let rejected = BTreeMap::from([("notJson".to_owned(), 2)]);
        let metrics = BatchMetrics {
            namespace: "Votes/one",
            at: Timestamp::from_millis(5).unwrap(),
            received: 5,
            counted: 2,
            duplicate: 1,
            rejected: &rejected,
            duration: Duration::from_millis(7),
            ranking_lag: Duration::from_millis(9),
        };
        let mut lines = metrics.lines();
        assert_eq!(lines.len(), 2);
        let condition = |condition| {
            ConditionMetric { namespace: "Votes/one", at: metrics.at, condition, holds: true }.line()
        };
        lines.push(condition(Condition::CountingStopped));
        assert_eq!(lines[2]["CountingStopped"], 1);
        lines.push(condition(Condition::RecountDiffers));
        assert_eq!(lines[3]["RecountDiffers"], 1);
        for line in &lines {
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(directive["Namespace"], "Votes/one");
            for metric in directive["Metrics"].as_array().unwrap() {
                assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
            }
            for name in directive["Dimensions"][0].as_array().unwrap() {
                assert!(line[name.as_str().unwrap()].is_string(), "{name}");
            }
        }
        assert_eq!(lines[1]["VotesRejected"], 2);
        assert_eq!(lines[1]["Reason"], "notJson");
        assert_eq!(lines[0].get("LateVotes"), None);
        let rejected = BTreeMap::from([("late".to_owned(), 4)]);
        let lines = BatchMetrics { rejected: &rejected, ..metrics }.lines();
        assert_eq!((&lines[0]["LateVotes"], &lines[1]["Reason"]), (&json!(4), &json!("late")));
    }

    #[test]
    fn causes_are_shown_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the ledger is unavailable")]
        struct Unavailable(#[source] Broken);
        #[derive(Debug, thiserror::Error)]
        #[error("error communicating with database: {0}")]
        struct Broken(#[source] std::io::Error);
        let error = Unavailable(Broken(std::io::Error::other("certificate expired")));
        let expected = "the ledger is unavailable: error communicating with database: certificate expired";
        assert_eq!(error_chain(&error), expected);
    }
}
