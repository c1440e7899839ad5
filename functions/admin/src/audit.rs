//! The audit: compares ledger, tally and ranking.

use std::collections::{BTreeMap, BTreeSet};

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{Action, ContestantNumber, LateVotes, PollId, Tally};
use lambda_http::{Body, Request, Response, http::StatusCode};
use runtime::telemetry::error_chain;
use serde::Serialize;

use tokio::time::timeout;

use crate::{Handler, order::order};

/// The audit's response.
#[derive(Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Audit {
    poll: PollId,
    /// Votes in the ledger, added up row by row.
    ledger_votes: u64,
    /// The rows of these votes. A vote of several taps has one.
    casts: u64,
    tally_votes: u64,
    ranking_votes: u64,
    /// Rejected messages of this poll, by reason.
    rejected: BTreeMap<String, u64>,
    /// Rejected messages that name no existing poll, by reason.
    unattributed: BTreeMap<String, u64>,
    /// Votes that arrived after the poll's certificate; recorded, not counted.
    late: Option<LateVotes>,
    /// Whether all three agree on every contestant, and the counter of rows is right.
    in_sync: bool,
    contestants: Vec<Line>,
}

#[derive(Debug, Serialize, PartialEq)]
struct Line {
    number: ContestantNumber,
    ledger: u64,
    tally: u64,
    ranking: u64,
}

impl Audit {
    fn new(poll: PollId, ledger: ledger::Audit, ranking: &Tally) -> Self {
        let votes = |tally: &Tally, number| tally.get(&number).copied().unwrap_or(0);
        let numbers: BTreeSet<_> = [&ledger.ledger, &ledger.tally, ranking]
            .into_iter()
            .flat_map(|tally| tally.keys().copied())
            .collect();
        let line = |number| Line {
            number,
            ledger: votes(&ledger.ledger, number),
            tally: votes(&ledger.tally, number),
            ranking: votes(ranking, number),
        };
        let contestants: Vec<_> = numbers.into_iter().map(line).collect();
        Self {
            poll,
            ledger_votes: contestants.iter().map(|line| line.ledger).sum(),
            tally_votes: contestants.iter().map(|line| line.tally).sum(),
            casts: ledger.ledger_casts,
            ranking_votes: contestants.iter().map(|line| line.ranking).sum(),
            in_sync: ledger.ledger_casts == ledger.tally_casts
                && contestants.iter().all(|line| line.ledger == line.tally && line.tally == line.ranking),
            contestants,
            rejected: ledger.rejected,
            unattributed: ledger.unattributed,
            late: ledger.late,
        }
    }
}

impl Handler {
    /// Counts the ledger's votes and compares all three stores. While votes are being counted, the ranking may be
    /// ahead of the ledger's snapshot or a batch behind it.
    pub(crate) async fn audit(&self, request: &Request) -> Result<Response<Body>, Problem> {
        self.with_deadline(self.run_audit(poll_id(request)?)).await
    }

    /// Rebuilds tally and ranking from the ledger, then audits them. Where Redis cannot be written, the tally is
    /// rebuilt all the same, and the response says that the ranking is not. Idempotent.
    pub(crate) async fn rebuild(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        self.with_deadline(async {
            let who = order(request, Action::Rebuild).who;
            if !self.stores.ledger.rebuild(id, &who, self.audit_timeout).await? {
                return Err(Problem::poll_not_found());
            }
            let (_, kept) = self.stores.catalog.load_and_keep(&[id]).await?;
            kept.map_err(|error| ranking_not_written(&error))?;
            self.run_audit(id).await
        })
        .await
    }

    /// Bounds the audit, whose time grows with the number of votes: the response must precede the gateway's timeout.
    async fn with_deadline(
        &self,
        answer: impl Future<Output = Result<Response<Body>, Problem>>,
    ) -> Result<Response<Body>, Problem> {
        timeout(self.audit_timeout, answer).await.unwrap_or_else(|_| {
            tracing::error!(limit = ?self.audit_timeout, "audit.too_long");
            let message = "Counting this poll's votes took too long. A rebuild may still have succeeded. \
                           Try again when fewer votes are coming in.";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "auditTimeout", message))
        })
    }

    async fn run_audit(&self, id: PollId) -> Result<Response<Body>, Problem> {
        let found = self.stores.ledger.polls(&[id]).await?.pop().ok_or_else(Problem::poll_not_found)?;
        let audit = self.stores.ledger.audit(id, self.audit_timeout).await?;
        let ranking = self.stores.ranking.tally(&found.poll).await.inspect_err(|error| {
            tracing::warn!(error = error_chain(error), "ranking.unavailable");
        });
        let ranking = ranking.ok().flatten().unwrap_or_default();
        Ok(json_response(StatusCode::OK, NO_STORE, &Audit::new(id, audit, &ranking)))
    }
}

fn ranking_not_written(error: &ranking::Error) -> Problem {
    tracing::error!(error = error_chain(error), "ranking.not_rebuilt");
    let message = "Redis could not be written, so viewers see the old ranking. The tally was rebuilt. Find out why Redis \
                   refuses writes (away, full, or a replica), then rebuild again.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "rankingNotWritten", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(votes: &[(i16, u64)]) -> Tally {
        votes.iter().map(|&(number, votes)| (ContestantNumber(number), votes)).collect()
    }

    fn audit(ledger: &[(i16, u64)], counters: &[(i16, u64)], ranking: &[(i16, u64)]) -> Audit {
        let ledger = ledger::Audit { ledger: tally(ledger), tally: tally(counters), ..Default::default() };
        Audit::new(PollId(1), ledger, &tally(ranking))
    }

    #[test]
    fn equal_sums_of_different_votes_are_not_in_sync() {
        assert!(audit(&[(1, 2), (2, 1)], &[(1, 2), (2, 1)], &[(1, 2), (2, 1)]).in_sync);
        assert!(!audit(&[(1, 2), (2, 1)], &[(1, 1), (2, 2)], &[(1, 2), (2, 1)]).in_sync);
        assert!(!audit(&[(1, 2), (2, 1)], &[(1, 2), (2, 1)], &[(1, 3)]).in_sync);
        let drifted = ledger::Audit { ledger_casts: 1, ..Default::default() };
        assert!(!Audit::new(PollId(1), drifted, &Tally::new()).in_sync);
    }

    #[test]
    fn a_contestant_known_to_one_store_only_is_shown() {
        let audit = audit(&[(9, 1)], &[], &[]);
        assert_eq!(
            audit.contestants,
            [Line { number: ContestantNumber(9), ledger: 1, tally: 0, ranking: 0 }]
        );
    }
}
