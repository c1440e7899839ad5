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

/// Timeout of an attempt. S3 answers within milliseconds; three attempts and their pauses fit into `ANSWER_TIME`.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS_MAX: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// CloudFormation accepts answers of 4,096 bytes. The ids take less than a quarter of that.
const REASON_BYTES_MAX: usize = 2_048;

/// A client that sends answers to CloudFormation.
#[derive(Debug, Clone)]
pub struct Answers(rustls::ClientConfig);

/// An answer was not delivered. CloudFormation keeps waiting, so sending it again helps.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// The address in the request is invalid.
    #[error("the ResponseURL is invalid")]
    Address(#[from] hyper::http::Error),
    /// The address could not be reached within seconds.
    #[error("the ResponseURL was not reached")]
    Unreachable,
    /// The server refused the answer.
    #[error("the ResponseURL answered {0}")]
    Refused(StatusCode),
}

/// The outcome of a request.
pub(crate) enum Outcome {
    /// Success, with the schema's version if the database was read.
    Success(Option<i64>),
    /// Failure, with the reason.
    Failed(String),
}

impl Answers {
    /// Builds an HTTPS client that trusts these authorities. Plain HTTP is allowed for the local emulator;
    /// CloudFormation's own addresses all begin with `https`.
    ///
    /// # Errors
    /// One of the authorities is invalid.
    pub fn new(authorities: &Authorities) -> Result<Self, tls::Error> {
        let config = rustls::ClientConfig::builder().with_root_certificates(authorities.store()?);
        Ok(Self(config.with_no_client_auth()))
    }

    /// Sends the answer to the request's address, with retries. Idempotent.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub(crate) async fn send(&self, request: &Request, outcome: &Outcome) -> Result<(), Undelivered> {
        let client = Client::builder(TokioExecutor::new()).build(self.connector());
        let mut attempts = 1;
        loop {
            let put = timeout(ATTEMPT_TIMEOUT, client.request(put(request, outcome)?)).await;
            let error = match put {
                Ok(Ok(response)) if response.status().is_success() => return Ok(()),
                Ok(Ok(response)) => Undelivered::Refused(response.status()),
                // Not the error itself, which could contain the address.
                Ok(Err(_)) | Err(_) => Undelivered::Unreachable,
            };
            if attempts == ATTEMPTS_MAX {
                return Err(error);
            }
            warn!(name: "answer.not_taken", tries = attempts, %error, "answer.not_taken");
            attempts += 1;
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
    // The address is signed for an empty content type; S3 refuses any other.
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

/// The request to answer if the handler panics.
static PENDING: Mutex<Option<(Answers, Request)>> = Mutex::new(None);

/// A guard: while it lives, a panic answers the pending request.
#[must_use]
pub(crate) struct PendingAnswer;

/// Marks a request as pending until the guard is dropped. A panic in between answers it with a failure.
pub(crate) fn guard(answers: &Answers, request: &Request) -> PendingAnswer {
    *PENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some((answers.clone(), request.clone()));
    PendingAnswer
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        PENDING.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Sets a panic hook that answers CloudFormation before the process ends. In release builds a panic aborts, so
/// nothing else could answer.
pub fn answer_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        report(panic);
        let pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((answers, request)) = pending else { return };
        // The panicking thread may be inside a runtime, in which another one cannot block.
        let answering = thread::spawn(move || {
            let outcome = Outcome::Failed("the function panicked: its log says where".to_owned());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(answers.send(&request, &outcome)).ok()
        });
        // A failed delivery cannot be handled here.
        let _delivered = answering.join();
    }));
}

#[cfg(test)]
mod tests;
