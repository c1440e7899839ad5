//! Commands in the invalidations queue invalidate cache entries at the edge.

use local_stores::scratch::Scratch;

use crate::stack::TestStack;

const COMMANDS: usize = 10_000;
const FROM_THE_BUCKET: &str = r#"edge_origin_requests_total{route="s3 pagesbucket"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_10_000_commands_is_one_invalidation() {
    let scratch = Scratch::new().await.unwrap();
    let stack = TestStack::start(&scratch, &[]);
    assert_eq!(stack.as_anyone("/index.html").0, 200);
    assert_eq!(stack.as_anyone("/index.html").0, 200);
    assert_eq!(stack.metric(FROM_THE_BUCKET), 1.0, "the edge caches the page");
    let results = (1..COMMANDS).map(|poll| format!(r#"{{"paths":["/results/{poll}.json"]}}"#));
    let mut commands: Vec<_> = results.collect();
    commands.insert(COMMANDS / 2, r#"{"paths":["/index.html"]}"#.to_owned());
    commands.insert(COMMANDS / 3, "no command".to_owned());
    stack.send("InvalidationsQueue", &commands);
    stack.until_is_empty("InvalidationsQueue");
    let counted = |unit| stack.metric(&format!(r#"edge_invalidations_total{{count="{unit}"}}"#));
    assert_eq!((counted("invalidations"), counted("paths")), (1.0, 2.0), "/index.html and /results/*");
    let dead_letters = stack.metric(r#"sqs_messages_visible{queue="InvalidationsDeadLetterQueue"}"#);
    assert_eq!(dead_letters, 1.0, "an invalid command is a dead letter");
    assert_eq!(stack.as_anyone("/index.html").0, 200);
    assert_eq!(stack.metric(FROM_THE_BUCKET), 2.0, "the page was invalidated");
    let batches = stack.metric(r#"lambda_invocations_total{function="InvalidationsFunction"}"#);
    assert!(batches > 1.0, "one batch alone does not test that an invalidation covers another");
}
