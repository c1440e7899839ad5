//! Parses an SQS record as a command to invalidate paths.

use aws_lambda_events::sqs::SqsMessage;
use domain::Timestamp;
use serde::Deserialize;

use crate::paths::{Pattern, PatternError};

/// A request to invalidate paths.
#[derive(Debug)]
pub struct Command {
    /// The record's id, which the response names on failure.
    pub message_id: String,
    /// When the command was sent, after the change.
    pub sent_at: Timestamp,
    /// The requested patterns.
    pub patterns: Vec<Pattern>,
}

/// The reason why a record is no command. A retry cannot help.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// The body is not the expected JSON.
    #[error("the body is not {{\"paths\":[\"/…\"]}}: {0}")]
    Body(#[from] serde_json::Error),
    /// No paths: a defect of the sender.
    #[error("paths is empty")]
    Empty,
    /// A path is invalid.
    #[error("paths[{index}]: {error}")]
    Path {
        /// The index of the path, from 0.
        index: usize,
        /// The error.
        error: PatternError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    paths: Vec<String>,
}

impl Command {
    /// Parses a record. `now` replaces a missing `SentTimestamp`.
    pub fn read(record: &SqsMessage, now: Timestamp) -> Result<Self, Malformed> {
        let body: Body = serde_json::from_str(record.body.as_deref().unwrap_or_default())?;
        if body.paths.is_empty() {
            return Err(Malformed::Empty);
        }
        let parsed = body
            .paths
            .iter()
            .enumerate()
            .map(|(index, path)| Pattern::parse(path).map_err(|error| Malformed::Path { index, error }));
        let sent = record.attributes.get("SentTimestamp");
        let sent_at = sent.and_then(|millis| Timestamp::from_millis(millis.parse().ok()?)).unwrap_or(now);
        Ok(Self {
            message_id: record.message_id.clone().unwrap_or_default(),
            sent_at,
            patterns: parsed.collect::<Result<_, _>>()?,
        })
    }
}
