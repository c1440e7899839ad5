//! Emulates AWS's regional endpoints: one address for the AWS CLI and SDKs.
//!
//! CloudFront's base path selects CloudFront. Otherwise `X-Amz-Target` names the service. A request without this
//! header goes to S3, unless it is a form (SQS's query protocol, which is not supported).
//!
//! To add a service of the AWS JSON protocol: 1. add it to [`Services`]; 2. write a module with a `call` function; 3.
//! add its target prefix to `dispatch`.
mod error;
mod sqs;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    cloudfront::{self, CloudFront},
    s3::Storage,
    sqs::Queues,
};
use error::ApiError;

/// Limit on the request body: SQS accepts a payload of 1 MiB, which JSON escapes and base64 can multiply.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// The services of the endpoint.
#[derive(Debug, Clone)]
pub struct Services {
    /// SQS.
    pub queues: Arc<Queues>,
    /// S3.
    pub storage: Storage,
    /// CloudFront; `None` without a distribution.
    pub cloudfront: Option<Arc<CloudFront>>,
}

/// Returns the router of the endpoint.
pub fn router(services: Services) -> Router {
    Router::new().fallback(handle).with_state(services)
}

async fn handle(State(services): State<Services>, request: Request) -> Response {
    if let Some(cloudfront) = &services.cloudfront
        && request.uri().path().starts_with(cloudfront::BASE_PATH)
    {
        return cloudfront.handle(request).await;
    }
    if is_s3(&request) {
        return services.storage.handle(request).await;
    }
    let (parts, body) = request.into_parts();
    let answer = match read(body).await {
        Ok(body) => dispatch(&services.queues, &parts.headers, &body).await,
        Err(error) => Err(error),
    };
    respond(answer)
}

fn is_s3(request: &Request) -> bool {
    let is_form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let is_bare_post = request.method() == Method::POST && request.uri().path() == "/";
    !request.headers().contains_key("x-amz-target") && !is_form && !is_bare_post
}

async fn read(body: Body) -> Result<Bytes, ApiError> {
    to_bytes(body, REQUEST_BYTES_MAX).await.map_err(|error| {
        ApiError::new("InvalidParameterValue", format!("the request could not be read: {error}"))
    })
}

async fn dispatch(queues: &Queues, headers: &HeaderMap, body: &Bytes) -> Result<Value, ApiError> {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    match target.split_once('.') {
        Some(("AmazonSQS", action)) => sqs::call(queues, action, body).await,
        Some(_) => Err(ApiError::unknown_operation(format!("{target} is not supported on one machine"))),
        None => Err(ApiError::unknown_operation(
            "the X-Amz-Target header is missing: SQS requires the AWS JSON protocol (boto3 from 1.28, AWS CLI 2)",
        )),
    }
}

fn respond(answer: Result<Value, ApiError>) -> Response {
    let request_id = ("x-amzn-requestid", Uuid::new_v4().to_string());
    match answer {
        Ok(value) => {
            let headers = [(header::CONTENT_TYPE.as_str(), CONTENT_TYPE.to_owned()), request_id];
            // AWS sends an empty body for an action without output.
            let body = if value.is_null() { String::new() } else { value.to_string() };
            (headers, body).into_response()
        }
        Err(error) => {
            let headers = [
                (header::CONTENT_TYPE.as_str(), CONTENT_TYPE.to_owned()),
                ("x-amzn-query-error", error.query_error()),
                request_id,
            ];
            (StatusCode::BAD_REQUEST, headers, error.body().to_string()).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
