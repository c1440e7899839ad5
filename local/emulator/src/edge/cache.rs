//! The edge's cache: objects with their TTLs, bounded in size, and the origin requests in flight.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use quick_cache::{Weighter, sync::Cache};
use tokio::{sync::watch, time::Instant};

use crate::edge::{forward, freshness::Lifetime};

/// Far more than an experiment's objects need, yet little on a laptop.
const CACHE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Estimated size of an object's headers and bookkeeping.
const ENTRY_OVERHEAD_BYTES: u64 = 1024;
/// Initial capacity of the table.
const ENTRIES_EXPECTED: usize = 1024;

/// A cache entry: an origin response.
#[derive(Debug)]
pub struct Entry {
    /// The origin's status, or that of the custom error response.
    pub status: StatusCode,
    /// Without hop-by-hop headers.
    pub headers: HeaderMap,
    /// The complete body.
    pub body: Bytes,
    /// The time from which `Age` counts.
    created_at: Instant,
    fresh_until: Instant,
    revalidate_until: Instant,
    error_until: Option<Instant>,
    /// Whether a background revalidation is in flight; at most one is.
    pub revalidating: AtomicBool,
}

impl Entry {
    /// Creates an entry of a response that has just arrived. Without a lifetime it serves only the waiting requests.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes, lifetime: Option<Lifetime>) -> Self {
        let now = Instant::now();
        let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
        let lifetime = lifetime.unwrap_or(Lifetime {
            fresh: Duration::ZERO,
            while_revalidating: Duration::ZERO,
            on_error: Some(Duration::ZERO),
        });
        // Longer TTLs are capped at one year, so that the addition cannot overflow.
        let after = |time: Duration| now + time.min(Duration::from_secs(31_536_000));
        Self {
            status,
            headers,
            body,
            created_at: now.checked_sub(Duration::from_secs(age)).unwrap_or(now),
            fresh_until: after(lifetime.fresh),
            revalidate_until: after(lifetime.while_revalidating),
            error_until: lifetime.on_error.map(after),
            revalidating: AtomicBool::new(false),
        }
    }

    /// Returns the object after a 304, whose headers replace the old ones.
    pub fn revalidated(&self, newer: &HeaderMap, lifetime: Option<Lifetime>) -> Self {
        let mut headers = self.headers.clone();
        for name in newer.keys().filter(|name| **name != header::CONTENT_LENGTH) {
            headers.remove(name);
            for value in newer.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        Self::new(self.status, headers, self.body.clone(), lifetime)
    }

    /// Returns the object with its stale serving extended by `retry_after`, because the origin fails.
    pub fn extended(&self, retry_after: Duration) -> Self {
        Self {
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            created_at: self.created_at,
            fresh_until: self.fresh_until,
            revalidate_until: Instant::now() + retry_after,
            error_until: self.error_until,
            // Suppresses revalidations until `retry_after` has elapsed.
            revalidating: AtomicBool::new(true),
        }
    }

    /// Whether the object is within its TTL.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    /// Whether the object may be served stale during a revalidation.
    pub fn serves_while_revalidating(&self, now: Instant) -> bool {
        now < self.revalidate_until
    }

    /// Whether the object may be served stale in place of an origin error.
    pub fn serves_on_error(&self, now: Instant) -> bool {
        self.status.is_success() && self.error_until.is_none_or(|until| now < until)
    }

    /// Returns the value of the `Age` header, in seconds.
    pub fn age_s(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.created_at).as_secs()
    }

    /// Returns the headers of a conditional origin request: `If-None-Match` and `If-Modified-Since`.
    pub fn validators(&self) -> impl Iterator<Item = (header::HeaderName, HeaderValue)> {
        let pairs =
            [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)];
        let found =
            pairs.map(|(validator, condition)| Some((condition, self.headers.get(validator)?.clone())));
        found.into_iter().flatten()
    }

    /// Whether a conditional viewer request with these headers gets a 304.
    pub fn is_not_modified_for(&self, viewer: &HeaderMap) -> bool {
        if self.status != StatusCode::OK {
            return false;
        }
        let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        if let Some(tags) = viewer.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()) {
            let own = self.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(strong);
            return own.is_some_and(|own| tags.split(',').any(|tag| tag.trim() == "*" || strong(tag) == own));
        }
        let modified = self.headers.get(header::LAST_MODIFIED);
        modified.is_some() && viewer.get(header::IF_MODIFIED_SINCE) == modified
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Arc<str>, Arc<Entry>> for ByBytes {
    fn weight(&self, key: &Arc<str>, entry: &Arc<Entry>) -> u64 {
        (key.len() + entry.body.len()) as u64 + ENTRY_OVERHEAD_BYTES
    }
}

