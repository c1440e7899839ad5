//! `GET /polls/{id}/votes/mine`: a voter's used ballots, and the receipt of one vote.

use api::{NO_STORE, Problem, json_response};
use domain::{Inquiry, Poll, Receipt, Voter};
use lambda_http::{Body, Request, RequestExt, Response, http::StatusCode, request::RequestContext};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::Handler;

/// The response about one vote.
#[derive(Debug, Serialize)]
struct Answer {
    id: Uuid,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Handler {
    /// Answers with the caller's ballots, or with `?id=` with the receipt of one of the caller's votes.
    pub(crate) async fn votes_mine(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let voter = self.voter(request)?;
        let id = query_id(request)?;
        let poll = self.find(request).await?;
        match id {
            None => self.ballots(&poll, voter).await,
            Some(id) => self.receipt(&poll, voter, id).await,
        }
    }

    /// Looks the ballots up by their keys, which needs no index on voters.
    async fn ballots(&self, poll: &Poll, voter: Voter) -> Result<Response<Body>, Problem> {
        let Some(limit) = poll.votes_per_voter else {
            let body = json!({"limit": null, "used": [], "remaining": null});
            return Ok(json_response(StatusCode::OK, NO_STORE, &body));
        };
        let keys = self.hasher.ballot_keys(poll, voter, limit);
        let used = self.stores.ledger.counted_ballots(poll.id, &keys, voter).await?;
        let remaining = usize::from(limit.unsigned_abs()) - used.len();
        let body = json!({"limit": limit, "used": used, "remaining": remaining});
        Ok(json_response(StatusCode::OK, NO_STORE, &body))
    }

    async fn receipt(&self, poll: &Poll, voter: Voter, id: Uuid) -> Result<Response<Body>, Problem> {
        let inquiry = Inquiry::new(poll, voter, id, self.clock.now(), &self.hasher);
        let receipt = self.stores.ledger.receipt(&inquiry).await?;
        Ok(json_response(StatusCode::OK, NO_STORE, &Answer { id, receipt }))
    }

    /// Returns the caller, from the authorizer's claims only.
    fn voter(&self, request: &Request) -> Result<Voter, Problem> {
        let RequestContext::ApiGatewayV2(context) = request.request_context() else {
            return Err(unauthorized());
        };
        let jwt = context.authorizer.and_then(|authorizer| authorizer.jwt).ok_or_else(unauthorized)?;
        jwt.claims.get("sub").map(|sub| self.hasher.voter(sub)).ok_or_else(unauthorized)
    }
}

/// Parses the query parameter `id`, in any form that a vote's `id` may have.
fn query_id(request: &Request) -> Result<Option<Uuid>, Problem> {
    let parameters = request.query_string_parameters();
    let given = parameters.all("id").unwrap_or_default();
    let parsed = match given.as_slice() {
        [] => return Ok(None),
        [id] => Uuid::try_parse(id).ok(),
        _ => None,
    };
    let message = "id: expected one UUID, the vote's own id or the MessageId that it was answered with";
    parsed.map(Some).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "invalidId", message))
}

fn unauthorized() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "Sign in: this route answers about the caller's own votes.",
    )
}
