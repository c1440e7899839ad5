//! Emulates API Gateway's HTTP API: routes, JWT authorizers, throttles, CORS, and the Lambda proxy and
//! SQS-SendMessage integrations, all from the template.
//!
//! To add an integration:
//! 1. Add a variant to [`definition::Target`] and read it in `definition.rs`.
//! 2. Write a module that compiles it and handles a `Call`, and add it to `Integration`.
//! 3. If it reaches a new service, add a method to [`Backend`].
pub mod authorizer;
mod cors;
pub mod definition;
mod lambda_proxy;
pub mod mapping;
pub mod routes;
mod send_message;
#[cfg(test)]
mod tests;
pub(crate) mod throttle;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::BoxFuture;
use serde_json::Value;

use crate::clock;
use crate::{
    http_api::{
        authorizer::{Authorizer, Claims, Denial},
        cors::Cors,
        definition::{Authorization, Definition, Target},
        mapping::RequestContext,
        routes::RouteTable,
        send_message::SendMessage,
        throttle::Bucket,
    },
    issuer::Issuer,
    lambda::InvokeError,
    sqs::{NewMessage, SendError, Sent},
};

/// A placeholder: the local stack has no AWS account.
pub const ACCOUNT_ID: &str = "000000000000";
/// The default stage, which adds no prefix to paths.
pub const STAGE: &str = "$default";
/// API Gateway's quota for the payload size.
pub const PAYLOAD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// API Gateway's quota for the request line and all headers together.
pub const HEAD_BYTES_MAX: usize = 10_240;
/// API Gateway's quota for the integration timeout; not adjustable.
pub const INTEGRATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The viewer's address. The server adds it to the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Viewer(pub IpAddr);

/// The services behind the API's integrations.
pub trait Backend: Send + Sync + 'static {
    /// Invokes a function synchronously.
    fn invoke(&self, function: String, payload: Bytes) -> BoxFuture<'_, Result<Bytes, InvokeError>>;
    /// Sends to the queue with this URL; `None`: the queue does not exist.
    fn send(&self, queue_url: &str, message: NewMessage) -> Option<Result<Sent, SendError>>;
}

#[derive(Debug)]
struct Route {
    key: String,
    authorization: Option<(Arc<Authorizer>, Authorization)>,
    bucket: Option<Bucket>,
    integration: Integration,
}

#[derive(Debug)]
enum Integration {
    Lambda(String),
    SendMessage(Box<SendMessage>),
}

/// A running API.
pub struct HttpApi {
    routes: RouteTable<Route>,
    cors: Option<Cors>,
    backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for HttpApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpApi").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl HttpApi {
    /// Compiles a definition.
    ///
    /// # Errors
    /// An invalid route, authorizer or mapping, with its name.
    pub fn new(definition: Definition, issuer: &Issuer, backend: Arc<dyn Backend>) -> Result<Self> {
        let mut authorizers = std::collections::BTreeMap::new();
        for (name, configuration) in &definition.authorizers {
            ensure!(
                configuration.issuer == issuer.url(),
                "authorizer {name} trusts {:?}; the only issuer on this machine is {:?}: \
                 use the template parameter JwtIssuer as its issuer",
                configuration.issuer,
                issuer.url()
            );
            let authorizer = Authorizer::new(configuration, issuer.verifying_keys());
            authorizers.insert(name.clone(), Arc::new(authorizer));
        }
        let mut routes = Vec::new();
        for route in definition.routes {
            let integration = match route.target {
                Target::Lambda(function) => Integration::Lambda(function),
                Target::SendMessage { request, response } => {
                    let compiled = SendMessage::compile(&request, &response);
                    Integration::SendMessage(Box::new(
                        compiled.with_context(|| format!("route {}", route.key))?,
                    ))
                }
            };
            let authorization = route
                .authorization
                .and_then(|needed| Some((Arc::clone(authorizers.get(&needed.authorizer)?), needed)));
            let compiled = Route {
                key: route.key.to_string(),
                authorization,
                bucket: route.throttle.map(Bucket::new),
                integration,
            };
            routes.push((route.key, compiled));
        }
        Ok(Self { routes: RouteTable::new(routes)?, cors: Cors::read(&definition.cors), backend })
    }

