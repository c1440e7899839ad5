//! Results through the handler, against real stores and a fake of S3 and SQS.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

#[path = "results/cuts.rs"]
mod cuts;
#[path = "results/lifecycle.rs"]
mod lifecycle;
#[path = "results/public_files.rs"]
mod public_files;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri},
};
use domain::{
    Action, Basis, ContestantNumber, Facts, Invalid, Message, Order, Poll, PollId, ProbeId, Recount, Sign,
    Timestamp, VoteRequest, VoterHasher, WaitsFor, judge,
};
use flate2::read::GzDecoder;
use ledger::{Batch, Certified, Counted, Ledger, Outcome};
use local_stores::scratch::Scratch;
use ranking::{RankingStore, VotersUpdate};
use results::{Handler, Start, Tick};
use runtime::Clock;
use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(20);

/// The state of the fake S3 and SQS.
#[derive(Default)]
struct Cloud {
    objects: HashMap<String, (HeaderMap, Bytes)>,
    /// Messages in the queue; `None` while SQS is down.
    queued: Option<u64>,
    /// Messages sent to the invalidations queue.
    invalidations: Vec<String>,
    refuses_invalidations: bool,
    /// Probes sent and not delivered yet.
    probes: Vec<(ProbeId, String)>,
    refuses_probes: bool,
    refuses_deletions: bool,
    /// Paths with this text are not written.
    refuses_writes_of: Option<&'static str>,
    /// Writes of paths with this end are not answered.
    hangs_at_writes_of: Option<String>,
    /// Paths in the order of their writes.
    writes: Vec<String>,
}

type Shared = Arc<Mutex<Cloud>>;

struct Fixture {
    scratch: Scratch,
    ledger: Ledger,
    ranking: RankingStore,
    hasher: VoterHasher,
    handler: Handler,
    cloud: Shared,
}

