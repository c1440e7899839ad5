use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use crate::{Aws, Error};

impl Aws {
    /// Puts a message into a queue, with attributes of text. Not idempotent: sent twice, it is there twice.
    /// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>
    ///
    /// # Errors
    /// See [`Error`]; where there was no answer, the message may be in the queue all the same.
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

    /// Asks for paths of the distribution to be invalidated, through the invalidations queue: within some 10 s, together
    /// with what others ask for. A path begins with a slash; a star at its end stands for all that begin so. Send it
    /// after the change, never before. Harmless when repeated.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ask_to_invalidate(&self, queue_url: &str, paths: &[&str]) -> Result<(), Error> {
        self.send_message(queue_url, &json!({"paths": paths}).to_string(), &[]).await
    }
}
