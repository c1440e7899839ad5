use std::{fmt::Write as _, time::Duration};

use aws_sigv4::http_request::{SignableBody, SignatureLocation};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use serde::{Deserialize, de::Error as _};

use crate::{Aws, Bytes, Error};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UploadCreated {
    upload_id: String,
}

impl Aws {
    /// Creates a multipart upload and returns its id. Not idempotent: the bucket's lifecycle has to abort uploads
    /// that are never completed.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        content_type: &'static str,
    ) -> Result<String, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        let url = format!("{}/{bucket}/{key}?uploads=", self.endpoint("s3"));
        let (_, body) = self.send("s3", "POST", &url, headers, Bytes::new()).await?;
        let created: UploadCreated = quick_xml::de::from_reader(body.as_ref()).map_err(unreadable)?;
        Ok(created.upload_id)
    }

    /// Uploads one part and returns its `ETag`. Parts are numbered from 1 to 10,000; each except the last has at
    /// least 5 MiB. Idempotent: the last upload of a number replaces the ones before.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn upload_part(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        number: usize,
        body: Bytes,
    ) -> Result<String, Error> {
        let url = format!("{}/{bucket}/{key}?partNumber={number}&uploadId={upload}", self.endpoint("s3"));
        let (headers, _) = self.send("s3", "PUT", &url, HeaderMap::new(), body).await?;
        let etag = headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
        etag.map(str::to_owned).ok_or_else(|| unreadable("a part without an ETag"))
    }

    /// Assembles the object from its parts, in order. Success ends the upload: a second call gets a 404.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>
    ///
    /// # Errors
    /// See [`Error`]. Without an answer, the object may still have been created.
    pub async fn complete_upload(
        &self,
        bucket: &str,
        key: &str,
        upload: &str,
        etags: &[String],
    ) -> Result<(), Error> {
        let mut body =
            String::from("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
        for (index, etag) in etags.iter().enumerate() {
            let (number, etag) = (index + 1, quick_xml::escape::escape(etag));
            let _ = write!(body, "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
        }
        body.push_str("</CompleteMultipartUpload>");
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        let url = format!("{}/{bucket}/{key}?uploadId={upload}", self.endpoint("s3"));
        let (_, answer) = self.send("s3", "POST", &url, headers, body.into()).await?;
        // S3 may answer 200, keep the connection alive with spaces, and report an error at the end of the body.
        let text = String::from_utf8_lossy(&answer);
        if text.contains("<Error>") {
            let message = text.chars().take(500).collect();
            return Err(Error::Refused { service: "s3", status: StatusCode::INTERNAL_SERVER_ERROR, message });
        }
        Ok(())
    }

    /// Returns whether an object exists. Also `false` if the role may not list the bucket: S3 then answers 403.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn has_object(&self, bucket: &str, key: &str) -> Result<bool, Error> {
        let url = format!("{}/{bucket}/{key}", self.endpoint("s3"));
        match self.send("s3", "HEAD", &url, HeaderMap::new(), Bytes::new()).await {
            Ok(_) => Ok(true),
            Err(Error::Refused { status, .. }) if status.is_client_error() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns a presigned link that lets anybody read an object. Makes no call. The link is valid for `lifetime`,
    /// at most 7 days, and never longer than the credentials.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    ///
    /// # Errors
    /// [`Error::Unsigned`].
    pub fn link(&self, bucket: &str, key: &str, lifetime: Duration) -> Result<String, Error> {
        let url = format!("{}/{bucket}/{key}", self.endpoint("s3"));
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = url.parse().map_err(|error| Error::Unavailable(Box::new(error)))?;
        self.sign_with("s3", &mut request, SignableBody::UnsignedPayload, |settings| {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(lifetime);
        })?;
        Ok(request.uri().to_string())
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Unreadable(serde_json::Error::custom(error))
}
