//! The public reads through the handler.

use std::time::{Duration, Instant};

use domain::PollId;
use local_stores::scratch::Scratch;
use polls::Handler;
use runtime::Clock;
use serde_json::json;

use crate::support::{at_ms, fixture, header, json_of, request};

#[tokio::test]
async fn a_ranking_is_public_cacheable_and_tagged() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await;
    fixture.vote(&poll, "alice", 2, None).await;
    let response = fixture.get("GET /polls/{id}/ranking", poll.id).await;
    let body = json_of(&response);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "cache-control"), "public, max-age=1, s-maxage=3");
    assert_eq!(
        (&body["poll"], &body["totalVotes"], &body["status"]),
        (&json!(poll.id), &json!(1), &json!("open"))
    );
    let leader = json!({"rank": 1, "contestant": 2, "name": "Bia", "votes": 1, "share": 1.0});
    assert_eq!(body["ranking"][0], leader);
    let tag = json!({"if-none-match": header(&response, "etag")});
    let again = request("GET /polls/{id}/ranking", &poll.id.0.to_string(), &tag, None);
    let unchanged = fixture.handler.handle(again).await.unwrap();
    assert_eq!((unchanged.status().as_u16(), unchanged.body().is_empty()), (304, true));
    assert_eq!(header(&unchanged, "cache-control"), "public, max-age=1, s-maxage=3");
    assert_eq!(header(&unchanged, "content-type"), "application/json", "without it the gateway adds its own");
}

#[tokio::test]
async fn a_changed_standing_has_another_tag() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await;
    let before = fixture.get("GET /polls/{id}/ranking", poll.id).await;
    fixture.vote(&poll, "alice", 2, None).await;
    // A batch raises the ranking after counting.
    let loaded = fixture.ledger.polls(&[poll.id]).await.unwrap();
    fixture.ranking.keep_polls(&loaded, Clock::system().now()).await.unwrap();
    let after = fixture.get("GET /polls/{id}/ranking", poll.id).await;
    assert_ne!(header(&before, "etag"), header(&after, "etag"));
}

#[tokio::test]
async fn a_standing_is_withheld_as_the_poll_says() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let closed = json!(at_ms(-1_000));
    for (results, closes_at, status) in [
        ("afterClose", json!(null), 403),
        ("afterClose", closed.clone(), 200),
        ("hidden", json!(null), 403),
        ("hidden", closed, 403),
    ] {
        let poll = fixture.poll(json!({"results": results, "closesAt": closes_at})).await;
        let response = fixture.get("GET /polls/{id}/ranking", poll.id).await;
        assert_eq!(response.status(), status, "{results}");
        if status == 403 {
            assert_eq!(json_of(&response)["error"]["code"], "resultsWithheld");
        }
    }
}

#[tokio::test]
async fn polls_are_listed_and_shown_with_their_status() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({"opensAt": at_ms(60_000)})).await;
    let one = json_of(&fixture.get("GET /polls/{id}", poll.id).await);
    assert_eq!(
        (&one["id"], &one["status"], &one["votesPerVoter"]),
        (&json!(poll.id), &json!("scheduled"), &json!(null))
    );
    let fields: Vec<_> = one.as_object().unwrap().keys().map(String::as_str).collect();
    let contract = [
        "closesAt",
        "contestants",
        "id",
        "opensAt",
        "results",
        "status",
        "tapsMax",
        "title",
        "votesPerVoter",
    ];
    assert_eq!(fields, contract);
    let list = json_of(&fixture.get("GET /polls", poll.id).await);
    assert_eq!(list["polls"], json!([one]));
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_cached_all_the_same() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await;
    let zeros = format!("0000{}", poll.id.0);
    let plus = format!("+{}", poll.id.0);
    for id in ["1000000", "0", "-1", "one", "99999999999", &zeros, &plus] {
        for route in ["GET /polls/{id}", "GET /polls/{id}/ranking"] {
            let response = fixture.handler.handle(request(route, id, &json!({}), None)).await.unwrap();
            assert_eq!(response.status(), 404, "{id}");
            assert_eq!(json_of(&response)["error"]["code"], "pollNotFound");
            let lifetime = header(&response, "cache-control");
            assert_eq!(
                lifetime, "public, max-age=1, s-maxage=3, x-absence",
                "an absence is never served stale"
            );
        }
    }
}

