use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use super::{batch::Batch, mapping::Mapping, settings::Settings};
use crate::{
    cloudwatch::CloudWatch,
    lambda::{Functions, PAYLOAD_BYTES_MAX},
    sqs::{Attribute, Misbehavior, NewMessage, Queue, Queues},
    template::{Context, Template},
};

/// Creates a mapping to a function that does not exist: gathering batches needs none.
fn mapping(batch_size: usize, window: Duration) -> (tempfile::TempDir, Arc<Queue>, Arc<Mapping>) {
    let folder = tempfile::tempdir().unwrap();
    let template =
        Template::parse("Resources: {Q: {Type: AWS::SQS::Queue}}", "template.yaml", &Context::default())
            .unwrap();
    let logs = Arc::new(CloudWatch::new(folder.path().to_owned()).unwrap());
    let functions = Functions::from_template(&template, folder.path().to_owned(), logs).unwrap();
    let queue = Queues::from_template(&template).unwrap().get("Q").unwrap();
    let settings = Settings {
        function: "F".to_owned(),
        function_timeout: Duration::from_secs(3),
        batch_size,
        window,
        concurrency_max: None,
        reports_failures: true,
    };
    let mapping = Mapping::new(settings, Arc::clone(&queue), functions, None);
    (folder, queue, mapping)
}

fn send(queue: &Queue, body: &str) {
    queue.send(NewMessage { body: body.to_owned(), ..NewMessage::default() }).unwrap();
}

