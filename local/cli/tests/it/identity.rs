//! A token's subject identifies the voter and can set nothing else.

use domain::Timestamp;
use local_stores::scratch::Scratch;
use runtime::Clock;
use serde_json::{Value, json};

use crate::stack::TestStack;

const HOUR_MS: i64 = 3_600_000;

fn ago(millis: i64) -> Timestamp {
    let now = Clock::system().now().millis();
    Timestamp::from_millis(now - millis).unwrap()
}

/// Returns a subject that, inserted unescaped into the JSON of message attributes, injects another attribute.
fn injecting(attribute: &str, value: &str) -> String {
    format!(r#"mallory"}},"{attribute}":{{"DataType":"String","StringValue":"{value}"#)
}

fn create(stack: &TestStack, draft: &Value) -> i64 {
    let (status, created) = stack.as_crew("POST", "/admin/polls", &draft.to_string());
    assert_eq!(status, 201, "{created}");
    serde_json::from_str::<Value>(&created).unwrap()["id"].as_i64().unwrap()
}

fn draft(closes_at: Option<Timestamp>, votes_per_voter: Option<u8>) -> Value {
    json!({"title": "Who stays?", "opensAt": ago(2 * HOUR_MS), "closesAt": closes_at,
        "votesPerVoter": votes_per_voter, "contestants": [{"name": "Ana"}, {"name": "Bia"}]})
}

/// Casts a vote with this subject. The gateway may accept or refuse it.
fn cast_as(stack: &TestStack, sub: &str, body: &Value) -> u16 {
    let (status, answer) = stack.cast(&stack.token_of_any_issuer(sub), &body.to_string());
    assert!([202, 400].contains(&status), "{status}: {answer}");
    status
}

fn audit(stack: &TestStack, poll: i64) -> Value {
    stack.admin("GET", &format!("/polls/{poll}/audit"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subject_says_when_its_vote_was_cast() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let closed = create(&stack, &draft(Some(ago(HOUR_MS)), None));
    let in_time = ago(HOUR_MS + HOUR_MS / 2).millis().to_string();
    let status = cast_as(&stack, &injecting("castAt", &in_time), &json!({"poll": closed, "contestant": 1}));
    stack.until_the_queue_is_empty();
    let audit = audit(&stack, closed);
    assert_eq!(audit["ledgerVotes"], 0, "the poll has been closed for an hour: {audit}");
    assert_eq!(audit["rejected"]["afterClosing"] == 1, status == 202, "judged by when it was sent: {audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subject_votes_as_another_voter() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let poll = create(&stack, &draft(None, Some(1)));
    let vote = |contestant| json!({"poll": poll, "contestant": contestant, "ballot": 1});
    let status = cast_as(&stack, &injecting("voter", "victim"), &vote(1));
    stack.until_the_queue_is_empty();
    assert_eq!(cast_as(&stack, "victim", &vote(2)), 202);
    stack.until_the_queue_is_empty();
    let audit = audit(&stack, poll);
    assert_eq!(audit["contestants"][1]["ledger"], 1, "the victim's ballot is the victim's: {audit}");
    assert_eq!(audit["contestants"][0]["ledger"], u64::from(status == 202), "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subject_makes_a_message_that_is_redelivered_for_ever() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &["--set", "VotesQueue.VisibilityTimeout=4"]);
    cast_as(&stack, &injecting("castAt", "-5"), &json!({"poll": 1, "contestant": 1}));
    stack.until_the_queue_is_empty();
    assert_eq!(stack.metric(r#"lambda_errors_total{function="VotesFunction"}"#), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_the_queue_cannot_carry_is_refused_and_never_shortened() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    let vote = json!({"poll": 1, "contestant": 1});
    let longest = "v".repeat(128);
    for sub in ["anna b", "jo\u{e3}o", "line\nfeed", &format!("{longest}v")] {
        assert_eq!(cast_as(&stack, sub, &vote), 400, "{sub:?}");
    }
    assert_eq!(cast_as(&stack, &longest, &vote), 202);
    stack.until_the_queue_is_empty();
    assert_eq!(stack.audit()["ledgerVotes"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stacks_own_issuer_makes_no_account_that_is_not_supported() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    for sub in ["", "a%22b", "anna%20b", "%7Bx%7D", "jo%C3%A3o", &"v".repeat(129)] {
        let (status, answer) = stack.as_anyone(&format!("/_local/token?sub={sub}"));
        assert_eq!((status, answer.contains("access_token")), (400, false), "{sub}: {answer}");
    }
    for sub in ["alice", "auth0%7C5f7c8ec7c33c6c004bbafe82", "us-east-1:9f1e", "a.b%2Bc@d.example", "%2Fx=_-"]
    {
        let (status, answer) = stack.as_anyone(&format!("/_local/token?sub={sub}"));
        assert_eq!(status, 200, "{sub}: {answer}");
    }
}
