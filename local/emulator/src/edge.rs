//! Emulates CloudFront's edge: cache behaviors, cache keys, TTLs, request collapsing, stale serving and custom error
//! responses, all from the template's distribution.
pub mod behavior;
mod cache;
mod compression;
pub mod firewall;
mod forward;
mod freshness;
mod function;
pub mod policy;
mod response_headers;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context, Result};
use axum::{
    body::{Body, Bytes},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
        request::Parts,
    },
};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::edge::{
    behavior::{Behavior, Distribution, OriginConfig},
    cache::{Collapsing, Entry, FetchStart, OriginResult, Outcome, Store},
};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const VIA: &str = "1.1 local.cloudfront.net (CloudFront)";

/// An origin of the distribution.
pub trait Origin: Send + Sync + 'static {
    /// Responds to a request, and returns the name of the route that did.
    fn fetch(&self, request: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)>;
}

/// The source of a viewer response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Hit,
    Miss,
    Stale,
    Collapsed,
}

/// Metrics of the edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeCounts {
    /// Served fresh from the cache.
    pub hit: u64,
    /// Served by an origin request for this viewer.
    pub miss: u64,
    /// Served stale, during a revalidation or because the origin fails.
    pub stale: u64,
    /// Served by the origin request of another viewer (request collapsing).
    pub collapsed: u64,
    /// Origin requests, by route.
    pub origin: BTreeMap<String, u64>,
    /// Invalidations.
    pub invalidations: u64,
    /// Paths of all invalidations.
    pub invalidated_paths: u64,
}

#[derive(Debug, Default)]
struct Counters {
    served: [AtomicU64; 4],
    origin: Mutex<BTreeMap<String, u64>>,
    invalidations: AtomicU64,
    invalidated_paths: AtomicU64,
}

impl Counters {
    fn count(&self, served: Served) {
        self.served[served as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn count_origin(&self, route: String) {
        *self.origin.lock().unwrap_or_else(PoisonError::into_inner).entry(route).or_default() += 1;
    }
}

/// A running distribution.
pub struct Edge {
    distribution: Distribution,
    origins: HashMap<String, (OriginConfig, Arc<dyn Origin>)>,
    store: Store,
    counters: Counters,
}

impl std::fmt::Debug for Edge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Edge").field("distribution", &self.distribution).finish_non_exhaustive()
    }
}

impl Edge {
    /// Creates the edge of a distribution; `connect` returns the origin for each configuration.
    ///
    /// # Errors
    /// An origin that is not available on this machine.
    pub fn new(
        distribution: Distribution,
        connect: impl Fn(&OriginConfig) -> Option<Arc<dyn Origin>>,
    ) -> Result<Arc<Self>> {
        let mut origins = HashMap::new();
        for config in &distribution.origins {
            let origin = connect(config).with_context(|| {
                format!("origin {:?} ({}) is not available on this machine", config.id, config.domain_name)
            })?;
            origins.insert(config.id.clone(), (config.clone(), origin));
        }
        Ok(Arc::new(Self { distribution, origins, store: Store::default(), counters: Counters::default() }))
    }

    /// Returns the metrics since start.
    pub fn counts(&self) -> EdgeCounts {
        let served = |kind: Served| self.counters.served[kind as usize].load(Ordering::Relaxed);
        EdgeCounts {
            hit: served(Served::Hit),
            miss: served(Served::Miss),
            stale: served(Served::Stale),
            collapsed: served(Served::Collapsed),
            origin: self.counters.origin.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            invalidations: self.counters.invalidations.load(Ordering::Relaxed),
            invalidated_paths: self.counters.invalidated_paths.load(Ordering::Relaxed),
        }
    }

    /// Invalidates the cache entries of these paths. A trailing `*` is a wildcard. Responses to origin requests that
    /// began before the invalidation are not cached.
    pub fn invalidate(&self, paths: &[String]) {
        self.counters.invalidations.fetch_add(1, Ordering::Relaxed);
        self.counters.invalidated_paths.fetch_add(paths.len() as u64, Ordering::Relaxed);
        self.store.invalidate(paths);
    }

