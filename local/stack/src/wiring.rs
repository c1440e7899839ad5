//! Connects the API with its queues and functions, and the edge with the API.
use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, Request, Response, StatusCode, header},
};
use futures_util::future::BoxFuture;

use emulator::{
    edge::Origin,
    http_api::{Backend, HttpApi},
    lambda::{Functions, InvokeError},
    sqs::{NewMessage, Queues, SendError, Sent},
};

/// The API's integrations.
#[derive(Debug)]
pub struct Integrations {
    /// The queues, for SQS-SendMessage.
    pub queues: Arc<Queues>,
    /// The functions, for the Lambda proxy.
    pub functions: Arc<Functions>,
}

impl Backend for Integrations {
    fn invoke(&self, function: String, payload: Bytes) -> BoxFuture<'_, Result<Bytes, InvokeError>> {
        Box::pin(async move { self.functions.request(&function, payload).await })
    }

    fn send(&self, queue_url: &str, message: NewMessage) -> Option<Result<Sent, SendError>> {
        Some(self.queues.get(queue_url)?.send(message))
    }
}

/// The API as an origin of the edge.
#[derive(Debug)]
pub struct ApiOrigin {
    /// The API.
    pub api: Arc<HttpApi>,
    /// The origin's domain name in the distribution.
    pub domain_name: String,
}

impl Origin for ApiOrigin {
    fn fetch(&self, request: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)> {
        // execute-api accepts only its own name; forwarding the viewer's Host header is a common mistake.
        let host = request.headers().get(header::HOST);
        if host.is_none_or(|host| host.as_bytes() != self.domain_name.as_bytes()) {
            let mut response = Response::new(Bytes::from_static(b"{\"message\":\"Forbidden\"}"));
            *response.status_mut() = StatusCode::FORBIDDEN;
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            return Box::pin(std::future::ready((response, "none".to_owned())));
        }
        let api = Arc::clone(&self.api);
        Box::pin(async move { api.handle(request).await })
    }
}
