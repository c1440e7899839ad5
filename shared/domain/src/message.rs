use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Number, Value};
use uuid::{Uuid, Variant};

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

/// Maximum number of votes in a request. Twenty with every field take 915 bytes.
pub const VOTES_MAX: usize = 20;

/// A request with votes as sent by the client: well-formed, not yet judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteRequest {
    /// The poll's number, unchecked.
    pub poll: i64,
    /// The client's idempotency key: a retry with the same id counts once. Required with `count` and with several votes.
    pub id: Option<Uuid>,
    /// The votes in their order, from 1 to [`VOTES_MAX`]. One that is malformed has its reason and does not affect the
    /// others.
    pub votes: Vec<Result<Choice, Rejection>>,
}

/// One vote of a request, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Choice {
    /// The contestant's number.
    #[serde(deserialize_with = "integer")]
    pub contestant: i64,
    /// The voter's ballot, from 1, in a poll with a limit.
    #[serde(default, deserialize_with = "optional_integer")]
    pub ballot: Option<i64>,
    /// The number of taps that the vote stands for, in a poll without a limit.
    #[serde(default, deserialize_with = "optional_integer")]
    pub count: Option<i64>,
}

/// A body that is not a request with votes. It keeps the poll's number for the poll's audit, and the client's id for the
/// voter's receipt, if they can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// The kind of error.
    pub reason: Rejection,
    /// The poll's number, if readable.
    pub poll: Option<i64>,
    /// The client's id, if readable.
    pub id: Option<Uuid>,
}

/// The fields of both forms: one vote beside the poll, or a list of votes.
#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "integer")]
    poll: i64,
    #[serde(default)]
    id: Option<Uuid>,
    #[serde(default, deserialize_with = "optional_integer")]
    contestant: Option<i64>,
    #[serde(default, deserialize_with = "optional_integer")]
    ballot: Option<i64>,
    #[serde(default, deserialize_with = "optional_integer")]
    count: Option<i64>,
    #[serde(default)]
    votes: Option<Vec<Element>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Element {
    Choice(Choice),
    Other(Value),
}

impl VoteRequest {
    /// Parses a request body. Fields that the contract does not define are ignored. A number without a fraction is an
    /// integer however it is written, as JSON Schema defines it.
    ///
    /// # Errors
    /// [`Rejection::TooLarge`], [`NotJson`](Rejection::NotJson), [`MissingField`](Rejection::MissingField),
    /// [`WrongType`](Rejection::WrongType), [`WeakId`](Rejection::WeakId), [`NoVotes`](Rejection::NoVotes) or
    /// [`TooManyVotes`](Rejection::TooManyVotes).
    pub fn parse(body: &str) -> Result<Self, Malformed> {
        if body.len() > BODY_BYTES_MAX {
            return Err(Malformed { reason: Rejection::TooLarge, poll: None, id: None });
        }
        // Serde would also accept an array of the values in the fields' order.
        if !body.trim_start().starts_with('{') {
            return Err(diagnose(body));
        }
        let body: Body = serde_json::from_str(body).map_err(|_| diagnose(body))?;
        let (poll, id) = (body.poll, body.id);
        let votes = body.votes().map_err(|reason| Malformed { reason, poll: Some(poll), id })?;
        Ok(Self { poll, id, votes })
    }
}

impl Body {
    fn votes(self) -> Result<Vec<Result<Choice, Rejection>>, Rejection> {
        if self.id.is_some_and(|id| !is_strong(id)) {
            return Err(Rejection::WeakId);
        }
        let Some(votes) = self.votes else {
            let contestant = self.contestant.ok_or(Rejection::MissingField)?;
            let choice = Choice { contestant, ballot: self.ballot, count: self.count };
            return Ok(vec![choice.with_id(self.id)]);
        };
        if self.contestant.is_some() || self.ballot.is_some() || self.count.is_some() {
            return Err(Rejection::WrongType);
        }
        match votes.len() {
            0 => Err(Rejection::NoVotes),
            1..=VOTES_MAX if self.id.is_none() => Err(Rejection::MissingField),
            1..=VOTES_MAX => Ok(votes.into_iter().map(Element::choice).collect()),
            _ => Err(Rejection::TooManyVotes),
        }
    }
}

impl Choice {
    fn with_id(self, id: Option<Uuid>) -> Result<Self, Rejection> {
        if self.count.is_some() && id.is_none() { Err(Rejection::CountWithoutId) } else { Ok(self) }
    }
}

impl Element {
    fn choice(self) -> Result<Choice, Rejection> {
        match self {
            Self::Choice(choice) => Ok(choice),
            Self::Other(Value::Object(fields)) if !fields.contains_key("contestant") => {
                Err(Rejection::MissingField)
            }
            Self::Other(_) => Err(Rejection::WrongType),
        }
    }
}

/// Returns whether others cannot guess the id.
fn is_strong(id: Uuid) -> bool {
    id.get_variant() == Variant::RFC4122 && matches!(id.get_version_num(), 4 | 7)
}

/// Reads an integer in any notation, `7.0` and `7e0` included.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    /// Beyond it, a floating-point number does not tell integers apart.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let number = Number::deserialize(deserializer)?;
    let whole = |number: f64| (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64);
    number
        .as_i64()
        .or_else(|| number.as_f64().and_then(whole))
        .ok_or_else(|| D::Error::custom("not an integer"))
}