async fn answer(
    State(cloud): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (u16, String) {
    let hanging = cloud.lock().unwrap().hangs_at_writes_of.clone();
    if method == Method::PUT && hanging.is_some_and(|end| uri.path().ends_with(&end)) {
        std::future::pending::<()>().await;
    }
    let mut cloud = cloud.lock().unwrap();
    assert!(headers["authorization"].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 "), "signed");
    if method == Method::DELETE {
        if cloud.refuses_deletions {
            return (503, String::new());
        }
        cloud.objects.remove(uri.path());
        return (204, String::new());
    }
    if method == Method::PUT {
        if cloud.refuses_writes_of.is_some_and(|text| uri.path().contains(text)) {
            return (503, String::new());
        }
        cloud.writes.push(uri.path().trim_start_matches("/bucket").to_owned());
        cloud.objects.insert(uri.path().to_owned(), (headers, body));
        return (200, String::new());
    }
    if headers["x-amz-target"] == "AmazonSQS.SendMessage" {
        let message: Value = serde_json::from_slice(&body).unwrap();
        let text = message["MessageBody"].as_str().unwrap();
        if message["QueueUrl"] == "http://queue" {
            if cloud.refuses_probes {
                return (503, String::new());
            }
            let signature = message["MessageAttributes"]["probe"]["StringValue"].as_str().unwrap();
            cloud.probes.push((ProbeId::read(text).unwrap(), signature.to_owned()));
            return (200, json!({"MessageId": "1"}).to_string());
        }
        if cloud.refuses_invalidations {
            return (503, String::new());
        }
        assert_eq!(message["QueueUrl"], "http://invalidations");
        cloud.invalidations.push(text.to_owned());
        return (200, json!({"MessageId": "1"}).to_string());
    }
    let Some(queued) = cloud.queued else { return (503, String::new()) };
    let attributes = json!({"ApproximateNumberOfMessages": queued.to_string(),
        "ApproximateNumberOfMessagesNotVisible": "0", "ApproximateNumberOfMessagesDelayed": "0"});
    (200, json!({"Attributes": attributes}).to_string())
}

async fn cloud() -> (Shared, String) {
    let cloud = Shared::default();
    let respond = |state, method, uri, headers, body| async move {
        let (status, text) = answer(state, method, uri, headers, body).await;
        (axum::http::StatusCode::from_u16(status).unwrap(), text)
    };
    let router = Router::new().fallback(respond).with_state(Arc::clone(&cloud));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (cloud, endpoint)
}

impl Fixture {
    /// With `CERTIFY_SIGN_SECONDS` and `PROBE_LATE_SECONDS` of the policy.
    async fn new(policy: (u32, u32)) -> Self {
        Self::with(policy, |_| None).await
    }

    /// A fixture whose environment has the variables that `change` returns.
    async fn with(policy: (u32, u32), change: impl Fn(&str) -> Option<String>) -> Self {
        let scratch = Scratch::new().await.unwrap();
        let (cloud, endpoint) = cloud().await;
        let lookup = |name: &str| {
            change(name).or_else(|| match name {
                "RESULTS_BUCKET" => Some("bucket".to_owned()),
                "VOTES_QUEUE_URL" => Some("http://queue".to_owned()),
                "INVALIDATIONS_QUEUE_URL" => Some("http://invalidations".to_owned()),
                "CALL_TIMEOUT_MS" => Some("5000".to_owned()),
                "LIVE_CACHE_CONTROL" => Some("public, s-maxage=3".to_owned()),
                "CERTIFIED_CACHE_CONTROL" => Some("public, s-maxage=60".to_owned()),
                "IMMUTABLE_CACHE_CONTROL" => Some("public, immutable".to_owned()),
                "CERTIFY_SIGN_SECONDS" => Some(policy.0.to_string()),
                "PROBE_LATE_SECONDS" => Some(policy.1.to_string()),
                "AWS_ENDPOINT_URL" => Some(endpoint.clone()),
                "AWS_REGION" | "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
                _ => scratch.environment(name),
            })
        };
        let ledger = Ledger::new(&scratch.database_url, LIMIT).unwrap();
        Self {
            ranking: RankingStore::new(&scratch.redis_url, ledger.address(), LIMIT, 600).unwrap(),
            ledger,
            hasher: scratch.environment("VOTER_HASH_KEY").unwrap().parse().unwrap(),
            handler: Handler::new(&lookup, Clock::system()).unwrap(),
            scratch,
            cloud,
        }
    }

    async fn poll(&self, changes: Value) -> Poll {
        let mut draft = json!({"title": "Who stays?", "opensAt": ago(60_000), "draft": false,
            "contestants": [{"name": "Ana"}, {"name": "Bia"}, {"name": "Caio"}]});
        draft.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self.ledger.create_poll(&serde_json::from_value(draft).unwrap(), "crew").await.unwrap().poll
    }

    /// Changes a poll by a rule, as the admin function does.
    async fn change(
        &self,
        poll: &Poll,
        action: Action,
        rule: impl Fn(&Poll, &Facts, Timestamp) -> Result<Poll, Invalid>,
    ) {
        self.ledger.change_poll(poll.id, &Order::new("crew", action), rule).await.unwrap().unwrap();
    }

    async fn reload(&self, id: PollId) -> Poll {
        self.ledger.polls(&[id]).await.unwrap().pop().unwrap().poll
    }

    /// Counts votes cast 30 s ago by these voters, for the contestants in turn, judged by the given definition.
    async fn count(&self, poll: &Poll, voters: &[&str]) -> Outcome {
        let mut batch = Batch::default();
        batch.judged_by(poll.id, poll.version);
        for (index, voter) in voters.iter().enumerate() {
            let body = json!({"poll": poll.id.0, "contestant": index % 3 + 1}).to_string();
            let message = Message {
                id: Uuid::new_v4(),
                sent_at: ago(30_000),
                voter: Some(self.hasher.voter(voter)),
                request: VoteRequest::parse(&body),
            };
            for outcome in judge(&message, Some(poll), &self.hasher) {
                batch.add(&message, outcome);
            }
        }
        self.ledger.count(&batch).await.unwrap()
    }

    fn object(&self, poll: &Poll) -> Option<(HeaderMap, Value)> {
        self.object_at(&format!("/results/{}.json", poll.id.0))
    }

    fn object_at(&self, path: &str) -> Option<(HeaderMap, Value)> {
        let cloud = self.cloud.lock().unwrap();
        let (headers, body) = cloud.objects.get(&format!("/bucket{path}"))?;
        let mut text = String::new();
        GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
        Some((headers.clone(), serde_json::from_str(&text).unwrap()))
    }

    fn list(&self) -> Value {
        self.object_at("/results/polls.json").unwrap().1
    }

    /// Returns the numbers of the listed polls.
    fn listed(&self) -> Vec<i64> {
        let list = self.list();
        list["polls"].as_array().unwrap().iter().map(|poll| poll["id"].as_i64().unwrap()).collect()
    }

    fn file(&self, poll: &Poll) -> Value {
        self.object(poll).unwrap().1
    }

    fn set_queued(&self, queued: Option<u64>) {
        self.cloud.lock().unwrap().queued = queued;
    }

    /// Runs the ticks that a poll needs when it waits for nothing but its probes: two send the probes, one freezes
    /// and certifies it, one publishes it. The probes are counted after each tick.
    async fn certified(&self, poll: &Poll) -> Value {
        for _ in 0..4 {
            self.handler.tick().await.unwrap();
            self.count_probes().await;
        }
        self.file(poll)
    }

    /// Counts the sent probes, as `functions/votes` does.
    async fn count_probes(&self) {
        let mut batch = Batch::default();
        for (probe, signature) in std::mem::take(&mut self.cloud.lock().unwrap().probes) {
            assert!(probe.is_signed(&signature, &self.hasher));
            batch.probe(probe, Clock::system().now());
        }
        counted(self.ledger.count(&batch).await.unwrap());
    }

    /// Returns what a closed poll waits for, as last observed.
    async fn waits_for(&self, poll: &Poll) -> Option<(WaitsFor, Option<Sign>)> {
        let closing = self.ledger.closing(poll.id, poll.closes_at.unwrap()).await.unwrap();
        closing.waiting.map(|waiting| (waiting.waits_for, waiting.sign))
    }
}

fn ago(ms: i64) -> Timestamp {
    Timestamp::from_millis(Clock::system().now().millis() - ms).unwrap()
}

fn counted(outcome: Outcome) -> Counted {
    let Outcome::Counted(counted) = outcome else { panic!("judged by an old definition") };
    counted
}

#[tokio::test]
async fn an_open_poll_is_published_compressed_and_cacheable() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    counted(fixture.count(&poll, &["alice", "bob", "alice"]).await);
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy);
    let (headers, file) = fixture.object(&poll).unwrap();
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "public, s-maxage=3");
    assert_eq!(
        (&file["totalVotes"], &file["certified"], &file["status"]),
        (&json!(3), &json!(false), &json!("open"))
    );
    assert_eq!(
        fixture.ranking.tally(&poll).await.unwrap().unwrap().values().sum::<u64>(),
        3,
        "the ranking is repaired"
    );
}

