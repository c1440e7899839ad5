//! The crew's routes through the handler, against real stores.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

#[path = "polls/lifecycle.rs"]
mod lifecycle;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    thread,
    time::Duration,
};

use admin::Handler;
use domain::{PollId, Tally};
use lambda_http::{Body, Response, request};
use ledger::Ledger;
use local_stores::scratch::Scratch;
use ranking::{Backlog, RankingStore};
use runtime::Clock;
use serde_json::{Value, json};

struct Fixture {
    scratch: Scratch,
    handler: Handler,
}

impl Fixture {
    async fn new() -> Self {
        Self::on(Scratch::new().await.unwrap())
    }

    fn on(scratch: Scratch) -> Self {
        let handler = Handler::new(&|name| scratch.environment(name), Clock::system()).unwrap();
        Self { scratch, handler }
    }

    /// A fixture with a fake SQS, and the messages sent to it.
    async fn with_queue() -> (Self, mpsc::Receiver<Value>) {
        let scratch = Scratch::new().await.unwrap();
        let (endpoint, messages) = queue();
        let lookup = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
            _ => scratch.environment(name),
        };
        let handler = Handler::new(&lookup, Clock::system()).unwrap();
        (Self { scratch, handler }, messages)
    }

    async fn call(&self, route: &str, id: i64, body: &str) -> (u16, Value) {
        let response = self.respond(route, id, body, "").await;
        let json = if response.body().is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(response.body()).unwrap()
        };
        (response.status().as_u16(), json)
    }

    async fn respond(&self, route: &str, id: i64, body: &str, query: &str) -> Response<Body> {
        self.respond_to(route, id, body, query, &json!({}), &json!({"sub": "crew"})).await
    }

    /// Sends a request with these headers and claims.
    async fn respond_to(
        &self,
        route: &str,
        id: i64,
        body: &str,
        query: &str,
        headers: &Value,
        claims: &Value,
    ) -> Response<Body> {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace("{id}", &id.to_string());
        let event = json!({
            "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": query, "headers": headers,
            "queryStringParameters": query.split_once('=').map(|(name, value)| json!({name: value})),
            "pathParameters": {"id": id.to_string()}, "body": body, "isBase64Encoded": false,
            "requestContext": {
                "authorizer": {"jwt": {"claims": claims, "scopes": ["admin"]}},
                "accountId": "000000000000", "apiId": "api", "domainName": "api.example", "domainPrefix": "api",
                "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "test"},
                "requestId": "r", "routeKey": route, "stage": "$default", "time": "21/Nov/2026:20:30:00 +0000", "timeEpoch": 0,
            },
        });
        let response = self.handler.handle(request::from_str(&event.to_string()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["cache-control"], "private, no-store");
        response
    }

    async fn created(&self, changes: Value) -> i64 {
        let (status, poll) = self.call("POST /admin/polls", 0, &draft(changes)).await;
        assert_eq!(status, 201, "{poll}");
        poll["id"].as_i64().unwrap()
    }

    /// Inserts votes into ledger and tally directly, without a batch.
    async fn voted(&self, id: i64, votes: i64) {
        let mut connection = self.scratch.connect().await.unwrap();
        let sql = "INSERT INTO votes (key, voter, cast_at, poll, contestant) \
                   SELECT gen_random_uuid(), 1, now(), $1, 1 FROM generate_series(1, $2)";
        sqlx::query(sql).bind(id as i32).bind(votes).execute(&mut connection).await.unwrap();
        let sql =
            "UPDATE tallies SET votes = votes + $2, casts = casts + $2 WHERE poll = $1 AND contestant = 1";
        sqlx::query(sql).bind(id as i32).bind(votes).execute(&mut connection).await.unwrap();
    }

    fn ranking(&self) -> RankingStore {
        let ledger = Ledger::new(&self.scratch.database_url, Duration::from_secs(20)).unwrap().address();
        RankingStore::new(&self.scratch.redis_url, ledger, Duration::from_secs(5), 600).unwrap()
    }

    async fn ranked(&self, id: i64) -> Option<Tally> {
        let ledger = Ledger::new(&self.scratch.database_url, Duration::from_secs(20)).unwrap();
        let poll = ledger.polls(&[PollId(id as i32)]).await.unwrap().pop().unwrap().poll;
        self.ranking().tally(&poll).await.unwrap()
    }
}

