//! The list of polls, the files of their names, and what a poll's file says of both.

use domain::Patch;

use super::*;

fn patch(changes: Value) -> Patch {
    serde_json::from_value(changes).unwrap()
}

impl Fixture {
    async fn patch(&self, poll: &Poll, changes: Value) {
        self.change(poll, Action::Patch, |poll, facts, now| poll.patched(patch(changes.clone()), facts, now))
            .await;
    }

    /// Runs a tick and returns the paths that it wrote, in order.
    async fn writes(&self) -> Vec<String> {
        self.cloud.lock().unwrap().writes.clear();
        self.handler.tick().await.unwrap();
        self.cloud.lock().unwrap().writes.clone()
    }

    fn names_path(&self, poll: &Poll) -> String {
        self.file(poll)["names"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn names_are_in_a_file_of_their_own_that_is_written_once_per_change() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    let (list, file) = ("/results/polls.json".to_owned(), format!("/results/{}.json", poll.id.0));
    let first = fixture.writes().await;
    let names = fixture.names_path(&poll);
    assert_eq!(first, [names.clone(), list.clone(), file.clone()], "before the files that name it");
    let (headers, content) = fixture.object_at(&names).unwrap();
    assert_eq!(headers["cache-control"], "public, immutable");
    assert_eq!(
        (&content["title"], &content["contestants"][2]["name"]),
        (&json!("Who stays?"), &json!("Caio"))
    );
    assert_eq!(fixture.list()["polls"][0]["names"], names);
    assert!(!fixture.file(&poll).to_string().contains("Caio"));
    assert_eq!(fixture.writes().await, [list.clone(), file.clone()]);

    fixture.patch(&poll, json!({"closesAt": ago(-600_000)})).await;
    assert_eq!(fixture.writes().await, [list, file], "another window");
    fixture.patch(&poll, json!({"title": "Who goes?"})).await;
    let changed = fixture.writes().await;
    assert_eq!(changed[0], fixture.names_path(&poll));
    assert_ne!(changed[0], names);
    assert_eq!(fixture.list()["polls"][0]["names"], changed[0]);
    assert!(fixture.object_at(&names).is_some(), "a page may still ask for the one before");
}

#[tokio::test]
async fn a_names_file_goes_a_day_after_nothing_names_it() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({"opensAt": ago(-3_600_000)})).await;
    fixture.handler.handle(Start::Woken).await.unwrap();
    let first = fixture.list()["polls"][0]["names"].as_str().unwrap().to_owned();
    fixture.patch(&poll, json!({"title": "Who goes?"})).await;
    fixture.handler.handle(Start::Woken).await.unwrap();
    let second = fixture.list()["polls"][0]["names"].as_str().unwrap().to_owned();
    let mut owner = fixture.scratch.connect().await.unwrap();
    let mut a_day_passes = async || {
        let sql = "UPDATE names_files SET unused_since = unused_since - interval '25 hours'";
        sqlx::query(sql).execute(&mut owner).await.unwrap();
        fixture.handler.handle(Start::Scheduled).await.unwrap();
    };
    fixture.cloud.lock().unwrap().refuses_deletions = true;
    a_day_passes().await;
    fixture.cloud.lock().unwrap().refuses_deletions = false;
    assert!(fixture.object_at(&first).is_some(), "the bucket is down");
    a_day_passes().await;
    assert!(fixture.object_at(&first).is_none() && fixture.object_at(&second).is_some());
    fixture.patch(&poll, json!({"title": "Who stays?"})).await;
    fixture.handler.handle(Start::Woken).await.unwrap();
    assert!(fixture.object_at(&first).is_some(), "written again");
    a_day_passes().await;
    assert!(fixture.object_at(&first).is_some() && fixture.object_at(&second).is_none());
}

#[tokio::test]
async fn no_file_names_names_that_are_not_there() {
    let fixture = Fixture::new((60, 60)).await;
    let (poll, other) = (fixture.poll(json!({})).await, fixture.poll(json!({})).await);
    fixture.cloud.lock().unwrap().refuses_writes_of = Some(".names-");
    fixture.handler.tick().await.unwrap();
    assert!(fixture.object(&poll).is_none() && fixture.object(&other).is_none());
    assert_eq!(fixture.list()["polls"][0].get("names"), None);
    fixture.cloud.lock().unwrap().refuses_writes_of = None;
    fixture.handler.tick().await.unwrap();
    for poll in [&poll, &other] {
        assert!(fixture.object_at(&fixture.names_path(poll)).is_some());
    }
    fixture.cloud.lock().unwrap().refuses_writes_of = Some(".names-");
    let before = fixture.names_path(&poll);
    fixture.patch(&poll, json!({"title": "Who goes?"})).await;
    fixture.count(&fixture.reload(other.id).await, &["alice"]).await;
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.names_path(&poll), before);
    assert_eq!(fixture.file(&other)["totalVotes"], 1, "the other poll goes on");
}

#[tokio::test]
async fn a_certified_file_has_all_names_and_needs_no_other() {
    let fixture = Fixture::new((0, 60)).await;
    fixture.set_queued(Some(0));
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    fixture.handler.tick().await.unwrap();
    let names = fixture.names_path(&poll);
    let file = fixture.certified(&poll).await;
    assert_eq!((&file["certified"], &file["title"]), (&json!(true), &json!("Who stays?")));
    assert_eq!(
        (&file["contestants"][0]["name"], &file["ranking"][0]["name"]),
        (&json!("Ana"), &json!("Ana"))
    );
    assert!(file.get("names").is_none() && file.get("listVersion").is_none(), "{file}");
    assert_eq!(fixture.list()["polls"][0].get("names"), None);
    assert!(fixture.object_at(&names).is_some(), "the edge may have a file that names it");
    let unused: Vec<String> =
        sqlx::query_scalar("SELECT hash FROM names_files WHERE unused_since IS NOT NULL")
            .fetch_all(&mut fixture.scratch.connect().await.unwrap())
            .await
            .unwrap();
    assert_eq!(unused.len(), 1);
}

