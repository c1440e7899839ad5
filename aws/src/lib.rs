//! A small client for the few AWS calls of the functions. Requests are signed by AWS's own signer.
//!
//! The services' SDKs are left out: for one request of each service they would outweigh the functions, in size and in
//! cold start.
//!
//! To add a call:
//! 1. Add a method to `impl Aws` in the service's module. Build the URL with `endpoint`, send with `send`.
//! 2. State in its doc comment whether it is idempotent, and link the API reference.
//! 3. Grant the action to the function's role in `template.yaml`, and add the call to `OWN_CALLS` in
//!    `scripts/check_functions.py`.

mod cloudfront;
mod message;
mod multipart;
mod queue;
mod storage;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningError, SigningParams,
        SigningSettings, UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use runtime::{Clock, Retry, environment::Reader, tls::Authorities};
use rustls::ClientConfig;
use tokio::time::timeout;

pub use bytes::Bytes;
pub use cloudfront::Invalidation;
pub use storage::Serving;

/// Maximum size of an answer. No call here returns more than some lines.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// An AWS client with the credentials of the function's role.
#[derive(Clone)]
pub struct Aws {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credentials: Credentials,
    region: String,
    endpoint: Option<String>,
    timeout: Duration,
    clock: Clock,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Aws")
    }
}

/// An error of a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection failed, or broke off.
    #[error("AWS is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer within the deadline.
    #[error("AWS did not answer within {0:?}")]
    Timeout(Duration),
    /// A status other than success.
    #[error("{service} answered {status}: {message}")]
    Refused {
        /// The service.
        service: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// The first 500 characters of the body.
        message: String,
    },
    /// The request cannot be signed.
    #[error("the request cannot be signed")]
    Unsigned(#[from] SigningError),
    /// An answer in another format than the service documents.
    #[error("the answer cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

impl Error {
    /// Returns whether a later call may succeed: yes if the service is busy or away.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) | Self::Timeout(_) => Retry::Later,
            Self::Refused { status, message, .. } => {
                let is_busy = status.is_server_error()
                    || status.as_u16() == 429
                    || ["TooManyInvalidationsInProgress", "Throttling"]
                        .iter()
                        .any(|code| message.contains(code));
                if is_busy { Retry::Later } else { Retry::Never }
            }
            Self::Unsigned(_) | Self::Unreadable(_) => Retry::Never,
        }
    }
}

impl Aws {
    /// Reads the configuration like [`Aws::with_timeout`], with `CALL_TIMEOUT_MS` as the timeout.
    pub fn read(reader: &mut Reader<'_>, clock: &Clock) -> Option<Self> {
        let timeout = reader.parsed("CALL_TIMEOUT_MS").map(Duration::from_millis);
        Self::with_timeout(reader, timeout?, clock)
    }

    /// Reads the credentials and the Region that Lambda puts into the environment. `AWS_ENDPOINT_URL`, if set,
    /// replaces the endpoint of every service. `timeout` bounds each call. Opens no connection. Returns `None` if a
    /// variable is missing; the reader reports it.
    pub fn with_timeout(reader: &mut Reader<'_>, timeout: Duration, clock: &Clock) -> Option<Self> {
        let authorities = reader.built("AWS_REGION", Authorities::amazon().store());
        let access_key_id = reader.text("AWS_ACCESS_KEY_ID");
        let secret_access_key = reader.text("AWS_SECRET_ACCESS_KEY");
        let session_token = reader.optional("AWS_SESSION_TOKEN");
        let region = reader.text("AWS_REGION");
        let tls = ClientConfig::builder().with_root_certificates(authorities?).with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Some(Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            credentials: Credentials::new(
                access_key_id?,
                secret_access_key?,
                session_token,
                None,
                "environment",
            ),
            region: region?,
            endpoint: reader.optional("AWS_ENDPOINT_URL"),
            timeout,
            clock: clock.clone(),
        })
    }

    /// Returns the endpoint of a service, without a trailing slash.
    fn endpoint(&self, service: &str) -> String {
        let regional = || format!("https://{service}.{}.amazonaws.com", self.region);
        self.endpoint.clone().unwrap_or_else(regional)
    }

    /// Signs and sends a request. Returns headers and body of a successful answer.
    async fn send(
        &self,
        service: &'static str,
        method: &'static str,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), Error> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.parse().expect("a valid method name");
        *request.uri_mut() = url.parse().map_err(|error| Error::Unavailable(Box::new(error)))?;
        *request.headers_mut() = headers;
        self.sign(service, &mut request, &body)?;
        let answer = async {
            let response =
                self.http.request(request).await.map_err(|error| Error::Unavailable(error.into()))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(Error::Unavailable)?;
            let body = body.to_bytes();
            if parts.status.is_success() {
                return Ok((parts.headers, body));
            }
            let message = String::from_utf8_lossy(&body).chars().take(500).collect();
            Err(Error::Refused { service, status: parts.status, message })
        };
        timeout(self.timeout, answer).await.map_err(|_| Error::Timeout(self.timeout))?
    }

    fn sign(
        &self,
        service: &'static str,
        request: &mut Request<Full<Bytes>>,
        body: &[u8],
    ) -> Result<(), Error> {
        self.sign_with(service, request, SignableBody::Bytes(body), |settings| {
            if service == "s3" {
                // S3 requires the hash of the body in a header.
                settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            }
        })
    }

    fn sign_with(
        &self,
        service: &'static str,
        request: &mut Request<Full<Bytes>>,
        body: SignableBody<'_>,
        set: impl FnOnce(&mut SigningSettings),
    ) -> Result<(), Error> {
        let mut settings = SigningSettings::default();
        if service == "s3" {
            // S3 signs paths without normalization.
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        set(&mut settings);
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let host = HeaderValue::from_str(&host).expect("an authority is plain text");
        request.headers_mut().insert(header::HOST, host);
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(self.clock.now().into())
            .settings(settings)
            .build()
            .expect("all parameters are set");
        let headers =
            request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable =
            SignableRequest::new(request.method().as_str(), request.uri().to_string(), headers, body)?;
        let (instructions, _) = sign(signable, &SigningParams::V4(parameters))?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
