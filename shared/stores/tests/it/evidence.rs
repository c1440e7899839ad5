//! The evidence for certification: probes, signs, announcements and observations.

use std::{sync::Arc, time::Duration};

use domain::{Action, Basis, Observation, Order, ProbeId, Sign, Timestamp, Waiting, WaitsFor};
use ledger::{Batch, Certified, Observed, Outcome};
use ranking::VotersUpdate;
use serde_json::json;
use sqlx::Connection;

use crate::support::{CAST_AT, Fixture, at, until, uuid};

const KEPT: Duration = Duration::from_secs(900);

impl Fixture {
    /// Adds a probe that the queue has confirmed.
    async fn probe(&self) -> ProbeId {
        let probe = self.ledger.begin_probes(1, Some(7), KEPT).await.unwrap()[0];
        self.ledger.probes_sent(&[probe]).await.unwrap();
        probe
    }

    async fn observe(&self) -> Observation {
        self.ledger.observe(KEPT).await.unwrap()
    }
}

fn probe_batch(probe: ProbeId, cast_at: Timestamp) -> Batch {
    let mut batch = Batch::default();
    batch.probe(probe, cast_at);
    batch
}

#[tokio::test]
async fn a_probe_is_decided_once_and_is_no_message() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.probe().await, fixture.probe().await);
    let undecided = fixture.observe().await;
    assert!(undecided.probes.iter().all(|probe| probe.decided_at.is_none() && probe.handled == Some(7)));
    let poll = fixture.poll(json!({})).await;
    let mut batch = fixture.votes(&poll, 0..3);
    batch.probe(first, at(CAST_AT));
    assert_eq!(batch.len(), 3);
    let counted = fixture.count(&batch).await;
    assert_eq!((counted.counted, counted.rejected.len()), (3, 0));
    let decided = fixture.observe().await.probes;
    assert_eq!(decided[0].cast_at, Some(at(CAST_AT)));
    assert!(decided[0].decided_at.is_some_and(|decided_at| decided_at >= decided[0].sent_at));
    assert_eq!(decided[1].decided_at, None);
    let again = fixture.count(&probe_batch(first, at(CAST_AT + 60_000))).await;
    assert_eq!((again.counted, again.tallies.len()), (0, 0));
    assert_eq!(fixture.observe().await.probes, decided, "the first decision stays");
    fixture.count(&probe_batch(ProbeId(second.0 + 1), at(CAST_AT))).await;
    assert_eq!(fixture.observe().await.probes, decided, "there is no such probe");
}

#[tokio::test]
async fn a_batch_that_is_judged_again_decides_nothing_and_is_no_sign() {
    let fixture = Fixture::new().await;
    let (probe, poll) = (fixture.probe().await, fixture.poll(json!({})).await);
    let mut batch = fixture.votes(&poll, 0..3);
    batch.probe(probe, at(CAST_AT));
    batch.signs(true, true);
    let order = Order::new("crew", Action::Close);
    fixture.ledger.change_poll(poll.id, &order, |poll, _, _| poll.closed(at(CAST_AT))).await.unwrap();
    assert!(matches!(fixture.ledger.count(&batch).await.unwrap(), Outcome::Stale));
    let observation = fixture.observe().await;
    assert_eq!((observation.probes[0].decided_at, observation.signs), (None, Vec::new()));
}

/// The test takes the lock mode of `CREATE INDEX`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_votes_from_being_counted_keeps_probes_from_being_decided() {
    let fixture = Arc::new(Fixture::new().await);
    let probe = fixture.probe().await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let mut locked = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE votes IN SHARE MODE").execute(&mut *locked).await.unwrap();
    let counting = tokio::spawn({
        let fixture = Arc::clone(&fixture);
        async move { fixture.second_ledger().count(&probe_batch(probe, at(CAST_AT))).await.unwrap() }
    });
    let waiting = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'votes'::regclass AND NOT granted";
    until(&mut fixture.scratch.connect().await.unwrap(), waiting).await;
    assert_eq!(fixture.observe().await.probes[0].decided_at, None);
    locked.rollback().await.unwrap();
    counting.await.unwrap();
    assert!(fixture.observe().await.probes[0].decided_at.is_some());
}

#[tokio::test]
async fn signs_are_remembered_with_the_batch_that_shows_them() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.count(&fixture.votes(&poll, 0..3)).await;
    assert_eq!(fixture.observe().await.signs, []);
    let kinds = async || {
        let mut kinds: Vec<_> = fixture.observe().await.signs.iter().map(|(sign, _)| *sign).collect();
        kinds.sort();
        kinds
    };
    let mut batch = fixture.votes(&poll, 0..3);
    batch.signs(true, false);
    fixture.count(&batch).await;
    assert_eq!(kinds().await, [Sign::Redelivered]);
    batch.signs(false, true);
    fixture.count(&batch).await;
    assert_eq!(kinds().await, [Sign::Redelivered, Sign::RedisAway]);
    fixture.ledger.note_sign(Sign::Announced, Duration::from_secs(60)).await.unwrap();
    let seen = |observation: &Observation| {
        observation.signs.iter().find(|(sign, _)| *sign == Sign::Announced).unwrap().1
    };
    let first = seen(&fixture.observe().await);
    fixture.ledger.note_sign(Sign::Announced, Duration::from_secs(90)).await.unwrap();
    assert_eq!(seen(&fixture.observe().await), first, "the latest stays");
}

