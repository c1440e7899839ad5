//! Stands in for SQS: standard queues with visibility timeouts, receive counts and redrive to a DLQ.
use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use crate::template::Template;

/// A message attribute of type `String` (the only type the stack uses) or `Number`/`Binary` from SDK clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// `String`, `Number` or `Binary`, with an optional `.suffix`.
    pub data_type: String,
    /// The value; base64 for `Binary`.
    pub value: String,
}

/// What a sender hands over.
#[derive(Debug, Clone, Default)]
pub struct NewMessage {
    /// Body, 1 byte to 1 MiB.
    pub body: String,
    /// At most 10.
    pub attributes: BTreeMap<String, Attribute>,
    /// 0 to 900; `None`: the queue's own.
    pub delay_seconds: Option<u32>,
}

/// What a sender gets back.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Given by the queue.
    pub message_id: Uuid,
    /// Hex.
    pub md5_of_body: String,
    /// Hex, when there are attributes.
    pub md5_of_attributes: Option<String>,
}

/// Figures of one queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Receivable now.
    pub visible: u64,
    /// Received, neither deleted nor timed out.
    pub in_flight: u64,
    /// Sent with a delay not yet over.
    pub delayed: u64,
    /// Accepted since start.
    pub sent_total: u64,
}

/// A refusal, with SQS's error code.
#[derive(Debug, Clone)]
pub struct SendError {
    /// `InvalidMessageContents`, `MessageTooLong`…
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// One queue.
#[derive(Debug)]
pub struct Queue {}

impl Queue {
    /// Name, which is also the last part of its URL and ARN.
    pub fn name(&self) -> &str {
        todo!()
    }
    /// Accepts a message; it is receivable at once or after its delay.
    pub fn send(&self, _message: NewMessage) -> Result<Sent, SendError> {
        todo!()
    }
    /// Figures for the status line and `/_local/metrics`.
    pub fn counts(&self) -> Counts {
        todo!()
    }
}

/// Every queue of the template.
#[derive(Debug)]
pub struct Queues {}

impl Queues {
    /// One queue for each `AWS::SQS::Queue`.
    pub fn from_template(_template: &Template) -> anyhow::Result<Arc<Self>> {
        todo!()
    }
    /// By logical id, URL or ARN.
    pub fn get(&self, _any_name: &str) -> Option<Arc<Queue>> {
        todo!()
    }
    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Queue>> {
        todo!()
    }
}