/// Whether one of the invalidation paths, exact or with a trailing `*`, matches a cache key.
fn matches_any<'a>(paths: impl IntoIterator<Item = &'a String>, key: &str) -> bool {
    let path = forward::path_of(key);
    paths.into_iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    })
}

/// The outcome of an origin request.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The object to serve.
    pub entry: Arc<Entry>,
    /// The origin's contribution.
    pub result: OriginResult,
    /// Whether the object may also serve the collapsed requests of other viewers.
    pub shared: bool,
}

/// The origin's contribution to an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginResult {
    /// The origin sent the object.
    Fetched,
    /// The origin confirmed the edge's object with a 304.
    Confirmed,
    /// The origin failed; the edge serves its stale object.
    StaleOnError,
}

/// Origin requests in flight, by cache key.
type InFlight = Mutex<HashMap<Arc<str>, watch::Receiver<Option<Outcome>>>>;

/// Cached objects and origin requests in flight.
#[derive(Debug)]
pub struct Store {
    objects: Cache<Arc<str>, Arc<Entry>, ByBytes>,
    in_flight: InFlight,
    /// The paths of each invalidation since start.
    invalidations: Mutex<Vec<Vec<String>>>,
}

/// The start of an origin request: its key, and the number of earlier invalidations.
#[derive(Debug)]
pub struct FetchStart {
    key: Arc<str>,
    invalidations: usize,
}

/// The role of a request without a fresh object in request collapsing.
pub enum Collapsing {
    /// Send the origin request, then call [`Store::complete`].
    Lead(watch::Sender<Option<Outcome>>, watch::Receiver<Option<Outcome>>),
    /// Wait for the origin request in flight.
    Join(watch::Receiver<Option<Outcome>>),
    /// The origin request has just completed with this object.
    Done(Arc<Entry>),
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: Cache::with_weighter(ENTRIES_EXPECTED, CACHE_BYTES_MAX, ByBytes),
            in_flight: InFlight::default(),
            invalidations: Mutex::default(),
        }
    }
}

impl Store {
    /// Returns the object of a key, fresh or stale.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.objects.get(key)
    }

    /// Records the start of an origin request.
    pub fn begin_fetch(&self, key: Arc<str>) -> FetchStart {
        let invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        FetchStart { key, invalidations: invalidations.len() }
    }

    /// Caches an object, unless an invalidation of its path came after the start of its request.
    pub fn insert(&self, started: FetchStart, entry: Arc<Entry>) {
        let invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        let since = invalidations[started.invalidations..].iter().flatten();
        if !matches_any(since, &started.key) {
            self.objects.insert(started.key, entry);
        }
    }

    /// Removes every variant of the objects at these paths. Later requests do not join the requests in flight.
    pub fn invalidate(&self, paths: &[String]) {
        let mut invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        invalidations.push(paths.to_vec());
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        in_flight.retain(|key, _| !matches_any(paths, key));
        drop(in_flight);
        self.objects.retain(|key, _| !matches_any(paths, key));
    }

    /// Joins the origin request in flight for this key, or makes the caller lead a new one.
    pub fn join_or_lead(&self, key: &Arc<str>) -> Collapsing {
        let mut in_flight = self.in_flight.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed channel belongs to a request that died without an outcome.
        if let Some(leader) = in_flight.get(key).filter(|leader| leader.has_changed().is_ok()) {
            return Collapsing::Join(leader.clone());
        }
        // Another request may have completed since the caller's cache lookup.
        if let Some(entry) = self.get(key).filter(|entry| entry.is_fresh(Instant::now())) {
            return Collapsing::Done(entry);
        }
        let (sender, receiver) = watch::channel(None);
        in_flight.insert(Arc::clone(key), receiver.clone());
        Collapsing::Lead(sender, receiver)
    }

    /// Completes an origin request: removes it from the requests in flight and publishes its outcome.
    pub fn complete(&self, key: &Arc<str>, sender: &watch::Sender<Option<Outcome>>, outcome: Outcome) {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        sender.send_replace(Some(outcome));
    }
}
