//! Votes of several taps, and several votes in a request, through the handler.

use std::collections::BTreeMap;

use domain::{ContestantNumber, Poll};
use ranking::RankingStore;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{CAST_AT, Fixture, LIMIT, record, vote};

/// Returns the id of a client's request.
fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0194_f0c0_0000_7000_8000_0000_0000_0000 | number)
}

/// Builds a request with these votes under an id.
fn list(poll: &Poll, number: u128, votes: &[Value]) -> Value {
    json!({"poll": poll.id.0, "id": id(number), "votes": votes})
}

fn rejected(reasons: &[(&str, u64)]) -> BTreeMap<String, u64> {
    reasons.iter().map(|(reason, votes)| ((*reason).to_owned(), *votes)).collect()
}

impl Fixture {
    /// Returns the votes of the three contestants, the rows, and the rejections.
    async fn figures(&self, poll: &Poll) -> ([u64; 3], u64, BTreeMap<String, u64>) {
        let audit = self.audit(poll.id).await;
        assert_eq!(audit.ledger_casts, audit.tally_casts);
        let votes = [1, 2, 3].map(|number| audit.ledger.get(&ContestantNumber(number)).copied().unwrap_or(0));
        (votes, audit.ledger_casts, audit.rejected)
    }
}

/// Each is between two plain votes, in one batch.
#[tokio::test]
async fn each_bad_request_is_rejected_for_its_reason_and_its_neighbours_count() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 10})).await;
    let limited = fixture.poll(json!({"votesPerVoter": 2})).await;
    let (open, capped) = (poll.id.0, limited.id.0);
    let good = json!({"contestant": 2});
    let weak = "0194f0c0-0000-1000-8000-000000000000";
    let long: Vec<_> =
        (0..20).map(|_| json!({"contestant": 2, "count": 10, "more": "xxxxxxxxxxxxxxxxxxxx"})).collect();
    let cases = [
        ("countWithoutId", json!({"poll": open, "contestant": 1, "count": 2})),
        ("countOutOfRange", json!({"poll": open, "contestant": 1, "count": 0, "id": id(1)})),
        ("countOutOfRange", json!({"poll": open, "contestant": 1, "count": 11, "id": id(2)})),
        ("countOutOfRange", json!({"poll": open, "contestant": 1, "count": i64::MAX, "id": id(3)})),
        ("countNotAllowed", json!({"poll": capped, "contestant": 1, "ballot": 1, "count": 1, "id": id(4)})),
        ("tooManyVotes", list(&poll, 5, &vec![good.clone(); 21])),
        ("noVotes", list(&poll, 6, &[])),
        ("missingField", json!({"poll": open, "votes": [good]})),
        ("wrongType", json!({"poll": open, "id": id(7), "contestant": 1, "votes": [good]})),
        ("wrongType", json!({"poll": open, "id": id(8), "contestant": 1.5})),
        ("weakId", json!({"poll": open, "contestant": 1, "id": weak})),
        ("weakId", json!({"poll": open, "contestant": 1, "id": Uuid::nil()})),
        ("weakId", json!({"poll": open, "id": Uuid::max(), "votes": [good]})),
        ("tooLarge", list(&poll, 9, &long)),
    ];
    let plain = json!({"poll": open, "contestant": 3}).to_string();
    let mut records = vec![record(0, "alice", CAST_AT, &plain)];
    for (index, (_, body)) in (1..).zip(&cases) {
        records.push(vote(1_000 + index, "alice", body));
        records.push(record(index, "alice", CAST_AT, &plain));
    }
    for _ in 0..2 {
        assert!(fixture.deliver(&records).await.unwrap().is_empty(), "every one is acknowledged");
    }
    let neighbours = cases.len() as u64 + 1;
    let (votes, casts, mut seen) = fixture.figures(&poll).await;
    assert_eq!((votes, casts), ([0, 0, neighbours], neighbours));
    let (votes, _, of_limited) = fixture.figures(&limited).await;
    assert_eq!(votes, [0, 0, 0]);
    seen.extend(of_limited);
    seen.extend(fixture.audit(poll.id).await.unattributed);
    let mut expected = BTreeMap::new();
    for (reason, _) in cases {
        *expected.entry(reason.to_owned()).or_default() += 1;
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn of_twenty_votes_with_one_bad_nineteen_count() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 100})).await;
    let mut votes: Vec<_> = (0..20).map(|place| json!({"contestant": place % 3 + 1, "count": 100})).collect();
    votes[7] = json!({"contestant": 9, "count": 100});
    let body = list(&poll, 1, &votes);
    assert!(body.to_string().len() <= 1_024);
    let plain = json!({"poll": poll.id.0, "contestant": 1});
    for _ in 0..2 {
        fixture.deliver(&[vote(1, "alice", &body), vote(2, "bob", &plain)]).await.unwrap();
        let figures = fixture.figures(&poll).await;
        assert_eq!(figures, ([701, 600, 600], 20, rejected(&[("unknownContestant", 1)])));
    }
    let ranking =
        RankingStore::new(&fixture.scratch.redis_url, fixture.ledger.address(), LIMIT, 600).unwrap();
    let tally: Vec<_> = ranking.tally(&poll).await.unwrap().unwrap().into_values().collect();
    assert_eq!(tally, [701, 600, 600]);
    assert_eq!(ranking.voters(&[poll.id]).await.unwrap(), [Some(2)], "from the poll's first votes on");
}

