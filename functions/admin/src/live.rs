//! Live figures for the crew while a poll is open. All are counters, so their cost does not depend on the votes.
//!
//! To add a figure: 1. Add a field to `Live`, from a counter and never from a scan of votes. 2. Fill it in
//! [`Handler::live`]. 3. Describe it in `docs/openapi.yaml`. 4. Show it on the desk, in `frontend/control`.

use std::collections::BTreeMap;

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{Counting, Poll, PollId, Sign, Timestamp, Waiting, WaitsFor};
use lambda_http::{Body, Request, Response, http::StatusCode};
use ledger::Progress;
use ranking::Backlog;
use runtime::telemetry::error_chain;
use serde::Serialize;

use crate::Handler;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Live {
    poll: PollId,
    /// Votes in the tally: the sum of the counts.
    votes: u64,
    /// The rows of these votes in the ledger.
    casts: u64,
    /// Votes in the ranking, as viewers see it; null if Redis has none.
    ranking_votes: Option<u64>,
    /// Rejected messages of this poll, by reason.
    rejected: BTreeMap<String, u64>,
    /// Votes of all polls in the queue; null without a recent count.
    queue: Option<Backlog>,
    /// Whether votes of any poll are being counted.
    counting: CountingView,
    /// The reason why the poll is not certified yet; null while it is open, and once it is frozen.
    certification: Option<CertificationView>,
    as_of: Timestamp,
}

#[derive(Debug, Serialize)]
struct CountingView {
    state: CountingState,
    waiting: Option<u64>,
    since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum CountingState {
    Moving,
    Stopped,
    Unknown,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificationView {
    waits_for: WaitsFor,
    sign: Option<Sign>,
    until: Option<Timestamp>,
    message: String,
}

impl CountingView {
    fn new(counting: Counting, queue: Option<&Backlog>) -> Self {
        let (state, since) = match counting {
            Counting::Moving => (CountingState::Moving, None),
            Counting::Stopped(since) => (CountingState::Stopped, Some(since)),
            Counting::Unknown => (CountingState::Unknown, None),
        };
        Self { state, waiting: queue.map(|queue| queue.messages), since }
    }
}

impl From<Waiting> for CertificationView {
    fn from(waiting: Waiting) -> Self {
        let message = waiting.to_string();
        Self { waits_for: waiting.waits_for, sign: waiting.sign, until: waiting.until, message }
    }
}

impl Handler {
    /// Answers with the poll's counters. Unlike the audit, it trusts the tally.
    pub(crate) async fn live(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        let found = self.stores.ledger.polls(&[id]).await?.pop().ok_or_else(Problem::poll_not_found)?;
        // The ranking is read first: read after the tally, it could be ahead.
        let ranking = self.stores.ranking.tally(&found.poll).await.inspect_err(|error| {
            tracing::warn!(error = error_chain(error), "ranking.unavailable");
        });
        let ranking_votes = ranking.ok().flatten().map(|tally| tally.values().sum());
        let queue = self.stores.ranking.backlog().await.inspect_err(|error| {
            tracing::warn!(error = error_chain(error), "ranking.unavailable");
        });
        let queue = queue.ok().flatten();
        let Progress { votes, casts, rejected } = self.stores.ledger.progress(id).await?;
        let observation = self.stores.ledger.observe(self.policy.kept()).await?;
        let live = Live {
            poll: id,
            votes,
            casts,
            ranking_votes,
            rejected,
            counting: CountingView::new(observation.counting(self.policy), queue.as_ref()),
            queue,
            certification: self.certification(&found.poll, observation.now).await?,
            as_of: self.clock.now(),
        };
        Ok(json_response(StatusCode::OK, NO_STORE, &live))
    }

    async fn certification(
        &self,
        poll: &Poll,
        now: Timestamp,
    ) -> Result<Option<CertificationView>, ledger::Error> {
        let closed = poll.opens_at.and(poll.closes_at).filter(|&at| at <= now);
        let Some(closes_at) = closed.filter(|_| poll.frozen_at.is_none()) else {
            return Ok(None);
        };
        let closing = self.stores.ledger.closing(poll.id, closes_at).await?;
        Ok(closing.verdict().err().map(CertificationView::from))
    }
}
