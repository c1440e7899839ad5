//! Parses SQS events and their records. System attributes, which SQS and the gateway set, are trusted. The body is
//! untrusted input. Message attributes are trusted only with a valid signature of the service.

use std::{borrow::Cow, fmt};

use domain::{Malformed, Message, ProbeId, Redrive, Rejection, Timestamp, VoteRequest, VoterHasher};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};
use serde_json::value::RawValue;
use uuid::Uuid;

/// An event as Lambda delivers it, unparsed. The runtime's own parser would allocate some forty strings for each
/// record and track the path to each of them.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub struct Event(Box<RawValue>);

#[derive(Deserialize)]
struct Records<T> {
    #[serde(rename = "Records")]
    records: Vec<T>,
}

impl Event {
    /// Parses the records. A record of an unexpected shape does not affect the others; only its id is read.
    ///
    /// # Errors
    /// The event is not an SQS event.
    pub fn records(&self) -> Result<Vec<Record<'_>>, serde_json::Error> {
        let text = self.0.get();
        if let Ok(event) = serde_json::from_str::<Records<Record<'_>>>(text) {
            return Ok(event.records);
        }
        let each = serde_json::from_str::<Records<&RawValue>>(text)?.records.into_iter();
        Ok(each.map(|record| Record::read(record.get())).collect())
    }
}

/// The fields of an SQS record that the function uses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record<'a> {
    #[serde(borrow)]
    message_id: Option<Text<'a>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
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
    /// The token's `sub`. The gateway passes it as a separate parameter, so its text cannot set any other attribute.
    #[serde(borrow)]
    message_group_id: Option<Text<'a>>,
}

/// The attributes of [`domain::attribute`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageAttributes<'a> {
    #[serde(borrow)]
    message_id: Option<Attribute<'a>>,
    #[serde(borrow)]
    cast_at: Option<Attribute<'a>>,
    #[serde(borrow)]
    probe: Option<Attribute<'a>>,
    #[serde(borrow)]
    redrive_signature: Option<Attribute<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attribute<'a> {
    #[serde(borrow)]
    string_value: Option<Text<'a>>,
}

/// A string of the event, copied only if it has escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A body, parsed in place: a vote in JSON is full of escapes.
#[derive(Debug)]
struct Body(Result<VoteRequest, Malformed>);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Body;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a body")
            }

            fn visit_str<E: Error>(self, body: &str) -> Result<Body, E> {
                Ok(Body(VoteRequest::parse(body)))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// A record's message id and moment of casting, both as text.
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    message_id: &'a str,
    cast_at_ms: Option<&'a str>,
}

impl<'a> Record<'a> {
    /// Parses one record. Keeps only the id of a record of an unexpected shape.
    fn read(text: &'a str) -> Self {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct IdOnly<'a> {
            #[serde(borrow)]
            message_id: Option<Text<'a>>,
        }
        serde_json::from_str(text).unwrap_or_else(|_| {
            let id = serde_json::from_str::<IdOnly<'_>>(text).ok();
            Self { message_id: id.and_then(|id| id.message_id), ..Self::default() }
        })
    }

    /// Returns whether SQS has delivered this record before. If so, an earlier batch with it failed.
    pub fn is_redelivered(&self) -> bool {
        let count = text(&self.attributes.approximate_receive_count);
        count.and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count > 1)
    }

    /// Returns the probe and when it was sent; `None` without a valid signature of the service.
    pub fn probe(&self, hasher: &VoterHasher) -> Option<(ProbeId, Timestamp)> {
        let signature = value(&self.message_attributes.probe)?;
        let probe = ProbeId::read(&self.body()?.0).filter(|probe| probe.is_signed(signature, hasher))?;
        Some((probe, time(text(&self.attributes.sent_timestamp))?))
    }

    /// Parses the record as a message. A missing body counts as empty. A record without a time, or whose id is not
    /// a UUID, becomes a message rejected as [`Rejection::Unreadable`], cast when it `arrived`: no retry would
    /// change it. Returns `None` for a record without an id, which cannot be recorded.
    ///
    /// A redriven message was sent a second time. Its attributes hold its first id and the moment of casting, and
    /// it is judged and counted by these if they carry the redrive's signature.
    pub fn message(&self, hasher: &VoterHasher, arrived: Timestamp) -> Option<Message> {
        let own_id = text(&self.message_id).filter(|id| !id.is_empty())?;
        let sent = Origin { message_id: own_id, cast_at_ms: text(&self.attributes.sent_timestamp) };
        let origin = self.redriven(hasher).unwrap_or(sent);
        let sub = self.voter();
        let voter = (!sub.is_empty()).then(|| hasher.voter(sub));
        let request = self.request();
        let id = Uuid::try_parse(origin.message_id).ok();
        let sent_at = time(origin.cast_at_ms);
        let is_readable = id.is_some() && sent_at.is_some();
        Some(Message {
            id: id.unwrap_or_else(|| hasher.unreadable_id(origin.message_id)),
            sent_at: sent_at.unwrap_or(arrived),
            voter,
            request: if is_readable { request } else { Err(unreadable(&request)) },
        })
    }

    /// Returns the origin that the redrive attached; `None` without a valid signature of the service.
    fn redriven(&self, hasher: &VoterHasher) -> Option<Origin<'_>> {
        let set = &self.message_attributes;
        let signature = value(&set.redrive_signature)?;
        let (message_id, cast_at_ms) = (value(&set.message_id)?, value(&set.cast_at)?);
        let body = self.body();
        let body = body.as_ref().map_or("", |body| &body.0);
        let redrive = Redrive { body, voter: self.voter(), cast_at_ms, message_id };
        if !redrive.is_signed(signature, hasher) {
            tracing::warn!("redrive.not_believed");
            return None;
        }
        Some(Origin { message_id, cast_at_ms: Some(cast_at_ms) })
    }

    /// Returns the token's `sub`; empty if the message did not pass the gateway's authorizer.
    fn voter(&self) -> &str {
        text(&self.attributes.message_group_id).unwrap_or_default()
    }

    /// Returns the body as text. Votes are parsed in place instead.
    fn body(&self) -> Option<Text<'_>> {
        serde_json::from_str(self.body?.get()).ok()
    }

    fn request(&self) -> Result<VoteRequest, Malformed> {
        let read = self.body.and_then(|body| serde_json::from_str::<Body>(body.get()).ok());
        read.map_or_else(|| VoteRequest::parse(""), |body| body.0)
    }
}

