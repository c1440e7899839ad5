//! One SQS record as a vote. What the gateway sets is trusted, the body is not.

use aws_lambda_events::sqs::SqsMessage;
use shared::domain::{Message, Timestamp, VoteRequest, VoterHasher, attribute};
use uuid::Uuid;

/// A record that SQS does not make: retrying cannot help, and only a defect or a hand can have put it there.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    /// Not a UUID.
    #[error("the record's messageId is not a UUID")]
    MessageId,
    /// Absent or not a time.
    #[error("the record has no SentTimestamp, or its castAt is not a time")]
    CastAt,
}

/// Reads a record. An absent body is an empty one.
///
/// What came back out of the dead-letter queue was sent anew, so it brings its first id and the moment it was cast
/// along: by these it is judged and counted.
pub fn message(record: &SqsMessage, hasher: &VoterHasher) -> Result<Message, Unreadable> {
    let id = text(record, attribute::MESSAGE_ID).or(record.message_id.as_deref());
    let id = id.and_then(|id| Uuid::try_parse(id).ok()).ok_or(Unreadable::MessageId)?;
    let sent_at = text(record, attribute::CAST_AT)
        .or_else(|| record.attributes.get("SentTimestamp").map(String::as_str))
        .and_then(|millis| Timestamp::from_millis(millis.parse().ok()?))
        .ok_or(Unreadable::CastAt)?;
    let sub = text(record, attribute::VOTER);
    let voter = sub.filter(|sub| !sub.is_empty()).map(|sub| hasher.voter(sub));
    let request = VoteRequest::parse(record.body.as_deref().unwrap_or_default());
    Ok(Message { id, sent_at, voter, request })
}

fn text<'a>(record: &'a SqsMessage, attribute: &str) -> Option<&'a str> {
    record.message_attributes.get(attribute)?.string_value.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, sent: Option<&str>, sub: Option<&str>) -> SqsMessage {
        let mut json =
            format!(r#"{{"messageId":"{id}","body":"{{\"poll\":1,\"contestant\":7}}","attributes":{{"#);
        json += &sent.map(|sent| format!(r#""SentTimestamp":"{sent}""#)).unwrap_or_default();
        json += r#"},"messageAttributes":{"#;
        json += &sub
            .map(|sub| format!(r#""voter":{{"stringValue":"{sub}","dataType":"String"}}"#))
            .unwrap_or_default();
        serde_json::from_str(&(json + "}}")).unwrap()
    }

    fn hasher() -> VoterHasher {
        "0".repeat(64).parse().unwrap()
    }

    const ID: &str = "4e2c1f0a-0000-4000-8000-000000000001";

    #[test]
    fn a_record_of_the_gateway_is_a_vote() {
        let message = message(&record(ID, Some("1700000000000"), Some("alice")), &hasher()).unwrap();
        assert_eq!(message.sent_at.millis(), 1_700_000_000_000);
        assert_eq!(message.voter, Some(hasher().voter("alice")));
        assert_eq!(message.request.unwrap().contestant, 7);
    }

    #[test]
    fn without_the_authorizers_word_there_is_no_voter() {
        for sub in [None, Some("")] {
            assert_eq!(message(&record(ID, Some("1700000000000"), sub), &hasher()).unwrap().voter, None);
        }
    }

    #[test]
    fn a_redriven_record_is_the_vote_it_was() {
        const FIRST: &str = "4e2c1f0a-0000-4000-8000-000000000002";
        let redriven = |cast_at: &str, id: &str| {
            let mut record = record(ID, Some("1700000000000"), Some("alice"));
            for (name, value) in [("castAt", cast_at), ("messageId", id)] {
                let value = serde_json::json!({"stringValue": value, "dataType": "String"});
                record.message_attributes.insert(name.to_owned(), serde_json::from_value(value).unwrap());
            }
            message(&record, &hasher())
        };
        let read = redriven("1600000000000", FIRST).unwrap();
        assert_eq!((read.sent_at.millis(), read.id.to_string()), (1_600_000_000_000, FIRST.to_owned()));
        assert_eq!(redriven("noon", FIRST).unwrap_err(), Unreadable::CastAt);
        assert_eq!(redriven("1600000000000", "7").unwrap_err(), Unreadable::MessageId);
    }

    #[test]
    fn what_sqs_would_not_make_is_told_apart() {
        let read = |id, sent| message(&record(id, sent, None), &hasher()).unwrap_err();
        assert_eq!(read("7", Some("1700000000000")), Unreadable::MessageId);
        assert_eq!(read(ID, None), Unreadable::CastAt);
        assert_eq!(read(ID, Some("yesterday")), Unreadable::CastAt);
    }
}
