//! The journal: every change with its author and time.

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{PollId, Timestamp};
use lambda_http::{Body, Request, Response, http::StatusCode};
use ledger::JournalEntry;
use serde::Serialize;
use serde_json::Value;

use crate::{Handler, read::before};

#[derive(Debug, Serialize)]
struct Journal {
    poll: PollId,
    entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    id: i64,
    at: Timestamp,
    who: String,
    action: String,
    version: i32,
    changes: Value,
}

impl From<JournalEntry> for Entry {
    fn from(entry: JournalEntry) -> Self {
        let JournalEntry { id, at, who, action, version, changes } = entry;
        Self { id, at, who, action, version, changes }
    }
}

impl Handler {
    /// Answers with a page of a poll's journal, newest first. The journal of a deleted poll remains.
    pub(crate) async fn journal(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        let before = before(request, "the id of an entry")?;
        let entries = self.stores.ledger.journal(id, before).await?;
        if entries.is_empty() && before.is_none() && self.stores.ledger.polls(&[id]).await?.is_empty() {
            return Err(Problem::poll_not_found());
        }
        let entries = entries.into_iter().map(Entry::from).collect();
        Ok(json_response(StatusCode::OK, NO_STORE, &Journal { poll: id, entries }))
    }
}
