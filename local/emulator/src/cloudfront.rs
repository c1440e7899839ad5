//! Stands in for CloudFront's own API, as far as it is about invalidations: they act on the edge's cache at once, and
//! count as being in progress for some seconds, so that CloudFront's limits can be met.
//! <https://docs.aws.amazon.com/cloudfront/latest/APIReference/API_CreateInvalidation.html>
mod answer;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Method, Request, Response, StatusCode, header},
};
use serde::Deserialize;
use tokio::time::Instant;
use uuid::Uuid;

use self::answer::{Fault, xml};
use crate::clock;
use crate::edge::Edge;

/// Where CloudFront's API is, beside SQS and S3.
pub const BASE_PATH: &str = "/2020-05-31/distribution/";

/// CloudFront says seconds, and minutes at times.
const IN_PROGRESS: Duration = Duration::from_secs(10);
/// Quotas of one distribution, in progress at a time:
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-invalidations>
const PATHS_MAX: usize = 3_000;
const WILDCARDS_MAX: usize = 15;
/// Answers of a list, if not asked otherwise, and at most.
const LIST_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One invalidation.
#[derive(Debug, Clone)]
struct Invalidation {
    id: String,
    reference: String,
    paths: Vec<String>,
    created_at: SystemTime,
    done_at: Instant,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "CallerReference")]
    reference: String,
    #[serde(rename = "Paths")]
    paths: Paths,
}

#[derive(Deserialize)]
struct Paths {
    #[serde(rename = "Quantity")]
    quantity: usize,
    #[serde(rename = "Items", default)]
    items: Items,
}

#[derive(Deserialize, Default)]
struct Items {
    #[serde(rename = "Path", default)]
    paths: Vec<String>,
}

/// The one distribution's invalidations since start.
#[derive(Debug)]
pub struct CloudFront {
    distribution: String,
    edge: Arc<Edge>,
    made: Mutex<Vec<Invalidation>>,
}

impl CloudFront {
    /// Of the distribution with this id.
    pub fn new(distribution: String, edge: Arc<Edge>) -> Self {
        Self { distribution, edge, made: Mutex::default() }
    }

    /// Answers a request below [`BASE_PATH`].
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let answer = match to_bytes(body, BODY_BYTES_MAX).await {
            Ok(body) => self.answer(&parts.method, &parts.uri, &body),
            Err(_) => {
                Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "BatchTooLarge", "The batch is too large."))
            }
        };
        let (status, text) = answer.unwrap_or_else(Fault::into_parts);
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/xml"));
        response
    }

    fn answer(
        &self,
        method: &Method,
        uri: &axum::http::Uri,
        body: &Bytes,
    ) -> Result<(StatusCode, String), Fault> {
        let path = uri.path().strip_prefix(BASE_PATH).unwrap_or_default();
        let (distribution, rest) = path.split_once('/').unwrap_or((path, ""));
        if distribution != self.distribution {
            let message = format!("The distribution here is {:?}.", self.distribution);
            return Err(Fault::new(StatusCode::NOT_FOUND, "NoSuchDistribution", &message));
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match (method, rest.trim_end_matches('/')) {
            (&Method::POST, "invalidation") => {
                let one = self.create(&mut made, body)?;
                Ok((StatusCode::CREATED, xml("Invalidation", &one.document())))
            }
            (&Method::GET, "invalidation") => {
                Ok((StatusCode::OK, list(&made, uri.query().unwrap_or_default())))
            }
            (&Method::GET, one) => {
                let id = one.strip_prefix("invalidation/").unwrap_or_default();
                let one = made.iter().find(|one| one.id == id);
                let none =
                    || Fault::new(StatusCode::NOT_FOUND, "NoSuchInvalidation", "There is none of that id.");
                Ok((StatusCode::OK, xml("Invalidation", &one.ok_or_else(none)?.document())))
            }
            _ => {
                let message = "On one machine CloudFront does invalidations only.";
                Err(Fault::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message))
            }
        }
    }

    fn create(&self, made: &mut Vec<Invalidation>, body: &Bytes) -> Result<Invalidation, Fault> {
        let batch = read(body)?;
        if let Some(before) = made.iter().find(|one| one.reference == batch.reference) {
            let same = |paths: &[String]| paths.iter().cloned().collect::<BTreeSet<_>>();
            if same(&before.paths) == same(&batch.paths.items.paths) {
                return Ok(before.clone());
            }
            let message = "The caller reference has been used with other paths.";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "InvalidationBatchAlreadyExists", message));
        }
        let paths = batch.paths.items.paths;
        let in_progress =
            made.iter().filter(|one| one.is_in_progress()).flat_map(|one| &one.paths).chain(&paths);
        let (wildcards, exact): (Vec<_>, Vec<_>) = in_progress.partition(|path| path.ends_with('*'));
        if wildcards.len() > WILDCARDS_MAX || exact.len() > PATHS_MAX {
            let message = "Processing your request will cause you to exceed the maximum number of in-progress \
                           wildcard invalidations, or of paths.";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "TooManyInvalidationsInProgress", message));
        }
        self.edge.invalidate(&paths);
        let id = Uuid::new_v4().simple().to_string().to_uppercase();
        let one = Invalidation {
            id: format!("I{}", &id[..13]),
            reference: batch.reference,
            paths,
            // Later than whatever the edge has just forgotten was told of.
            created_at: clock::now(),
            done_at: Instant::now() + IN_PROGRESS,
        };
        made.push(one.clone());
        Ok(one)
    }
}

impl Invalidation {
    fn is_in_progress(&self) -> bool {
        Instant::now() < self.done_at
    }
}

fn read(body: &Bytes) -> Result<Batch, Fault> {
    let refused = |code, message: &str| Fault::new(StatusCode::BAD_REQUEST, code, message);
    let batch: Batch = quick_xml::de::from_reader(body.as_ref())
        .map_err(|error| refused("MalformedXML", &format!("The body is no InvalidationBatch: {error}")))?;
    let paths = &batch.paths.items.paths;
    if batch.reference.is_empty() {
        return Err(refused("InvalidArgument", "CallerReference must not be empty."));
    }
    if paths.is_empty() || paths.len() != batch.paths.quantity {
        return Err(refused("InconsistentQuantities", "Quantity is not the number of the paths, or 0."));
    }
    if let Some(path) = paths.iter().find(|path| !is_path(path)) {
        return Err(refused("InvalidArgument", &format!("{path:?} is no path to invalidate.")));
    }
    Ok(batch)
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 4_000 && path.bytes().all(|byte| byte.is_ascii_graphic())
}

fn list(made: &[Invalidation], query: &str) -> String {
    let asked = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "MaxItems");
    let max = asked.and_then(|(_, max)| max.parse().ok()).unwrap_or(LIST_MAX).min(LIST_MAX);
    let newest: Vec<_> = made.iter().rev().take(max).collect();
    answer::list(&newest, max, newest.len() < made.len())
}

#[cfg(test)]
mod tests;
