//! The API as a whole, with fake integrations behind it.
use std::sync::Mutex;

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::template::Resource;

const ISSUER: &str = "http://localhost:8080/_local";

/// Remembers what it was asked and answers as told.
#[derive(Default)]
struct Fake {
    sent: Mutex<Vec<(String, NewMessage)>>,
    events: Mutex<Vec<(String, Value)>>,
    answer: Mutex<Option<Result<Bytes, InvokeError>>>,
}

impl Backend for Fake {
    fn invoke(&self, function: String, payload: Bytes) -> BoxFuture<'_, Result<Bytes, InvokeError>> {
        let event = serde_json::from_slice(&payload).unwrap();
        self.events.lock().unwrap().push((function, event));
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async move {
            match answer {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn send(&self, queue_url: &str, message: NewMessage) -> Option<Result<Sent, SendError>> {
        if !queue_url.ends_with("/votes") {
            return None;
        }
        self.sent.lock().unwrap().push((queue_url.to_owned(), message));
        let md5 = "0".repeat(32);
        Some(Ok(Sent { message_id: Uuid::nil(), md5_of_body: md5.clone(), md5_of_attributes: Some(md5) }))
    }
}

fn api_resource() -> Resource {
    let arn = "arn:aws:lambda:us-east-1:000000000000:function:AdminFunction";
    Resource {
        id: "Api".to_owned(),
        kind: "AWS::Serverless::HttpApi".to_owned(),
        metadata: Value::Null,
        properties: json!({
            "Auth": {
                "DefaultAuthorizer": "Jwt",
                "Authorizers": {"Jwt": {"JwtConfiguration": {"issuer": ISSUER, "audience": ["votes"]}}},
            },
            "CorsConfiguration": {"AllowOrigins": ["https://vote.example"], "AllowMethods": ["GET"], "MaxAge": 60},
            "RouteSettings": {
                "GET /limited": {"ThrottlingRateLimit": "0.001", "ThrottlingBurstLimit": 2},
            },
            "DefinitionBody": {"paths": {
                "/votes": {"post": {"x-amazon-apigateway-integration": {
                    "type": "aws_proxy",
                    "integrationSubtype": "SQS-SendMessage",
                    "payloadFormatVersion": "1.0",
                    "requestParameters": {
                        "QueueUrl": "http://localhost:4566/000000000000/votes",
                        "MessageBody": "$request.body",
                        "MessageAttributes": "{\"voter\":{\"DataType\":\"String\",\"StringValue\":\
                            \"${context.authorizer.claims.sub}\"},\"requestId\":{\"DataType\":\"String\",\
                            \"StringValue\":\"${context.requestId}\"}}",
                    },
                    "responseParameters": {"200": {
                        "overwrite:statuscode": "202",
                        "append:header.x-voter": "$context.authorizer.claims.sub",
                        "remove:header.content-type": "''",
                    }},
                }}},
                "/mapped": {"post": {"security": [{"NONE": []}], "x-amazon-apigateway-integration": {
                    "type": "aws_proxy",
                    "integrationSubtype": "SQS-SendMessage",
                    "requestParameters": {
                        "QueueUrl": "http://localhost:4566/000000000000/votes",
                        "MessageBody": "$request.body.text",
                        "DelaySeconds": "$request.querystring.delay",
                    },
                }}},
                "/lost": {"post": {"security": [{"NONE": []}], "x-amazon-apigateway-integration": {
                    "type": "aws_proxy",
                    "integrationSubtype": "SQS-SendMessage",
                    "requestParameters": {"QueueUrl": "http://localhost/nowhere", "MessageBody": "$request.body"},
                }}},
                "/admin/polls": {"x-amazon-apigateway-any-method": {
                    "security": [{"Jwt": ["admin"]}],
                    "x-amazon-apigateway-integration": {
                        "type": "aws_proxy",
                        "payloadFormatVersion": "2.0",
                        "uri": format!("arn:aws:apigateway:us-east-1:lambda:path/2015-03-31/functions/{arn}/invocations"),
                    },
                }},
            }},
        }),
    }
}

fn polls_function() -> Resource {
    let event = |method: &str, path: &str, auth: Value| json!({"Type": "HttpApi", "Properties": {"ApiId": "Api", "Method": method, "Path": path, "Auth": auth}});
    Resource {
        id: "PollsFunction".to_owned(),
        kind: "AWS::Serverless::Function".to_owned(),
        metadata: Value::Null,
        properties: json!({"Events": {
            "Get": event("GET", "/polls/{id}", json!({"Authorizer": "NONE"})),
            "Mine": event("GET", "/polls/{id}/votes/mine", Value::Null),
            "Open": event("POST", "/polls/{id}/open", json!({"AuthorizationScopes": ["admin", "crew"]})),
            "Limited": event("GET", "/limited", json!({"Authorizer": "NONE"})),
            "Other": {"Type": "HttpApi", "Properties": {"ApiId": "Another", "Method": "GET", "Path": "/other"}},
        }}),
    }
}

fn admin_function() -> Resource {
    Resource {
        id: "AdminFunction".to_owned(),
        kind: "AWS::Serverless::Function".to_owned(),
        metadata: Value::Null,
        properties: json!({}),
    }
}

struct Gateway {
    api: HttpApi,
    issuer: Issuer,
    fake: Arc<Fake>,
    _folder: TempDir,
}

impl Gateway {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(&folder.path().join("key"), ISSUER, "votes").unwrap();
        let definition = definition::read(&api_resource(), [&polls_function(), &admin_function()]).unwrap();
        let fake = Arc::new(Fake::default());
        let api = HttpApi::new(definition, &issuer, Arc::clone(&fake) as Arc<dyn Backend>).unwrap();
        Self { api, issuer, fake, _folder: folder }
    }

    async fn call(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("host", "api1.execute-api.test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (response, route) = self.api.handle(request).await;
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        Answer { status: response.status().as_u16(), headers: response.headers().clone(), body, route }
    }

    async fn call_as(&self, token: &str, method: &str, uri: &str, body: &str) -> Answer {
        self.call(method, uri, &[("authorization", &format!("Bearer {token}"))], body).await
    }

    fn answers(&self, answer: Result<&str, InvokeError>) {
        *self.fake.answer.lock().unwrap() = Some(answer.map(|text| Bytes::from(text.to_owned())));
    }

    fn last_event(&self) -> (String, Value) {
        self.fake.events.lock().unwrap().last().unwrap().clone()
    }

    fn claims(&self) -> Value {
        json!({"iss": ISSUER, "aud": "votes", "sub": "alice", "iat": now_s(), "exp": now_s() + 60})
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
    route: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_vote_becomes_a_message_without_code() {
    let gateway = Gateway::new();
    let token = gateway.issuer.token("alice", None).unwrap();
    let body = "{\"poll\": 1,  \"contestant\": 7}";
    let answer = gateway.call_as(&token, "POST", "/votes", body).await;
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
    let sent = gateway.fake.sent.lock().unwrap();
    let (queue, message) = &sent[0];
    assert_eq!((queue.as_str(), message.body.as_str()), ("http://localhost:4566/000000000000/votes", body));
    assert_eq!(message.attributes["voter"].value, "alice");
    assert_eq!(message.attributes["requestId"].value, request_id);
    assert_eq!(message.delay_seconds, None);
}

#[tokio::test]
async fn what_cannot_be_mapped_or_sent_is_a_bad_request() {
    let gateway = Gateway::new();
    let token = gateway.issuer.token("alice", None).unwrap();
    let empty = gateway.call_as(&token, "POST", "/votes", "").await;
    assert_eq!(empty.status, 400);
    assert!(empty.body.contains("<Code>MissingParameter</Code>"), "{}", empty.body);
    let unmapped = gateway.call("POST", "/mapped?delay=5", &[], "{}").await;
    assert_eq!((unmapped.status, unmapped.body.as_str()), (400, "{\"message\":\"Bad Request\"}"));
    let wrong_delay = gateway.call("POST", "/mapped?delay=x", &[], "{\"text\":\"t\"}").await;
    assert!(wrong_delay.body.contains("<Code>InvalidParameterValue</Code>"), "{}", wrong_delay.body);
    let lost = gateway.call("POST", "/lost", &[], "x").await;
    assert!(lost.body.contains("<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"), "{}", lost.body);
    assert!(gateway.fake.sent.lock().unwrap().is_empty());
    let mapped = gateway.call("POST", "/mapped?delay=5", &[], "{\"text\":\"t\"}").await;
    assert_eq!(mapped.status, 200);
    let sent = gateway.fake.sent.lock().unwrap();
    assert_eq!((sent[0].1.body.as_str(), sent[0].1.delay_seconds), ("t", Some(5)));
}

#[tokio::test]
async fn a_token_attribute_that_breaks_the_json_fails_the_request() {
    let gateway = Gateway::new();
    let token = gateway.issuer.token("al\"ice", None).unwrap();
    assert_eq!(gateway.call_as(&token, "POST", "/votes", "{}").await.status, 400);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_not_found() {
    let gateway = Gateway::new();
    for (method, uri) in [("GET", "/votes"), ("GET", "/"), ("GET", "/other"), ("POST", "/polls/1")] {
        let answer = gateway.call(method, uri, &[], "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "{\"message\":\"Not Found\"}"),
            "{method} {uri}"
        );
    }
}

#[tokio::test]
async fn tokens_that_do_not_hold_are_unauthorized() {
    let gateway = Gateway::new();
    let stranger = Gateway::new();
    let signed = |change: fn(&mut Value)| {
        let mut claims = gateway.claims();
        change(&mut claims);
        gateway.issuer.sign(&claims).unwrap()
    };
    let good = gateway.issuer.token("alice", None).unwrap();
    let hs256 = {
        let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
        let header = jsonwebtoken::Header {
            kid: jsonwebtoken::decode_header(&good).unwrap().kid,
            ..jsonwebtoken::Header::default()
        };
        jsonwebtoken::encode(&header, &gateway.claims(), &key).unwrap()
    };
    let (head, rest) = good.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let forged = BASE64_STANDARD.encode(gateway.claims().to_string()).replace('=', "");
    for (token, what) in [
        (stranger.issuer.token("alice", None).unwrap(), "foreign key"),
        (format!("{head}.{forged}.{signature}"), "changed claims"),
        (hs256, "another algorithm"),
        (signed(|c| c["iss"] = json!("https://elsewhere")), "issuer"),
        (signed(|c| c["aud"] = json!("other")), "audience"),
        (signed(|c| drop(c.as_object_mut().unwrap().remove("aud"))), "no audience"),
        (signed(|c| c["exp"] = json!(now_s() - 1)), "expired"),
        (signed(|c| drop(c.as_object_mut().unwrap().remove("exp"))), "no expiry"),
        (signed(|c| c["nbf"] = json!(now_s() + 60)), "not yet"),
        (signed(|c| c["iat"] = json!(now_s() + 60)), "issued in the future"),
        ("nonsense".to_owned(), "no token at all"),
    ] {
        let answer = gateway.call_as(&token, "GET", "/polls/1/votes/mine", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (401, "{\"message\":\"Unauthorized\"}"), "{what}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_token\""), "{what}: {challenge}");
    }
    let missing = gateway.call("GET", "/polls/1/votes/mine", &[], "").await;
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
    assert!(gateway.fake.events.lock().unwrap().is_empty(), "no function runs");
}

#[tokio::test]
async fn client_id_stands_in_for_the_audience() {
    let gateway = Gateway::new();
    gateway.answers(Ok("{}"));
    let mut claims = gateway.claims();
    claims.as_object_mut().unwrap().remove("aud");
    claims["client_id"] = json!("votes");
    let token = gateway.issuer.sign(&claims).unwrap();
    assert_eq!(gateway.call_as(&token, "GET", "/polls/1/votes/mine", "").await.status, 200);
}

#[tokio::test]
async fn a_remembered_token_still_expires() {
    let gateway = Gateway::new();
    let authorizer = Authorizer::new(&gateway.api_configuration(), gateway.issuer.verifying_keys());
    let token = gateway.issuer.sign(&gateway.claims()).unwrap();
    assert!(authorizer.authorize(Some(&token), &[], now_s()).is_ok());
    assert!(authorizer.authorize(Some(&token), &[], now_s() + 30).is_ok());
    // Forgotten at its end, and then checked by the clock again, by which it still holds.
    let later = authorizer.authorize(Some(&token), &["admin".to_owned()], now_s() + 61);
    assert_eq!(later.unwrap_err(), Denied::Scope);
}

impl Gateway {
    fn api_configuration(&self) -> definition::JwtConfiguration {
        definition::JwtConfiguration {
            issuer: self.issuer.url().to_owned(),
            audience: vec!["votes".to_owned()],
        }
    }
}

#[tokio::test]
async fn a_route_with_scopes_wants_one_of_them() {
    let gateway = Gateway::new();
    gateway.answers(Ok("{}"));
    let token = |scope| gateway.issuer.token("crew", scope).unwrap();
    for (scope, method, uri, status) in [
        (None, "GET", "/admin/polls", 403),
        (Some("administrator"), "GET", "/admin/polls", 403),
        (Some("vote admin"), "PUT", "/admin/polls", 200),
        (Some("vote"), "POST", "/polls/1/open", 403),
        (Some("crew"), "POST", "/polls/1/open", 200),
    ] {
        let answer = gateway.call_as(&token(scope), method, uri, "").await;
        assert_eq!(answer.status, status, "{scope:?} {uri}");
        if status == 403 {
            assert_eq!(answer.body, "{\"message\":\"Forbidden\"}");
        }
    }
}

#[tokio::test]
async fn the_event_is_complete() {
    let gateway = Gateway::new();
    gateway.answers(Ok("{}"));
    let token = gateway
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
    gateway.call("POST", "/polls/1%202/open?a=1&b=x%20y&a=2", &headers, "hällo").await;
    let (function, event) = gateway.last_event();
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
    let gateway = Gateway::new();
    gateway.answers(Ok("{}"));
    gateway.call("GET", "/polls/1", &[], "").await;
    let (_, event) = gateway.last_event();
    for name in ["body", "cookies", "queryStringParameters"] {
        assert!(event.get(name).is_none(), "{name}");
    }
    assert!(event["requestContext"].get("authorizer").is_none());
}

#[tokio::test]
async fn answers_follow_format_2() {
    let gateway = Gateway::new();
    let full = r#"{"statusCode":201,"headers":{"content-type":"a/b","x-n":1},"cookies":["a=1","b=2"],
        "body":"aGk=","isBase64Encoded":true}"#;
    gateway.answers(Ok(full));
    let answer = gateway.call("GET", "/polls/1", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str(), answer.header("x-n")), (201, "hi", Some("1")));
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    gateway.answers(Ok("{\"poll\":1}"));
    let inferred = gateway.call("GET", "/polls/1", &[], "").await;
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
        gateway.answers(answer);
        let answer = gateway.call("GET", "/polls/1", &[], "").await;
        assert_eq!((answer.status, answer.body), (status, format!("{{\"message\":\"{message}\"}}")));
    }
}

#[tokio::test(start_paused = true)]
async fn an_integration_has_thirty_seconds() {
    let gateway = Gateway::new();
    let start = tokio::time::Instant::now();
    let answer = gateway.call("GET", "/polls/1", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "{\"message\":\"Service Unavailable\"}"));
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_route_over_its_limit_is_throttled_alone() {
    let gateway = Gateway::new();
    gateway.answers(Ok("{}"));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(gateway.call("GET", "/limited", &[], "").await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(gateway.call("GET", "/polls/1", &[], "").await.status, 200);
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let gateway = Gateway::new();
    gateway.answers(Ok("{}"));
    let token = gateway.issuer.token("crew", Some("admin")).unwrap();
    let fitting = "x".repeat(PAYLOAD_BYTES_MAX);
    assert_eq!(gateway.call_as(&token, "POST", "/admin/polls", &fitting).await.status, 200);
    let answer = gateway.call_as(&token, "POST", "/admin/polls", &(fitting + "x")).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "{\"message\":\"Request Entity Too Large\"}"));
    let filler = "x".repeat(HEAD_BYTES_MAX - 100);
    assert_eq!(gateway.call("GET", "/polls/1", &[("x-a", &filler)], "").await.status, 200);
    let answer = gateway.call("GET", "/polls/1", &[("x-a", &filler), ("x-b", &"y".repeat(100))], "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (431, "{\"message\":\"Request Header Fields Too Large\"}")
    );
}