/// A backup that was restored under the same address, beside a Redis that has seen the votes lost with it.
#[tokio::test]
async fn a_ranking_ahead_of_the_ledger_is_replaced_by_the_ledgers() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    let other = fixture.poll(json!({})).await;
    counted(fixture.count(&poll, &["alice", "bob", "carol"]).await);
    counted(fixture.count(&other, &["alice"]).await);
    let mut loaded = fixture.ledger.polls(&[poll.id]).await.unwrap();
    *loaded[0].tally.get_mut(&ContestantNumber(2)).unwrap() += 8_000;
    loaded[0].poll.version += 5;
    loaded[0].poll.title = "of another history".to_owned();
    fixture.ranking.keep_polls(&loaded, Clock::system().now()).await.unwrap();
    fixture.handler.tick().await.unwrap();
    let tally: Vec<_> = fixture.ranking.tally(&poll).await.unwrap().unwrap().into_values().collect();
    assert_eq!(tally, [1, 1, 1]);
    let cached = fixture.ranking.polls(&[poll.id]).await.unwrap().pop().unwrap().unwrap().value.unwrap();
    assert_eq!((cached.title, cached.version), (poll.title.clone(), poll.version));
    assert_eq!(fixture.ranking.tally(&other).await.unwrap().unwrap().values().sum::<u64>(), 1);
}

