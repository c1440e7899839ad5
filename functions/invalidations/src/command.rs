//! One SQS record as what is to be invalidated.

use aws_lambda_events::sqs::SqsMessage;
use domain::Timestamp;
use serde::Deserialize;

use crate::paths::{Fault, Pattern};

/// What somebody wants invalidated.
#[derive(Debug)]
pub struct Command {
    /// Names the record in the answer.
    pub message_id: String,
    /// The change came before.
    pub sent_at: Timestamp,
    /// As asked.
    pub patterns: Vec<Pattern>,
}

/// Why a record is no command: trying it again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Another document, or none.
    #[error("the body is not {{\"paths\":[\"/…\"]}}: {0}")]
    Body(#[from] serde_json::Error),
    /// Nothing to do would be a defect of the sender.
    #[error("paths is empty")]
    Empty,
    /// One of the paths.
    #[error("paths[{index}]: {fault}")]
    Path {
        /// Which of them, from 0.
        index: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    paths: Vec<String>,
}

impl Command {
    /// Reads a record; `now` stands in for a moment of sending that SQS has left out.
    pub fn read(record: &SqsMessage, now: Timestamp) -> Result<Self, Malformed> {
        let body: Body = serde_json::from_str(record.body.as_deref().unwrap_or_default())?;
        if body.paths.is_empty() {
            return Err(Malformed::Empty);
        }
        let parsed = body
            .paths
            .iter()
            .enumerate()
            .map(|(index, path)| Pattern::parse(path).map_err(|fault| Malformed::Path { index, fault }));
        let sent = record.attributes.get("SentTimestamp");
        let sent_at = sent.and_then(|millis| Timestamp::from_millis(millis.parse().ok()?)).unwrap_or(now);
        Ok(Self {
            message_id: record.message_id.clone().unwrap_or_default(),
            sent_at,
            patterns: parsed.collect::<Result<_, _>>()?,
        })
    }
}
