//! Emulates S3: the template's buckets as folders, behind a server crate that implements the protocol.
use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, anyhow, ensure};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
};
use futures_util::future::BoxFuture;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::SimpleAuth,
    host::SingleDomain,
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;

use crate::{edge::Origin, template::Template};

/// Access key and secret key, as in the environment of the stack's functions.
const CREDENTIAL: &str = "local";

/// Limit on an object served through the edge: enough for pages and documents, not for bulk exports.
const EDGE_OBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// All buckets of the stack.
#[derive(Debug, Clone)]
pub struct Storage {
    service: S3Service,
}

/// A mark on the stack's own requests, which need no signature: the edge's, as by an origin access control, and those
/// of [`Storage::put`].
#[derive(Clone, Copy)]
struct Trusted;

struct Access;

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_some() || cx.extensions_mut().get::<Trusted>().is_some() {
            return Ok(());
        }
        Err(s3_error!(
            AccessDenied,
            "sign the request with the access key \"local\" and the secret \"local\""
        ))
    }
}

impl Storage {
    /// Creates the template's buckets in the folder; existing objects stay.
    ///
    /// # Errors
    /// The folder cannot be written, or a bucket name is invalid.
    pub fn open(folder: &Path, template: &Template) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for bucket in template.of_kind("AWS::S3::Bucket") {
            let name = bucket_name(bucket);
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            ensure!(
                (3..=63).contains(&name.len()) && name.chars().all(valid) && !name.starts_with('.'),
                "{}: {name:?} is not a bucket name",
                bucket.id
            );
            fs::create_dir_all(folder.join(name))?;
        }
        let files = FileSystem::new(folder).map_err(|error| anyhow!("{}: {error:?}", folder.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(CREDENTIAL, CREDENTIAL));
        builder.set_access(Access);
        // Adds virtual-hosted-style URLs (`bucket.localhost:4566`), the SDKs' default, to path-style URLs
        // (`localhost:4566/bucket`).
        let host = template.aws_endpoint().trim_start_matches("http://");
        builder.set_host(SingleDomain::new(host).map_err(|error| anyhow!("{host}: {error}"))?);
        Ok(Self { service: builder.build() })
    }

    /// Handles a request of a client of the AWS endpoint.
    pub async fn handle(&self, request: Request<Body>) -> Response<Body> {
        match self.service.call(request.map(s3s::Body::http_body_unsync)).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                let mut response = Response::new(Body::from(format!("{error:?}")));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        }
    }

    /// Puts an object, with the headers to serve it with.
    ///
    /// # Errors
    /// A response without a success status, with its text.
    pub async fn put(&self, bucket: &str, key: &str, headers: HeaderMap, body: Bytes) -> Result<()> {
        let length = HeaderValue::from(body.len());
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = format!("/{bucket}/{key}").parse()?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::CONTENT_LENGTH, length);
        request.extensions_mut().insert(Trusted);
        let response = self.handle(request).await;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = to_bytes(response.into_body(), EDGE_OBJECT_BYTES_MAX).await?;
        Err(anyhow!("the upload of {bucket}/{key} got {status}: {}", String::from_utf8_lossy(&text)))
    }
}

fn bucket_name(bucket: &crate::template::Resource) -> String {
    let given = bucket.properties["BucketName"].as_str();
    given.map_or_else(|| bucket.id.to_lowercase(), str::to_owned)
}

/// A bucket as an origin of the edge.
#[derive(Debug)]
pub struct BucketOrigin {
    storage: Storage,
    bucket: String,
}

impl BucketOrigin {
    /// Returns the origin of a bucket's domain name; `None` for any other domain name.
    pub fn find(storage: &Storage, domain_name: &str) -> Option<Arc<dyn Origin>> {
        let (bucket, rest) = domain_name.split_once(".s3.")?;
        rest.ends_with("amazonaws.com").then(|| {
            Arc::new(Self { storage: storage.clone(), bucket: bucket.to_owned() }) as Arc<dyn Origin>
        })
    }
}

impl Origin for BucketOrigin {
    fn fetch(&self, request: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)> {
        let (storage, route) = (self.storage.clone(), format!("s3 {}", self.bucket));
        let request = s3_request(&self.bucket, request);
        Box::pin(async move {
            let answer = async {
                let (parts, body) = storage.handle(request?).await.into_parts();
                let body = to_bytes(body, EDGE_OBJECT_BYTES_MAX).await.context("the object is too long")?;
                anyhow::Ok(Response::from_parts(parts, body))
            };
            let response = answer.await.unwrap_or_else(|error| {
                let mut response = Response::new(Bytes::from(error.to_string()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            });
            (response, route)
        })
    }
}

/// Converts an edge request to a trusted path-style S3 request.
fn s3_request(bucket: &str, request: Request<Body>) -> Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = format!("/{bucket}{}", parts.uri.path()).parse()?;
    // S3 would read a bucket name from the `Host` header, too.
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::ACCEPT_ENCODING);
    parts.extensions.insert(Trusted);
    Ok(Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests;