#[tokio::test]
async fn with_nothing_to_publish_a_tick_is_idle() {
    let fixture = Fixture::new((60, 60)).await;
    fixture.poll(json!({"opensAt": ago(-3_600_000)})).await;
    fixture.poll(json!({"opensAt": null})).await;
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Idle);
    fixture.handler.handle(Start::Scheduled).await.unwrap();
}

#[tokio::test]
async fn one_works_at_a_time() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    let lease = fixture.ranking.claim("results", LIMIT).await.unwrap().unwrap();
    fixture.handler.handle(Start::Woken).await.unwrap();
    assert!(fixture.object(&poll).is_none());
    assert!(fixture.ranking.renew(&lease, LIMIT).await.unwrap());
}

#[tokio::test]
async fn who_is_started_while_the_holder_ends_takes_over() {
    let fixture = Fixture::new((60, 60)).await;
    for start in [Start::Woken, Start::Scheduled] {
        let lease = fixture.ranking.claim("results", LIMIT).await.unwrap().unwrap();
        let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
        fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap();
        let ends = async {
            // The holder releases the lease after the new shift has found it taken.
            tokio::task::yield_now().await;
            fixture.ranking.release(lease).await.unwrap();
        };
        let (handled, ()) = tokio::join!(fixture.handler.handle(start), ends);
        handled.unwrap();
        assert_eq!(fixture.file(&poll)["certified"], true, "{start:?}");
    }
}

#[tokio::test]
async fn voters_are_estimated_where_none_is_missing() {
    let fixture = Fixture::new((60, 60)).await;
    let poll = fixture.poll(json!({})).await;
    let turnout = async || {
        fixture.handler.tick().await.unwrap();
        fixture.file(&poll)["turnout"].clone()
    };
    assert_eq!(turnout().await, json!({"votes": 0, "voters": 0, "votersError": 0.0081}), "nobody has voted");
    let add = async |voters: Vec<i64>, is_first: bool| {
        let first = is_first.then_some(poll.id).into_iter().collect();
        let update = VotersUpdate { voters: [(poll.id, voters)].into(), first, ..VotersUpdate::default() };
        fixture.ranking.raise_batch(&[].into(), &update, Uuid::new_v4(), 0).await.unwrap();
    };
    counted(fixture.count(&poll, &["alice", "bob", "carol", "bob"]).await);
    assert_eq!(turnout().await, json!({"votes": 4, "voters": null, "votersError": null}), "on their way");
    add(vec![1, 2, 3, 2], true).await;
    assert_eq!(turnout().await, json!({"votes": 4, "voters": 3, "votersError": 0.0081}));
    add(vec![3, 4], false).await;
    assert_eq!(turnout().await["voters"], 4);
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    assert_eq!(turnout().await, json!({"votes": 4, "voters": null, "votersError": null}), "all are lost");
    add(vec![5], false).await;
    assert_eq!(turnout().await["voters"], json!(null), "some are lost");
}

