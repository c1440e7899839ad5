//! The settings of a mapping, read from the template.
use std::time::Duration;

use anyhow::{bail, ensure};
use serde_json::Value;

use crate::{
    lambda::timeout_seconds,
    sqs::Queue,
    template::{Resource, number},
};

/// Lambda's range and default for standard queues.
const BATCH_SIZE: std::ops::RangeInclusive<u64> = 1..=10_000;
const BATCH_SIZE_DEFAULT: u64 = 10;
/// Largest batch size without a batching window.
const BATCH_SIZE_WITHOUT_WINDOW_MAX: u64 = 10;
/// Lambda's range of the batching window.
const WINDOW_SECONDS: std::ops::RangeInclusive<u64> = 0..=300;
/// Lambda's range of `ScalingConfig.MaximumConcurrency`.
const MAXIMUM_CONCURRENCY: std::ops::RangeInclusive<u64> = 2..=1_000;

#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Logical id of the function.
    pub function: String,
    pub function_timeout: Duration,
    pub batch_size: usize,
    pub window: Duration,
    /// `None`: Lambda's own scaling.
    pub concurrency_max: Option<u64>,
    /// `ReportBatchItemFailures`.
    pub reports_failures: bool,
}

impl Settings {
    pub fn of(function: &Resource, event: &Value) -> anyhow::Result<Self> {
        let field = |name: &str, range| {
            number(event.get(name), range).map_err(|error| anyhow::anyhow!("{name}: {error}"))
        };
        let batch_size = field("BatchSize", BATCH_SIZE)?.unwrap_or(BATCH_SIZE_DEFAULT);
        let window_seconds = field("MaximumBatchingWindowInSeconds", WINDOW_SECONDS)?.unwrap_or(0);
        ensure!(
            batch_size <= BATCH_SIZE_WITHOUT_WINDOW_MAX || window_seconds > 0,
            "BatchSize {batch_size} needs a MaximumBatchingWindowInSeconds of at least 1"
        );
        for unsupported in ["FilterCriteria", "ProvisionedPollerConfig"] {
            ensure!(event.get(unsupported).is_none(), "{unsupported} is not supported on one machine");
        }
        let concurrency = number(event["ScalingConfig"].get("MaximumConcurrency"), MAXIMUM_CONCURRENCY)
            .map_err(|error| anyhow::anyhow!("ScalingConfig.MaximumConcurrency: {error}"))?;
        Ok(Self {
            function: function.id.clone(),
            function_timeout: Duration::from_secs(timeout_seconds(function)?),
            batch_size: usize::try_from(batch_size)?,
            window: Duration::from_secs(window_seconds),
            concurrency_max: concurrency,
            reports_failures: reports_failures(&event["FunctionResponseTypes"])?,
        })
    }

    /// Warns if the visibility timeout is shorter than the function's timeout. AWS refuses such a mapping; here an
    /// experiment may need it.
    pub fn warn_of_short_visibility(&self, queue: &Queue) {
        if queue.visibility_timeout() < self.function_timeout {
            tracing::warn!(
                queue = queue.name(),
                function = self.function,
                "the queue's VisibilityTimeout is shorter than the function's Timeout: AWS would refuse this"
            );
        }
    }
}

fn reports_failures(types: &Value) -> anyhow::Result<bool> {
    match types {
        Value::Null => Ok(false),
        Value::Array(types) if types.is_empty() => Ok(false),
        Value::Array(types) if types.iter().all(|t| t == "ReportBatchItemFailures") => Ok(true),
        other => bail!("FunctionResponseTypes: {other} is not [ReportBatchItemFailures]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(event: &Value) -> anyhow::Result<Settings> {
        let function = Resource {
            id: "F".to_owned(),
            kind: String::new(),
            properties: json!({"Timeout": 7}),
            metadata: Value::Null,
        };
        Settings::of(&function, event)
    }

    #[test]
    fn defaults_are_lambdas() {
        let settings = settings(&json!({})).unwrap();
        assert_eq!((settings.batch_size, settings.window), (10, Duration::ZERO));
        assert_eq!((settings.concurrency_max, settings.reports_failures), (None, false));
        assert_eq!(settings.function_timeout, Duration::from_secs(7));
    }

    #[test]
    fn what_aws_refuses_is_refused() {
        for (event, expected) in [
            (json!({"BatchSize": 0}), "BatchSize: 0 is not"),
            (json!({"BatchSize": 10_001, "MaximumBatchingWindowInSeconds": 1}), "BatchSize: 10001 is not"),
            (json!({"BatchSize": 11}), "needs a MaximumBatchingWindowInSeconds"),
            (json!({"MaximumBatchingWindowInSeconds": 301}), "InSeconds: 301 is not"),
            (json!({"ScalingConfig": {"MaximumConcurrency": 1}}), "MaximumConcurrency: 1 is not"),
            (json!({"FunctionResponseTypes": ["ReportFailures"]}), "FunctionResponseTypes"),
            (json!({"FilterCriteria": {}}), "FilterCriteria is not supported"),
        ] {
            let error = settings(&event).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let full = json!({
            "BatchSize": "300", "MaximumBatchingWindowInSeconds": 3, "ScalingConfig": {"MaximumConcurrency": 10},
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        });
        let settings = settings(&full).unwrap();
        assert_eq!(
            (settings.batch_size, settings.concurrency_max, settings.reports_failures),
            (300, Some(10), true)
        );
    }
}
