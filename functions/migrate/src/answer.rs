use std::{
    panic,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use runtime::tls::{self, Authorities};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::Request;

/// S3 answers within milliseconds; three such tries and the pauses between them fit into `ANSWER_TIME`.
const TRY_TIME: Duration = Duration::from_secs(5);
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// CloudFormation takes 4,096 bytes in all; the ids take less than a quarter of that.
const REASON_BYTES_MAX: usize = 2_048;

/// The way back to CloudFormation.
#[derive(Debug, Clone)]
pub struct Answers(rustls::ClientConfig);

/// CloudFormation was not told. It waits, and may be told again.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// It gave no address that could be called.
    #[error("the ResponseURL is none")]
    Address(#[from] hyper::http::Error),
    /// Not reached, or not within seconds.
    #[error("the ResponseURL was not reached")]
    Unreachable,
    /// It was reached and did not take the answer.
    #[error("the ResponseURL answered {0}")]
    Refused(StatusCode),
}

/// What to tell.
pub(crate) enum Outcome {
    /// With the schema's version, where it was looked at.
    Success(Option<i64>),
    /// Why.
    Failed(String),
}

impl Answers {
    /// Over HTTPS, to whom these authorities vouch for. Plain HTTP is there for CloudFormation's stand-in on one
    /// machine: CloudFormation's own addresses all begin with `https`.
    ///
    /// # Errors
    /// When one of the authorities is none.
    pub fn new(authorities: &Authorities) -> Result<Self, tls::Error> {
        let config = rustls::ClientConfig::builder().with_root_certificates(authorities.store()?);
        Ok(Self(config.with_no_client_auth()))
    }

    /// Puts the answer where CloudFormation looks for it; a try that fails is repeated. Idempotent.
    ///
    /// # Errors
    /// The last try's.
    pub(crate) async fn give(&self, request: &Request, outcome: &Outcome) -> Result<(), Undelivered> {
        let client = Client::builder(TokioExecutor::new()).build(self.connector());
        let mut tries = 1;
        loop {
            let put = timeout(TRY_TIME, client.request(put(request, outcome)?)).await;
            let error = match put {
                Ok(Ok(response)) if response.status().is_success() => return Ok(()),
                Ok(Ok(response)) => Undelivered::Refused(response.status()),
                // Never the error itself: it could show the address.
                Ok(Err(_)) | Err(_) => Undelivered::Unreachable,
            };
            if tries == TRIES {
                return Err(error);
            }
            warn!(name: "answer.not_taken", tries, %error, "answer.not_taken");
            tries += 1;
            sleep(PAUSE).await;
        }
    }

    fn connector(&self) -> HttpsConnector<HttpConnector> {
        HttpsConnectorBuilder::new().with_tls_config(self.0.clone()).https_or_http().enable_http1().build()
    }
}

fn put(request: &Request, outcome: &Outcome) -> Result<hyper::Request<Full<Bytes>>, Undelivered> {
    let body = Full::from(body(request, outcome));
    let put = hyper::Request::builder().method(Method::PUT).uri(&request.response_url);
    // The address is signed for an empty type: with another one S3 refuses the answer.
    Ok(put.header(CONTENT_TYPE, HeaderValue::from_static("")).body(body)?)
}

fn body(request: &Request, outcome: &Outcome) -> String {
    let (status, reason, data) = match outcome {
        Outcome::Success(version) => ("SUCCESS", "", json!({ "Version": version })),
        Outcome::Failed(reason) => ("FAILED", shortened(reason), json!({})),
    };
    json!({
        "Status": status,
        "Reason": reason,
        "PhysicalResourceId": request.physical_resource_id,
        "StackId": request.stack_id,
        "RequestId": request.request_id,
        "LogicalResourceId": request.logical_resource_id,
        "Data": data,
    })
    .to_string()
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// Whom a panic would leave without an answer.
static OWED: Mutex<Option<(Answers, Request)>> = Mutex::new(None);

/// For as long as it lives, a panic is answered.
#[must_use]
pub(crate) struct Owed;

/// A panic from here on fails this request, until what is returned is dropped.
pub(crate) fn owe(answers: &Answers, request: &Request) -> Owed {
    *OWED.lock().unwrap_or_else(PoisonError::into_inner) = Some((answers.clone(), request.clone()));
    Owed
}

impl Drop for Owed {
    fn drop(&mut self) {
        OWED.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Has a panic tell CloudFormation before it ends the process: in release builds nothing else could.
pub fn answer_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        let owed = OWED.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((answers, request)) = owed else { return };
        // The panicking thread may be in the midst of a runtime, in which another cannot run.
        let answering = thread::spawn(move || {
            let outcome = Outcome::Failed("the function panicked: its log says where".to_owned());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(answers.give(&request, &outcome)).ok()
        });
        // Whether or not it was told, there is nothing left to do.
        let _told = answering.join();
    }));
}

#[cfg(test)]
mod tests;
