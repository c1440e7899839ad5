//! The voters that batches send to Redis for the estimates.

use domain::{Poll, PollId};
use ranking::RankingStore;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Fixture, LIMIT, vote};

impl Fixture {
    async fn voters(&self, polls: &[PollId]) -> Vec<Option<u64>> {
        let ranking = RankingStore::new(&self.scratch.redis_url, self.ledger.address(), LIMIT, 600).unwrap();
        ranking.voters(polls).await.unwrap()
    }
}

fn votes(poll: &Poll, ids: std::ops::Range<u128>) -> Vec<Value> {
    let body = |id| json!({"poll": poll.id.0, "contestant": id % 3 + 1});
    ids.map(|id| vote(id, &format!("voter {id}"), &body(id))).collect()
}

#[tokio::test]
async fn the_batch_with_a_polls_first_votes_makes_its_estimate_whole() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.poll(json!({})).await, fixture.poll(json!({})).await);
    let polls = [first.id, second.id];
    fixture.deliver(&votes(&first, 0..3)).await.unwrap();
    assert_eq!(fixture.voters(&polls).await, [Some(3), None]);
    let both = [votes(&first, 3..5), votes(&second, 5..6)].concat();
    fixture.deliver(&both).await.unwrap();
    assert_eq!(fixture.voters(&polls).await, [Some(5), Some(1)], "also of one contestant alone");
    fixture.deliver(&votes(&second, 7..8)).await.unwrap();
    assert_eq!(fixture.voters(&polls).await, [Some(5), Some(2)]);
}

#[tokio::test]
async fn a_redelivered_or_later_batch_claims_no_first_votes() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.deliver(&votes(&poll, 0..1)).await.unwrap();
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    for records in [votes(&poll, 0..1), votes(&poll, 0..2), votes(&poll, 3..9)] {
        fixture.deliver(&records).await.unwrap();
        assert_eq!(fixture.voters(&[poll.id]).await, [None]);
    }
}

#[tokio::test]
async fn voters_that_redis_refused_are_sent_with_the_next_batch() {
    let user = format!("user{}", Uuid::new_v4().simple());
    let as_user = |url: &str| url.replace("redis://", &format!("redis://{user}:password@"));
    let fixture =
        Fixture::with(|scratch, name| (name == "REDIS_URL").then(|| as_user(&scratch.redis_url))).await;
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut server = client.get_multiplexed_async_connection().await.unwrap();
    let mut allow = async |rules: &[&str]| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(&user).arg(rules).exec_async(&mut server).await.unwrap();
    };
    allow(&["on", ">password", "~*", "+@all"]).await;
    let poll = fixture.poll(json!({})).await;
    fixture.deliver(&votes(&poll, 0..3)).await.unwrap();
    allow(&["-@write"]).await;
    fixture.deliver(&votes(&poll, 3..6)).await.unwrap();
    assert_eq!(fixture.voters(&[poll.id]).await, [Some(3)]);
    allow(&["+@write"]).await;
    fixture.deliver(&votes(&poll, 6..7)).await.unwrap();
    assert_eq!(fixture.voters(&[poll.id]).await, [Some(7)]);
}
