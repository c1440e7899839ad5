//! A vote counts once, and has one outcome.

use std::{collections::BTreeMap, sync::Arc};

use domain::{ContestantNumber, Facts, Message, Poll, PollId, Rejection, Timestamp, VoteRequest, judge};
use ledger::{Batch, Outcome};
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::{CAST_AT, Fixture, LIMIT, at, rejected, until};

#[tokio::test]
async fn a_batch_delivered_again_counts_nothing_and_still_answers_the_totals() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let batch = fixture.votes(&poll, 0..300);
    let first = fixture.count(&batch).await;
    let again = fixture.count(&batch).await;
    assert_eq!((first.counted, again.counted), (300, 0));
    assert_eq!(first.tallies, again.tallies);
    let hundred_each = [1, 2, 3].map(|number| (ContestantNumber(number), 100)).into();
    assert_eq!(again.tallies, BTreeMap::from([(poll.id, hundred_each)]));
    assert_eq!(fixture.ledger_votes(&poll).await, 300);
}

/// Overlapping batches in opposite orders from many concurrent functions: an unordered insert or tally update would
/// deadlock on them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_deliveries_in_any_order_count_once() {
    let fixture = Arc::new(Fixture::new().await);
    let polls = Arc::new([fixture.poll(json!({})).await, fixture.poll(json!({})).await]);
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (fixture, polls) = (fixture.clone(), polls.clone());
            tokio::spawn(async move {
                let ledger = fixture.second_ledger();
                let mut counted = 0;
                for start in (0..400_u128).step_by(100) {
                    for poll in polls.iter() {
                        let mut ids: Vec<_> = (start..start + 150).collect();
                        if worker % 2 == 1 {
                            ids.reverse();
                        }
                        match ledger.count(&fixture.votes(poll, ids)).await.unwrap() {
                            Outcome::Counted(done) => counted += done.counted,
                            Outcome::Stale => panic!("no definition has changed"),
                        }
                    }
                }
                counted
            })
        })
        .collect();
    let mut counted = 0;
    for worker in workers {
        counted += worker.await.unwrap();
    }
    assert_eq!(counted, 900);
    assert_eq!(fixture.ledger_votes(&polls[0]).await, 450);
    assert_eq!(fixture.ledger_votes(&polls[1]).await, 450);
}

