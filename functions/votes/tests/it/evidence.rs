//! The evidence that a batch leaves for certification: decided probes, announcements, signs.

use std::time::Duration;

use domain::{Probe, ProbeId, Sign, VoterHasher};
use ranking::{Batches, RankingStore};
use serde_json::{Value, json};

use crate::support::{CAST_AT, Fixture, LIMIT, record, vote};

const KEPT: Duration = Duration::from_secs(900);

impl Fixture {
    fn hasher(&self) -> VoterHasher {
        self.scratch.environment("VOTER_HASH_KEY").unwrap().parse().unwrap()
    }

    /// A probe as `functions/results` sends it, with any signature.
    fn probe(&self, probe: ProbeId, signature: &str) -> Value {
        let mut record = record(900_000 + probe.0 as u128, "", CAST_AT, &probe.body());
        record["messageAttributes"] = json!({"probe": {"stringValue": signature, "dataType": "String"}});
        record
    }

    async fn probes(&self) -> Vec<Probe> {
        self.ledger.observe(KEPT).await.unwrap().probes
    }

    async fn signs(&self) -> Vec<Sign> {
        self.ledger.observe(KEPT).await.unwrap().signs.into_iter().map(|(sign, _)| sign).collect()
    }

    async fn batches(&self) -> Batches {
        let ranking = RankingStore::new(&self.scratch.redis_url, self.ledger.address(), LIMIT, 600).unwrap();
        ranking.batches(KEPT).await.unwrap()
    }
}

#[tokio::test]
async fn a_probe_is_decided_and_is_no_vote_no_rejection_and_not_handled() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let ids = fixture.ledger.begin_probes(2, None, KEPT).await.unwrap();
    let signed = |id: ProbeId| fixture.probe(id, &id.sign(&fixture.hasher()).to_string());
    let body = json!({"poll": poll.id.0, "contestant": 1});
    let records = [signed(ids[0]), vote(1, "alice", &body), vote(2, "alice", &body)];
    assert!(fixture.deliver(&records).await.unwrap().is_empty());
    assert!(fixture.deliver(&[signed(ids[1])]).await.unwrap().is_empty(), "alone, too");
    assert!(
        fixture.probes().await.iter().all(|probe| probe.cast_at.is_some_and(|at| at.millis() == CAST_AT))
    );
    let audit = fixture.audit(poll.id).await;
    assert_eq!(
        (audit.ledger.values().sum::<u64>(), audit.rejected.len(), audit.unattributed.len()),
        (2, 0, 0)
    );
    let batches = fixture.batches().await;
    assert_eq!((batches.handled, batches.outstanding.len()), (2, 0));
}

#[tokio::test]
async fn a_crafted_probe_decides_nothing_and_is_a_bad_vote() {
    let fixture = Fixture::new().await;
    let ids = fixture.ledger.begin_probes(2, None, KEPT).await.unwrap();
    let of_another = ids[1].sign(&fixture.hasher()).to_string();
    let crafted = ["", "00000000000000000000000000000000", &of_another].map(|it| fixture.probe(ids[0], it));
    for record in &crafted {
        assert!(fixture.deliver(std::slice::from_ref(record)).await.unwrap().is_empty());
    }
    assert!(fixture.probes().await.iter().all(|probe| probe.decided_at.is_none()));
    let poll = fixture.poll(json!({})).await;
    assert_eq!(fixture.audit(poll.id).await.unattributed.values().sum::<u64>(), 1, "of one message");
}

#[tokio::test]
async fn a_message_that_comes_again_is_a_sign() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut again = vote(1, "alice", &json!({"poll": poll.id.0, "contestant": 1}));
    fixture.deliver(std::slice::from_ref(&again)).await.unwrap();
    assert_eq!(fixture.signs().await, []);
    again["attributes"]["ApproximateReceiveCount"] = "2".into();
    fixture.deliver(&[again]).await.unwrap();
    assert_eq!(fixture.signs().await, [Sign::Redelivered]);
}

#[tokio::test]
async fn a_batch_that_fails_leaves_its_announcement() {
    let fixture = Fixture::with(|_, name| match name {
        "DATABASE_TIMEOUT_MS" => Some("60000".to_owned()),
        "BATCH_TIMEOUT_MS" => Some("300".to_owned()),
        _ => None,
    })
    .await;
    let poll = fixture.poll(json!({})).await;
    let votes = [vote(1, "alice", &json!({"poll": poll.id.0, "contestant": 1}))];
    let mut holder = fixture.scratch.connect().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(&mut holder).await.unwrap();
    assert!(fixture.deliver(&votes).await.is_err());
    let batches = fixture.batches().await;
    assert_eq!((batches.handled, batches.outstanding.len()), (0, 1));
    sqlx::query("SELECT pg_advisory_unlock(fence())").execute(&mut holder).await.unwrap();
    fixture.deliver(&votes).await.unwrap();
    let batches = fixture.batches().await;
    assert_eq!((batches.handled, batches.outstanding.len()), (1, 1), "the redelivery is a batch of its own");
}

/// Redis refuses the announcement, so the next count at the latest records a sign in the ledger.
#[tokio::test]
async fn a_batch_that_could_not_announce_itself_is_a_sign() {
    let fixture =
        Fixture::with(|_, name| (name == "REDIS_URL").then(|| "redis://127.0.0.1:1".to_owned())).await;
    let poll = fixture.poll(json!({})).await;
    for id in 1..=2 {
        fixture.deliver(&[vote(id, "alice", &json!({"poll": poll.id.0, "contestant": 1}))]).await.unwrap();
    }
    assert_eq!(fixture.signs().await, [Sign::RedisAway]);
}

/// Redis hangs for longer than the test waits, and the batch is counted all the same.
#[tokio::test]
async fn nothing_waits_for_the_announcement() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let fixture = Fixture::with(|_, name| match name {
        "REDIS_URL" => Some(format!("redis://{address}")),
        "REDIS_TIMEOUT_MS" => Some("60000".to_owned()),
        _ => None,
    })
    .await;
    // Judging needs no definition, so only the announcement goes to Redis before the count.
    let bad = [record(1, "alice", CAST_AT, "vote")];
    let mut connection = fixture.scratch.connect().await.unwrap();
    let counted = async {
        while sqlx::query_scalar::<_, i64>("SELECT count(*) FROM rejections")
            .fetch_one(&mut connection)
            .await
            .unwrap()
            == 0
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = fixture.deliver(&bad) => panic!("the totals are waited for"),
        () = counted => {}
        () = tokio::time::sleep(LIMIT) => panic!("the announcement was waited for"),
    }
}
