//! Stands in for S3: the template's buckets, in the data folder, behind a server crate that speaks the protocol.
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

/// Access key and secret, as the stack's functions get them.
const CREDENTIAL: &str = "local";

/// Longest object that the edge hands on: pages and results, not exports.
const EDGE_OBJECT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// All buckets of the stack.
#[derive(Debug, Clone)]
pub struct Storage {
    service: S3Service,
}

/// Marks requests of the stack itself: the edge's, as its origin access control lets it in, and the publisher's.
#[derive(Clone, Copy)]
struct Trusted;

struct Access;

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_some() || cx.extensions_mut().get::<Trusted>().is_some() {
            return Ok(());
        }
        Err(s3_error!(AccessDenied, "sign the request, with the access key and the secret \"local\""))
    }
}

impl Storage {
    /// Makes the template's buckets in the folder, and keeps what they hold.
    ///
    /// # Errors
    /// The folder cannot be written, or a bucket's name is none.
    pub fn open(folder: &Path, template: &Template) -> Result<Self> {
        fs::create_dir_all(folder)?;
        for bucket in template.of_kind("AWS::S3::Bucket") {
            let name = bucket_name(bucket);
            let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
            ensure!(
                (3..=63).contains(&name.len()) && name.chars().all(valid) && !name.starts_with('.'),
                "{}: {name:?} is no bucket name",
                bucket.id
            );
            fs::create_dir_all(folder.join(name))?;
        }
        let files = FileSystem::new(folder).map_err(|error| anyhow!("{}: {error:?}", folder.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(CREDENTIAL, CREDENTIAL));
        builder.set_access(Access);
        // `bucket.localhost:4566`, which SDKs use unless told otherwise, besides `localhost:4566/bucket`.
        let host = template.aws_endpoint().trim_start_matches("http://");
        builder.set_host(SingleDomain::new(host).map_err(|error| anyhow!("{host}: {error}"))?);
        Ok(Self { service: builder.build() })
    }

    /// Answers a client of the AWS endpoint.
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

    /// Keeps an object under a key, with the headers it is to be served with.
    ///
    /// # Errors
    /// The answer, if it is none of success.
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
        Err(anyhow!("{bucket}/{key} was answered {status}: {}", String::from_utf8_lossy(&text)))
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
    /// For an origin of this name, where it is a bucket's.
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
        let asked = s3_request(&self.bucket, request);
        Box::pin(async move {
            let answer = async {
                let (parts, body) = storage.handle(asked?).await.into_parts();
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

/// The edge's request as S3 understands it: by path, and signed for by the origin access control.
fn s3_request(bucket: &str, request: Request<Body>) -> Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = format!("/{bucket}{}", parts.uri.path()).parse()?;
    // The name of the bucket's own host would be taken for another bucket's.
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::ACCEPT_ENCODING);
    parts.extensions.insert(Trusted);
    Ok(Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests;
