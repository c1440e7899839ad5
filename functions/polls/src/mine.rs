//! A voter's used ballots and the receipts of votes: `GET /polls/{id}/votes/mine` for one poll, `GET /votes/mine` for
//! several.

use std::collections::{BTreeMap, btree_map::Entry};

use api::{NO_STORE, Problem, json_response, parse_poll_id};
use domain::{Inquiry, PlacedReceipt, Poll, PollId, Receipt, Voter};
use lambda_http::{Body, Request, RequestExt, Response, http::StatusCode, request::RequestContext};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::Handler;

/// Polls in a request about several: more than are on air at a time.
const POLLS_MAX: usize = 20;
/// Votes in a request: as many as travel together in one vote, and each costs up to 20 ms.
const VOTES_MAX: usize = 20;

/// The response about the votes with one id.
#[derive(Debug, Serialize)]
struct Answer {
    id: Uuid,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Unknown { outcome: &'static str },
    Single(Receipt),
    Several { votes: Vec<PlacedReceipt> },
}

impl Answer {
    /// Shows a single vote without its place, as a request with one vote has no places.
    fn new(id: Uuid, mut votes: Vec<PlacedReceipt>) -> Self {
        let is_single = matches!(votes.as_slice(), [PlacedReceipt { place: 0, .. }]);
        let outcome = match votes.pop() {
            None => Outcome::Unknown { outcome: "unknown" },
            Some(single) if is_single => Outcome::Single(single.receipt),
            Some(last) => {
                votes.push(last);
                Outcome::Several { votes }
            }
        };
        Self { id, outcome }
    }
}

/// The ballots of a voter in one poll.
#[derive(Debug, Serialize)]
struct Ballots {
    limit: Option<i16>,
    used: Vec<i16>,
    remaining: Option<usize>,
}

impl Handler {
    /// Answers with the caller's ballots, or with `?id=` with the receipts of one of the caller's requests.
    pub(crate) async fn votes_mine(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let voter = self.voter(request)?;
        let id = query_id(request)?;
        let poll = self.find(request).await?;
        Ok(match id {
            None => json_response(StatusCode::OK, NO_STORE, &self.ballots(&poll, voter).await?),
            Some(id) => json_response(StatusCode::OK, NO_STORE, &self.receipt(&poll, voter, id).await?),
        })
    }

    /// Answers with the caller's ballots in `?polls=7,8`, and with the receipts of `?votes=7:id,8:id`. A poll that does
    /// not exist has no ballots, and a vote in it is unknown.
    pub(crate) async fn votes_mine_of_polls(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let voter = self.voter(request)?;
        let asked = Asked::read(request)?;
        let mut polls = BTreeMap::new();
        for &id in asked.polls.iter().chain(asked.votes.iter().map(|(poll, _)| poll)) {
            if let Entry::Vacant(place) = polls.entry(id) {
                place.insert(self.find_number(id).await?);
            }
        }
        let (mut ballots, mut votes) = (Vec::new(), Vec::new());
        for id in asked.polls {
            if let Some(poll) = &polls[&id] {
                ballots.push(json!({"poll": id, "ballots": self.ballots(poll, voter).await?}));
            }
        }
        for (id, vote) in asked.votes {
            let answer = match &polls[&id] {
                Some(poll) => self.receipt(poll, voter, vote).await?,
                None => Answer::new(vote, Vec::new()),
            };
            votes.push(json!({"poll": id, "receipt": answer}));
        }
        Ok(json_response(StatusCode::OK, NO_STORE, &json!({"polls": ballots, "votes": votes})))
    }

    /// Looks the ballots up by their keys, which needs no index on voters.
    async fn ballots(&self, poll: &Poll, voter: Voter) -> Result<Ballots, Problem> {
        let Some(limit) = poll.votes_per_voter else {
            return Ok(Ballots { limit: None, used: Vec::new(), remaining: None });
        };
        let keys = self.hasher.ballot_keys(poll, voter, limit);
        let used = self.stores.ledger.counted_ballots(poll.id, &keys, voter).await?;
        let remaining = usize::from(limit.unsigned_abs()) - used.len();
        Ok(Ballots { limit: Some(limit), used, remaining: Some(remaining) })
    }

    async fn receipt(&self, poll: &Poll, voter: Voter, id: Uuid) -> Result<Answer, Problem> {
        let inquiry = Inquiry::new(poll, voter, id, self.clock.now(), &self.hasher);
        Ok(Answer::new(id, self.stores.ledger.receipts(&inquiry).await?))
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

/// The query of a request about several polls, without repetitions.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    polls: Vec<PollId>,
    votes: Vec<(PollId, Uuid)>,
}

impl Asked {
    fn read(request: &Request) -> Result<Self, Problem> {
        let polls = listed(request, "polls", POLLS_MAX, parse_poll_id).ok_or_else(|| {
            let message = format!("polls: expected at most {POLLS_MAX} numbers of polls, such as 7,8");
            Problem::new(StatusCode::BAD_REQUEST, "invalidPolls", message)
        })?;
        let vote = |text: &str| {
            let (poll, id) = text.split_once(':')?;
            Some((parse_poll_id(poll)?, Uuid::try_parse(id).ok()?))
        };
        let votes = listed(request, "votes", VOTES_MAX, vote).ok_or_else(|| {
            let message =
                format!("votes: expected at most {VOTES_MAX} votes, each a poll's number, a colon and an id");
            Problem::new(StatusCode::BAD_REQUEST, "invalidVotes", message)
        })?;
        if polls.is_empty() && votes.is_empty() {
            let message = "Name polls, votes or both in the query.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "nothingAsked", message));
        }
        Ok(Self { polls, votes })
    }
}

/// Parses a query parameter that lists values, separated by commas or given several times. Returns `None` for too many
/// values, or one that cannot be parsed.
fn listed<T: PartialEq>(
    request: &Request,
    name: &str,
    max: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let parameters = request.query_string_parameters();
    let mut values = Vec::new();
    for text in parameters.all(name).unwrap_or_default().into_iter().flat_map(|list| list.split(',')) {
        let value = parse(text)?;
        if !values.contains(&value) {
            values.push(value);
        }
        if values.len() > max {
            return None;
        }
    }
    Some(values)
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
