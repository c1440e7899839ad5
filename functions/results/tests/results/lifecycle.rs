//! Files of drafts, and of archived, deleted or corrected polls.

use super::*;

#[tokio::test]
async fn a_draft_has_no_file_until_it_opens() {
    let fixture = Fixture::new((60, 60)).await;
    let soon = json!({"opensAt": ago(-30_000), "draft": true});
    let (draft, public) = (fixture.poll(soon).await, fixture.poll(json!({"opensAt": ago(-30_000)})).await);
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy, "it will open within the shift");
    assert!(fixture.object(&draft).is_none() && fixture.object(&public).is_some());
    fixture.change(&draft, Action::Open, |poll, _, now| poll.opened(now)).await;
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.file(&draft)["status"], "open");
}

#[tokio::test]
async fn a_draft_that_is_about_to_open_keeps_the_shift_at_work() {
    let fixture = Fixture::new((60, 60)).await;
    let draft = fixture.poll(json!({"opensAt": ago(-30_000), "draft": true})).await;
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy, "else it would be published a minute late");
    assert!(fixture.object(&draft).is_none());
}

#[tokio::test]
async fn a_deleted_polls_file_goes_with_it() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({"opensAt": ago(-30_000)})).await;
    fixture.handler.tick().await.unwrap();
    let names = fixture.file(&poll)["names"].as_str().unwrap().to_owned();
    assert!(fixture.object_at(&names).is_some());
    assert!(fixture.ledger.delete_poll(poll.id, &Order::new("crew", Action::Delete)).await.unwrap());
    fixture.cloud.lock().unwrap().refuses_deletions = true;
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy);
    assert!(fixture.object(&poll).is_some(), "the bucket is down");
    fixture.cloud.lock().unwrap().refuses_deletions = false;
    fixture.cloud.lock().unwrap().refuses_invalidations = true;
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy);
    assert!(fixture.object(&poll).is_none() && fixture.object_at(&names).is_none());
    fixture.cloud.lock().unwrap().refuses_invalidations = false;
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy, "the invalidation was refused");
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Idle);
    let command = format!(r#"{{"paths":["/results/{}.json","{names}"]}}"#, poll.id.0);
    assert_eq!(fixture.cloud.lock().unwrap().invalidations, [command]);
}

#[tokio::test]
async fn an_archived_poll_keeps_its_file() {
    let fixture = Fixture::new((3_600, 3_600)).await;
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    fixture.change(&poll, Action::Archive, |poll, _, now| poll.archived(now)).await;
    assert_eq!(
        fixture.handler.tick().await.unwrap(),
        Tick::Busy,
        "an archived poll is certified like any other"
    );
    assert_eq!(fixture.file(&poll)["status"], "closed");
}

#[tokio::test]
async fn a_certified_file_is_written_again_with_an_erratum() {
    let fixture = Fixture::new((0, 60)).await;
    fixture.set_queued(Some(0));
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    counted(fixture.count(&poll, &["alice"]).await);
    let certified = fixture.certified(&poll).await;
    assert_eq!((&certified["totalVotes"], certified.get("errata")), (&json!(1), None));
    fixture.change(&poll, Action::Erratum, |poll, _, now| poll.corrected("Ana was called Anna.", now)).await;
    let mut file = fixture.certified(&poll).await;
    assert_eq!(file["errata"][0]["text"], "Ana was called Anna.");
    file.as_object_mut().unwrap().remove("errata");
    assert_eq!(file, certified, "nothing else changes");
    let command = format!(r#"{{"paths":["/results/{}.json"]}}"#, poll.id.0);
    assert_eq!(fixture.cloud.lock().unwrap().invalidations, [command.clone(), command]);
}
