//! Tests of requests to functions, and of their responses.
use super::*;

#[tokio::test]
async fn the_event_is_complete() {
    let fixture = Fixture::new();
    fixture.answers(Ok("{}"));
    let token = fixture
        .issuer
        .sign(&json!({"iss": ISSUER, "aud": ["x", "votes"], "sub": "alice", "exp": now_s() + 60, "scope": "admin"}))
        .unwrap();
    let headers = [
        ("authorization", token.as_str()),
        ("x-show", "a"),
        ("X-Show", "b"),
        ("cookie", "c1=1; c2=2"),
        ("user-agent", "test"),
    ];
    fixture.call("POST", "/polls/1%202/open?a=1&b=x%20y&a=2", &headers, "hällo").await;
    let (function, event) = fixture.last_event();
    assert_eq!(function, "PollsFunction");
    let context = &event["requestContext"];
    for (value, expected) in [
        (&event["version"], json!("2.0")),
        (&event["routeKey"], json!("POST /polls/{id}/open")),
        (&event["rawPath"], json!("/polls/1%202/open")),
        (&event["rawQueryString"], json!("a=1&b=x%20y&a=2")),
        (&event["queryStringParameters"], json!({"a": "1,2", "b": "x y"})),
        (&event["pathParameters"], json!({"id": "1 2"})),
        (&event["cookies"], json!(["c1=1", "c2=2"])),
        (&event["headers"]["x-show"], json!("a,b")),
        (&event["headers"]["cookie"], Value::Null),
        (&event["body"], json!("hällo")),
        (&event["isBase64Encoded"], json!(false)),
        (&context["accountId"], json!(ACCOUNT_ID)),
        (&context["apiId"], json!("api1")),
        (&context["domainName"], json!("api1.execute-api.test")),
        (&context["domainPrefix"], json!("api1")),
        (&context["stage"], json!("$default")),
        (&context["routeKey"], json!("POST /polls/{id}/open")),
        (&context["http"]["method"], json!("POST")),
        (&context["http"]["path"], json!("/polls/1%202/open")),
        (&context["http"]["protocol"], json!("HTTP/1.1")),
        (&context["http"]["sourceIp"], json!("127.0.0.1")),
        (&context["http"]["userAgent"], json!("test")),
        (&context["authorizer"]["jwt"]["claims"]["sub"], json!("alice")),
        (&context["authorizer"]["jwt"]["claims"]["aud"], json!("[x votes]")),
        (&context["authorizer"]["jwt"]["scopes"], json!(["admin", "crew"])),
    ] {
        assert_eq!(*value, expected);
    }
    assert!(context["timeEpoch"].is_i64() && context["time"].is_string() && context["requestId"].is_string());
    let typed: Result<aws_lambda_events::apigw::ApiGatewayV2httpRequest, _> = serde_json::from_value(event);
    typed.expect("the functions' own type reads it");
}

#[tokio::test]
async fn a_public_event_without_a_body_leaves_out_what_is_not_there() {
    let fixture = Fixture::new();
    fixture.answers(Ok("{}"));
    fixture.call("GET", "/polls/1", &[], "").await;
    let (_, event) = fixture.last_event();
    for name in ["body", "cookies", "queryStringParameters"] {
        assert!(event.get(name).is_none(), "{name}");
    }
    assert!(event["requestContext"].get("authorizer").is_none());
}

#[tokio::test]
async fn answers_follow_format_2() {
    let fixture = Fixture::new();
    let full = r#"{"statusCode":201,"headers":{"content-type":"a/b","x-n":1},"cookies":["a=1","b=2"],
        "body":"aGk=","isBase64Encoded":true}"#;
    fixture.answers(Ok(full));
    let answer = fixture.call("GET", "/polls/1", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("x-n")), (201, "hi", Some("1")));
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    fixture.answers(Ok("{\"poll\":1}"));
    let inferred = fixture.call("GET", "/polls/1", &[], "").await;
    assert_eq!(
        (inferred.status, inferred.body.as_str(), inferred.header("content-type")),
        (200, "{\"poll\":1}", Some("application/json"))
    );
    for (answer, status, message) in [
        (Ok("not json"), 500, "Internal Server Error"),
        (Ok(r#"{"statusCode":"200"}"#), 500, "Internal Server Error"),
        (Ok(r#"{"statusCode":200,"body":"%%","isBase64Encoded":true}"#), 500, "Internal Server Error"),
        (Err(InvokeError::Unhandled("secret".to_owned())), 500, "Internal Server Error"),
        (Err(InvokeError::Crashed("secret".to_owned())), 500, "Internal Server Error"),
        (Err(InvokeError::TimedOut), 500, "Internal Server Error"),
        (Err(InvokeError::Throttled), 503, "Service Unavailable"),
    ] {
        fixture.answers(answer);
        let answer = fixture.call("GET", "/polls/1", &[], "").await;
        assert_eq!((answer.status, answer.body), (status, format!("{{\"message\":\"{message}\"}}")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_integration_has_thirty_seconds() {
    let fixture = Fixture::new();
    let start = tokio::time::Instant::now();
    let answer = fixture.call("GET", "/polls/1", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "{\"message\":\"Service Unavailable\"}"));
    assert_eq!(start.elapsed().as_secs(), 30);
}
