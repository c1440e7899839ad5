//! Batches in flight. Each batch announces itself on arrival and withdraws the announcement when its votes are in the
//! ranking. A remaining announcement means that the batch failed or that its function died.
//!
//! All times come from Redis's clock and are returned as ages, so that no other clock has to agree with it.

use std::{collections::BTreeMap, time::Duration};

use redis::Pipeline;
use uuid::Uuid;

use super::{Error, RankingStore, VotersUpdate};
use domain::{PollId, Tally};

const ANNOUNCED: &str = "announced";
const HANDLED: &str = "handled";
const WHOLE_KEY: &str = "whole_since";

/// Script: adds a batch with the current time.
const ANNOUNCE: &str = "
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1";

/// Script: deletes expired announcements, and returns the ages of the others, of the data and the counter of handled
/// messages. A Redis without the key `whole_since` has restarted empty, so the script sets it.
const OBSERVE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], now, 'NX')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
local ages = {}
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for index = 2, #found, 2 do ages[#ages + 1] = now - found[index] end
return {now - redis.call('GET', KEYS[2]), tonumber(redis.call('GET', KEYS[3]) or '0'), ages}";

/// Takes an announcement back and counts the batch's messages, once: a repeated call finds no announcement. A batch that
/// could not announce itself is not counted, so it explains nothing in the queue.
const END: &str = "
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then redis.call('INCRBY', KEYS[2], ARGV[2]) end
return 1";

/// The state of batches in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// The duration for which Redis has lost no data.
    pub whole_for: Duration,
    /// Messages handled in that time, without probes.
    pub handled: u64,
    /// The ages of the announcements that have not been withdrawn.
    pub outstanding: Vec<Duration>,
}

impl RankingStore {
    /// Announces a batch. The caller sends the announcement before all other work of the batch and does not await it.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; the batch may be announced all the same.
    pub async fn announce(&self, batch: Uuid) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        let command = pipeline.cmd("EVAL").arg(ANNOUNCE).arg(1).arg(self.key(ANNOUNCED));
        command.arg(batch.to_string()).arg(self.lifetime_seconds).ignore();
        self.run(&pipeline).await
    }

    /// Raises totals like [`RankingStore::raise`]. The same round trip withdraws the batch's announcement and adds
    /// its messages, without probes, to the counter of handled messages.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; the call may have been applied in part.
    pub async fn raise_batch(
        &self,
        totals: &BTreeMap<(PollId, i32), Tally>,
        voters: &VotersUpdate,
        batch: Uuid,
        messages: u64,
    ) -> Result<(), Error> {
        let mut pipeline = self.raise_pipeline(totals, voters);
        self.add_batch_end(&mut pipeline, batch, messages);
        self.run(&pipeline).await
    }

    /// Returns the state of batches, and deletes announcements older than `kept`.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn batches(&self, kept: Duration) -> Result<Batches, Error> {
        let mut pipeline = redis::pipe();
        let command = pipeline.cmd("EVAL").arg(OBSERVE).arg(3);
        command.arg(&[ANNOUNCED, WHOLE_KEY, HANDLED].map(|name| self.key(name)));
        command.arg(kept.as_millis() as u64);
        let ((whole_ms, handled, ages_ms),): ((i64, u64, Vec<i64>),) = self.run(&pipeline).await?;
        let age = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(Batches { whole_for: age(whole_ms), handled, outstanding: ages_ms.into_iter().map(age).collect() })
    }

    fn add_batch_end(&self, pipeline: &mut Pipeline, batch: Uuid, messages: u64) {
        let command =
            pipeline.cmd("EVAL").arg(END).arg(2).arg(&[ANNOUNCED, HANDLED].map(|name| self.key(name)));
        command.arg(batch.to_string()).arg(messages).ignore();
    }
}
