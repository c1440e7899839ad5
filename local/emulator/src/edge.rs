//! Stands in for CloudFront: behaviours, cache keys, lifetimes, collapsing, stale serving and error rules, all
//! from the template's distribution.
pub mod behavior;
mod cache;
mod compression;
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
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header, request::Parts},
};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::edge::{
    behavior::{Behavior, Distribution, OriginConfig},
    cache::{Asked, Entry, Flight, OriginResult, Outcome, Store},
};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const VIA: &str = "1.1 local.cloudfront.net (CloudFront)";

/// What stands behind the edge.
pub trait Origin: Send + Sync + 'static {
    /// Answers a request, and says which of its routes did.
    fn fetch(&self, request: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)>;
}

/// Where a viewer's answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    Hit,
    Miss,
    Stale,
    Collapsed,
}

/// Figures of the edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EdgeCounts {
    /// Served from the store.
    pub hit: u64,
    /// The origin was asked for this viewer.
    pub miss: u64,
    /// Served expired, while the origin is asked or because it fails.
    pub stale: u64,
    /// Served with the answer another viewer's request got.
    pub collapsed: u64,
    /// Requests to origins, by route.
    pub origin: BTreeMap<String, u64>,
    /// Invalidations.
    pub invalidations: u64,
    /// Paths of all of them.
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

