//! A result is certified on evidence: quickly where all is well, and never while nothing counts the votes. With the real
//! functions, and the times that a failed batch stays away scaled down.

use std::time::Instant;

use domain::Timestamp;
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::{Value, json};

use crate::stack::{PATIENCE, Whole, until};

const VOTES: u64 = 10;

/// A failed batch comes again after 4 s and is given up after 3; so a sign counts for 10 s.
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

/// A poll of its own, that has just opened.
fn opened(stack: &Whole) -> i64 {
    let opens_at = Timestamp::from_millis(Clock::system().now().millis() - 1_000).unwrap();
    let draft = json!({"title": "Who stays?", "opensAt": opens_at, "contestants": [{"name": "Ana"}, {"name": "Bia"}]});
    let (status, poll) = stack.as_crew("POST", "/admin/polls", &draft.to_string());
    assert_eq!(status, 201, "{poll}");
    serde_json::from_str::<Value>(&poll).unwrap()["id"].as_i64().unwrap()
}

fn file(stack: &Whole, poll: i64) -> Option<Value> {
    let (status, file) = stack.as_anyone(&format!("/results/{poll}.json"));
    (status == 200).then(|| serde_json::from_str(&file).unwrap())
}

fn is_certified(stack: &Whole, poll: i64) -> bool {
    file(stack, poll).is_some_and(|file| file["certified"] == true)
}

/// Votes that are never counted, whatever is wrong with `setting`: the poll is not certified, and the desk says why.
async fn is_never_certified(setting: &str) {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &[SCALED.as_slice(), &["--set", setting]].concat());
    let poll = opened(&stack);
    for vote in 0..VOTES {
        stack.vote_in(poll, vote as u32 % 2 + 1);
    }
    stack.admin("POST", &format!("/polls/{poll}/close"));
    let live = || stack.admin("GET", &format!("/polls/{poll}/live"));
    let said = format!("{VOTES} votes wait and nothing is counting them.");
    until("the desk says so", || live()["certification"]["message"] == said.as_str());
    // Longer than any sign counts: the time in which it used to be certified.
    until("nothing has been counted for long", || {
        let live = live();
        let moment = |value: &Value| serde_json::from_value::<Timestamp>(value.clone()).unwrap().millis();
        let counting = &live["counting"];
        assert_eq!((&counting["state"], &counting["waiting"]), (&json!("stopped"), &json!(VOTES)), "{live}");
        moment(&live["asOf"]) - moment(&counting["since"]) > 20_000
    });
    assert_eq!(file(&stack, poll).unwrap()["certified"], false);
    let (status, refused) = stack.as_crew("POST", &format!("/admin/polls/{poll}/certify"), "{}");
    assert!(status == 409 && refused.contains(&said), "{status} {refused}");
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

/// What `CREATE INDEX` takes, around the close: votes cast in time count, whenever the lock goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_votes_around_the_close_does_not_change_the_winner() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &SCALED);
    let poll = opened(&stack);
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
    until("batches fail for as long as a sign counts", || failed() >= 4.0);
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

/// With the template's own times: no sign, no waiting.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_sign_a_result_is_certified_soon_after_its_close() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &[]);
    let poll = opened(&stack);
    for vote in 0..VOTES {
        stack.vote_in(poll, vote as u32 % 2 + 1);
    }
    let live = || stack.admin("GET", &format!("/polls/{poll}/live"));
    until("all are counted", || live()["votes"] == VOTES);
    stack.admin("POST", &format!("/polls/{poll}/close"));
    let closed = Instant::now();
    until("it is certified", || is_certified(&stack, poll));
    println!("certified {:?} after its close", closed.elapsed());
    assert!(closed.elapsed() < PATIENCE);
    assert_eq!(file(&stack, poll).unwrap()["certificate"]["basis"], "evidence");
}

/// Without its schedule, the publishing knows of a poll by what the crew's function sends it.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_is_published_because_its_change_wakes_the_publishing() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &["--set", "ResultsFunction.Events.EveryMinute.Enabled=false"]);
    let poll = opened(&stack);
    let pressed = Instant::now();
    until("it is published", || file(&stack, poll).is_some());
    println!("published {:?} after it was opened", pressed.elapsed());
    stack.admin("POST", &format!("/polls/{poll}/close"));
    until("its close is", || file(&stack, poll).is_some_and(|file| file["status"] == "closed"));
}