    /// Handles one request. The second value is the key of the route, for metrics.
    pub async fn handle(&self, request: Request<Body>) -> (Response<Bytes>, String) {
        let (parts, body) = request.into_parts();
        let request_id = new_request_id();
        let preflight = self.cors.as_ref().and_then(|cors| cors.preflight(&parts));
        let (mut response, route) = match preflight {
            Some(response) => (response, "preflight".to_owned()),
            None => self.answer(&parts, body, &request_id).await,
        };
        if let Some(cors) = &self.cors {
            cors.set_headers(&parts.headers, response.headers_mut());
        }
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert("apigw-requestid", id);
        }
        (response, route)
    }

    async fn answer(&self, parts: &Parts, body: Body, request_id: &str) -> (Response<Bytes>, String) {
        if head_bytes(parts) > HEAD_BYTES_MAX {
            let answer =
                message(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large");
            return (answer, "none".to_owned());
        }
        let Some((route, path_parameters)) = self.routes.find(&parts.method, parts.uri.path()) else {
            return (message(StatusCode::NOT_FOUND, "Not Found"), "none".to_owned());
        };
        let answer = self.answer_route(route, path_parameters, parts, body, request_id).await;
        (answer.unwrap_or_else(|refusal| refusal), route.key.clone())
    }

    async fn answer_route(
        &self,
        route: &Route,
        path_parameters: Vec<(String, String)>,
        parts: &Parts,
        body: Body,
        request_id: &str,
    ) -> Result<Response<Bytes>, Response<Bytes>> {
        if route.bucket.as_ref().is_some_and(|bucket| !bucket.admit()) {
            return Err(message(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests"));
        }
        let now_ms = clock::now_ms();
        let claims = authorize(route, &parts.headers, now_ms / 1_000).map_err(|refusal| *refusal)?;
        let body = to_bytes(body, PAYLOAD_BYTES_MAX)
            .await
            .map_err(|_| message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"))?;
        let query: Vec<(String, String)> =
            parts.uri.query().map(|query| parse_query(query.as_bytes())).unwrap_or_default();
        let domain_name = header_text(&parts.headers, &header::HOST);
        let context = RequestContext {
            request_id,
            route_key: &route.key,
            method: parts.method.as_str(),
            path: parts.uri.path(),
            protocol: "HTTP/1.1",
            domain_name,
            domain_prefix: domain_name.split(['.', ':']).next().unwrap_or_default(),
            source_ip: parts
                .extensions
                .get::<Viewer>()
                .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |viewer| viewer.0),
            user_agent: header_text(&parts.headers, &header::USER_AGENT),
            claims: claims.as_deref(),
            time_ms: now_ms.into(),
        };
        let call =
            Call { parts, context: &context, path_parameters: &path_parameters, query: &query, body: &body };
        match &route.integration {
            Integration::SendMessage(integration) => Ok(integration.call(&call, self.backend.as_ref())),
            Integration::Lambda(function) => {
                let scopes = route.authorization.as_ref().map(|(_, needed)| needed.scopes.as_slice());
                let event = lambda_proxy::event(&call, scopes.unwrap_or_default());
                let invocation = self.backend.invoke(function.clone(), event);
                Ok(match tokio::time::timeout(INTEGRATION_TIMEOUT, invocation).await {
                    Ok(result) => lambda_proxy::response(result),
                    Err(_) => message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
                })
            }
        }
    }
}

/// A request to an integration.
struct Call<'a> {
    parts: &'a Parts,
    context: &'a RequestContext<'a>,
    path_parameters: &'a [(String, String)],
    query: &'a [(String, String)],
    body: &'a Bytes,
}

fn authorize(
    route: &Route,
    headers: &HeaderMap,
    now_s: u64,
) -> Result<Option<Arc<Claims>>, Box<Response<Bytes>>> {
    let Some((authorizer, needed)) = &route.authorization else { return Ok(None) };
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    authorizer.authorize(header, &needed.scopes, now_s).map(Some).map_err(|denied| {
        let scopes = needed.scopes.join(" ");
        let (status, text, challenge) = match denied {
            Denial::Missing => (StatusCode::UNAUTHORIZED, "Unauthorized", "Bearer".to_owned()),
            Denial::Invalid(reason) => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                format!("Bearer scope=\"{scopes}\" error=\"invalid_token\" error_description=\"{reason}\""),
            ),
            Denial::Scope => (
                StatusCode::FORBIDDEN,
                "Forbidden",
                format!("Bearer scope=\"{scopes}\" error=\"insufficient_scope\""),
            ),
        };
        let mut response = message(status, text);
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        Box::new(response)
    })
}

/// Builds a response of the gateway itself: `{"message":"…"}`.
fn message(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(format!("{{\"message\":\"{text}\"}}")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Creates a request id in API Gateway's format: 16 characters of base64.
fn new_request_id() -> String {
    BASE64_STANDARD.encode(&uuid::Uuid::new_v4().as_bytes()[..11])
}

fn head_bytes(parts: &Parts) -> usize {
    /// ` HTTP/1.1`, a space and the line break.
    const LINE_EXTRA: usize = 12;
    /// `: ` and the line break.
    const HEADER_EXTRA: usize = 4;
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let headers = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_EXTRA);
    parts.method.as_str().len() + target + LINE_EXTRA + headers.sum::<usize>()
}

fn parse_query(query: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(query).into_owned().collect()
}

fn header_text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns a finite number, which may also be the text of a template parameter.
pub(crate) fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()).filter(|number: &f64| number.is_finite())
}
