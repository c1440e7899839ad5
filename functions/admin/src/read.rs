//! Polls as the crew sees them.

use api::{NO_STORE, Problem, json_response, poll_id};
use domain::{Poll, PollId, Timestamp};
use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::json;

use crate::Handler;

impl Handler {
    /// What the crew must not lose sight of, and a page of all polls.
    pub(crate) async fn list(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let before = before(request, "the number of a poll")?.unwrap_or(i32::MAX);
        let current = self.stores.ledger.unfinished_polls().await?;
        let polls = self.stores.ledger.polls_before(PollId(before)).await?;
        let now = self.clock.now();
        let [current, polls] =
            [&current, &polls].map(|list| list.iter().map(|poll| poll.crew_view(now)).collect::<Vec<_>>());
        Ok(json_response(StatusCode::OK, NO_STORE, &json!({"current": current, "polls": polls})))
    }

    /// One poll.
    pub(crate) async fn show(&self, request: &Request) -> Result<Response<Body>, Problem> {
        let found = self.stores.ledger.polls(&[poll_id(request)?]).await?.pop();
        Ok(poll_response(StatusCode::OK, &found.ok_or_else(Problem::poll_not_found)?.poll, self.clock.now()))
    }
}

/// The query's `before`, which pages a list; `None`: from its beginning.
///
/// # Errors
/// 400 for what is not a positive number.
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

/// A poll with its version as its tag.
pub(crate) fn poll_response(status: StatusCode, poll: &Poll, now: Timestamp) -> Response<Body> {
    tagged(json_response(status, NO_STORE, &poll.crew_view(now)), poll.version)
}

/// An answer about a poll of this version.
pub(crate) fn tagged(mut response: Response<Body>, version: i32) -> Response<Body> {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits and quotes");
    response.headers_mut().insert(header::ETAG, tag);
    response
}
