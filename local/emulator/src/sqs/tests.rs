use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::template::Context;

mod misbehavior;

const NOW: Duration = Duration::ZERO;

fn queues(resources: &str) -> anyhow::Result<Arc<Queues>> {
    let context = Context { aws_endpoint: "http://localhost:4566".to_owned(), ..Context::default() };
    Queues::from_template(&Template::parse(&format!("Resources: {resources}"), "t", &context)?)
}

fn queue(properties: &str) -> Arc<Queue> {
    queues(&format!("{{Q: {{Type: AWS::SQS::Queue, Properties: {properties}}}}}")).unwrap().get("Q").unwrap()
}

#[test]
fn a_property_that_queues_do_not_have_is_refused() {
    let refused = queues("{Q: {Type: AWS::SQS::Queue, Properties: {Visibility: 5}}}").unwrap_err();
    assert_eq!(format!("{refused:#}"), "Q: Visibility is not a property of a queue");
    queue("{SqsManagedSseEnabled: true, Tags: []}");
}

fn with_dead_letters(max_receive_count: u32) -> (Arc<Queues>, Arc<Queue>, Arc<Queue>) {
    let queues = queues(&format!(
        "{{Q: {{Type: AWS::SQS::Queue, Properties: {{RedrivePolicy: {{deadLetterTargetArn: !GetAtt D.Arn, \
         maxReceiveCount: {max_receive_count}}}}}}}, D: {{Type: AWS::SQS::Queue}}}}"
    ))
    .unwrap();
    let (queue, dead) = (queues.get("Q").unwrap(), queues.get("D").unwrap());
    (queues, queue, dead)
}

fn message(body: &str) -> NewMessage {
    NewMessage { body: body.to_owned(), ..NewMessage::default() }
}

fn of_group(group_id: &str) -> NewMessage {
    NewMessage { group_id: Some(group_id.to_owned()), ..message("m") }
}

fn delayed(seconds: u32) -> NewMessage {
    NewMessage { delay_seconds: Some(seconds), ..message("m") }
}

fn counts_by_state(queue: &Queue) -> (u64, u64, u64) {
    let counts = queue.counts();
    (counts.visible, counts.in_flight, counts.delayed)
}

fn bodies(received: &[Received]) -> Vec<&str> {
    received.iter().map(|message| &*message.content.body).collect()
}

fn receipts(received: &[Received]) -> Vec<Receipt> {
    received.iter().map(|message| message.receipt).collect()
}

/// Starts a long poll in another task, which returns the number of its messages.
fn waiting_receiver(queue: &Arc<Queue>) -> tokio::task::JoinHandle<usize> {
    let queue = Arc::clone(queue);
    tokio::spawn(async move { queue.receive(1, None, Duration::from_secs(20)).await.len() })
}

async fn one(queue: &Queue) -> Received {
    queue.receive(1, None, NOW).await.pop().unwrap()
}

#[test]
fn queues_are_found_by_every_name() {
    let queues = queues("{Votes: {Type: AWS::SQS::Queue, Properties: {QueueName: prod-votes}}}").unwrap();
    let queue = queues.get("Votes").unwrap();
    assert_eq!(queue.url(), "http://localhost:4566/000000000000/prod-votes");
    assert_eq!(queue.arn(), "arn:aws:sqs:us-east-1:000000000000:prod-votes");
    for name in ["prod-votes", &queue.url(), &queue.arn()] {
        assert!(Arc::ptr_eq(&queues.get(name).unwrap(), &queue), "{name}");
    }
    assert!(queues.get("other").is_none());
}

