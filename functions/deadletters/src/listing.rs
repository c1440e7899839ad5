//! The listing of the dead-letter queue, by reason and poll, without voters and bodies.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use domain::Timestamp;
use futures_util::future::join_all;
use runtime::telemetry::error_chain;
use serde::Serialize;

use crate::{
    dead_letter::{DeadLetter, Verdict},
    queues::{CALL_MESSAGES_MAX, Error, Queues},
};

/// Maximum number of dead letters examined for a listing: enough to show every kind of failure, and read within a
/// second.
const SAMPLE_MAX: usize = 1_000;

/// Concurrent calls.
const WORKERS: usize = 10;

/// Visibility timeout of an examined dead letter, long enough for all calls of the listing to end. The listing
/// resets it at its end; if that fails, the dead letter stays hidden for this long.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// The response.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Dead letters, as SQS estimates them.
    messages: u64,
    /// Dead letters examined.
    examined: u64,
    /// Whether some dead letters were not examined.
    approximate: bool,
    /// The oldest of the examined ones.
    oldest_cast_at: Option<Timestamp>,
    groups: Vec<Group>,
}

#[derive(Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Group {
    reason: &'static str,
    poll: Option<i64>,
    count: u64,
    oldest_cast_at: Option<Timestamp>,
}

impl Listing {
    /// Groups the sample of a queue with `messages` dead letters.
    pub fn new(messages: u64, sample: &[DeadLetter]) -> Self {
        let mut groups = BTreeMap::<Verdict, Group>::new();
        // SQS delivers at least once, so the sample may contain a dead letter twice.
        let mut seen = BTreeSet::new();
        for dead_letter in sample.iter().filter(|dead_letter| seen.insert(&dead_letter.id)) {
            let cast_at = dead_letter.cast_at();
            match groups.entry(dead_letter.verdict()) {
                Entry::Vacant(vacant) => {
                    let Verdict { reason, poll } = *vacant.key();
                    vacant.insert(Group { reason, poll, count: 1, oldest_cast_at: cast_at });
                }
                Entry::Occupied(mut occupied) => {
                    let group = occupied.get_mut();
                    group.count += 1;
                    group.oldest_cast_at = older(group.oldest_cast_at, cast_at);
                }
            }
        }
        let examined = seen.len() as u64;
        let groups: Vec<_> = groups.into_values().collect();
        Self {
            messages: messages.max(examined),
            examined,
            approximate: examined < messages,
            oldest_cast_at: groups.iter().map(|group| group.oldest_cast_at).fold(None, older),
            groups,
        }
    }
}

fn older(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

/// Returns the number of dead letters, and up to [`SAMPLE_MAX`] of them, which stay in the queue.
///
/// # Errors
/// SQS does not answer.
pub async fn sample(queues: &Queues) -> Result<(u64, Vec<DeadLetter>), Error> {
    let messages = queues.count_dead_letters().await?;
    let workers = if messages == 0 { 1 } else { WORKERS };
    let parts = join_all((0..workers).map(|_| receive_up_to(queues, SAMPLE_MAX / workers))).await;
    let (dead_letters, failures): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let dead_letters: Vec<_> = dead_letters.into_iter().flatten().collect();
    // After all workers have ended: a dead letter made visible earlier would be received again.
    make_visible(queues, &dead_letters).await;
    failures.into_iter().flatten().next().map_or(Ok((messages, dead_letters)), Err)
}

/// Receives up to `limit` dead letters, one call at a time, until the queue seems empty or a call fails.
async fn receive_up_to(queues: &Queues, limit: usize) -> (Vec<DeadLetter>, Option<Error>) {
    let mut dead_letters = Vec::new();
    while dead_letters.len() + CALL_MESSAGES_MAX <= limit {
        match queues.receive(VISIBILITY_TIMEOUT).await {
            Ok(received) if received.is_empty() => break,
            Ok(received) => dead_letters.extend(queues.parse(received)),
            Err(error) => return (dead_letters, Some(error)),
        }
    }
    (dead_letters, None)
}

async fn make_visible(queues: &Queues, dead_letters: &[DeadLetter]) {
    let receipts: Vec<_> = dead_letters.iter().map(|dead_letter| dead_letter.receipt.as_str()).collect();
    for answer in join_all(receipts.chunks(CALL_MESSAGES_MAX).map(|chunk| queues.make_visible(chunk))).await {
        if let Err(error) = answer {
            tracing::warn!(error = error_chain(&error), "dead_letters.hidden_for_a_while");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::tests::{VOTE, dead_letter};

    fn cast(id: &str, cast_at_ms: i64, body: &str) -> DeadLetter {
        let id = format!("4e2c1f0a-0000-4000-8000-00000000000{id}");
        dead_letter("alice", &id, &cast_at_ms.to_string(), body, &[])
    }

    #[test]
    fn a_listing_counts_by_reason_and_poll() {
        let sample =
            [cast("1", 3_000, VOTE), cast("2", 2_000, VOTE), cast("3", 4_000, "x"), cast("1", 3_000, VOTE)];
        let listing = serde_json::to_value(Listing::new(3, &sample)).unwrap();
        let expected = serde_json::json!({
            "messages": 3, "examined": 3, "approximate": false, "oldestCastAt": "1970-01-01T00:00:02Z",
            "groups": [
                {"reason": "notCounted", "poll": 1, "count": 2, "oldestCastAt": "1970-01-01T00:00:02Z"},
                {"reason": "notJson", "poll": null, "count": 1, "oldestCastAt": "1970-01-01T00:00:04Z"},
            ],
        });
        assert_eq!(listing, expected);
    }

    #[test]
    fn a_listing_of_a_sample_is_approximate() {
        let listing = Listing::new(5, &[cast("1", 1_000, VOTE)]);
        assert_eq!((listing.messages, listing.examined, listing.approximate), (5, 1, true));
        let late_estimate = Listing::new(0, &[cast("1", 1_000, VOTE)]);
        assert_eq!((late_estimate.messages, late_estimate.approximate), (1, false));
    }
}
