//! The public log: what a batch adds to it, and cuts.

use std::collections::BTreeSet;

use domain::{LoggedVote, Message, Poll, PollId, PublicCut};
use ledger::{Cut, Ledger, LogBatch, LogPosition};
use serde_json::{Value, json};

use crate::support::{Fixture, at, uuid};

const ID: u128 = 0x0194_f0c0_0000_7000_8000_0000_0000_0000;

async fn position(ledger: &Ledger, poll: &Poll) -> Option<LogPosition> {
    ledger.log_positions(&[poll.id]).await.unwrap().pop()
}

async fn batches(ledger: &Ledger, poll: &Poll) -> Vec<LogBatch> {
    ledger.log_batches(LogPosition { poll: poll.id, cut: 1, after: 0, last: None }).await.unwrap()
}

/// Returns contestant and count of each entry.
fn logged(batches: &[LogBatch]) -> Vec<(i16, i16)> {
    let entries = batches.iter().flat_map(|batch| batch.entries.as_chunks::<36>().0);
    entries
        .map(|entry| (i16::from_be_bytes([entry[32], entry[33]]), i16::from_be_bytes([entry[34], entry[35]])))
        .collect()
}

fn tags(batches: &[LogBatch]) -> BTreeSet<[u8; 16]> {
    let entries = batches.iter().flat_map(|batch| batch.entries.as_chunks::<36>().0);
    entries.map(|entry| *entry.first_chunk().unwrap()).collect()
}

fn reasons(batches: &[LogBatch]) -> Vec<&str> {
    batches.iter().flat_map(|batch| batch.others.iter().map(|(_, reason)| reason.as_str())).collect()
}

fn cut(position: LogPosition, batches: &[LogBatch]) -> Cut {
    let public = PublicCut {
        cut: position.cut,
        bits: Some(0),
        other_bits: None,
        from: batches[0].cast_from,
        to: batches[0].cast_to,
    };
    let (first, last) = (batches[0].number, batches.last().unwrap().number);
    let (hashes, other_hashes) = (vec![1; 32], Vec::new());
    Cut { poll: position.poll, first, last, casts: 1, votes: 1, hashes, other_hashes, public }
}

#[tokio::test]
async fn a_counted_vote_is_logged_once_with_its_tag() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({"tapsMax": 50})).await;
    let list = |id: u128, votes: Value| {
        fixture.message(id, &json!({"poll": poll.id.0, "id": uuid(ID), "votes": votes}))
    };
    let first = list(1, json!([{"contestant": 2, "count": 50}, {"contestant": 9}, {"contestant": 1}]));
    fixture.count(&fixture.batch(&poll, std::slice::from_ref(&first))).await;
    assert_eq!(logged(&batches(&fixture.ledger, &poll).await), [(2, 50), (1, 1)]);

    let mut again =
        fixture.batch(&poll, &[list(2, json!([{"contestant": 3}])), first.clone(), first.clone()]);
    again.expect_repeats(true);
    fixture.count(&again).await;
    // The third place is new: of two messages with it, one counts.
    let longer =
        json!([{"contestant": 1}, {"contestant": 1}, {"contestant": 1}, {"contestant": 3, "count": 2}]);
    fixture.count(&fixture.batch(&poll, &[list(3, longer.clone()), list(4, longer)])).await;
    let batches = batches(&fixture.ledger, &poll).await;
    let mut found = logged(&batches);
    found.sort_unstable();
    assert_eq!(found, [(1, 1), (1, 1), (2, 50), (3, 2)], "the list's places 0 to 3");
    let request = first.voter.unwrap().log.request(poll.id.0.into(), uuid(ID));
    assert_eq!(tags(&batches), (0..4).map(|place| request.entry(place, 0).tag).collect());
    assert_eq!(fixture.ledger_votes(&poll).await, 54);
}

#[tokio::test]
async fn each_poll_of_a_batch_has_its_own_entries() {
    let fixture = Fixture::new().await;
    let polls = [fixture.poll(json!({})).await, fixture.poll(json!({})).await];
    for repeats_expected in [false, true] {
        let mut batch = ledger::Batch::default();
        for poll in &polls {
            batch.judged_by(poll.id, poll.version);
        }
        for id in 0..6_u128 {
            let poll = &polls[id as usize % 2];
            let id = id + 100 * u128::from(repeats_expected);
            let message = fixture.message(id, &json!({"poll": poll.id.0, "contestant": id % 3 + 1}));
            for outcome in domain::judge(&message, Some(poll), &fixture.hasher) {
                batch.add(&message, outcome);
            }
        }
        batch.expect_repeats(repeats_expected);
        fixture.count(&batch).await;
    }
    let voter = fixture.hasher.voter("alice").log;
    for (index, poll) in (0..).zip(&polls) {
        let found = batches(&fixture.ledger, poll).await;
        let ids = [0, 2, 4, 100, 102, 104].map(|id| id + index);
        let tag = |id| voter.request(poll.id.0.into(), uuid(id)).entry(0, 0).tag;
        assert_eq!(tags(&found), ids.map(tag).into());
        assert_eq!(logged(&found).len(), 6);
    }
}

