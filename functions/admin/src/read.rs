//! The crew's read routes: one poll, and the list of polls.

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{Poll, PollId, Timestamp};
use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::json;

use crate::Handler;

impl Handler {
    /// Answers with all unfinished polls, and a page of all polls.
    pub(crate) async fn list(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let before = before(request, "the number of a poll")?.unwrap_or(i32::MAX);
        let current = self.stores.ledger.unfinished_polls().await?;
        let polls = self.stores.ledger.polls_before(PollId(before)).await?;
        let now = self.clock.now();
        let [current, polls] =
            [&current, &polls].map(|list| list.iter().map(|poll| poll.crew_view(now)).collect::<Vec<_>>());
        Ok(json_response(StatusCode::OK, NO_STORE, &json!({"current": current, "polls": polls})))
    }

    /// Answers with one poll.
    pub(crate) async fn show(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let found = self.stores.ledger.polls(&[poll_id(request)?]).await?.pop();
        Ok(poll_response(StatusCode::OK, &found.ok_or_else(Problem::poll_not_found)?.poll, self.clock.now()))
    }
}

/// Parses the query parameter `before` of a paged list. Returns `None` for the first page.
///
/// # Errors
/// 400 unless it is a positive number.
pub(crate) fn before<T: std::str::FromStr + PartialOrd + Default>(
    request: &Request,
    expected: &str,
) -> Result<Option<T>, Problem> {
    match request.query_string_parameters().first("before").map(str::parse) {
        None => Ok(None),
        Some(Ok(number)) if number > T::default() => Ok(Some(number)),
        Some(_) => {
            let message = format!("before: expected {expected}");
            Err(Problem::new(StatusCode::BAD_REQUEST, "invalidBefore", message))
        }
    }
}

/// Returns a poll's response, with its version as entity tag.
pub(crate) fn poll_response(status: StatusCode, poll: &Poll, now: Timestamp) -> Response<Body> {
    tagged(json_response(status, NO_STORE, &poll.crew_view(now)), poll.version)
}

/// Sets the poll's version as the entity tag of a response.
pub(crate) fn tagged(mut response: Response<Body>, version: i32) -> Response<Body> {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits and quotes");
    response.headers_mut().insert(header::ETAG, tag);
    response
}
