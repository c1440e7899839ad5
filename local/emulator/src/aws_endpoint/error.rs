//! Errors in the format of SQS's JSON protocol.
use serde_json::{Value, json};

use crate::sqs::SendError;

/// An error response.
#[derive(Debug)]
pub(super) struct ApiError {
    code: &'static str,
    message: String,
}

/// Errors with a different code in the older query protocol, which clients expect in `x-amzn-query-error`.
const QUERY_CODES: [(&str, &str); 9] = [
    ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
    ("QueueNameExists", "QueueAlreadyExists"),
    ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
    ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest"),
    ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"),
    ("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
    ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"),
    ("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId"),
    ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation"),
];

impl ApiError {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn unknown_operation(message: impl Into<String>) -> Self {
        Self::new("UnknownOperationException", message)
    }

    pub fn queue_does_not_exist() -> Self {
        Self::new("QueueDoesNotExist", "The specified queue does not exist.")
    }

    pub fn body(&self) -> Value {
        json!({ "__type": self.kind(), "message": self.message })
    }

    /// Returns the value of the `x-amzn-query-error` header.
    pub fn query_error(&self) -> String {
        format!("{};Sender", self.query_code())
    }

    /// Builds an entry of a batch response's `Failed`.
    pub fn batch_entry(&self, id: &str) -> Value {
        json!({ "Id": id, "Code": self.query_code(), "Message": self.message, "SenderFault": true })
    }

    fn kind(&self) -> String {
        match self.code {
            "InvalidParameterValue" => "com.amazon.coral.service#InvalidParameterValueException".to_owned(),
            "MissingParameter" => "com.amazon.coral.service#MissingRequiredParameterException".to_owned(),
            "UnknownOperationException" => "com.amazon.coral.service#UnknownOperationException".to_owned(),
            code => format!("com.amazonaws.sqs#{code}"),
        }
    }

    fn query_code(&self) -> &'static str {
        QUERY_CODES.iter().find(|(code, _)| *code == self.code).map_or(self.code, |(_, query)| query)
    }
}

impl From<SendError> for ApiError {
    fn from(error: SendError) -> Self {
        Self { code: error.code, message: error.message }
    }
}
