//! Stands in for AWS's regional endpoints: one address for the AWS CLI and SDKs.
//!
//! A request names its service in `X-Amz-Target`; each service is a module of its own. What names none is S3's, whose
//! requests are paths, unless it is a form (SQS's older protocol, which is not offered) or its path is CloudFront's.
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

/// Longest request body: SQS takes 1 MiB of payload, which JSON's escapes and base64 can make several times longer.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// What stands behind the endpoint.
#[derive(Debug, Clone)]
pub struct Services {
    /// SQS.
    pub queues: Arc<Queues>,
    /// S3.
    pub storage: Storage,
    /// CloudFront, where there is a distribution.
    pub cloudfront: Option<Arc<CloudFront>>,
}

/// The whole endpoint.
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
        Some(_) => Err(ApiError::unknown_operation(format!("{target} is not offered on one machine"))),
        None => Err(ApiError::unknown_operation(
            "the X-Amz-Target header is missing: SQS is spoken to in the AWS JSON protocol (boto3 from 1.28, AWS CLI 2)",
        )),
    }
}

fn respond(answer: Result<Value, ApiError>) -> Response {
    let request_id = ("x-amzn-requestid", Uuid::new_v4().to_string());
    match answer {
        Ok(value) => {
            let headers = [(header::CONTENT_TYPE.as_str(), CONTENT_TYPE.to_owned()), request_id];
            // AWS sends no body at all where an action has no output.
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
