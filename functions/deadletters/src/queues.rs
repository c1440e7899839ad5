//! The votes queue and the dead-letter queue.

use std::time::Duration;

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region, timeout::TimeoutConfig},
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
        MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
    },
};
use domain::VoterHasher;
use runtime::environment;

use crate::dead_letter::DeadLetter;

/// SQS's limit on messages in one call.
pub const CALL_MESSAGES_MAX: usize = 10;

/// Timeout of one call, retries included. A call within a Region takes some 10 ms.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Timeout of one attempt, so that [`CALL_TIMEOUT`] allows a second one; longer than [`WAIT_SECONDS`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// Long polling, which queries all of SQS's servers. A short poll may return nothing from a queue that is not empty.
const WAIT_SECONDS: i32 = 1;

/// A call of SQS failed. A retry is safe.
#[derive(Debug, thiserror::Error)]
#[error("the queue is unavailable")]
pub struct Error(#[source] Box<aws_sdk_sqs::Error>);

impl<E: Into<aws_sdk_sqs::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

/// A client of the votes queue and its dead-letter queue.
#[derive(Debug)]
pub struct Queues {
    client: Client,
    votes_url: String,
    dead_letters_url: String,
    hasher: VoterHasher,
}

impl Queues {
    /// Reads `VOTES_QUEUE_URL`, `DEAD_LETTER_QUEUE_URL`, `VOTER_HASH_KEY` for signatures, and the variables that
    /// Lambda sets for the SDK.
    pub fn read(
        reader: &mut environment::Reader<'_>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Option<Self> {
        let votes_url = reader.text("VOTES_QUEUE_URL");
        let dead_letters_url = reader.text("DEAD_LETTER_QUEUE_URL");
        let hasher = reader.parsed("VOTER_HASH_KEY");
        let region = reader.text("AWS_REGION");
        let access_key_id = reader.text("AWS_ACCESS_KEY_ID");
        let secret_access_key = reader.text("AWS_SECRET_ACCESS_KEY");
        // Lambda replaces an instance before its credentials expire.
        let session_token = lookup("AWS_SESSION_TOKEN");
        let credentials =
            Credentials::new(access_key_id?, secret_access_key?, session_token, None, "environment");
        let timeouts = TimeoutConfig::builder()
            .operation_timeout(CALL_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(region?))
            .credentials_provider(credentials)
            .timeout_config(timeouts);
        // Set outside AWS only; on AWS the Region determines the endpoint.
        config.set_endpoint_url(lookup("AWS_ENDPOINT_URL"));
        let client = Client::from_conf(config.build());
        Some(Self { client, votes_url: votes_url?, dead_letters_url: dead_letters_url?, hasher: hasher? })
    }

    /// Returns SQS's estimate of the number of dead letters, including those in flight. It may lag by a minute.
    pub async fn count_dead_letters(&self) -> Result<u64, Error> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(&self.dead_letters_url);
        let answer = request.set_attribute_names(Some(names.to_vec())).send().await?;
        let count = |name| answer.attributes()?.get(&name)?.parse::<u64>().ok();
        Ok(names.map(|name| count(name).unwrap_or(0)).iter().sum())
    }

    /// Receives up to [`CALL_MESSAGES_MAX`] dead letters with this visibility timeout; none if the queue seems empty.
    pub async fn receive(&self, visibility_timeout: Duration) -> Result<Vec<Message>, Error> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.dead_letters_url)
            .max_number_of_messages(CALL_MESSAGES_MAX as i32)
            .wait_time_seconds(WAIT_SECONDS)
            .visibility_timeout(visibility_timeout.as_secs() as i32)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
        Ok(request.send().await?.messages.unwrap_or_default())
    }

    /// Parses received messages as dead letters.
    pub fn parse(&self, received: Vec<Message>) -> impl Iterator<Item = DeadLetter> {
        received.into_iter().filter_map(|message| DeadLetter::new(message, &self.hasher))
    }

    /// Builds the signed message that redrives a dead letter, as entry number `entry` of its batch.
    ///
    /// # Errors
    /// Only those of the builder.
    pub fn redrive_entry(
        &self,
        dead_letter: &DeadLetter,
        entry: usize,
    ) -> Result<SendMessageBatchRequestEntry, Error> {
        dead_letter.redrive_entry(entry, &self.hasher)
    }

    /// Makes dead letters visible again, by receipt. After a failure they become visible when their timeout ends.
    pub async fn make_visible(&self, receipts: &[&str]) -> Result<(), Error> {
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(*receipt).visibility_timeout(0).build()
        });
        let entries = entries.collect::<Result<_, _>>()?;
        let request = self.client.change_message_visibility_batch().queue_url(&self.dead_letters_url);
        request.set_entries(Some(entries)).send().await?;
        Ok(())
    }

    /// Sends messages to the votes queue. Returns the ids of the accepted entries.
    pub async fn send(&self, entries: Vec<SendMessageBatchRequestEntry>) -> Result<Vec<String>, Error> {
        let request = self.client.send_message_batch().queue_url(&self.votes_url);
        let answer = request.set_entries(Some(entries)).send().await?;
        for refused in answer.failed() {
            tracing::error!(code = refused.code(), message = refused.message(), "dead_letter.not_sent");
        }
        Ok(answer.successful.into_iter().map(|sent| sent.id).collect())
    }

    /// Deletes dead letters, by receipt.
    pub async fn delete(&self, receipts: &[&str]) -> Result<(), Error> {
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            DeleteMessageBatchRequestEntry::builder().id(index.to_string()).receipt_handle(*receipt).build()
        });
        let entries = entries.collect::<Result<_, _>>()?;
        let request = self.client.delete_message_batch().queue_url(&self.dead_letters_url);
        request.set_entries(Some(entries)).send().await?;
        Ok(())
    }
}