    /// Handles a viewer request.
    pub async fn handle(self: &Arc<Self>, mut request: Request<Body>) -> Response<Body> {
        if let Some(blocked) = self.distribution.firewall.as_ref().and_then(|wall| wall.block(&request)) {
            return blocked;
        }
        if let Some(root) = self.distribution.root.as_ref().filter(|_| request.uri().path() == "/") {
            *request.uri_mut() = Uri::try_from(root).unwrap_or_default();
        }
        let Some((index, behavior)) = self.distribution.behavior(request.uri().path()) else {
            return error_response(StatusCode::NOT_FOUND, "No cache behavior matches the path.");
        };
        if !behavior.allowed.contains(request.method()) {
            return error_response(
                StatusCode::FORBIDDEN,
                "This distribution does not allow the HTTP request method.",
            );
        }
        let viewer_headers =
            behavior.response_headers.as_ref().map(|policy| (policy, request.headers().clone()));
        let mut response = match run_function(behavior, request) {
            Err(answer) => *answer,
            Ok(request) if behavior.caches(request.method()) => {
                self.serve_cacheable(index, behavior, request.into_parts().0).await
            }
            Ok(request) => self.pass_through(behavior, request).await,
        };
        if let Some((policy, viewer)) = viewer_headers {
            policy.apply(&viewer, response.headers_mut());
        }
        response.headers_mut().insert(header::VIA, HeaderValue::from_static(VIA));
        response
    }

    async fn pass_through(self: &Arc<Self>, behavior: &Behavior, request: Request<Body>) -> Response<Body> {
        self.counters.count(Served::Miss);
        let (parts, body) = request.into_parts();
        let response = self.request_origin(behavior, parts, body, None).await;
        let (parts, body) = self.replace_error(behavior, response).await.into_parts();
        let x_cache = if is_error(parts.status) { "Error from cloudfront" } else { "Miss from cloudfront" };
        let mut response = Response::from_parts(parts, Body::from(body));
        response.headers_mut().insert(X_CACHE, HeaderValue::from_static(x_cache));
        response
    }

    async fn serve_cacheable(
        self: &Arc<Self>,
        index: usize,
        behavior: &Behavior,
        viewer: Parts,
    ) -> Response<Body> {
        let key = forward::cache_key(index, behavior, &viewer);
        let now = Instant::now();
        let found = self.store.get(&key);
        if let Some(entry) = &found {
            if entry.is_fresh(now) {
                return self.serve(Served::Hit, entry, &viewer.headers, "Hit from cloudfront");
            }
            if entry.serves_while_revalidating(now) {
                if !entry.revalidating.swap(true, Ordering::Relaxed) {
                    self.revalidate(index, Arc::clone(&key), &viewer, entry);
                }
                return self.serve(Served::Stale, entry, &viewer.headers, "Hit from cloudfront");
            }
        }
        if !behavior.collapses() {
            let outcome = self.fetch(index, key, viewer.clone(), found).await;
            return self.serve_outcome(&outcome, &viewer.headers);
        }
        match self.store.join_or_lead(&key) {
            Collapsing::Done(entry) => {
                self.serve(Served::Hit, &entry, &viewer.headers, "Hit from cloudfront")
            }
            Collapsing::Lead(sender, mut receiver) => {
                let edge = Arc::clone(self);
                let request = viewer.clone();
                // A separate task: a viewer that disconnects must not cancel the request of the others.
                tokio::spawn(async move {
                    let outcome = edge.fetch(index, Arc::clone(&key), request, found).await;
                    edge.store.complete(&key, &sender, outcome);
                });
                match outcome_of(&mut receiver).await {
                    Some(outcome) => self.serve_outcome(&outcome, &viewer.headers),
                    None => error_response(StatusCode::BAD_GATEWAY, "The origin gave no answer."),
                }
            }
            Collapsing::Join(mut receiver) => match outcome_of(&mut receiver).await {
                Some(Outcome { shared: true, entry, .. }) => {
                    self.serve(Served::Collapsed, &entry, &viewer.headers, "Hit from cloudfront")
                }
                // The response is not cacheable, so it must not be shared: each viewer gets its own origin request.
                _ => {
                    let outcome = self.fetch(index, key, viewer.clone(), None).await;
                    self.serve_outcome(&outcome, &viewer.headers)
                }
            },
        }
    }

