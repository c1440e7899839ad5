//! Emulates SQS: standard queues with visibility timeouts, receive counts and redrive to a DLQ.
//!
//! Invariants: a message is in exactly one queue and leaves it by deletion, purge, retention or redrive. Its id,
//! body, attributes and `SentTimestamp` never change within a queue. All messages are in memory; a snapshot carries
//! the remaining ones over to the next start.
mod checksum;
mod message;
mod misbehavior;
mod queue;
mod redrive;
mod settings;
mod snapshot;
mod state;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use uuid::Uuid;

use crate::template::{Resource, Template, physical};

pub use message::{Attribute, Attributes, Content, NewMessage, Receipt, Received, Value as AttributeValue};
pub use misbehavior::Misbehavior;
pub use queue::Queue;
pub(crate) use queue::visibility;
pub use redrive::{MoveTask, MoveTaskStatus};
pub use settings::{BATCH_ENTRIES_MAX, RECEIVE_MAX, WAIT_MAX};
pub use snapshot::Snapshot;
pub use state::IN_FLIGHT_MAX;

/// The result of a send.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Assigned by the queue.
    pub message_id: Uuid,
    /// Hex.
    pub md5_of_body: String,
    /// Hex; `None` without attributes.
    pub md5_of_attributes: Option<String>,
}

/// Message counts of one queue.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Visible: a receive can return these now.
    pub visible: u64,
    /// Received and not deleted, with a running visibility timeout.
    pub in_flight: u64,
    /// Sent with a delay that has not elapsed.
    pub delayed: u64,
    /// Messages accepted since start.
    pub sent_total: u64,
    /// Messages accepted from clients of the AWS endpoint, without those of an API integration.
    pub sent_by_clients: u64,
}

/// An SQS error.
#[derive(Debug, Clone)]
pub struct SendError {
    /// SQS's error code: `InvalidMessageContents`, `InvalidParameterValue`…
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl SendError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for SendError {}

/// All queues: those of the template and those created through the API.
#[derive(Debug)]
pub struct Queues {
    by_name: RwLock<BTreeMap<String, Arc<Queue>>>,
    names_by_id: BTreeMap<String, String>,
    aws_endpoint: String,
    move_tasks: Mutex<Vec<MoveTask>>,
}

/// SQS's limit on the length of a queue name.
const NAME_LENGTH_MAX: usize = 80;

/// Properties of `AWS::SQS::Queue` without effect on one machine. As in CloudFormation, a property that is neither
/// listed here nor settable is refused, which catches typos.
const WITHOUT_EFFECT: [&str; 7] = [
    "FifoQueue",
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "QueueName",
    "RedriveAllowPolicy",
    "SqsManagedSseEnabled",
    "Tags",
];

impl Queues {
    /// Creates one queue for each `AWS::SQS::Queue`.
    ///
    /// # Errors
    /// A queue with an unknown property, or with a value outside SQS's range.
    pub fn from_template(template: &Template) -> anyhow::Result<Arc<Self>> {
        let mut queues = Self {
            by_name: RwLock::default(),
            names_by_id: BTreeMap::new(),
            aws_endpoint: template.aws_endpoint().to_owned(),
            move_tasks: Mutex::default(),
        };
        let resources: Vec<&Resource> = template.of_kind("AWS::SQS::Queue").collect();
        for resource in &resources {
            let name = resource.properties["QueueName"].as_str().unwrap_or(&resource.id).to_owned();
            queues.create(&name).with_context(|| resource.id.clone())?;
            queues.names_by_id.insert(resource.id.clone(), name);
        }
        // A second pass: a redrive policy may name a queue that is defined later in the template.
        for resource in resources {
            queues.configure(resource).with_context(|| resource.id.clone())?;
        }
        Ok(Arc::new(queues))
    }

    fn configure(&self, resource: &Resource) -> anyhow::Result<()> {
        if resource.properties["FifoQueue"] == Value::Bool(true) {
            bail!("FIFO queues are not supported: leave FifoQueue out");
        }
        let queue = self.get(&resource.id).context("the queue was not created")?;
        for (name, value) in resource.properties.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if settings::is_settable(name) {
                self.set_attribute(&queue, name, &text)?;
            } else if !WITHOUT_EFFECT.contains(&name.as_str()) {
                bail!("{name} is not a property of a queue");
            }
        }
        Ok(())
    }

    /// Creates a queue, or returns the existing one of that name.
    ///
    /// # Errors
    /// `InvalidParameterValue` for an invalid name of a standard queue.
    pub fn create(&self, name: &str) -> Result<Arc<Queue>, SendError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || !name.chars().all(allowed) {
            return Err(SendError::new(
                "InvalidParameterValue",
                "a queue name has 1 to 80 letters, digits, hyphens or underscores",
            ));
        }
        let mut queues = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let queue =
            queues.entry(name.to_owned()).or_insert_with(|| Arc::new(Queue::new(name, &self.aws_endpoint)));
        Ok(Arc::clone(queue))
    }

    /// Removes a queue and its messages.
    pub fn remove(&self, name: &str) {
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Finds a queue by logical id, name, URL or ARN.
    pub fn get(&self, any_name: &str) -> Option<Arc<Queue>> {
        let name = if any_name.starts_with("arn:") {
            any_name.rsplit(':').next()
        } else {
            any_name.rsplit('/').next()
        }?;
        let name = self.names_by_id.get(name).map_or(name, String::as_str);
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Returns all queues, sorted by name.
    pub fn all(&self) -> Vec<Arc<Queue>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Returns the source queues of a DLQ.
    pub fn sources_of(&self, dead_letter_queue: &Arc<Queue>) -> Vec<Arc<Queue>> {
        self.all().into_iter().filter(|queue| queue.redrives_to(dead_letter_queue)).collect()
    }

    /// Sets one attribute of a queue, like `SetQueueAttributes`.
    ///
    /// # Errors
    /// `InvalidAttributeName`, or `InvalidAttributeValue` with the valid range.
    pub fn set_attribute(&self, queue: &Arc<Queue>, name: &str, value: &str) -> Result<(), SendError> {
        if name != "RedrivePolicy" {
            return queue.set_attribute(name, value);
        }
        let redrive = redrive::parse_policy(value)?
            .map(|(arn, max_receive_count)| {
                let target =
                    self.get(&arn).filter(|target| !Arc::ptr_eq(target, queue)).ok_or_else(|| {
                        SendError::new(
                            "InvalidAttributeValue",
                            format!("RedrivePolicy: there is no other queue {arn}"),
                        )
                    })?;
                Ok(redrive::Redrive { target: Arc::downgrade(&target), arn: target.arn(), max_receive_count })
            })
            .transpose()?;
        queue.set_redrive(redrive);
        Ok(())
    }
}

impl Queue {
    /// Returns the URL, which is the result of `Ref`.
    pub fn url(&self) -> String {
        physical::queue_url(self.endpoint(), self.name())
    }

    /// Returns the ARN, which is the result of `Fn::GetAtt`.
    pub fn arn(&self) -> String {
        physical::queue_arn(self.name())
    }
}

#[cfg(test)]
mod tests;