fn optional_integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    struct Integer(#[serde(deserialize_with = "integer")] i64);
    Ok(Option::<Integer>::deserialize(deserializer)?.map(|Integer(number)| number))
}

/// Finds the reason why a body is malformed. This second, slower parse runs only for malformed bodies.
fn diagnose(body: &str) -> Malformed {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return Malformed { reason: Rejection::NotJson, poll: None, id: None };
    };
    let absent = |field| value.is_object() && value.get(field).is_none();
    let reason = if absent("poll") || absent("contestant") && absent("votes") {
        Rejection::MissingField
    } else {
        Rejection::WrongType
    };
    let id = value.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
    let poll = value.get("poll").and_then(|poll| integer(poll).ok());
    Malformed { reason, poll, id }
}

/// One message with votes from the queue.
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
    /// Returns the number that the message names as its poll, if readable.
    pub fn poll(&self) -> Option<i64> {
        self.request.as_ref().map_or_else(|malformed| malformed.poll, |request| Some(request.poll))
    }

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

    const ID: &str = "0194f0c0-0000-7000-8000-000000000000";

    fn choices(fields: &str) -> Result<Vec<Result<Choice, Rejection>>, Rejection> {
        let body = format!(r#"{{"poll":1,{fields}}}"#);
        VoteRequest::parse(&body).map(|request| request.votes).map_err(|malformed| malformed.reason)
    }

    fn choice(contestant: i64) -> Choice {
        Choice { contestant, ballot: None, count: None }
    }

    #[test]
    fn a_vote_is_read_whole() {
        let request = VoteRequest::parse(&format!(
            r#"{{"poll":1,"contestant":7,"id":"{ID}","ballot":3,"count":5,"extra":[]}}"#
        ));
        let request = request.unwrap();
        let vote = Choice { contestant: 7, ballot: Some(3), count: Some(5) };
        assert_eq!((request.poll, request.votes), (1, vec![Ok(vote)]));
        assert!(request.id.is_some());
    }

    #[test]
    fn several_votes_are_read_in_their_order() {
        let votes =
            format!(r#""id":"{ID}","votes":[{{"contestant":7,"count":2}},{{"contestant":1,"ballot":4}}]"#);
        let expected = [Choice { count: Some(2), ..choice(7) }, Choice { ballot: Some(4), ..choice(1) }];
        assert_eq!(choices(&votes).unwrap(), expected.map(Ok));
    }

    #[test]
    fn a_bad_vote_does_not_affect_its_neighbours() {
        let votes = format!(
            r#""id":"{ID}","votes":[{{"contestant":7}},{{}},{{"contestant":"7"}},7,{{"contestant":1,"count":1.5}},{{"contestant":1}}]"#
        );
        let wrong = Err(Rejection::WrongType);
        let expected = [Ok(choice(7)), Err(Rejection::MissingField), wrong, wrong, wrong, Ok(choice(1))];
        assert_eq!(choices(&votes).unwrap(), expected);
    }

    #[test]
    fn a_list_has_one_to_twenty_votes_and_an_id() {
        let list = |votes: usize| vec![r#"{"contestant":7}"#; votes].join(",");
        let with_id = |votes| choices(&format!(r#""id":"{ID}","votes":[{}]"#, list(votes)));
        assert_eq!(with_id(0), Err(Rejection::NoVotes));
        assert_eq!(with_id(20).unwrap().len(), 20);
        assert_eq!(with_id(21), Err(Rejection::TooManyVotes));
        assert_eq!(choices(&format!(r#""votes":[{}]"#, list(1))), Err(Rejection::MissingField));
        assert_eq!(choices(&format!(r#""id":"{ID}","votes":{{}}"#)), Err(Rejection::WrongType));
        assert_eq!(
            choices(&format!(r#""id":"{ID}","contestant":7,"votes":[{}]"#, list(1))),
            Err(Rejection::WrongType)
        );
    }

    #[test]
    fn a_count_needs_an_id() {
        assert_eq!(choices(r#""contestant":7,"count":1"#).unwrap(), [Err(Rejection::CountWithoutId)]);
    }

    #[test]
    fn an_integer_is_one_however_it_is_written() {
        for seven in ["7", "7.0", "7e0", "70e-1", "0.7E+1"] {
            assert_eq!(choices(&format!(r#""contestant":{seven}"#)).unwrap(), [Ok(choice(7))], "{seven}");
        }
        for other in ["7.5", "1e300", "true", "null", "[7]"] {
            let reason = if other == "null" { Rejection::MissingField } else { Rejection::WrongType };
            assert_eq!(choices(&format!(r#""contestant":{other}"#)), Err(reason), "{other}");
        }
    }

    #[test]
    fn an_id_that_others_can_guess_is_weak() {
        let with = |id: &str| choices(&format!(r#""contestant":7,"id":"{id}""#));
        assert!(with(ID).is_ok() && with("8b1a9953-c461-4a5e-b2f5-0f1e6c2d3a4b").is_ok());
        for weak in [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "c232ab00-9414-11ec-b3c8-9f6bdeced846",
            "1ec9414c-232a-6b00-b3c8-9f6bdeced846",
            "8b1a9953-c461-4a5e-c2f5-0f1e6c2d3a4b",
        ] {
            assert_eq!(with(weak), Err(Rejection::WeakId), "{weak}");
        }
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
