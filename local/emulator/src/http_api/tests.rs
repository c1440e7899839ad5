//! Tests of the whole API with a backend backend.
mod authorizer;
mod lambda_proxy;
mod send_message;

use std::sync::Mutex;

use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::template::Resource;

const ISSUER: &str = "http://localhost:8080/_local";

/// A backend backend that records requests and returns configured responses.
#[derive(Default)]
struct FakeBackend {
    sent: Mutex<Vec<(String, NewMessage)>>,
    events: Mutex<Vec<(String, Value)>>,
    answer: Mutex<Option<Result<Bytes, InvokeError>>>,
}

impl Backend for FakeBackend {
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
                        "MessageGroupId": "$context.authorizer.claims.sub",
                        "MessageAttributes": "{\"requestId\":{\"DataType\":\"String\",\
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
                "/interpolated": {"post": {"x-amazon-apigateway-integration": {
                    "type": "aws_proxy",
                    "integrationSubtype": "SQS-SendMessage",
                    "requestParameters": {
                        "QueueUrl": "http://localhost:4566/000000000000/votes",
                        "MessageBody": "$request.body",
                        "MessageAttributes": "{\"voter\":{\"DataType\":\"String\",\"StringValue\":\
                            \"${context.authorizer.claims.sub}\"}}",
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

struct Fixture {
    api: HttpApi,
    issuer: Issuer,
    backend: Arc<FakeBackend>,
    _folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(&folder.path().join("key"), ISSUER, "votes").unwrap();
        let definition = definition::read(&api_resource(), [&polls_function(), &admin_function()]).unwrap();
        let backend = Arc::new(FakeBackend::default());
        let api = HttpApi::new(definition, &issuer, Arc::clone(&backend) as Arc<dyn Backend>).unwrap();
        Self { api, issuer, backend, _folder: folder }
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
        *self.backend.answer.lock().unwrap() = Some(answer.map(|text| Bytes::from(text.to_owned())));
    }

    fn last_event(&self) -> (String, Value) {
        self.backend.events.lock().unwrap().last().unwrap().clone()
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
    clock::now_ms() / 1_000
}

#[tokio::test]
async fn unknown_routes_and_methods_are_not_found() {
    let fixture = Fixture::new();
    for (method, uri) in [("GET", "/votes"), ("GET", "/"), ("GET", "/other"), ("POST", "/polls/1")] {
        let answer = fixture.call(method, uri, &[], "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (404, "{\"message\":\"Not Found\"}"),
            "{method} {uri}"
        );
    }
}

#[tokio::test]
async fn a_route_over_its_limit_is_throttled_alone() {
    let fixture = Fixture::new();
    fixture.answers(Ok("{}"));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(fixture.call("GET", "/limited", &[], "").await.status);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(fixture.call("GET", "/polls/1", &[], "").await.status, 200);
}

#[tokio::test]
async fn oversized_requests_are_refused() {
    let fixture = Fixture::new();
    fixture.answers(Ok("{}"));
    let token = fixture.issuer.token("crew", Some("admin")).unwrap();
    let fitting = "x".repeat(PAYLOAD_BYTES_MAX);
    assert_eq!(fixture.call_as(&token, "POST", "/admin/polls", &fitting).await.status, 200);
    let answer = fixture.call_as(&token, "POST", "/admin/polls", &(fitting + "x")).await;
    assert_eq!((answer.status, answer.body.as_str()), (413, "{\"message\":\"Request Entity Too Large\"}"));
    let filler = "x".repeat(HEAD_BYTES_MAX - 100);
    assert_eq!(fixture.call("GET", "/polls/1", &[("x-a", &filler)], "").await.status, 200);
    let answer = fixture.call("GET", "/polls/1", &[("x-a", &filler), ("x-b", &"y".repeat(100))], "").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (431, "{\"message\":\"Request Header Fields Too Large\"}")
    );
}

#[tokio::test]
async fn preflights_need_neither_route_nor_token() {
    let fixture = Fixture::new();
    let preflight = [("origin", "https://vote.example"), ("access-control-request-method", "GET")];
    let answer = fixture.call("OPTIONS", "/anything", &preflight, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://vote.example"));
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    fixture.answers(Ok(r#"{"statusCode":200,"headers":{"access-control-allow-origin":"*"}}"#));
    let other = fixture.call("GET", "/polls/1", &[("origin", "https://evil.example")], "").await;
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
        Ok(definition) => HttpApi::new(definition, &issuer, Arc::new(FakeBackend::default())).unwrap_err(),
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
        (|p| p["RouteSettings"] = json!({"GET /nowhere": limit()}), "is not a route"),
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
