//! The public logs' files. Every publisher writes the same bytes, also after a failure.

use domain::{LogEntry, log_check};

use super::*;

/// Returns the objects below `/log/` with their bodies.
fn log_files(fixture: &Fixture) -> HashMap<String, (HeaderMap, Bytes)> {
    let cloud = fixture.cloud.lock().unwrap();
    let files = cloud.objects.iter().filter(|(path, _)| path.starts_with("/bucket/log/"));
    files.map(|(path, object)| (path.trim_start_matches("/bucket").to_owned(), object.clone())).collect()
}

fn bodies(fixture: &Fixture) -> HashMap<String, Bytes> {
    log_files(fixture).into_iter().map(|(path, (_, body))| (path, body)).collect()
}

/// Counts one vote of a voter and returns its entry.
async fn vote(fixture: &Fixture, poll: &Poll, sub: &str, contestant: i64) -> LogEntry {
    let id = Uuid::new_v4();
    let body = json!({"poll": poll.id.0, "contestant": contestant, "id": id}).to_string();
    let voter = fixture.hasher.voter(sub);
    let message = Message {
        id: Uuid::new_v4(),
        sent_at: ago(1_000),
        voter: Some(voter),
        request: VoteRequest::parse(&body),
    };
    let mut batch = Batch::default();
    batch.judged_by(poll.id, poll.version);
    for outcome in judge(&message, Some(poll), &fixture.hasher) {
        batch.add(&message, outcome);
    }
    counted(fixture.ledger.count(&batch).await.unwrap());
    voter.log.request(poll.id.0.into(), id).entry(0, 0)
}

/// Looks a vote up as a page does. Returns the number of the cut.
fn look_up(fixture: &Fixture, poll: &Poll, entry: LogEntry, contestant: i16) -> Option<i64> {
    let log = fixture.file(poll)["log"].clone();
    let entry = [entry.tag, log_check(&entry.opening, ContestantNumber(contestant), 1)].concat();
    let files = bodies(fixture);
    let cuts = log["cuts"].as_array().unwrap();
    let has_entry = |cut: &&Value| {
        let Some(bits) = cut["bits"].as_u64() else { return false };
        let index = u64::from(u32::from_be_bytes(*entry.first_chunk().unwrap())) >> (32 - bits);
        let path = format!("{}/{}/{index}.votes", log["at"].as_str().unwrap(), cut["cut"]);
        files[&path].as_chunks::<32>().0.iter().any(|found| found[..] == entry)
    };
    cuts.iter().find(has_entry).map(|cut| cut["cut"].as_i64().unwrap())
}

#[tokio::test]
async fn a_vote_is_found_in_the_cut_after_it() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.file(&poll).get("log"), None, "nothing is decided yet");
    let first = vote(&fixture, &poll, "alice", 2).await;
    fixture.handler.tick().await.unwrap();
    let second = vote(&fixture, &poll, "alice", 3).await;
    fixture.handler.tick().await.unwrap();
    assert_eq!((look_up(&fixture, &poll, first, 2), look_up(&fixture, &poll, second, 3)), (Some(1), Some(2)));
    assert_eq!(look_up(&fixture, &poll, second, 2), None, "a check binds the contestant");
    fixture.handler.tick().await.unwrap();
    assert_eq!(
        fixture.file(&poll)["log"]["cuts"].as_array().unwrap().len(),
        2,
        "without news there is no cut"
    );
    let files = log_files(&fixture);
    assert_eq!(files.len(), 2);
    for (path, (headers, body)) in files {
        assert_eq!(headers["cache-control"], "public, immutable", "{path}");
        assert_eq!(headers["content-type"], "application/octet-stream", "{path}");
        assert!(headers.get("content-encoding").is_none(), "{path}: random bytes");
        assert_eq!(body.len(), 32, "{path}");
    }
}

#[tokio::test]
async fn a_vote_that_does_not_count_is_found_with_its_reason() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    let entry = vote(&fixture, &poll, "alice", 99).await;
    fixture.handler.tick().await.unwrap();
    let log = fixture.file(&poll)["log"].clone();
    let cut = &log["cuts"][0];
    assert_eq!((cut.get("bits"), &cut["otherBits"]), (None, &json!(0)));
    let path = format!("{}/1/0.others", log["at"].as_str().unwrap());
    let (headers, body) = log_files(&fixture).remove(&path).unwrap();
    assert_eq!(headers["content-type"], "text/plain; charset=utf-8");
    let tag: String = entry.tag.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(body, format!("{tag} unknownContestant\n"));
}

#[tokio::test]
async fn a_large_cut_has_small_files_and_every_vote() {
    const VOTES: usize = 3_000;
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    for _ in 0..VOTES / 300 {
        counted(fixture.count(&poll, &["alice"; 300]).await);
    }
    fixture.handler.tick().await.unwrap();
    let files = bodies(&fixture);
    assert!(files.len() >= VOTES * 32 / 4_096 && files.values().all(|body| body.len() <= 4_096));
    assert_eq!(files.values().map(|body| body.len() / 32).sum::<usize>(), VOTES);
    let cut = fixture.file(&poll)["log"]["cuts"][0].clone();
    assert_eq!(1 << cut["bits"].as_u64().unwrap(), files.len());
}

