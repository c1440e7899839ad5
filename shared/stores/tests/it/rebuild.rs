//! A rebuild corrects a tally that differs from the votes, while votes are counted.

use std::sync::Arc;

use domain::{ContestantNumber, PollId};
use serde_json::json;

use crate::support::{Fixture, LIMIT};

#[tokio::test]
async fn a_wrong_tally_is_seen_and_put_right() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.count(&fixture.votes(&poll, 0..300)).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    for sql in [
        "UPDATE tallies SET votes = votes + 5 WHERE contestant = 1",
        "UPDATE tallies SET votes = votes - 7 WHERE contestant = 2",
        "DELETE FROM tallies WHERE contestant = 3",
    ] {
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }
    let before = fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
    assert_eq!(before.tally[&ContestantNumber(1)], 105);
    assert_eq!(before.ledger[&ContestantNumber(1)], 100);
    assert!(fixture.ledger.rebuild(poll.id, "crew", LIMIT).await.unwrap());
    assert_eq!(fixture.ledger_votes(&poll).await, 300);
    assert_eq!(fixture.reload(poll.id).await.epoch, poll.epoch + 1);
    assert!(fixture.ledger.rebuild(poll.id, "crew", LIMIT).await.unwrap(), "a second time changes no figure");
    assert_eq!(fixture.ledger_votes(&poll).await, 300);
}

#[tokio::test]
async fn there_is_nothing_to_rebuild_of_a_poll_that_is_not() {
    let fixture = Fixture::new().await;
    assert!(!fixture.ledger.rebuild(PollId(1_000_000), "crew", LIMIT).await.unwrap());
}

/// Rebuilds and batches run concurrently: a rebuild that set the tally to an earlier count would lose votes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rebuilding_loses_no_vote_that_is_counted_meanwhile() {
    let fixture = Arc::new(Fixture::new().await);
    let poll = fixture.poll(json!({})).await;
    let voter = {
        let (fixture, poll) = (fixture.clone(), poll.clone());
        tokio::spawn(async move {
            let ledger = fixture.second_ledger();
            for start in (0..3_000_u128).step_by(30) {
                let mut current = poll.clone();
                while matches!(
                    ledger.count(&fixture.votes(&current, start..start + 30)).await.unwrap(),
                    ledger::Outcome::Stale
                ) {
                    current = fixture.reload(poll.id).await;
                }
            }
        })
    };
    while !voter.is_finished() {
        let (a, b) = (fixture.second_ledger(), fixture.second_ledger());
        let (a, b) = tokio::join!(a.rebuild(poll.id, "crew", LIMIT), b.rebuild(poll.id, "crew", LIMIT));
        assert!(a.unwrap() && b.unwrap());
    }
    voter.await.unwrap();
    assert_eq!(fixture.ledger_votes(&poll).await, 3_000);
}

/// All rebuilds find the same drift. If each corrected it, the tally would drift in the other direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rebuilds_at_once_put_a_drift_right_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.count(&fixture.votes(&poll, 0..30)).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let ledgers = [(); 3].map(|()| fixture.second_ledger());
    for _ in 0..20 {
        sqlx::query("UPDATE tallies SET votes = votes + 5").execute(&mut connection).await.unwrap();
        let [a, b, c] = ledgers.each_ref().map(|ledger| ledger.rebuild(poll.id, "crew", LIMIT));
        let (a, b, c) = tokio::join!(a, b, c);
        assert!(a.unwrap() && b.unwrap() && c.unwrap());
        assert_eq!(fixture.ledger_votes(&poll).await, 30);
    }
}
