//! Redriven dead letters: votes are judged by the moment of casting and count once.

use local_stores::scratch::Scratch;
use sqlx::PgConnection;

use crate::stack::{TestStack, WITHOUT_PROBES, until};

const VOTES: u64 = 12;

/// A vote becomes a dead letter after one failure, as soon as it is visible again.
const ONE_DELIVERY: [&str; 6] = [
    "--set",
    "VotesQueue.RedrivePolicy.maxReceiveCount=1",
    "--set",
    "VotesQueue.VisibilityTimeout=4",
    "--set",
    "VotesFunction.Environment.Variables.DATABASE_TIMEOUT_MS=2000",
];

/// Blocks counting until [`unblock_counting`].
async fn block_counting(ledger: &mut PgConnection) {
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(ledger).await.unwrap();
}

async fn unblock_counting(ledger: &mut PgConnection) {
    sqlx::query("SELECT pg_advisory_unlock(fence())").execute(ledger).await.unwrap();
}

fn redrive(stack: &TestStack) -> (u64, u64, u64) {
    let answer = stack.admin("POST", "/dead-letters/redrive");
    let figure = |name: &str| answer[name].as_u64().unwrap();
    (figure("moved"), figure("failed"), figure("remaining"))
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_given_up_count_once_after_the_close_however_often_they_are_redriven() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[WITHOUT_PROBES.as_slice(), &ONE_DELIVERY].concat());
    let mut ledger = scratch.connect().await.unwrap();
    block_counting(&mut ledger).await;
    for vote in 0..u32::try_from(VOTES).unwrap() {
        stack.vote(vote % 8 + 1);
    }
    let votes = r#"[{"contestant":1},{"contestant":99},{"contestant":2}]"#;
    let list = format!(r#"{{"poll":1,"id":"0194f0c0-0000-7000-8000-000000000000","votes":{votes}}}"#);
    let token = stack.token_of_any_issuer("one");
    assert_eq!([stack.cast(&token, &list).0, stack.cast(&token, &list).0], [202, 202]);
    until("all are dead letters", || stack.dead_letters() == VOTES + 2);
    unblock_counting(&mut ledger).await;
    assert_eq!(stack.admin("POST", "/polls/1/close")["status"], "closed");
    assert_eq!(redrive(&stack), (VOTES + 2, 0, 0), "redriving works, although the poll is closed");
    stack.until_the_queue_is_empty();
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["inSync"]), (&(VOTES + 2).into(), &true.into()), "{audit}");
    assert_eq!(audit["rejected"], serde_json::json!({"unknownContestant": 2}), "of each message");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_twice_is_still_the_vote_that_was_cast() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[WITHOUT_PROBES.as_slice(), &ONE_DELIVERY].concat());
    let mut ledger = scratch.connect().await.unwrap();
    block_counting(&mut ledger).await;
    stack.vote(1);
    until("it is a dead letter", || stack.dead_letters() == 1);
    let first = stack.admin("GET", "/dead-letters");
    assert_eq!((&first["messages"], &first["approximate"]), (&1.into(), &false.into()), "{first}");
    let group = &first["groups"][0];
    assert_eq!(
        (&group["reason"], &group["poll"], &group["count"]),
        (&"notCounted".into(), &1.into(), &1.into())
    );
    assert_eq!(redrive(&stack), (1, 0, 0), "reading the dead letters removes none");
    until("it is a dead letter again", || stack.dead_letters() == 1);
    assert_eq!(stack.admin("GET", "/dead-letters"), first, "the moment of casting stays");
    unblock_counting(&mut ledger).await;
    stack.admin("POST", "/polls/1/close");
    assert_eq!(redrive(&stack), (1, 0, 0));
    stack.until_the_queue_is_empty();
    assert_eq!(stack.audit()["ledgerVotes"], 1);
}