#[tokio::test]
async fn a_vote_that_does_not_count_is_logged_with_its_reason() {
    let fixture = Fixture::new().await;
    // The window of the log is by the server's clock.
    let now = runtime::Clock::system().now().millis();
    let window =
        json!({"opensAt": at(now - 1_000), "closesAt": at(now + 60_000), "votesPerVoter": 2, "draft": false});
    let poll = fixture.poll(window).await;
    let cast = |id: u128, fields: Value| {
        let mut body = json!({"poll": poll.id.0, "contestant": 1});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Message { sent_at: at(now), ..fixture.message(id, &body) }
    };
    let known = cast(1, json!({"ballot": 1, "id": uuid(ID)}));
    let votes =
        [known.clone(), cast(2, json!({"ballot": 3})), cast(3, json!({"contestant": "1", "ballot": 1}))];
    fixture.count(&fixture.batch(&poll, &votes)).await;
    // Both are in the ledger: neither is told again.
    fixture.count(&fixture.batch(&poll, &votes)).await;
    fixture.count(&fixture.batch(&poll, &[cast(4, json!({"ballot": 1, "id": uuid(ID + 1)}))])).await;
    let found = batches(&fixture.ledger, &poll).await;
    assert_eq!(logged(&found), [(1, 1)]);
    assert_eq!(reasons(&found), ["ballotAboveLimit", "wrongType", "ballotUsed"]);
    let used = known.voter.unwrap().log.request(poll.id.0.into(), uuid(ID + 1)).entry(0, 1).tag;
    assert_eq!(found.last().unwrap().others, [(used, "ballotUsed".to_owned())]);
}

#[tokio::test]
async fn rejections_long_before_the_opening_or_of_a_draft_are_not_logged() {
    let fixture = Fixture::new().await;
    let now = runtime::Clock::system().now().millis();
    let minutes = |minutes: i64| at(now + minutes * 60_000);
    let told = async |changes: Value| {
        let poll = fixture.poll(changes).await;
        let message =
            fixture.message(poll.id.0.unsigned_abs().into(), &json!({"poll": poll.id.0, "contestant": 9}));
        fixture.count(&fixture.batch(&poll, &[message])).await;
        position(&fixture.ledger, &poll).await.is_some()
    };
    let window = |opens: i64, closes: i64| json!({"opensAt": minutes(opens), "closesAt": minutes(closes), "draft": false});
    assert!(told(window(9, 60)).await && told(window(-60, -9)).await && told(window(-60, 60)).await);
    let opened_by_the_clock =
        fixture.poll(json!({"opensAt": minutes(5), "closesAt": null, "draft": true})).await;
    let sql = "UPDATE polls SET opens_at = now() - interval '1 second' WHERE id = $1";
    let mut owner = fixture.scratch.connect().await.unwrap();
    sqlx::query(sql).bind(opened_by_the_clock.id.0).execute(&mut owner).await.unwrap();
    let message = fixture.message(9_999, &json!({"poll": opened_by_the_clock.id.0, "contestant": 9}));
    fixture.count(&fixture.batch(&opened_by_the_clock, &[message])).await;
    assert!(position(&fixture.ledger, &opened_by_the_clock).await.is_some(), "its opening ended the draft");
    assert!(!told(window(11, 60)).await && !told(window(-60, -11)).await);
    assert!(!told(json!({"opensAt": minutes(9), "closesAt": null, "draft": true})).await);
    assert!(!told(json!({"opensAt": null, "closesAt": null, "draft": false})).await);
}

/// Whoever sees a number sees all lower ones: a cut up to a number never misses a vote.
#[tokio::test]
async fn numbers_follow_commits() {
    const BATCHES: u128 = 60;
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let counting = (0..4_u128).map(|writer| {
        let (fixture, poll, ledger) = (&fixture, &poll, fixture.second_ledger());
        async move {
            for batch in 0..BATCHES {
                let first = (writer * BATCHES + batch) * 10;
                ledger.count(&fixture.votes(poll, first..first + 10)).await.unwrap();
            }
        }
    });
    let reading = async {
        let (ledger, mut seen) = (fixture.second_ledger(), BTreeSet::new());
        while seen.len() < 4 * BATCHES as usize {
            let last = seen.last().copied();
            for batch in batches(&ledger, &poll).await {
                assert!(
                    seen.contains(&batch.number) || Some(batch.number) > last,
                    "{} after {last:?}",
                    batch.number
                );
                seen.insert(batch.number);
            }
        }
    };
    tokio::join!(futures_util::future::join_all(counting), reading);
}

