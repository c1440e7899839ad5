//! The few calls to AWS that the functions make, signed by AWS's own signer. The services' SDKs would be larger than the
//! functions themselves, in size and in cold start, for one request of each.

mod queue;
mod storage;

use std::time::{Duration, SystemTime};

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
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

pub use bytes::Bytes;
pub use storage::Serving;

/// Longest answer that is read: none of these calls has more than some lines.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// AWS as a function's role sees it.
#[derive(Clone)]
pub struct Aws {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    credentials: Credentials,
    region: String,
    endpoint: Option<String>,
    timeout: Duration,
}

impl std::fmt::Debug for Aws {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Aws")
    }
}

/// Why a call had no success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not reached, or broken off.
    #[error("AWS is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer within the deadline.
    #[error("AWS did not answer within {0:?}")]
    Timeout(Duration),
    /// An answer other than success.
    #[error("{service} answered {status}: {message}")]
    Refused {
        /// The service.
        service: &'static str,
        /// HTTP status.
        status: StatusCode,
        /// The body's beginning.
        message: String,
    },
    /// The request cannot be made.
    #[error("the request is not one that can be signed")]
    Unsigned(#[from] SigningError),
    /// An answer that is not what the service documents.
    #[error("the answer cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

/// A variable that Lambda sets is missing, so there is no client.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not set")]
pub struct Missing(&'static str);

impl Aws {
    /// With the credentials and the Region that Lambda puts into the environment; `AWS_ENDPOINT_URL`, where it is set,
    /// stands for every service. `timeout` bounds each call.
    ///
    /// # Errors
    /// [`Missing`].
    pub fn new(
        lookup: &dyn Fn(&str) -> Option<String>,
        authorities: RootCertStore,
        timeout: Duration,
    ) -> Result<Self, Missing> {
        let text = |name| lookup(name).filter(|value| !value.is_empty()).ok_or(Missing(name));
        let tls = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            credentials: Credentials::new(
                text("AWS_ACCESS_KEY_ID")?,
                text("AWS_SECRET_ACCESS_KEY")?,
                text("AWS_SESSION_TOKEN").ok(),
                None,
                "environment",
            ),
            region: text("AWS_REGION")?,
            endpoint: text("AWS_ENDPOINT_URL").ok(),
            timeout,
        })
    }

    /// The address of a service, without the slash at its end.
    fn endpoint(&self, service: &str) -> String {
        let own = || format!("https://{service}.{}.amazonaws.com", self.region);
        self.endpoint.clone().unwrap_or_else(own)
    }

    /// Signs and sends a request, and answers headers and body of its success.
    async fn send(
        &self,
        service: &'static str,
        method: &'static str,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), Error> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = method.parse().expect("written here");
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
        let mut settings = SigningSettings::default();
        if service == "s3" {
            // S3 signs paths as they are, and wants the hash of the body in a header.
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let host = HeaderValue::from_str(&host).expect("an authority is plain text");
        request.headers_mut().insert(header::HOST, host);
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(now())
            .settings(settings)
            .build()
            .expect("all of them are set");
        let headers =
            request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            headers,
            SignableBody::Bytes(body),
        )?;
        let (instructions, _) = sign(signable, &SigningParams::V4(parameters))?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

/// The signature's own time; no rule of voting depends on it.
fn now() -> SystemTime {
    SystemTime::now()
}
