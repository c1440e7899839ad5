//! Tests of the SQS-SendMessage integration.
use super::*;

#[tokio::test]
async fn a_vote_becomes_a_message_without_code() {
    let fixture = Fixture::new();
    let token = fixture.issuer.token("alice", None).unwrap();
    let body = "{\"poll\": 1,  \"contestant\": 7}";
    let answer = fixture.call_as(&token, "POST", "/votes", body).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.route, "POST /votes");
    let request_id = answer.header("apigw-requestid").unwrap();
    assert_eq!(
        answer.body,
        format!(
            "<?xml version=\"1.0\"?><SendMessageResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">\
             <SendMessageResult><MessageId>{}</MessageId><MD5OfMessageBody>{md5}</MD5OfMessageBody>\
             <MD5OfMessageAttributes>{md5}</MD5OfMessageAttributes></SendMessageResult><ResponseMetadata>\
             <RequestId>{request_id}</RequestId></ResponseMetadata></SendMessageResponse>",
            Uuid::nil(),
            md5 = "0".repeat(32)
        )
    );
    assert_eq!(answer.header("x-voter"), Some("alice"), "appended");
    assert_eq!(answer.header("content-type"), None, "removed");
    let sent = fixture.backend.sent.lock().unwrap();
    let (queue, message) = &sent[0];
    assert_eq!((queue.as_str(), message.body.as_str()), ("http://localhost:4566/000000000000/votes", body));
    assert_eq!(message.group_id.as_deref(), Some("alice"));
    assert_eq!(message.attributes["requestId"].value, request_id);
    assert_eq!(message.delay_seconds, None);
}

#[tokio::test]
async fn what_cannot_be_mapped_or_sent_is_a_bad_request() {
    let fixture = Fixture::new();
    let token = fixture.issuer.token("alice", None).unwrap();
    let empty = fixture.call_as(&token, "POST", "/votes", "").await;
    assert_eq!(empty.status, 400);
    assert!(empty.body.contains("<Code>MissingParameter</Code>"), "{}", empty.body);
    let unmapped = fixture.call("POST", "/mapped?delay=5", &[], "{}").await;
    assert_eq!((unmapped.status, unmapped.body.as_str()), (400, "{\"message\":\"Bad Request\"}"));
    let wrong_delay = fixture.call("POST", "/mapped?delay=x", &[], "{\"text\":\"t\"}").await;
    assert!(wrong_delay.body.contains("<Code>InvalidParameterValue</Code>"), "{}", wrong_delay.body);
    let lost = fixture.call("POST", "/lost", &[], "x").await;
    assert!(lost.body.contains("<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"), "{}", lost.body);
    assert!(fixture.backend.sent.lock().unwrap().is_empty());
    let mapped = fixture.call("POST", "/mapped?delay=5", &[], "{\"text\":\"t\"}").await;
    assert_eq!(mapped.status, 200);
    let sent = fixture.backend.sent.lock().unwrap();
    assert_eq!((sent[0].1.body.as_str(), sent[0].1.delay_seconds), ("t", Some(5)));
}

/// AWS does not document escaping of values inserted into JSON, so the emulator does not escape them.
#[tokio::test]
async fn a_claim_inside_the_json_of_attributes_can_break_it_and_can_set_others() {
    let fixture = Fixture::new();
    let token = fixture.issuer.token("al\"ice", None).unwrap();
    assert_eq!(fixture.call_as(&token, "POST", "/interpolated", "{}").await.status, 400);
    let crafted = r#"mallory"},"castAt":{"DataType":"String","StringValue":"5"#;
    let token = fixture.issuer.token(crafted, None).unwrap();
    assert_eq!(fixture.call_as(&token, "POST", "/interpolated", "{}").await.status, 200);
    let sent = fixture.backend.sent.lock().unwrap();
    assert_eq!(sent[0].1.attributes["castAt"].value, "5");
}

#[tokio::test]
async fn a_claim_that_is_a_parameter_by_itself_is_only_that_parameter() {
    let fixture = Fixture::new();
    let crafted = r#"mallory"},"castAt":{"DataType":"String","StringValue":"5"#;
    let token = fixture.issuer.token(crafted, None).unwrap();
    assert_eq!(fixture.call_as(&token, "POST", "/votes", "{}").await.status, 202);
    let sent = fixture.backend.sent.lock().unwrap();
    assert_eq!(sent[0].1.group_id.as_deref(), Some(crafted));
    assert_eq!(sent[0].1.attributes.keys().collect::<Vec<_>>(), ["requestId"]);
}