fn event(batch: Batch<'_>) -> Value {
    serde_json::from_slice(&batch.into_parts().0).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_full_at_its_size() {
    let (_folder, queue, mapping) = mapping(3, Duration::from_secs(3));
    (0..7).for_each(|_| send(&queue, "m"));
    let (start, mut left_over) = (Instant::now(), Vec::new());
    for (expected, seconds) in [(3, 0), (3, 0), (1, 3)] {
        assert_eq!(mapping.gather(&mut left_over).await.len(), expected);
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
    assert!(left_over.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_window_begins_with_the_first_message() {
    let (_folder, queue, mapping) = mapping(10, Duration::from_secs(3));
    let sender = tokio::spawn(async move {
        // The last message is sent half a second after the end of the window.
        for pause_ms in [60_000, 1_000, 1_500, 1_000] {
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            send(&queue, "m");
        }
    });
    let start = Instant::now();
    assert_eq!(mapping.gather(&mut Vec::new()).await.len(), 3);
    assert_eq!(start.elapsed().as_secs(), 63);
    sender.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_window_what_is_there_goes_at_once() {
    let (_folder, queue, mapping) = mapping(10, Duration::ZERO);
    (0..4).for_each(|_| send(&queue, "m"));
    let start = Instant::now();
    assert_eq!(mapping.gather(&mut Vec::new()).await.len(), 4);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_event_stays_within_the_payload_limit_and_loses_nothing() {
    let (_folder, queue, mapping) = mapping(100, Duration::from_secs(3));
    // A quote takes two bytes in the event: 1 MiB of quotes takes 2 MiB.
    let body = "\"".repeat(1_048_576);
    (0..7).for_each(|_| send(&queue, &body));
    let mut left_over = Vec::new();
    let mut records = Vec::new();
    for _ in 0..4 {
        let batch = mapping.gather(&mut left_over).await;
        let (event, deliveries) = batch.into_parts();
        assert!(event.len() <= PAYLOAD_BYTES_MAX, "{}", event.len());
        let event: Value = serde_json::from_slice(&event).unwrap();
        assert_eq!(event["Records"].as_array().unwrap().len(), deliveries.len());
        records.push(deliveries.len());
    }
    assert_eq!(records, [2, 2, 2, 1]);
    assert_eq!(queue.counts().in_flight, 7);
}

#[tokio::test(start_paused = true)]
async fn records_are_those_of_lambda() {
    let (_folder, queue, mapping) = mapping(10, Duration::ZERO);
    let attribute =
        |data_type: &str, value: &str| Attribute { data_type: data_type.into(), value: value.into() };
    let attributes = BTreeMap::from([
        ("requestId".to_owned(), attribute("String", "r \"ü\"")),
        ("raw".to_owned(), attribute("Binary", "AP8=")),
    ]);
    let body = "{\"poll\":1}\n\t\u{1f5f3}".to_owned();
    let sent = queue
        .send(NewMessage {
            body: body.clone(),
            attributes,
            group_id: Some("alice|\"1\"".to_owned()),
            delay_seconds: None,
        })
        .unwrap();
    send(&queue, "bare");
    let event = event(mapping.gather(&mut Vec::new()).await);

    let record = &event["Records"][0];
    let sent_ms = record["attributes"]["SentTimestamp"].as_str().unwrap();
    assert!(sent_ms.parse::<u64>().unwrap() > 1_700_000_000_000, "{sent_ms}");
    assert_eq!(
        *record,
        json!({
            "messageId": sent.message_id,
            "receiptHandle": record["receiptHandle"].as_str().unwrap(),
            "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": sent_ms,
                "SenderId": "000000000000",
                "ApproximateFirstReceiveTimestamp": record["attributes"]["ApproximateFirstReceiveTimestamp"],
                "MessageGroupId": "alice|\"1\"",
            },
            "messageAttributes": {
                "raw": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
                "requestId": {
                    "stringValue": "r \"ü\"", "stringListValues": [], "binaryListValues": [], "dataType": "String",
                },
            },
            "md5OfMessageAttributes": sent.md5_of_attributes,
            "md5OfBody": sent.md5_of_body,
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:Q",
            "awsRegion": "us-east-1",
        })
    );
    let bare = &event["Records"][1];
    assert_eq!((&bare["messageAttributes"], bare.get("md5OfMessageAttributes")), (&json!({}), None));
    assert_eq!(bare["attributes"].get("MessageGroupId"), None);
}

#[tokio::test(start_paused = true)]
async fn the_window_is_stretched_while_a_bad_queue_is_quiet() {
    let (_folder, queue, mapping) = mapping(100, Duration::from_secs(3));
    queue.misbehave(Misbehavior { quiet_window: Duration::from_secs(20), ..Misbehavior::default() }, 7);
    for (messages, seconds) in [(9, 20), (10, 3), (100, 0)] {
        (0..messages).for_each(|_| send(&queue, "m"));
        let start = Instant::now();
        assert_eq!(mapping.gather(&mut Vec::new()).await.len(), messages);
        assert_eq!(start.elapsed().as_secs(), seconds, "{messages} messages");
    }
}

#[tokio::test(start_paused = true)]
async fn pollers_of_a_bad_queue_pause_after_a_batch_that_failed() {
    let (_folder, queue, mapping) = mapping(10, Duration::ZERO);
    queue.misbehave(Misbehavior { poller_pause: Duration::from_secs(1_000), ..Misbehavior::default() }, 7);
    let (stop, enabled) = (watch::Sender::new(false), watch::Sender::new(true));
    tokio::spawn(mapping.run(stop.subscribe(), enabled.subscribe()));
    // There is no function, so the batch fails.
    send(&queue, "m");
    while queue.counts().in_flight == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The receive that is already waiting when the batch fails does not pause; the next one does.
    send(&queue, "m");
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(&queue, "m");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(queue.counts().visible, 1);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_mapping_gathers_nothing_until_it_is_enabled() {
    let (_folder, queue, mapping) = mapping(10, Duration::ZERO);
    let (stop, enabled) = (watch::Sender::new(false), watch::Sender::new(false));
    tokio::spawn(mapping.run(stop.subscribe(), enabled.subscribe()));
    let in_flight_after = async |is_enabled: bool| {
        enabled.send_replace(is_enabled);
        send(&queue, "m");
        tokio::time::sleep(Duration::from_secs(5)).await;
        queue.counts().in_flight
    };
    assert_eq!(in_flight_after(false).await, 0);
    // There is no function, so these batches fail and become visible much later.
    assert_eq!(in_flight_after(true).await, 2);
    assert_eq!(
        in_flight_after(false).await,
        2,
        "a receive that waits when the mapping is disabled gets nothing"
    );
    assert_eq!(in_flight_after(true).await, 4);
}
