//! One dead letter: what can be said of it, and the message it goes back as.

use std::collections::HashMap;

use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, SendMessageBatchRequestEntry,
};
use shared::domain::{BODY_BYTES_MAX, Rejection, Timestamp, VoteRequest, attribute};
use uuid::Uuid;

use crate::queues::Error;

/// What a dead letter is taken for, by looking at it alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    /// A [`Rejection`]'s name, `unreadable` or `notCounted`.
    pub reason: &'static str,
    /// The poll it names, if that much can be read.
    pub poll: Option<i64>,
}

/// Nothing is wrong with the message itself: it is here because its batches failed.
const NOT_COUNTED: &str = "notCounted";

/// No message of the gateway's, nor of a redrive.
const UNREADABLE: &str = "unreadable";

/// A message that was given up.
#[derive(Debug)]
pub struct Letter {
    /// Names this delivery of it.
    pub receipt: String,
    /// The id it had when it was cast.
    pub id: String,
    /// When it was cast, in milliseconds.
    cast_at_ms: String,
    body: String,
    attributes: HashMap<String, MessageAttributeValue>,
}

impl Letter {
    /// `None` for what SQS does not deliver: a message without receipt, id or time.
    ///
    /// One that has been redriven before brings its first id and time along.
    pub fn new(message: Message) -> Option<Self> {
        let attributes = message.message_attributes.unwrap_or_default();
        let given = |name| Some(text(&attributes, name)?.to_owned());
        let sent = message.attributes?.remove(&MessageSystemAttributeName::SentTimestamp)?;
        Some(Self {
            receipt: message.receipt_handle?,
            id: given(attribute::MESSAGE_ID).or(message.message_id)?,
            cast_at_ms: given(attribute::CAST_AT).unwrap_or(sent),
            body: message.body.unwrap_or_default(),
            attributes,
        })
    }

    /// When it was cast.
    pub fn cast_at(&self) -> Option<Timestamp> {
        Timestamp::from_millis(self.cast_at_ms.parse().ok()?)
    }

    /// What can be said of it.
    pub fn verdict(&self) -> Verdict {
        let (reason, poll) = match VoteRequest::parse(&self.body) {
            Err(malformed) => (malformed.reason.name(), malformed.poll),
            Ok(request) => (self.reason(), Some(request.poll)),
        };
        Verdict { reason, poll }
    }

    fn reason(&self) -> &'static str {
        if self.cast_at().is_none() || Uuid::try_parse(&self.id).is_err() {
            UNREADABLE
        } else if text(&self.attributes, attribute::VOTER).is_none_or(str::is_empty) {
            Rejection::NoVoter.name()
        } else {
            NOT_COUNTED
        }
    }

    /// The message it goes back as, named `entry` within its batch.
    ///
    /// A body too large to be a vote is cut short, which does not change what becomes of it: so a batch of them stays
    /// within what SQS takes.
    ///
    /// # Errors
    /// None but those of the builder.
    pub fn sent_back(&self, entry: usize) -> Result<SendMessageBatchRequestEntry, Error> {
        let cut = self.body.ceil_char_boundary(BODY_BYTES_MAX + 1);
        let mut attributes = self.attributes.clone();
        for (name, kind, value) in
            [(attribute::MESSAGE_ID, "String", &self.id), (attribute::CAST_AT, "Number", &self.cast_at_ms)]
        {
            let value = MessageAttributeValue::builder().data_type(kind).string_value(value).build()?;
            attributes.insert(name.to_owned(), value);
        }
        Ok(SendMessageBatchRequestEntry::builder()
            .id(entry.to_string())
            .message_body(&self.body[..cut])
            .set_message_attributes(Some(attributes))
            .build()?)
    }
}

fn text<'a>(attributes: &'a HashMap<String, MessageAttributeValue>, name: &str) -> Option<&'a str> {
    attributes.get(name)?.string_value()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const VOTE: &str = r#"{"poll":1,"contestant":7}"#;
    const ID: &str = "4e2c1f0a-0000-4000-8000-000000000001";

    fn attributes(all: &[(&str, &str)]) -> HashMap<String, MessageAttributeValue> {
        let value = |text: &str| {
            MessageAttributeValue::builder().data_type("String").string_value(text).build().unwrap()
        };
        all.iter().map(|&(name, text)| (name.to_owned(), value(text))).collect()
    }

    pub fn letter(body: &str, sent_ms: i64, given: &[(&str, &str)]) -> Letter {
        let message = Message::builder()
            .message_id(ID)
            .receipt_handle("receipt")
            .body(body)
            .attributes(MessageSystemAttributeName::SentTimestamp, sent_ms.to_string())
            .set_message_attributes(Some(attributes(given)))
            .build();
        Letter::new(message).unwrap()
    }

    fn verdict(body: &str, given: &[(&str, &str)]) -> (&'static str, Option<i64>) {
        let verdict = letter(body, 1_000, given).verdict();
        (verdict.reason, verdict.poll)
    }

    #[test]
    fn what_can_be_read_tells_the_reason() {
        let voter = [("voter", "alice")];
        assert_eq!(verdict(VOTE, &voter), ("notCounted", Some(1)));
        assert_eq!(verdict("vote", &voter), ("notJson", None));
        assert_eq!(verdict(r#"{"poll":4}"#, &voter), ("missingField", Some(4)));
        assert_eq!(verdict(VOTE, &[]), ("noVoter", Some(1)));
        assert_eq!(verdict(VOTE, &[("voter", "alice"), ("castAt", "noon")]), ("unreadable", Some(1)));
        assert_eq!(verdict(VOTE, &[("voter", "alice"), ("messageId", "7")]), ("unreadable", Some(1)));
    }

    fn sent(letter: &Letter) -> (String, Vec<(String, String)>) {
        let entry = letter.sent_back(3).unwrap();
        let mut attributes: Vec<_> = entry
            .message_attributes
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name, value.string_value.unwrap()))
            .collect();
        attributes.sort();
        (entry.message_body, attributes)
    }

    #[test]
    fn a_vote_goes_back_with_its_first_id_and_moment_however_often() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected =
            [pair("castAt", "1000"), pair("messageId", ID), pair("requestId", "r"), pair("voter", "alice")];
        let first = letter(VOTE, 1_000, &[("voter", "alice"), ("requestId", "r")]);
        assert_eq!(sent(&first), (VOTE.to_owned(), expected.to_vec()));
        let again = [("voter", "alice"), ("requestId", "r"), ("castAt", "1000"), ("messageId", ID)];
        let mut again = letter(VOTE, 2_000, &again);
        again.receipt.push_str(" of another delivery");
        assert_eq!(sent(&again), (VOTE.to_owned(), expected.to_vec()));
        assert_eq!(again.cast_at(), Timestamp::from_millis(1_000));
    }

    #[test]
    fn a_body_cut_short_is_still_too_large() {
        for body in ["x".repeat(1024 * 1024), "ü".repeat(2_000), format!("{VOTE:1025}")] {
            let (cut, _) = sent(&letter(&body, 1_000, &[]));
            assert!(cut.len() <= BODY_BYTES_MAX + 4, "{}", cut.len());
            assert_eq!(VoteRequest::parse(&cut).unwrap_err().reason, Rejection::TooLarge);
        }
        let longest = format!("{VOTE:1024}");
        assert_eq!(sent(&letter(&longest, 1_000, &[])).0, longest);
    }
}