    fn revalidate(self: &Arc<Self>, index: usize, key: Arc<str>, viewer: &Parts, entry: &Arc<Entry>) {
        let (edge, entry, viewer) = (Arc::clone(self), Arc::clone(entry), viewer.clone());
        tokio::spawn(async move { edge.fetch(index, key, viewer, Some(entry)).await });
    }

    /// Fetches from the origin and caches the response as its headers and the cache policy allow.
    async fn fetch(
        self: &Arc<Self>,
        index: usize,
        key: Arc<str>,
        viewer: Parts,
        previous: Option<Arc<Entry>>,
    ) -> Outcome {
        let behavior = &self.distribution.behaviors[index];
        let started = self.store.begin_fetch(key);
        let response = self.request_origin(behavior, viewer, Body::empty(), previous.as_deref()).await;
        let status = response.status();
        let lifetime = freshness::lifetime(&behavior.cache, response.headers());
        if let Some(previous) = previous {
            if status == StatusCode::NOT_MODIFIED {
                let entry = Arc::new(previous.revalidated(response.headers(), lifetime));
                return self.keep(started, entry, OriginResult::Confirmed, lifetime.is_some());
            }
            if status.is_server_error() && previous.serves_on_error(Instant::now()) {
                let retry_after = self.distribution.error_ttl(status.as_u16());
                let entry = Arc::new(previous.extended(retry_after));
                return self.keep(started, entry, OriginResult::StaleOnError, true);
            }
        }
        let lifetime = if is_error(status) {
            let minimum = self.distribution.error_ttl(status.as_u16());
            freshness::error_ttl(status, response.headers(), minimum).map(|fresh| freshness::Lifetime {
                fresh,
                while_revalidating: fresh,
                on_error: Some(fresh),
            })
        } else {
            lifetime
        };
        let (parts, body) = self.replace_error(behavior, response).await.into_parts();
        let entry = Arc::new(Entry::new(parts.status, parts.headers, body, lifetime));
        self.keep(started, entry, OriginResult::Fetched, lifetime.is_some())
    }

    fn keep(&self, started: FetchStart, entry: Arc<Entry>, result: OriginResult, shared: bool) -> Outcome {
        if shared {
            self.store.insert(started, Arc::clone(&entry));
        }
        Outcome { entry, result, shared }
    }

    async fn request_origin(
        &self,
        behavior: &Behavior,
        viewer: Parts,
        body: Body,
        previous: Option<&Entry>,
    ) -> Response<Bytes> {
        let Some((config, origin)) = self.origins.get(&behavior.origin) else {
            return Response::new(Bytes::new());
        };
        let accepted = behavior.cache.encodings(&viewer.headers);
        let mut request = forward::origin_request(behavior, config, viewer, body);
        for (name, value) in previous.into_iter().flat_map(Entry::validators) {
            request.headers_mut().insert(name, value);
        }
        let (mut response, route) = fetch_or_give_up(config, origin.as_ref(), request).await;
        self.counters.count_origin(route);
        forward::remove_hop_by_hop(response.headers_mut());
        // The `Date` of a cached response is the time of the origin response: viewers add `Age` to it.
        response.headers_mut().entry(header::DATE).or_insert_with(freshness::date_now);
        if behavior.compress {
            compression::compress(accepted, &mut response);
        }
        response
    }

    /// Applies `CustomErrorResponses`, which replace the origin's status and page.
    async fn replace_error(
        self: &Arc<Self>,
        behavior: &Behavior,
        response: Response<Bytes>,
    ) -> Response<Bytes> {
        let code = response.status().as_u16();
        let rule = self.distribution.errors.iter().find(|rule| rule.status == code);
        let Some((status, page)) = rule.and_then(|rule| rule.page.as_ref()) else { return response };
        let (Ok(status), Ok(uri)) = (StatusCode::from_u16(*status), page.parse()) else { return response };
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        let (parts, ()) = request.into_parts();
        let page_behavior = self.distribution.behavior(page).map_or(behavior, |(_, behavior)| behavior);
        let mut page = self.request_origin(page_behavior, parts, Body::empty(), None).await;
        if !page.status().is_success() {
            return response;
        }
        *page.status_mut() = status;
        page
    }