/// Also where its first half counted before, and in one batch with its original.
#[tokio::test]
async fn a_list_sent_again_counts_what_is_new_in_it() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 10})).await;
    let votes: Vec<_> = (1..=3).map(|count| json!({"contestant": count, "count": count})).collect();
    let half = vote(1, "alice", &list(&poll, 1, &votes[..2]));
    let whole = vote(2, "alice", &list(&poll, 1, &votes));
    fixture.deliver(std::slice::from_ref(&half)).await.unwrap();
    assert_eq!(fixture.figures(&poll).await, ([1, 2, 0], 2, rejected(&[])));
    for _ in 0..2 {
        fixture.deliver(&[half.clone(), whole.clone()]).await.unwrap();
        assert_eq!(fixture.figures(&poll).await, ([1, 2, 3], 3, rejected(&[])));
    }
    let of_bob = vote(3, "bob", &list(&poll, 1, &votes));
    fixture.deliver(&[of_bob]).await.unwrap();
    assert_eq!(fixture.figures(&poll).await.0, [2, 4, 6], "an id is its voter's");
}

#[tokio::test]
async fn the_same_id_with_another_content_is_a_duplicate_of_the_first() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 10})).await;
    let single = json!({"poll": poll.id.0, "contestant": 1, "count": 4, "id": id(1)});
    let other = json!({"poll": poll.id.0, "contestant": 2, "count": 9, "id": id(1)});
    let as_list = list(&poll, 1, &[json!({"contestant": 3, "count": 9}), json!({"contestant": 2})]);
    let above = json!({"poll": poll.id.0, "contestant": 1, "count": 11, "id": id(1)});
    fixture.deliver(&[vote(1, "alice", &single)]).await.unwrap();
    let again = [vote(2, "alice", &other), vote(3, "alice", &as_list), vote(4, "alice", &above)];
    fixture.deliver(&again).await.unwrap();
    assert_eq!(fixture.figures(&poll).await, ([4, 1, 0], 2, rejected(&[])), "only the second place is new");
}

#[tokio::test]
async fn a_number_is_an_integer_however_it_is_written() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 10})).await;
    let number = poll.id.0;
    let bodies = [
        format!(r#"{{"poll":{number}.0,"contestant":1.0}}"#),
        format!(r#"{{"poll":{number}e0,"contestant":2e0,"count":7.0,"id":"{}"}}"#, id(1)),
        format!(r#"{{"poll":{number},"id":"{}","votes":[{{"contestant":3.0,"count":1e1}}]}}"#, id(2)),
    ];
    let records: Vec<_> =
        (1..).zip(&bodies).map(|(message, body)| record(message, "alice", CAST_AT, body)).collect();
    fixture.deliver(&records).await.unwrap();
    assert_eq!(fixture.figures(&poll).await, ([1, 7, 10], 3, rejected(&[])));
}

#[tokio::test]
async fn a_list_of_ballots_counts_each_free_one_and_records_the_used_ones() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"votesPerVoter": 3})).await;
    let ballot = |ballot| json!({"contestant": ballot, "ballot": ballot});
    let above = json!({"contestant": 1, "ballot": 4});
    let first = list(&poll, 1, &[ballot(1), ballot(2), above]);
    let second = list(&poll, 2, &[ballot(2), ballot(3), json!({"contestant": 1})]);
    for _ in 0..2 {
        fixture.deliver(&[vote(1, "alice", &first)]).await.unwrap();
        fixture.deliver(&[vote(2, "alice", &second)]).await.unwrap();
        let reasons = [("ballotAboveLimit", 1), ("ballotUsed", 1), ("ballotMissing", 1)];
        assert_eq!(fixture.figures(&poll).await, ([1, 1, 1], 3, rejected(&reasons)));
    }
}