/// Different votes for the same contestants of the same polls from many concurrent functions: they conflict only in
/// the tallies, where an unordered update would deadlock.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_batches_meet_at_the_tallies_in_one_order() {
    const FUNCTIONS: u128 = 50;
    const BATCHES: u128 = 3;
    const POLLS: usize = 100;
    /// Votes for each poll in each batch: 300 in a batch.
    const VOTES: u128 = 3;
    let fixture = Arc::new(Fixture::new().await);
    let contestants: Vec<_> = (0..10).map(|number| json!({"name": format!("{number}")})).collect();
    let mut polls = Vec::new();
    for _ in 0..POLLS {
        polls.push(fixture.poll(json!({ "contestants": contestants })).await);
    }
    let polls = Arc::new(polls);
    let workers = (0..FUNCTIONS).map(|worker| {
        let (fixture, polls) = (fixture.clone(), polls.clone());
        tokio::spawn(async move {
            let ledger = fixture.second_ledger();
            for turn in 0..BATCHES {
                let mut batch = Batch::default();
                for poll in polls.iter() {
                    batch.judged_by(poll.id, poll.version);
                    for vote in 0..VOTES {
                        let id = (worker * BATCHES + turn) * VOTES + vote;
                        let message =
                            fixture.message(id, &json!({"poll": poll.id.0, "contestant": id % 10 + 1}));
                        for outcome in judge(&message, Some(poll), &fixture.hasher) {
                            batch.add(&message, outcome);
                        }
                    }
                }
                assert!(matches!(ledger.count(&batch).await.unwrap(), Outcome::Counted(_)));
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    for poll in polls.iter() {
        assert_eq!(fixture.ledger_votes(poll).await, (FUNCTIONS * BATCHES * VOTES) as u64);
    }
}

/// A waiting batch with a snapshot would keep dead tally versions alive, which all other batches must skip over.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_batch_waits_for_its_place_without_a_snapshot() {
    let fixture = Arc::new(Fixture::new().await);
    let poll = fixture.poll(json!({})).await;
    // A connection's first call has a snapshot, to read the catalog.
    fixture.count(&fixture.votes(&poll, 0..3)).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let mut occupied = connection.begin().await.unwrap();
    sqlx::query("LOCK TABLE counting_place_0, counting_place_1, counting_place_2 IN EXCLUSIVE MODE")
        .execute(&mut *occupied)
        .await
        .unwrap();
    let counting = {
        let (ledger, batch) = (fixture.ledger.clone(), fixture.votes(&poll, 3..6));
        tokio::spawn(async move { ledger.count(&batch).await })
    };
    let mut watcher = fixture.scratch.connect().await.unwrap();
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity \
                 WHERE datname = current_database() AND wait_event = 'relation'";
    until(&mut watcher, waits).await;
    let holds_nothing = "SELECT backend_xmin IS NULL AND backend_xid IS NULL FROM pg_stat_activity \
                         WHERE datname = current_database() AND wait_event = 'relation'";
    assert!(sqlx::query_scalar::<_, bool>(holds_nothing).fetch_one(&mut watcher).await.unwrap());
    occupied.commit().await.unwrap();
    assert!(matches!(counting.await.unwrap().unwrap(), Outcome::Counted(_)));
}

#[tokio::test]
async fn of_two_votes_on_one_ballot_the_one_cast_first_counts() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"votesPerVoter": 2})).await;
    let vote = |id, contestant, cast_at| Message {
        sent_at: at(cast_at),
        ..fixture.message(id, &json!({"poll": poll.id.0, "contestant": contestant, "ballot": 1}))
    };
    let counted = fixture.count(&fixture.batch(&poll, &[vote(1, 2, CAST_AT + 1), vote(2, 3, CAST_AT)])).await;
    assert_eq!(counted.counted, 1);
    assert_eq!(counted.tallies[&poll.id][&ContestantNumber(3)], 1);
    let voter = fixture.hasher.voter("alice");
    let keys = fixture.hasher.ballot_keys(&poll, voter, 2);
    assert_eq!(fixture.ledger.counted_ballots(poll.id, &keys, voter).await.unwrap(), [1]);
    assert!(
        fixture.ledger.counted_ballots(poll.id, &keys, fixture.hasher.voter("bob")).await.unwrap().is_empty()
    );
}

#[tokio::test]
async fn a_batch_judged_by_an_old_definition_changes_nothing() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let batch = fixture.votes(&poll, 0..3);
    fixture.change(poll.id, |poll, _, _| poll.opened(at(0))).await.unwrap();
    assert!(matches!(fixture.ledger.count(&batch).await.unwrap(), Outcome::Stale));
    assert_eq!(fixture.ledger_votes(&poll).await, 0);
    let poll = fixture.reload(poll.id).await;
    assert_eq!(fixture.count(&fixture.votes(&poll, 0..3)).await.counted, 3);
}

#[tokio::test]
async fn a_poll_thought_absent_that_exists_makes_the_batch_stale() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut batch = Batch::default();
    batch.judged_by(poll.id, 0);
    let message = fixture.message(1, &json!({"poll": poll.id.0, "contestant": 1}));
    rejected(&mut batch, &message, Rejection::UnknownPoll);
    assert!(matches!(fixture.ledger.count(&batch).await.unwrap(), Outcome::Stale));
    assert!(fixture.ledger.audit(poll.id, LIMIT).await.unwrap().rejected.is_empty());
}

