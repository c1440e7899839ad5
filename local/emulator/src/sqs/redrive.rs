//! Redrive: to a DLQ by receive count, and from it by a message move task.
use std::sync::{Arc, PoisonError, Weak};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Queue, Queues, SendError, message::Content, state::Entry};
use crate::{clock::now_ms, template};

/// SQS's range of `maxReceiveCount`.
const MAX_RECEIVE_COUNT: std::ops::RangeInclusive<u64> = 1..=1_000;
/// Number of finished tasks kept for `ListMessageMoveTasks`.
const MOVE_TASKS_KEPT: usize = 10;

/// A redrive policy: the DLQ and the maximum receive count.
#[derive(Debug, Clone)]
pub(super) struct Redrive {
    pub target: Weak<Queue>,
    pub arn: String,
    pub max_receive_count: u32,
}

impl Redrive {
    pub fn to_json(&self) -> String {
        json!({ "deadLetterTargetArn": self.arn, "maxReceiveCount": self.max_receive_count }).to_string()
    }
}

/// Parses a policy to the DLQ's ARN and the maximum receive count; `None`: an empty text, which removes the policy.
pub(super) fn parse_policy(text: &str) -> Result<Option<(String, u32)>, SendError> {
    let invalid =
        |problem: &str| SendError::new("InvalidAttributeValue", format!("RedrivePolicy {text}: {problem}"));
    if text.is_empty() {
        return Ok(None);
    }
    let policy: Value = serde_json::from_str(text).map_err(|_| invalid("not JSON"))?;
    let arn = policy["deadLetterTargetArn"].as_str().ok_or_else(|| invalid("needs a deadLetterTargetArn"))?;
    let count = template::number(policy.get("maxReceiveCount"), MAX_RECEIVE_COUNT)
        .ok()
        .flatten()
        .ok_or_else(|| invalid("maxReceiveCount must be a whole number from 1 to 1000"))?;
    // The cast is lossless: the range above ends at 1000.
    Ok(Some((arn.to_owned(), count as u32)))
}

/// The status of a move task. The emulator moves all messages at once, so no task is ever running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveTaskStatus {
    /// Every visible message was moved.
    Completed,
    /// Some messages stayed: their source queue is unknown or deleted.
    Failed,
}

/// One `StartMessageMoveTask`.
#[derive(Debug, Clone)]
pub struct MoveTask {
    /// `TaskHandle`.
    pub handle: String,
    /// ARN of the DLQ.
    pub source_arn: String,
    /// ARN of the destination queue, if the call named one.
    pub destination_arn: Option<String>,
    /// The final status.
    pub status: MoveTaskStatus,
    /// Messages moved.
    pub moved: u64,
    /// Visible messages in the DLQ at the start.
    pub to_move: u64,
    /// The time of the start, in milliseconds since 1970.
    pub started_ms: u64,
}

impl Queues {
    /// Moves a DLQ's visible messages to `destination`, or each one to its source queue.
    ///
    /// A moved message is a new message, with a new id and a new `SentTimestamp`, as AWS documents.
    ///
    /// # Errors
    /// `ResourceNotFoundException` for an unknown queue, `InvalidParameterValue` for a source that is not a DLQ.
    pub fn start_move(&self, source: &str, destination: Option<&str>) -> Result<MoveTask, SendError> {
        let find = |arn: &str| {
            self.get(arn).ok_or_else(|| {
                SendError::new("ResourceNotFoundException", format!("there is no queue with the ARN {arn}"))
            })
        };
        let source = find(source)?;
        let destination = destination.map(find).transpose()?;
        if self.sources_of(&source).is_empty() {
            return Err(SendError::new(
                "InvalidParameterValue",
                "Source queue must be configured as a Dead Letter Queue.",
            ));
        }
        let to_move = source.counts().visible;
        let target_of = |entry: &Entry| match &destination {
            Some(destination) => Some(Arc::clone(destination)),
            None => entry.dead_letter_source.as_deref().and_then(|arn| self.get(arn)),
        };
        let moving = source.remove_visible(|entry| target_of(entry).is_some());
        let moved = moving.len() as u64;
        for entry in moving {
            match target_of(&entry) {
                Some(target) => target.push(as_new_message(&entry.content)),
                // The source queue was deleted concurrently; the message stays in the DLQ.
                None => source.push(entry),
            }
        }
        let task = MoveTask {
            handle: Uuid::new_v4().to_string(),
            source_arn: source.arn(),
            destination_arn: destination.map(|queue| queue.arn()),
            status: if moved < to_move { MoveTaskStatus::Failed } else { MoveTaskStatus::Completed },
            moved,
            to_move,
            started_ms: now_ms(),
        };
        self.record_task(task.clone());
        Ok(task)
    }

    /// Returns the latest move tasks of a DLQ, newest first.
    pub fn move_tasks(&self, source_arn: &str) -> Vec<MoveTask> {
        let tasks = self.move_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().rev().filter(|task| task.source_arn == source_arn).cloned().collect()
    }

    fn record_task(&self, task: MoveTask) {
        let mut tasks = self.move_tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.len() >= MOVE_TASKS_KEPT {
            tasks.remove(0);
        }
        tasks.push(task);
    }
}

fn as_new_message(content: &Content) -> Entry {
    Entry::new(Arc::new(Content {
        id: Uuid::new_v4(),
        body: content.body.clone(),
        attributes: content.attributes.clone(),
        group_id: content.group_id.clone(),
        sent_ms: now_ms(),
        md5_of_body: content.md5_of_body,
    }))
}
