use http::{HeaderMap, HeaderValue, header};

use crate::{Aws, Bytes, Error};

/// The headers that S3 stores with an object and serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving<'a> {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Encoding`; `None` for content as it is.
    pub content_encoding: Option<&'static str>,
    /// `Cache-Control`.
    pub cache_control: &'a str,
}

impl Aws {
    /// Uploads an object in one request. Idempotent: the last upload replaces the ones before.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put_object(
        &self,
        bucket: &str,
        key: &str,
        serving: Serving<'_>,
        body: Bytes,
    ) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(serving.content_type));
        if let Some(encoding) = serving.content_encoding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        let cache_control =
            HeaderValue::from_str(serving.cache_control).expect("the template's header is plain text");
        headers.insert(header::CACHE_CONTROL, cache_control);
        let url = format!("{}/{bucket}/{key}", self.endpoint("s3"));
        self.send("s3", "PUT", &url, headers, body).await.map(drop)
    }

    /// Deletes an object. Idempotent: deleting a missing object succeeds.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete_object(&self, bucket: &str, key: &str) -> Result<(), Error> {
        let url = format!("{}/{bucket}/{key}", self.endpoint("s3"));
        self.send("s3", "DELETE", &url, HeaderMap::new(), Bytes::new()).await.map(drop)
    }
}