/// Starts a fake SQS that accepts every message, one per connection, and passes it on before it answers.
fn queue() -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (sender, messages) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            // The empty line before the body is two bytes.
            while reader.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut call = vec![0; length];
            reader.read_exact(&mut call).unwrap();
            let call: Value = serde_json::from_slice(&call).unwrap();
            let message = serde_json::from_str(call["MessageBody"].as_str().unwrap()).unwrap();
            if sender.send(message).is_err() {
                return;
            }
            let answer = r#"{"MessageId":"1"}"#;
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all((head + answer).as_bytes()).unwrap();
        }
    });
    (endpoint, messages)
}

#[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
fn draft(changes: Value) -> String {
    let mut draft =
        json!({"title": "Who stays?", "results": "live", "contestants": [{"name": "Ana"}, {"name": "Bia"}]});
    draft.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    draft.to_string()
}

#[tokio::test]
async fn a_poll_lives_from_draft_to_deletion() {
    let fixture = Fixture::new().await;
    let response = fixture.respond("POST /admin/polls", 0, &draft(json!({})), "").await;
    assert_eq!(response.status(), 201);
    let poll: Value = serde_json::from_slice(response.body()).unwrap();
    let id = poll["id"].as_i64().unwrap();
    assert_eq!(response.headers()["location"], format!("/admin/polls/{id}"));
    assert_eq!(poll["status"], "scheduled");
    assert_eq!(fixture.call("POST /admin/polls/{id}/close", id, "").await.1["error"]["code"], "pollNotOpen");
    assert_eq!(fixture.call("POST /admin/polls/{id}/open", id, "").await.1["status"], "open");
    assert_eq!(fixture.call("POST /admin/polls/{id}/close", id, "").await.1["status"], "closed");
    assert_eq!(fixture.call("GET /admin/polls/{id}", id, "").await.1["status"], "closed");
    let (status, patched) = fixture.call("PATCH /admin/polls/{id}", id, r#"{"title":"Who goes?"}"#).await;
    assert_eq!((status, &patched["title"]), (200, &json!("Who goes?")));
    let (status, kept) = fixture.call("DELETE /admin/polls/{id}", id, "").await;
    assert_eq!((status, &kept["error"]["code"]), (409, &json!("pollOpened")), "votes may be on their way");
    let id = fixture.created(json!({})).await;
    assert_eq!(fixture.call("DELETE /admin/polls/{id}", id, "").await, (204, Value::Null));
    for route in ["GET /admin/polls/{id}", "DELETE /admin/polls/{id}", "GET /admin/polls/{id}/audit"] {
        assert_eq!(fixture.call(route, id, "").await.0, 404, "{route}");
    }
    for route in [
        "POST /admin/polls/{id}/open",
        "POST /admin/polls/{id}/close",
        "POST /admin/polls/{id}/archive",
        "POST /admin/polls/{id}/rebuild",
    ] {
        assert_eq!(fixture.call(route, id, "").await.0, 404, "{route}");
    }
}

#[tokio::test]
async fn a_change_is_in_redis_when_it_is_answered() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({"opensAt": "2020-01-01T00:00:00Z"})).await;
    fixture.call("POST /admin/polls/{id}/close", id, "").await;
    let cached = fixture.ranking().polls(&[PollId(id as i32)]).await.unwrap().pop().flatten().unwrap();
    let cached = cached.value.unwrap();
    assert!(cached.closes_at.is_some());
    let listed = fixture.ranking().current_polls().await.unwrap().unwrap().value;
    assert_eq!(listed, [cached]);
}

