//! An event of SQS, and one record of it as a vote. What the gateway sets is trusted, the body is not.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;
use shared::domain::{Malformed, Message, ProbeId, Timestamp, VoteRequest, VoterHasher};
use uuid::Uuid;

/// An event as Lambda delivers it, not yet read: the runtime would read it into strings of its own, some forty for each
/// record, and note the path to every one of them.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Event(Box<RawValue>);

impl Event {
    /// Reads what is needed of it.
    ///
    /// # Errors
    /// It is not an event of SQS.
    pub fn records(&self) -> Result<Vec<Record<'_>>, serde_json::Error> {
        #[derive(Deserialize)]
        struct Records<'a> {
            #[serde(rename = "Records", borrow)]
            records: Vec<Record<'a>>,
        }
        Ok(serde_json::from_str::<Records<'_>>(self.0.get())?.records)
    }
}

/// A record, as far as it matters.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<'a> {
    #[serde(borrow)]
    message_id: Option<Text<'a>>,
    body: Option<Body>,
    #[serde(borrow, default)]
    attributes: Attributes<'a>,
    #[serde(borrow, default)]
    message_attributes: MessageAttributes<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Attributes<'a> {
    #[serde(borrow)]
    sent_timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    approximate_receive_count: Option<Text<'a>>,
}

/// Those of [`shared::domain::attribute`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageAttributes<'a> {
    #[serde(borrow)]
    voter: Option<Attribute<'a>>,
    #[serde(borrow)]
    message_id: Option<Attribute<'a>>,
    #[serde(borrow)]
    cast_at: Option<Attribute<'a>>,
    #[serde(borrow)]
    probe: Option<Attribute<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribute<'a> {
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
}

/// Text of the event, copied only where it has escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A body, read where it stands: a vote is full of escapes. What is no vote may be a probe.
#[derive(Debug)]
struct Body(Result<VoteRequest, Malformed>, Option<ProbeId>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Body;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a body")
            }

            fn visit_str<E: Error>(self, body: &str) -> Result<Body, E> {
                let request = VoteRequest::parse(body);
                let probe = request.is_err().then(|| ProbeId::read(body)).flatten();
                Ok(Body(request, probe))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

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

impl Record<'_> {
    /// What the answer names it by.
    pub fn message_id(&self) -> Option<&str> {
        self.message_id.as_ref().map(Text::get)
    }

    /// Whether SQS has delivered it before: then a batch that it was in has failed.
    pub fn is_redelivered(&self) -> bool {
        let count = self.attributes.approximate_receive_count.as_ref().map(Text::get);
        count.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count > 1)
    }

    /// The probe that it is, and when it was sent; `None`: it is none of ours, whatever it says of itself.
    pub fn probe(&self, hasher: &VoterHasher) -> Option<(ProbeId, Timestamp)> {
        let signature = value(&self.message_attributes.probe)?;
        let probe = self.body.as_ref()?.1.filter(|probe| probe.is_signed(signature, hasher))?;
        Some((probe, self.sent_at()?))
    }

    fn sent_at(&self) -> Option<Timestamp> {
        let millis = self.attributes.sent_timestamp.as_ref()?.get();
        Timestamp::from_millis(millis.parse().ok()?)
    }

    /// Reads it as a message. An absent body is an empty one.
    ///
    /// What came back out of the dead-letter queue was sent anew, so it brings its first id and the moment it was cast
    /// along: by these it is judged and counted.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn message(&self, hasher: &VoterHasher) -> Result<Message, Unreadable> {
        let Self { attributes, message_attributes: set, .. } = self;
        let id = value(&set.message_id).or(self.message_id());
        let id = id.and_then(|id| Uuid::try_parse(id).ok()).ok_or(Unreadable::MessageId)?;
        let sent_at = value(&set.cast_at)
            .or_else(|| attributes.sent_timestamp.as_ref().map(Text::get))
            .and_then(|millis| Timestamp::from_millis(millis.parse().ok()?))
            .ok_or(Unreadable::CastAt)?;
        let voter = value(&set.voter).filter(|sub| !sub.is_empty()).map(|sub| hasher.voter(sub));
        let request = self.body.as_ref().map_or_else(|| VoteRequest::parse(""), |body| body.0.clone());
        Ok(Message { id, sent_at, voter, request })
    }
}

impl Text<'_> {
    fn get(&self) -> &str {
        &self.0
    }
}

