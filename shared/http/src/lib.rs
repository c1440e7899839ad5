//! What every HTTP answer of ours has in common.

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

/// Not to be kept by anyone: answers about one voter or for the show.
pub const NO_STORE: &str = "private, no-store";

/// An answer other than success. Its body is `{"error":{"code":"…","message":"…"}}`, with details where there are some.
#[derive(Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// For programs; stable.
    pub code: &'static str,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// What else its body holds, for programs.
    pub details: Map<String, Value>,
}

impl Problem {
    /// A problem with its status, code and message.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), details: Map::new() }
    }

    /// There is no such poll.
    pub fn poll_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "pollNotFound", "There is no poll of this number.")
    }

    /// The answer.
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

/// 412: the change was meant for what the poll was before somebody else changed it.
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

/// The one place where a store's failure becomes an answer; it is logged here and shows nothing of the inside.
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
                    "This release cannot answer that, and its log says why. Trying again does not help.";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
            }
        }
    }
}

/// A JSON answer.
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

/// The route as the template names it, such as `GET /polls/{id}`: the gateway has already chosen it.
pub fn route_key(request: &Request) -> Option<String> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV2(context) => context.route_key.clone(),
        _ => None,
    }
}

/// The path's `{id}`.
///
/// # Errors
/// A 404: what is not a positive number names no poll.
pub fn poll_id(request: &Request) -> Result<domain::PollId, Problem> {
    let parameters = request.path_parameters();
    let id = parameters.first("id").and_then(|id| id.parse().ok()).filter(|&id| id > 0);
    id.map(domain::PollId).ok_or_else(Problem::poll_not_found)
}