#[tokio::test]
async fn a_change_is_made_while_redis_is_away() {
    let scratch = Scratch::new().await.unwrap();
    let away = |name: &str| match name {
        "REDIS_URL" => Some("redis://127.0.0.1:1".to_owned()),
        _ => scratch.environment(name),
    };
    let handler = Handler::new(&away, Clock::system()).unwrap();
    let fixture = Fixture { scratch: scratch.clone(), handler };
    let id = fixture.created(json!({})).await;
    assert_eq!(fixture.call("POST /admin/polls/{id}/open", id, "").await.1["status"], "open");
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let fixture = Fixture::new().await;
    for (changes, field) in [
        (json!({"title": ""}), "title"),
        (json!({"opensAt": "2026-01-02T00:00:00Z", "closesAt": "2026-01-01T00:00:00Z"}), "closesAt"),
        (json!({"contestants": []}), "contestants"),
        (json!({"contestants": vec![json!({"name": "a"}); 1_001]}), "contestants"),
        (
            json!({"contestants": [{"name": "a", "number": 1}, {"name": "b", "number": 1}]}),
            "contestants[1].number",
        ),
        (json!({"results": "never"}), "results"),
    ] {
        let (status, body) = fixture.call("POST /admin/polls", 0, &draft(changes)).await;
        assert_eq!(status, 422, "{body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("{field}:")), "{field} in {message}");
        assert!(body["error"]["code"].is_string());
    }
}

#[tokio::test]
async fn votes_hold_a_poll_in_place() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    fixture.voted(id, 1).await;
    let renumber =
        json!({"contestants": [{"name": "Ana", "number": 2}, {"name": "Bia", "number": 1}]}).to_string();
    let removal = json!({"contestants": [{"name": "Ana", "number": 1}]}).to_string();
    for (route, body, code) in [
        ("DELETE /admin/polls/{id}", "", "pollHasVotes"),
        ("PATCH /admin/polls/{id}", removal.as_str(), "pollHasVotes"),
        ("PATCH /admin/polls/{id}", renumber.as_str(), "contestantNameTaken"),
    ] {
        let (status, answer) = fixture.call(route, id, body).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!(code)), "{route}");
    }
}

#[tokio::test]
async fn the_audit_shows_a_difference_and_the_rebuild_removes_it() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    fixture.voted(id, 3).await;
    let (_, behind) = fixture.call("GET /admin/polls/{id}/audit", id, "").await;
    assert_eq!(
        (&behind["ledgerVotes"], &behind["rankingVotes"], &behind["inSync"]),
        (&json!(3), &json!(0), &json!(false))
    );
    let mut connection = fixture.scratch.connect().await.unwrap();
    sqlx::query("UPDATE tallies SET votes = 99").execute(&mut connection).await.unwrap();
    let (status, rebuilt) = fixture.call("POST /admin/polls/{id}/rebuild", id, "").await;
    assert_eq!(
        (status, &rebuilt["inSync"], &rebuilt["tallyVotes"]),
        (200, &json!(true), &json!(3)),
        "{rebuilt}"
    );
    assert_eq!(fixture.ranked(id).await.unwrap().into_values().collect::<Vec<_>>(), [3, 0]);
    assert_eq!(rebuilt["contestants"][0], json!({"number": 1, "ledger": 3, "tally": 3, "ranking": 3}));
}

#[tokio::test]
async fn a_rebuild_whose_ranking_cannot_be_written_says_so_and_mends_the_tally() {
    let fixture = Fixture::new().await;
    // The number of this test's own database.
    let user = format!("user{}", fixture.scratch.redis_url.rsplit('/').next().unwrap());
    let as_user = |url: &str| url.replace("redis://", &format!("redis://{user}:password@"));
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut server = client.get_multiplexed_async_connection().await.unwrap();
    let rules = ["on", ">password", "~*", "+@all", "-@write"];
    redis::cmd("ACL").arg("SETUSER").arg(&user).arg(&rules).exec_async(&mut server).await.unwrap();
    let scratch = Scratch { redis_url: as_user(&fixture.scratch.redis_url), ..fixture.scratch.clone() };
    let read_only = Fixture::on(scratch);
    let id = fixture.created(json!({})).await;
    fixture.voted(id, 3).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    sqlx::query("UPDATE tallies SET votes = 99").execute(&mut connection).await.unwrap();
    let (status, answer) = read_only.call("POST /admin/polls/{id}/rebuild", id, "").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("rankingNotWritten")), "{answer}");
    let (_, audit) = fixture.call("GET /admin/polls/{id}/audit", id, "").await;
    assert_eq!((&audit["tallyVotes"], &audit["inSync"]), (&json!(3), &json!(false)), "{audit}");
}