fn value<'a>(attribute: &'a Option<Attribute<'_>>) -> Option<&'a str> {
    Some(attribute.as_ref()?.string_value.as_ref()?.get())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(id: &str, sent: Option<&str>, sub: Option<&str>) -> Value {
        let mut record = json!({
            "messageId": id, "body": r#"{"poll":1,"contestant":7}"#, "receiptHandle": "r", "eventSource": "aws:sqs",
            "attributes": { "ApproximateReceiveCount": "1" },
            "messageAttributes": { "requestId": { "stringValue": "r", "dataType": "String" } },
        });
        if let Some(sent) = sent {
            record["attributes"]["SentTimestamp"] = sent.into();
        }
        if let Some(sub) = sub {
            record["messageAttributes"]["voter"] = attribute(sub);
        }
        record
    }

    fn attribute(value: &str) -> Value {
        json!({ "stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String" })
    }

    fn read(record: &Value) -> Result<Message, Unreadable> {
        let text = json!({ "Records": [record] }).to_string();
        let event: Event = serde_json::from_str(&text).unwrap();
        event.records().unwrap()[0].message(&hasher())
    }

    fn hasher() -> VoterHasher {
        "0".repeat(64).parse().unwrap()
    }

    const ID: &str = "4e2c1f0a-0000-4000-8000-000000000001";

    #[test]
    fn a_record_of_the_gateway_is_a_vote() {
        let message = read(&record(ID, Some("1700000000000"), Some("alice"))).unwrap();
        assert_eq!(message.id.to_string(), ID);
        assert_eq!(message.sent_at.millis(), 1_700_000_000_000);
        assert_eq!(message.voter, Some(hasher().voter("alice")));
        assert_eq!(message.request.unwrap().contestant, 7);
    }

    #[test]
    fn without_the_authorizers_word_there_is_no_voter() {
        for sub in [None, Some("")] {
            assert_eq!(read(&record(ID, Some("1700000000000"), sub)).unwrap().voter, None);
        }
    }

    #[test]
    fn text_with_escapes_is_the_text_it_stands_for() {
        let sub = "\"alice\"\n\u{1f600}\\";
        let voter = read(&record(ID, Some("1700000000000"), Some(sub))).unwrap().voter;
        assert_eq!(voter, Some(hasher().voter(sub)));
    }

    #[test]
    fn an_absent_body_is_an_empty_one() {
        let mut record = record(ID, Some("1700000000000"), Some("alice"));
        for body in [None, Some(Value::Null), Some("".into())] {
            record.as_object_mut().unwrap().remove("body");
            record.as_object_mut().unwrap().extend(body.map(|body| ("body".to_owned(), body)));
            assert_eq!(read(&record).unwrap().request, VoteRequest::parse(""));
        }
    }

    #[test]
    fn a_redriven_record_is_the_vote_it_was() {
        const FIRST: &str = "4e2c1f0a-0000-4000-8000-000000000002";
        let redriven = |cast_at: &str, id: &str| {
            let mut record = record(ID, Some("1700000000000"), Some("alice"));
            record["messageAttributes"]["castAt"] = attribute(cast_at);
            record["messageAttributes"]["messageId"] = attribute(id);
            read(&record)
        };
        let vote = redriven("1600000000000", FIRST).unwrap();
        assert_eq!((vote.sent_at.millis(), vote.id.to_string()), (1_600_000_000_000, FIRST.to_owned()));
        assert_eq!(redriven("noon", FIRST).unwrap_err(), Unreadable::CastAt);
        assert_eq!(redriven("1600000000000", "7").unwrap_err(), Unreadable::MessageId);
    }

    #[test]
    fn a_probe_is_known_by_its_signature_alone() {
        let probe = |signature: &str, body: &str| {
            let mut record = record(ID, Some("1700000000000"), None);
            record["body"] = body.into();
            record["messageAttributes"]["probe"] = attribute(signature);
            let text = json!({ "Records": [record] }).to_string();
            let event: Event = serde_json::from_str(&text).unwrap();
            event.records().unwrap()[0].probe(&hasher()).map(|(probe, sent_at)| (probe.0, sent_at.millis()))
        };
        let signature = ProbeId(7).sign(&hasher()).to_string();
        assert_eq!(probe(&signature, &ProbeId(7).body()), Some((7, 1_700_000_000_000)));
        assert_eq!(probe(&signature, &ProbeId(8).body()), None, "another's");
        assert_eq!(probe("", &ProbeId(7).body()), None);
        assert_eq!(probe(&signature, r#"{"poll":1,"contestant":7}"#), None);
    }

    #[test]
    fn a_record_tells_whether_it_was_delivered_before() {
        let redelivered = |count: &str| {
            let mut record = record(ID, Some("1700000000000"), None);
            record["attributes"]["ApproximateReceiveCount"] = count.into();
            let text = json!({ "Records": [record] }).to_string();
            let event: Event = serde_json::from_str(&text).unwrap();
            event.records().unwrap()[0].is_redelivered()
        };
        assert_eq!(["1", "2", "1000", ""].map(redelivered), [false, true, true, false]);
    }

    #[test]
    fn what_sqs_would_not_make_is_told_apart() {
        let read = |id, sent| read(&record(id, sent, None)).unwrap_err();
        assert_eq!(read("7", Some("1700000000000")), Unreadable::MessageId);
        assert_eq!(read(ID, None), Unreadable::CastAt);
        assert_eq!(read(ID, Some("yesterday")), Unreadable::CastAt);
    }

    #[test]
    fn another_event_is_refused() {
        for text in [r#"{}"#, r#"{"Records":7}"#, r#"[]"#, r#"{"Records":[{"body":7}]}"#] {
            let event: Event = serde_json::from_str(text).unwrap();
            assert!(event.records().is_err(), "{text}");
        }
    }
}
