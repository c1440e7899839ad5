//! Metrics are log lines that appear at every log level.

use local_stores::scratch::Scratch;

use crate::{
    one_call::{Call, Function, with_a_poll},
    stack::TestStack,
};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_stay_at_every_log_level() {
    for level in ["WARN", "ERROR"] {
        let scratch = Scratch::new().await.unwrap();
        let stack = TestStack::start(&scratch, &["--parameter", &format!("LogLevel={level}")]);
        stack.vote(1);
        stack.until_the_queue_is_empty();
        for metric in ["VotesCounted", "VotesReceived", "RankingLag", "BatchDuration"] {
            let name = format!(r#"cloudwatch_metric_count{{metric="{metric}"}}"#);
            assert!(stack.metric(&name) >= 1.0, "{metric} at {level}");
        }
    }
}

#[tokio::test]
async fn the_log_level_drops_what_is_below_it_and_no_metric() {
    let scratch = Scratch::new().await.unwrap();
    with_a_poll(&scratch).await;
    let without_redis = Scratch { redis_url: "redis://127.0.0.1:1/0".to_owned(), ..scratch };
    for (level, warns) in [("DEBUG", true), ("INFO", true), ("WARN", true), ("ERROR", false)] {
        let function = Function::logging(&without_redis, "votes", level);
        function.invoke(Call::Vote).await.unwrap();
        let log = function.end().await;
        assert_eq!(log.contains("ranking.not_raised"), warns, "{level}: {log}");
        assert!(log.contains(r#""VotesCounted":1"#), "{level}: {log}");
        assert!(!log.contains("alice"), "{level}: a voter in the log: {log}");
    }
}
