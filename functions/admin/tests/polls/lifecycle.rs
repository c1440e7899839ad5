//! The lifecycle of polls: versions, drafts, windows, withdrawals, errata and the journal.

use super::*;

const READ: &str = "GET /admin/polls/{id}";
const PATCH: &str = "PATCH /admin/polls/{id}";
const DELETE: &str = "DELETE /admin/polls/{id}";
const OPEN: &str = "POST /admin/polls/{id}/open";
const CLOSE: &str = "POST /admin/polls/{id}/close";
const WITHDRAW: &str = "POST /admin/polls/{id}/withdraw";
const ARCHIVE: &str = "POST /admin/polls/{id}/archive";
const CORRECT: &str = "POST /admin/polls/{id}/errata";
const CERTIFY: &str = "POST /admin/polls/{id}/certify";
const JOURNAL: &str = "GET /admin/polls/{id}/journal";
const FORCE: &str = r#"{"force":true}"#;

/// The window of a poll that was open for an hour.
fn over() -> Value {
    json!({"opensAt": "2026-01-01T00:00:00Z", "closesAt": "2026-01-01T01:00:00Z"})
}

fn tag(response: &Response<Body>) -> String {
    response.headers()["etag"].to_str().unwrap().to_owned()
}

fn body(response: &Response<Body>) -> Value {
    serde_json::from_slice(response.body()).unwrap()
}

impl Fixture {
    /// Sends a request with this `If-Match`, by a person with this address.
    async fn if_match(&self, route: &str, id: i64, body: &str, tag: &str, email: &str) -> Response<Body> {
        self.respond_to(route, id, body, "", &json!({"if-match": tag}), &json!({"sub": "1", "email": email}))
            .await
    }

    async fn code(&self, route: &str, id: i64, body: &str) -> (u16, Value) {
        let (status, answer) = self.call(route, id, body).await;
        (status, answer["error"]["code"].clone())
    }