#[test]
fn properties_out_of_range_and_unknown_queues_are_refused() {
    for (properties, expected) in [
        (
            "{VisibilityTimeout: 43201}",
            "VisibilityTimeout is 43201; it must be a whole number from 0 to 43200",
        ),
        ("{DelaySeconds: x}", "DelaySeconds is x"),
        ("{FifoQueue: true}", "FIFO queues are not supported"),
        ("{QueueName: 'a b'}", "a queue name has"),
        (
            "{RedrivePolicy: {deadLetterTargetArn: 'arn:aws:sqs:x:0:Nope', maxReceiveCount: 3}}",
            "no other queue",
        ),
        ("{RedrivePolicy: {deadLetterTargetArn: 'arn:aws:sqs:x:0:Q', maxReceiveCount: 3}}", "no other queue"),
        ("{RedrivePolicy: {deadLetterTargetArn: 'x', maxReceiveCount: 1001}}", "from 1 to 1000"),
    ] {
        let error =
            queues(&format!("{{Q: {{Type: AWS::SQS::Queue, Properties: {properties}}}}}")).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

#[test]
fn digests_are_those_sdks_verify() {
    // The digests that SQS itself returned for this message.
    let timestamp = Attribute { data_type: "Number".to_owned(), value: "1493147359900".to_owned() };
    let message =
        NewMessage { attributes: BTreeMap::from([("timestamp".to_owned(), timestamp)]), ..message("derp") };
    let sent = queue("{}").send(message).unwrap();
    assert_eq!(sent.md5_of_body, "58fd9edd83341c29f1aebba81c31e257");
    assert_eq!(sent.md5_of_attributes.as_deref(), Some("235c5c510d26fb653d073faed50ae77c"));
}

#[test]
fn bad_messages_are_refused() {
    let queue = queue("{MaximumMessageSize: 1024}");
    let attribute = |data_type: &str, value: &str| NewMessage {
        attributes: BTreeMap::from([(
            "a".to_owned(),
            Attribute { data_type: data_type.to_owned(), value: value.to_owned() },
        )]),
        ..message("m")
    };
    for (message, code) in [
        (message(""), "MissingParameter"),
        (message("\u{1}"), "InvalidMessageContents"),
        (message("\u{ffff}"), "InvalidMessageContents"),
        (message(&"x".repeat(1025)), "InvalidParameterValue"),
        (attribute("String", &"x".repeat(1020)), "InvalidParameterValue"),
        (attribute("String", ""), "InvalidParameterValue"),
        (attribute("Number", "many"), "InvalidParameterValue"),
        (attribute("Binary", "?"), "InvalidParameterValue"),
        (attribute("Other", "x"), "InvalidParameterValue"),
        (delayed(901), "InvalidParameterValue"),
        (of_group(""), "InvalidParameterValue"),
        (of_group(&"v".repeat(129)), "InvalidParameterValue"),
        (of_group("anna b"), "InvalidParameterValue"),
        (of_group("joão"), "InvalidParameterValue"),
        (of_group("line\n"), "InvalidParameterValue"),
    ] {
        assert_eq!(queue.send(message.clone()).unwrap_err().code, code, "{message:?}");
    }
    assert!(queue.send(message("\t\r\n äöü 🗳")).is_ok());
    assert!(queue.send(message(&"x".repeat(1024))).is_ok());
    assert!(queue.send(of_group(&"v".repeat(128))).is_ok());
    assert!(queue.send(of_group(r##"aZ09!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"##)).is_ok());
    assert_eq!(queue.counts().sent_total, 4);
}

#[test]
fn attributes_survive_their_encoding() {
    let attributes = BTreeMap::from([
        ("b".to_owned(), Attribute { data_type: "Binary".to_owned(), value: "AP8=".to_owned() }),
        ("a".to_owned(), Attribute { data_type: "String.x".to_owned(), value: "v".to_owned() }),
    ]);
    let encoded = Attributes::encode(&attributes).unwrap();
    let expected =
        [("a", "String.x", AttributeValue::Text("v")), ("b", "Binary", AttributeValue::Binary(&[0, 255]))];
    assert_eq!(encoded.iter().collect::<Vec<_>>(), expected);
    assert_eq!(encoded.filter(|name| name == "a").iter().collect::<Vec<_>>(), expected[..1]);
    assert_eq!(encoded.filter(|_| false).md5(), None);
}

#[tokio::test(start_paused = true)]
async fn a_message_comes_back_when_its_visibility_timeout_ends() {
    let queue = queue("{VisibilityTimeout: 30}");
    queue.send(message("m")).unwrap();
    let first = one(&queue).await;
    tokio::time::advance(Duration::from_millis(29_900)).await;
    assert!(queue.receive(1, None, NOW).await.is_empty());
    assert_eq!(counts_by_state(&queue), (0, 1, 0));
    tokio::time::advance(Duration::from_millis(200)).await;
    assert_eq!(counts_by_state(&queue), (1, 0, 0));
    let second = one(&queue).await;
    assert_eq!(second.content.id, first.content.id);
    assert_eq!(second.content.sent_ms, first.content.sent_ms);
    assert_eq!(second.first_received_ms, first.first_received_ms);
    assert_eq!((first.receive_count, second.receive_count), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_waits() {
    let queue = queue("{DelaySeconds: 5}");
    queue.send(message("m")).unwrap();
    queue.send(delayed(0)).unwrap();
    assert_eq!(counts_by_state(&queue), (1, 0, 1));
    assert_eq!(queue.receive(10, None, NOW).await.len(), 1);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(queue.receive(10, None, NOW).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_ends_with_a_message_or_its_time() {
    let queue = queue("{}");
    let start = Instant::now();
    assert!(queue.receive(1, None, Duration::from_secs(20)).await.is_empty());
    assert_eq!(start.elapsed().as_secs(), 20);

    let start = Instant::now();
    queue.send(delayed(7)).unwrap();
    assert_eq!(queue.receive(1, None, Duration::from_secs(20)).await.len(), 1);
    assert_eq!(start.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn every_waiting_receiver_gets_its_message() {
    let queue = queue("{}");
    let waiting: Vec<_> = (0..3).map(|_| waiting_receiver(&queue)).collect();
    tokio::task::yield_now().await;
    let start = Instant::now();
    (0..3).for_each(|_| drop(queue.send(message("m")).unwrap()));
    for receiver in waiting {
        assert_eq!(receiver.await.unwrap(), 1);
    }
    assert_eq!(start.elapsed(), NOW);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_receiver_gets_what_another_one_did_not_delete() {
    let queue = queue("{VisibilityTimeout: 3}");
    let waiting = [waiting_receiver(&queue), waiting_receiver(&queue)];
    tokio::task::yield_now().await;
    let start = Instant::now();
    queue.send(message("m")).unwrap();
    for receiver in waiting {
        assert_eq!(receiver.await.unwrap(), 1);
    }
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn only_the_latest_receipt_deletes() {
    let queue = queue("{VisibilityTimeout: 30}");
    queue.send(message("m")).unwrap();
    let first = one(&queue).await;
    tokio::time::advance(Duration::from_secs(31)).await;
    let second = one(&queue).await;
    queue.delete(&[first.receipt]);
    assert_eq!(counts_by_state(&queue), (0, 1, 0));
    tokio::time::advance(Duration::from_secs(31)).await;
    // The visibility timeout has ended without another delivery: this receipt is still the latest.
    queue.delete(&[second.receipt]);
    assert_eq!(counts_by_state(&queue), (0, 0, 0));
    assert!(queue.receive(1, None, NOW).await.is_empty());
    let parsed: Receipt = second.receipt.to_string().parse().unwrap();
    assert_eq!(parsed, second.receipt);
    assert!("nonsense".parse::<Receipt>().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_receipt_from_before_a_restart_deletes_nothing() {
    let queue = queue("{}");
    queue.send(message("old")).unwrap();
    let old = one(&queue).await;
    queue.purge();
    let restarted = self::queue("{}");
    restarted.send(message("new")).unwrap();
    one(&restarted).await;
    restarted.delete(&[old.receipt]);
    assert_eq!(counts_by_state(&restarted), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn visibility_can_be_changed_in_flight_only() {
    let queue = queue("{VisibilityTimeout: 30}");
    queue.send(message("m")).unwrap();
    let received = one(&queue).await;
    queue.change_visibility(&received.receipt, 100).unwrap();
    tokio::time::advance(Duration::from_secs(99)).await;
    assert_eq!(counts_by_state(&queue), (0, 1, 0));
    queue.change_visibility(&received.receipt, 0).unwrap();
    assert_eq!(counts_by_state(&queue), (1, 0, 0));
    assert_eq!(queue.change_visibility(&received.receipt, 5).unwrap_err().code, "MessageNotInflight");
    assert_eq!(queue.change_visibility(&received.receipt, 43_201).unwrap_err().code, "InvalidParameterValue");
    assert_eq!(one(&queue).await.receive_count, 2);
}

#[tokio::test(start_paused = true)]
async fn a_receive_without_visibility_timeout_hands_out_each_message_once() {
    let queue = queue("{VisibilityTimeout: 0}");
    queue.send(message("1")).unwrap();
    queue.send(message("2")).unwrap();
    assert_eq!(bodies(&queue.receive(10, None, NOW).await), ["1", "2"]);
    assert_eq!(counts_by_state(&queue), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_received_too_often_moves_to_the_dead_letter_queue() {
    let (_queues, queue, dead) = with_dead_letters(2);
    let sent = queue.send(message("m")).unwrap();
    let first = one(&queue).await;
    for _ in 0..2 {
        tokio::time::advance(Duration::from_secs(31)).await;
        queue.receive(1, None, NOW).await;
    }
    assert_eq!((counts_by_state(&queue), counts_by_state(&dead)), ((0, 0, 0), (1, 0, 0)));
    let given_up = one(&dead).await;
    assert_eq!(given_up.content.id, sent.message_id);
    assert_eq!(given_up.content.sent_ms, first.content.sent_ms);
    assert_eq!(given_up.receive_count, 3);
    assert_eq!(given_up.dead_letter_source.as_deref(), Some(queue.arn().as_str()));
}

#[tokio::test(start_paused = true)]
async fn no_message_moves_to_a_deleted_dead_letter_queue() {
    let (queues, queue, dead) = with_dead_letters(1);
    queue.send(message("m")).unwrap();
    queues.remove(dead.name());
    drop(dead);
    for count in 1..=3 {
        assert_eq!(one(&queue).await.receive_count, count);
        tokio::time::advance(Duration::from_secs(31)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn each_queue_counts_its_own_deliveries() {
    let (queues, queue, dead) = with_dead_letters(1);
    let back = json!({ "deadLetterTargetArn": queue.arn(), "maxReceiveCount": 1 }).to_string();
    queues.set_attribute(&dead, "RedrivePolicy", &back).unwrap();
    queue.send(message("m")).unwrap();
    one(&queue).await;
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(queue.receive(1, None, NOW).await.is_empty());
    assert_eq!(one(&dead).await.receive_count, 2);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_move_back_as_new_messages() {
    let (queues, queue, dead) = with_dead_letters(1);
    let sent = queue.send(message("m")).unwrap();
    one(&queue).await;
    tokio::time::advance(Duration::from_secs(31)).await;
    queue.receive(1, None, NOW).await;
    dead.send(message("of nobody")).unwrap();

    let task = queues.start_move(&dead.arn(), None).unwrap();
    assert_eq!((task.status, task.moved, task.to_move), (MoveTaskStatus::Failed, 1, 2));
    assert_eq!(bodies(&dead.receive(10, None, NOW).await), ["of nobody"]);
    let back = one(&queue).await;
    assert_eq!((&*back.content.body, back.receive_count), ("m", 1));
    assert_ne!(back.content.id, sent.message_id);

    tokio::time::advance(Duration::from_secs(31)).await;
    let task = queues.start_move(&dead.arn(), Some(&queue.arn())).unwrap();
    assert_eq!((task.status, task.moved), (MoveTaskStatus::Completed, 1));
    assert_eq!(queues.move_tasks(&dead.arn()).len(), 2);
    assert_eq!(queues.start_move(&queue.arn(), None).unwrap_err().code, "InvalidParameterValue");
    assert_eq!(
        queues.start_move("arn:aws:sqs:x:0:none", None).unwrap_err().code,
        "ResourceNotFoundException"
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_than_sqs_limit_is_in_flight() {
    let queue = queue("{}");
    for _ in 0..=IN_FLIGHT_MAX {
        queue.send(message("m")).unwrap();
    }
    let received = queue.receive(usize::MAX, None, NOW).await;
    assert_eq!(received.len(), IN_FLIGHT_MAX);
    let waiting = waiting_receiver(&queue);
    tokio::task::yield_now().await;
    let start = Instant::now();
    queue.delete(&receipts(&received[..1]));
    assert_eq!(waiting.await.unwrap(), 1);
    assert_eq!(start.elapsed(), NOW);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_brings_everything_back() {
    let (queues, queue, dead) = with_dead_letters(3);
    let attribute = Attribute { data_type: "String".to_owned(), value: "r".to_owned() };
    let attributes = BTreeMap::from([("requestId".to_owned(), attribute)]);
    queue.send(NewMessage { attributes, group_id: Some("alice".to_owned()), ..message("1") }).unwrap();
    queue.send(delayed(60)).unwrap();
    dead.send(message("3")).unwrap();
    let received = one(&queue).await;
    let written = serde_json::to_string(&queues.snapshot()).unwrap();

    let (queues, queue, dead) = with_dead_letters(3);
    let snapshot: Snapshot = serde_json::from_str(&written).unwrap();
    assert_eq!((snapshot.len(), snapshot.is_empty()), (3, false));
    queues.restore(snapshot).unwrap();
    assert_eq!((counts_by_state(&queue), counts_by_state(&dead)), ((2, 0, 0), (1, 0, 0)));
    let again = one(&queue).await;
    assert_eq!(again.content.id, received.content.id);
    assert_eq!(again.content.sent_ms, received.content.sent_ms);
    assert_eq!(again.content.attributes, received.content.attributes);
    assert_eq!(again.content.group_id.as_deref(), Some("alice"));
    assert_eq!(again.receive_count, 2);
    assert_eq!(queue.counts().sent_total, 0);
}

#[test]
fn a_snapshot_of_a_queue_that_is_gone_is_refused_as_a_whole() {
    let (queues, queue, dead) = with_dead_letters(3);
    queue.send(message("1")).unwrap();
    dead.send(message("2")).unwrap();
    let snapshot = queues.snapshot();
    queues.remove("Q");
    let error = queues.restore(snapshot).unwrap_err();
    assert!(error.message.contains("1 saved messages belong to Q"), "{error}");
    assert_eq!(counts_by_state(&dead), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn messages_past_their_retention_are_gone() {
    let queues = queues("{Q: {Type: AWS::SQS::Queue, Properties: {MessageRetentionPeriod: 60}}}").unwrap();
    let queue = queues.get("Q").unwrap();
    queue.send(message("old")).unwrap();
    let mut saved = serde_json::to_value(queues.snapshot()).unwrap();
    let content = &mut saved["queues"]["Q"][0]["content"];
    content["sent_ms"] = json!(content["sent_ms"].as_u64().unwrap() - 61_000);
    queue.purge();
    queues.restore(serde_json::from_value(saved).unwrap()).unwrap();
    queue.send(message("new")).unwrap();
    assert_eq!(bodies(&queue.receive(10, None, NOW).await), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn emptied_waits_for_the_last_message() {
    let queue = queue("{}");
    queue.emptied().await;
    queue.send(message("m")).unwrap();
    let received = one(&queue).await;
    let mut emptied = tokio::spawn({
        let queue = Arc::clone(&queue);
        async move { queue.emptied().await }
    });
    assert!(tokio::time::timeout(Duration::from_secs(20), &mut emptied).await.is_err());
    queue.delete(&[received.receipt]);
    emptied.await.unwrap();
}
