//! Files of polls that are drafts, archived, deleted or corrected.

use super::*;

#[tokio::test]
async fn a_draft_has_no_file_until_it_opens() {
    let bench = Bench::new((60, 60)).await;
    let soon = json!({"opensAt": ago(-30_000), "draft": true});
    let (draft, public) = (bench.poll(soon).await, bench.poll(json!({"opensAt": ago(-30_000)})).await);
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Busy, "it will open within the shift");
    assert!(bench.object(&draft).is_none() && bench.object(&public).is_some());
    bench.change(&draft, Action::Open, |poll, _, now| poll.opened(now)).await;
    bench.handler.tick().await.unwrap();
    assert_eq!(bench.file(&draft)["status"], "open");
}

#[tokio::test]
async fn a_draft_that_is_about_to_open_keeps_the_shift_at_work() {
    let bench = Bench::new((60, 60)).await;
    let draft = bench.poll(json!({"opensAt": ago(-30_000), "draft": true})).await;
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Busy, "else it would be published a minute late");
    assert!(bench.object(&draft).is_none());
}

#[tokio::test]
async fn a_deleted_polls_file_goes_with_it() {
    let bench = Bench::new((60, 60)).await;
    let poll = bench.poll(json!({"opensAt": ago(-30_000)})).await;
    bench.handler.tick().await.unwrap();
    assert!(bench.object(&poll).is_some());
    assert!(bench.ledger.delete_poll(poll.id, &Order::new("crew", Action::Delete)).await.unwrap());
    bench.cloud.lock().unwrap().refuses_deletions = true;
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Busy);
    assert!(bench.object(&poll).is_some(), "the bucket is away");
    bench.cloud.lock().unwrap().refuses_deletions = false;
    bench.cloud.lock().unwrap().refuses_invalidations = true;
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Busy);
    assert!(bench.object(&poll).is_none());
    bench.cloud.lock().unwrap().refuses_invalidations = false;
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Busy, "the edge was not told");
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Idle);
    let told = format!(r#"{{"paths":["/results/{}.json"]}}"#, poll.id.0);
    assert_eq!(bench.cloud.lock().unwrap().invalidations, [told]);
}

#[tokio::test]
async fn an_archived_poll_keeps_its_file() {
    let bench = Bench::new((3_600, 3_600)).await;
    let poll = bench.poll(json!({"closesAt": ago(10_000)})).await;
    bench.change(&poll, Action::Archive, |poll, _, now| poll.archived(now)).await;
    assert_eq!(bench.handler.tick().await.unwrap(), Tick::Busy, "and is certified as any other");
    assert_eq!(bench.file(&poll)["status"], "closed");
}

#[tokio::test]
async fn a_certified_file_is_written_again_with_an_erratum() {
    let bench = Bench::new((0, 60)).await;
    bench.set_queued(Some(0));
    let poll = bench.poll(json!({"closesAt": ago(10_000)})).await;
    counted(bench.count(&poll, &["alice"]).await);
    let certified = bench.certified(&poll).await;
    assert_eq!((&certified["totalVotes"], certified.get("errata")), (&json!(1), None));
    bench.change(&poll, Action::Erratum, |poll, _, now| poll.corrected("Ana was called Anna.", now)).await;
    let mut file = bench.certified(&poll).await;
    assert_eq!(file["errata"][0]["text"], "Ana was called Anna.");
    file.as_object_mut().unwrap().remove("errata");
    assert_eq!(file, certified, "and is otherwise as it was");
    let told = format!(r#"{{"paths":["/results/{}.json"]}}"#, poll.id.0);
    assert_eq!(bench.cloud.lock().unwrap().invalidations, [told.clone(), told]);
}