/// The distribution, ready to answer.
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
    /// Puts the distribution before its origins; `connect` finds what stands behind each.
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

    /// Figures since start.
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

    /// Forgets what is kept under these paths, which stand for all that begin so where they end with a star. What was
    /// asked of an origin before is not kept either.
    pub fn invalidate(&self, paths: &[String]) {
        self.counters.invalidations.fetch_add(1, Ordering::Relaxed);
        self.counters.invalidated_paths.fetch_add(paths.len() as u64, Ordering::Relaxed);
        self.store.invalidate(paths);
    }

    /// Answers a viewer.
    pub async fn handle(self: &Arc<Self>, mut request: Request<Body>) -> Response<Body> {
        if let Some(root) = self.distribution.root.as_ref().filter(|_| request.uri().path() == "/") {
            *request.uri_mut() = Uri::try_from(root).unwrap_or_default();
        }
        let Some((index, behavior)) = self.distribution.behavior(request.uri().path()) else {
            return refusal(StatusCode::NOT_FOUND, "No cache behavior matches the path.");
        };
        if !behavior.allowed.contains(request.method()) {
            return refusal(
                StatusCode::FORBIDDEN,
                "This distribution does not allow the HTTP request method.",
            );
        }
        let viewer_headers =
            behavior.response_headers.as_ref().map(|policy| (policy, request.headers().clone()));
        let mut response = match run_function(behavior, request) {
            Err(answer) => *answer,
            Ok(request) if behavior.caches(request.method()) => {
                self.cached(index, behavior, request.into_parts().0).await
            }
            Ok(request) => self.passed_through(behavior, request).await,
        };
        if let Some((policy, viewer)) = viewer_headers {
            policy.apply(&viewer, response.headers_mut());
        }
        response.headers_mut().insert(header::VIA, HeaderValue::from_static(VIA));
        response
    }

    async fn passed_through(self: &Arc<Self>, behavior: &Behavior, request: Request<Body>) -> Response<Body> {
        self.counters.count(Served::Miss);
        let (parts, body) = request.into_parts();
        let response = self.ask_origin(behavior, parts, body, None).await;
        let (parts, body) = self.replace_error(behavior, response).await.into_parts();
        let x_cache = if is_error(parts.status) { "Error from cloudfront" } else { "Miss from cloudfront" };
        let mut response = Response::from_parts(parts, Body::from(body));
        response.headers_mut().insert(X_CACHE, HeaderValue::from_static(x_cache));
        response
    }

    async fn cached(self: &Arc<Self>, index: usize, behavior: &Behavior, viewer: Parts) -> Response<Body> {
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
        match self.store.take_off(&key) {
            Flight::Landed(entry) => self.serve(Served::Hit, &entry, &viewer.headers, "Hit from cloudfront"),
            Flight::Lead(sender, mut receiver) => {
                let edge = Arc::clone(self);
                let request = viewer.clone();
                // A task of its own: a viewer who hangs up must not take the others' answer along.
                tokio::spawn(async move {
                    let outcome = edge.fetch(index, Arc::clone(&key), request, found).await;
                    edge.store.land(&key, &sender, outcome);
                });
                match landed(&mut receiver).await {
                    Some(outcome) => self.serve_outcome(&outcome, &viewer.headers),
                    None => refusal(StatusCode::BAD_GATEWAY, "The origin gave no answer."),
                }
            }
            Flight::Join(mut receiver) => match landed(&mut receiver).await {
                Some(Outcome { shared: true, entry, .. }) => {
                    self.serve(Served::Collapsed, &entry, &viewer.headers, "Hit from cloudfront")
                }
                // The object turned out to be no one else's: each viewer asks for itself.
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

    /// Asks the origin and keeps the answer as its headers and the policy allow.
    async fn fetch(
        self: &Arc<Self>,
        index: usize,
        key: Arc<str>,
        viewer: Parts,
        previous: Option<Arc<Entry>>,
    ) -> Outcome {
        let behavior = &self.distribution.behaviors[index];
        let asked = self.store.ask(key);
        let response = self.ask_origin(behavior, viewer, Body::empty(), previous.as_deref()).await;
        let status = response.status();
        let lifetime = freshness::lifetime(&behavior.cache, response.headers());
        if let Some(previous) = previous {
            if status == StatusCode::NOT_MODIFIED {
                let entry = Arc::new(previous.refreshed(response.headers(), lifetime));
                return self.keep(asked, entry, OriginResult::Confirmed, lifetime.is_some());
            }
            if status.is_server_error() && previous.serves_on_error(Instant::now()) {
                let retry_after = self.distribution.error_ttl(status.as_u16());
                let entry = Arc::new(previous.extended(retry_after));
                return self.keep(asked, entry, OriginResult::StaleOnError, true);
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
        self.keep(asked, entry, OriginResult::Fetched, lifetime.is_some())
    }

    fn keep(&self, asked: Asked, entry: Arc<Entry>, result: OriginResult, shared: bool) -> Outcome {
        if shared {
            self.store.insert(asked, Arc::clone(&entry));
        }
        Outcome { entry, result, shared }
    }

    async fn ask_origin(
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
        let (mut response, route) = origin.fetch(request).await;
        self.counters.count_origin(route);
        forward::remove_hop_by_hop(response.headers_mut());
        // A cached answer tells when it was made, not when it is handed out: viewers reckon from it, with its Age.
        response.headers_mut().entry(header::DATE).or_insert_with(freshness::date_now);
        if behavior.compress {
            compression::compress(accepted, &mut response);
        }
        response
    }

    /// `CustomErrorResponses`: another status and page in place of the origin's.
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
        let mut page = self.ask_origin(page_behavior, parts, Body::empty(), None).await;
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
        let known = entry.is_known_to(viewer);
        let mut response = Response::new(if known { Body::empty() } else { Body::from(entry.body.clone()) });
        *response.headers_mut() = entry.headers.clone();
        *response.status_mut() = if known { StatusCode::NOT_MODIFIED } else { entry.status };
        let headers = response.headers_mut();
        if known {
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

/// The behaviour's function, where it has one: the request that goes on, or the answer that ends it.
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
        Ok(function::Outcome::Answer(answer)) => Err(Box::new(answer.map(|()| Body::empty()))),
        Err(error) => Err(Box::new(refusal(StatusCode::SERVICE_UNAVAILABLE, &format!("{error:#}")))),
    }
}

async fn landed(receiver: &mut tokio::sync::watch::Receiver<Option<Outcome>>) -> Option<Outcome> {
    receiver.wait_for(Option::is_some).await.ok()?.clone()
}

fn is_error(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

/// The edge's own errors.
fn refusal(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{status}: {text}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response.headers_mut().insert(X_CACHE, HeaderValue::from_static("Error from cloudfront"));
    response.headers_mut().insert(header::VIA, HeaderValue::from_static(VIA));
    response
}
