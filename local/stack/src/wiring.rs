//! How the parts reach each other: the API its queues and functions, the edge the API.
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
    /// For SQS-SendMessage.
    pub queues: Arc<Queues>,
    /// For the Lambda proxy.
    pub functions: Arc<Functions>,
}

impl Backend for Integrations {
    fn invoke(&self, function: String, payload: Bytes) -> BoxFuture<'_, Result<Bytes, InvokeError>> {
        Box::pin(async move { self.functions.invoke(&function, payload).await })
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
    /// Its name in the distribution.
    pub domain_name: String,
}

impl Origin for ApiOrigin {
    fn fetch(&self, request: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)> {
        // execute-api knows its own name only: forwarding the viewer's Host is a classic mistake.
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