#[tokio::test]
async fn a_cut_is_published_when_all_its_files_exist() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let ledger = &fixture.ledger;
    assert_eq!(position(ledger, &poll).await, None, "there is nothing to publish");
    fixture.count(&fixture.votes(&poll, 0..3)).await;
    let first = position(ledger, &poll).await.unwrap();
    assert_eq!((first.cut, first.after, first.last), (1, 0, None));
    let mine = cut(first, &ledger.log_batches(first).await.unwrap());
    assert!(ledger.add_cut(&mine).await.unwrap());

    fixture.count(&fixture.votes(&poll, 3..6)).await;
    let others = cut(first, &ledger.log_batches(first).await.unwrap());
    assert!(others.last > mine.last, "another publisher has seen more");
    assert!(!ledger.add_cut(&others).await.unwrap());
    assert!(ledger.add_cut(&mine).await.unwrap(), "repeated after a broken connection");
    assert_eq!(ledger.latest_cuts(&[poll.id]).await.unwrap().get(&poll.id), None);

    let unwritten = position(ledger, &poll).await.unwrap();
    assert_eq!(
        (unwritten.cut, unwritten.last),
        (1, Some(mine.last)),
        "its files are written before the next cut"
    );
    let its_batches = ledger.log_batches(unwritten).await.unwrap();
    assert_eq!(its_batches.iter().map(|batch| batch.number).collect::<Vec<_>>(), [mine.last]);
    ledger.cuts_written(&[(poll.id, 1)]).await.unwrap();
    assert_eq!(ledger.latest_cuts(&[poll.id]).await.unwrap()[&poll.id], [mine.public]);

    let second = position(ledger, &poll).await.unwrap();
    assert_eq!((second.cut, second.after, second.last), (2, mine.last, None));
    assert!(ledger.add_cut(&cut(second, &ledger.log_batches(second).await.unwrap())).await.unwrap());
    ledger.cuts_written(&[(poll.id, 2)]).await.unwrap();
    assert_eq!(position(ledger, &poll).await, None);
    let latest = ledger.latest_cuts(&[PollId(0), poll.id]).await.unwrap();
    assert_eq!(latest[&poll.id].iter().map(|cut| cut.cut).collect::<Vec<_>>(), [2, 1], "newest first");
}

#[tokio::test]
async fn a_cut_has_a_limit_and_one_that_exists_is_read_whole() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let mut owner = fixture.scratch.connect().await.unwrap();
    let sql = "INSERT INTO log_batches (poll, number, batch, cast_from, cast_to, entries) \
               SELECT $1, n, 1, now(), now(), decode(repeat('00', 36 * 50000), 'hex') FROM generate_series(1, 5) AS n";
    sqlx::query(sql).bind(poll.id.0).execute(&mut owner).await.unwrap();
    let read = async |position| fixture.ledger.log_batches(position).await.unwrap();
    let new = LogPosition { poll: poll.id, cut: 1, after: 0, last: None };
    let votes =
        |batches: &[LogBatch]| batches.iter().flat_map(|batch| LoggedVote::all(&batch.entries)).count();
    assert_eq!(votes(&read(new).await), 150_000, "the batch that reaches 120,000 is the last one");
    assert_eq!(votes(&read(LogPosition { last: Some(5), ..new }).await), 250_000);
    assert_eq!(votes(&read(LogPosition { after: 4, ..new }).await), 50_000);
}

/// An open poll is published anyway. Others are for their logs.
#[tokio::test]
async fn a_poll_whose_log_has_news_is_publishable() {
    let fixture = Fixture::new().await;
    let now = runtime::Clock::system().now().millis();
    let soon = fixture.poll(json!({"opensAt": at(now + 300_000), "closesAt": null, "draft": false})).await;
    let publishable = async || {
        let due = fixture.ledger.publishable(std::time::Duration::from_secs(57)).await.unwrap();
        due.iter().map(|one| (one.loaded.poll.id, one.is_new_edition)).collect::<Vec<_>>()
    };
    assert_eq!(publishable().await, []);
    fixture
        .count(&fixture.batch(&soon, &[fixture.message(1, &json!({"poll": soon.id.0, "contestant": 9}))]))
        .await;
    assert_eq!(publishable().await, [(soon.id, false)]);
    let position = position(&fixture.ledger, &soon).await.unwrap();
    fixture.ledger.add_cut(&cut(position, &batches(&fixture.ledger, &soon).await)).await.unwrap();
    assert_eq!(publishable().await, [(soon.id, false)], "its files may not exist");
    fixture.ledger.cuts_written(&[(soon.id, 1)]).await.unwrap();
    assert_eq!(publishable().await, []);

    let sql = "UPDATE polls SET frozen_at = now(), edition = 1, published = 1, opens_at = now() - interval '1 hour', \
               closes_at = now() - interval '1 minute'";
    sqlx::query(sql).execute(&mut fixture.scratch.connect().await.unwrap()).await.unwrap();
    assert_eq!(publishable().await, []);
    let sql = "INSERT INTO log_batches (poll, number, batch, cast_from, cast_to) SELECT id, 1000, 1, now(), now() FROM polls";
    sqlx::query(sql).execute(&mut fixture.scratch.connect().await.unwrap()).await.unwrap();
    assert_eq!(publishable().await, [(soon.id, false)]);
}
