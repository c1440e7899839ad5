//! The event of a batch of messages, serialized into one buffer.
use std::fmt::Display;

use axum::body::Bytes;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::SerializeMap as _};
use uuid::Uuid;

use crate::{
    lambda::PAYLOAD_BYTES_MAX,
    sqs::{AttributeValue, Attributes, Receipt, Received},
    template::physical::{ACCOUNT, REGION},
};

const START: &[u8] = b"{\"Records\":[";
const END: &[u8] = b"]}";

/// The messages of one invocation.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    queue_arn: &'a str,
    event: Vec<u8>,
    deliveries: Vec<(Uuid, Receipt)>,
}

impl<'a> Batch<'a> {
    /// Creates an empty batch. `size`: the estimated size of the event, in bytes.
    pub fn new(queue_arn: &'a str, size: usize) -> Self {
        let mut event = Vec::with_capacity(size);
        event.extend_from_slice(START);
        Self { queue_arn, event, deliveries: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Adds a message. Returns `false` without adding it if the event would exceed Lambda's payload limit.
    pub fn push(&mut self, message: &Received) -> bool {
        let before = self.event.len();
        if !self.deliveries.is_empty() {
            self.event.push(b',');
        }
        let written = serde_json::to_writer(&mut self.event, &Record::new(message, self.queue_arn));
        let fits = written.is_ok() && self.event.len() + END.len() <= PAYLOAD_BYTES_MAX;
        // A single message always fits: with every character escaped, 1 MiB becomes 2 MiB.
        if !fits && !self.deliveries.is_empty() {
            self.event.truncate(before);
            return false;
        }
        self.deliveries.push((message.content.id, message.receipt));
        true
    }

    /// Returns the event and the message ids with their receipt handles.
    pub fn into_parts(mut self) -> (Bytes, Vec<(Uuid, Receipt)>) {
        self.event.extend_from_slice(END);
        (self.event.into(), self.deliveries)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    message_id: Uuid,
    receipt_handle: AsText<Receipt>,
    body: &'a str,
    attributes: SystemAttributes<'a>,
    message_attributes: MessageAttributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    md5_of_body: String,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'a str,
    aws_region: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SystemAttributes<'a> {
    approximate_receive_count: AsText<u32>,
    sent_timestamp: AsText<u64>,
    sender_id: &'static str,
    approximate_first_receive_timestamp: AsText<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter_queue_source_arn: Option<&'a str>,
}

impl<'a> Record<'a> {
    fn new(message: &'a Received, queue_arn: &'a str) -> Self {
        let content = &*message.content;
        Self {
            message_id: content.id,
            receipt_handle: AsText(message.receipt),
            body: &content.body,
            attributes: SystemAttributes {
                approximate_receive_count: AsText(message.receive_count),
                sent_timestamp: AsText(content.sent_ms),
                sender_id: ACCOUNT,
                approximate_first_receive_timestamp: AsText(message.first_received_ms),
                message_group_id: content.group_id.as_deref(),
                dead_letter_queue_source_arn: message.dead_letter_source.as_deref(),
            },
            message_attributes: MessageAttributes(&content.attributes),
            md5_of_message_attributes: content.attributes.md5(),
            md5_of_body: content.md5_of_body(),
            event_source: "aws:sqs",
            event_source_arn: queue_arn,
            aws_region: REGION,
        }
    }
}

/// A value that is serialized as a string.
struct AsText<T>(T);

impl<T: Display> Serialize for AsText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct MessageAttributes<'a>(&'a Attributes);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageAttribute<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    string_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_value: Option<String>,
    string_list_values: [&'a str; 0],
    binary_list_values: [&'a str; 0],
    data_type: &'a str,
}

impl Serialize for MessageAttributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, data_type, value) in self.0.iter() {
            let (string_value, binary_value) = match value {
                AttributeValue::Text(text) => (Some(text), None),
                AttributeValue::Binary(binary) => (None, Some(BASE64_STANDARD.encode(binary))),
            };
            let attribute = MessageAttribute {
                string_value,
                binary_value,
                string_list_values: [],
                binary_list_values: [],
                data_type,
            };
            map.serialize_entry(name, &attribute)?;
        }
        map.end()
    }
}
