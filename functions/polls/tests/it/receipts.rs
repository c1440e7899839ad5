//! Receipts of votes, through the handler.

use domain::Poll;
use lambda_http::{Body, Response};
use local_stores::scratch::Scratch;
use polls::Handler;
use runtime::Clock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Fixture, fixture, header, json_of, request_with_query};

async fn receipt(fixture: &Fixture, poll: &Poll, sub: &str, id: impl ToString) -> Value {
    let query = format!("id={}", id.to_string());
    let response = fixture.ask(&poll.id.0.to_string(), Some(sub), &query).await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "cache-control"), "private, no-store");
    json_of(&response)
}

fn problem(response: &Response<Body>) -> (u16, Value) {
    assert_eq!(header(response, "cache-control"), "private, no-store");
    (response.status().as_u16(), json_of(response)["error"]["code"].clone())
}

#[tokio::test]
async fn a_voter_is_told_that_a_vote_counted_and_for_whom() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (poll, id) = (fixture.poll(json!({})).await, Uuid::new_v4());
    let plain = fixture.cast(&poll, "alice", &json!({"poll": poll.id, "contestant": 2})).await;
    let with_id = fixture.cast(&poll, "alice", &json!({"poll": poll.id, "contestant": 3, "id": id})).await;
    for (asked, contestant, cast_at) in [(plain.id, 2, plain.sent_at), (id, 3, with_id.sent_at)] {
        let counted = json!({
            "id": asked, "outcome": "counted", "contestant": contestant, "castAt": cast_at, "ballot": null,
        });
        assert_eq!(receipt(&fixture, &poll, "alice", asked).await, counted);
        let unknown = json!({"id": asked, "outcome": "unknown"});
        assert_eq!(receipt(&fixture, &poll, "bob", asked).await, unknown);
    }
}

#[tokio::test]
async fn in_a_limited_poll_a_voter_is_told_the_ballot_too() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (poll, id) = (fixture.poll(json!({"votesPerVoter": 3})).await, Uuid::new_v4());
    let body = json!({"poll": poll.id, "contestant": 2, "ballot": 3, "id": id});
    let first = fixture.cast(&poll, "alice", &body).await;
    fixture.cast(&poll, "alice", &body).await;
    for asked in [first.id, id] {
        let counted = json!({
            "id": asked, "outcome": "counted", "contestant": 2, "castAt": first.sent_at, "ballot": 3,
        });
        assert_eq!(receipt(&fixture, &poll, "alice", asked).await, counted, "a retry changes nothing");
        let unknown = json!({"id": asked, "outcome": "unknown"});
        assert_eq!(receipt(&fixture, &poll, "bob", asked).await, unknown);
    }
}

#[tokio::test]
async fn a_voter_is_told_why_a_vote_was_rejected() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (poll, id) = (fixture.poll(json!({})).await, Uuid::new_v4());
    let wrong = fixture.cast(&poll, "alice", &json!({"poll": poll.id, "contestant": 99, "id": id})).await;
    for asked in [wrong.id, id] {
        let rejected = json!({
            "id": asked, "outcome": "rejected", "reason": "unknownContestant", "castAt": wrong.sent_at,
        });
        assert_eq!(receipt(&fixture, &poll, "alice", asked).await, rejected);
        let unknown = json!({"id": asked, "outcome": "unknown"});
        assert_eq!(receipt(&fixture, &poll, "bob", asked).await, unknown);
    }
    fixture.cast(&poll, "alice", &json!({"poll": poll.id, "contestant": 1, "id": id})).await;
    assert_eq!(receipt(&fixture, &poll, "alice", id).await["outcome"], "counted", "a retry counted");
}

#[tokio::test]
async fn an_id_may_be_written_as_in_a_vote_and_is_answered_in_one_form() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (poll, id) = (fixture.poll(json!({})).await, Uuid::new_v4());
    let written = id.simple().to_string().to_uppercase();
    fixture.cast(&poll, "alice", &json!({"poll": poll.id, "contestant": 1, "id": written})).await;
    let answer = receipt(&fixture, &poll, "alice", &written).await;
    assert_eq!((&answer["id"], &answer["outcome"]), (&json!(id), &json!("counted")));
}

