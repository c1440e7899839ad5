use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Rejection, Timestamp, Voter};

/// The largest body that is parsed. A vote with every field is about 120 bytes; SQS accepts 1 MiB.
pub const BODY_BYTES_MAX: usize = 1_024;

/// Names of message attributes, which a client cannot set. A redrive from the dead-letter queue sets the first three.
/// They are accepted only together: see [`Redrive`](super::Redrive).
pub mod attribute {
    /// The id that SQS gave the message when the vote was cast, a UUID. A redriven message has a new id of its own.
    pub const MESSAGE_ID: &str = "messageId";
    /// The time when the vote was cast, in milliseconds since the Unix epoch.
    pub const CAST_AT: &str = "castAt";
    /// Our signature over body, voter, cast time and message id.
    pub const SIGNATURE: &str = "redriveSignature";
    /// The signature of a probe, set by `functions/results`.
    pub const PROBE: &str = "probe";
}

/// A vote as sent by the client: well-formed, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VoteRequest {
    /// The poll's number, unchecked.
    pub poll: i64,
    /// The contestant's number, unchecked.
    pub contestant: i64,
    /// The client's idempotency key: a retry with the same id counts once.
    #[serde(default)]
    pub id: Option<Uuid>,
    /// The voter's ballot, from 1, in a poll with a limit.
    #[serde(default)]
    pub ballot: Option<i64>,
}

/// A body that is not a vote. It keeps the poll's number for the poll's audit, and the client's id for the voter's
/// receipt, if they can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The kind of error.
    pub reason: Rejection,
    /// The poll's number, if readable.
    pub poll: Option<i64>,
    /// The client's id, if readable.
    pub id: Option<Uuid>,
}

impl VoteRequest {
    /// Parses a request body. Fields that the contract does not define are ignored.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`], [`NotJson`](Rejection::NotJson), [`MissingField`](Rejection::MissingField) or
    /// [`WrongType`](Rejection::WrongType).
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Malformed { reason: Rejection::TooLarge, poll: None, id: None });
        }
        // Serde would also accept an array of the values in the fields' order.
        if !body.trim_start().starts_with('{') {
            return Err(diagnose(body));
        }
        serde_json::from_str(body).map_err(|_| diagnose(body))
    }
}

/// Finds the reason why a body is malformed. This second, slower parse runs only for malformed bodies.
fn diagnose(body: &str) -> Malformed {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return Malformed { reason: Rejection::NotJson, poll: None, id: None };
    };
    let absent = |field| value.is_object() && value.get(field).is_none();
    let reason =
        if absent("poll") || absent("contestant") { Rejection::MissingField } else { Rejection::WrongType };
    let id = value.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
    Malformed { reason, poll: value.get("poll").and_then(Value::as_i64), id }
}

/// One vote from the queue.
#[derive(Debug, Clone)]
pub struct Message {
    /// The id that SQS gave the message when the vote was cast, constant across redeliveries and redrives.
    pub id: Uuid,
    /// The time when the vote was cast: SQS's `SentTimestamp`, constant across redeliveries. Redrives carry it along.
    pub sent_at: Timestamp,
    /// The voter. `None` if the message did not pass the gateway's authorizer.
    pub voter: Option<Voter>,
    /// The parsed body.
    pub request: Result<VoteRequest, Malformed>,
}

impl Message {
    /// Returns the id that the client gave the vote, if readable.
    pub fn client_id(&self) -> Option<Uuid> {
        self.request.as_ref().map_or_else(|malformed| malformed.id, |request| request.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(body: &str) -> Rejection {
        VoteRequest::parse(body).unwrap_err().reason
    }

    #[test]
    fn a_vote_is_read_whole() {
        let body =
            r#"{"poll":1,"contestant":7,"id":"0194f0c0-0000-7000-8000-000000000000","ballot":3,"extra":[]}"#;
        let vote = VoteRequest::parse(body).unwrap();
        assert_eq!((vote.poll, vote.contestant, vote.ballot), (1, 7, Some(3)));
        assert!(vote.id.is_some());
    }

    #[test]
    fn each_kind_of_bad_body_has_its_reason() {
        assert_eq!(reason("vote for Ana"), Rejection::NotJson);
        assert_eq!(reason(""), Rejection::NotJson);
        assert_eq!(reason(r#"{"poll":1,"contestant":"#), Rejection::NotJson);
        assert_eq!(reason(r#"{"poll":1}"#), Rejection::MissingField);
        assert_eq!(reason(r#"{"poll":1,"contestant":"7"}"#), Rejection::WrongType);
        assert_eq!(reason(r#"{"poll":1.5,"contestant":7}"#), Rejection::WrongType);
        assert_eq!(reason(r#"{"poll":1,"contestant":7,"id":"7"}"#), Rejection::WrongType);
        assert_eq!(reason(r#"{"poll":1,"contestant":7,"ballot":"1"}"#), Rejection::WrongType);
        assert_eq!(reason("[1,7]"), Rejection::WrongType);
        assert_eq!(reason(r#"{"poll":1,"poll":2,"contestant":7}"#), Rejection::WrongType);
    }

    #[test]
    fn the_limit_is_on_bytes() {
        let padded = |bytes: usize| format!("{:bytes$}", r#"{"poll":1,"contestant":7}"#);
        assert!(VoteRequest::parse(&padded(BODY_BYTES_MAX)).is_ok());
        assert_eq!(reason(&padded(BODY_BYTES_MAX + 1)), Rejection::TooLarge);
    }

    #[test]
    fn a_bad_body_is_booked_on_the_poll_it_names() {
        assert_eq!(VoteRequest::parse(r#"{"poll":4}"#).unwrap_err().poll, Some(4));
        assert_eq!(VoteRequest::parse("{").unwrap_err().poll, None);
    }

    #[test]
    fn a_bad_body_keeps_the_id_it_gives() {
        let id = |body| VoteRequest::parse(body).unwrap_err().id;
        let given = Uuid::from_u128(0x0194_f0c0_0000_7000_8000_0000_0000_0000);
        assert_eq!(id(r#"{"poll":1,"id":"0194f0c0-0000-7000-8000-000000000000"}"#), Some(given));
        assert_eq!(id(r#"{"poll":1,"contestant":7,"id":"7"}"#), None);
    }
}
