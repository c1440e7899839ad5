//! The viewers' read routes: polls, rankings, and the receipts of a viewer's own votes.
//!
//! CloudFront caches the public reads, so about one request every three seconds arrives here for each path.
//!
//! To add a public route:
//! 1. Add a method that answers with [`Handler`]'s `public`, and its arm to the match in [`Handler::handle`].
//! 2. Add the event to `template.yaml`, the path to `docs/openapi.yaml`, the route to `scripts/check_template.py`.
//! 3. Add a test to `functions/polls/tests/it/reads.rs`.

mod mine;
mod numbers;

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
};

use api::{NO_STORE, Problem, json_response, poll_id, route_key};
use domain::PollWithTally;
use domain::{Poll, PollId, Ranking, VoterHasher};
use lambda_http::{
    Body, Request, Response,
    http::{HeaderValue, StatusCode, header},
};
use ranking::Cached;
use runtime::{
    Clock,
    environment::{self, Reader},
};
use serde::Serialize;
use serde_json::json;
use stores::Stores;

use crate::numbers::Numbers;

/// The function's handler, built once at start.
#[derive(Debug)]
pub struct Handler {
    stores: Stores,
    hasher: VoterHasher,
    public_cache_control: String,
    absence_cache_control: String,
    numbers: Numbers,
    clock: Clock,
}

impl Handler {
    /// Reads the configuration through `lookup` and prepares the clients without connecting.
    ///
    /// # Errors
    /// Every error in the configuration.
    pub fn new(lookup: &dyn Fn(&str) -> Option<String>, clock: Clock) -> Result<Self, environment::Error> {
        let mut reader = Reader::new(lookup);
        let (stores, hasher) = (Stores::read(&mut reader, &clock), reader.parsed("VOTER_HASH_KEY"));
        let public_cache_control = reader.parsed::<HeaderText>("PUBLIC_CACHE_CONTROL");
        let absence_cache_control = reader.parsed::<HeaderText>("ABSENCE_CACHE_CONTROL");
        let built = || {
            Some(Self {
                stores: stores?,
                hasher: hasher?,
                public_cache_control: public_cache_control?.0,
                absence_cache_control: absence_cache_control?.0,
                numbers: Numbers::default(),
                clock,
            })
        };
        reader.finish(built())
    }

    /// Answers one HTTP request of the gateway. Never fails: every failure becomes a response.
    ///
    /// # Errors
    /// None.
    pub async fn handle(&self, request: Request) -> Result<Response<Body>, Infallible> {
        let route = route_key(&request).unwrap_or_default();
        // HEAD is GET without the body.
        let Some(path) = route.strip_prefix("HEAD ") else { return Ok(self.answer(&route, &request).await) };
        let mut response = self.answer(&format!("GET {path}"), &request).await;
        *response.body_mut() = Body::Empty;
        Ok(response)
    }

    async fn answer(&self, route: &str, request: &Request) -> Response<Body> {
        let answer = match route {
            "GET /polls" => self.polls(request).await,
            "GET /polls/{id}" => self.poll(request).await,
            "GET /polls/{id}/ranking" => self.ranking(request).await,
            "GET /polls/{id}/votes/mine" => return personal(self.votes_mine(request).await),
            "GET /votes/mine" => return personal(self.votes_mine_of_polls(request).await),
            _ => Err(Problem::new(StatusCode::NOT_FOUND, "routeNotFound", "There is no such route.")),
        };
        answer.unwrap_or_else(|problem| {
            // A client error is the same for everyone and cacheable. A server error must not outlive its request.
            let is_server_error = problem.status.is_server_error();
            problem.into_response(if is_server_error { NO_STORE } else { &self.absence_cache_control })
        })
    }

    async fn polls(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let polls = self.stores.catalog.current_polls().await?;
        let now = self.clock.now();
        let views: Vec<_> = polls.iter().map(|poll| poll.view(now)).collect();
        let body = json!({ "polls": views });
        Ok(self.public(request, &body, &body))
    }