#[tokio::test]
async fn a_probe_counts_as_not_taken_until_the_queue_has_taken_it() {
    let fixture = Fixture::new().await;
    let probes = fixture.ledger.begin_probes(3, None, KEPT).await.unwrap();
    assert!(fixture.observe().await.probes.iter().all(|probe| probe.failed));
    fixture.ledger.probes_sent(&probes[1..]).await.unwrap();
    let failed: Vec<_> = fixture.observe().await.probes.iter().map(|probe| probe.failed).collect();
    assert_eq!(failed.iter().filter(|&&failed| failed).count(), 1);
}

#[tokio::test]
async fn decided_probes_are_forgotten_and_undecided_ones_kept() {
    let fixture = Fixture::new().await;
    let (decided, _undecided) = (fixture.probe().await, fixture.probe().await);
    fixture.count(&probe_batch(decided, at(CAST_AT))).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let age = "UPDATE probes SET sent_at = sent_at - interval '1 hour'";
    sqlx::query(age).execute(&mut connection).await.unwrap();
    fixture.probe().await;
    let kept: Vec<_> = fixture.observe().await.probes;
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().all(|probe| probe.decided_at.is_none()));
    let age = "UPDATE probes SET sent_at = sent_at - interval '15 days'";
    sqlx::query(age).execute(&mut connection).await.unwrap();
    fixture.probe().await;
    assert_eq!(fixture.observe().await.probes.len(), 1, "their messages are gone, too");
}

#[tokio::test]
async fn what_was_observed_is_of_one_close() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let closes_at = poll.closes_at.unwrap();
    assert_eq!(fixture.ledger.closing(poll.id, closes_at).await.unwrap().observed, None);
    let waiting = Waiting {
        waits_for: WaitsFor::Sign,
        sign: Some(Sign::ProbeLate),
        until: Some(at(CAST_AT)),
        waiting: Some(50),
    };
    for waiting in [Some(waiting), None] {
        let observed = Observed { poll: poll.id, closes_at, waiting };
        fixture.ledger.note_closings(&[observed]).await.unwrap();
        let closing = fixture.ledger.closing(poll.id, closes_at).await.unwrap();
        assert_eq!(closing.waiting, waiting);
        assert!(closing.observed.unwrap() < Duration::from_secs(20));
    }
    assert_eq!(fixture.ledger.closing(poll.id, at(CAST_AT)).await.unwrap().observed, None);
}

#[tokio::test]
async fn what_was_judged_by_one_close_certifies_no_other() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let certify = async |closes_at| {
        fixture.ledger.certify_by(poll.id, Some(closes_at), Basis::Evidence, None).await.unwrap()
    };
    assert_eq!(
        certify(at(CAST_AT)).await,
        Some(Certified::NotClosed),
        "it was opened again and closed since"
    );
    assert_eq!(certify(poll.closes_at.unwrap()).await, Some(Certified::Now));
    assert_eq!(certify(poll.closes_at.unwrap()).await, Some(Certified::Before));
}

#[tokio::test]
async fn a_batch_announces_itself_and_takes_that_back_as_it_ends() {
    let fixture = Fixture::new().await;
    let ranking = fixture.ranking();
    let none = ranking.batches(KEPT).await.unwrap();
    assert_eq!((none.handled, none.outstanding.len()), (0, 0));
    ranking.announce(uuid(1)).await.unwrap();
    ranking.announce(uuid(2)).await.unwrap();
    assert_eq!(ranking.batches(KEPT).await.unwrap().outstanding.len(), 2);
    for _repeated in 0..2 {
        ranking.raise_batch(&[].into(), &VotersUpdate::default(), uuid(1), 300).await.unwrap();
    }
    let one = ranking.batches(KEPT).await.unwrap();
    assert_eq!((one.handled, one.outstanding.len()), (300, 1));
    assert!(one.outstanding[0] < Duration::from_secs(20) && one.whole_for < Duration::from_secs(20));
    let mut connection = redis::Client::open(fixture.scratch.redis_url.as_str())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap();
    redis::cmd("ZINCRBY")
        .arg(format!("{}:announced", fixture.ledger.address()))
        .arg(-60_000)
        .arg(uuid(2).to_string())
        .exec_async(&mut connection)
        .await
        .unwrap();
    let old = ranking.batches(KEPT).await.unwrap().outstanding[0];
    assert!(old >= Duration::from_secs(60) && old < Duration::from_secs(80), "{old:?}");
    assert!(ranking.batches(Duration::from_secs(30)).await.unwrap().outstanding.is_empty());
}