/// A close waits for batches in flight, and later batches wait for the close: the definition lock is fair.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_waits_for_batches_under_way_and_batches_wait_for_the_change() {
    let fixture = Arc::new(Fixture::new().await);
    let poll = fixture.poll(json!({})).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let mut in_flight = connection.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock_shared(fence())").execute(&mut *in_flight).await.unwrap();
    let (id, crew) = (poll.id, Arc::clone(&fixture));
    let change =
        tokio::spawn(async move { crew.change(id, |poll, _, now| poll.opened(now)?.closed(now)).await });
    fixture.until_definition_lock_has_waiter().await;
    assert_eq!(fixture.reload(id).await.version, poll.version, "the change is not made");
    let late_batch = fixture.votes(&poll, 0..3);
    let ledger = fixture.ledger.clone();
    let late = tokio::spawn(async move { ledger.count(&late_batch).await });
    in_flight.commit().await.unwrap();
    change.await.unwrap().unwrap();
    let outcome = late.await.unwrap().unwrap();
    // The late batch was either counted before the change, or is stale after it; never both.
    let votes = fixture.ledger_votes(&poll).await;
    assert_eq!(matches!(outcome, Outcome::Stale), votes == 0);
}

#[tokio::test]
async fn what_was_rejected_stays_rejected_when_the_window_moves() {
    let fixture = Fixture::new().await;
    let early = fixture.poll(json!({"opensAt": at(CAST_AT + 1)})).await;
    let counted = fixture.count(&fixture.votes(&early, 0..3)).await;
    assert_eq!(counted.rejected, BTreeMap::from([("beforeOpening".to_owned(), 3)]));
    let moved = fixture.change(early.id, |poll, _, _| poll.opened(at(CAST_AT - 1))).await.unwrap();
    let again = fixture.count(&fixture.votes(&moved.unwrap().poll, 0..4)).await;
    assert_eq!((again.counted, again.rejected.len()), (1, 0), "only the message that is new");
}

#[tokio::test]
async fn what_was_rejected_for_lack_of_its_poll_stays_rejected_when_there_is_one() {
    let fixture = Fixture::new().await;
    let next = fixture.poll(json!({})).await.id.0 + 1;
    let mut batch = Batch::default();
    batch.judged_by(PollId(next), 0);
    rejected(
        &mut batch,
        &fixture.message(0, &json!({"poll": next, "contestant": 1})),
        Rejection::UnknownPoll,
    );
    assert_eq!(fixture.count(&batch).await.rejected.len(), 1);
    let poll = fixture.poll(json!({})).await;
    assert_eq!(poll.id.0, next);
    assert_eq!(fixture.count(&fixture.votes(&poll, 0..3)).await.counted, 2, "only the messages that are new");
}

/// The creation of a poll waits for batches that found no such poll. Otherwise it would not know their rejections.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_poll_that_is_made_waits_for_batches_under_way() {
    let fixture = Arc::new(Fixture::new().await);
    let mut connection = fixture.scratch.connect().await.unwrap();
    let mut in_flight = connection.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock_shared(fence())").execute(&mut *in_flight).await.unwrap();
    let making = {
        let fixture = fixture.clone();
        tokio::spawn(async move { fixture.poll(json!({})).await })
    };
    fixture.until_definition_lock_has_waiter().await;
    in_flight.commit().await.unwrap();
    making.await.unwrap();
}

/// A batch of new votes returns the changed totals. Any other batch returns all totals, since the totals of its first
/// delivery may not have reached the ranking.
#[tokio::test]
async fn totals_of_every_contestant_come_with_whatever_is_not_new() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let vote = |id, contestant| fixture.message(id, &json!({"poll": poll.id.0, "contestant": contestant}));
    let totals = async |messages: &[Message]| {
        let mut counted = fixture.count(&fixture.batch(&poll, messages)).await;
        counted
            .tallies
            .remove(&poll.id)
            .unwrap()
            .into_iter()
            .map(|(number, votes)| (number.0, votes))
            .collect()
    };
    let told: Vec<(i16, u64)> = totals(&[vote(1, 1), vote(2, 2)]).await;
    assert_eq!(
        told,
        [(1, 1), (2, 1), (3, 0)],
        "with a contestant's first vote: a batch must know whether it is the poll's"
    );
    let told: Vec<_> = totals(&[vote(3, 2)]).await;
    assert_eq!(told, [(2, 2)]);
    let told: Vec<_> = totals(&[vote(3, 2), vote(4, 3)]).await;
    assert_eq!(told, [(1, 1), (2, 2), (3, 1)], "with a duplicate");
    let told: Vec<_> = totals(&[vote(5, 3), vote(6, 99)]).await;
    assert_eq!(told, [(1, 1), (2, 2), (3, 2)], "with a rejection");
}