#[tokio::test]
async fn a_withheld_standing_is_in_no_file() {
    let fixture = Fixture::new((60, 60)).await;
    for results in ["afterClose", "hidden"] {
        let poll = fixture.poll(json!({ "results": results })).await;
        counted(fixture.count(&poll, &["alice", "bob", "carol", "dave"]).await);
        fixture.handler.tick().await.unwrap();
        let file = fixture.file(&poll);
        assert_eq!(file["turnout"]["votes"], 4);
        for word in ["ranking", "share", "totalVotes", "rank"] {
            assert!(!file.to_string().contains(&format!("\"{word}\"")), "{results}: {file}");
        }
    }
}

#[tokio::test]
async fn a_closed_poll_is_certified_on_evidence() {
    let fixture = Fixture::new((0, 60)).await;
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    counted(fixture.count(&poll, &["alice", "bob", "alice", "carol"]).await);
    fixture.set_queued(Some(1_000));
    assert_eq!(fixture.certified(&poll).await["certified"], false, "votes are in the queue");
    assert_eq!(fixture.waits_for(&poll).await, Some((WaitsFor::Queue, None)));
    fixture.set_queued(None);
    assert_eq!(fixture.certified(&poll).await["certified"], false, "the queue does not answer");
    assert_eq!(fixture.waits_for(&poll).await, Some((WaitsFor::Queue, None)));
    fixture.set_queued(Some(0));
    let file = fixture.certified(&poll).await;
    assert_eq!((&file["certified"], &file["totalVotes"]), (&json!(true), &json!(4)));
    assert_eq!(file["turnout"], json!({"votes": 4, "voters": 3, "votersError": 0.0}));
    assert_eq!(file["certificate"]["basis"], "evidence");
    assert_eq!(fixture.object(&poll).unwrap().0["cache-control"], "public, s-maxage=60");
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Idle, "it is final");
}

/// Covers a consumer that is switched off, failing, throttled or locked out. An empty queue and a constant number of
/// votes prove nothing.
#[tokio::test]
async fn while_nothing_is_counted_nothing_is_certified() {
    let fixture = Fixture::new((0, 0)).await;
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    fixture.set_queued(Some(0));
    for _ in 0..8 {
        fixture.handler.tick().await.unwrap();
    }
    assert_eq!(fixture.file(&poll)["certified"], false);
    assert_eq!(fixture.waits_for(&poll).await, Some((WaitsFor::Counting, None)));
    assert_eq!(fixture.cloud.lock().unwrap().probes.len(), 20 + 6, "a burst, and the series goes on");
    fixture.count_probes().await;
    assert_eq!(fixture.certified(&poll).await["certified"], true, "as soon as votes are counted");
}

#[tokio::test]
async fn every_sign_of_a_failed_batch_is_waited_for() {
    let fixture = Fixture::new((3_600, 60)).await;
    fixture.set_queued(Some(0));
    let opened = fixture.poll(json!({"opensAt": ago(1_000), "closesAt": ago(500)})).await;
    assert_eq!(fixture.certified(&opened).await["certified"], true, "there was no sign");

    let poll = fixture.poll(json!({"opensAt": ago(1_000), "closesAt": ago(0)})).await;
    let batch = Uuid::new_v4();
    fixture.ranking.announce(batch).await.unwrap();
    assert_eq!(fixture.certified(&poll).await["certified"], false);
    assert_eq!(
        fixture.waits_for(&poll).await,
        Some((WaitsFor::Sign, Some(Sign::Announced))),
        "the batch is in flight"
    );
    fixture.ranking.raise_batch(&[].into(), &VotersUpdate::default(), batch, 300).await.unwrap();
    assert_eq!(fixture.certified(&poll).await["certified"], true, "the batch has ended");

    let poll = fixture.poll(json!({"opensAt": ago(1_000), "closesAt": ago(0)})).await;
    fixture.cloud.lock().unwrap().refuses_probes = true;
    fixture.handler.tick().await.unwrap();
    fixture.cloud.lock().unwrap().refuses_probes = false;
    assert_eq!(fixture.certified(&poll).await["certified"], false);
    assert_eq!(fixture.waits_for(&poll).await, Some((WaitsFor::Sign, Some(Sign::ProbeMissing))));

    let mut again = Batch::default();
    again.signs(true, false);
    counted(fixture.ledger.count(&again).await.unwrap());
    fixture.handler.tick().await.unwrap();
    assert_eq!(
        fixture.waits_for(&poll).await,
        Some((WaitsFor::Sign, Some(Sign::Redelivered))),
        "the latest sign"
    );

    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut age = fixture.scratch.connect().await.unwrap();
    let sql = "UPDATE probes SET sent_at = sent_at - interval '5 s' WHERE id = (SELECT min(id) FROM probes)";
    sqlx::query(sql).execute(&mut age).await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
    fixture.handler.tick().await.unwrap();
    assert_eq!(
        fixture.waits_for(&poll).await,
        Some((WaitsFor::Sign, Some(Sign::RedisAway))),
        "Redis lost announcements"
    );
}

