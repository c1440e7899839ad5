//! The edge's store: objects with their lifetimes, bounded in size, and the requests under way to the origin.
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

/// Far more than a show's polls and rankings need, little on a laptop.
const CACHE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Room for headers and bookkeeping of one object.
const ENTRY_OVERHEAD_BYTES: u64 = 1024;
/// Only sizes the table at start.
const ENTRIES_EXPECTED: usize = 1024;

/// An answer of the origin, kept.
#[derive(Debug)]
pub struct Entry {
    /// Of the origin, or of the error rule that replaced it.
    pub status: StatusCode,
    /// Without hop-by-hop headers.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
    /// Since when the `Age` counts.
    born: Instant,
    fresh_until: Instant,
    revalidate_until: Instant,
    error_until: Option<Instant>,
    /// Set by the one request that revalidates in the background.
    pub revalidating: AtomicBool,
}

impl Entry {
    /// An answer that arrived just now; without a lifetime it is good for those who wait for it only.
    pub fn new(status: StatusCode, headers: HeaderMap, body: Bytes, lifetime: Option<Lifetime>) -> Self {
        let now = Instant::now();
        let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or(0);
        let lifetime = lifetime.unwrap_or(Lifetime {
            fresh: Duration::ZERO,
            while_revalidating: Duration::ZERO,
            on_error: Some(Duration::ZERO),
        });
        // A lifetime of many years overflows no clock that matters here: such an object is fresh for a year.
        let after = |time: Duration| now + time.min(Duration::from_secs(31_536_000));
        Self {
            status,
            headers,
            body,
            born: now.checked_sub(Duration::from_secs(age)).unwrap_or(now),
            fresh_until: after(lifetime.fresh),
            revalidate_until: after(lifetime.while_revalidating),
            error_until: lifetime.on_error.map(after),
            revalidating: AtomicBool::new(false),
        }
    }

    /// The same object, confirmed by a 304 whose headers replace the old ones.
    pub fn refreshed(&self, newer: &HeaderMap, lifetime: Option<Lifetime>) -> Self {
        let mut headers = self.headers.clone();
        for name in newer.keys().filter(|name| **name != header::CONTENT_LENGTH) {
            headers.remove(name);
            for value in newer.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        Self::new(self.status, headers, self.body.clone(), lifetime)
    }

    /// The same object, served for `retry_after` longer because the origin fails.
    pub fn extended(&self, retry_after: Duration) -> Self {
        Self {
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            born: self.born,
            fresh_until: self.fresh_until,
            revalidate_until: Instant::now() + retry_after,
            error_until: self.error_until,
            // No one asks again before the time is over.
            revalidating: AtomicBool::new(true),
        }
    }

    /// Within its time to live.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }

    /// May be served while the origin is asked.
    pub fn serves_while_revalidating(&self, now: Instant) -> bool {
        now < self.revalidate_until
    }

    /// May be served in place of an error.
    pub fn serves_on_error(&self, now: Instant) -> bool {
        self.status.is_success() && self.error_until.is_none_or(|until| now < until)
    }

    /// For the `Age` header.
    pub fn age_s(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.born).as_secs()
    }

    /// `If-None-Match` or `If-Modified-Since` for the origin.
    pub fn validators(&self) -> impl Iterator<Item = (header::HeaderName, HeaderValue)> {
        let pairs =
            [(header::ETAG, header::IF_NONE_MATCH), (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE)];
        let found = pairs.map(|(has, asks)| Some((asks, self.headers.get(has)?.clone())));
        found.into_iter().flatten()
    }

    /// Whether a viewer who sends these headers has the object already.
    pub fn is_known_to(&self, viewer: &HeaderMap) -> bool {
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

/// Whether one of the paths, or of the beginnings that end with a star, is that of a key.
fn names<'a>(paths: impl IntoIterator<Item = &'a String>, key: &str) -> bool {
    let path = forward::path_of(key);
    paths.into_iter().any(|named| match named.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path == named,
    })
}

/// What came of asking the origin.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What to serve.
    pub entry: Arc<Entry>,
    /// How it came about.
    pub result: OriginResult,
    /// Whether it may be given to others who asked for the same.
    pub shared: bool,
}

/// How an outcome came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginResult {
    /// The origin sent the object.
    Fetched,
    /// The origin confirmed what the edge had.
    Confirmed,
    /// The origin failed; the edge had something.
    StaleOnError,
}

/// Requests under way, by key.
type Flights = Mutex<HashMap<Arc<str>, watch::Receiver<Option<Outcome>>>>;

/// Objects and requests under way.
#[derive(Debug)]
pub struct Store {
    objects: Cache<Arc<str>, Arc<Entry>, ByBytes>,
    flights: Flights,
    /// The paths of each invalidation so far.
    invalidations: Mutex<Vec<Vec<String>>>,
}

/// What was asked of the origin, and how many invalidations there had been before.
#[derive(Debug)]
pub struct Asked {
    key: Arc<str>,
    invalidations: usize,
}

/// What a request that found nothing fresh has to do.
pub enum Flight {
    /// Ask the origin, tell those who wait, and land.
    Lead(watch::Sender<Option<Outcome>>, watch::Receiver<Option<Outcome>>),
    /// Wait for the one who asks.
    Join(watch::Receiver<Option<Outcome>>),
    /// It has just been answered.
    Landed(Arc<Entry>),
}

impl Default for Store {
    fn default() -> Self {
        Self {
            objects: Cache::with_weighter(ENTRIES_EXPECTED, CACHE_BYTES_MAX, ByBytes),
            flights: Flights::default(),
            invalidations: Mutex::default(),
        }
    }
}

impl Store {
    /// What is kept under a key, fresh or not.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.objects.get(key)
    }

    /// Notes that the origin is about to be asked.
    pub fn ask(&self, key: Arc<str>) -> Asked {
        let invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        Asked { key, invalidations: invalidations.len() }
    }

    /// Keeps an object, unless it was asked for before an invalidation that names it.
    pub fn insert(&self, asked: Asked, entry: Arc<Entry>) {
        let invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        let since = invalidations[asked.invalidations..].iter().flatten();
        if !names(since, &asked.key) {
            self.objects.insert(asked.key, entry);
        }
    }

    /// Forgets all that these paths name, in every variant; requests under way are not joined any more.
    pub fn invalidate(&self, paths: &[String]) {
        let mut invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        invalidations.push(paths.to_vec());
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| !names(paths, key));
        self.objects.retain(|key, _| !names(paths, key));
    }

    /// Joins the request under way for this key, or becomes it.
    pub fn take_off(&self, key: &Arc<str>) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // A closed channel is a request that died without an answer.
        if let Some(flight) = flights.get(key).filter(|flight| flight.has_changed().is_ok()) {
            return Flight::Join(flight.clone());
        }
        // Between the caller's look into the store and this one another request may have landed.
        if let Some(entry) = self.get(key).filter(|entry| entry.is_fresh(Instant::now())) {
            return Flight::Landed(entry);
        }
        let (sender, receiver) = watch::channel(None);
        flights.insert(Arc::clone(key), receiver.clone());
        Flight::Lead(sender, receiver)
    }

    /// Ends a request under way.
    pub fn land(&self, key: &Arc<str>, sender: &watch::Sender<Option<Outcome>>, outcome: Outcome) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        sender.send_replace(Some(outcome));
    }
}
