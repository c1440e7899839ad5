//! The two queues.

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

/// SQS's limit on the messages of one call.
pub const CALL_MESSAGES_MAX: usize = 10;

/// Bounds one call, its retries included. A call within a Region takes some 10 ms.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Bounds one attempt, so that [`CALL_TIMEOUT`] leaves room for another; longer than [`WAIT_SECONDS`].
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(2_500);

/// A receive that waits asks all of SQS's servers; one that does not may come back empty although there is something.
const WAIT_SECONDS: i32 = 1;

/// SQS did not do what it was asked. Trying again is safe.
#[derive(Debug, thiserror::Error)]
#[error("the queue is unavailable")]
pub struct Error(#[source] Box<aws_sdk_sqs::Error>);

impl<E: Into<aws_sdk_sqs::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

/// The votes' queue and its dead-letter queue.
#[derive(Debug)]
pub struct Queues {
    client: Client,
    votes_url: String,
    dead_letters_url: String,
    hasher: VoterHasher,
}

impl Queues {
    /// Reads `VOTES_QUEUE_URL`, `DEAD_LETTER_QUEUE_URL`, `VOTER_HASH_KEY` to sign with, and what Lambda itself sets for the SDK.
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
        // Lambda renews an instance before its credentials run out.
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
        // Elsewhere than on AWS, where the Region says it.
        config.set_endpoint_url(lookup("AWS_ENDPOINT_URL"));
        let client = Client::from_conf(config.build());
        Some(Self { client, votes_url: votes_url?, dead_letters_url: dead_letters_url?, hasher: hasher? })
    }

    /// Dead letters, those being looked at included: as SQS estimates them, up to a minute late.
    pub async fn dead_letters(&self) -> Result<u64, Error> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request = self.client.get_queue_attributes().queue_url(&self.dead_letters_url);
        let answer = request.set_attribute_names(Some(names.to_vec())).send().await?;
        let count = |name| answer.attributes()?.get(&name)?.parse::<u64>().ok();
        Ok(names.map(|name| count(name).unwrap_or(0)).iter().sum())
    }

    /// Up to [`CALL_MESSAGES_MAX`] dead letters, hidden from others for `hidden`; none when there seems to be none.
    pub async fn receive(&self, hidden: Duration) -> Result<Vec<Message>, Error> {
        let request = self
            .client
            .receive_message()
            .queue_url(&self.dead_letters_url)
            .max_number_of_messages(CALL_MESSAGES_MAX as i32)
            .wait_time_seconds(WAIT_SECONDS)
            .visibility_timeout(hidden.as_secs() as i32)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
        Ok(request.send().await?.messages.unwrap_or_default())
    }

    /// What was received, as dead letters.
    pub fn letters(&self, received: Vec<Message>) -> impl Iterator<Item = DeadLetter> {
        received.into_iter().filter_map(|message| DeadLetter::new(message, &self.hasher))
    }

    /// The signed message that a dead letter goes back as, named `entry` within its batch.
    ///
    /// # Errors
    /// None but those of the builder.
    pub fn sent_back(
        &self,
        letter: &DeadLetter,
        entry: usize,
    ) -> Result<SendMessageBatchRequestEntry, Error> {
        letter.sent_back(entry, &self.hasher)
    }

    /// Shows dead letters again, by their receipts. Those of which it fails appear by themselves later.
    pub async fn show_again(&self, receipts: &[&str]) -> Result<(), Error> {
        let entries = receipts.iter().enumerate().map(|(index, receipt)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(index.to_string());
            entry.receipt_handle(*receipt).visibility_timeout(0).build()
        });
        let entries = entries.collect::<Result<_, _>>()?;
        let request = self.client.change_message_visibility_batch().queue_url(&self.dead_letters_url);
        request.set_entries(Some(entries)).send().await?;
        Ok(())
    }

    /// Puts messages into the votes' queue; the ids of those entries that are in it.
    pub async fn send(&self, entries: Vec<SendMessageBatchRequestEntry>) -> Result<Vec<String>, Error> {
        let request = self.client.send_message_batch().queue_url(&self.votes_url);
        let answer = request.set_entries(Some(entries)).send().await?;
        for refused in answer.failed() {
            tracing::error!(code = refused.code(), message = refused.message(), "dead_letter.not_sent");
        }
        Ok(answer.successful.into_iter().map(|sent| sent.id).collect())
    }

    /// Takes dead letters out for good, by their receipts.
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
