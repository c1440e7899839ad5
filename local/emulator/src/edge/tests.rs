//! Tests of the edge with a fake origin and a paused clock.
mod invalidation;

use std::{
    sync::{Mutex, atomic::AtomicBool},
    time::Duration,
};

use axum::body::to_bytes;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use super::*;
use crate::template::Resource;

/// The latency of the fake origin.
const LATENCY: Duration = Duration::from_millis(100);
/// The latency of a fake origin that hangs.
const FOR_EVER: Duration = Duration::from_secs(86_400);

type Answer = (u16, Vec<(&'static str, &'static str)>, &'static str);

#[derive(Default)]
struct FakeOrigin {
    seen: Mutex<Vec<Request<()>>>,
    answer: Mutex<Answer>,
    hangs: AtomicBool,
}

impl Origin for Arc<FakeOrigin> {
    fn fetch(&self, request: Request<Body>) -> BoxFuture<'static, (Response<Bytes>, String)> {
        let route = format!("{} {}", request.method(), request.uri().path());
        self.seen.lock().unwrap().push(request.map(drop));
        let (status, headers, body) = self.answer.lock().unwrap().clone();
        let latency = if self.hangs.load(Ordering::Relaxed) { FOR_EVER } else { LATENCY };
        Box::pin(async move {
            sleep(latency).await;
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().append(name, HeaderValue::from_static(value));
            }
            (response, route)
        })
    }
}

struct Fixture {
    edge: Arc<Edge>,
    origin: Arc<FakeOrigin>,
}

fn resource(id: &str, kind: &str, properties: Value) -> Resource {
    Resource { id: id.to_owned(), kind: kind.to_owned(), properties, metadata: Value::Null }
}

fn distribution(extra: &Value) -> Distribution {
    let policy = resource(
        "ReadCachePolicy",
        "AWS::CloudFront::CachePolicy",
        json!({"CachePolicyConfig": {"MinTTL": 0, "DefaultTTL": 3, "MaxTTL": "60",
            "ParametersInCacheKeyAndForwardedToOrigin": {
                "HeadersConfig": {"HeaderBehavior": "whitelist", "Headers": ["X-Show"]},
                "QueryStringsConfig": {"QueryStringBehavior": "whitelist", "QueryStrings": ["page"]},
                "CookiesConfig": {"CookieBehavior": "none"},
                "EnableAcceptEncodingGzip": true}}}),
    );
    let headers = resource(
        "Headers",
        "AWS::CloudFront::ResponseHeadersPolicy",
        json!({"ResponseHeadersPolicyConfig": {
            "SecurityHeadersConfig": {"ContentTypeOptions": {"Override": true}},
            "RemoveHeadersConfig": {"Items": [{"Header": "x-secret"}]},
            "CorsConfig": {"AccessControlAllowOrigins": {"Items": ["https://vote.example"]},
                "AccessControlAllowMethods": {"Items": ["GET"]}, "OriginOverride": true}}}),
    );
    let mut config = json!({
        "Origins": [{"Id": "api", "DomainName": "api.test", "OriginCustomHeaders": [
            {"HeaderName": "x-from-edge", "HeaderValue": "yes"}]}],
        "CacheBehaviors": [
            {"PathPattern": "/polls/*/votes/mine", "TargetOriginId": "api",
             "CachePolicyId": "4135ea2d-6df8-44a3-9df3-4b5a84be39ad",
             "OriginRequestPolicyId": "b689b0a8-53d0-40ab-baf2-68738e2966ac"},
            {"PathPattern": "/polls*", "TargetOriginId": "api", "CachePolicyId": "ReadCachePolicy",
             "ResponseHeadersPolicyId": "Headers"},
            {"PathPattern": "/cookies", "TargetOriginId": "api", "CachePolicyId": "ReadCachePolicy",
             "OriginRequestPolicyId": "b689b0a8-53d0-40ab-baf2-68738e2966ac"},
        ],
        "DefaultCacheBehavior": {"TargetOriginId": "api",
            "AllowedMethods": ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"],
            "CachePolicyId": "4135ea2d-6df8-44a3-9df3-4b5a84be39ad",
            "OriginRequestPolicyId": "b689b0a8-53d0-40ab-baf2-68738e2966ac"},
    });
    for (name, value) in extra.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    let resource =
        resource("Distribution", "AWS::CloudFront::Distribution", json!({"DistributionConfig": config}));
    let all = [policy, headers];
    Distribution::read(&resource, &|id| all.iter().find(|resource| resource.id == id)).unwrap()
}

impl Fixture {
    fn new(headers: &[(&'static str, &'static str)]) -> Self {
        Self::with(&Value::Null, headers)
    }