#[tokio::test]
async fn votes_count_also_where_a_hand_has_deleted_tallies() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.count(&fixture.votes(&poll, 0..3)).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    sqlx::query("DELETE FROM tallies WHERE contestant > 1").execute(&mut connection).await.unwrap();
    let counted = fixture.count(&fixture.votes(&poll, 3..6)).await;
    assert_eq!(counted.counted, 3);
    let totals = [(1, 2), (2, 1), (3, 1)].map(|(number, votes)| (ContestantNumber(number), votes));
    assert_eq!(counted.tallies[&poll.id], totals.into());
    assert!(fixture.ledger.rebuild(poll.id, "crew", LIMIT).await.unwrap());
    assert_eq!(fixture.ledger_votes(&poll).await, 6);
}

#[tokio::test]
async fn what_was_counted_is_not_rejected_when_the_window_moves() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    fixture.count(&fixture.votes(&poll, 0..3)).await;
    let close = |poll: &Poll, _: &Facts, _| poll.closed(at(CAST_AT - 1));
    let closed = fixture.change(poll.id, close).await.unwrap().unwrap().poll;
    let again = fixture.count(&fixture.votes(&closed, 0..4)).await;
    assert_eq!(
        again.rejected,
        BTreeMap::from([("afterClosing".to_owned(), 1)]),
        "only the message that is new"
    );
    assert_eq!(fixture.ledger_votes(&poll).await, 3);
}

#[tokio::test]
async fn a_rejection_is_recorded_once_and_shown_where_it_belongs() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let absent = poll.id.0 + 1_000;
    let mut batch =
        fixture.batch(&poll, &[fixture.message(1, &json!({"poll": poll.id.0, "contestant": 99}))]);
    batch.judged_by(PollId(absent), 0);
    let unknown = fixture.message(2, &json!({"poll": absent, "contestant": 1}));
    rejected(&mut batch, &unknown, Rejection::UnknownPoll);
    let garbage = Message { request: VoteRequest::parse("garbage"), ..fixture.message(3, &json!({})) };
    rejected(&mut batch, &garbage, Rejection::NotJson);
    let beyond = fixture.message(4, &json!({"poll": i64::MAX, "contestant": 1}));
    rejected(&mut batch, &beyond, Rejection::UnknownPoll);
    assert_eq!(fixture.count(&batch).await.rejected.values().sum::<u64>(), 4);
    assert!(fixture.count(&batch).await.rejected.is_empty());
    let audit = fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
    assert_eq!(audit.rejected, BTreeMap::from([("unknownContestant".to_owned(), 1)]));
    let elsewhere = [("notJson".to_owned(), 1), ("unknownPoll".to_owned(), 2)];
    assert_eq!(audit.unattributed, BTreeMap::from(elsewhere));
}

#[tokio::test]
async fn votes_at_the_ends_of_time_are_stored() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"opensAt": at(0), "closesAt": null})).await;
    let cast = |id, moment: Timestamp| Message {
        sent_at: moment,
        ..fixture.message(id, &json!({"poll": poll.id.0, "contestant": 1}))
    };
    let batch = fixture.batch(&poll, &[cast(1, at(0)), cast(2, at(253_402_300_799_999))]);
    assert_eq!(fixture.count(&batch).await.counted, 2);
}

