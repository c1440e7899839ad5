//! Rejections: counters for all, rows for at most 1,000 of a voter in a poll, and for 30 days after certification.

use std::collections::BTreeMap;

use domain::{Basis, Inquiry, Message, Poll, Receipt, Rejection};
use ledger::Batch;
use serde_json::json;

use crate::support::{CAST_AT, Fixture, LIMIT, at, rejected};

const ROWS_MAX: i64 = 1_000;

/// Rejects messages with these ids that name a poll, of one voter. Returns how many of them were new.
async fn reject(fixture: &Fixture, judged: &Poll, named: i64, sub: &str, ids: std::ops::Range<u128>) -> u64 {
    let mut new = 0;
    for ids in ids.collect::<Vec<_>>().chunks(300) {
        let mut batch = Batch::default();
        batch.judged_by(judged.id, judged.version);
        for &id in ids {
            let voter = Some(fixture.hasher.voter(sub));
            let message = Message { voter, ..fixture.message(id, &json!({"poll": named, "contestant": 9})) };
            rejected(&mut batch, &message, Rejection::AfterClosing);
        }
        new += fixture.count(&batch).await.rejected.values().sum::<u64>();
    }
    new
}

async fn rows(fixture: &Fixture, poll: i32) -> i64 {
    let mut owner = fixture.scratch.connect().await.unwrap();
    let sql = "SELECT count(*) FROM rejections WHERE poll = $1";
    sqlx::query_scalar(sql).bind(poll).fetch_one(&mut owner).await.unwrap()
}

async fn told(fixture: &Fixture, poll: &Poll, sub: &str, id: u128) -> Option<Receipt> {
    let voter = fixture.hasher.voter(sub);
    let inquiry = Inquiry::new(poll, voter, crate::support::uuid(id), at(CAST_AT), &fixture.hasher);
    fixture.ledger.receipts(&inquiry).await.unwrap().pop().map(|placed| placed.receipt)
}

fn after_closing(count: u64) -> BTreeMap<String, u64> {
    [("afterClosing".to_owned(), count)].into()
}

#[tokio::test]
async fn a_voters_rejections_beyond_a_thousand_are_counted_and_not_recorded() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let named = i64::from(poll.id.0);
    assert_eq!(reject(&fixture, &poll, named, "mallory", 1..1_201).await, 1_200);
    assert_eq!(rows(&fixture, poll.id.0).await, ROWS_MAX);
    assert_eq!(fixture.ledger.progress(poll.id).await.unwrap().rejected, after_closing(1_200));
    assert!(matches!(told(&fixture, &poll, "mallory", 1).await, Some(Receipt::Rejected { .. })));
    assert_eq!(told(&fixture, &poll, "mallory", 1_200).await, None);

    assert_eq!(reject(&fixture, &poll, named, "alice", 2_000..2_003).await, 3);
    assert!(
        matches!(told(&fixture, &poll, "alice", 2_002).await, Some(Receipt::Rejected { .. })),
        "another voter"
    );

    assert_eq!(reject(&fixture, &poll, named, "mallory", 1..301).await, 0, "these are recorded");
    assert_eq!(reject(&fixture, &poll, named, "mallory", 1_199..1_201).await, 2, "and these are not");
    let audit = fixture.ledger.audit(poll.id, LIMIT).await.unwrap();
    assert_eq!((audit.rejected, rows(&fixture, poll.id.0).await), (after_closing(1_205), ROWS_MAX + 3));
}

#[tokio::test]
async fn messages_that_name_no_poll_share_a_limit_whatever_they_name() {
    let fixture = Fixture::new().await;
    let poll = fixture.poll(json!({})).await;
    let first = i64::from(poll.id.0) + 1;
    for step in 0..12 {
        let ids = u128::from(step as u32) * 100..u128::from(step as u32 + 1) * 100;
        assert_eq!(reject(&fixture, &poll, first + step, "mallory", ids).await, 100);
    }
    assert_eq!(rows(&fixture, 0).await, ROWS_MAX);
    assert_eq!(fixture.ledger.audit(poll.id, LIMIT).await.unwrap().unattributed, after_closing(1_200));
    let next = fixture.poll(json!({})).await;
    assert_eq!(i64::from(next.id.0), first);
    assert_eq!(
        fixture.ledger.audit(next.id, LIMIT).await.unwrap().rejected,
        [].into(),
        "they named no poll then"
    );
    let again = fixture.votes(&next, 0..3);
    assert_eq!(fixture.count(&again).await.counted, 0, "a message is rejected once");
}

#[tokio::test]
async fn rows_go_thirty_days_after_certification_and_counters_stay() {
    let fixture = Fixture::new().await;
    let (old, new) = (fixture.poll(json!({})).await, fixture.poll(json!({})).await);
    for (poll, first) in [(&old, 0), (&new, 1_000)] {
        reject(&fixture, poll, i64::from(poll.id.0), "alice", first..first + 25).await;
        reject(&fixture, poll, 1_000_000, "alice", first + 100..first + 110).await;
        fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap();
    }
    let mut owner = fixture.scratch.connect().await.unwrap();
    let sql = "UPDATE certificates SET certified_at = certified_at - interval '31 days' WHERE poll = $1";
    sqlx::query(sql).bind(old.id.0).execute(&mut owner).await.unwrap();
    let mut calls = 0;
    while fixture.ledger.forget_rejections(10).await.unwrap() {
        calls += 1;
    }
    assert_eq!(calls, 4, "25 rows in pieces of 10, and once more for none");
    let left = (rows(&fixture, old.id.0).await, rows(&fixture, new.id.0).await, rows(&fixture, 0).await);
    assert_eq!(left, (0, 25, 0), "the votes without a poll were cast long ago");
    assert_eq!(fixture.ledger.progress(old.id).await.unwrap().rejected, after_closing(25));
    let certified = fixture.reload(old.id).await;
    reject(&fixture, &certified, i64::from(old.id.0), "alice", 30..33).await;
    assert_eq!(rows(&fixture, old.id.0).await, 0, "nobody deletes rows once more");
    assert_eq!(fixture.ledger.progress(old.id).await.unwrap().rejected, after_closing(28));
}