#[tokio::test]
async fn without_redis_results_are_published_and_not_certified() {
    let fixture =
        Fixture::with((3_600, 60), |name| (name == "REDIS_URL").then(|| "redis://127.0.0.1:1".to_owned()))
            .await;
    fixture.set_queued(Some(0));
    let poll = fixture.poll(json!({"opensAt": ago(1_000), "closesAt": ago(500)})).await;
    assert_eq!(fixture.certified(&poll).await["certified"], false);
    assert_eq!(fixture.waits_for(&poll).await, Some((WaitsFor::Sign, Some(Sign::RedisAway))));
}

#[tokio::test]
async fn what_goes_wrong_with_one_poll_does_not_stop_the_next() {
    let fixture = Fixture::new((0, 60)).await;
    fixture.set_queued(Some(0));
    let mut polls = Vec::new();
    for _ in 0..4 {
        polls.push(fixture.poll(json!({"closesAt": ago(10_000)})).await);
    }
    let [first, locked, unreadable, last] = polls.as_slice() else { panic!() };
    let mut owner = fixture.scratch.connect().await.unwrap();
    let sql = "UPDATE polls SET contestants = '7' WHERE id = $1";
    sqlx::query(sql).bind(unreadable.id.0).execute(&mut owner).await.unwrap();
    let mut transaction = owner.begin().await.unwrap();
    let sql = "SELECT FROM polls WHERE id = $1 FOR UPDATE";
    sqlx::query(sql).bind(locked.id.0).execute(&mut *transaction).await.unwrap();
    for poll in [first, last] {
        assert_eq!(fixture.certified(poll).await["certified"], true);
    }
    assert_eq!(fixture.file(locked)["certified"], false);
    assert!(fixture.object(unreadable).is_none());
    transaction.rollback().await.unwrap();
    assert_eq!(fixture.certified(locked).await["certified"], true);
}

#[tokio::test]
async fn every_poll_that_is_open_or_not_certified_is_published() {
    let fixture = Fixture::new((60, 60)).await;
    let oldest = fixture.poll(json!({})).await;
    let mut newest = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    for _ in 0..110 {
        newest = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    }
    fixture.handler.tick().await.unwrap();
    for poll in [&oldest, &newest] {
        assert_eq!(fixture.file(poll)["poll"], poll.id.0);
    }
    assert_eq!(
        fixture.cloud.lock().unwrap().objects.len(),
        2 * 112 + 1,
        "a file of figures and one of names each, and the list"
    );
}

#[tokio::test]
async fn what_the_queue_holds_is_passed_on_to_the_crew() {
    let fixture = Fixture::new((60, 60)).await;
    fixture.poll(json!({})).await;
    fixture.set_queued(None);
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.ranking.backlog().await.unwrap(), None, "the queue does not answer");
    fixture.set_queued(Some(1_204));
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.ranking.backlog().await.unwrap().unwrap().messages, 1_203, "a probe is no vote");
}