#[tokio::test]
async fn what_is_not_one_uuid_is_refused_by_name() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({"votesPerVoter": 3})).await;
    let number = poll.id.0.to_string();
    let twice = format!("id={0}&id={0}", Uuid::new_v4());
    for query in ["id=", "id", "id=7", "id=9a8f%E2%80%A6", twice.as_str()] {
        let response = fixture.ask(&number, Some("alice"), query).await;
        assert_eq!(problem(&response), (400, json!("invalidId")), "{query}");
        let message = json_of(&response)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("id: "), "{message}");
    }
    let ballots = json!({"limit": 3, "used": [], "remaining": 3});
    for query in ["", "other=7"] {
        assert_eq!(json_of(&fixture.ask(&number, Some("alice"), query).await), ballots, "{query}");
    }
}

#[tokio::test]
async fn only_a_voter_is_told_and_only_of_a_poll_that_is() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await.id.0.to_string();
    let query = format!("id={}", Uuid::new_v4());
    assert_eq!(problem(&fixture.ask(&poll, None, &query).await), (401, json!("unauthorized")));
    assert_eq!(problem(&fixture.ask("1000000", Some("alice"), &query).await), (404, json!("pollNotFound")));
}

#[tokio::test]
async fn while_the_ledger_is_away_a_vote_is_not_called_unknown() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({})).await.id.0.to_string();
    fixture.ask(&poll, Some("alice"), "").await;
    let away = |name: &str| match name {
        "DATABASE_URL" => Some("postgres://secret@127.0.0.1:1/nothing".to_owned()),
        _ => scratch.environment(name),
    };
    let query = format!("id={}", Uuid::new_v4());
    let request = request_with_query("GET /polls/{id}/votes/mine", &poll, &query, &json!({}), Some("alice"));
    let response = Handler::new(&away, Clock::system()).unwrap().handle(request).await.unwrap();
    assert_eq!(problem(&response), (503, json!("unavailable")));
}

#[tokio::test]
async fn a_warm_answer_is_one_round_trip_to_each_store() {
    let scratch = Scratch::new().await.unwrap();
    let (through, trips) = scratch.counted().await.unwrap();
    let fixture = Fixture { handler: fixture(&through).handler, ..fixture(&scratch) };
    for changes in [json!({}), json!({"votesPerVoter": 100})] {
        let poll = fixture.poll(changes).await;
        receipt(&fixture, &poll, "alice", Uuid::new_v4()).await;
        let before = trips.so_far();
        receipt(&fixture, &poll, "alice", Uuid::new_v4()).await;
        let after = trips.so_far();
        assert_eq!((after.0 - before.0, after.1 - before.1), (1, 1));
    }
}

#[tokio::test]
async fn one_request_tells_of_several_polls_and_votes() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (limited, open) = (fixture.poll(json!({"votesPerVoter": 2})).await, fixture.poll(json!({})).await);
    let (id, missing) = (Uuid::new_v4(), Uuid::new_v4());
    fixture.vote(&limited, "alice", 1, Some(2)).await;
    fixture.cast(&open, "alice", &json!({"poll": open.id, "contestant": 3, "id": id})).await;
    let ask = async |sub: Option<&str>, query: String| {
        let asked = request_with_query("GET /votes/mine", "", &query, &json!({}), sub);
        fixture.handler.handle(asked).await.unwrap()
    };
    let (one, two) = (limited.id.0, open.id.0);
    let query = format!("polls={one},{two},999&votes={two}:{id},{one}:{missing},999:{id}");
    let body = json_of(&ask(Some("alice"), query.clone()).await);
    let ballots = json!([
        {"poll": one, "ballots": {"limit": 2, "used": [2], "remaining": 1}},
        {"poll": two, "ballots": {"limit": null, "used": [], "remaining": null}},
    ]);
    assert_eq!(body["polls"], ballots);
    let first = &body["votes"][0];
    assert_eq!((&first["poll"], &first["receipt"]["outcome"]), (&json!(two), &json!("counted")));
    assert_eq!(body["votes"][1], json!({"poll": one, "receipt": {"id": missing, "outcome": "unknown"}}));
    assert_eq!(body["votes"][2], json!({"poll": 999, "receipt": {"id": id, "outcome": "unknown"}}));
    let others = json_of(&ask(Some("bob"), query.clone()).await);
    assert_eq!(others["votes"][0]["receipt"]["outcome"], "unknown");
    assert_eq!(problem(&ask(None, query).await), (401, json!("unauthorized")));
    let many = |n: usize, one: &dyn Fn(usize) -> String| (1..=n).map(one).collect::<Vec<_>>().join(",");
    for (query, code) in [
        (String::new(), "nothingAsked"),
        ("polls=01".to_owned(), "invalidPolls"),
        ("polls=".to_owned(), "invalidPolls"),
        (format!("polls={}", many(21, &|n| n.to_string())), "invalidPolls"),
        (format!("votes={id}"), "invalidVotes"),
        (format!("votes=1:{id}x"), "invalidVotes"),
        (format!("votes={}", many(21, &|n| format!("{n}:{id}"))), "invalidVotes"),
    ] {
        assert_eq!(problem(&ask(Some("alice"), query.clone()).await), (400, json!(code)), "{query}");
    }
    let most = format!("polls={}&votes={}", many(20, &|n| n.to_string()), many(20, &|n| format!("{n}:{id}")));
    assert_eq!(ask(Some("alice"), most).await.status(), 200);
}