    /// Returns actions and authors of the journal, newest first.
    async fn actions(&self, id: i64) -> Vec<(String, String)> {
        let (status, journal) = self.call(JOURNAL, id, "").await;
        assert_eq!((status, &journal["poll"]), (200, &json!(id)), "{journal}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = journal["entries"].as_array().unwrap().iter();
        entries.map(|entry| (text(&entry["action"]), text(&entry["who"]))).collect()
    }
}

#[tokio::test]
async fn every_answer_about_a_poll_has_its_version_as_its_tag() {
    let fixture = Fixture::new().await;
    let created = fixture.respond("POST /admin/polls", 0, &draft(json!({})), "").await;
    assert_eq!(tag(&created), r#""1""#);
    let id = body(&created)["id"].as_i64().unwrap();
    for (route, request, version) in [
        (READ, "", 1),
        (PATCH, r#"{"title":"Who goes?"}"#, 2),
        (PATCH, r#"{"title":"Who goes?"}"#, 2),
        (OPEN, "", 3),
        (WITHDRAW, r#"{"contestant":2}"#, 4),
        (CLOSE, "", 5),
        (ARCHIVE, "", 6),
        (CERTIFY, FORCE, 7),
        (CERTIFY, "", 7),
        (CORRECT, r#"{"text":"Ana is Anna."}"#, 8),
        (READ, "", 8),
    ] {
        let answer = fixture.respond(route, id, request, "").await;
        assert!(answer.status().is_success(), "{route}: {:?}", answer.body());
        assert_eq!(tag(&answer), format!("\"{version}\""), "{route}");
    }
    assert_eq!(fixture.call(READ, id, "").await.1["version"], 8);
}

#[tokio::test]
async fn a_change_of_what_somebody_else_has_changed_is_refused_and_says_who_it_was() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    let theirs = fixture.if_match(PATCH, id, r#"{"title":"Theirs"}"#, r#""1""#, "ada@example.com").await;
    assert_eq!((theirs.status().as_u16(), tag(&theirs)), (200, r#""2""#.to_owned()));
    for (route, request) in [
        (PATCH, r#"{"title":"Mine"}"#),
        (PATCH, r#"{"title":"Theirs"}"#),
        (DELETE, ""),
        (WITHDRAW, r#"{"contestant":2}"#),
    ] {
        let mine = fixture.if_match(route, id, request, r#""1""#, "bob@example.com").await;
        let error = &body(&mine)["error"];
        assert_eq!((mine.status().as_u16(), &error["code"]), (412, &json!("versionConflict")), "{route}");
        assert_eq!(
            (&error["version"], &error["changedBy"]),
            (&json!(2), &json!("ada@example.com")),
            "{error}"
        );
        assert!(
            error["changedAt"].is_string() && error["message"].as_str().unwrap().contains("ada@example.com")
        );
    }
    assert_eq!(fixture.call(READ, id, "").await.1["title"], "Theirs");
    assert_eq!(
        fixture.if_match(OPEN, id, "", r#""1""#, "bob@example.com").await.status(),
        200,
        "opening ignores `If-Match`"
    );
    assert_eq!(fixture.if_match(CLOSE, id, "", r#""1""#, "bob@example.com").await.status(), 200);
    for (route, request) in [(ARCHIVE, ""), (CERTIFY, FORCE)] {
        assert_eq!(
            fixture.if_match(route, id, request, r#""1""#, "bob@example.com").await.status(),
            412,
            "{route}"
        );
        assert_eq!(
            fixture.if_match(route, id, request, "*", "bob@example.com").await.status(),
            200,
            "{route}"
        );
    }
    let certified = fixture.if_match(CERTIFY, id, "", r#""1""#, "bob@example.com").await;
    assert_eq!(certified.status(), 412);
    assert_eq!(
        fixture.if_match(CORRECT, id, r#"{"text":"a"}"#, r#""1""#, "bob@example.com").await.status(),
        412
    );
    assert_eq!(
        fixture.if_match(PATCH, id, r#"{"title":"Theirs"}"#, "W/\"6\"", "bob@example.com").await.status(),
        200
    );
}

#[tokio::test]
async fn what_nobody_of_the_crew_changed_is_nobodys_in_a_conflict() {
    let fixture = Fixture::new().await;
    let id = fixture.created(over()).await;
    let ledger = Ledger::new(&fixture.scratch.database_url, Duration::from_secs(20)).unwrap();
    ledger.certify(PollId(id as i32), domain::Basis::Forced).await.unwrap();
    let late = fixture.if_match(PATCH, id, r#"{"title":"Mine"}"#, r#""1""#, "bob@example.com").await;
    let error = &body(&late)["error"];
    assert_eq!(
        (&error["version"], &error["changedBy"], &error["changedAt"]),
        (&json!(2), &json!(null), &json!(null))
    );
}

#[tokio::test]
async fn a_draft_is_published_by_hand_and_for_good() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    assert_eq!(fixture.call(READ, id, "").await.1["draft"], true);
    let (status, published) = fixture.call(PATCH, id, r#"{"draft":false}"#).await;
    assert_eq!(
        (status, &published["draft"], &published["status"]),
        (200, &json!(false), &json!("scheduled"))
    );
    assert_eq!(fixture.code(PATCH, id, r#"{"draft":true}"#).await, (409, json!("pollPublished")));
    let open = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z", "draft": true})).await;
    assert_eq!(fixture.call(READ, open, "").await.1["draft"], false);
    let pressed = fixture.created(json!({})).await;
    assert_eq!(fixture.call(OPEN, pressed, "").await.1["draft"], false);
    assert_eq!(fixture.actions(id).await[0].0, "publish");
}

#[tokio::test]
async fn an_opened_poll_keeps_its_window_and_a_certified_one_everything() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    for (change, expected) in [
        (json!({"opensAt": "2026-01-01T00:00:01Z"}), (409, "pollOpened")),
        (json!({"opensAt": null}), (409, "pollOpened")),
        (json!({"closesAt": "2026-01-01T00:00:01Z"}), (422, "invalidWindow")),
        (json!({"contestants": [{"name": "Ana", "number": 1}]}), (409, "pollOpened")),
        (
            json!({"contestants": [{"name": "bia", "number": 1}, {"name": "Ana", "number": 2}]}),
            (409, "contestantNameTaken"),
        ),
        (json!({"votesPerVoter": 3}), (409, "pollOpened")),
    ] {
        let (status, code) = fixture.code(PATCH, id, &change.to_string()).await;
        assert_eq!((status, code), (expected.0, json!(expected.1)), "{change}");
    }
    fixture.call(CLOSE, id, "").await;
    assert_eq!(fixture.call(CERTIFY, id, FORCE).await.0, 200);
    let (_, certified) = fixture.call(READ, id, "").await;
    for change in [
        json!({"title": "Who stayed?"}),
        json!({"results": "hidden"}),
        json!({"contestants": [{"name": "Anna", "number": 1}, {"name": "Bia", "number": 2}]}),
    ] {
        assert_eq!(
            fixture.code(PATCH, id, &change.to_string()).await,
            (409, json!("pollCertified")),
            "{change}"
        );
    }
    let same = json!({"title": certified["title"], "opensAt": certified["opensAt"], "closesAt": certified["closesAt"],
        "contestants": certified["contestants"], "results": certified["results"], "draft": false});
    assert_eq!(
        fixture.call(PATCH, id, &same.to_string()).await,
        (200, certified),
        "a change without effect is allowed"
    );
    assert_eq!(fixture.code(DELETE, id, "").await, (409, json!("pollCertified")));
    assert_eq!(fixture.code(WITHDRAW, id, r#"{"contestant":1}"#).await, (409, json!("pollCertified")));
}

#[tokio::test]
async fn a_reopened_poll_shows_its_gap() {
    let fixture = Fixture::new().await;
    for reopen in
        [(OPEN, ""), (PATCH, r#"{"closesAt":null}"#), (PATCH, r#"{"closesAt":"2126-01-01T00:00:00Z"}"#)]
    {
        let id = fixture.created(over()).await;
        assert!(fixture.call(READ, id, "").await.1.get("gaps").is_none());
        let (status, reopened) = fixture.call(reopen.0, id, reopen.1).await;
        assert_eq!((status, &reopened["status"]), (200, &json!("open")), "{reopened}");
        assert_eq!(reopened["gaps"].as_array().unwrap().len(), 1);
        assert_eq!(reopened["gaps"][0]["from"], "2026-01-01T01:00:00Z");
    }
}

#[tokio::test]
async fn a_contestant_is_withdrawn_once() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    let (status, withdrawn) = fixture.call(WITHDRAW, id, r#"{"contestant":2}"#).await;
    assert_eq!(status, 200);
    assert!(withdrawn["contestants"][1]["withdrawnAt"].is_string());
    assert!(withdrawn["contestants"][0].get("withdrawnAt").is_none());
    assert_eq!(fixture.call(WITHDRAW, id, r#"{"contestant":2}"#).await, (200, withdrawn.clone()));
    let unmarked = json!({"contestants": [{"name": "Ana", "number": 1}, {"name": "Bia", "number": 2, "withdrawnAt": null}]});
    assert_eq!(
        fixture.call(PATCH, id, &unmarked.to_string()).await,
        (200, withdrawn),
        "only withdrawing changes it"
    );
    assert_eq!(fixture.code(WITHDRAW, id, r#"{"contestant":9}"#).await, (422, json!("unknownContestant")));
    assert_eq!(fixture.code(WITHDRAW, id, r#"{"contestant":"2"}"#).await.0, 422);
    assert_eq!(fixture.code(WITHDRAW, id + 1, r#"{"contestant":2}"#).await, (404, json!("pollNotFound")));
}

#[tokio::test]
async fn an_archived_poll_leaves_the_list_until_it_is_open_again() {
    let fixture = Fixture::new().await;
    let id = fixture.created(over()).await;
    let open = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    assert_eq!(fixture.code(ARCHIVE, open, "").await, (409, json!("pollNotClosed")));
    let listed = async || fixture.ranking().current_polls().await.unwrap().unwrap().value.len();
    assert_eq!(listed().await, 2);
    let (status, archived) = fixture.call(ARCHIVE, id, "").await;
    assert!(status == 200 && archived["archivedAt"].is_string(), "{archived}");
    assert_eq!(fixture.call(ARCHIVE, id, "").await, (200, archived));
    assert_eq!(listed().await, 1);
    assert_eq!(fixture.call(OPEN, id, "").await.1["archivedAt"], json!(null));
    assert_eq!(listed().await, 2);
}

#[tokio::test]
async fn errata_stand_beside_a_certified_result() {
    let fixture = Fixture::new().await;
    let id = fixture.created(over()).await;
    assert_eq!(
        fixture.code(CORRECT, id, r#"{"text":"Ana is Anna."}"#).await,
        (409, json!("pollNotCertified"))
    );
    fixture.call(CERTIFY, id, FORCE).await;
    for text in ["", "\u{200b}", &"x".repeat(1_001)] {
        let body = json!({"text": text}).to_string();
        assert_eq!(fixture.code(CORRECT, id, &body).await, (422, json!("invalidErratum")), "{text:?}");
    }
    let (status, answer) = fixture.call(CORRECT, id, r#"{"text":"Ana is Anna."}"#).await;
    assert_eq!(
        (status, &answer["poll"], &answer["errata"][0]["text"]),
        (201, &json!(id), &json!("Ana is Anna."))
    );
    assert_eq!(fixture.call(READ, id, "").await.1["errata"], answer["errata"]);
}

#[tokio::test]
async fn the_journal_names_people_as_their_tokens_do() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    let change = async |title: &str, claims: Value| {
        let body = json!({ "title": title }).to_string();
        assert_eq!(fixture.respond_to(PATCH, id, &body, "", &json!({}), &claims).await.status(), 200);
    };
    change("a", json!({"sub": "s", "cognito:username": "c", "username": "u", "email": "e@example.com"}))
        .await;
    change("b", json!({"sub": "s", "cognito:username": "c", "username": "u", "email": " "})).await;
    change("c", json!({"sub": "s", "cognito:username": "c"})).await;
    change("d", json!({"sub": "s\u{0}"})).await;
    let who: Vec<_> = fixture.actions(id).await.into_iter().map(|(_, who)| who).collect();
    assert_eq!(who, ["s", "c", "u", "e@example.com", "crew"]);
}

#[tokio::test]
async fn every_change_is_journalled_and_the_journal_outlives_the_poll() {
    let fixture = Fixture::new().await;
    let id = fixture.created(json!({})).await;
    for (route, body) in [
        (PATCH, r#"{"title":"Who goes?"}"#),
        (OPEN, ""),
        (WITHDRAW, r#"{"contestant":2}"#),
        (CLOSE, ""),
        (ARCHIVE, ""),
        ("POST /admin/polls/{id}/rebuild", ""),
        (CERTIFY, FORCE),
        (CORRECT, r#"{"text":"Ana is Anna."}"#),
    ] {
        let (status, answer) = fixture.call(route, id, body).await;
        assert!(status < 300, "{route}: {answer}");
    }
    let actions: Vec<_> = fixture.actions(id).await.into_iter().map(|(action, _)| action).collect();
    let expected =
        ["erratum", "forceCertify", "rebuild", "archive", "close", "withdraw", "open", "patch", "create"];
    assert_eq!(actions, expected);
    let (_, journal) = fixture.call(JOURNAL, id, "").await;
    assert_eq!(journal["entries"][7]["changes"], json!({"title": {"from": "Who stays?", "to": "Who goes?"}}));
    let before = journal["entries"][1]["id"].as_i64().unwrap();
    let page = body(&fixture.respond(JOURNAL, id, "", &format!("before={before}")).await);
    assert_eq!(page["entries"].as_array().unwrap()[..], journal["entries"].as_array().unwrap()[2..]);
    assert_eq!(fixture.respond(JOURNAL, id, "", "before=0").await.status(), 400);

    let deleted = fixture.created(json!({})).await;
    assert_eq!(fixture.call(DELETE, deleted, "").await.0, 204);
    assert_eq!(fixture.actions(deleted).await[0].0, "delete");
    assert_eq!(fixture.code(JOURNAL, deleted + 1, "").await, (404, json!("pollNotFound")));
}

#[tokio::test]
async fn the_desk_reaches_an_open_poll_behind_a_hundred_newer_ones() {
    let fixture = Fixture::new().await;
    let open = fixture.created(json!({"opensAt": "2026-01-01T00:00:00Z"})).await;
    for _ in 0..101 {
        fixture.created(json!({})).await;
    }
    let list = body(&fixture.respond("GET /admin/polls", 0, "", "").await);
    assert_eq!((list["current"].as_array().unwrap().len(), &list["current"][0]["id"]), (1, &json!(open)));
    assert_eq!(list["polls"].as_array().unwrap().len(), 100);
    assert!(list["polls"].as_array().unwrap().iter().all(|poll| poll["draft"] == true));
}
