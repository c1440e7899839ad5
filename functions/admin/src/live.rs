//! What the control room watches while a poll is open: counters, which cost the same however many votes there are.

use std::collections::BTreeMap;

use lambda_http::{Body, Request, Response, http::StatusCode};
use serde::Serialize;
use shared::{
    api::{NO_STORE, Problem, json_response, poll_id},
    clock,
    domain::{PollId, Timestamp},
    ranking::Backlog,
};

use crate::Handler;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Live {
    poll: PollId,
    /// Votes in the tally.
    votes: u64,
    /// Votes in the ranking that viewers are shown; null where Redis has none.
    ranking_votes: Option<u64>,
    /// Rejected messages of this poll, by reason.
    rejected: BTreeMap<String, u64>,
    /// What the queue holds, of all polls; null where nobody has asked lately.
    queue: Option<Backlog>,
    as_of: Timestamp,
}

impl Handler {
    /// The poll's counters. Unlike the audit it believes the tally.
    pub(crate) async fn live(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        let found = self.stores.ledger.polls(&[id]).await?.pop().ok_or_else(Problem::poll_not_found)?;
        // The ranking first: read after the tally it could be ahead of it.
        let ranking = self.stores.ranking.tally(&found.poll).await.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "ranking.unavailable");
        });
        let ranking_votes = ranking.ok().flatten().map(|tally| tally.values().sum());
        let queue = self.stores.ranking.backlog().await.inspect_err(|error| {
            tracing::warn!(error = error as &dyn std::error::Error, "ranking.unavailable");
        });
        let queue = queue.ok().flatten();
        let (votes, rejected) = self.stores.ledger.progress(id).await?;
        let live = Live { poll: id, votes, ranking_votes, rejected, queue, as_of: clock::now() };
        Ok(json_response(StatusCode::OK, NO_STORE, &live))
    }
}
