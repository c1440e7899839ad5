//! SQS's actions.
//!
//! To add an action: 1. write a function in `messages.rs` or `queues.rs` that takes its deserialized request and
//! returns the response as JSON, `Null` without output; 2. add its name to [`call`].
mod messages;
mod queues;

use std::sync::Arc;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::error::ApiError;
use crate::sqs::{BATCH_ENTRIES_MAX, Queue, Queues};

type Answer = Result<Value, ApiError>;

/// Performs one action.
pub(super) async fn call(queues: &Queues, action: &str, body: &[u8]) -> Answer {
    match action {
        "SendMessage" => messages::send(queues, parse(body)?),
        "SendMessageBatch" => messages::send_batch(queues, parse(body)?),
        "ReceiveMessage" => messages::receive(queues, parse(body)?).await,
        "DeleteMessage" => messages::delete(queues, &parse(body)?),
        "DeleteMessageBatch" => messages::delete_batch(queues, &parse(body)?),
        "ChangeMessageVisibility" => messages::change_visibility(queues, &parse(body)?),
        "ChangeMessageVisibilityBatch" => messages::change_visibility_batch(queues, &parse(body)?),
        "GetQueueUrl" => queues::get_url(queues, &parse(body)?),
        "ListQueues" => queues::list(queues, &parse(body)?),
        "CreateQueue" => queues::create(queues, &parse(body)?),
        "DeleteQueue" => queues::delete(queues, &parse(body)?),
        "PurgeQueue" => queues::purge(queues, &parse(body)?),
        "GetQueueAttributes" => queues::get_attributes(queues, &parse(body)?),
        "SetQueueAttributes" => queues::set_attributes(queues, &parse(body)?),
        "ListDeadLetterSourceQueues" => queues::list_dead_letter_sources(queues, &parse(body)?),
        "StartMessageMoveTask" => queues::start_move(queues, &parse(body)?),
        "ListMessageMoveTasks" => queues::list_moves(queues, &parse(body)?),
        _ => Err(ApiError::new("UnsupportedOperation", format!("{action} is not supported on one machine"))),
    }
}

/// A request with a queue URL only.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueOnly {
    queue_url: String,
}

/// A batch request to one queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchRequest<T> {
    queue_url: String,
    entries: Vec<Entry<T>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<T> {
    id: String,
    #[serde(flatten)]
    request: T,
}

/// SQS's limit on the id of a batch entry.
const ENTRY_ID_LENGTH_MAX: usize = 80;

impl<T> BatchRequest<T> {
    fn check(&self) -> Result<(), ApiError> {
        if self.entries.is_empty() {
            return Err(ApiError::new(
                "EmptyBatchRequest",
                "There should be at least one entry in the request.",
            ));
        }
        if self.entries.len() > BATCH_ENTRIES_MAX {
            return Err(ApiError::new(
                "TooManyEntriesInBatchRequest",
                format!(
                    "Maximum number of entries per request are {BATCH_ENTRIES_MAX}. You have sent {}.",
                    self.entries.len()
                ),
            ));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        for (index, Entry { id, .. }) in self.entries.iter().enumerate() {
            if id.is_empty() || id.len() > ENTRY_ID_LENGTH_MAX || !id.chars().all(allowed) {
                return Err(ApiError::new(
                    "InvalidBatchEntryId",
                    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                     It can be at most 80 letters long.",
                ));
            }
            if self.entries[..index].iter().any(|other| other.id == *id) {
                return Err(ApiError::new("BatchEntryIdsNotDistinct", format!("Id {id} repeated.")));
            }
        }
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let code =
            if text.starts_with("missing field") { "MissingParameter" } else { "InvalidParameterValue" };
        ApiError::new(code, text)
    })
}

fn find(queues: &Queues, url: &str) -> Result<Arc<Queue>, ApiError> {
    queues.get(url).ok_or_else(ApiError::queue_does_not_exist)
}
