//! Polls in the ledger.

use serde_json::json;
use shared::{
    domain::{Invalid, Patch, PollId, Results},
    ledger::Error,
};

use crate::support::{Bench, at};

#[tokio::test]
async fn a_poll_comes_back_as_it_was_made() {
    let bench = Bench::new().await;
    let contestants =
        json!([{"name": "Zoë", "number": 9, "imageUrl": "https://example.com/z.png"}, {"name": "Ana"}]);
    let made =
        bench.poll(json!({"results": "afterClose", "votesPerVoter": 3, "contestants": contestants})).await;
    assert_eq!(bench.reload(made.id).await, made);
    assert_eq!((made.results, made.votes_per_voter, made.version), (Results::AfterClose, Some(3), 1));
    let loaded = bench.ledger.polls(&[made.id]).await.unwrap().pop().unwrap();
    assert_eq!(loaded.tally.len(), 2);
}

#[tokio::test]
async fn contestants_come_and_go_with_their_counters_until_there_are_votes() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({})).await;
    let patch = |contestants: serde_json::Value| -> Patch {
        serde_json::from_value(json!({ "contestants": contestants })).unwrap()
    };
    let change = async |contestants| {
        let patch: Patch = patch(contestants);
        bench.ledger.change_poll(poll.id, |poll, has_votes, _| poll.patched(patch.clone(), has_votes)).await
    };
    let changed =
        change(json!([{"number": 1, "name": "Ana"}, {"number": 8, "name": "Hugo"}])).await.unwrap().unwrap();
    assert_eq!(changed.tally.keys().map(|number| number.0).collect::<Vec<_>>(), [1, 8]);
    let message = bench.message(1, &json!({"poll": poll.id.0, "contestant": 8}));
    bench.count(&bench.batch(&changed.poll, &[message])).await;
    let removed = change(json!([{"number": 1, "name": "Ana"}])).await.unwrap_err();
    assert!(matches!(removed, Error::Invalid(Invalid::Renumbered(8))), "{removed}");
    assert_eq!(bench.reload(poll.id).await, changed.poll);
}

#[tokio::test]
async fn a_change_that_changes_nothing_keeps_the_version() {
    let bench = Bench::new().await;
    let poll = bench.poll(json!({})).await;
    let same = bench.ledger.change_poll(poll.id, |poll, _, _| Ok(poll.clone())).await.unwrap().unwrap();
    assert_eq!(same.poll, poll);
    let absent = bench.ledger.change_poll(PollId(1_000_000), |poll, _, _| Ok(poll.clone())).await.unwrap();
    assert!(absent.is_none());
}

#[tokio::test]
async fn only_a_poll_without_votes_is_deleted() {
    let bench = Bench::new().await;
    let (empty, voted) = (bench.poll(json!({})).await, bench.poll(json!({})).await);
    bench.count(&bench.votes(&voted, 0..1)).await;
    assert!(bench.ledger.delete_poll(empty.id).await.unwrap());
    assert!(!bench.ledger.delete_poll(empty.id).await.unwrap());
    let error = bench.ledger.delete_poll(voted.id).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(Invalid::DeletedWithVotes)), "{error}");
}

#[tokio::test]
async fn lists_show_what_is_not_over_first_and_end_at_a_hundred() {
    let bench = Bench::new().await;
    let open = bench.poll(json!({"closesAt": null})).await;
    for _ in 0..100 {
        bench.poll(json!({"opensAt": at(0), "closesAt": at(1)})).await;
    }
    let current = bench.ledger.current_polls().await.unwrap();
    assert_eq!((current.len(), current[0].id), (100, open.id));
    let first_page = bench.ledger.polls_before(PollId(i32::MAX)).await.unwrap();
    assert_eq!(first_page.len(), 100);
    let second_page = bench.ledger.polls_before(first_page[99].id).await.unwrap();
    assert_eq!(second_page.iter().map(|poll| poll.id).collect::<Vec<_>>(), [open.id]);
}
