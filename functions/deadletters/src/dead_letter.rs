//! One dead letter: what can be said of it, and the message it goes back as.

use std::collections::HashMap;

use aws_sdk_sqs::types::{
    Message, MessageAttributeValue, MessageSystemAttributeName, SendMessageBatchRequestEntry,
};
use domain::{BODY_BYTES_MAX, Redrive, Rejection, Timestamp, VoteRequest, VoterHasher, attribute};
use uuid::Uuid;

use crate::queues::Error;

/// What a dead letter is taken for, by looking at it alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    /// A [`Rejection`]'s name, or `notCounted`.
    pub reason: &'static str,
    /// The poll it names, if that much can be read.
    pub poll: Option<i64>,
}

/// Nothing is wrong with the message itself: it is here because its batches failed.
const NOT_COUNTED: &str = "notCounted";

/// The gateway's id of the request: told in its log, so it goes along.
const REQUEST_ID: &str = "requestId";

/// A message that was given up.
#[derive(Debug)]
pub struct DeadLetter {
    /// Names this delivery of it.
    pub receipt: String,
    /// The id it had when it was cast.
    pub id: String,
    /// When it was cast, in milliseconds.
    cast_at_ms: String,
    /// The token's `sub`: its `MessageGroupId`; empty without one.
    voter: String,
    body: String,
    request_id: Option<MessageAttributeValue>,
}

impl DeadLetter {
    /// `None` for what SQS does not deliver: a message without receipt, id or time.
    ///
    /// One that has been redriven before brings its first id and time along; they are believed with our signature.
    pub fn new(message: Message, hasher: &VoterHasher) -> Option<Self> {
        let mut attributes = message.message_attributes.unwrap_or_default();
        let mut system = message.attributes?;
        let sent = system.remove(&MessageSystemAttributeName::SentTimestamp)?;
        let voter = system.remove(&MessageSystemAttributeName::MessageGroupId).unwrap_or_default();
        let body = message.body.unwrap_or_default();
        let first =
            redriven(&attributes, &body, &voter, hasher).map(|(id, at)| (id.to_owned(), at.to_owned()));
        let (id, cast_at_ms) = match first {
            Some(first) => first,
            None => (message.message_id?, sent),
        };
        let request_id = attributes.remove(REQUEST_ID);
        Some(Self { receipt: message.receipt_handle?, id, cast_at_ms, voter, body, request_id })
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
            Rejection::Unreadable.name()
        } else if self.voter.is_empty() {
            Rejection::NoVoter.name()
        } else {
            NOT_COUNTED
        }
    }

    /// The message it goes back as, named `entry` within its batch.
    ///
    /// A body too large to be a vote is cut short, which does not change what becomes of it: so a batch of them stays
    /// within what SQS takes. What is signed is what is sent. Of other attributes only the gateway's goes along: more
    /// could be more than SQS takes, and then it would never go back.
    ///
    /// # Errors
    /// None but those of the builder.
    pub fn sent_back(
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

/// The first id and moment of a message that we redrove; `None` for any other.
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

    /// A letter of a voter (empty: of nobody), sent at this moment with this id and these attributes.
    pub fn letter(
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
        let verdict = letter(voter, id, sent_ms, body, &[]).verdict();
        (verdict.reason, verdict.poll)
    }

    #[test]
    fn what_can_be_read_tells_the_reason() {
        assert_eq!(verdict("alice", ID, "1000", VOTE), ("notCounted", Some(1)));
        assert_eq!(verdict("alice", ID, "1000", "vote"), ("notJson", None));
        assert_eq!(verdict("alice", ID, "1000", r#"{"poll":4}"#), ("missingField", Some(4)));
        assert_eq!(verdict("", ID, "1000", VOTE), ("noVoter", Some(1)));
        assert_eq!(verdict("alice", ID, "noon", VOTE), ("unreadable", Some(1)));
        assert_eq!(verdict("alice", "7", "1000", VOTE), ("unreadable", Some(1)));
    }

    /// Body, voter and attributes of the message that a letter goes back as.
    fn sent(letter: &DeadLetter) -> (String, Option<String>, Vec<(String, String)>) {
        let entry = letter.sent_back(3, &hasher()).unwrap();
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
        let first = letter("alice", ID, "1000", VOTE, &[pair("requestId", "r"), pair("more", "x")]);
        let went = sent(&first);
        assert_eq!(went, (VOTE.to_owned(), Some("alice".to_owned()), expected));
        let again = letter("alice", OTHER_ID, "2000", VOTE, &went.2);
        assert_eq!(sent(&again), went);
        assert_eq!((again.id.as_str(), again.cast_at()), (ID, Timestamp::from_millis(1_000)));
    }

    #[test]
    fn what_we_have_not_signed_is_not_signed_now() {
        let ours = sent(&letter("alice", ID, "1000", VOTE, &[])).2;
        let mut unsigned = ours.clone();
        unsigned.retain(|(name, _)| name != "redriveSignature");
        let other_vote = r#"{"poll":1,"contestant":1}"#;
        for (voter, body, given) in
            [("bob", VOTE, &ours), ("alice", other_vote, &ours), ("alice", VOTE, &unsigned)]
        {
            let letter = letter(voter, OTHER_ID, "2000", body, given);
            assert_eq!((letter.id.as_str(), letter.cast_at()), (OTHER_ID, Timestamp::from_millis(2_000)));
        }
    }

    #[test]
    fn one_without_a_voter_goes_back_without_one() {
        let (_, voter, attributes) = sent(&letter("", ID, "1000", VOTE, &[]));
        assert_eq!((voter, attributes.len()), (None, 3));
    }

    #[test]
    fn a_body_cut_short_is_still_too_large_and_signed_as_it_is_sent() {
        for body in ["x".repeat(1024 * 1024), "ü".repeat(2_000), format!("{VOTE:1025}")] {
            let (cut, _, attributes) = sent(&letter("alice", ID, "1000", &body, &[]));
            assert!(cut.len() <= BODY_BYTES_MAX + 4, "{}", cut.len());
            assert_eq!(VoteRequest::parse(&cut).unwrap_err().reason, Rejection::TooLarge);
            assert!(attributes.contains(&pair("redriveSignature", &signature(&cut))));
            let again = letter("alice", OTHER_ID, "2000", &cut, &attributes);
            assert_eq!(
                again.cast_at(),
                Timestamp::from_millis(1_000),
                "what was cut short is the same again"
            );
        }
        let longest = format!("{VOTE:1024}");
        assert_eq!(sent(&letter("alice", ID, "1000", &longest, &[])).0, longest);
    }
}
