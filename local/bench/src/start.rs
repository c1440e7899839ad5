//! Measures start time, memory and package size of each function.
use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use axum::body::Bytes;
use serde::Serialize;
use serde_json::json;
use tokio::process::Command;

use super::{
    cell::{CONTESTANTS, POLLS},
    pipeline::{Load, Pipeline},
    plan::{Plan, TEMPLATE_LOAD},
    test_bed::TestBed,
};
use emulator::{event_source, lambda::find_binary, template::Resource};

/// Requests that one instance of each HTTP function answers before its memory is read.
const REQUESTS: usize = 500;

/// The figures of one function.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Function {
    /// Logical id.
    pub name: String,
    /// Milliseconds from process start to the request for the first invocation.
    pub init_ms: Vec<f64>,
    /// Milliseconds from process start to the first answer, including connecting to the stores.
    pub first_ms: Vec<f64>,
    /// Peak resident memory of one instance, after many invocations or a batch.
    pub memory_peak_bytes: u64,
    /// Size of the zipped bootstrap.
    pub package_bytes: u64,
}

/// Starts each function of the template repeatedly, interleaved.
///
/// # Errors
/// A function does not start, or fails.
pub async fn run(test_bed: &TestBed, plan: &Plan) -> Result<Vec<Function>> {
    let database = test_bed.database(POLLS, CONTESTANTS).await?;
    let load = Load { concurrency: TEMPLATE_LOAD.0, batch: TEMPLATE_LOAD.1 };
    let pipeline = Pipeline::new(test_bed, &database, load, &test_bed.artifacts).await?;
    let resources: Vec<&Resource> = pipeline.template.of_kind("AWS::Serverless::Function").collect();
    let mut measured = BTreeMap::new();
    let mut cast = 0;
    for start in 0..plan.starts {
        for resource in &resources {
            let payloads = match get_path(resource) {
                Some(path) if start == 0 => vec![request(&path); REQUESTS],
                Some(path) => vec![request(&path)],
                None if consumes_queue(resource) => {
                    database.ballots.cast(cast, load.batch, None, &pipeline.queue)?;
                    cast += load.batch;
                    let messages = pipeline.queue.receive(load.batch as usize, None, Duration::ZERO).await;
                    vec![event_source::event_of(&messages, &pipeline.queue.arn())]
                }
                None => Vec::new(),
            };
            let fresh = pipeline.functions.start_and_invoke(&resource.id, &payloads).await?;
            let function: &mut Function = match measured.get_mut(&resource.id) {
                Some(function) => function,
                None => measured.entry(resource.id.clone()).or_insert(Function {
                    name: resource.id.clone(),
                    init_ms: Vec::new(),
                    first_ms: Vec::new(),
                    memory_peak_bytes: 0,
                    package_bytes: package_bytes(&test_bed.artifacts, resource).await?,
                }),
            };
            let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
            function.init_ms.push(milliseconds(fresh.init));
            if !payloads.is_empty() {
                function.first_ms.push(milliseconds(fresh.init + fresh.first));
            }
            function.memory_peak_bytes = function.memory_peak_bytes.max(fresh.memory_peak.unwrap_or(0));
        }
    }
    pipeline.close().await?;
    test_bed.remove(database).await?;
    Ok(measured.into_values().collect())
}

/// Returns a GET path of the function, with its parameter filled in.
fn get_path(resource: &Resource) -> Option<String> {
    let events = resource.properties["Events"].as_object()?.values().map(|event| &event["Properties"]);
    let paths = events.filter(|event| event["Method"] == "GET").filter_map(|event| event["Path"].as_str());
    // This route polls the dead-letter queue for a second.
    let paths = paths.filter(|path| !path.ends_with("/dead-letters"));
    // Prefer the busiest read: the ranking's, else any.
    let path = paths.max_by_key(|path| (path.ends_with("/ranking"), !path.contains('{')))?;
    Some(path.replace("{id}", "1"))
}

fn consumes_queue(resource: &Resource) -> bool {
    let events = resource.properties["Events"].as_object();
    // Other queues have no votes.
    events.is_some_and(|events| events.contains_key("Votes") && events["Votes"]["Type"] == "SQS")
}

/// Returns an HTTP API event, payload format 2.0, with the crew's token.
fn request(path: &str) -> Bytes {
    let event = json!({
        "version": "2.0", "routeKey": format!("GET {path}"), "rawPath": path, "rawQueryString": "",
        "headers": { "host": "localhost" }, "isBase64Encoded": false,
        "pathParameters": path.contains("/1").then(|| json!({ "id": "1" })),
        "requestContext": {
            "accountId": "0", "apiId": "a", "domainName": "localhost", "domainPrefix": "a", "requestId": "r",
            "routeKey": format!("GET {path}"), "stage": "$default", "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 0,
            "http": {
                "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "bench",
            },
            "authorizer": { "jwt": { "claims": { "sub": "crew", "scope": "admin" }, "scopes": ["admin"] } },
        },
    });
    event.to_string().into()
}

/// Returns the size of the zip that a deployment uploads.
async fn package_bytes(artifacts: &Path, resource: &Resource) -> Result<u64> {
    let bootstrap = find_binary(resource, artifacts)?;
    let folder = tempfile::tempdir()?;
    let zip = folder.path().join("bootstrap.zip");
    let mut python = Command::new("python3");
    let status = python.args(["-m", "zipfile", "-c"]).arg(&zip).arg(&bootstrap).status().await;
    let status = status.context("python3 cannot be started")?;
    anyhow::ensure!(status.success(), "{} cannot be zipped", bootstrap.display());
    Ok(std::fs::metadata(zip)?.len())
}
