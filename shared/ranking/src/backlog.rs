//! How much the votes' queue holds, for the crew: asked of SQS by the one function that may, and passed on here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, RankingStore};
use domain::Timestamp;

const KEY: &str = "backlog";

/// An older figure would mislead.
const LIFETIME: Duration = Duration::from_secs(15);

/// Votes that wait, or are being counted, of all polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// As SQS says, which may be a minute behind; our own probes are taken off.
    pub messages: u64,
    /// When SQS was asked.
    pub as_of: Timestamp,
}

impl RankingStore {
    /// Keeps the figure for 15 s.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn keep_backlog(&self, backlog: Backlog) -> Result<(), Error> {
        let text = serde_json::to_string(&backlog).expect("two numbers are plain data");
        let mut pipeline = redis::pipe();
        pipeline.set_ex(KEY, text, LIFETIME.as_secs()).ignore();
        self.run(&pipeline).await
    }

    /// The latest figure; `None` where there is none of the last 15 s.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn backlog(&self) -> Result<Option<Backlog>, Error> {
        let mut pipeline = redis::pipe();
        pipeline.get(KEY);
        let (text,): (Option<String>,) = self.run(&pipeline).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}
