//! Actions on messages.
use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Answer, BatchRequest, Entry, find};
use crate::{
    aws_endpoint::error::ApiError,
    sqs::{
        Attribute, AttributeValue, IN_FLIGHT_MAX, NewMessage, Queue, Queues, RECEIVE_MAX, Receipt, Received,
        Sent, WAIT_MAX, visibility,
    },
    template::physical::ACCOUNT,
};

/// SQS's limit on the total size of the bodies of one batch.
const BATCH_BYTES_MAX: usize = 1_048_576;

/// A request to one queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct QueueRequest<T> {
    queue_url: String,
    #[serde(flatten)]
    parameters: T,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Send {
    message_body: String,
    #[serde(default)]
    message_attributes: BTreeMap<String, ApiAttribute>,
    #[serde(default)]
    message_system_attributes: BTreeMap<String, Value>,
    delay_seconds: Option<u32>,
    message_group_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiAttribute {
    data_type: String,
    string_value: Option<String>,
    binary_value: Option<String>,
}

impl Send {
    fn send(self, queue: &Queue) -> Result<Sent, ApiError> {
        if !self.message_system_attributes.is_empty() {
            return Err(ApiError::new(
                "UnsupportedOperation",
                "MessageSystemAttributes are not supported on one machine",
            ));
        }
        let attributes = self.message_attributes.into_iter().map(|(name, attribute)| {
            let value = attribute.string_value.or(attribute.binary_value).unwrap_or_default();
            (name, Attribute { data_type: attribute.data_type, value })
        });
        let message = NewMessage {
            body: self.message_body,
            attributes: attributes.collect(),
            delay_seconds: self.delay_seconds,
            group_id: self.message_group_id,
        };
        Ok(queue.send_for_client(message)?)
    }
}

fn sent(sent: &Sent) -> Value {
    let mut answer = json!({ "MessageId": sent.message_id, "MD5OfMessageBody": sent.md5_of_body });
    if let Some(md5) = &sent.md5_of_attributes {
        answer["MD5OfMessageAttributes"] = json!(md5);
    }
    answer
}

pub(super) fn send(queues: &Queues, request: QueueRequest<Send>) -> Answer {
    let queue = find(queues, &request.queue_url)?;
    request.parameters.send(&queue).map(|message| sent(&message))
}

pub(super) fn send_batch(queues: &Queues, batch: BatchRequest<Send>) -> Answer {
    let queue = find(queues, &batch.queue_url)?;
    batch.check()?;
    let bytes: usize = batch.entries.iter().map(|entry| entry.request.message_body.len()).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(ApiError::new(
            "BatchRequestTooLong",
            format!(
                "Batch requests cannot be longer than {BATCH_BYTES_MAX} bytes. You have sent {bytes} bytes."
            ),
        ));
    }
    Ok(batch_answer(batch.entries.into_iter().map(|Entry { id, request }| {
        let answer = request.send(&queue).map(|message| sent(&message));
        (id, answer)
    })))
}

/// Splits the results of a batch's entries into `Successful` and `Failed`.
fn batch_answer(answers: impl Iterator<Item = (String, Answer)>) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for (id, answer) in answers {
        match answer {
            Ok(mut value) => {
                value["Id"] = json!(id);
                successful.push(value);
            }
            Err(error) => failed.push(error.batch_entry(&id)),
        }
    }
    json!({ "Successful": successful, "Failed": failed })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Receive {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<u64>,
    wait_time_seconds: Option<u64>,
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
}

pub(super) async fn receive(queues: &Queues, request: Receive) -> Answer {
    let queue = find(queues, &request.queue_url)?;
    let max = request.max_number_of_messages.unwrap_or(1);
    if !(1..=RECEIVE_MAX).contains(&max) {
        return Err(ApiError::new(
            "InvalidParameterValue",
            format!(
                "Value {max} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
            ),
        ));
    }
    let wait = request.wait_time_seconds.map_or_else(|| queue.receive_wait(), Duration::from_secs);
    if wait > WAIT_MAX {
        return Err(ApiError::new(
            "InvalidParameterValue",
            "Value for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided.",
        ));
    }
    let visibility = request.visibility_timeout.map(visibility).transpose()?;
    let received = queue.receive(max, visibility, wait).await;
    if received.is_empty() {
        // At the limit, SQS returns an error to a short poll, and an empty response to a long poll.
        if wait.is_zero() && queue.counts().in_flight >= IN_FLIGHT_MAX as u64 {
            return Err(ApiError::new("OverLimit", "Too many messages in flight: delete some first."));
        }
        return Ok(json!({}));
    }
    let messages: Vec<Value> = received.iter().map(|message| request.show(message)).collect();
    Ok(json!({ "Messages": messages }))
}

