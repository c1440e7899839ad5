//! Certifies a result on request. `functions/results` certifies automatically once no vote is outstanding.

use std::collections::BTreeMap;

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{
    Action, Basis, Certificate, ContestantNumber, Order, Poll, PollId, Recount, Timestamp, Waiting,
};
use lambda_http::{Body, Request, Response, http::StatusCode};
use ledger::{Certified, PIECE_ROWS};
use runtime::telemetry::error_chain;
use serde::{Deserialize, Serialize};

use crate::{Handler, body, order::order_if_match, read::tagged};

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
    votes: u64,
    #[serde(flatten)]
    supplement: Option<SupplementView>,
    rejected: BTreeMap<String, u64>,
    contestants: Vec<Line>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct SupplementView {
    digest: String,
    voters: u64,
    recount: Option<Recount>,
    supplemented_at: Timestamp,
}

#[derive(Debug, Serialize)]
struct Line {
    number: ContestantNumber,
    votes: u64,
}

impl From<Certificate> for View {
    fn from(certificate: Certificate) -> Self {
        let recount = certificate.recount();
        let supplement = certificate.supplement.map(|supplement| SupplementView {
            digest: supplement.digest_hex(),
            voters: supplement.voters,
            recount,
            supplemented_at: supplement.at,
        });
        Self {
            certified_at: certificate.certified_at,
            basis: certificate.basis,
            votes: certificate.tally.values().sum(),
            supplement,
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
    /// Certifies the poll, unless votes are outstanding. Answers with the certificate; its supplement is in the answer
    /// if one piece holds all votes of the poll, else `functions/results` completes it.
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
            self.certify_closed(&poll, options.force, order).await?
        } else {
            poll.version
        };
        if let Err(error) =
            self.stores.ledger.advance_supplement(id, PIECE_ROWS, self.audit_timeout / 2).await
        {
            tracing::warn!(error = error_chain(&error), poll = id.0, "certificate.not_supplemented");
        }
        let certificate = self.stores.ledger.certificate(id).await?.map(View::from);
        let answer = Answer { poll: id, certified: certificate.is_some(), certificate };
        Ok(tagged(json_response(StatusCode::OK, NO_STORE, &answer), version))
    }

    /// Certifies a closed poll and returns its new version.
    async fn certify_closed(&self, poll: &Poll, force: bool, mut order: Order) -> Result<i32, Problem> {
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
        let certified = self.stores.ledger.certify_by(poll.id, Some(closes_at), basis, Some(&order)).await?;
        let certified = certified.ok_or_else(Problem::poll_not_found)?;
        if certified == Certified::NotClosed {
            return Err(not_closed());
        }
        tracing::info!(poll = poll.id.0, basis = basis.name(), "poll.certified");
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
