//! An estimate of a poll's voters is given only where none is missing.

use domain::{ContestantNumber, PollId};
use ranking::{RankingStore, VotersUpdate};

use crate::support::{Fixture, uuid};

const POLL: PollId = PollId(1);

/// Sends a batch of voters, and a total of the first contestant.
async fn send(ranking: &RankingStore, total: u64, voters: &[i64], is_first: bool) {
    let totals = [((POLL, 1), [(ContestantNumber(1), total)].into())].into();
    let first = is_first.then_some(POLL).into_iter().collect();
    let update = VotersUpdate { voters: [(POLL, voters.to_vec())].into(), first, ..VotersUpdate::default() };
    ranking.raise_batch(&totals, &update, uuid(1), 0).await.unwrap();
}

async fn estimate(ranking: &RankingStore) -> Option<u64> {
    ranking.voters(&[POLL]).await.unwrap().pop().unwrap()
}

/// Deletes the voters, as Redis does when its memory is full.
async fn evict_voters(fixture: &Fixture) {
    let client = redis::Client::open(fixture.scratch.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}:voters:1", fixture.ledger.address());
    let deleted: u64 = redis::cmd("DEL").arg(key).query_async(&mut connection).await.unwrap();
    assert_eq!(deleted, 1);
}

#[tokio::test]
async fn the_first_batch_makes_an_estimate_whole_in_any_order_of_arrival() {
    let fixture = Fixture::new().await;
    let ranking = fixture.ranking();
    assert_eq!(estimate(&ranking).await, None);
    send(&ranking, 5, &[4, 5], false).await;
    assert_eq!(estimate(&ranking).await, None, "the first votes are missing");
    send(&ranking, 3, &[1, 2, 3], true).await;
    assert_eq!(estimate(&ranking).await, Some(5));
    let many: Vec<_> = (0..12_500).collect();
    send(&ranking, 13_000, &many, false).await;
    let voters = estimate(&ranking).await.unwrap();
    assert!(voters.abs_diff(12_500) < 500, "{voters}");
}

#[tokio::test]
async fn an_evicted_estimate_is_not_taken_for_whole() {
    let fixture = Fixture::new().await;
    let ranking = fixture.ranking();
    send(&ranking, 3, &[1, 2, 3], true).await;
    evict_voters(&fixture).await;
    assert_eq!(estimate(&ranking).await, None);
    for voter in [4, 5] {
        send(&ranking, 5, &[voter], false).await;
        assert_eq!(estimate(&ranking).await, None, "three are missing");
    }
}

#[tokio::test]
async fn a_poll_that_has_lost_voters_has_no_estimate() {
    let fixture = Fixture::new().await;
    let ranking = fixture.ranking();
    send(&ranking, 3, &[1, 2, 3], true).await;
    let lost = VotersUpdate { lost: [POLL].into(), ..VotersUpdate::default() };
    ranking.raise_batch(&[].into(), &lost, uuid(1), 0).await.unwrap();
    assert_eq!(estimate(&ranking).await, None);
}