/// Each of these changes wakes a shift, which finds no poll to publish.
#[tokio::test]
async fn the_list_has_each_change_with_the_next_shift() {
    let fixture = Fixture::new((60, 60)).await;
    let mut version = 0;
    let mut listed = async || {
        fixture.handler.handle(Start::Woken).await.unwrap();
        let now = fixture.list()["listVersion"].as_i64().unwrap();
        assert!(now > version, "{now} after {version}");
        version = now;
        fixture.listed()
    };
    let poll = fixture.poll(json!({"opensAt": ago(-3_600_000), "draft": true})).await;
    assert!(listed().await.is_empty(), "a draft");
    fixture.patch(&poll, json!({"draft": false})).await;
    assert_eq!(listed().await, [i64::from(poll.id.0)]);
    fixture.patch(&poll, json!({"opensAt": ago(-7_200_000)})).await;
    listed().await;
    assert_eq!(fixture.list()["polls"][0]["opensAt"], json!(fixture.reload(poll.id).await.opens_at));
    fixture.ledger.delete_poll(poll.id, &Order::new("crew", Action::Delete)).await.unwrap();
    // The deletion's second pass is due in four minutes, so no shift stays at work for it.
    assert!(listed().await.is_empty());
}

#[tokio::test]
async fn a_poll_opened_and_closed_within_a_minute_is_listed_each_time() {
    let fixture = Fixture::new((3_600, 3_600)).await;
    let poll = fixture.poll(json!({"opensAt": null})).await;
    for (action, status) in [(Action::Open, "open"), (Action::Close, "closed")] {
        fixture
            .change(
                &poll,
                action,
                |poll, _, now| {
                    if action == Action::Open { poll.opened(now) } else { poll.closed(now) }
                },
            )
            .await;
        fixture.handler.tick().await.unwrap();
        let (list, file, now) = (fixture.list(), fixture.file(&poll), fixture.reload(poll.id).await);
        assert_eq!(file["status"], status);
        assert_eq!((&file["listVersion"], &file["nextInSeconds"]), (&list["listVersion"], &json!(3)));
        assert_eq!(list["polls"][0]["opensAt"], json!(now.opens_at));
        assert_eq!(list["polls"][0]["closesAt"], json!(now.closes_at));
        assert_eq!(list["nextInSeconds"], 3);
    }
    fixture.change(&poll, Action::Archive, |poll, _, now| poll.archived(now)).await;
    fixture.handler.tick().await.unwrap();
    assert!(fixture.listed().is_empty() && fixture.object(&poll).is_some());
}

/// Nobody presses a button at this moment, and viewers of another poll are to learn of it.
#[tokio::test]
async fn a_draft_that_opens_by_the_clock_makes_a_newer_list() {
    let fixture = Fixture::new((60, 60)).await;
    let other = fixture.poll(json!({})).await;
    let draft = fixture.poll(json!({"opensAt": ago(-3_600_000), "draft": true})).await;
    fixture.handler.tick().await.unwrap();
    let before = fixture.list()["listVersion"].as_i64().unwrap();
    let sql = "UPDATE polls SET opens_at = clock_timestamp() WHERE id = $1";
    sqlx::query(sql).bind(draft.id.0).execute(&mut fixture.scratch.connect().await.unwrap()).await.unwrap();
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.listed().len(), 2);
    assert!(fixture.list()["listVersion"].as_i64().unwrap() > before);
    assert_eq!(fixture.file(&other)["listVersion"], fixture.list()["listVersion"]);
}

#[tokio::test]
async fn an_idle_service_writes_the_list_once() {
    let fixture = Fixture::new((60, 60)).await;
    fixture.poll(json!({"opensAt": ago(-3_600_000)})).await;
    assert_eq!(fixture.writes().await.len(), 2, "its names and the list");
    assert!(fixture.writes().await.is_empty());
    fixture.poll(json!({"opensAt": ago(-3_600_000)})).await;
    fixture.cloud.lock().unwrap().refuses_writes_of = Some("polls.json");
    assert_eq!(fixture.writes().await.len(), 1);
    fixture.cloud.lock().unwrap().refuses_writes_of = None;
    assert_eq!(fixture.writes().await, ["/results/polls.json"], "what failed is tried again");
}

#[tokio::test]
async fn the_crew_sets_the_pace_of_file_and_list() {
    let fixture = Fixture::new((60, 60)).await;
    let opened_long_ago = json!({"opensAt": ago(600_000), "closesAt": ago(-600_000)});
    let poll = fixture.poll(opened_long_ago).await;
    for (pace, seconds) in [(json!("auto"), 10), (json!(3), 3), (json!(5), 5), (json!(10), 10)] {
        fixture.patch(&poll, json!({ "pace": pace })).await;
        fixture.handler.tick().await.unwrap();
        assert_eq!(fixture.file(&poll)["nextInSeconds"], seconds);
        assert_eq!(fixture.list()["nextInSeconds"], seconds);
    }
}
