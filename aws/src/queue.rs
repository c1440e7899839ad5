use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde_json::json;

use crate::{Aws, Error};

/// Messages waiting, in flight, and delayed.
const COUNTS: [&str; 3] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
];

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

impl Aws {
    /// Returns SQS's estimate of the messages in a queue, including those in flight. It may lag by a minute.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn queued(&self, queue_url: &str) -> Result<u64, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
        headers.insert("x-amz-target", HeaderValue::from_static("AmazonSQS.GetQueueAttributes"));
        let body = json!({"QueueUrl": queue_url, "AttributeNames": COUNTS}).to_string();
        let url = format!("{}/", self.endpoint("sqs"));
        let (_, body) = self.send("sqs", "POST", &url, headers, body.into()).await?;
        let answer: Answer = serde_json::from_slice(&body)?;
        let count = |name: &str| answer.attributes.get(name).and_then(|count| count.parse::<u64>().ok());
        let counts: Option<Vec<_>> = COUNTS.iter().map(|name| count(name)).collect();
        let missing = || serde::de::Error::custom("a count is missing");
        Ok(counts.ok_or_else(missing).map_err(Error::Unreadable)?.iter().sum())
    }
}
