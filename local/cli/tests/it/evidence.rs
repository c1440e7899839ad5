//! Certification on evidence: soon without failures, and never while votes are not counted. Uses the real functions
//! with shortened redelivery times.

use std::time::Instant;

use domain::Timestamp;
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::{Value, json};

use crate::stack::{TIMEOUT, TestStack, until};

const VOTES: u64 = 10;

/// A batch times out after 3 s and is redelivered after 4 s, so a sign of a failed batch counts for 10 s.
const SCALED: [&str; 16] = [
    "--set",
    "VotesQueue.VisibilityTimeout=4",
    "--set",
    "VotesFunction.Timeout=3",
    "--set",
    "VotesFunction.Environment.Variables.DATABASE_TIMEOUT_MS=1000",
    "--set",
    "VotesFunction.Events.Votes.MaximumBatchingWindowInSeconds=1",
    "--set",
    "ResultsFunction.Environment.Variables.CERTIFY_SIGN_SECONDS=10",
    "--set",
    "ResultsFunction.Environment.Variables.PROBE_LATE_SECONDS=6",
    "--set",
    "AdminFunction.Environment.Variables.CERTIFY_SIGN_SECONDS=10",
    "--set",
    "AdminFunction.Environment.Variables.PROBE_LATE_SECONDS=6",
];

/// Creates a poll that has just opened.
fn open_poll(stack: &TestStack) -> i64 {
    let opens_at = Timestamp::from_millis(Clock::system().now().millis() - 1_000).unwrap();
    let draft = json!({"title": "Who stays?", "opensAt": opens_at, "contestants": [{"name": "Ana"}, {"name": "Bia"}]});
    let (status, poll) = stack.as_crew("POST", "/admin/polls", &draft.to_string());
    assert_eq!(status, 201, "{poll}");
    serde_json::from_str::<Value>(&poll).unwrap()["id"].as_i64().unwrap()
}

fn file(stack: &TestStack, poll: i64) -> Option<Value> {
    let (status, file) = stack.as_anyone(&format!("/results/{poll}.json"));
    (status == 200).then(|| serde_json::from_str(&file).unwrap())
}

fn is_certified(stack: &TestStack, poll: i64) -> bool {
    file(stack, poll).is_some_and(|file| file["certified"] == true)
}

/// Checks that with this broken `setting`, which keeps votes from being counted, the poll is not certified and the
/// desk shows the cause.
async fn is_never_certified(setting: &str) {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[SCALED.as_slice(), &["--set", setting]].concat());
    let poll = open_poll(&stack);
    for vote in 0..VOTES {
        stack.vote_in(poll, vote as u32 % 2 + 1);
    }
    stack.admin("POST", &format!("/polls/{poll}/close"));
    let live = || stack.admin("GET", &format!("/polls/{poll}/live"));
    let message = format!("{VOTES} votes wait and nothing is counting them.");
    until("the desk shows the cause", || live()["certification"]["message"] == message.as_str());
    // Longer than any sign counts: time alone must not certify the poll.
    until("nothing has been counted for 20 s", || {
        let live = live();
        let moment = |value: &Value| serde_json::from_value::<Timestamp>(value.clone()).unwrap().millis();
        let counting = &live["counting"];
        assert_eq!((&counting["state"], &counting["waiting"]), (&json!("stopped"), &json!(VOTES)), "{live}");
        moment(&live["asOf"]) - moment(&counting["since"]) > 20_000
    });
    assert_eq!(file(&stack, poll).unwrap()["certified"], false);
    let (status, refused) = stack.as_crew("POST", &format!("/admin/polls/{poll}/certify"), "{}");
    assert!(status == 409 && refused.contains(&message), "{status} {refused}");
    assert!(stack.metric(r#"cloudwatch_metric_sum{metric="CountingStopped"}"#) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_consumer_switched_off_nothing_is_certified() {
    is_never_certified("VotesFunction.Events.Votes.Enabled=false").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_release_that_cannot_start_nothing_is_certified() {
    is_never_certified("VotesFunction.Environment.Variables.BATCH_TIMEOUT_MS=soon").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_concurrency_nothing_is_certified() {
    is_never_certified("VotesFunction.ReservedConcurrentExecutions=0").await;
}

/// The lock of `CREATE INDEX`, held around the close: votes cast in time count after its release.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_votes_around_the_close_does_not_change_the_winner() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &SCALED);
    let poll = open_poll(&stack);
    for _ in 0..2 {
        stack.vote_in(poll, 1);
    }
    let votes = || stack.admin("GET", &format!("/polls/{poll}/live"))["votes"].clone();
    until("Ana's votes are counted", || votes() == 2);
    let mut ledger = scratch.connect().await.unwrap();
    sqlx::query("BEGIN").execute(&mut ledger).await.unwrap();
    sqlx::query("LOCK TABLE votes IN SHARE MODE").execute(&mut ledger).await.unwrap();
    for _ in 0..VOTES {
        stack.vote_in(poll, 2);
    }
    stack.admin("POST", &format!("/polls/{poll}/close"));
    let failed = || stack.metric(r#"lambda_errors_total{function="VotesFunction"}"#);
    until("batches fail for longer than a sign counts", || failed() >= 4.0);
    assert_eq!(file(&stack, poll).unwrap()["certified"], false);
    sqlx::query("ROLLBACK").execute(&mut ledger).await.unwrap();
    until("all are counted", || votes() == 2 + VOTES);
    until("it is certified", || is_certified(&stack, poll));
    let file = file(&stack, poll).unwrap();
    assert_eq!(
        (&file["totalVotes"], &file["ranking"][0]["contestant"]),
        (&json!(2 + VOTES), &json!(2)),
        "{file}"
    );
    let certificate = &file["certificate"];
    assert_eq!((&certificate["basis"], &certificate["rejected"]), (&json!("evidence"), &json!({})), "{file}");
}

/// With the template's own times: without a sign there is no wait.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_sign_a_result_is_certified_soon_after_its_close() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let poll = open_poll(&stack);
    for vote in 0..VOTES {
        stack.vote_in(poll, vote as u32 % 2 + 1);
    }
    let live = || stack.admin("GET", &format!("/polls/{poll}/live"));
    until("all are counted", || live()["votes"] == VOTES);
    stack.admin("POST", &format!("/polls/{poll}/close"));
    let closed = Instant::now();
    until("it is certified", || is_certified(&stack, poll));
    println!("certified {:?} after its close", closed.elapsed());
    assert!(closed.elapsed() < TIMEOUT);
    assert_eq!(file(&stack, poll).unwrap()["certificate"]["basis"], "evidence");
}

/// With the schedule disabled, only the message of the admin function starts `functions/results`.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_is_published_because_its_change_wakes_the_publishing() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &["--set", "ResultsFunction.Events.EveryMinute.Enabled=false"]);
    let poll = open_poll(&stack);
    let opened = Instant::now();
    until("it is published", || file(&stack, poll).is_some());
    println!("published {:?} after it was opened", opened.elapsed());
    stack.admin("POST", &format!("/polls/{poll}/close"));
    until("its close is published", || file(&stack, poll).is_some_and(|file| file["status"] == "closed"));
}
