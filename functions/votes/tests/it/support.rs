//! A handler with stores of its own.

use std::time::Duration;

use domain::{Poll, PollId, Timestamp};
use lambda_runtime::{Context, LambdaEvent};
use ledger::Ledger;
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::{Value, json};
use votes::Handler;

/// A timeout that only a hanging call exceeds.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The moment of casting of the tests' votes.
pub const CAST_AT: i64 = 1_750_000_000_000;

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

pub struct Fixture {
    pub scratch: Scratch,
    pub ledger: Ledger,
    pub handler: Handler,
}

impl Fixture {
    pub async fn new() -> Self {
        Self::with(|_, _| None).await
    }

    /// A handler whose environment has the variables that `change` returns.
    pub async fn with(change: impl Fn(&Scratch, &str) -> Option<String>) -> Self {
        let scratch = Scratch::new().await.unwrap();
        let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
        let lookup = |name: &str| change(&scratch, name).or_else(|| scratch.environment(name));
        let handler = Handler::new(&lookup, Clock::system()).unwrap();
        Self { scratch, ledger, handler }
    }

    pub async fn poll(&self, changes: Value) -> Poll {
        let mut draft = json!({
            "title": "Who stays?", "opensAt": at(CAST_AT - 1_000), "closesAt": at(CAST_AT + 1_000),
            "contestants": [{"name": "Ana"}, {"name": "Bia"}, {"name": "Caio"}],
        });
        draft.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap().poll
    }

    /// Delivers a batch. Returns the message ids reported as failed.
    pub async fn deliver(&self, records: &[Value]) -> Result<Vec<String>, votes::Error> {
        deliver(&self.handler, records).await
    }

    pub async fn audit(&self, poll: PollId) -> ledger::Audit {
        let audit = self.ledger.audit(poll, LIMIT).await.unwrap();
        assert_eq!(audit.ledger, audit.tally);
        audit
    }

    pub async fn votes(&self, poll: &Poll) -> u64 {
        self.audit(poll.id).await.ledger.values().sum()
    }
}

/// Delivers a batch to an instance. Returns the message ids reported as failed.
pub async fn deliver(handler: &Handler, records: &[Value]) -> Result<Vec<String>, votes::Error> {
    let event = serde_json::from_value(json!({ "Records": records })).unwrap();
    let response = handler.handle(LambdaEvent::new(event, Context::default())).await?;
    Ok(response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect())
}

/// A message of the gateway, as the event source mapping delivers it.
pub fn record(id: u128, sub: &str, sent_at: i64, body: &str) -> Value {
    json!({
        "messageId": uuid::Uuid::from_u128(id), "receiptHandle": "r", "body": body,
        "attributes": {
            "SentTimestamp": sent_at.to_string(), "ApproximateReceiveCount": "1", "MessageGroupId": sub,
        },
        "messageAttributes": {},
        "eventSource": "aws:sqs", "awsRegion": "us-east-1",
    })
}

pub fn vote(id: u128, sub: &str, body: &Value) -> Value {
    record(id, sub, CAST_AT, &body.to_string())
}
