//! Snapshots of the queues: written at exit, restored at the next start.
use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Queues, SendError, message::Content, state::Entry};

/// All messages of all queues; messages in flight or delayed are visible after the restore.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    queues: BTreeMap<String, Vec<SavedMessage>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedMessage {
    content: Arc<Content>,
    dead_letter_source: Option<Arc<str>>,
    first_received_ms: u64,
    receive_count: u32,
    deliveries: u32,
}

impl Snapshot {
    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.queues.values().map(Vec::len).sum()
    }

    /// Whether no queue has a message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Queues {
    /// Takes a snapshot of all queues; bodies are shared, not copied.
    pub fn snapshot(&self) -> Snapshot {
        let saved = |entry: &Entry| SavedMessage {
            content: Arc::clone(&entry.content),
            dead_letter_source: entry.dead_letter_source.clone(),
            first_received_ms: entry.first_received_ms,
            receive_count: entry.receive_count,
            deliveries: entry.deliveries,
        };
        let queues =
            self.all().iter().map(|queue| (queue.name().to_owned(), queue.map_entries(saved))).collect();
        Snapshot { queues }
    }

    /// Restores a snapshot's messages with their ids, `SentTimestamp`s and receive counts.
    ///
    /// # Errors
    /// `QueueDoesNotExist` if a queue with messages no longer exists; then no message is restored.
    pub fn restore(&self, snapshot: Snapshot) -> Result<(), SendError> {
        let mut pairs = Vec::new();
        for (name, messages) in snapshot.queues.into_iter().filter(|(_, messages)| !messages.is_empty()) {
            let queue = self.get(&name).ok_or_else(|| {
                SendError::new(
                    "QueueDoesNotExist",
                    format!(
                        "{} saved messages belong to {name}, a queue that no longer exists",
                        messages.len()
                    ),
                )
            })?;
            pairs.push((queue, messages));
        }
        for (queue, messages) in pairs {
            for saved in messages {
                let mut entry = Entry::new(saved.content);
                entry.dead_letter_source = saved.dead_letter_source;
                entry.first_received_ms = saved.first_received_ms;
                entry.receive_count = saved.receive_count;
                entry.deliveries = saved.deliveries;
                queue.push(entry);
            }
        }
        Ok(())
    }
}