impl Receive {
    fn show(&self, message: &Received) -> Value {
        let content = &message.content;
        let mut shown = json!({
            "MessageId": content.id,
            "ReceiptHandle": message.receipt.to_string(),
            "MD5OfBody": content.md5_of_body(),
            "Body": content.body,
        });
        let system = self.system_attributes(message);
        if !system.is_empty() {
            shown["Attributes"] = Value::Object(system);
        }
        let attributes = content.attributes.filter(|name| self.wants_attribute(name));
        if let Some(md5) = attributes.md5() {
            shown["MD5OfMessageAttributes"] = json!(md5);
            shown["MessageAttributes"] = attributes.iter().map(show_attribute).collect::<Map<_, _>>().into();
        }
        shown
    }

    fn system_attributes(&self, message: &Received) -> Map<String, Value> {
        let wanted = |name: &str| {
            let names = self.attribute_names.iter().chain(&self.message_system_attribute_names);
            names.into_iter().any(|wanted| wanted == "All" || wanted == name)
        };
        let all = [
            ("ApproximateReceiveCount", Some(message.receive_count.to_string())),
            ("ApproximateFirstReceiveTimestamp", Some(message.first_received_ms.to_string())),
            ("SentTimestamp", Some(message.content.sent_ms.to_string())),
            ("SenderId", Some(ACCOUNT.to_owned())),
            ("MessageGroupId", message.content.group_id.as_deref().map(str::to_owned)),
            ("DeadLetterQueueSourceArn", message.dead_letter_source.as_deref().map(str::to_owned)),
        ];
        all.into_iter()
            .filter(|(name, _)| wanted(name))
            .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
            .collect()
    }

    fn wants_attribute(&self, name: &str) -> bool {
        self.message_attribute_names.iter().any(|wanted| match wanted.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => wanted == "All" || wanted == name,
        })
    }
}

fn show_attribute((name, data_type, value): (&str, &str, AttributeValue<'_>)) -> (String, Value) {
    let shown = match value {
        AttributeValue::Text(text) => json!({ "DataType": data_type, "StringValue": text }),
        AttributeValue::Binary(binary) => {
            json!({ "DataType": data_type, "BinaryValue": BASE64_STANDARD.encode(binary) })
        }
    };
    (name.to_owned(), shown)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Delete {
    receipt_handle: String,
}

impl Delete {
    fn delete(&self, queue: &Queue) -> Answer {
        queue.delete(&[self.receipt_handle.parse::<Receipt>()?]);
        Ok(json!({}))
    }
}

pub(super) fn delete(queues: &Queues, request: &QueueRequest<Delete>) -> Answer {
    request.parameters.delete(&*find(queues, &request.queue_url)?)?;
    Ok(Value::Null)
}

pub(super) fn delete_batch(queues: &Queues, batch: &BatchRequest<Delete>) -> Answer {
    let queue = find(queues, &batch.queue_url)?;
    batch.check()?;
    Ok(batch_answer(batch.entries.iter().map(|entry| (entry.id.clone(), entry.request.delete(&queue)))))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeVisibility {
    receipt_handle: String,
    visibility_timeout: u64,
}

impl ChangeVisibility {
    fn change(&self, queue: &Queue) -> Answer {
        queue.change_visibility(&self.receipt_handle.parse()?, self.visibility_timeout)?;
        Ok(json!({}))
    }
}

pub(super) fn change_visibility(queues: &Queues, request: &QueueRequest<ChangeVisibility>) -> Answer {
    request.parameters.change(&*find(queues, &request.queue_url)?)?;
    Ok(Value::Null)
}

pub(super) fn change_visibility_batch(queues: &Queues, batch: &BatchRequest<ChangeVisibility>) -> Answer {
    let queue = find(queues, &batch.queue_url)?;
    batch.check()?;
    Ok(batch_answer(batch.entries.iter().map(|entry| (entry.id.clone(), entry.request.change(&queue)))))
}
