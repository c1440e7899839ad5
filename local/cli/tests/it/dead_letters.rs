//! Votes that were given up come back: judged by when they were cast, and counted once.

use local_stores::scratch::Scratch;
use sqlx::PgConnection;

use crate::stack::{WITHOUT_PROBES, Whole, until};

const VOTES: u64 = 12;

/// A vote is given up after one failure, as soon as it is visible again.
const GIVEN_UP_AT_ONCE: [&str; 6] = [
    "--set",
    "VotesQueue.RedrivePolicy.maxReceiveCount=1",
    "--set",
    "VotesQueue.VisibilityTimeout=4",
    "--set",
    "VotesFunction.Environment.Variables.DATABASE_TIMEOUT_MS=2000",
];

/// Nothing is counted until [`let_count`].
async fn let_none_count(ledger: &mut PgConnection) {
    sqlx::query("SELECT pg_advisory_lock(fence())").execute(ledger).await.unwrap();
}

async fn let_count(ledger: &mut PgConnection) {
    sqlx::query("SELECT pg_advisory_unlock(fence())").execute(ledger).await.unwrap();
}

fn redriven(stack: &Whole) -> (u64, u64, u64) {
    let answer = stack.admin("POST", "/dead-letters/redrive");
    let figure = |name: &str| answer[name].as_u64().unwrap();
    (figure("moved"), figure("failed"), figure("remaining"))
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_given_up_count_once_after_the_bell_however_often_they_are_redriven() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &[WITHOUT_PROBES.as_slice(), &GIVEN_UP_AT_ONCE].concat());
    let mut ledger = scratch.connect().await.unwrap();
    let_none_count(&mut ledger).await;
    for vote in 0..u32::try_from(VOTES).unwrap() {
        stack.vote(vote % 8 + 1);
    }
    until("all are given up", || stack.dead_letters() == VOTES);
    let_count(&mut ledger).await;
    assert_eq!(stack.admin("POST", "/polls/1/close")["status"], "closed");
    assert_eq!(redriven(&stack), (VOTES, 0, 0), "while nothing stands against it, but the bell");
    stack.until_the_queue_is_empty();
    let audit = stack.audit();
    assert_eq!((&audit["ledgerVotes"], &audit["inSync"]), (&VOTES.into(), &true.into()), "{audit}");
    assert_eq!(audit["rejected"], serde_json::json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_twice_is_still_the_vote_that_was_cast() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &[WITHOUT_PROBES.as_slice(), &GIVEN_UP_AT_ONCE].concat());
    let mut ledger = scratch.connect().await.unwrap();
    let_none_count(&mut ledger).await;
    stack.vote(1);
    until("it is given up", || stack.dead_letters() == 1);
    let first = stack.admin("GET", "/dead-letters");
    assert_eq!((&first["messages"], &first["approximate"]), (&1.into(), &false.into()), "{first}");
    let group = &first["groups"][0];
    assert_eq!(
        (&group["reason"], &group["poll"], &group["count"]),
        (&"notCounted".into(), &1.into(), &1.into())
    );
    assert_eq!(redriven(&stack), (1, 0, 0), "looking at it has not taken it out");
    until("it is given up again", || stack.dead_letters() == 1);
    assert_eq!(stack.admin("GET", "/dead-letters"), first, "the moment is that of its casting");
    let_count(&mut ledger).await;
    stack.admin("POST", "/polls/1/close");
    assert_eq!(redriven(&stack), (1, 0, 0));
    stack.until_the_queue_is_empty();
    assert_eq!(stack.audit()["ledgerVotes"], 1);
}
