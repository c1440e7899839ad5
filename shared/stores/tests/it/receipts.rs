//! The voter of a vote, and nobody else, can query its outcome.

use domain::{
    ContestantNumber, Facts, Inquiry, Message, PlacedReceipt, Poll, Receipt, Rejection, VoteRequest,
};
use runtime::Clock;
use serde_json::{Value, json};
use sqlx::Row;

use crate::support::{Fixture, at, rejected, uuid};

/// The client's id of the tests' votes.
const ID: u128 = 0x0194_f0c0_0000_4000_8000_0000_0000_0000;

/// Creates a poll that opened a minute ago, so that votes cast now count.
async fn open_poll(fixture: &Fixture, changes: Value) -> Poll {
    let mut window = json!({"opensAt": at(Clock::system().now().millis() - 60_000), "closesAt": null});
    window.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    fixture.poll(window).await
}

/// Builds a message that alice cast now.
#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn cast(fixture: &Fixture, poll: &Poll, message: u128, fields: Value) -> Message {
    let mut body = json!({"poll": poll.id.0, "contestant": 2});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Message { sent_at: Clock::system().now(), ..fixture.message(message, &body) }
}

/// Returns the outcome of a request with one vote.
async fn ask(fixture: &Fixture, poll: &Poll, sub: &str, id: u128) -> Option<Receipt> {
    let inquiry =
        Inquiry::new(poll, fixture.hasher.voter(sub), uuid(id), Clock::system().now(), &fixture.hasher);
    let mut receipts = fixture.ledger.receipts(&inquiry).await.unwrap();
    assert!(matches!(receipts.as_slice(), [] | [PlacedReceipt { place: 0, .. }]), "{receipts:?}");
    receipts.pop().map(|placed| placed.receipt)
}

/// Returns the outcome as one word: `counted`, `unknown` or the reason.
async fn outcome(fixture: &Fixture, poll: &Poll, sub: &str, id: u128) -> String {
    match ask(fixture, poll, sub, id).await {
        Some(Receipt::Counted { .. }) => "counted".to_owned(),
        Some(Receipt::Rejected { reason, .. }) => reason,
        None => "unknown".to_owned(),
    }
}

fn counted(message: &Message, ballot: Option<i16>) -> Option<Receipt> {
    Some(Receipt::Counted { contestant: ContestantNumber(2), count: 1, cast_at: message.sent_at, ballot })
}

fn give_id() -> Value {
    json!({ "id": uuid(ID) })
}

#[tokio::test]
async fn a_counted_vote_is_found_by_its_message_or_its_id() {
    let fixture = Fixture::new().await;
    let poll = open_poll(&fixture, json!({})).await;
    let (plain, with_id) = (cast(&fixture, &poll, 1, json!({})), cast(&fixture, &poll, 2, give_id()));
    assert_eq!(ask(&fixture, &poll, "alice", 1).await, None, "still in the queue");
    fixture.count(&fixture.batch(&poll, &[plain.clone(), with_id.clone()])).await;
    assert_eq!(ask(&fixture, &poll, "alice", 1).await, counted(&plain, None));
    assert_eq!(ask(&fixture, &poll, "alice", ID).await, counted(&with_id, None));
    assert_eq!(ask(&fixture, &poll, "alice", 2).await, None, "it is known by its id alone");
    assert_eq!(ask(&fixture, &poll, "alice", 3).await, None, "never received");
}

#[tokio::test]
async fn a_ballot_is_found_by_its_message_and_its_id() {
    let fixture = Fixture::new().await;
    let poll = open_poll(&fixture, json!({"votesPerVoter": 3})).await;
    let plain = cast(&fixture, &poll, 1, json!({"ballot": 1}));
    let with_id = cast(&fixture, &poll, 2, json!({"ballot": 3, "id": uuid(ID)}));
    fixture.count(&fixture.batch(&poll, &[plain.clone(), with_id.clone()])).await;
    assert_eq!(ask(&fixture, &poll, "alice", 1).await, counted(&plain, Some(1)));
    assert_eq!(ask(&fixture, &poll, "alice", 2).await, counted(&with_id, Some(3)));
    assert_eq!(ask(&fixture, &poll, "alice", ID).await, counted(&with_id, Some(3)));
    assert_eq!(ask(&fixture, &poll, "alice", 3).await, None, "not any ballot of theirs");
    let lowered = Poll { votes_per_voter: Some(1), ..poll };
    assert_eq!(ask(&fixture, &lowered, "alice", ID).await, counted(&with_id, Some(3)));
}

