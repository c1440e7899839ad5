//! Batches through the handler.

use std::{collections::BTreeMap, time::Duration};

use domain::{Action, Order, PollId, Redrive, VoterHasher};
use ledger::Ledger;
use local_stores::scratch::Scratch;
use ranking::RankingStore;
use runtime::Clock;
use serde_json::json;
use votes::Handler;

use crate::support::{CAST_AT, Fixture, LIMIT, at, record, vote};

#[tokio::test]
async fn each_bad_vote_is_rejected_for_its_reason_and_its_neighbours_count() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let limited = fixture.poll(json!({"votesPerVoter": 2})).await;
    let (open, limited) = (poll.id.0, limited.id.0);
    let good = json!({"poll": open, "contestant": 1}).to_string();
    let padded = format!("{good:1025}");
    let cases = [
        ("notJson", CAST_AT, "vote".to_owned()),
        ("wrongType", CAST_AT, json!({"poll": open, "contestant": "1"}).to_string()),
        ("missingField", CAST_AT, json!({"poll": open}).to_string()),
        ("tooLarge", CAST_AT, padded),
        ("unknownPoll", CAST_AT, json!({"poll": 1_000_000, "contestant": 1}).to_string()),
        ("unknownPoll", CAST_AT, json!({"poll": -1, "contestant": 1}).to_string()),
        ("unknownContestant", CAST_AT, json!({"poll": open, "contestant": 9}).to_string()),
        ("beforeOpening", CAST_AT - 1_001, good.clone()),
        ("afterClosing", CAST_AT + 1_000, good.clone()),
        ("ballotMissing", CAST_AT, json!({"poll": limited, "contestant": 1}).to_string()),
        ("ballotBelowOne", CAST_AT, json!({"poll": limited, "contestant": 1, "ballot": 0}).to_string()),
        ("ballotAboveLimit", CAST_AT, json!({"poll": limited, "contestant": 1, "ballot": 3}).to_string()),
        ("ballotNotAllowed", CAST_AT, json!({"poll": open, "contestant": 1, "ballot": 1}).to_string()),
    ];
    let mut records = Vec::new();
    for (index, (_, sent_at, body)) in cases.iter().enumerate() {
        records.push(record(1_000 + index as u128, "alice", *sent_at, body));
        records.push(record(index as u128, "alice", CAST_AT, &good));
    }
    let mut anonymous = record(2_000, "", CAST_AT, &good);
    anonymous["attributes"].as_object_mut().unwrap().remove("MessageGroupId");
    records.push(anonymous);
    assert!(fixture.deliver(&records).await.unwrap().is_empty(), "every one is acknowledged");
    assert_eq!(fixture.votes(&poll).await, cases.len() as u64);
    let (of_open, of_limited) = (fixture.audit(PollId(open)).await, fixture.audit(PollId(limited)).await);
    let mut seen: Vec<_> =
        of_open.rejected.into_iter().chain(of_limited.rejected).chain(of_open.unattributed).collect();
    seen.sort();
    let mut expected: Vec<(String, u64)> =
        cases.iter().map(|(reason, ..)| ((*reason).to_owned(), 1)).collect();
    expected.push(("noVoter".to_owned(), 1));
    expected.retain(|(reason, _)| reason != "unknownPoll");
    expected.push(("unknownPoll".to_owned(), 2));
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_clients_id_counts_once_for_each_voter() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1, "id": "0194f0c0-0000-7000-8000-000000000000"});
    fixture
        .deliver(&[vote(1, "alice", &body), vote(2, "alice", &body), vote(3, "bob", &body)])
        .await
        .unwrap();
    fixture.deliver(&[vote(4, "alice", &body)]).await.unwrap();
    assert_eq!(fixture.votes(&poll).await, 2);
}

/// A redrive that crashes between sending and deleting sends the vote again later: three messages, one vote.
#[tokio::test]
async fn a_redriven_vote_is_the_vote_that_was_cast() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1}).to_string();
    let first = record(1, "alice", CAST_AT, &body);
    let hasher: VoterHasher = fixture.scratch.environment("VOTER_HASH_KEY").unwrap().parse().unwrap();
    let redriven = |id, signed_for| {
        let mut record = record(id, "alice", CAST_AT + 3_600_000, &body);
        let (message_id, cast_at_ms) = (first["messageId"].as_str().unwrap(), CAST_AT.to_string());
        let redrive = Redrive { body: &body, voter: signed_for, cast_at_ms: &cast_at_ms, message_id };
        let signature = redrive.sign(&hasher).to_string();
        for (name, value) in
            [("messageId", message_id), ("castAt", &cast_at_ms), ("redriveSignature", &signature)]
        {
            record["messageAttributes"][name] = json!({"stringValue": value, "dataType": "String"});
        }
        record
    };
    fixture.deliver(&[redriven(2, "alice"), redriven(3, "alice")]).await.unwrap();
    fixture.deliver(std::slice::from_ref(&first)).await.unwrap();
    let audit = fixture.audit(poll.id).await;
    assert_eq!(
        (audit.ledger.values().sum::<u64>(), audit.rejected.len()),
        (1, 0),
        "though redriven long after the close"
    );
    fixture.deliver(&[redriven(4, "bob")]).await.unwrap();
    let audit = fixture.audit(poll.id).await;
    assert_eq!(
        audit.rejected,
        BTreeMap::from([("afterClosing".to_owned(), 1)]),
        "not with the signature of another voter's vote"
    );
}

