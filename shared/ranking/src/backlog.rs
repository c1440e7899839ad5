//! The backlog of the votes' queue, for the crew. Only one function may query SQS; it shares the figure here.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Error, RankingStore};
use domain::Timestamp;

const KEY: &str = "backlog";

/// The lifetime of the figure. An older one would mislead.
const LIFETIME: Duration = Duration::from_secs(15);

/// The votes of all polls that wait or are in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// The number that SQS reports, without our own probes. SQS may be a minute behind.
    pub messages: u64,
    /// The time of the query.
    pub as_of: Timestamp,
}

impl RankingStore {
    /// Stores the figure for 15 s.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn keep_backlog(&self, backlog: Backlog) -> Result<(), Error> {
        let text = serde_json::to_string(&backlog).expect("two numbers are plain data");
        let mut pipeline = redis::pipe();
        pipeline.set_ex(self.key(KEY), text, LIFETIME.as_secs()).ignore();
        self.run(&pipeline).await
    }

    /// Returns the latest figure. `None` if it is older than 15 s.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn backlog(&self) -> Result<Option<Backlog>, Error> {
        let mut pipeline = redis::pipe();
        pipeline.get(self.key(KEY));
        let (text,): (Option<String>,) = self.run(&pipeline).await?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }
}
