//! Common parts of all HTTP responses: JSON bodies, errors, and the path's parameters.
//!
//! To add a route: 1. Add it to the function's events in `template.yaml` and to `docs/openapi.yaml`. 2. Match its
//! [`route_key`] in the function's router. 3. Answer with [`json_response`], or return a [`Problem`].

use lambda_http::{
    Body, Request, RequestExt, Response,
    http::{HeaderValue, StatusCode, header},
    request::RequestContext,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use domain::Invalid;
use ledger::Conflict;
use runtime::telemetry::error_chain;

/// The cache header of responses about one voter or for the crew: no cache may store them.
pub const NO_STORE: &str = "private, no-store";

/// An error response. Its body is `{"error":{"code":"…","message":"…"}}`, plus optional details.
#[derive(Debug)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// The stable code for programs.
    pub code: &'static str,
    /// The message for people: the error and the remedy.
    pub message: String,
    /// Further fields of the body, for programs.
    pub details: Map<String, Value>,
}

impl Problem {
    /// Creates a problem without details.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Map::new() }
    }

    /// Creates the 404 for a poll that does not exist.
    pub fn poll_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "pollNotFound", "There is no poll of this number.")
    }

    /// Builds the response.
    pub fn into_response(self, cache_control: &str) -> Response<Body> {
        let mut error = self.details;
        error.insert("code".to_owned(), json!(self.code));
        error.insert("message".to_owned(), json!(self.message));
        let body = json!({ "error": error });
        json_response(self.status, cache_control, &body)
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let status =
            if invalid.is_conflict() { StatusCode::CONFLICT } else { StatusCode::UNPROCESSABLE_ENTITY };
        Self::new(status, invalid.code(), invalid.to_string())
    }
}

/// 412: the change was meant for an earlier version of the poll.
impl From<Conflict> for Problem {
    fn from(Conflict { version, changed }: Conflict) -> Self {
        let (who, at) = changed.unzip();
        let by = who.as_ref().map_or_else(String::new, |who| format!(", last changed by {who}"));
        let message =
            format!("The poll is of version {version} now{by}. Nothing was changed; look at it again.");
        let details = [("version", json!(version)), ("changedBy", json!(who)), ("changedAt", json!(at))];
        let details = details.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { details, ..Self::new(StatusCode::PRECONDITION_FAILED, "versionConflict", message) }
    }
}

/// The only conversion of a store's failure into a response. It logs the failure; the response shows no internals.
impl From<ledger::Error> for Problem {
    fn from(error: ledger::Error) -> Self {
        match error {
            ledger::Error::Invalid(invalid) => invalid.into(),
            ledger::Error::Conflict(conflict) => conflict.into(),
            failure if failure.retry().is_transient() => {
                tracing::error!(error = error_chain(&failure), "request.failed");
                let message = "The ledger does not answer at the moment. Nothing is lost; try again shortly.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
            }
            defect => {
                tracing::error!(error = error_chain(&defect), "request.defect");
                let message =
                    "This release cannot process the request; its log has the cause. A retry will not help.";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

/// Builds a JSON response.
pub fn json_response(status: StatusCode, cache_control: &str, body: &impl Serialize) -> Response<Body> {
    let body = serde_json::to_string(body).expect("answers are plain data");
    let mut response = Response::new(Body::Text(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_str(cache_control).expect("the template's header is plain text"),
    );
    response
}

/// Returns the route that the gateway has chosen, as the template names it, such as `GET /polls/{id}`.
pub fn route_key(request: &Request) -> Option<String> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => context.route_key.clone(),
        _ => None,
    }
}

/// Returns the `{id}` of the path.
///
/// # Errors
/// 404 if the parameter is not a [poll's number](parse_poll_id).
pub fn poll_id(request: &Request) -> Result<domain::PollId, Problem> {
    let parameters = request.path_parameters();
    parameters.first("id").and_then(parse_poll_id).ok_or_else(Problem::poll_not_found)
}

/// Parses a poll's number: `[1-9][0-9]{0,9}` and nothing else, so that each poll has one address.
pub fn parse_poll_id(text: &str) -> Option<domain::PollId> {
    let is_strict =
        text.len() <= 10 && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_strict).map(domain::PollId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polls_number_has_one_spelling() {
        for (text, id) in [("1", 1), ("1000000000", 1_000_000_000), ("2147483647", i32::MAX)] {
            assert_eq!(parse_poll_id(text), Some(domain::PollId(id)), "{text}");
        }
        for text in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "1.0",
            "%31",
            "2147483648",
            "9999999999",
            "1000000000000000000001",
            "١",
            "one",
        ] {
            assert_eq!(parse_poll_id(text), None, "{text}");
        }
    }
}
