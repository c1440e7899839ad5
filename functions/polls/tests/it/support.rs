//! Fixtures: polls with votes, and requests.

use std::time::Duration;

use domain::{Message, Poll, PollId, Timestamp, VoteRequest, VoterHasher, judge};
use lambda_http::{Body, Request, Response, request};
use ledger::{Batch, Ledger};
use local_stores::scratch::Scratch;
use polls::Handler;
use ranking::RankingStore;
use runtime::Clock;
use serde_json::{Value, json};

pub struct Fixture {
    pub ledger: Ledger,
    pub ranking: RankingStore,
    pub handler: Handler,
    pub hasher: VoterHasher,
}

pub fn fixture(scratch: &Scratch) -> Fixture {
    let limit = Duration::from_secs(20);
    let ledger = Ledger::new(&scratch.database_url, limit).unwrap();
    Fixture {
        ranking: RankingStore::new(&scratch.redis_url, ledger.address(), limit, 600).unwrap(),
        ledger,
        handler: Handler::new(&|name| scratch.environment(name), Clock::system()).unwrap(),
        hasher: scratch.environment("VOTER_HASH_KEY").unwrap().parse().unwrap(),
    }
}

/// A request as the HTTP API passes it on, payload format 2.0.
pub fn request(route: &str, id: &str, headers: &Value, sub: Option<&str>) -> Request {
    request_with_query(route, id, "", headers, sub)
}

pub fn request_with_query(route: &str, id: &str, query: &str, headers: &Value, sub: Option<&str>) -> Request {
    let (method, path) = route.split_once(' ').unwrap();
    let path = path.replace("{id}", id);
    let mut event = json!({
        "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": query, "headers": headers,
        "pathParameters": {"id": id}, "isBase64Encoded": false,
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "api.example", "domainPrefix": "api",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"},
            "requestId": "r", "routeKey": route, "stage": "$default", "time": "21/Nov/2026:20:30:00 +0000", "timeEpoch": 0,
        },
    });
    if let Some(sub) = sub {
        event["requestContext"]["authorizer"] = json!({"jwt": {"claims": {"sub": sub}, "scopes": null}});
    }
    request::from_str(&event.to_string()).unwrap()
}

impl Fixture {
    pub async fn get(&self, route: &str, id: PollId) -> Response<Body> {
        self.handler.handle(request(route, &id.0.to_string(), &json!({}), None)).await.unwrap()
    }

    pub async fn mine(&self, id: PollId, sub: Option<&str>) -> Response<Body> {
        self.ask(&id.0.to_string(), sub, "").await
    }

    /// Requests `votes/mine` with this query.
    pub async fn ask(&self, poll: &str, sub: Option<&str>, query: &str) -> Response<Body> {
        let route = "GET /polls/{id}/votes/mine";
        self.handler.handle(request_with_query(route, poll, query, &json!({}), sub)).await.unwrap()
    }

    pub async fn poll(&self, changes: Value) -> Poll {
        let mut draft = json!({"title": "Who stays?", "opensAt": at_ms(-60_000), "draft": false,
            "contestants": [{"name": "Ana"}, {"name": "Bia"}, {"name": "Caio"}]});
        draft.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap().poll
    }

    pub async fn vote(&self, poll: &Poll, sub: &str, contestant: i16, ballot: Option<i16>) {
        self.cast(poll, sub, &json!({"poll": poll.id.0, "contestant": contestant, "ballot": ballot})).await;
    }

    /// Casts a vote, counts or rejects it at once, and returns its message.
    pub async fn cast(&self, poll: &Poll, sub: &str, body: &Value) -> Message {
        let message = Message {
            id: uuid::Uuid::new_v4(),
            sent_at: Clock::system().now(),
            voter: Some(self.hasher.voter(sub)),
            request: VoteRequest::parse(&body.to_string()),
        };
        let mut batch = Batch::default();
        batch.judged_by(poll.id, poll.version);
        for outcome in judge(&message, Some(poll), &self.hasher) {
            batch.add(&message, outcome);
        }
        self.ledger.count(&batch).await.unwrap();
        message
    }
}

/// The moment `offset` milliseconds from now.
pub fn at_ms(offset: i64) -> Timestamp {
    Timestamp::from_millis(Clock::system().now().millis() + offset).unwrap()
}

pub fn json_of(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

pub fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}