#[tokio::test]
async fn while_others_vote_the_queue_need_not_be_empty() {
    let fixture = Fixture::new((0, 60)).await;
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    fixture.set_queued(Some(1_000));
    assert_eq!(fixture.certified(&poll).await["certified"], false);
    let batch = Uuid::new_v4();
    fixture.ranking.announce(batch).await.unwrap();
    fixture.ranking.raise_batch(&[].into(), &VotersUpdate::default(), batch, 1_000).await.unwrap();
    assert_eq!(
        fixture.certified(&poll).await["certificate"]["basis"],
        "evidence",
        "as many messages were handled since"
    );
}

#[tokio::test]
async fn a_vote_that_comes_after_certification_is_late_and_changes_nothing() {
    let fixture = Fixture::new((0, 60)).await;
    fixture.set_queued(Some(0));
    let before = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    counted(fixture.count(&before, &["alice"]).await);
    let certified = fixture.certified(&before).await;
    assert!(matches!(fixture.count(&before, &["bob"]).await, Outcome::Stale), "judged before it was frozen");
    let frozen = fixture.reload(before.id).await;
    let late = counted(fixture.count(&frozen, &["bob", "carol"]).await);
    assert_eq!((late.counted, late.rejected), (0, [("late".to_owned(), 2)].into()));
    let audit = fixture.ledger.audit(before.id, LIMIT).await.unwrap();
    assert_eq!(audit.rejected["late"], 2);
    assert_eq!(audit.ledger, audit.tally);
    let certificate = fixture.ledger.certificate(before.id).await.unwrap().unwrap();
    assert_eq!(certificate.tally.values().sum::<u64>(), 1);
    assert_eq!(certified["certificate"]["rejected"], json!({}));
}

#[tokio::test]
async fn a_certified_file_is_final_once_the_edge_is_to_forget_the_one_before() {
    let fixture = Fixture::new((0, 60)).await;
    fixture.set_queued(Some(0));
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    fixture.cloud.lock().unwrap().refuses_invalidations = true;
    assert_eq!(fixture.certified(&poll).await["certified"], true);
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy, "the invalidation was refused");
    fixture.cloud.lock().unwrap().refuses_invalidations = false;
    fixture.handler.tick().await.unwrap();
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Idle);
    let command = format!(r#"{{"paths":["/results/{}.json"]}}"#, poll.id.0);
    assert_eq!(fixture.cloud.lock().unwrap().invalidations, [command]);
}

#[tokio::test]
async fn the_digest_is_that_of_the_votes_in_any_pieces() {
    let fixture = Fixture::new((0, 0)).await;
    let mut digests = Vec::new();
    for rows in [1, 2, 1_000] {
        let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
        counted(fixture.count(&poll, &["alice", "bob", "carol", "dave", "erin"]).await);
        assert_eq!(fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap(), Some(Certified::Now));
        let mut pieces = 0;
        while !fixture.ledger.advance_supplement(poll.id, rows, LIMIT).await.unwrap() {
            pieces += 1;
        }
        assert_eq!(pieces, 5 / rows, "a piece that is not full is the last");
        let mut connection = fixture.scratch.connect().await.unwrap();
        let expected: Vec<u8> = sqlx::query_scalar(
            "SELECT sha256(convert_to(string_agg(concat_ws(',', key, (extract(epoch FROM cast_at) * 1000)::bigint, voter, \
             contestant, coalesce(ballot::text, ''), count) || E'\\n', '' ORDER BY key), 'UTF8')) FROM votes WHERE poll = $1",
        )
        .bind(poll.id.0)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        let certificate = fixture.ledger.certificate(poll.id).await.unwrap().unwrap();
        assert_eq!(certificate.recount(), Some(Recount::Equal));
        let digest = certificate.supplement.unwrap().digest;
        assert_eq!(digest, expected, "in pieces of {rows}");
        digests.push(digest);
    }
    assert_ne!(digests[0], digests[1], "the votes differ");
}

