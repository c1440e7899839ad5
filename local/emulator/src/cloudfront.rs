//! Emulates CloudFront's API for invalidations. An invalidation acts on the edge's cache at once, but counts as in
//! progress for some seconds, so that clients can reach CloudFront's quotas.
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

/// The base path of CloudFront's API on the AWS endpoint, which SQS and S3 share.
pub const BASE_PATH: &str = "/2020-05-31/distribution/";

/// Time an invalidation is in progress. CloudFront takes seconds, sometimes minutes.
const IN_PROGRESS: Duration = Duration::from_secs(10);
/// Quotas of invalidation distribution, in progress at a time:
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-invalidations>
const PATHS_MAX: usize = 3_000;
const WILDCARDS_MAX: usize = 15;
/// Default and limit of a list's `MaxItems`.
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

/// The distribution's invalidations since start.
#[derive(Debug)]
pub struct CloudFront {
    distribution: String,
    edge: Arc<Edge>,
    invalidations: Mutex<Vec<Invalidation>>,
}

impl CloudFront {
    /// Creates the API of the distribution with this id.
    pub fn new(distribution: String, edge: Arc<Edge>) -> Self {
        Self { distribution, edge, invalidations: Mutex::default() }
    }

    /// Handles a request below [`BASE_PATH`].
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
        let mut invalidations = self.invalidations.lock().unwrap_or_else(PoisonError::into_inner);
        match (method, rest.trim_end_matches('/')) {
            (&Method::POST, "invalidation") => {
                let invalidation = self.create(&mut invalidations, body)?;
                Ok((StatusCode::CREATED, xml("Invalidation", &invalidation.document())))
            }
            (&Method::GET, "invalidation") => {
                Ok((StatusCode::OK, list(&invalidations, uri.query().unwrap_or_default())))
            }
            (&Method::GET, invalidation) => {
                let id = invalidation.strip_prefix("invalidation/").unwrap_or_default();
                let invalidation = invalidations.iter().find(|invalidation| invalidation.id == id);
                let none = || {
                    Fault::new(StatusCode::NOT_FOUND, "NoSuchInvalidation", "No invalidation has this id.")
                };
                Ok((StatusCode::OK, xml("Invalidation", &invalidation.ok_or_else(none)?.document())))
            }
            _ => {
                let message = "On one machine, CloudFront supports invalidations only.";
                Err(Fault::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message))
            }
        }
    }

    fn create(&self, invalidations: &mut Vec<Invalidation>, body: &Bytes) -> Result<Invalidation, Fault> {
        let batch = read(body)?;
        if let Some(existing) =
            invalidations.iter().find(|invalidation| invalidation.reference == batch.reference)
        {
            let set = |paths: &[String]| paths.iter().cloned().collect::<BTreeSet<_>>();
            if set(&existing.paths) == set(&batch.paths.items.paths) {
                return Ok(existing.clone());
            }
            let message = "The caller reference has been used with other paths.";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "InvalidationBatchAlreadyExists", message));
        }
        let paths = batch.paths.items.paths;
        let in_progress = invalidations
            .iter()
            .filter(|invalidation| invalidation.is_in_progress())
            .flat_map(|invalidation| &invalidation.paths)
            .chain(&paths);
        let (wildcards, exact): (Vec<_>, Vec<_>) = in_progress.partition(|path| path.ends_with('*'));
        if wildcards.len() > WILDCARDS_MAX || exact.len() > PATHS_MAX {
            let message = "Processing your request will cause you to exceed the maximum number of in-progress \
                           wildcard invalidations, or of paths.";
            return Err(Fault::new(StatusCode::BAD_REQUEST, "TooManyInvalidationsInProgress", message));
        }
        self.edge.invalidate(&paths);
        let id = Uuid::new_v4().simple().to_string().to_uppercase();
        let invalidation = Invalidation {
            id: format!("I{}", &id[..13]),
            reference: batch.reference,
            paths,
            // Read after the invalidation, so that it is later than any change that the invalidation covers.
            created_at: clock::now(),
            done_at: Instant::now() + IN_PROGRESS,
        };
        invalidations.push(invalidation.clone());
        Ok(invalidation)
    }
}

impl Invalidation {
    fn is_in_progress(&self) -> bool {
        Instant::now() < self.done_at
    }
}

fn read(body: &Bytes) -> Result<Batch, Fault> {
    let refused = |code, message: &str| Fault::new(StatusCode::BAD_REQUEST, code, message);
    let batch: Batch = quick_xml::de::from_reader(body.as_ref()).map_err(|error| {
        refused("MalformedXML", &format!("The body is not an InvalidationBatch: {error}"))
    })?;
    let paths = &batch.paths.items.paths;
    if batch.reference.is_empty() {
        return Err(refused("InvalidArgument", "CallerReference must not be empty."));
    }
    if paths.is_empty() || paths.len() != batch.paths.quantity {
        return Err(refused("InconsistentQuantities", "Quantity is not the number of the paths, or 0."));
    }
    if let Some(path) = paths.iter().find(|path| !is_path(path)) {
        return Err(refused("InvalidArgument", &format!("{path:?} is not a path to invalidate.")));
    }
    Ok(batch)
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 4_000 && path.bytes().all(|byte| byte.is_ascii_graphic())
}

fn list(invalidations: &[Invalidation], query: &str) -> String {
    let max_items = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "MaxItems");
    let max = max_items.and_then(|(_, max)| max.parse().ok()).unwrap_or(LIST_MAX).min(LIST_MAX);
    let newest: Vec<_> = invalidations.iter().rev().take(max).collect();
    answer::list(&newest, max, newest.len() < invalidations.len())
}

#[cfg(test)]
mod tests;
