//! Certifies a result on request. `functions/results` certifies automatically once no vote is outstanding.

use std::collections::BTreeMap;

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{Action, Basis, Certificate, ContestantNumber, Order, Poll, PollId, Timestamp, Waiting};
use lambda_http::{Body, Request, Response, http::StatusCode};
use ledger::Frozen;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{Handler, body, order::order_if_match, read::tagged};

/// Votes digested in one call, which takes about a second.
pub(crate) const PIECE_ROWS: u32 = 200_000;

/// The optional body.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Options {
    /// Certify even if votes may be outstanding.
    #[serde(default)]
    force: bool,
    /// Issue a further certificate with the late votes, beside the first one.
    #[serde(default)]
    include_late: bool,
}

/// The response.
#[derive(Debug, Serialize)]
struct Answer {
    poll: PollId,
    certified: bool,
    certificate: Option<View>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    certified_at: Timestamp,
    basis: Basis,
    digest: String,
    votes: u64,
    voters: u64,
    rejected: BTreeMap<String, u64>,
    contestants: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    number: ContestantNumber,
    votes: u64,
}

impl From<Certificate> for View {
    fn from(certificate: Certificate) -> Self {
        Self {
            certified_at: certificate.certified_at,
            basis: certificate.basis,
            digest: certificate.digest_hex(),
            votes: certificate.tally.values().sum(),
            voters: certificate.voters,
            rejected: certificate.rejected,
            contestants: certificate
                .tally
                .into_iter()
                .map(|(number, votes)| Line { number, votes })
                .collect(),
        }
    }
}

impl Handler {
    /// Freezes the poll, unless votes are outstanding, and makes its certificate. Answers 200 with the certificate,
    /// or 202 if it takes longer than one request; `functions/results` then completes it.
    pub(crate) async fn certify(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        let options: Options =
            if request.body().is_empty() { Options::default() } else { body::parse(request)? };
        if options.include_late {
            return self.issue_later_certificate(request, id).await;
        }
        let poll = self.stores.ledger.polls(&[id]).await?.pop().ok_or_else(Problem::poll_not_found)?.poll;
        let order = order_if_match(request, Action::Certify);
        self.stores.ledger.check_version(&order, &poll).await?;
        let version = if poll.frozen_at.is_none() {
            self.freeze(&poll, options.force, order).await?
        } else {
            poll.version
        };
        let until = Instant::now() + self.audit_timeout / 2;
        while !self.stores.ledger.advance_certificate(id, PIECE_ROWS, self.audit_timeout).await?
            && Instant::now() < until
        {}
        let certificate = self.stores.ledger.certificate(id).await?.map(View::from);
        let status = if certificate.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
        let answer = Answer { poll: id, certified: certificate.is_some(), certificate };
        Ok(tagged(json_response(status, NO_STORE, &answer), version))
    }

    /// Freezes the poll and returns its new version.
    async fn freeze(&self, poll: &Poll, force: bool, mut order: Order) -> Result<i32, Problem> {
        let closed = poll.opens_at.and(poll.closes_at).filter(|&at| at <= self.clock.now());
        let closes_at = closed.ok_or_else(not_closed)?;
        let closing = self.stores.ledger.closing(poll.id, closes_at).await?;
        let basis = match closing.verdict() {
            Ok(basis) => basis,
            Err(_) if force => Basis::Forced,
            Err(waiting) => return Err(outstanding(&waiting)),
        };
        if basis == Basis::Forced {
            order.action = Action::ForceCertify;
        }
        let frozen = self.stores.ledger.freeze_by(poll.id, Some(closes_at), basis, Some(&order)).await?;
        let frozen = frozen.ok_or_else(Problem::poll_not_found)?;
        if frozen == Frozen::NotClosed {
            return Err(not_closed());
        }
        tracing::info!(poll = poll.id.0, basis = basis.name(), "poll.frozen");
        let loaded = self.stores.catalog.load(&[poll.id]).await?.pop();
        Ok(loaded.ok_or_else(Problem::poll_not_found)?.poll.version)
    }
}

fn not_closed() -> Problem {
    Problem::new(
        StatusCode::CONFLICT,
        "pollNotClosed",
        "poll: it was never open, or is not closed yet, so there is no result to certify",
    )
}

fn outstanding(waiting: &Waiting) -> Problem {
    let message = format!(
        "Votes may be outstanding. {waiting} Try again, or send {{\"force\":true}}: votes that arrive \
         later are then recorded as late."
    );
    Problem::new(StatusCode::CONFLICT, "votesOutstanding", message)
}