    fn serve_outcome(&self, outcome: &Outcome, viewer: &HeaderMap) -> Response<Body> {
        let (served, x_cache) = match outcome.result {
            OriginResult::Fetched if is_error(outcome.entry.status) => {
                (Served::Miss, "Error from cloudfront")
            }
            OriginResult::Fetched => (Served::Miss, "Miss from cloudfront"),
            OriginResult::Confirmed => (Served::Miss, "RefreshHit from cloudfront"),
            OriginResult::StaleOnError => (Served::Stale, "Hit from cloudfront"),
        };
        self.serve(served, &outcome.entry, viewer, x_cache)
    }

    fn serve(
        &self,
        served: Served,
        entry: &Entry,
        viewer: &HeaderMap,
        x_cache: &'static str,
    ) -> Response<Body> {
        self.counters.count(served);
        let not_modified = entry.is_not_modified_for(viewer);
        let body = if not_modified { Body::empty() } else { Body::from(entry.body.clone()) };
        let mut response = Response::new(body);
        *response.headers_mut() = entry.headers.clone();
        *response.status_mut() = if not_modified { StatusCode::NOT_MODIFIED } else { entry.status };
        let headers = response.headers_mut();
        if not_modified {
            headers.remove(header::CONTENT_LENGTH);
        }
        if served != Served::Miss {
            headers.insert(header::AGE, HeaderValue::from(entry.age_s(Instant::now())));
        }
        let x_cache = if is_error(entry.status) { "Error from cloudfront" } else { x_cache };
        headers.insert(X_CACHE, HeaderValue::from_static(x_cache));
        response
    }
}

/// Runs the behavior's CloudFront Function, if any. Returns the request to process.
///
/// # Errors
/// The response to send in place of processing the request.
fn run_function(
    behavior: &Behavior,
    mut request: Request<Body>,
) -> Result<Request<Body>, Box<Response<Body>>> {
    let Some(function) = &behavior.function else { return Ok(request) };
    let (parts, body) = request.into_parts();
    let outcome = function.run(&parts);
    request = Request::from_parts(parts, body);
    match outcome {
        Ok(function::Outcome::Forward(uri)) => {
            *request.uri_mut() = uri;
            Ok(request)
        }
        Ok(function::Outcome::Answer(answer)) => Err(Box::new(answer.map(Body::from))),
        Err(error) => Err(Box::new(error_response(StatusCode::SERVICE_UNAVAILABLE, &format!("{error:#}")))),
    }
}

/// Sends a request to an origin. A read is tried again after each read timeout, as often as the origin's
/// configuration says; then the answer is 504.
async fn fetch_or_give_up(
    config: &OriginConfig,
    origin: &dyn Origin,
    request: Request<Body>,
) -> (Response<Bytes>, String) {
    let (parts, mut body) = request.into_parts();
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    for _ in 0..if is_read { config.attempts } else { 1 } {
        let attempt = Request::from_parts(parts.clone(), std::mem::take(&mut body));
        if let Ok(answer) = tokio::time::timeout(config.read_timeout, origin.fetch(attempt)).await {
            return answer;
        }
    }
    let mut response = Response::new(Bytes::from_static(b"The origin gave no answer in time.\n"));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    (response, "none".to_owned())
}

async fn outcome_of(receiver: &mut tokio::sync::watch::Receiver<Option<Outcome>>) -> Option<Outcome> {
    receiver.wait_for(Option::is_some).await.ok()?.clone()
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// Builds an error response of the edge itself.
fn error_response(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{status}: {text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(X_CACHE, HeaderValue::from_static("Error from cloudfront"));
    response.headers_mut().insert(header::VIA, HeaderValue::from_static(VIA));
    response
}
