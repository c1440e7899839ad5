//! What is in the dead-letter queue, by what can be said of it. Never a voter, never a body.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    time::Duration,
};

use domain::Timestamp;
use futures_util::future::join_all;
use serde::Serialize;

use crate::{
    dead_letter::{DeadLetter, Verdict},
    queues::{CALL_MESSAGES_MAX, Error, Queues},
};

/// Dead letters looked at for one listing: enough to tell kinds of trouble apart, and read within a second.
const SAMPLE_MAX: usize = 1_000;

/// Calls under way at a time.
const WORKERS: usize = 10;

/// Hides what is looked at from the same listing's other calls; long enough for all of them to end. Only where giving
/// back fails does it hide anything from others for so long.
const HIDDEN: Duration = Duration::from_secs(30);

/// The answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// Dead letters, as SQS estimates them.
    messages: u64,
    /// Those looked at.
    examined: u64,
    /// Whether the groups leave some out.
    approximate: bool,
    /// Of those looked at.
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
    /// Of `messages` dead letters, `sample` were looked at.
    pub fn new(messages: u64, sample: &[DeadLetter]) -> Self {
        let mut groups = BTreeMap::<Verdict, Group>::new();
        // Delivery is at least once: one letter may be in the sample twice.
        let mut seen = BTreeSet::new();
        for letter in sample.iter().filter(|letter| seen.insert(&letter.id)) {
            let cast_at = letter.cast_at();
            match groups.entry(letter.verdict()) {
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

/// How many dead letters there are, and up to [`SAMPLE_MAX`] of them, which stay where they are.
///
/// # Errors
/// When SQS does not answer.
pub async fn sample(queues: &Queues) -> Result<(u64, Vec<DeadLetter>), Error> {
    let messages = queues.dead_letters().await?;
    let workers = if messages == 0 { 1 } else { WORKERS };
    let looks = join_all((0..workers).map(|_| look(queues, SAMPLE_MAX / workers))).await;
    let (letters, failures): (Vec<_>, Vec<_>) = looks.into_iter().unzip();
    let letters: Vec<_> = letters.into_iter().flatten().collect();
    // Not before all have looked: what is shown again would be looked at again.
    show_again(queues, &letters).await;
    failures.into_iter().flatten().next().map_or(Ok((messages, letters)), Err)
}

/// Looks at up to `limit` dead letters, a call at a time, until there seem to be no more or a call fails.
async fn look(queues: &Queues, limit: usize) -> (Vec<DeadLetter>, Option<Error>) {
    let mut letters = Vec::new();
    while letters.len() + CALL_MESSAGES_MAX <= limit {
        match queues.receive(HIDDEN).await {
            Ok(received) if received.is_empty() => break,
            Ok(received) => letters.extend(queues.letters(received)),
            Err(error) => return (letters, Some(error)),
        }
    }
    (letters, None)
}

async fn show_again(queues: &Queues, letters: &[DeadLetter]) {
    let receipts: Vec<_> = letters.iter().map(|letter| letter.receipt.as_str()).collect();
    for answer in join_all(receipts.chunks(CALL_MESSAGES_MAX).map(|chunk| queues.show_again(chunk))).await {
        if let Err(error) = answer {
            tracing::warn!(error = &error as &dyn std::error::Error, "dead_letters.hidden_for_a_while");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::tests::{VOTE, letter};

    fn cast(id: &str, cast_at_ms: i64, body: &str) -> DeadLetter {
        let id = format!("4e2c1f0a-0000-4000-8000-00000000000{id}");
        letter("alice", &id, &cast_at_ms.to_string(), body, &[])
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
    fn what_was_not_looked_at_is_said_to_be_left_out() {
        let listing = Listing::new(5, &[cast("1", 1_000, VOTE)]);
        assert_eq!((listing.messages, listing.examined, listing.approximate), (5, 1, true));
        let late_estimate = Listing::new(0, &[cast("1", 1_000, VOTE)]);
        assert_eq!((late_estimate.messages, late_estimate.approximate), (1, false));
    }
}
