//! Generates the benchmark's votes: the same in every run, spread evenly over voters, polls and contestants.
use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use domain::{PollId, VoterHasher};
use runtime::Clock;
use time::OffsetDateTime;
use uuid::Uuid;

use emulator::sqs::{Attribute, NewMessage, Queue};

/// Number of voters: enough that a batch hardly ever has one voter twice.
const VOTERS: u64 = 1_000_000;

/// Votes of one millisecond, for their clients' ids: 9,000 votes a second.
const VOTES_PER_MS: u64 = 9;

/// Votes between a vote and its retry: those of a second, after which our page retries first.
const RETRIED_AFTER: u64 = 1_000 * VOTES_PER_MS;

/// The polls and contestants to vote for.
#[derive(Debug, Clone)]
pub struct Ballots {
    /// Open polls without a limit.
    pub polls: Vec<PollId>,
    /// Contestants of each poll, numbered from 1.
    pub contestants: u64,
}

/// Columns of the ledger, as the insert-only client sends them.
#[derive(Debug, Default)]
pub struct Columns {
    /// Keys of votes without a client's id.
    pub keys: Vec<Uuid>,
    /// Pseudonyms, as the ledger stores them.
    pub voters: Vec<i64>,
    /// The current time.
    pub cast_at: Vec<OffsetDateTime>,
    /// Poll of each vote.
    pub polls: Vec<i32>,
    /// Contestant of each vote.
    pub contestants: Vec<i16>,
}

struct Ballot {
    poll: PollId,
    contestant: u64,
    sub: String,
}

impl Ballots {
    /// Sends votes to the queue as the gateway does, numbered from `first`. With `retried`, they have ids of their
    /// clients, and so many of a hundred are sent a second time, a second of votes later.
    ///
    /// # Errors
    /// The queue rejects a message.
    pub fn cast(&self, first: u64, count: u64, retried: Option<u64>, queue: &Arc<Queue>) -> Result<()> {
        for number in first..first + count {
            self.send(number, retried.is_some(), queue)?;
            // Votes sent earlier may be of the warm-up. So a whole number of batches stays one, and none waits for its window.
            if (number - first) % 100 < retried.unwrap_or(0) {
                self.send(number.saturating_sub(RETRIED_AFTER), true, queue)?;
            }
        }
        Ok(())
    }

    fn send(&self, number: u64, with_id: bool, queue: &Arc<Queue>) -> Result<()> {
        let ballot = self.ballot(number);
        let text = |value: String| Attribute { data_type: "String".to_owned(), value };
        let request_id = text(format!("{:015x}=", mix(number) >> 4));
        let attributes = BTreeMap::from([("requestId".to_owned(), request_id)]);
        let id = if with_id { format!(r#","id":"{}""#, client_id(number)) } else { String::new() };
        let body = format!(r#"{{"poll":{},"contestant":{}{id}}}"#, ballot.poll.0, ballot.contestant);
        let group_id = Some(ballot.sub);
        queue.send(NewMessage { body, attributes, group_id, delay_seconds: None })?;
        Ok(())
    }

    /// Returns the same votes as columns, in batches of `size`.
    pub fn columns(&self, count: u64, size: u64, hasher: &VoterHasher) -> Vec<Columns> {
        let cast_at = Clock::system().now();
        let batch = |start: u64| {
            let mut columns = Columns::default();
            for number in start..(start + size).min(count) {
                let ballot = self.ballot(number);
                let message = Uuid::from_u64_pair(mix(number), mix(!number));
                columns.keys.push(hasher.message_key(ballot.poll, cast_at, message).0);
                columns.voters.push(hasher.voter(&ballot.sub).ledger_column());
                columns.cast_at.push(cast_at.into());
                columns.polls.push(ballot.poll.0);
                columns.contestants.push(ballot.contestant as i16);
            }
            columns
        };
        (0..count).step_by(size as usize).map(batch).collect()
    }

    fn ballot(&self, number: u64) -> Ballot {
        let random = mix(number);
        let poll = self.polls[(random % self.polls.len() as u64) as usize];
        let contestant = 1 + (random >> 20) % self.contestants;
        let voter = mix((random >> 40) % VOTERS);
        let sub = Uuid::from_u64_pair(voter, mix(voter)).to_string();
        Ballot { poll, contestant, sub }
    }
}

/// Returns the UUIDv7 that the client of a vote made.
fn client_id(number: u64) -> Uuid {
    let random = u128::from_be_bytes(*Uuid::from_u64_pair(mix(!number), mix(number)).as_bytes());
    let time = u128::from(1_750_000_000_000 + number / VOTES_PER_MS) << 80;
    Uuid::from_u128(time | 7 << 76 | random & 0xfff << 64 | 2 << 62 | random & ((1 << 62) - 1))
}

/// Hashes a number to a pseudo-random one (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_spread_evenly() {
        let ballots = Ballots { polls: vec![PollId(1), PollId(2)], contestants: 10 };
        let mut counts = BTreeMap::<_, u32>::new();
        for number in 0..20_000 {
            let ballot = ballots.ballot(number);
            *counts.entry((ballot.poll, ballot.contestant)).or_default() += 1;
        }
        assert_eq!(counts.len(), 20);
        assert!(counts.values().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_clients_id_is_a_uuid_of_version_7() {
        let (first, second) = (client_id(0), client_id(1));
        assert_eq!((first.get_version_num(), first.get_variant()), (7, uuid::Variant::RFC4122));
        assert_ne!(first, second);
    }

    #[test]
    fn every_row_has_a_key_of_its_own() {
        let ballots = Ballots { polls: vec![PollId(1)], contestants: 3 };
        let batches = ballots.columns(1_000, 300, &"0".repeat(64).parse().unwrap());
        assert_eq!(batches.iter().map(|batch| batch.keys.len()).collect::<Vec<_>>(), [300, 300, 300, 100]);
        let keys: std::collections::HashSet<_> = batches.iter().flat_map(|batch| &batch.keys).collect();
        assert_eq!(keys.len(), 1_000);
    }
}
