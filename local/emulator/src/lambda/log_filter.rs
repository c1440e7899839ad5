//! Lambda's log level filter: <https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html>
use anyhow::Context as _;
use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Lambda's log levels, most detailed first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// A filter that drops lines below `ApplicationLogLevel`; without the JSON log format it drops none.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogFilter(Option<Level>);

impl Level {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "TRACE" => Self::Trace,
            "DEBUG" => Self::Debug,
            "INFO" => Self::Info,
            "WARN" => Self::Warn,
            "ERROR" => Self::Error,
            "FATAL" => Self::Fatal,
            _ => return None,
        })
    }

    /// Returns the level of a line: INFO, unless it is JSON with a valid level and a valid timestamp.
    fn of_line(line: &str) -> Self {
        let level = || {
            let fields = serde_json::from_str::<Map<String, Value>>(line).ok()?;
            OffsetDateTime::parse(fields.get("timestamp")?.as_str()?, &Rfc3339).ok()?;
            Self::named(fields.get("level")?.as_str()?)
        };
        level().unwrap_or(Self::Info)
    }
}

impl LogFilter {
    /// Reads the filter from a function's `LoggingConfig`.
    ///
    /// # Errors
    /// A log level that Lambda does not define.
    pub fn of(config: &Value) -> anyhow::Result<Self> {
        if config["LogFormat"] != "JSON" {
            return Ok(Self(None));
        }
        let name = config["ApplicationLogLevel"].as_str().unwrap_or("INFO");
        let level = Level::named(name).with_context(|| format!("ApplicationLogLevel: there is no {name}"))?;
        Ok(Self(Some(level)))
    }

    /// Whether the line goes to CloudWatch.
    pub fn passes(self, line: &str) -> bool {
        self.0.is_none_or(|lowest| Level::of_line(line) >= lowest)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_without_level_or_timestamp_is_info() {
        let at =
            |level: &str| LogFilter::of(&json!({"LogFormat": "JSON", "ApplicationLogLevel": level})).unwrap();
        let error = r#"{"level":"ERROR","timestamp":"2024-11-02T16:51:31.587199Z","fields":{}}"#;
        let debug = error.replace("ERROR", "debug");
        let undated = r#"{"level":"ERROR","fields":{}}"#;
        let metric = r#"{"_aws":{"CloudWatchMetrics":[]},"Votes":1}"#;
        for (line, lowest) in [(error, "ERROR"), (undated, "INFO"), (metric, "INFO"), ("panicked", "INFO")] {
            assert!(at(lowest).passes(line), "{line}");
        }
        assert!(at("DEBUG").passes(&debug) && !at("INFO").passes(&debug));
        assert!(!at("FATAL").passes(error));
        for line in [undated, metric, "panicked"] {
            assert!(!at("WARN").passes(line), "{line}");
        }
        assert!(LogFilter::of(&json!({"LogFormat": "JSON", "ApplicationLogLevel": "LOUD"})).is_err());
        assert!(LogFilter::of(&json!({"ApplicationLogLevel": "FATAL"})).unwrap().passes("plain text"));
    }
}