    fn with(extra: &Value, headers: &[(&'static str, &'static str)]) -> Self {
        let origin = Arc::new(FakeOrigin::default());
        let connect = Arc::clone(&origin);
        let edge =
            Edge::new(distribution(extra), |_| Some(Arc::new(Arc::clone(&connect)) as Arc<dyn Origin>))
                .unwrap();
        let fixture = Self { edge, origin };
        fixture.answers(200, headers, "first");
        fixture
    }

    fn answers(&self, status: u16, headers: &[(&'static str, &'static str)], body: &'static str) {
        *self.origin.answer.lock().unwrap() = (status, headers.to_vec(), body);
    }

    async fn ask(&self, method: &str, uri: &str, headers: &[(&str, &str)]) -> ViewerResponse {
        let mut request = Request::builder().method(method).uri(uri).header("host", "localhost:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.edge.handle(request.body(Body::empty()).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        ViewerResponse { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn get(&self, uri: &str) -> ViewerResponse {
        self.ask("GET", uri, &[]).await
    }

    fn origin_requests(&self) -> usize {
        self.origin.seen.lock().unwrap().len()
    }

    fn last(&self) -> Request<()> {
        self.origin.seen.lock().unwrap().last().unwrap().clone()
    }
}

#[derive(Debug)]
struct ViewerResponse {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl ViewerResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    fn x_cache(&self) -> &str {
        self.header("x-cache").unwrap().split(' ').next().unwrap()
    }
}

const PUBLIC: (&str, &str) = ("cache-control", "public, max-age=1, s-maxage=3");
const STALE: (&str, &str) =
    ("cache-control", "public, max-age=1, s-maxage=3, stale-while-revalidate=30, stale-if-error=50");

#[tokio::test(start_paused = true)]
async fn an_object_is_served_from_the_edge_until_it_expires() {
    let fixture = Fixture::new(&[PUBLIC]);
    let first = fixture.get("/polls").await;
    assert_eq!((first.x_cache(), first.header("age"), first.body.as_str()), ("Miss", None, "first"));
    assert!(first.header("via").unwrap().contains("CloudFront"));
    advance(Duration::from_secs(2)).await;
    let second = fixture.get("/polls").await;
    assert_eq!((second.x_cache(), second.header("age"), second.body.as_str()), ("Hit", Some("2"), "first"));
    fixture.answers(200, &[PUBLIC], "second");
    advance(Duration::from_millis(1_100)).await;
    let third = fixture.get("/polls").await;
    assert_eq!((third.x_cache(), third.body.as_str()), ("Miss", "second"));
    assert_eq!(fixture.origin_requests(), 2);
    let counts = fixture.edge.counts();
    assert_eq!((counts.hit, counts.miss), (1, 2));
    assert_eq!(counts.origin, BTreeMap::from([("GET /polls".to_owned(), 2)]));
}

#[tokio::test(start_paused = true)]
async fn simultaneous_misses_are_one_request() {
    let fixture = Fixture::new(&[PUBLIC]);
    let viewers = (0..50).map(|_| fixture.get("/polls"));
    let answers = futures_util::future::join_all(viewers).await;
    assert!(answers.iter().all(|answer| answer.body == "first"));
    assert_eq!(fixture.origin_requests(), 1);
    let counts = fixture.edge.counts();
    assert_eq!((counts.miss, counts.collapsed), (1, 49));
}

#[tokio::test(start_paused = true)]
async fn private_objects_are_neither_kept_nor_shared() {
    let fixture = Fixture::new(&[("cache-control", "private, no-store")]);
    let viewers = (0..3).map(|_| fixture.get("/polls"));
    futures_util::future::join_all(viewers).await;
    assert_eq!(fixture.origin_requests(), 3);
    assert_eq!(fixture.get("/polls").await.x_cache(), "Miss");
    assert_eq!(fixture.edge.counts().collapsed, 0);
}

#[tokio::test(start_paused = true)]
async fn forwarded_cookies_switch_collapsing_off() {
    let fixture = Fixture::new(&[PUBLIC]);
    let viewers = (0..3).map(|_| fixture.get("/cookies"));
    futures_util::future::join_all(viewers).await;
    assert_eq!(fixture.origin_requests(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_disconnects_cancels_no_other_request() {
    let fixture = Fixture::new(&[PUBLIC]);
    let leaving = tokio::time::timeout(LATENCY / 2, fixture.get("/polls")).await;
    assert!(leaving.is_err());
    assert_eq!(fixture.get("/polls").await.body, "first");
    assert_eq!(fixture.origin_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stale_object_is_served_while_one_request_revalidates() {
    let fixture = Fixture::new(&[STALE]);
    fixture.get("/polls").await;
    fixture.answers(200, &[STALE], "second");
    advance(Duration::from_secs(10)).await;
    for _ in 0..5 {
        let stale = fixture.get("/polls").await;
        assert_eq!((stale.body.as_str(), stale.header("age")), ("first", Some("10")));
    }
    sleep(LATENCY * 2).await;
    assert_eq!(fixture.origin_requests(), 2);
    assert_eq!(fixture.get("/polls").await.body, "second");
    assert_eq!(fixture.edge.counts().stale, 5);
}

#[tokio::test(start_paused = true)]
async fn past_the_stale_window_viewers_wait() {
    let fixture = Fixture::new(&[STALE]);
    fixture.get("/polls").await;
    fixture.answers(200, &[STALE], "second");
    advance(Duration::from_secs(34)).await;
    assert_eq!(fixture.get("/polls").await.body, "second");
}

#[tokio::test(start_paused = true)]
async fn an_expired_object_is_revalidated() {
    let fixture = Fixture::new(&[PUBLIC, ("etag", "\"1\""), ("x-round", "1")]);
    fixture.get("/polls").await;
    fixture.answers(304, &[PUBLIC, ("etag", "\"1\""), ("x-round", "2")], "");
    advance(Duration::from_secs(4)).await;
    let confirmed = fixture.get("/polls").await;
    assert_eq!(
        (confirmed.status, confirmed.body.as_str(), confirmed.x_cache()),
        (200, "first", "RefreshHit")
    );
    assert_eq!(confirmed.header("x-round"), Some("2"));
    assert_eq!(fixture.last().headers()["if-none-match"], "\"1\"");
    assert_eq!(fixture.get("/polls").await.x_cache(), "Hit");
}

#[tokio::test(start_paused = true)]
async fn viewers_who_have_the_object_get_304() {
    let fixture = Fixture::new(&[PUBLIC, ("etag", "W/\"1\"")]);
    for tag in ["\"1\"", "\"0\", W/\"1\"", "*"] {
        let known = fixture.ask("GET", "/polls", &[("if-none-match", tag)]).await;
        assert_eq!((known.status, known.body.as_str()), (304, ""), "{tag}");
        assert_eq!(known.header("etag"), Some("W/\"1\""));
    }
    let other = fixture.ask("GET", "/polls", &[("if-none-match", "\"2\"")]).await;
    assert_eq!((other.status, other.body.as_str()), (200, "first"));
    assert!(!fixture.last().headers().contains_key("if-none-match"), "a 304 must not become the object");
}

#[tokio::test(start_paused = true)]
async fn errors_are_kept_for_ten_seconds() {
    let fixture = Fixture::new(&[]);
    fixture.answers(404, &[], "none");
    let first = fixture.get("/polls/9").await;
    assert_eq!((first.status, first.x_cache()), (404, "Error"));
    fixture.answers(200, &[PUBLIC], "there");
    advance(Duration::from_millis(9_800)).await;
    assert_eq!(fixture.get("/polls/9").await.status, 404);
    advance(Duration::from_millis(400)).await;
    assert_eq!(fixture.get("/polls/9").await.body, "there");
}

#[tokio::test(start_paused = true)]
async fn a_failing_origin_is_hidden_by_what_the_edge_has() {
    let fixture = Fixture::new(&[STALE]);
    fixture.get("/polls").await;
    fixture.answers(503, &[], "down");
    advance(Duration::from_secs(40)).await;
    let stale = fixture.get("/polls").await;
    assert_eq!((stale.status, stale.body.as_str()), (200, "first"));
    assert_eq!(fixture.get("/polls").await.body, "first");
    assert_eq!(fixture.origin_requests(), 2, "no origin request during the error's TTL");
    advance(Duration::from_secs(15)).await;
    assert_eq!(fixture.get("/polls").await.status, 503, "stale-if-error is over");
}

#[tokio::test(start_paused = true)]
async fn an_origin_that_hangs_is_given_up_in_seconds_and_outlived() {
    let origins = json!({"Origins": [{"Id": "api", "DomainName": "api.test", "ConnectionAttempts": 2,
        "CustomOriginConfig": {"OriginReadTimeout": 3}}]});
    let fixture = Fixture::with(&origins, &[STALE]);
    fixture.get("/polls").await;
    fixture.origin.hangs.store(true, Ordering::Relaxed);
    advance(Duration::from_secs(40)).await;
    let asked = Instant::now();
    let stale = fixture.get("/polls").await;
    assert_eq!((stale.status, stale.body.as_str()), (200, "first"));
    assert_eq!((asked.elapsed().as_secs(), fixture.origin_requests()), (6, 3), "two attempts of 3 s");
    let asked = Instant::now();
    assert_eq!(fixture.get("/polls/9").await.status, 504);
    assert_eq!(fixture.ask("POST", "/votes", &[]).await.status, 504);
    assert_eq!((asked.elapsed().as_secs(), fixture.origin_requests()), (9, 6), "a write is tried once");
}

#[tokio::test(start_paused = true)]
async fn error_rules_replace_status_page_and_time() {
    let rules = json!({"CustomErrorResponses": [
        {"ErrorCode": 404, "ResponseCode": 200, "ResponsePagePath": "/index.html"},
        {"ErrorCode": 500, "ErrorCachingMinTTL": 0},
    ]});
    let fixture = Fixture::with(&rules, &[]);
    fixture.answers(500, &[], "down");
    assert_eq!(fixture.get("/polls").await.status, 500);
    assert_eq!(fixture.get("/polls").await.status, 500);
    assert_eq!(fixture.origin_requests(), 2);
    // The fake origin has no page either: the origin's own error stays.
    fixture.answers(404, &[], "none");
    assert_eq!((fixture.get("/x").await.status, fixture.last().uri().path()), (404, "/index.html"));
}

#[tokio::test(start_paused = true)]
async fn other_methods_pass_through_or_are_refused() {
    let fixture = Fixture::new(&[PUBLIC]);
    for _ in 0..2 {
        assert_eq!(
            fixture.ask("POST", "/votes", &[("authorization", "Bearer t"), ("cookie", "a=1")]).await.status,
            200
        );
    }
    assert_eq!(fixture.origin_requests(), 2);
    let seen = fixture.last();
    assert_eq!(seen.headers()["authorization"], "Bearer t");
    assert_eq!(seen.headers()["cookie"], "a=1");
    assert_eq!(seen.headers()["host"], "api.test");
    assert_eq!(seen.headers()["x-from-edge"], "yes");
    let refused = fixture.ask("POST", "/polls", &[]).await;
    assert_eq!((refused.status, refused.x_cache()), (403, "Error"));
    assert_eq!(fixture.origin_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_the_key_is_forwarded_and_tells_objects_apart() {
    let fixture = Fixture::new(&[PUBLIC]);
    let viewer = [("authorization", "Bearer t"), ("cookie", "a=1"), ("x-show", "1"), ("x-other", "1")];
    fixture.ask("GET", "/polls?page=1&utm=x", &viewer).await;
    let seen = fixture.last();
    assert_eq!(seen.uri(), "/polls?page=1");
    assert_eq!(seen.headers()["x-show"], "1");
    for name in ["authorization", "cookie", "x-other"] {
        assert!(!seen.headers().contains_key(name), "{name}");
    }
    for (uri, show_header, expected) in [
        ("/polls?utm=y&page=1", "1", "Hit"),
        ("/polls?page=2", "1", "Miss"),
        ("/polls?page=1", "2", "Miss"),
        ("/polls/1?page=1", "1", "Miss"),
    ] {
        let answer = fixture.ask("GET", uri, &[("x-show", show_header)]).await;
        assert_eq!(answer.x_cache(), expected, "{uri} {show_header}");
    }
    let encoded = [("x-show", "1"), ("accept-encoding", "br, gzip;q=0.8")];
    assert_eq!(fixture.ask("GET", "/polls?page=1", &encoded).await.x_cache(), "Miss");
    assert_eq!(fixture.last().headers()["accept-encoding"], "gzip");
}

#[tokio::test(start_paused = true)]
async fn the_first_matching_behavior_rules() {
    let fixture = Fixture::new(&[PUBLIC]);
    for _ in 0..2 {
        let mine = fixture.ask("GET", "/polls/1/votes/mine", &[("authorization", "Bearer t")]).await;
        assert_eq!(mine.x_cache(), "Miss");
    }
    assert_eq!(fixture.last().headers()["authorization"], "Bearer t");
}

#[tokio::test(start_paused = true)]
async fn viewers_get_the_headers_of_the_policy() {
    let fixture = Fixture::new(&[PUBLIC, ("x-secret", "1"), ("connection", "keep-alive")]);
    for _ in 0..2 {
        let answer = fixture.ask("GET", "/polls", &[("origin", "https://vote.example")]).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://vote.example"));
        assert_eq!((answer.header("x-secret"), answer.header("connection")), (None, None));
    }
    let other = fixture.ask("GET", "/polls", &[("origin", "https://evil.example")]).await;
    assert_eq!(other.header("access-control-allow-origin"), None);
    assert_eq!(fixture.get("/polls").await.header("access-control-allow-methods"), None);
}