#[tokio::test]
async fn the_live_figures_are_the_counters() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    fixture.voted(id, 3).await;
    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "INSERT INTO rejection_counts (poll, reason, count) \
               VALUES ($1, 'afterClosing', 1), ($1 + 1, 'notJson', 1)";
    sqlx::query(sql).bind(i32::try_from(id).unwrap()).execute(&mut connection).await.unwrap();
    let (status, live) = fixture.call("GET /admin/polls/{id}/live", id, "").await;
    assert_eq!((status, &live["votes"], &live["rankingVotes"]), (200, &json!(3), &json!(0)), "{live}");
    assert_eq!((&live["rejected"], &live["queue"]), (&json!({"afterClosing": 1}), &json!(null)));
    fixture.ranking().keep_backlog(Backlog { messages: 7, as_of: Clock::system().now() }).await.unwrap();
    let (_, live) = fixture.call("GET /admin/polls/{id}/live", id, "").await;
    assert_eq!(live["queue"]["messages"], 7, "{live}");
    assert_eq!(fixture.call("GET /admin/polls/{id}/live", id + 1, "").await.0, 404);
}

#[tokio::test]
async fn the_list_goes_back_in_pages() {
    let fixture = Fixture::new().await;
    let (first, second) = (fixture.created(json!({})).await, fixture.created(json!({})).await);
    let ids = async |query: &str| {
        let response = fixture.respond("GET /admin/polls", 0, "", query).await;
        let body: Value = serde_json::from_slice(response.body()).unwrap();
        body["polls"].as_array().unwrap().iter().map(|poll| poll["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, [second, first]);
    assert_eq!(ids(&format!("before={second}")).await, [first]);
    assert_eq!(fixture.respond("GET /admin/polls", 0, "", "before=yesterday").await.status(), 400);
}

#[tokio::test]
async fn a_certified_polls_votes_are_exported_and_linked() {
    const ASK: &str = "POST /admin/polls/{id}/export";
    const SHOW: &str = "GET /admin/polls/{id}/export";
    let fixture = Fixture::new().await;
    assert_eq!(fixture.call(ASK, 99, "").await.1["error"]["code"], "pollNotFound");
    let id =
        fixture.created(json!({"opensAt": "2026-01-01T20:00:00Z", "closesAt": "2026-01-01T21:00:00Z"})).await;
    let (status, refused) = fixture.call(ASK, id, "").await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("pollNotCertified")));
    let (status, unasked) = fixture.call(SHOW, id, "").await;
    assert_eq!((status, &unasked["error"]["code"]), (404, &json!("exportNotFound")));
    let (status, answer) = fixture.call("POST /admin/polls/{id}/certify", id, r#"{"force":true}"#).await;
    assert_eq!(status, 200, "{answer}");
    let (status, asked) = fixture.call(ASK, id, "").await;
    assert_eq!((status, &asked["status"], &asked["url"]), (202, &json!("running"), &Value::Null));
    assert_eq!(fixture.call(ASK, id, "").await, (202, asked.clone()));
    let mut connection = fixture.scratch.connect().await.unwrap();
    let set = async |connection: &mut sqlx::PgConnection, change: &str| {
        let sql = format!("UPDATE exports SET {change}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(connection).await.unwrap();
    };
    set(&mut connection, "failure = 'file not written'").await;
    let (status, failed) = fixture.call(SHOW, id, "").await;
    assert_eq!(
        (status, &failed["status"], &failed["failure"]),
        (200, &json!("failed"), &json!("file not written"))
    );
    assert_eq!(fixture.call(ASK, id, "").await, (202, asked), "the export continues");
    set(&mut connection, "upload = 'u', finished_at = now()").await;
    for route in [ASK, SHOW] {
        let (status, done) = fixture.call(route, id, "").await;
        assert_eq!((status, &done["status"]), (200, &json!("done")), "{done}");
        let url = done["url"].as_str().unwrap();
        assert!(url.starts_with("http://127.0.0.1:9/exports/exports/"), "{url}");
        let has = |part: &str| url.contains(part);
        assert!(
            has(&format!("/poll-{id}.csv.gz?")) && has("X-Amz-Expires=900") && has("X-Amz-Signature="),
            "{url}"
        );
        assert!(done["urlExpiresAt"].is_string());
    }
    set(&mut connection, "finished_at = now() - interval '30 days'").await;
    assert_eq!(fixture.call(ASK, id, "").await.1["status"], "running", "the bucket's retention has passed");
}

#[tokio::test]
async fn a_result_is_certified_unless_votes_may_be_outstanding_or_the_show_insists() {
    let fixture = Fixture::new().await;
    let certify = "POST /admin/polls/{id}/certify";
    let id = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    assert_eq!(fixture.call(certify, 999_999, "").await.0, 404);
    let (status, refused) = fixture.call(certify, id, r#"{"force":true}"#).await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("pollNotClosed")));
    fixture.voted(id, 3).await;
    fixture.call("POST /admin/polls/{id}/close", id, "").await;
    let (status, refused) = fixture.call(certify, id, "").await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("votesOutstanding")));
    assert!(
        refused["error"]["message"].as_str().unwrap().contains("Nothing has observed the counting lately"),
        "{refused}"
    );
    assert_eq!(fixture.call(certify, id, r#"{"froce":true}"#).await.0, 422);
    let (status, forced) = fixture.call(certify, id, r#"{"force":true}"#).await;
    assert_eq!((status, &forced["certified"]), (200, &json!(true)), "{forced}");
    let certificate = &forced["certificate"];
    assert_eq!(
        (&certificate["basis"], &certificate["votes"]),
        (&json!("forced"), &json!(3)),
        "and the certificate says so"
    );
    assert_eq!(certificate["digest"].as_str().unwrap().len(), 64);
    assert_eq!(fixture.call(certify, id, "").await, (200, forced), "a retry returns the same");
    for (route, body) in
        [("POST /admin/polls/{id}/open", ""), ("PATCH /admin/polls/{id}", r#"{"closesAt":null}"#)]
    {
        let (status, refused) = fixture.call(route, id, body).await;
        assert_eq!((status, &refused["error"]["code"]), (409, &json!("pollCertified")), "{route}");
    }
}

/// Records an observation of a closed poll, as `functions/results` does.
async fn observed(
    fixture: &Fixture,
    id: i64,
    waits_for: Option<&str>,
    sign: Option<&str>,
    waiting: Option<i64>,
) {
    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "INSERT INTO closings (poll, closes_at, observed_at, waits_for, sign, until, waiting) \
               SELECT id, closes_at, clock_timestamp(), $2, $3, '2026-01-01T20:03:29Z', $4 FROM polls WHERE id = $1 \
               ON CONFLICT (poll) DO UPDATE SET waits_for = excluded.waits_for, sign = excluded.sign, \
                   waiting = excluded.waiting";
    let query = sqlx::query(sql).bind(id as i32).bind(waits_for).bind(sign).bind(waiting);
    query.execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn what_waits_for_nothing_is_certified_by_hand_too() {
    let fixture = Fixture::new().await;
    let id =
        fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z", "closesAt": "2026-01-01T01:00:00Z"})).await;
    let certify = "POST /admin/polls/{id}/certify";
    observed(&fixture, id, Some("counting"), None, Some(50)).await;
    let (status, refused) = fixture.call(certify, id, "{}").await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("votesOutstanding")));
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("50 votes wait and nothing is counting them."), "{message}");
    observed(&fixture, id, None, None, None).await;
    let (status, answer) = fixture.call(certify, id, "{}").await;
    assert_eq!((status, &answer["certificate"]["basis"]), (200, &json!("evidence")), "{answer}");
}

#[tokio::test]
async fn the_crew_is_told_what_certification_waits_for() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    let live = async || fixture.call("GET /admin/polls/{id}/live", id, "").await.1;
    let counting = json!({"state": "unknown", "waiting": null, "since": null});
    let open = live().await;
    assert_eq!((&open["certification"], &open["counting"]), (&json!(null), &counting), "{open}");
    fixture.call("POST /admin/polls/{id}/close", id, "").await;
    assert_eq!(live().await["certification"]["waitsFor"], "look");
    observed(&fixture, id, Some("sign"), Some("redelivered"), None).await;
    let message =
        "Votes were delivered again, so a batch had failed: votes may come again until 20:03:29 UTC.";
    let until = "2026-01-01T20:03:29Z";
    let expected = json!({"waitsFor": "sign", "sign": "redelivered", "until": until, "message": message});
    assert_eq!(live().await["certification"], expected);
    fixture.call("POST /admin/polls/{id}/certify", id, r#"{"force":true}"#).await;
    assert_eq!(live().await["certification"], json!(null));
}

#[tokio::test]
async fn the_crew_is_told_that_nothing_is_counted() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    let live = async || fixture.call("GET /admin/polls/{id}/live", id, "").await.1["counting"].clone();
    let mut connection = fixture.scratch.connect().await.unwrap();
    let probe = "INSERT INTO probes (sent_at) VALUES (clock_timestamp() - interval '40 s')";
    sqlx::query(probe).execute(&mut connection).await.unwrap();
    assert_eq!(live().await["state"], "unknown");
    let probe = "INSERT INTO probes (sent_at) VALUES (clock_timestamp())";
    sqlx::query(probe).execute(&mut connection).await.unwrap();
    assert_eq!(live().await["state"], "moving");
    let age = "UPDATE probes SET sent_at = sent_at - interval '10 s'";
    sqlx::query(age).execute(&mut connection).await.unwrap();
    let backlog = Backlog { messages: 50, as_of: Clock::system().now() };
    fixture.ranking().keep_backlog(backlog).await.unwrap();
    let stopped = live().await;
    assert_eq!((&stopped["state"], &stopped["waiting"]), (&json!("stopped"), &json!(50)));
    assert!(stopped["since"].is_string());
}

#[tokio::test]
async fn late_votes_are_in_another_certificate_and_the_first_stays() {
    let (fixture, woken) = Fixture::with_queue().await;
    let (certify, include_late) = ("POST /admin/polls/{id}/certify", r#"{"includeLate":true}"#);
    assert_eq!(fixture.call(certify, 1_000_000, include_late).await.0, 404);
    let id = fixture.created(json!({"opensAt": "2020-01-01T00:00:00Z", "results": "hidden"})).await;
    fixture.voted(id, 2).await;
    fixture.call("POST /admin/polls/{id}/close", id, "").await;
    let refused = fixture.call(certify, id, include_late).await;
    assert_eq!((refused.0, &refused.1["error"]["code"]), (409, &json!("pollNotCertified")));
    let first = fixture.call(certify, id, r#"{"force":true}"#).await.1;
    let refused = fixture.call(certify, id, include_late).await;
    assert_eq!((refused.0, &refused.1["error"]["code"]), (409, &json!("noLateVotes")));
    assert_eq!(fixture.call("GET /admin/polls/{id}/audit", id, "").await.1["late"], Value::Null);

    let mut connection = fixture.scratch.connect().await.unwrap();
    let sql = "INSERT INTO late_votes (key, message_id, voter, cast_at, arrived_at, poll, contestant) \
               SELECT gen_random_uuid(), gen_random_uuid(), 1, now(), now(), $1, 2 FROM generate_series(1, 3)";
    sqlx::query(sql).bind(id as i32).execute(&mut connection).await.unwrap();
    assert_eq!(fixture.call("GET /admin/polls/{id}/audit", id, "").await.1["late"]["votes"], 3);
    let before = fixture.call("GET /admin/polls/{id}", id, "").await.1;
    let headers = json!({"if-match": "\"1\""});
    let stale = fixture.respond_to(certify, id, include_late, "", &headers, &json!({"sub": "crew"})).await;
    assert_eq!(stale.status(), 412, "an order for a version before the certificate");
    let _: Vec<_> = woken.try_iter().collect();
    let (status, second) = fixture.call(certify, id, include_late).await;
    assert_eq!((status, &second["number"], &second["votes"]), (201, &json!(2), &json!(5)), "{second}");
    assert_eq!(woken.try_iter().collect::<Vec<_>>(), [json!({"poll": id})], "its file is updated at once");
    assert_eq!(fixture.call("GET /admin/polls/{id}", id, "").await.1, before, "the poll does not change");
    let lines = json!([{"number": 1, "votes": 2}, {"number": 2, "votes": 3}]);
    assert_eq!(second["contestants"], lines, "the crew sees what is withheld");
    assert_eq!(second["first"]["digest"], first["certificate"]["digest"]);
    assert_eq!(fixture.call(certify, id, include_late).await, (200, second), "a retry after a lost response");
    let journal = fixture.call("GET /admin/polls/{id}/journal", id, "").await.1;
    let [entry, earlier, ..] = journal["entries"].as_array().unwrap().as_slice() else { panic!("{journal}") };
    assert_eq!((&entry["action"], &entry["who"]), (&json!("secondCertificate"), &json!("crew")), "{journal}");
    assert_eq!(entry["changes"], json!({"certificate": {"from": 1, "to": 2}}));
    assert_eq!(
        earlier["action"], "forceCertify",
        "a request that issued nothing is not in the journal: {journal}"
    );
    assert_eq!(fixture.call(certify, id, "").await.1, first);
}

#[tokio::test]
async fn votes_of_several_taps_need_a_limit_by_token() {
    let scratch = Scratch::new().await.unwrap();
    let limited = Fixture::on(scratch.clone());
    let tapped = json!({"tapsMax": 50});
    let id = limited.created(tapped.clone()).await;
    for (name, value) in [("VOTES_PER_TOKEN", "0"), ("GATEWAY_ADDRESS", "open")] {
        let lookup =
            |asked: &str| if asked == name { Some(value.to_owned()) } else { scratch.environment(asked) };
        let handler = Handler::new(&lookup, Clock::system()).unwrap();
        let fixture = Fixture { scratch: scratch.clone(), handler };
        let (status, answer) = fixture.call("POST /admin/polls", 0, &draft(tapped.clone())).await;
        assert_eq!((status, &answer["error"]["code"]), (422, &json!("votesNotLimited")), "{name}");
        let single = fixture.created(json!({})).await;
        let patch = async |id, taps_max| {
            let body = json!({"tapsMax": taps_max, "title": "Again"}).to_string();
            fixture.call("PATCH /admin/polls/{id}", id, &body).await.0
        };
        assert_eq!((patch(single, 1).await, patch(single, 2).await), (200, 422), "{name}");
        assert_eq!((patch(id, 50).await, patch(id, 51).await), (200, 422), "{name}: what it has it keeps");
    }
    for (taps_max, changes) in [(0, json!({})), (101, json!({})), (2, json!({"votesPerVoter": 3}))] {
        let mut changes = changes;
        changes["tapsMax"] = json!(taps_max);
        let (status, answer) = limited.call("POST /admin/polls", 0, &draft(changes)).await;
        assert_eq!((status, &answer["error"]["code"]), (422, &json!("invalidTapsMax")), "{taps_max}");
    }
}
