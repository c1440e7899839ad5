//! Later certificates, for votes cast in time that arrived after the first certificate. The first one never changes.

use api::{NO_STORE, Problem, json_response};
use domain::{Action, LaterDocument, PollId};
use lambda_http::{Body, Request, Response, http::StatusCode};
use ledger::Issued;
use runtime::telemetry::error_chain;
use serde_json::json;
use tokio::time::Instant;

use crate::{Handler, order::order_if_match, read::tagged};

impl Handler {
    /// Issues a certificate with all late votes so far. Answers 201 with its document; 200 if the last certificate
    /// covers them already, so that a retry after a lost response issues no other; 202 if it takes longer than one
    /// request: `functions/results` then completes it, and a retry answers with the document. In each case
    /// `functions/results` is woken to write the files.
    pub(crate) async fn issue_later_certificate(
        &self,
        request: &Request,
        id: PollId,
    ) -> Result<Response<Body>, Problem> {
        let ledger = &self.stores.ledger;
        let order = order_if_match(request, Action::SecondCertificate);
        let issued = ledger.issue_later_certificate(id, &order).await?.ok_or_else(Problem::poll_not_found)?;
        let (number, is_new) = match issued {
            Issued::Certificate { number, is_new } => (number, is_new),
            Issued::NotCertified => return Err(not_certified()),
            Issued::NoLateVotes => return Err(no_late_votes()),
        };
        if is_new {
            tracing::info!(poll = id.0, number, "certificate.issued");
        }
        let until = Instant::now() + self.audit_timeout / 2;
        self.wake(id).await;
        while Instant::now() < until && !self.advance_later_certificate(id, until).await {}
        let poll = ledger.polls(&[id]).await?.pop().ok_or_else(Problem::poll_not_found)?.poll;
        let first = ledger.certificate(id).await?.ok_or_else(not_certified)?;
        let later = ledger.later_certificates(id).await?.into_iter().find(|later| later.number == number);
        let Some(later) = later else {
            let answer = json!({ "poll": id, "number": number });
            return Ok(tagged(json_response(StatusCode::ACCEPTED, NO_STORE, &answer), poll.version));
        };
        let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
        let document = LaterDocument::whole(&poll, &first, &later);
        Ok(tagged(json_response(status, NO_STORE, &document), poll.version))
    }

    /// Reads one piece of the poll's votes: for the supplement of the first certificate, then for the later one.
    /// Returns whether both are finished; a failure is logged.
    async fn advance_later_certificate(&self, id: PollId, until: Instant) -> bool {
        let limit = until.saturating_duration_since(Instant::now());
        self.stores.ledger.advance_certificates(id, limit).await.unwrap_or_else(|error| {
            tracing::warn!(error = error_chain(&error), poll = id.0, "certificate.not_supplemented");
            false
        })
    }
}

fn not_certified() -> Problem {
    let message = "poll: its result is not certified, so no vote can be late";
    Problem::new(StatusCode::CONFLICT, "pollNotCertified", message)
}

fn no_late_votes() -> Problem {
    let message = "poll: no vote has arrived after its certificate";
    Problem::new(StatusCode::CONFLICT, "noLateVotes", message)
}
