//! The settings of a function, read from the template.
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::log_filter::LogFilter;
use crate::template::{Resource, physical};

/// Lambda's range and default of `Timeout`.
const TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=900;
const TIMEOUT_SECONDS_DEFAULT: u64 = 3;
/// Lambda's range and default of `MemorySize`, in MB.
const MEMORY_MB: std::ops::RangeInclusive<u64> = 128..=10_240;
const MEMORY_MB_DEFAULT: u64 = 128;
/// Concurrency limit without reserved concurrency: a new AWS account's quota for all of its functions.
const CONCURRENCY_DEFAULT: u64 = 1_000;

#[derive(Debug)]
pub(super) struct Settings {
    /// Logical id.
    pub id: String,
    pub binary: PathBuf,
    pub arn: String,
    pub timeout: Duration,
    pub concurrency_max: u64,
    pub log_filter: LogFilter,
    /// The environment variables, without the Runtime API's address.
    pub environment: Vec<(String, String)>,
}

/// Returns the function's `Timeout`, in seconds.
///
/// # Errors
/// A `Timeout` outside Lambda's range.
pub fn timeout_seconds(resource: &Resource) -> anyhow::Result<u64> {
    Ok(resource.number(&["Timeout"], TIMEOUT_SECONDS)?.unwrap_or(TIMEOUT_SECONDS_DEFAULT))
}

impl Settings {
    pub fn of(resource: &Resource, aws_endpoint: &str, artifacts: &Path) -> anyhow::Result<Self> {
        let name = resource.properties["FunctionName"].as_str().unwrap_or(&resource.id);
        let binary = find_binary(resource, artifacts)?;
        let memory_mb = resource.number(&["MemorySize"], MEMORY_MB)?.unwrap_or(MEMORY_MB_DEFAULT);
        let concurrency = resource.number(&["ReservedConcurrentExecutions"], 0..=CONCURRENCY_DEFAULT)?;
        let environment = environment(resource, name, memory_mb, aws_endpoint, &binary)?;
        let log_filter =
            LogFilter::of(&resource.properties["LoggingConfig"]).with_context(|| resource.id.clone())?;
        Ok(Self {
            id: resource.id.clone(),
            arn: physical::function_arn(name),
            timeout: Duration::from_secs(timeout_seconds(resource)?),
            concurrency_max: concurrency.unwrap_or(CONCURRENCY_DEFAULT),
            log_filter,
            environment,
            binary,
        })
    }
}

/// Finds a function's binary in the layouts of cargo, cargo-lambda and SAM.
///
/// # Errors
/// No layout has the binary; the error lists the paths.
pub fn find_binary(resource: &Resource, artifacts: &Path) -> anyhow::Result<PathBuf> {
    let id = &resource.id;
    let named = resource.metadata["BuildProperties"]["Binary"].as_str();
    let mut candidates = vec![artifacts.join(id).join("bootstrap")];
    if let Some(name) = named {
        candidates.extend([artifacts.join(name).join("bootstrap"), artifacts.join(name)]);
    }
    if let Some(found) = candidates.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let hint =
        if named.is_none() { "; the template's Metadata.BuildProperties.Binary would name it" } else { "" };
    bail!("{id}: there is no binary, build the functions first (looked for {}{hint})", tried.join(", "))
}

fn environment(
    resource: &Resource,
    name: &str,
    memory_mb: u64,
    aws_endpoint: &str,
    binary: &Path,
) -> anyhow::Result<Vec<(String, String)>> {
    let task_root = binary.parent().unwrap_or(Path::new("/")).display().to_string();
    let handler = resource.properties["Handler"].as_str().unwrap_or("bootstrap");
    let own = [
        ("AWS_LAMBDA_FUNCTION_NAME", name),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory_mb.to_string()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_REGION", physical::REGION),
        ("AWS_DEFAULT_REGION", physical::REGION),
        ("_HANDLER", handler),
        ("LAMBDA_TASK_ROOT", &task_root),
        ("AWS_ENDPOINT_URL", aws_endpoint),
        // SDKs need credentials to sign requests. The endpoint checks only the signatures of S3 requests.
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
    ];
    let mut environment: Vec<(String, String)> =
        own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    environment.extend(logging(&resource.properties["LoggingConfig"]));
    // The only variables inherited from the stack: PATH for the system's tools, RUST_BACKTRACE for debugging crashes.
    for key in ["PATH", "RUST_BACKTRACE"] {
        environment.extend(std::env::var(key).ok().map(|value| (key.to_owned(), value)));
    }
    for (key, value) in resource.properties["Environment"]["Variables"].as_object().into_iter().flatten() {
        environment.push((key.clone(), variable(value).with_context(|| format!("{}: {key}", resource.id))?));
    }
    Ok(environment)
}

fn logging(config: &Value) -> Vec<(String, String)> {
    [("AWS_LAMBDA_LOG_FORMAT", "LogFormat"), ("AWS_LAMBDA_LOG_LEVEL", "ApplicationLogLevel")]
        .into_iter()
        .filter_map(|(key, property)| Some((key.to_owned(), config[property].as_str()?.to_owned())))
        .collect()
}

fn variable(value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => bail!("an environment variable must be a string"),
    }
}
