use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{REQUEST_BYTES_MAX, Services, router};
use crate::{
    s3::Storage,
    sqs::{IN_FLIGHT_MAX, Misbehavior, NewMessage, Queues},
    template::{Context, Template},
};

fn template() -> Template {
    let context = Context { aws_endpoint: "http://localhost:4566".to_owned(), ..Context::default() };
    Template::parse("Resources: {Q: {Type: AWS::SQS::Queue}}", "t", &context).unwrap()
}

fn queues() -> Arc<Queues> {
    Queues::from_template(&template()).unwrap()
}

fn endpoint(queues: Arc<Queues>) -> Router {
    // No test in this module stores an object.
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(folder.path(), &template()).unwrap();
    router(Services { queues, storage, cloudfront: None })
}

async fn call(target: Option<&str>, body: String) -> (StatusCode, HeaderMap, Value) {
    call_at(endpoint(queues()), target, body).await
}

async fn call_at(endpoint: Router, target: Option<&str>, body: String) -> (StatusCode, HeaderMap, Value) {
    let mut request = Request::post("/");
    if let Some(target) = target {
        request = request.header("X-Amz-Target", target);
    }
    let answer = endpoint.oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, REQUEST_BYTES_MAX).await.unwrap();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn an_answer_is_in_the_json_protocol() {
    let body = json!({ "QueueUrl": "http://localhost:4566/000000000000/Q", "MessageBody": "m" });
    let (status, headers, answer) = call(Some("AmazonSQS.SendMessage"), body.to_string()).await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"application/x-amz-json-1.0".parse().unwrap())
    );
    assert!(headers.contains_key("x-amzn-requestid"));
    assert_eq!(answer["MD5OfMessageBody"], "6f8f57715090da2632453988d9a1501b");
}

#[tokio::test]
async fn errors_have_the_shapes_clients_read() {
    let queue = "http://localhost:4566/000000000000/Q";
    for (action, body, kind, query) in [
        (
            "GetQueueUrl",
            json!({ "QueueName": "Nope" }),
            "com.amazonaws.sqs#QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue;Sender",
        ),
        (
            "SendMessage",
            json!({ "QueueUrl": queue }),
            "com.amazon.coral.service#MissingRequiredParameterException",
            "MissingParameter;Sender",
        ),
        (
            "ReceiveMessage",
            json!({ "QueueUrl": queue, "MaxNumberOfMessages": 0 }),
            "com.amazon.coral.service#InvalidParameterValueException",
            "InvalidParameterValue;Sender",
        ),
        (
            "AddPermission",
            json!({}),
            "com.amazonaws.sqs#UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation;Sender",
        ),
        (
            "StartMessageMoveTask",
            json!({ "SourceArn": "arn:aws:sqs:us-east-1:000000000000:Q", "MaxNumberOfMessagesPerSecond": 5 }),
            "com.amazonaws.sqs#UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation;Sender",
        ),
    ] {
        let (status, headers, answer) = call(Some(&format!("AmazonSQS.{action}")), body.to_string()).await;
        assert_eq!((status, &answer["__type"]), (StatusCode::BAD_REQUEST, &json!(kind)), "{action}");
        assert_eq!(headers["x-amzn-query-error"], query, "{action}");
        assert!(!answer["message"].as_str().unwrap().is_empty(), "{action}");
    }
}

#[tokio::test]
async fn a_short_poll_is_told_about_too_many_messages_in_flight() {
    let queues = queues();
    let queue = queues.get("Q").unwrap();
    for _ in 0..IN_FLIGHT_MAX {
        queue.send(NewMessage { body: "m".to_owned(), ..NewMessage::default() }).unwrap();
    }
    queue.receive(IN_FLIGHT_MAX, None, Duration::ZERO).await;
    for (wait_seconds, expected) in [(0, json!("com.amazonaws.sqs#OverLimit")), (1, Value::Null)] {
        let body = json!({ "QueueUrl": queue.url(), "WaitTimeSeconds": wait_seconds }).to_string();
        let (.., answer) =
            call_at(endpoint(Arc::clone(&queues)), Some("AmazonSQS.ReceiveMessage"), body).await;
        assert_eq!(answer["__type"], expected);
    }
}

#[tokio::test]
async fn a_request_that_is_not_for_sqs_is_refused() {
    for target in [None, Some("DynamoDB_20120810.GetItem"), Some("nonsense")] {
        let (status, _, answer) = call(target, String::new()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(answer["__type"], "com.amazon.coral.service#UnknownOperationException");
    }
    let (status, ..) = call(Some("AmazonSQS.SendMessage"), "x".repeat(REQUEST_BYTES_MAX + 1)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn attributes_report_the_counts_of_a_misbehaving_queue() {
    let queues = queues();
    let queue = queues.get("Q").unwrap();
    queue.send(NewMessage { body: "m".to_owned(), ..NewMessage::default() }).unwrap();
    let asked = json!({ "QueueUrl": queue.url(), "AttributeNames": ["ApproximateNumberOfMessages"] });
    for (how, least) in [(Misbehavior::default(), "1"), (Misbehavior::WORST, "0")] {
        queue.misbehave(how, 7);
        let mut reported = Vec::new();
        for _ in 0..10 {
            let endpoint = endpoint(Arc::clone(&queues));
            let action = Some("AmazonSQS.GetQueueAttributes");
            let (.., answer) = call_at(endpoint, action, asked.to_string()).await;
            reported.push(answer["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().to_owned());
        }
        assert_eq!(reported.iter().min().map(String::as_str), Some(least), "{reported:?}");
    }
}