#[tokio::test]
async fn preflights_need_neither_route_nor_token() {
    let gateway = Gateway::new();
    let preflight = [("origin", "https://vote.example"), ("access-control-request-method", "GET")];
    let answer = gateway.call("OPTIONS", "/anything", &preflight, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://vote.example"));
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    gateway.answers(Ok(r#"{"statusCode":200,"headers":{"access-control-allow-origin":"*"}}"#));
    let other = gateway.call("GET", "/polls/1", &[("origin", "https://evil.example")], "").await;
    assert_eq!(
        other.header("access-control-allow-origin"),
        None,
        "the API's configuration replaces the function's"
    );
}

fn refusal_of(change: fn(&mut Value)) -> String {
    let mut api = api_resource();
    change(&mut api.properties);
    let definition = definition::read(&api, [&polls_function(), &admin_function()]);
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::open(&folder.path().join("key"), ISSUER, "votes").unwrap();
    let error = match definition {
        Ok(definition) => HttpApi::new(definition, &issuer, Arc::new(Fake::default())).unwrap_err(),
        Err(error) => error,
    };
    format!("{error:#}")
}

#[test]
fn mistakes_in_the_template_are_named() {
    fn limit() -> Value {
        json!({"ThrottlingRateLimit": 1, "ThrottlingBurstLimit": 1})
    }
    fn post_votes(properties: &mut Value) -> &mut Value {
        &mut properties["DefinitionBody"]["paths"]["/votes"]["post"]["x-amazon-apigateway-integration"]
    }
    type Mistake = (fn(&mut Value), &'static str);
    let mistakes: [Mistake; 8] = [
        (|p| p["RouteSettings"] = json!({"GET /nowhere": limit()}), "is no route"),
        (|p| p["RouteSettings"]["GET /limited"] = json!({"ThrottlingRateLimit": 1}), "ThrottlingBurstLimit"),
        (|p| p["Auth"]["Authorizers"]["Jwt"]["JwtConfiguration"]["issuer"] = json!("https://x"), "JwtIssuer"),
        (|p| p["Auth"]["DefaultAuthorizer"] = json!("Other"), "\"Other\""),
        (|p| post_votes(p)["integrationSubtype"] = json!("Kinesis-PutRecord"), "Kinesis-PutRecord"),
        (|p| post_votes(p)["requestParameters"] = json!({"MessageBody": "x"}), "QueueUrl"),
        (|p| post_votes(p)["requestParameters"]["MessageBody"] = json!("$request.cookie.a"), "MessageBody"),
        (|p| post_votes(p)["responseParameters"]["200"] = json!({"overwrite:body": "x"}), "overwrite:body"),
    ];
    for (change, expected) in mistakes {
        let error = refusal_of(change);
        assert!(error.contains(expected), "{error}");
    }
}
