//! Redis is a view: after late, repeated or lost updates it converges to the ledger.

use std::{collections::BTreeMap, time::Duration};

use domain::PollWithTally;
use domain::{Action, ContestantNumber, LedgerAddress, Order, Poll, Tally};
use ledger::Ledger;
use ranking::RankingStore;
use runtime::Clock;
use serde_json::json;
use stores::Catalog;

use crate::support::{Fixture, at, uuid};

fn tally(votes: [u64; 3]) -> Tally {
    (1..).map(ContestantNumber).zip(votes).collect()
}

fn totals(poll: &Poll, votes: [u64; 3]) -> BTreeMap<(domain::PollId, i32), Tally> {
    BTreeMap::from([((poll.id, poll.epoch), tally(votes))])
}

const FRESH: Duration = Duration::from_secs(3);
const LEASE: Duration = Duration::from_secs(10);

fn catalog(ledger: &Ledger, ranking: &RankingStore) -> Catalog {
    Catalog::new(ledger.clone(), ranking.clone(), FRESH, LEASE, Clock::system())
}

/// Returns a catalog for which every cache entry is stale.
fn stale_catalog(ledger: &Ledger, ranking: &RankingStore) -> Catalog {
    Catalog::new(ledger.clone(), ranking.clone(), Duration::ZERO, LEASE, Clock::system())
}

async fn shown(catalog: &Catalog, poll: &Poll) -> Tally {
    catalog.standing(poll.id).await.unwrap().value.unwrap().tally
}

async fn title(ranking: &RankingStore, poll: &Poll) -> Option<String> {
    let kept = ranking.polls(&[poll.id]).await.unwrap().pop().flatten()?;
    kept.value.map(|poll| poll.title)
}

async fn flush(fixture: &Fixture) {
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHDB").exec_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn totals_that_arrive_late_change_nothing() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    assert_eq!(ranking.tally(&poll).await.unwrap(), None);
    ranking.raise(&totals(&poll, [5, 0, 7]), &[].into()).await.unwrap();
    ranking.raise(&totals(&poll, [4, 1, 7]), &[].into()).await.unwrap();
    assert_eq!(ranking.tally(&poll).await.unwrap(), Some(tally([5, 1, 7])));
}

#[tokio::test]
async fn totals_of_an_earlier_epoch_do_not_reach_the_ranking() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    let rebuilt = Poll { epoch: 2, ..poll.clone() };
    ranking.raise(&totals(&rebuilt, [1, 1, 1]), &[].into()).await.unwrap();
    ranking.raise(&totals(&poll, [9, 9, 9]), &[].into()).await.unwrap();
    assert_eq!(ranking.tally(&rebuilt).await.unwrap(), Some(tally([1, 1, 1])));
}

#[tokio::test]
async fn a_definition_is_never_replaced_by_an_older_one() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    let keep = async |version, title: &str| {
        let poll = Poll { version, title: title.to_owned(), ..poll.clone() };
        ranking
            .keep_polls(&[PollWithTally { poll, tally: tally([0; 3]) }], Clock::system().now())
            .await
            .unwrap();
    };
    keep(3, "new").await;
    keep(2, "old").await;
    assert_eq!(title(&ranking, &poll).await.unwrap(), "new");
    keep(10, "newest").await;
    assert_eq!(title(&ranking, &poll).await.unwrap(), "newest");
    ranking.forget_poll(poll.id).await.unwrap();
    assert_eq!(ranking.polls(&[poll.id]).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_lost_ranking_is_whole_again_when_it_is_read() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    let catalog = catalog(&fixture.ledger, &ranking);
    fixture.count(&fixture.votes(&poll, 0..300)).await;
    assert_eq!(shown(&catalog, &poll).await, tally([100; 3]), "from the ledger");
    assert_eq!(ranking.tally(&poll).await.unwrap(), Some(tally([100; 3])), "and kept");
    flush(&fixture).await;
    assert_eq!(catalog.poll(poll.id).await.unwrap(), Some(poll.clone()));
    assert_eq!(ranking.tally(&poll).await.unwrap(), Some(tally([100; 3])), "by loading the definition alone");
}

#[tokio::test]
async fn a_ranking_that_missed_a_contestant_is_not_believed() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    let catalog = catalog(&fixture.ledger, &ranking);
    fixture.count(&fixture.votes(&poll, 0..300)).await;
    let partial: Tally = [(ContestantNumber(1), 1)].into();
    ranking.raise(&BTreeMap::from([((poll.id, poll.epoch), partial)]), &[].into()).await.unwrap();
    assert_eq!(shown(&catalog, &poll).await, tally([100; 3]));
}

#[tokio::test]
async fn the_ledger_is_asked_again_once_redis_is_out_of_date() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    let catalog = catalog(&fixture.ledger, &ranking);
    let outdated = Poll { title: "outdated".to_owned(), ..poll.clone() };
    let kept = [PollWithTally { poll: outdated, tally: tally([0; 3]) }];
    ranking.keep_polls(&kept, Clock::system().now()).await.unwrap();
    assert_eq!(catalog.poll(poll.id).await.unwrap().unwrap().title, "outdated");
    for (loaded_at, source) in [(-3_001, "old"), (60_000, "of a clock that is ahead")] {
        ranking.keep_polls(&kept, at(Clock::system().now().millis() + loaded_at)).await.unwrap();
        assert_eq!(catalog.poll(poll.id).await.unwrap().unwrap().title, poll.title, "{source}");
    }
}

