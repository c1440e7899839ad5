//! The Lambda Runtime API (2018-06-01) of one instance.
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::{InvokeError, PAYLOAD_BYTES_MAX};

/// Limit on an error report: it becomes one log line.
const ERROR_BYTES_MAX: usize = 256 * 1024;

pub(super) type Answer = Result<Bytes, InvokeError>;

/// An invocation that waits for its function.
#[derive(Debug)]
pub(super) struct Invocation {
    pub id: Uuid,
    pub payload: Bytes,
    pub deadline: SystemTime,
    pub answer: oneshot::Sender<Answer>,
}

/// The state shared by an instance and the handlers of its Runtime API.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    function_arn: String,
    pending: tokio::sync::Mutex<mpsc::Receiver<Invocation>>,
    /// The invocation in progress.
    running: Mutex<Option<(Uuid, oneshot::Sender<Answer>)>>,
    init_error: Mutex<Option<String>>,
    /// Whether the function has requested its first invocation.
    initialized: watch::Sender<bool>,
}

impl RuntimeApi {
    pub fn new(function_arn: String, pending: mpsc::Receiver<Invocation>) -> Arc<Self> {
        Arc::new(Self {
            function_arn,
            pending: tokio::sync::Mutex::new(pending),
            running: Mutex::default(),
            init_error: Mutex::default(),
            initialized: watch::Sender::new(false),
        })
    }

    pub fn router(self: Arc<Self>) -> Router {
        const BASE: &str = "/2018-06-01/runtime";
        Router::new()
            .route(&format!("{BASE}/invocation/next"), get(next))
            .route(&format!("{BASE}/invocation/{{id}}/response"), post(response))
            .route(&format!("{BASE}/invocation/{{id}}/error"), post(error))
            .route(&format!("{BASE}/init/error"), post(init_error))
            .with_state(self)
    }

    pub fn initialized(&self) -> watch::Receiver<bool> {
        self.initialized.subscribe()
    }

    /// Whether the function has received an invocation without responding to it yet.
    pub fn is_running(&self) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns the error that the function reported for its init phase.
    pub fn init_error(&self) -> Option<String> {
        self.init_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&self, id: Uuid, answer: Answer) -> Response {
        let running = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|(running, _)| *running == id);
        match running {
            Some((_, sender)) => {
                // The error means that the invocation has just timed out.
                let _timed_out = sender.send(answer);
                (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
            }
            None => problem(StatusCode::BAD_REQUEST, "InvalidRequestID", "no such invocation is running"),
        }
    }
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> Response {
    api.initialized.send_replace(true);
    let Some(invocation) = api.pending.lock().await.recv().await else {
        return problem(StatusCode::GONE, "InstanceGone", "the instance is being shut down");
    };
    let deadline_ms =
        invocation.deadline.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |deadline| deadline.as_millis());
    let trace = Uuid::new_v4().simple().to_string();
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.id.to_string()),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        ("lambda-runtime-invoked-function-arn", api.function_arn.clone()),
        ("lambda-runtime-trace-id", format!("Root=1-{}-{};Sampled=0", &trace[..8], &trace[8..])),
        (header::CONTENT_TYPE.as_str(), "application/json".to_owned()),
    ];
    *api.running.lock().unwrap_or_else(PoisonError::into_inner) = Some((invocation.id, invocation.answer));
    (headers, invocation.payload).into_response()
}

async fn response(State(api): State<Arc<RuntimeApi>>, Path(id): Path<Uuid>, request: Request) -> Response {
    match to_bytes(request.into_body(), PAYLOAD_BYTES_MAX).await {
        Ok(body) => api.finish(id, Ok(body)),
        Err(_) => {
            let message = format!("the answer is over {PAYLOAD_BYTES_MAX} bytes");
            let error = InvokeError::Unhandled(format!("Function.ResponseSizeTooLarge: {message}"));
            let _accepted = api.finish(id, Err(error));
            problem(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &message)
        }
    }
}

async fn error(State(api): State<Arc<RuntimeApi>>, Path(id): Path<Uuid>, request: Request) -> Response {
    let report = read_report(request.into_body()).await;
    api.finish(id, Err(InvokeError::Unhandled(report)))
}

async fn init_error(State(api): State<Arc<RuntimeApi>>, request: Request) -> Response {
    let report = read_report(request.into_body()).await;
    let message = serde_json::from_str::<Value>(&report)
        .ok()
        .and_then(|report| report["errorMessage"].as_str().map(str::to_owned))
        .unwrap_or(report);
    *api.init_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    (StatusCode::ACCEPTED, axum::Json(json!({ "status": "OK" }))).into_response()
}

async fn read_report(body: Body) -> String {
    match to_bytes(body, ERROR_BYTES_MAX).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("the error report could not be read: {error}"),
    }
}

fn problem(status: StatusCode, kind: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "errorType": kind, "errorMessage": message }))).into_response()
}
