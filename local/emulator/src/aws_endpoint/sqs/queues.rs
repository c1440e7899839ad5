//! Actions on whole queues.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, QueueOnly, find};
use crate::{
    aws_endpoint::error::ApiError,
    sqs::{MoveTask, MoveTaskStatus, Queue, Queues},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NamedQueue {
    queue_name: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

pub(super) fn get_url(queues: &Queues, request: &NamedQueue) -> Answer {
    let queue = find(queues, &request.queue_name)?;
    Ok(json!({ "QueueUrl": queue.url() }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct List {
    #[serde(default)]
    queue_name_prefix: String,
}

pub(super) fn list(queues: &Queues, request: &List) -> Answer {
    let named = |queue: &&std::sync::Arc<Queue>| queue.name().starts_with(&request.queue_name_prefix);
    let urls: Vec<String> = queues.all().iter().filter(named).map(|queue| queue.url()).collect();
    Ok(if urls.is_empty() { json!({}) } else { json!({ "QueueUrls": urls }) })
}

pub(super) fn create(queues: &Queues, request: &NamedQueue) -> Answer {
    if let Some(queue) = queues.get(&request.queue_name) {
        let current: BTreeMap<_, _> = queue.attributes().into_iter().collect();
        let differs = |(name, value): (&String, &String)| current.get(name.as_str()) != Some(value);
        if request.attributes.iter().any(differs) {
            return Err(ApiError::new(
                "QueueNameExists",
                "A queue already exists with the same name and a different value for an attribute.",
            ));
        }
        return Ok(json!({ "QueueUrl": queue.url() }));
    }
    let queue = queues.create(&request.queue_name)?;
    for (name, value) in &request.attributes {
        if let Err(error) = queues.set_attribute(&queue, name, value) {
            queues.remove(queue.name());
            return Err(error.into());
        }
    }
    Ok(json!({ "QueueUrl": queue.url() }))
}

pub(super) fn delete(queues: &Queues, request: &QueueOnly) -> Answer {
    let queue = find(queues, &request.queue_url)?;
    queues.remove(queue.name());
    Ok(Value::Null)
}

pub(super) fn purge(queues: &Queues, request: &QueueOnly) -> Answer {
    find(queues, &request.queue_url)?.purge();
    Ok(Value::Null)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

/// Attributes of SQS that this queue may lack. A request for them is not an error.
const ATTRIBUTES_NOT_KEPT: [&str; 11] = [
    "Policy",
    "RedrivePolicy",
    "RedriveAllowPolicy",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds",
    "SqsManagedSseEnabled",
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
];

pub(super) fn get_attributes(queues: &Queues, request: &GetAttributes) -> Answer {
    let queue = find(queues, &request.queue_url)?;
    let mut attributes: Map<String, Value> =
        queue.attributes().into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
    let counts = queue.reported_counts();
    for (name, value) in [
        ("QueueArn", queue.arn()),
        ("ApproximateNumberOfMessages", counts.visible.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
        ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
    ] {
        attributes.insert(name.to_owned(), json!(value));
    }
    for name in &request.attribute_names {
        if name != "All" && !attributes.contains_key(name) && !ATTRIBUTES_NOT_KEPT.contains(&name.as_str()) {
            return Err(ApiError::new("InvalidAttributeName", format!("Unknown Attribute {name}.")));
        }
    }
    if !request.attribute_names.iter().any(|name| name == "All") {
        attributes.retain(|name, _| request.attribute_names.contains(name));
    }
    Ok(if attributes.is_empty() { json!({}) } else { json!({ "Attributes": attributes }) })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SetAttributes {
    queue_url: String,
    attributes: BTreeMap<String, String>,
}

pub(super) fn set_attributes(queues: &Queues, request: &SetAttributes) -> Answer {
    let queue = find(queues, &request.queue_url)?;
    for (name, value) in &request.attributes {
        queues.set_attribute(&queue, name, value)?;
    }
    Ok(Value::Null)
}

pub(super) fn list_dead_letter_sources(queues: &Queues, request: &QueueOnly) -> Answer {
    let target = find(queues, &request.queue_url)?;
    let urls: Vec<String> = queues.sources_of(&target).iter().map(|queue| queue.url()).collect();
    Ok(json!({ "queueUrls": urls }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct StartMove {
    source_arn: String,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<u32>,
}

pub(super) fn start_move(queues: &Queues, request: &StartMove) -> Answer {
    if request.max_number_of_messages_per_second.is_some() {
        return Err(ApiError::new(
            "UnsupportedOperation",
            "on one machine messages are moved at once: leave MaxNumberOfMessagesPerSecond out",
        ));
    }
    let task = queues.start_move(&request.source_arn, request.destination_arn.as_deref())?;
    Ok(json!({ "TaskHandle": task.handle }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListMoves {
    source_arn: String,
    max_results: Option<usize>,
}

pub(super) fn list_moves(queues: &Queues, request: &ListMoves) -> Answer {
    let source = queues.get(&request.source_arn).ok_or_else(|| {
        ApiError::new("ResourceNotFoundException", "The resource that you specified does not exist.")
    })?;
    let tasks = queues.move_tasks(&source.arn());
    let shown: Vec<Value> = tasks.iter().take(request.max_results.unwrap_or(1)).map(move_task).collect();
    Ok(json!({ "Results": shown }))
}

fn move_task(task: &MoveTask) -> Value {
    let mut shown = json!({
        "SourceArn": task.source_arn,
        "Status": "COMPLETED",
        "ApproximateNumberOfMessagesMoved": task.moved,
        "ApproximateNumberOfMessagesToMove": task.to_move,
        "StartedTimestamp": task.started_ms,
    });
    if let Some(arn) = &task.destination_arn {
        shown["DestinationArn"] = json!(arn);
    }
    if task.status == MoveTaskStatus::Failed {
        shown["Status"] = json!("FAILED");
        shown["FailureReason"] = json!("CouldNotDetermineMessageSource");
    }
    shown
}