#[tokio::test]
async fn a_deleted_poll_is_forgotten_when_next_asked_for() {
    let fixture = Fixture::new().await;
    let scheduled = json!({"opensAt": null, "closesAt": null, "draft": false});
    let (poll, ranking) = (fixture.poll(scheduled).await, fixture.ranking());
    let catalog = stale_catalog(&fixture.ledger, &ranking);
    assert!(catalog.poll(poll.id).await.unwrap().is_some());
    fixture.ledger.delete_poll(poll.id, &Order::new("crew", Action::Delete)).await.unwrap();
    assert!(catalog.poll(poll.id).await.unwrap().is_none());
    assert_eq!(title(&ranking, &poll).await, None);
}

#[tokio::test]
async fn a_draft_does_not_exist_for_a_reader_until_it_opens() {
    let fixture = Fixture::new().await;
    let opening = Clock::system().now().millis() + 3_600_000;
    for opens_at in [json!(null), json!(at(opening))] {
        let poll = fixture.poll(json!({"opensAt": opens_at, "closesAt": null})).await;
        assert!(poll.draft, "unless it is said otherwise");
        let catalog = catalog(&fixture.ledger, &fixture.ranking());
        for source in ["the ledger", "Redis"] {
            assert_eq!(catalog.poll(poll.id).await.unwrap(), None, "{source}");
            assert!(catalog.standing(poll.id).await.unwrap().value.is_none(), "{source}");
        }
        assert!(catalog.refresh_current_polls().await.unwrap().is_empty());
        fixture.change(poll.id, |poll, _, now| poll.opened(now)).await.unwrap();
        let stale_catalog = stale_catalog(&fixture.ledger, &fixture.ranking());
        assert!(stale_catalog.poll(poll.id).await.unwrap().is_some(), "open");
        assert!(stale_catalog.standing(poll.id).await.unwrap().value.is_some());
        assert_eq!(catalog.refresh_current_polls().await.unwrap().len(), 1);
        fixture.change(poll.id, |poll, _, now| poll.closed(now)?.archived(now)).await.unwrap();
        assert!(catalog.refresh_current_polls().await.unwrap().is_empty(), "archived");
        assert!(stale_catalog.poll(poll.id).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn reads_go_on_from_redis_while_the_ledger_is_away() {
    let fixture = Fixture::new().await;
    let (poll, ranking) = (fixture.poll(json!({})).await, fixture.ranking());
    fixture.count(&fixture.votes(&poll, 0..300)).await;
    let with_ledger = stale_catalog(&fixture.ledger, &ranking);
    with_ledger.load(&[poll.id]).await.unwrap();
    with_ledger.refresh_current_polls().await.unwrap();
    let away = Ledger::new(&fixture.scratch.refusing_url().unwrap(), Duration::from_secs(5)).unwrap();
    let catalog = stale_catalog(&away, &ranking);
    assert_eq!(catalog.poll(poll.id).await.unwrap(), Some(poll.clone()));
    assert_eq!(catalog.current_polls().await.unwrap(), std::slice::from_ref(&poll));
    assert_eq!(shown(&catalog, &poll).await, tally([100; 3]));
}

/// A batch whose bodies name no poll has no totals, and a load may find no polls.
#[tokio::test]
async fn nothing_to_write_is_no_failure() {
    let fixture = Fixture::new().await;
    let ranking = fixture.ranking();
    ranking.raise(&BTreeMap::new(), &BTreeMap::new()).await.unwrap();
    ranking.keep_polls(&[], Clock::system().now()).await.unwrap();
    assert!(ranking.polls(&[]).await.unwrap().is_empty());
}

/// A backup that was restored into another instance, beside the same Redis.
#[tokio::test]
async fn a_restored_ledger_sees_nothing_that_redis_has_of_the_one_before() {
    let fixture = Fixture::new().await;
    let (poll, before) = (fixture.poll(json!({})).await, fixture.ranking());
    let mut kept = fixture.ledger.polls(&[poll.id]).await.unwrap();
    kept[0].poll.version += 1;
    kept[0].tally = tally([8_000; 3]);
    before.keep_polls(&kept, Clock::system().now()).await.unwrap();
    before.keep_current_polls(std::slice::from_ref(&poll), Clock::system().now()).await.unwrap();
    before.announce(uuid(1)).await.unwrap();
    let elsewhere = LedgerAddress::new("restored", 5432, "votes");
    let url = &fixture.scratch.redis_url;
    let restored = RankingStore::new(url, elsewhere, Duration::from_secs(5), 600).unwrap();
    assert!(restored.tally(&poll).await.unwrap().is_none());
    assert_eq!(restored.polls(&[poll.id]).await.unwrap(), [None]);
    assert!(restored.current_polls().await.unwrap().is_none());
    assert!(restored.batches(Duration::from_secs(60)).await.unwrap().outstanding.is_empty());
    assert!(before.tally(&poll).await.unwrap().is_some());
}

/// All functions use the same keys: the address has no user, password or parameter.
#[tokio::test]
async fn a_ledgers_address_is_its_server_and_database() {
    let address = |url| Ledger::new(url, Duration::ZERO).unwrap().address();
    let whole = address("postgres://votes:secret@db.example:5432/votes?sslmode=verify-full");
    assert_eq!(whole, address("postgres://owner@db.example/votes"));
    assert_eq!(whole, address("postgres://votes@db.example"), "the database of the user's name");
    for other in [
        "postgres://votes@db.example:5433/votes",
        "postgres://votes@db.example/votes2",
        "postgres://votes@b.example/votes",
    ] {
        assert_ne!(whole, address(other), "{other}");
    }
    assert_ne!(address("postgres:///votes?host=/run/one"), address("postgres:///votes?host=/run/two"));
}