/// Keeps the poll and the client's id of an unreadable record, so that the poll's audit and the voter can find it.
fn unreadable(request: &Result<VoteRequest, Malformed>) -> Malformed {
    let (poll, id) = match request {
        Ok(request) => (Some(request.poll), request.id),
        Err(malformed) => (malformed.poll, malformed.id),
    };
    Malformed { reason: Rejection::Unreadable, poll, id }
}

fn time(millis: Option<&str>) -> Option<Timestamp> {
    Timestamp::from_millis(millis?.parse().ok()?)
}

fn text<'a>(text: &'a Option<Text<'_>>) -> Option<&'a str> {
    text.as_ref().map(|text| &*text.0)
}

fn value<'a>(attribute: &'a Option<Attribute<'_>>) -> Option<&'a str> {
    text(&attribute.as_ref()?.string_value)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const BODY: &str = r#"{"poll":1,"contestant":7}"#;
    const ID: &str = "4e2c1f0a-0000-4000-8000-000000000001";
    const FIRST: &str = "4e2c1f0a-0000-4000-8000-000000000002";
    const SENT: Option<&str> = Some("1700000000000");
    const CAST: &str = "1600000000000";
    const ARRIVED_MS: i64 = 1_800_000_000_000;

    fn record(id: &str, sent: Option<&str>, sub: Option<&str>) -> Value {
        let mut record = json!({
            "messageId": id, "body": BODY, "receiptHandle": "r", "eventSource": "aws:sqs",
            "attributes": { "ApproximateReceiveCount": "1" },
            "messageAttributes": { "requestId": { "stringValue": "r", "dataType": "String" } },
        });
        if let Some(sent) = sent {
            record["attributes"]["SentTimestamp"] = sent.into();
        }
        if let Some(sub) = sub {
            record["attributes"]["MessageGroupId"] = sub.into();
        }
        record
    }

    fn attribute(value: &str) -> Value {
        json!({ "stringValue": value, "stringListValues": [], "binaryListValues": [], "dataType": "String" })
    }

    fn read_all(records: &[Value]) -> Vec<Option<Message>> {
        let text = json!({ "Records": records }).to_string();
        let event: Event = serde_json::from_str(&text).unwrap();
        let arrived = Timestamp::from_millis(ARRIVED_MS).unwrap();
        event.records().unwrap().iter().map(|record| record.message(&hasher(), arrived)).collect()
    }

    fn read(record: &Value) -> Message {
        read_all(std::slice::from_ref(record)).remove(0).unwrap()
    }

    fn reason(message: Message) -> Rejection {
        message.request.unwrap_err().reason
    }

    fn hasher() -> VoterHasher {
        "0".repeat(64).parse().unwrap()
    }

    #[test]
    fn a_record_of_the_gateway_is_a_vote() {
        let message = read(&record(ID, SENT, Some("alice")));
        assert_eq!(message.id.to_string(), ID);
        assert_eq!(message.sent_at.millis(), 1_700_000_000_000);
        assert_eq!(message.voter, Some(hasher().voter("alice")));
        assert_eq!(message.request.unwrap().votes[0].unwrap().contestant, 7);
    }

    #[test]
    fn a_record_without_a_subject_has_no_voter() {
        for sub in [None, Some("")] {
            assert_eq!(read(&record(ID, SENT, sub)).voter, None);
        }
    }

    #[test]
    fn an_attribute_names_no_voter_no_moment_and_no_message() {
        let mut crafted = record(ID, SENT, Some("mallory"));
        for (name, value) in [("voter", "victim"), ("castAt", CAST), ("messageId", FIRST)] {
            crafted["messageAttributes"][name] = attribute(value);
        }
        for signature in [None, Some(""), Some("00112233445566778899aabbccddeeff")] {
            if let Some(signature) = signature {
                crafted["messageAttributes"]["redriveSignature"] = attribute(signature);
            }
            let message = read(&crafted);
            assert_eq!(
                (message.id.to_string(), message.sent_at.millis()),
                (ID.to_owned(), 1_700_000_000_000)
            );
            assert_eq!(message.voter, Some(hasher().voter("mallory")));
        }
        crafted["messageAttributes"]["castAt"] = attribute("-5");
        assert!(read(&crafted).request.is_ok(), "nor does one make a record unreadable");
    }

    #[test]
    fn text_with_escapes_is_the_text_it_stands_for() {
        let sub = "\"alice\"\n\u{1f600}\\";
        assert_eq!(read(&record(ID, SENT, Some(sub))).voter, Some(hasher().voter(sub)));
    }

    #[test]
    fn an_absent_body_is_an_empty_one() {
        let mut record = record(ID, SENT, Some("alice"));
        for body in [None, Some(Value::Null), Some("".into()), Some(7.into())] {
            record.as_object_mut().unwrap().remove("body");
            record.as_object_mut().unwrap().extend(body.map(|body| ("body".to_owned(), body)));
            assert_eq!(read(&record).request, VoteRequest::parse(""));
        }
    }

    /// A record of alice's vote as the redrive sends it.
    fn redriven(body: &str, signed: Redrive<'_>) -> Value {
        let mut record = record(ID, SENT, Some("alice"));
        record["body"] = body.into();
        for (name, value) in [
            ("castAt", signed.cast_at_ms),
            ("messageId", signed.message_id),
            ("redriveSignature", &signed.sign(&hasher()).to_string()),
        ] {
            record["messageAttributes"][name] = attribute(value);
        }
        record
    }

    #[test]
    fn a_redriven_record_is_the_vote_it_was() {
        let all = Redrive { body: BODY, voter: "alice", cast_at_ms: CAST, message_id: FIRST };
        let vote = read(&redriven(BODY, all));
        assert_eq!((vote.sent_at.millis(), vote.id.to_string()), (1_600_000_000_000, FIRST.to_owned()));
        assert!(vote.request.is_ok());
        let (unsigned_body, unsigned_voter) =
            (Redrive { body: "{}", ..all }, Redrive { voter: "bob", ..all });
        for signed in [unsigned_body, unsigned_voter] {
            let vote = read(&redriven(BODY, signed));
            assert_eq!((vote.sent_at.millis(), vote.id.to_string()), (1_700_000_000_000, ID.to_owned()));
        }
        for (name, value) in [("castAt", "1600000000001"), ("messageId", ID)] {
            let mut moved = redriven(BODY, all);
            moved["messageAttributes"][name] = attribute(value);
            assert_eq!(read(&moved).sent_at.millis(), 1_700_000_000_000, "{name} is signed as well");
        }
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
    fn what_sqs_would_not_make_is_rejected_and_stays_the_same_message() {
        let timeless = [None, Some("yesterday"), Some("-5"), Some("99999999999999999999")];
        for sent in timeless {
            let message = read(&record(ID, sent, Some("alice")));
            assert_eq!((message.id.to_string(), message.sent_at.millis()), (ID.to_owned(), ARRIVED_MS));
            let expected = Malformed { reason: Rejection::Unreadable, poll: Some(1), id: None };
            assert_eq!(message.request, Err(expected), "{sent:?}");
        }
        let misnamed = || read(&record("7", SENT, Some("alice")));
        assert_eq!(misnamed().id, misnamed().id);
        assert_ne!(misnamed().id, read(&record("8", SENT, None)).id);
        assert_eq!(reason(misnamed()), Rejection::Unreadable);
    }

    #[test]
    fn a_record_of_another_shape_spoils_no_other() {
        let good = record(ID, SENT, Some("alice"));
        let mut shapeless = record(FIRST, SENT, Some("alice"));
        shapeless["attributes"] = json!("none");
        let mut messages = read_all(&[json!(7), shapeless, json!({}), json!({"messageId": 7}), good]);
        assert!(messages.pop().unwrap().unwrap().request.is_ok());
        assert!(messages.pop().unwrap().is_none() && messages.pop().unwrap().is_none());
        let shapeless = messages.pop().unwrap().unwrap();
        assert_eq!((shapeless.id.to_string(), reason(shapeless)), (FIRST.to_owned(), Rejection::Unreadable));
        assert!(messages.pop().unwrap().is_none());
    }

    #[test]
    fn another_event_is_refused() {
        for text in [r#"{}"#, r#"{"Records":7}"#, r#"[]"#] {
            let event: Event = serde_json::from_str(text).unwrap();
            assert!(event.records().is_err(), "{text}");
        }
    }
}
