//! Stands in for AWS's regional endpoints: one address for the AWS CLI and SDKs.
//!
//! A request names its service in `X-Amz-Target`; each service is a module of its own. What has other protocols
//! (S3's paths, CloudFront's) is to be recognised in `handle` before the target is looked at.
mod error;
mod sqs;

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::Value;
use uuid::Uuid;

use crate::sqs::Queues;
use error::ApiError;

/// Longest request body: SQS takes 1 MiB of payload, which JSON's escapes and base64 can make several times longer.
const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// The whole endpoint.
pub fn router(queues: Arc<Queues>) -> Router {
    Router::new().fallback(handle).with_state(queues)
}

async fn handle(State(queues): State<Arc<Queues>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answer = match read(body).await {
        Ok(body) => dispatch(&queues, &parts.headers, &body).await,
        Err(error) => Err(error),
    };
    respond(answer)
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
