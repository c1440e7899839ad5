//! Batches through the handler, against real stores.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::time::Duration;

use lambda_runtime::{Context, LambdaEvent};
use local::scratch::Scratch;
use serde_json::{Value, json};
use shared::{
    domain::{Poll, PollId, Timestamp},
    ledger::{self, Ledger},
    ranking::RankingStore,
};
use votes::Handler;

/// Long enough for any call that ends at all.
const LIMIT: Duration = Duration::from_secs(20);

const CAST_AT: i64 = 1_750_000_000_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

struct Bench {
    scratch: Scratch,
    ledger: Ledger,
    handler: Handler,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|_, _| None).await
    }

    /// A handler whose environment differs in what `change` answers.
    async fn with(change: impl Fn(&Scratch, &str) -> Option<String>) -> Self {
        let scratch = Scratch::new().await.unwrap();
        let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
        let lookup = |name: &str| change(&scratch, name).or_else(|| scratch.environment(name));
        let handler = Handler::new(&lookup).unwrap();
        Self { scratch, ledger, handler }
    }

    async fn poll(&self, changes: Value) -> Poll {
        let mut draft = json!({
            "title": "Who stays?", "opensAt": at(CAST_AT - 1_000), "closesAt": at(CAST_AT + 1_000),
            "contestants": [{"name": "Ana"}, {"name": "Bia"}, {"name": "Caio"}],
        });
        draft.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.ledger.create_poll(&serde_json::from_value(draft).unwrap()).await.unwrap().poll
    }

    /// Hands a batch over; the message ids that are to come again.
    async fn deliver(&self, records: &[Value]) -> Result<Vec<String>, votes::Error> {
        let event = LambdaEvent::new(
            serde_json::from_value(json!({ "Records": records })).unwrap(),
            Context::default(),
        );
        let response = self.handler.handle(event).await?;
        Ok(response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect())
    }

    async fn audit(&self, poll: PollId) -> ledger::Audit {
        let audit = self.ledger.audit(poll, LIMIT).await.unwrap();
        assert_eq!(audit.ledger, audit.tally);
        audit
    }

    async fn votes(&self, poll: &Poll) -> u64 {
        self.audit(poll.id).await.ledger.values().sum()
    }
}

/// A message of the gateway, as the event source mapping delivers it.
fn record(id: u128, sub: &str, sent_at: i64, body: &str) -> Value {
    json!({
        "messageId": uuid::Uuid::from_u128(id), "receiptHandle": "r", "body": body,
        "attributes": {"SentTimestamp": sent_at.to_string(), "ApproximateReceiveCount": "1"},
        "messageAttributes": {"voter": {"stringValue": sub, "dataType": "String"}},
        "eventSource": "aws:sqs", "awsRegion": "us-east-1",
    })
}

fn vote(id: u128, sub: &str, body: &Value) -> Value {
    record(id, sub, CAST_AT, &body.to_string())
}

#[tokio::test]
async fn each_bad_vote_is_rejected_for_its_reason_and_its_neighbours_count() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({})).await;
    let limited = bench.poll(json!({"votesPerVoter": 2})).await;
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
    anonymous["messageAttributes"] = json!({});
    records.push(anonymous);
    assert!(bench.deliver(&records).await.unwrap().is_empty(), "every one is acknowledged");
    assert_eq!(bench.votes(&poll).await, cases.len() as u64);
    let (of_open, of_limited) = (bench.audit(PollId(open)).await, bench.audit(PollId(limited)).await);
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
    let bench = Bench::new().await;
    let poll = bench.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1, "id": "0194f0c0-0000-7000-8000-000000000000"});
    bench.deliver(&[vote(1, "alice", &body), vote(2, "alice", &body), vote(3, "bob", &body)]).await.unwrap();
    bench.deliver(&[vote(4, "alice", &body)]).await.unwrap();
    assert_eq!(bench.votes(&poll).await, 2);
}

#[tokio::test]
async fn a_ballot_counts_once() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({"votesPerVoter": 2})).await;
    let body = |contestant, ballot| json!({"poll": poll.id.0, "contestant": contestant, "ballot": ballot});
    bench.deliver(&[vote(1, "alice", &body(1, 1)), vote(2, "alice", &body(2, 2))]).await.unwrap();
    bench.deliver(&[vote(3, "alice", &body(3, 1)), vote(4, "bob", &body(3, 1))]).await.unwrap();
    let tally: Vec<_> = bench.audit(poll.id).await.ledger.into_values().collect();
    assert_eq!(tally, [1, 1, 1]);
}

