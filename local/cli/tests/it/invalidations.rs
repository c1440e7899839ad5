//! What has changed behind the edge is told to a queue, and forgotten by the edge.

use local_stores::scratch::Scratch;

use crate::stack::Whole;

const COMMANDS: usize = 10_000;
const FROM_THE_BUCKET: &str = r#"edge_origin_requests_total{route="s3 pagesbucket"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_10_000_commands_is_one_invalidation() {
    let scratch = Scratch::new().await.unwrap();
    let stack = Whole::start(&scratch, &[]);
    assert_eq!(stack.as_anyone("/index.html").0, 200);
    assert_eq!(stack.as_anyone("/index.html").0, 200);
    assert_eq!(stack.metric(FROM_THE_BUCKET), 1.0, "the edge keeps it");
    let results = (1..COMMANDS).map(|poll| format!(r#"{{"paths":["/results/{poll}.json"]}}"#));
    let mut commands: Vec<_> = results.collect();
    commands.insert(COMMANDS / 2, r#"{"paths":["/index.html"]}"#.to_owned());
    commands.insert(COMMANDS / 3, "no command".to_owned());
    stack.send("InvalidationsQueue", &commands);
    stack.until_is_empty("InvalidationsQueue");
    let counted = |what| stack.metric(&format!(r#"edge_invalidations_total{{count="{what}"}}"#));
    assert_eq!((counted("invalidations"), counted("paths")), (1.0, 2.0), "/index.html and /results/*");
    let dead_letters = stack.metric(r#"sqs_messages_visible{queue="InvalidationsDeadLetterQueue"}"#);
    assert_eq!(dead_letters, 1.0, "what is no command is kept");
    assert_eq!(stack.as_anyone("/index.html").0, 200);
    assert_eq!(stack.metric(FROM_THE_BUCKET), 2.0, "the edge has forgotten it");
    let batches = stack.metric(r#"lambda_invocations_total{function="InvalidationsFunction"}"#);
    assert!(batches > 1.0, "else nothing here needed one invalidation to cover another batch");
}