/// Whatever the bucket refuses, no file that nobody wrote is named, and nothing that was published changes.
#[tokio::test]
async fn a_cut_whose_writes_fail_is_written_later_with_the_same_bytes() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    let first = vote(&fixture, &poll, "alice", 1).await;
    fixture.cloud.lock().unwrap().refuses_writes_of = Some("/log/");
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.file(&poll).get("log"), None, "the poll's file is written all the same");
    let second = vote(&fixture, &poll, "bob", 2).await;
    fixture.cloud.lock().unwrap().refuses_writes_of = None;
    fixture.handler.tick().await.unwrap();
    assert_eq!((look_up(&fixture, &poll, first, 1), look_up(&fixture, &poll, second, 2)), (Some(1), None));
    let published = bodies(&fixture);
    fixture.handler.tick().await.unwrap();
    assert_eq!(look_up(&fixture, &poll, second, 2), Some(2));
    let now = bodies(&fixture);
    assert!(published.iter().all(|(path, body)| now[path] == body));
}

/// A publisher died after the ledger had the cut, or after some of its files.
#[tokio::test]
async fn another_publisher_finishes_a_dead_ones_cut_with_the_same_bytes() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    for _ in 0..2 {
        counted(fixture.count(&poll, &["alice"; 300]).await);
    }
    fixture.handler.tick().await.unwrap();
    let written = bodies(&fixture);
    assert!(written.len() > 4);
    let sql = "UPDATE cuts SET written_at = NULL";
    sqlx::query(sql).execute(&mut fixture.scratch.connect().await.unwrap()).await.unwrap();
    fixture.cloud.lock().unwrap().objects.retain(|path, _| !path.ends_with("/0.votes"));
    counted(fixture.count(&poll, &["bob"; 300]).await);
    fixture.handler.tick().await.unwrap();
    assert_eq!(bodies(&fixture), written, "the votes counted since are in the next cut");
}

#[tokio::test]
async fn two_publishers_write_the_same_files() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    for _ in 0..5 {
        counted(fixture.count(&poll, &["alice"; 30]).await);
        let (one, other) = tokio::join!(fixture.handler.tick(), fixture.handler.tick());
        assert_eq!((one.unwrap(), other.unwrap()), (Tick::Busy, Tick::Busy));
    }
    fixture.handler.tick().await.unwrap();
    let files = bodies(&fixture);
    let entries = files.values().flat_map(|body| body.as_chunks::<32>().0);
    let (all, distinct) = (entries.clone().count(), entries.collect::<std::collections::HashSet<_>>().len());
    assert_eq!((all, distinct), (150, 150), "each vote once");
    let sql = "SELECT sum(casts)::bigint FROM cuts";
    let mut owner = fixture.scratch.connect().await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut owner).await.unwrap(), 150);
}

#[tokio::test]
async fn the_certified_file_names_the_last_cut() {
    let fixture = Fixture::new((0, 60)).await;
    fixture.set_queued(Some(0));
    let poll = fixture.poll(json!({"closesAt": ago(500)})).await;
    let entry = vote(&fixture, &poll, "alice", 2).await;
    let file = fixture.certified(&poll).await;
    assert_eq!(file["certified"], json!(true));
    assert_eq!(look_up(&fixture, &poll, entry, 2), Some(1));
    let invalidations = fixture.cloud.lock().unwrap().invalidations.len();
    let late = vote(&fixture, &fixture.reload(poll.id).await, "bob", 99).await;
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.file(&poll)["log"]["cuts"][0]["cut"], json!(2), "an outcome after the certificate");
    assert!(bodies(&fixture).values().any(|body| body.ends_with(b" unknownContestant\n")), "{late:?}");
    assert_eq!(
        fixture.cloud.lock().unwrap().invalidations.len(),
        invalidations,
        "the edge has it within a minute"
    );
}

/// One poll's log holds no standing up, nor another poll's log; and what was written is not written again.
#[tokio::test]
async fn a_bucket_that_hangs_for_one_log_delays_nothing_else() {
    let fixture = Fixture::new((60, 60)).await;
    let (large, small) = (fixture.poll(json!({})).await, fixture.poll(json!({})).await);
    for _ in 0..5 {
        counted(fixture.count(&large, &["alice"; 300]).await);
    }
    let entry = vote(&fixture, &small, "bob", 2).await;
    let hanging = format!("/{}/1/3.votes", large.id.0);
    fixture.cloud.lock().unwrap().hangs_at_writes_of = Some(hanging.clone());
    fixture.handler.tick().await.unwrap();
    assert_eq!(
        (fixture.file(&large)["totalVotes"].clone(), fixture.file(&large).get("log")),
        (json!(1_500), None)
    );
    assert_eq!(look_up(&fixture, &small, entry, 2), Some(1));
    let written = fixture.cloud.lock().unwrap().writes.clone();
    fixture.cloud.lock().unwrap().hangs_at_writes_of = None;
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.file(&large)["log"]["cuts"][0]["cut"], json!(1));
    let writes = fixture.cloud.lock().unwrap().writes[written.len()..].to_vec();
    let log_files: Vec<_> = writes.iter().filter(|path| path.starts_with("/log/")).collect();
    assert!(log_files.len() == 1 && log_files[0].ends_with(&hanging), "{log_files:?}");
}
