//! Stands in for Lambda: instances of the real binaries, spoken to over the Runtime API.
use std::{path::PathBuf, sync::Arc};

use axum::body::Bytes;

use crate::{cloudwatch::CloudWatch, template::Template};

/// Why an invocation gave no answer.
#[derive(Debug, Clone)]
pub enum InvokeError {
    /// No instance free within the concurrency limit.
    Throttled,
    /// The function's `Timeout` passed; the instance was killed.
    TimedOut,
    /// The process ended in mid-invocation or at start.
    Crashed(String),
    /// The handler answered with an error (the body of `/invocation/{id}/error`).
    Unhandled(String),
}

/// Figures of one function.
#[derive(Debug, Clone, Default)]
pub struct FunctionCounts {
    /// Logical id.
    pub function: String,
    /// Invocations started.
    pub invocations: u64,
    /// Invocations that gave no answer.
    pub errors: u64,
    /// Highest number of invocations at one time.
    pub concurrent_max: u64,
    /// Processes started.
    pub cold_starts: u64,
    /// Process ids of live instances (for fault injection and memory figures).
    pub pids: Vec<u32>,
}

/// Every `AWS::Serverless::Function` of the template.
#[derive(Debug)]
pub struct Functions {}

impl Functions {
    /// Finds each function's binary below `artifacts`: the layouts of `cargo build` (`<dir>/<binary>`),
    /// `cargo lambda build` (`<dir>/<binary>/bootstrap`) and `sam build` (`<dir>/<LogicalId>/bootstrap`).
    pub fn from_template(
        _template: &Template,
        _artifacts: PathBuf,
        _logs: Arc<CloudWatch>,
    ) -> anyhow::Result<Arc<Self>> {
        todo!()
    }
    /// A synchronous invocation by logical id; starts an instance when none is idle.
    pub async fn invoke(&self, _function: &str, _payload: Bytes) -> Result<Bytes, InvokeError> {
        todo!()
    }
    /// Figures for `/_local/metrics`.
    pub fn counts(&self) -> Vec<FunctionCounts> {
        todo!()
    }
    /// Ends every instance: SIGTERM, then SIGKILL.
    pub async fn shut_down(&self) {
        todo!()
    }
}