    async fn poll(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let poll = self.find(request).await?;
        let view = poll.view(self.clock.now());
        Ok(self.public(request, &view, &view))
    }

    async fn ranking(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let id = poll_id(request)?;
        if !self.numbers.may_exist(id, &self.stores.ledger).await {
            return Err(Problem::poll_not_found());
        }
        let Cached { value, loaded_at } = self.stores.catalog.standing(id).await?;
        let Some(PollWithTally { poll, tally }) = value else {
            self.numbers.learn(&self.stores.ledger).await;
            return Err(Problem::poll_not_found());
        };
        let now = self.clock.now();
        if !poll.shows_results(now) {
            let message =
                "The standing of this poll is not public now; the poll's `results` says when it is.";
            return Err(Problem::new(StatusCode::FORBIDDEN, "resultsWithheld", message));
        }
        let ranking = Ranking::new(&poll, &tally, loaded_at, now);
        // `asOf` changes with every load and is left out of the entity tag.
        Ok(self.public(request, &ranking, &(ranking.poll, &ranking.ranking, ranking.status)))
    }

    async fn find(&self, request: &Request) -> Result<Poll, Problem> {
        self.find_number(poll_id(request)?).await?.ok_or_else(Problem::poll_not_found)
    }

    /// Returns the public poll of a number.
    async fn find_number(&self, id: PollId) -> Result<Option<Poll>, Problem> {
        if !self.numbers.may_exist(id, &self.stores.ledger).await {
            return Ok(None);
        }
        let found = self.stores.catalog.poll(id).await?;
        if found.is_none() {
            self.numbers.learn(&self.stores.ledger).await;
        }
        Ok(found)
    }

    /// Returns a cacheable response, or 304 if `If-None-Match` names it. The entity tag is a hash of `identity`.
    fn public(&self, request: &Request, body: &impl Serialize, identity: &impl Serialize) -> Response<Body> {
        let tag = entity_tag(identity);
        let given =
            request.headers().get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let is_current = given
            .flat_map(|list| list.split(','))
            .any(|one| matches!(one.trim(), "*") || weakly_equal(one, &tag));
        let mut response = json_response(StatusCode::OK, &self.public_cache_control, body);
        if is_current {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::Empty;
        }
        let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits and quotes");
        response.headers_mut().insert(header::ETAG, tag);
        response
    }
}

/// Returns an answer about one voter, which no cache may store.
fn personal(answer: Result<Response<Body>, Problem>) -> Response<Body> {
    answer.unwrap_or_else(|problem| problem.into_response(NO_STORE))
}

/// A header value, validated at start.
struct HeaderText(String);

impl std::str::FromStr for HeaderText {
    type Err = header::InvalidHeaderValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        HeaderValue::from_str(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// Returns a weak entity tag: responses with one tag are equivalent, not byte-identical (RFC 9110, 8.8.1).
/// `SipHash` with its fixed key gives the same tag in every instance.
fn entity_tag(identity: &impl Serialize) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(identity).expect("answers are plain data").hash(&mut hasher);
    format!("W/\"{:016x}\"", hasher.finish())
}

/// Compares two entity tags weakly, by their opaque part, as `If-None-Match` requires (RFC 9110, 8.8.3.2).
fn weakly_equal(theirs: &str, ours: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    opaque(theirs) == opaque(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_compare_weakly() {
        assert!(weakly_equal(r#"W/"a""#, r#"W/"a""#));
        assert!(weakly_equal(r#" "a""#, r#"W/"a""#));
        assert!(!weakly_equal(r#"W/"b""#, r#"W/"a""#));
    }

    #[test]
    fn the_tag_follows_the_content() {
        assert_eq!(entity_tag(&json!({"votes": 1})), entity_tag(&json!({"votes": 1})));
        assert_ne!(entity_tag(&json!({"votes": 1})), entity_tag(&json!({"votes": 2})));
    }
}