#[tokio::test]
async fn numbers_above_the_highest_ask_neither_store() {
    let scratch = Scratch::new().await.unwrap();
    let poll = fixture(&scratch).poll(json!({})).await;
    let (counted, trips) = scratch.counted().await.unwrap();
    let through = fixture(&counted);
    assert_eq!(through.get("GET /polls/{id}/ranking", poll.id).await.status(), 200);
    assert_eq!(through.get("GET /polls/{id}/ranking", PollId(2_000_000_000)).await.status(), 404);
    let (started, before) = (Instant::now(), trips.so_far());
    for id in 0..200 {
        let id = PollId(2_000_000_000 + id);
        assert_eq!(through.get("GET /polls/{id}/ranking", id).await.status(), 404);
    }
    let (database, redis) = trips.so_far();
    // Eight questions a second.
    let expected = 8 * (started.elapsed().as_secs() as usize + 1);
    assert!(database - before.0 <= expected, "{database} instead of {expected}");
    assert_eq!(redis, before.1);
}

#[tokio::test]
async fn a_new_poll_is_found_though_its_number_was_just_asked_for() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let first = fixture.poll(json!({})).await;
    let next = PollId(first.id.0 + 1);
    assert_eq!(fixture.get("GET /polls/{id}", next).await.status(), 404);
    let poll = fixture.poll(json!({})).await;
    assert_eq!(poll.id, next);
    let started = Instant::now();
    while fixture.get("GET /polls/{id}", next).await.status() != 200 {
        // Redis keeps the absence for 3 s, unless functions/admin replaces it.
        assert!(started.elapsed() < Duration::from_secs(5), "not visible");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await;
    for route in ["/polls", "/polls/{id}", "/polls/{id}/ranking"] {
        let get = fixture.get(&format!("GET {route}"), poll.id).await;
        let head = fixture.get(&format!("HEAD {route}"), poll.id).await;
        assert_eq!((head.status(), head.body().is_empty()), (get.status(), true), "{route}");
        assert_eq!(
            (header(&head, "etag"), header(&head, "cache-control")),
            (header(&get, "etag"), header(&get, "cache-control"))
        );
    }
    let mine = request("HEAD /polls/{id}/votes/mine", &poll.id.0.to_string(), &json!({}), Some("alice"));
    assert_eq!(fixture.handler.handle(mine).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_voter_sees_their_own_ballots() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({"votesPerVoter": 3})).await;
    fixture.vote(&poll, "alice", 1, Some(3)).await;
    fixture.vote(&poll, "alice", 2, Some(1)).await;
    fixture.vote(&poll, "bob", 2, Some(2)).await;
    let response = fixture.mine(poll.id, Some("alice")).await;
    assert_eq!(json_of(&response), json!({"limit": 3, "used": [1, 3], "remaining": 1}));
    assert_eq!(header(&response, "cache-control"), "private, no-store");
    let unlimited = fixture.poll(json!({})).await;
    let response = fixture.mine(unlimited.id, Some("alice")).await;
    assert_eq!(json_of(&response), json!({"limit": null, "used": [], "remaining": null}));
    assert_eq!(fixture.mine(poll.id, None).await.status(), 401);
}

#[tokio::test]
async fn with_both_stores_away_the_answer_is_an_apology_without_internals() {
    let scratch = Scratch::new().await.unwrap();
    let lookup = |name: &str| match name {
        "DATABASE_URL" => Some("postgres://secret@127.0.0.1:1/nothing".to_owned()),
        "REDIS_URL" => Some("redis://127.0.0.1:1".to_owned()),
        _ => scratch.environment(name),
    };
    let handler = Handler::new(&lookup, Clock::system()).unwrap();
    let response = handler.handle(request("GET /polls", "", &json!({}), None)).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "cache-control"), "private, no-store");
    assert_eq!(json_of(&response)["error"]["code"], "unavailable");
    assert!(!String::from_utf8_lossy(response.body()).contains("127.0.0.1"));
}

#[tokio::test]
async fn while_the_ledger_is_away_the_last_standing_is_shown_with_its_age() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await;
    fixture.vote(&poll, "alice", 2, None).await;
    let (loaded, minutes_ago) = (fixture.ledger.polls(&[poll.id]).await.unwrap(), at_ms(-5 * 60_000));
    fixture.ranking.keep_polls(&loaded, minutes_ago).await.unwrap();
    let lookup = |name: &str| match name {
        "DATABASE_URL" => Some(scratch.refusing_url().unwrap()),
        _ => scratch.environment(name),
    };
    let cut_off = Handler::new(&lookup, Clock::system()).unwrap();
    for _ in 0..2 {
        let asked = request("GET /polls/{id}/ranking", &poll.id.0.to_string(), &json!({}), None);
        let response = cut_off.handle(asked).await.unwrap();
        assert_eq!(response.status(), 200);
        let body = json_of(&response);
        assert_eq!((&body["totalVotes"], &body["asOf"]), (&json!(1), &json!(minutes_ago)));
    }
}
