use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use crate::{Aws, Error};

impl Aws {
    /// Sends a message to a queue, with string attributes. Not idempotent: each call adds a message.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
    ///
    /// # Errors
    /// See [`Error`]. Without an answer, the message may still be in the queue.
    pub async fn send_message(
        &self,
        queue_url: &str,
        body: &str,
        attributes: &[(&str, &str)],
    ) -> Result<(), Error> {
        let attributes: BTreeMap<_, _> = attributes
            .iter()
            .map(|(name, value)| (*name, json!({"DataType": "String", "StringValue": value})))
            .collect();
        let mut request = json!({"QueueUrl": queue_url, "MessageBody": body});
        if !attributes.is_empty() {
            request["MessageAttributes"] = json!(attributes);
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.0"));
        headers.insert("x-amz-target", HeaderValue::from_static("AmazonSQS.SendMessage"));
        let url = format!("{}/", self.endpoint("sqs"));
        let (_, answer) = self.send("sqs", "POST", &url, headers, request.to_string().into()).await?;
        serde_json::from_slice::<Value>(&answer).map(drop).map_err(Error::Unreadable)
    }

    /// Requests an invalidation of these paths of the distribution, through the invalidations queue. It is created
    /// within some 10 s, together with other requests. A path begins with a slash; a star at its end makes it a
    /// prefix. Call this after the change, never before. Idempotent.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ask_to_invalidate(&self, queue_url: &str, paths: &[&str]) -> Result<(), Error> {
        self.send_message(queue_url, &json!({"paths": paths}).to_string(), &[]).await
    }
}