#[tokio::test]
async fn a_certificate_comes_at_once_and_its_supplement_says_what_a_recount_found() {
    let fixture = Fixture::new((0, 0)).await;
    let poll = fixture.poll(json!({"closesAt": ago(10_000)})).await;
    counted(fixture.count(&poll, &["alice", "bob", "alice"]).await);
    fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap();
    let mut owner = fixture.scratch.connect().await.unwrap();
    sqlx::query("DELETE FROM votes WHERE contestant = 1").execute(&mut owner).await.unwrap();
    assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Busy);
    let first = fixture.file(&poll);
    assert_eq!((&first["certified"], &first["totalVotes"]), (&json!(true), &json!(3)));
    assert_eq!(first["certificate"].get("digest"), None, "{first}");
    fixture.handler.tick().await.unwrap();
    let after = fixture.file(&poll);
    assert_eq!(after["certificate"]["recount"], "different");
    assert_eq!(after["turnout"], json!({"votes": 3, "voters": 2, "votersError": 0.0}));
    for field in ["ranking", "totalVotes", "asOf"] {
        assert_eq!(after[field], first[field], "the certificate stays");
    }
}

#[tokio::test]
async fn what_is_open_cannot_be_certified() {
    let fixture = Fixture::new((0, 0)).await;
    let poll = fixture.poll(json!({})).await;
    assert_eq!(fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap(), Some(Certified::NotClosed));
    assert_eq!(fixture.ledger.certify(PollId(poll.id.0 + 1), Basis::Forced).await.unwrap(), None);
    assert_eq!(counted(fixture.count(&poll, &["alice"]).await).counted, 1);
}

#[tokio::test]
async fn what_comes_late_is_in_the_file_and_a_later_certificate_is_a_file_of_its_own() {
    let fixture = Fixture::new((60, 60)).await;
    for results in ["live", "hidden"] {
        let poll = fixture.poll(json!({"closesAt": ago(10_000), "results": results})).await;
        counted(fixture.count(&poll, &["alice"]).await);
        fixture.ledger.certify(poll.id, Basis::Forced).await.unwrap();
        let first = fixture.certified(&poll).await;
        assert_eq!((&first["certified"], first.get("late")), (&json!(true), None), "{first}");
        let frozen = fixture.reload(poll.id).await;
        counted(fixture.count(&frozen, &["bob", "carol"]).await);
        fixture.handler.tick().await.unwrap();
        let file = fixture.file(&poll);
        assert_eq!((&file["late"]["votes"], file.get("laterCertificates")), (&json!(2), None), "{file}");
        assert_eq!(file["late"]["firstAt"], file["late"]["lastAt"]);
        assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Idle, "the late votes are published");

        let order = Order::new("crew", Action::SecondCertificate);
        fixture.ledger.issue_later_certificate(poll.id, &order).await.unwrap();
        fixture.handler.tick().await.unwrap();
        assert_eq!(fixture.file(&poll), file, "the file names no certificate before it is there");
        fixture.handler.tick().await.unwrap();
        let path = format!("/results/{}.certificate-2.json", poll.id.0);
        let after = fixture.file(&poll);
        assert_eq!(after["laterCertificates"], json!([path]));
        for field in ["certificate", "turnout", "ranking", "totalVotes", "asOf"] {
            assert_eq!(after[field], first[field], "{field} stays");
        }
        let (headers, document) = fixture.object_at(&path).unwrap();
        assert_eq!(headers["cache-control"], "public, s-maxage=60");
        assert_eq!(document["first"]["digest"], first["certificate"]["digest"]);
        assert_eq!(
            (&document["number"], &document["late"]["votes"], &document["votes"]),
            (&json!(2), &json!(2), &json!(3))
        );
        assert_eq!(document.to_string().contains("contestants"), results == "live", "{document}");
        assert_eq!(fixture.handler.tick().await.unwrap(), Tick::Idle, "it is final");
    }
}