/// Builds the body of a request with votes, each a contestant and a number of taps, under an id of the client.
fn list(poll: &Poll, votes: &[(i16, i16)]) -> Value {
    let vote = |(contestant, count): &(i16, i16)| json!({"contestant": contestant, "count": count});
    let votes: Vec<_> = votes.iter().map(vote).collect();
    json!({"poll": poll.id.0, "id": "0194f0c0-0000-7000-8000-000000000000", "votes": votes})
}

#[tokio::test]
async fn a_vote_of_several_taps_is_one_row_and_adds_its_count() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 10})).await;
    let plain = fixture.message(1, &json!({"poll": poll.id.0, "contestant": 1}));
    let several = fixture.message(2, &list(&poll, &[(1, 10), (2, 3), (1, 11), (9, 1), (1, 1)]));
    let batch = fixture.batch(&poll, &[plain, several]);
    for (counted, taps) in [(4, 15), (0, 0)] {
        let outcome = fixture.count(&batch).await;
        assert_eq!((outcome.counted, outcome.taps), (counted, taps));
        assert_eq!(
            outcome.tallies[&poll.id],
            [(1, 12), (2, 3), (3, 0)].map(|(n, v)| (ContestantNumber(n), v)).into()
        );
        let audit = fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
        assert_eq!((audit.ledger_casts, audit.tally_casts), (4, 4));
        assert_eq!(audit.ledger, audit.tally);
        assert_eq!(
            audit.rejected,
            [("countOutOfRange", 1), ("unknownContestant", 1)].map(|(r, n)| (r.to_owned(), n)).into()
        );
    }
    assert_eq!(fixture.ledger.progress(poll.id).await.unwrap().casts, 4);
}

/// The second request was sent before the first one was answered, and shares a batch with new votes.
#[tokio::test]
async fn a_list_sent_again_with_another_content_is_a_duplicate_by_place() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 10})).await;
    fixture.count(&fixture.batch(&poll, &[fixture.message(1, &list(&poll, &[(1, 4), (2, 5)]))])).await;
    let longer = fixture.message(2, &list(&poll, &[(3, 9), (2, 5), (3, 7)]));
    let plain = fixture.message(3, &json!({"poll": poll.id.0, "contestant": 2}));
    let outcome = fixture.count(&fixture.batch(&poll, &[longer, plain])).await;
    assert_eq!((outcome.counted, outcome.taps), (2, 8), "the third place and the plain vote");
    assert_eq!(
        outcome.tallies[&poll.id],
        [(1, 4), (2, 6), (3, 7)].map(|(n, v)| (ContestantNumber(n), v)).into()
    );
}

#[tokio::test]
async fn a_ballot_used_by_another_vote_is_recorded_once() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"votesPerVoter": 3})).await;
    let ids = ["0194f0c0-0000-4000-8000-000000000000", "0194f0c0-0000-4000-8000-000000000001"];
    let votes = |ballots: &[i16]| -> Value {
        ballots.iter().map(|ballot| json!({"contestant": 1, "ballot": ballot})).collect()
    };
    let message = |number, id: &str, ballots: &[i16]| {
        fixture.message(number, &json!({"poll": poll.id.0, "id": id, "votes": votes(ballots)}))
    };
    let [first, second] = [message(1, ids[0], &[1, 2, 2]), message(2, ids[1], &[2, 3])];
    let retried = message(3, ids[0], &[1, 2, 2]);
    for batch in [vec![first.clone()], vec![first, second.clone()], vec![second]] {
        fixture.count(&fixture.batch(&poll, &batch)).await;
    }
    let recorded = async || fixture.ledger.audit(poll.id, LIMIT).await.unwrap().rejected["ballotUsed"];
    assert_eq!(recorded().await, 2, "the third place of the first list, and the first of the second");
    assert_eq!(fixture.ledger_votes(&poll).await, 3);
    fixture.count(&fixture.batch(&poll, &[retried])).await;
    assert_eq!(recorded().await, 3, "the same place in another message");
}
