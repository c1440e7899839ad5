//! A dead letter: its verdict, and the message that redrives it.

use std::collections::HashMap;

use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, SendMessageBatchRequestEntry,
};
use domain::{BODY_BYTES_MAX, Redrive, Rejection, Timestamp, VoteRequest, VoterHasher, attribute};
use uuid::Uuid;

use crate::queues::Error;

/// The verdict on a dead letter, from its content alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    /// A [`Rejection`]'s name, or `notCounted`.
    pub reason: &'static str,
    /// The poll that it names, if readable.
    pub poll: Option<i64>,
}

/// The reason of a valid message, which is in the dead-letter queue because its batches failed.
const NOT_COUNTED: &str = "notCounted";

/// The attribute with the gateway's request id, which the gateway logs; the redrive keeps it.
const REQUEST_ID: &str = "requestId";

/// A message in the dead-letter queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// The receipt handle of this delivery.
    pub receipt: String,
    /// The message id at the time of casting.
    pub id: String,
    /// The moment of casting, in milliseconds.
    cast_at_ms: String,
    /// The token's `sub`: its `MessageGroupId`; empty without one.
    voter: String,
    body: String,
    request_id: Option<MessageAttributeValue>,
}

impl DeadLetter {
    /// Returns `None` for a message without receipt, id or time, which SQS never delivers.
    ///
    /// A message that was redriven before carries its first id and time, which are trusted with the service's
    /// signature.
    pub fn new(message: Message, hasher: &VoterHasher) -> Option<Self> {
        let mut attributes = message.message_attributes.unwrap_or_default();
        let mut system = message.attributes?;
        let sent = system.remove(&MessageSystemAttributeName::SentTimestamp)?;
        let voter = system.remove(&MessageSystemAttributeName::MessageGroupId).unwrap_or_default();
        let body = message.body.unwrap_or_default();
        let original =
            redriven(&attributes, &body, &voter, hasher).map(|(id, at)| (id.to_owned(), at.to_owned()));
        let (id, cast_at_ms) = match original {
            Some(original) => original,
            None => (message.message_id?, sent),
        };
        let request_id = attributes.remove(REQUEST_ID);
        Some(Self { receipt: message.receipt_handle?, id, cast_at_ms, voter, body, request_id })
    }

    /// Returns the moment of casting.
    pub fn cast_at(&self) -> Option<Timestamp> {
        Timestamp::from_millis(self.cast_at_ms.parse().ok()?)
    }

    /// Returns the reason and the poll, for the listing.
    pub fn verdict(&self) -> Verdict {
        let (reason, poll) = match VoteRequest::parse(&self.body) {
            Err(malformed) => (malformed.reason.name(), malformed.poll),
            Ok(request) => (self.reason(), Some(request.poll)),
        };
        Verdict { reason, poll }
    }

    fn reason(&self) -> &'static str {
        if self.cast_at().is_none() || Uuid::try_parse(&self.id).is_err() {
            Rejection::Unreadable.name()
        } else if self.voter.is_empty() {
            Rejection::NoVoter.name()
        } else {
            NOT_COUNTED
        }
    }

    /// Builds the message that redrives it, as entry number `entry` of its batch.
    ///
    /// A body too large for a vote is truncated, which does not change its outcome, so that a batch stays within
    /// SQS's limits. The signature covers the truncated body. Of the other attributes only the gateway's is kept:
    /// more could exceed SQS's limits, and the message could never be redriven.
    ///
    /// # Errors
    /// Only those of the builder.
    pub fn redrive_entry(
        &self,
        entry: usize,
        hasher: &VoterHasher,
    ) -> Result<SendMessageBatchRequestEntry, Error> {
        let body = &self.body[..self.body.ceil_char_boundary(BODY_BYTES_MAX + 1)];
        let Self { id: message_id, cast_at_ms, voter, .. } = self;
        let signature = Redrive { body, voter, cast_at_ms, message_id }.sign(hasher).to_string();
        let mut attributes = HashMap::new();
        attributes.extend(self.request_id.clone().map(|request_id| (REQUEST_ID.to_owned(), request_id)));
        for (name, kind, value) in [
            (attribute::MESSAGE_ID, "String", message_id),
            (attribute::CAST_AT, "Number", cast_at_ms),
            (attribute::SIGNATURE, "String", &signature),
        ] {
            let value = MessageAttributeValue::builder().data_type(kind).string_value(value).build()?;
            attributes.insert(name.to_owned(), value);
        }
        Ok(SendMessageBatchRequestEntry::builder()
            .id(entry.to_string())
            .message_body(body)
            .set_message_group_id((!voter.is_empty()).then(|| voter.clone()))
            .set_message_attributes(Some(attributes))
            .build()?)
    }
}

/// Returns the original id and moment of a message that was redriven before; `None` without a valid signature.
fn redriven<'a>(
    attributes: &'a HashMap<String, MessageAttributeValue>,
    body: &str,
    voter: &str,
    hasher: &VoterHasher,
) -> Option<(&'a str, &'a str)> {
    let given = |name| text(attributes, name);
    let (message_id, cast_at_ms) = (given(attribute::MESSAGE_ID)?, given(attribute::CAST_AT)?);
    let redrive = Redrive { body, voter, cast_at_ms, message_id };
    redrive.is_signed(given(attribute::SIGNATURE)?, hasher).then_some((message_id, cast_at_ms))
}