#[tokio::test]
async fn a_ballot_counts_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"votesPerVoter": 2})).await;
    let body = |contestant, ballot| json!({"poll": poll.id.0, "contestant": contestant, "ballot": ballot});
    fixture.deliver(&[vote(1, "alice", &body(1, 1)), vote(2, "alice", &body(2, 2))]).await.unwrap();
    fixture.deliver(&[vote(3, "alice", &body(3, 1)), vote(4, "bob", &body(3, 1))]).await.unwrap();
    let tally: Vec<_> = fixture.audit(poll.id).await.ledger.into_values().collect();
    assert_eq!(tally, [1, 1, 1]);
}

#[tokio::test]
async fn definitions_in_memory_follow_the_ledger() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"opensAt": at(CAST_AT + 1)})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    fixture.deliver(&[vote(1, "alice", &body)]).await.unwrap();
    assert_eq!(fixture.votes(&poll).await, 0);
    let order = Order::new("crew", Action::Open);
    fixture.ledger.change_poll(poll.id, &order, |poll, _, _| poll.opened(at(CAST_AT))).await.unwrap();
    fixture.deliver(&[vote(2, "alice", &body)]).await.unwrap();
    assert_eq!(fixture.votes(&poll).await, 1);
    let unknown = json!({"poll": poll.id.0 + 1, "contestant": 1});
    fixture.deliver(&[vote(3, "alice", &unknown)]).await.unwrap();
    let created = fixture.poll(json!({})).await;
    assert_eq!(created.id.0, poll.id.0 + 1);
    fixture.deliver(&[vote(4, "alice", &unknown)]).await.unwrap();
    assert_eq!(fixture.votes(&created).await, 1, "absence is not cached for good either");
}

/// A redelivery would change nothing, and a message that is redelivered again and again keeps the queue from
/// emptying.
#[tokio::test]
async fn what_sqs_would_not_make_is_rejected_once_and_never_comes_again() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    let mut timeless = vote(1, "alice", &body);
    timeless["attributes"] = json!({});
    let mut negative = vote(2, "alice", &body);
    negative["attributes"]["SentTimestamp"] = json!("-5");
    let mut misnamed = vote(3, "alice", &body);
    misnamed["messageId"] = json!("7");
    let mut without_id = vote(4, "alice", &body);
    without_id.as_object_mut().unwrap().remove("messageId");
    let records = [timeless, negative, misnamed, without_id, json!(7), vote(5, "alice", &body)];
    for _ in 0..2 {
        assert!(fixture.deliver(&records).await.unwrap().is_empty(), "every one is acknowledged");
    }
    assert!(
        fixture.deliver(&records[3..4]).await.unwrap().is_empty(),
        "also where there is nothing to count"
    );
    let audit = fixture.audit(poll.id).await;
    assert_eq!(audit.rejected, BTreeMap::from([("unreadable".to_owned(), 3)]));
    assert_eq!(fixture.votes(&poll).await, 1, "their neighbour counts");
}

#[tokio::test]
async fn every_batch_sends_the_totals_also_when_nothing_in_it_is_new() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let records = [vote(1, "alice", &json!({"poll": poll.id.0, "contestant": 2}))];
    fixture.deliver(&records).await.unwrap();
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    fixture.deliver(&records).await.unwrap();
    let ranking =
        RankingStore::new(&fixture.scratch.redis_url, fixture.ledger.address(), Duration::from_secs(5), 600)
            .unwrap();
    let tally: Vec<_> = ranking.tally(&poll).await.unwrap().unwrap().into_values().collect();
    assert_eq!(tally, [0, 1, 0]);
}

#[tokio::test]
async fn a_warm_batch_is_one_awaited_round_trip_to_each_store_whatever_its_size() {
    let scratch = Scratch::new().await.unwrap();
    let (through, trips) = scratch.counted().await.unwrap();
    let lookup = |variable: &str| through.environment(variable);
    let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
    let fixture = Fixture {
        handler: Handler::new(&lookup, Clock::system()).unwrap(),
        ledger,
        scratch: scratch.clone(),
    };
    let poll = fixture.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    fixture.deliver(&[vote(0, "alice", &body)]).await.unwrap();
    for (first, last) in [(1, 2), (1_000, 1_300), (10_000, 13_000)] {
        let before = trips.so_far();
        let records: Vec<_> = (first..last).map(|id| vote(id, "alice", &body)).collect();
        fixture.deliver(&records).await.unwrap();
        let after = trips.so_far();
        // The announcement shares a round trip with the totals, or takes one of its own.
        let (to_database, to_redis) = (after.0 - before.0, after.1 - before.1);
        assert_eq!(to_database, 1, "{} votes", last - first);
        assert!((1..=2).contains(&to_redis), "{to_redis} for {} votes", last - first);
    }
    assert_eq!(fixture.votes(&poll).await, 3_302);
}