#[tokio::test]
async fn of_several_votes_in_a_request_each_place_is_told() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (poll, id) = (fixture.poll(json!({"tapsMax": 10})).await, Uuid::new_v4());
    let votes =
        json!([{"contestant": 2, "count": 10}, {"contestant": 9}, {"contestant": 3}, {"contestant": "3"}]);
    let cast = fixture.cast(&poll, "alice", &json!({"poll": poll.id, "id": id, "votes": votes})).await;
    let counted = |place: i16, contestant: i16| json!({"place": place, "outcome": "counted", "contestant": contestant, "castAt": cast.sent_at, "ballot": null});
    let rejected = |place: i16, reason: &str| json!({"place": place, "outcome": "rejected", "reason": reason, "castAt": cast.sent_at});
    let mut taps = counted(0, 2);
    taps["count"] = json!(10);
    let expected = json!({
        "id": id, "votes": [taps, rejected(1, "unknownContestant"), counted(2, 3), rejected(3, "wrongType")],
    });
    assert_eq!(receipt(&fixture, &poll, "alice", id).await, expected);
    assert_eq!(receipt(&fixture, &poll, "bob", id).await, json!({"id": id, "outcome": "unknown"}));
    let query = format!("votes={}:{id}", poll.id.0);
    let asked = request_with_query("GET /votes/mine", "", &query, &json!({}), Some("alice"));
    let several = json_of(&fixture.handler.handle(asked).await.unwrap());
    assert_eq!(several["votes"], json!([{"poll": poll.id, "receipt": expected}]));
}

#[tokio::test]
async fn a_single_vote_of_several_taps_is_told_with_its_count() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let (poll, id) = (fixture.poll(json!({"tapsMax": 10})).await, Uuid::new_v4());
    let body = json!({"poll": poll.id, "contestant": 2, "count": 7, "id": id});
    let cast = fixture.cast(&poll, "alice", &body).await;
    let counted = json!({
        "id": id, "outcome": "counted", "contestant": 2, "count": 7, "castAt": cast.sent_at, "ballot": null,
    });
    assert_eq!(receipt(&fixture, &poll, "alice", id).await, counted);
}

#[tokio::test]
async fn in_a_limited_poll_a_list_tells_which_ballots_were_used_before() {
    let scratch = Scratch::new().await.unwrap();
    let fixture = fixture(&scratch);
    let poll = fixture.poll(json!({"votesPerVoter": 3})).await;
    fixture.vote(&poll, "alice", 1, Some(2)).await;
    let id = Uuid::new_v4();
    let votes: Vec<_> = (1..=3).map(|ballot| json!({"contestant": 2, "ballot": ballot})).collect();
    let cast = fixture.cast(&poll, "alice", &json!({"poll": poll.id, "id": id, "votes": votes})).await;
    for asked in [id, cast.id] {
        let told = receipt(&fixture, &poll, "alice", asked).await["votes"].clone();
        let told: Vec<_> =
            told.as_array().unwrap().iter().map(|vote| (&vote["ballot"], &vote["reason"])).collect();
        let null = &Value::Null;
        assert_eq!(told, [(&json!(1), null), (null, &json!("ballotUsed")), (&json!(3), null)]);
    }
}