#[tokio::test]
async fn definitions_in_memory_follow_the_ledger() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({"opensAt": at(CAST_AT + 1)})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    bench.deliver(&[vote(1, "alice", &body)]).await.unwrap();
    assert_eq!(bench.votes(&poll).await, 0);
    bench.ledger.change_poll(poll.id, |poll, _, _| poll.opened(at(CAST_AT))).await.unwrap();
    bench.deliver(&[vote(2, "alice", &body)]).await.unwrap();
    assert_eq!(bench.votes(&poll).await, 1);
    let unknown = json!({"poll": poll.id.0 + 1, "contestant": 1});
    bench.deliver(&[vote(3, "alice", &unknown)]).await.unwrap();
    let created = bench.poll(json!({})).await;
    assert_eq!(created.id.0, poll.id.0 + 1);
    bench.deliver(&[vote(4, "alice", &unknown)]).await.unwrap();
    assert_eq!(bench.votes(&created).await, 1, "absence is not remembered either");
}

#[tokio::test]
async fn what_sqs_would_not_make_comes_again_alone() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    let mut timeless = vote(1, "alice", &body);
    timeless["attributes"] = json!({});
    let id = timeless["messageId"].as_str().unwrap().to_owned();
    assert_eq!(bench.deliver(&[timeless, vote(2, "alice", &body)]).await.unwrap(), [id]);
    assert_eq!(bench.votes(&poll).await, 1);
}

#[tokio::test]
async fn votes_count_while_redis_is_away() {
    let bench = Bench::with(|_, name| (name == "REDIS_URL").then(|| "redis://127.0.0.1:1".to_owned())).await;
    let poll = bench.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    assert!(bench.deliver(&[vote(1, "alice", &body)]).await.unwrap().is_empty());
    assert_eq!(bench.votes(&poll).await, 1);
}

#[tokio::test]
async fn while_the_ledger_is_away_the_batch_fails_whole() {
    let away = "postgres://nobody@127.0.0.1:1/nothing";
    let bench = Bench::with(|_, name| (name == "DATABASE_URL").then(|| away.to_owned())).await;
    let error = bench.deliver(&[vote(1, "alice", &json!({"poll": 1, "contestant": 1}))]).await.unwrap_err();
    assert!(matches!(error, votes::Error::Ledger(_)), "{error}");
}

#[tokio::test]
async fn every_batch_sends_the_totals_also_when_nothing_in_it_is_new() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({})).await;
    let records = [vote(1, "alice", &json!({"poll": poll.id.0, "contestant": 2}))];
    bench.deliver(&records).await.unwrap();
    let client = redis::Client::open(bench.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    bench.deliver(&records).await.unwrap();
    let ranking = RankingStore::new(&bench.scratch.redis_url, Duration::from_secs(5), 600).unwrap();
    let tally: Vec<_> = ranking.tally(&poll).await.unwrap().unwrap().into_values().collect();
    assert_eq!(tally, [0, 1, 0]);
}

#[tokio::test]
async fn a_warm_batch_is_one_round_trip_to_each_store_whatever_its_size() {
    let scratch = Scratch::new().await.unwrap();
    let (through, turns) = scratch.counted().await.unwrap();
    let lookup = |variable: &str| through.environment(variable);
    let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
    let bench = Bench { handler: Handler::new(&lookup).unwrap(), ledger, scratch: scratch.clone() };
    let poll = bench.poll(json!({})).await;
    let body = json!({"poll": poll.id.0, "contestant": 1});
    bench.deliver(&[vote(0, "alice", &body)]).await.unwrap();
    for (first, last) in [(1, 2), (1_000, 1_300), (10_000, 13_000)] {
        let before = turns.so_far();
        let records: Vec<_> = (first..last).map(|id| vote(id, "alice", &body)).collect();
        bench.deliver(&records).await.unwrap();
        let after = turns.so_far();
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1), "{} votes", last - first);
    }
    assert_eq!(bench.votes(&poll).await, 3_302);
}