#[tokio::test]
async fn a_rejected_vote_is_found_by_its_message_and_its_id() {
    let fixture = Fixture::new().await;
    let poll = open_poll(&fixture, json!({})).await;
    let wrong = cast(&fixture, &poll, 1, json!({"contestant": 99, "id": uuid(ID)}));
    fixture.count(&fixture.batch(&poll, std::slice::from_ref(&wrong))).await;
    let expected = Some(Receipt::Rejected { reason: "unknownContestant".to_owned(), cast_at: wrong.sent_at });
    assert_eq!(ask(&fixture, &poll, "alice", 1).await, expected);
    assert_eq!(ask(&fixture, &poll, "alice", ID).await, expected);
    let malformed = cast(&fixture, &poll, 2, json!({"contestant": "2", "id": uuid(ID + 1)}));
    fixture.count(&fixture.batch(&poll, &[malformed])).await;
    assert_eq!(outcome(&fixture, &poll, "alice", ID + 1).await, "wrongType");
}

#[tokio::test]
async fn no_vote_is_anothers_to_ask_for() {
    let fixture = Fixture::new().await;
    let (poll, limited) =
        (open_poll(&fixture, json!({})).await, open_poll(&fixture, json!({"votesPerVoter": 1})).await);
    let of_poll = [
        cast(&fixture, &poll, 1, json!({})),
        cast(&fixture, &poll, 2, give_id()),
        cast(&fixture, &poll, 3, json!({"contestant": 99, "id": uuid(ID + 1)})),
    ];
    fixture.count(&fixture.batch(&poll, &of_poll)).await;
    let ballot = cast(&fixture, &limited, 4, json!({"ballot": 1, "id": uuid(ID)}));
    fixture.count(&fixture.batch(&limited, &[ballot])).await;
    for (poll, id) in [(&poll, 1), (&poll, ID), (&poll, 3), (&poll, ID + 1), (&limited, 4), (&limited, ID)] {
        assert_ne!(outcome(&fixture, poll, "alice", id).await, "unknown", "{id}");
        assert_eq!(outcome(&fixture, poll, "bob", id).await, "unknown", "{id}");
    }
}

#[tokio::test]
async fn one_id_of_two_voters_is_two_votes() {
    let fixture = Fixture::new().await;
    let poll = open_poll(&fixture, json!({})).await;
    let bobs = Message {
        voter: Some(fixture.hasher.voter("bob")),
        ..cast(&fixture, &poll, 2, json!({"contestant": 99, "id": uuid(ID)}))
    };
    fixture.count(&fixture.batch(&poll, &[cast(&fixture, &poll, 1, give_id()), bobs])).await;
    assert_eq!(outcome(&fixture, &poll, "alice", ID).await, "counted");
    assert_eq!(outcome(&fixture, &poll, "bob", ID).await, "unknownContestant");
}

#[tokio::test]
async fn a_retry_of_what_counted_leaves_it_counted() {
    let fixture = Fixture::new().await;
    for (changes, ballot) in [(json!({}), json!({})), (json!({"votesPerVoter": 2}), json!({"ballot": 1}))] {
        let poll = open_poll(&fixture, changes).await;
        let vote = |message, fields: Value| {
            let mut all = give_id();
            for more in [&ballot, &fields] {
                all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            }
            cast(&fixture, &poll, poll.id.0 as u128 * 100 + message, all)
        };
        let first = vote(1, json!({}));
        fixture.count(&fixture.batch(&poll, std::slice::from_ref(&first))).await;
        let moment = first.sent_at;
        let close = |poll: &Poll, _: &Facts, _| poll.closed(at(moment.millis() + 1));
        let closed = fixture.change(poll.id, close).await.unwrap().unwrap().poll;
        let late = Message { sent_at: at(moment.millis() + 5_000), ..vote(2, json!({})) };
        let wrong = vote(3, json!({"contestant": 99}));
        fixture.count(&fixture.batch(&closed, &[late, wrong])).await;
        let receipt = ask(&fixture, &closed, "alice", ID).await;
        assert!(
            matches!(receipt, Some(Receipt::Counted { cast_at, .. }) if cast_at == moment),
            "{receipt:?}"
        );
    }
}