fn text<'a>(attributes: &'a HashMap<String, MessageAttributeValue>, name: &str) -> Option<&'a str> {
    attributes.get(name)?.string_value()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const VOTE: &str = r#"{"poll":1,"contestant":7}"#;
    const ID: &str = "4e2c1f0a-0000-4000-8000-000000000001";
    const OTHER_ID: &str = "4e2c1f0a-0000-4000-8000-000000000002";

    fn hasher() -> VoterHasher {
        "0".repeat(64).parse().unwrap()
    }

    /// A dead letter of this voter (empty: without a voter), sent at this moment with this id and these attributes.
    pub fn dead_letter(
        voter: &str,
        id: &str,
        sent_ms: &str,
        body: &str,
        given: &[(String, String)],
    ) -> DeadLetter {
        let value = |text: &str| {
            MessageAttributeValue::builder().data_type("String").string_value(text).build().unwrap()
        };
        let mut message = Message::builder()
            .message_id(id)
            .receipt_handle("receipt")
            .body(body)
            .attributes(MessageSystemAttributeName::SentTimestamp, sent_ms);
        if !voter.is_empty() {
            message = message.attributes(MessageSystemAttributeName::MessageGroupId, voter);
        }
        for (name, text) in given {
            message = message.message_attributes(name, value(text));
        }
        DeadLetter::new(message.build(), &hasher()).unwrap()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    fn verdict(voter: &str, id: &str, sent_ms: &str, body: &str) -> (&'static str, Option<i64>) {
        let verdict = dead_letter(voter, id, sent_ms, body, &[]).verdict();
        (verdict.reason, verdict.poll)
    }

    #[test]
    fn the_content_decides_the_reason() {
        assert_eq!(verdict("alice", ID, "1000", VOTE), ("notCounted", Some(1)));
        assert_eq!(verdict("alice", ID, "1000", "vote"), ("notJson", None));
        assert_eq!(verdict("alice", ID, "1000", r#"{"poll":4}"#), ("missingField", Some(4)));
        assert_eq!(verdict("", ID, "1000", VOTE), ("noVoter", Some(1)));
        assert_eq!(verdict("alice", ID, "noon", VOTE), ("unreadable", Some(1)));
        assert_eq!(verdict("alice", "7", "1000", VOTE), ("unreadable", Some(1)));
    }

    /// Body, voter and attributes of the message that redrives a dead letter.
    fn redriven_message(dead_letter: &DeadLetter) -> (String, Option<String>, Vec<(String, String)>) {
        let entry = dead_letter.redrive_entry(3, &hasher()).unwrap();
        let mut attributes: Vec<_> = entry
            .message_attributes
            .unwrap()
            .into_iter()
            .map(|(name, value)| (name, value.string_value.unwrap()))
            .collect();
        attributes.sort();
        (entry.message_body, entry.message_group_id, attributes)
    }

    fn signature(body: &str) -> String {
        Redrive { body, voter: "alice", cast_at_ms: "1000", message_id: ID }.sign(&hasher()).to_string()
    }

    #[test]
    fn a_vote_goes_back_as_the_vote_that_was_cast_however_often() {
        let expected = vec![
            pair("castAt", "1000"),
            pair("messageId", ID),
            pair("redriveSignature", &signature(VOTE)),
            pair("requestId", "r"),
        ];
        let first = dead_letter("alice", ID, "1000", VOTE, &[pair("requestId", "r"), pair("more", "x")]);
        let redriven = redriven_message(&first);
        assert_eq!(redriven, (VOTE.to_owned(), Some("alice".to_owned()), expected));
        let again = dead_letter("alice", OTHER_ID, "2000", VOTE, &redriven.2);
        assert_eq!(redriven_message(&again), redriven);
        assert_eq!((again.id.as_str(), again.cast_at()), (ID, Timestamp::from_millis(1_000)));
    }

    #[test]
    fn what_we_have_not_signed_is_not_signed_now() {
        let signed = redriven_message(&dead_letter("alice", ID, "1000", VOTE, &[])).2;
        let mut unsigned = signed.clone();
        unsigned.retain(|(name, _)| name != "redriveSignature");
        let other_vote = r#"{"poll":1,"contestant":1}"#;
        for (voter, body, given) in
            [("bob", VOTE, &signed), ("alice", other_vote, &signed), ("alice", VOTE, &unsigned)]
        {
            let dead_letter = dead_letter(voter, OTHER_ID, "2000", body, given);
            assert_eq!(
                (dead_letter.id.as_str(), dead_letter.cast_at()),
                (OTHER_ID, Timestamp::from_millis(2_000))
            );
        }
    }

    #[test]
    fn a_message_without_a_voter_is_redriven_without_one() {
        let (_, voter, attributes) = redriven_message(&dead_letter("", ID, "1000", VOTE, &[]));
        assert_eq!((voter, attributes.len()), (None, 3));
    }

    #[test]
    fn a_truncated_body_is_still_too_large_and_signed_as_sent() {
        for body in ["x".repeat(1024 * 1024), "ü".repeat(2_000), format!("{VOTE:1025}")] {
            let (cut, _, attributes) = redriven_message(&dead_letter("alice", ID, "1000", &body, &[]));
            assert!(cut.len() <= BODY_BYTES_MAX + 4, "{}", cut.len());
            assert_eq!(VoteRequest::parse(&cut).unwrap_err().reason, Rejection::TooLarge);
            assert!(attributes.contains(&pair("redriveSignature", &signature(&cut))));
            let again = dead_letter("alice", OTHER_ID, "2000", &cut, &attributes);
            assert_eq!(
                again.cast_at(),
                Timestamp::from_millis(1_000),
                "a truncated body keeps its signature"
            );
        }
        let longest = format!("{VOTE:1024}");
        assert_eq!(redriven_message(&dead_letter("alice", ID, "1000", &longest, &[])).0, longest);
    }
}
