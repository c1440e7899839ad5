use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Rejection, Timestamp, Voter};

/// The largest body that is looked at. A vote with every field is about 120 bytes; SQS lets 1 MiB pass.
pub const BODY_BYTES_MAX: usize = 1_024;

/// Names of a message's attributes, which a client does not set. A redrive out of the dead-letter queue sets the first
/// three, which are believed only together: see [`Redrive`](super::Redrive).
pub mod attribute {
    /// The id that SQS gave the message when it was cast, a UUID. Sending it again gave it another one.
    pub const MESSAGE_ID: &str = "messageId";
    /// When the vote was cast, in milliseconds since the Unix epoch.
    pub const CAST_AT: &str = "castAt";
    /// Our signature over body, voter, moment and message.
    pub const SIGNATURE: &str = "redriveSignature";
    /// The signature of a probe: `functions/results` sets it.
    pub const PROBE: &str = "probe";
}

/// A vote as the client sent it: well-formed, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VoteRequest {
    /// Any number a client may think of.
    pub poll: i64,
    /// Likewise.
    pub contestant: i64,
    /// Minted by the client: a retry with the same id counts once.
    #[serde(default)]
    pub id: Option<Uuid>,
    /// Which of the voter's allowed votes this is.
    #[serde(default)]
    pub ballot: Option<i64>,
}

/// A body that is not a vote. The poll it names is kept where it can be read, so that the poll's audit shows it; its
/// id likewise, so that its voter can ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Which kind of malformed.
    pub reason: Rejection,
    /// The poll, if that much could be read.
    pub poll: Option<i64>,
    /// The client's id, if that much could be read.
    pub id: Option<Uuid>,
}

impl VoteRequest {
    /// Reads a request body. Fields the contract does not name are ignored.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`], [`NotJson`](Rejection::NotJson), [`MissingField`](Rejection::MissingField) or
    /// [`WrongType`](Rejection::WrongType).
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Malformed { reason: Rejection::TooLarge, poll: None, id: None });
        }
        // A list of values in the fields' order would be read as the object, too.
        if !body.trim_start().starts_with('{') {
            return Err(diagnose(body));
        }
        serde_json::from_str(body).map_err(|_| diagnose(body))
    }
}

/// The slow second look that only a bad body gets.
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

/// One vote out of the queue.
#[derive(Debug, Clone)]
pub struct Message {
    /// Given by SQS when the vote was cast, constant across redeliveries and redrives.
    pub id: Uuid,
    /// The moment the vote was cast: SQS's `SentTimestamp`, constant across redeliveries; redrives bring it along.
    pub sent_at: Timestamp,
    /// Who voted; `None` when the gateway's authorizer has not been passed.
    pub voter: Option<Voter>,
    /// What they sent.
    pub request: Result<VoteRequest, Malformed>,
}

impl Message {
    /// The id that the client gave the vote, as far as it can be read.
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