#[tokio::test]
async fn a_retry_that_counts_outweighs_what_was_rejected() {
    let fixture = Fixture::new().await;
    for (changes, fields) in
        [(json!({}), give_id()), (json!({"votesPerVoter": 2}), json!({"ballot": 2, "id": uuid(ID)}))]
    {
        let poll = open_poll(&fixture, changes).await;
        let early = cast(&fixture, &poll, poll.id.0 as u128 * 100, fields.clone());
        let early = Message { sent_at: at(Clock::system().now().millis() - 120_000), ..early };
        let message = early.id.as_u128();
        fixture.count(&fixture.batch(&poll, &[early])).await;
        assert_eq!(outcome(&fixture, &poll, "alice", ID).await, "beforeOpening");
        let retry = cast(&fixture, &poll, message + 1, fields);
        fixture.count(&fixture.batch(&poll, &[retry])).await;
        assert_eq!(outcome(&fixture, &poll, "alice", ID).await, "counted");
        assert_eq!(outcome(&fixture, &poll, "alice", message).await, "beforeOpening", "that message was");
    }
}

#[tokio::test]
async fn of_several_rejections_the_last_cast_is_told() {
    let fixture = Fixture::new().await;
    let poll = open_poll(&fixture, json!({})).await;
    let now = Clock::system().now().millis();
    let at_moment = |message, contestant, moment| Message {
        sent_at: at(moment),
        ..cast(&fixture, &poll, message, json!({"contestant": contestant, "id": uuid(ID)}))
    };
    let messages = [at_moment(2, 99, now), at_moment(1, 2, now - 120_000)];
    fixture.count(&fixture.batch(&poll, &messages)).await;
    assert_eq!(outcome(&fixture, &poll, "alice", ID).await, "unknownContestant");
}

#[tokio::test]
async fn a_rejection_is_told_in_its_own_poll_or_where_no_poll_could_be_read() {
    let fixture = Fixture::new().await;
    let (poll, other) = (open_poll(&fixture, json!({})).await, open_poll(&fixture, json!({})).await);
    let wrong = cast(&fixture, &poll, 1, json!({"contestant": 99, "id": uuid(ID)}));
    let mut batch = fixture.batch(&poll, &[wrong]);
    let garbage = Message { request: VoteRequest::parse("garbage"), ..cast(&fixture, &poll, 2, json!({})) };
    rejected(&mut batch, &garbage, Rejection::NotJson);
    let anonymous = Message { voter: None, ..cast(&fixture, &poll, 3, json!({})) };
    rejected(&mut batch, &anonymous, Rejection::NoVoter);
    fixture.count(&batch).await;
    assert_eq!(outcome(&fixture, &other, "alice", 1).await, "unknown");
    assert_eq!(outcome(&fixture, &other, "alice", ID).await, "unknown");
    assert_eq!(outcome(&fixture, &other, "alice", 2).await, "notJson");
    assert_eq!(outcome(&fixture, &poll, "alice", 3).await, "unknown", "nobody's vote is nobody's to ask for");
}

/// The size of a row is as documented in the schema: tags take space only in polls with a limit.
#[tokio::test]
async fn a_tag_takes_8_bytes_in_a_limited_poll_and_none_elsewhere() {
    let fixture = Fixture::new().await;
    let (poll, limited) =
        (open_poll(&fixture, json!({})).await, open_poll(&fixture, json!({"votesPerVoter": 2})).await);
    fixture.count(&fixture.batch(&poll, &[cast(&fixture, &poll, 1, give_id())])).await;
    let ballots = [
        cast(&fixture, &limited, 2, json!({"ballot": 1})),
        cast(&fixture, &limited, 3, json!({"ballot": 2, "id": uuid(ID)})),
    ];
    fixture.count(&fixture.batch(&limited, &ballots)).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "SELECT pg_column_size(votes) AS bytes FROM votes ORDER BY poll, ballot";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await.unwrap();
    let bytes: Vec<i32> = rows.iter().map(|row| row.get("bytes")).collect();
    // A row without NULLs has no null bitmap, which takes 8 bytes.
    assert_eq!(bytes.iter().map(|bytes| (bytes + 7) / 8 * 8).collect::<Vec<_>>(), [80, 88, 88]);
}
