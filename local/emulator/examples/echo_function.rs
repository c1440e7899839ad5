//! A Lambda function for the tests, controlled by its payload.
//!
//! - An SQS event: the body of each record is a command (see [`answer_batch`]).
//! - `{"do":"echo",…}`: returns the payload and the environment.
//! - `{"do":"fail"}`: returns an error. `{"do":"hang"}`: never responds. `{"do":"exit"}`: ends the process.
//!   `{"do":"large"}`: returns a response of 7 MiB.
//!
//! With the variable `FAIL_AT_START`, it ends before its first invocation.
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Error> {
    if std::env::var_os("FAIL_AT_START").is_some() {
        println!("starting");
        return Err("the store's address is missing".into());
    }
    println!(r#"{{"level":"INFO","message":"started"}}"#);
    lambda_runtime::run(service_fn(handle)).await
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Error> {
    if let Some(records) = event.payload["Records"].as_array() {
        return answer_batch(records).await;
    }
    match event.payload["do"].as_str() {
        Some("fail") => Err("asked to fail".into()),
        Some("hang") => std::future::pending().await,
        Some("exit") => {
            println!("asked to exit");
            std::process::exit(3)
        }
        Some("large") => Ok(Value::String("x".repeat(7 * 1024 * 1024))),
        _ => {
            let environment: Vec<(String, String)> = std::env::vars().collect();
            let context = json!({
                "requestId": event.context.request_id,
                "arn": event.context.invoked_function_arn,
                "deadlineMs": event.context.deadline,
            });
            Ok(json!({ "payload": event.payload, "environment": environment, "context": context }))
        }
    }
}

/// Executes the commands of a batch. `fail` reports its record as failed. The following commands act only at their
/// first delivery: `fail once` reports its record, `malformed` returns a malformed response, `error` returns an error
/// of the handler, `exit` ends the process, `hang` never responds. Any other body succeeds.
async fn answer_batch(records: &[Value]) -> Result<Value, Error> {
    let metrics = json!({
        "_aws": {"CloudWatchMetrics": [{"Dimensions": [[]], "Metrics": [{"Name": "Batches"}, {"Name": "Records"}]}]},
        "Batches": 1,
        "Records": records.len(),
    });
    println!("{metrics}");
    let mut failures = Vec::new();
    for record in records {
        let first = record["attributes"]["ApproximateReceiveCount"] == "1";
        match record["body"].as_str() {
            Some("fail") => failures.push(json!({ "itemIdentifier": record["messageId"] })),
            Some("fail once") if first => failures.push(json!({ "itemIdentifier": record["messageId"] })),
            Some("malformed") if first => return Ok(json!({ "batchItemFailures": [{ "messageId": "x" }] })),
            Some("error") if first => return Err("asked to fail".into()),
            Some("exit") if first => std::process::exit(3),
            Some("hang") if first => std::future::pending().await,
            _ => {}
        }
    }
    Ok(json!({ "batchItemFailures": failures }))
}
