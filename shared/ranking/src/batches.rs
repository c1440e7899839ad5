//! Batches that are under way: each announces itself on arrival, and takes that back when its votes are in the ranking.
//! An announcement that stays tells of a batch that failed or whose function died.
//!
//! All moments are Redis's own, and leave here as ages: no other clock need agree with it.

use std::{collections::BTreeMap, time::Duration};

use redis::Pipeline;
use uuid::Uuid;

use super::{Error, RankingStore, Voters};
use domain::{PollId, Tally};

const ANNOUNCED: &str = "announced";
const HANDLED: &str = "handled";
pub(super) const WHOLE_KEY: &str = "whole_since";

/// Adds a batch.
const ANNOUNCE: &str = "
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1";

/// Since when Redis has lost nothing, by its own clock; one that does not know has begun anew.
pub(super) const WHOLE_SINCE: &str = "
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), 'NX')
return tonumber(redis.call('GET', KEYS[1]))";

/// Forgets batches that announced themselves too long ago, and answers the rest. A Redis that does not know since when
/// it is whole has begun anew.
const OBSERVE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[2], now, 'NX')
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
local ages = {}
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for index = 2, #found, 2 do ages[#ages + 1] = now - found[index] end
return {now - redis.call('GET', KEYS[2]), tonumber(redis.call('GET', KEYS[3]) or '0'), ages}";

/// What Redis knows of batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// How long Redis has lost nothing.
    pub whole_for: Duration,
    /// Messages handled, without probes, since Redis is whole.
    pub handled: u64,
    /// How long ago each batch announced itself that has not taken it back.
    pub outstanding: Vec<Duration>,
}

impl RankingStore {
    /// Announces that a batch is under way. Sent before anything else of the batch, and not to be waited for.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; it may be announced all the same.
    pub async fn announce(&self, batch: Uuid) -> Result<(), Error> {
        let mut pipeline = redis::pipe();
        let command = pipeline.cmd("EVAL").arg(ANNOUNCE).arg(1).arg(ANNOUNCED);
        command.arg(batch.to_string()).arg(self.lifetime_seconds).ignore();
        self.run(&pipeline).await
    }

    /// As [`RankingStore::raise`], and in the same round trip takes the batch's announcement back and adds its messages,
    /// of which none is a probe, to those handled.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`]; some of it may have been done.
    pub async fn raise_batch(
        &self,
        totals: &BTreeMap<(PollId, i32), Tally>,
        voters: &Voters,
        batch: Uuid,
        messages: u64,
    ) -> Result<(), Error> {
        let mut pipeline = self.raising(totals, voters);
        end(&mut pipeline, batch, messages);
        self.run(&pipeline).await
    }

    /// What is known of batches. Forgets announcements that are older than `kept`.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn batches(&self, kept: Duration) -> Result<Batches, Error> {
        let mut pipeline = redis::pipe();
        let command = pipeline.cmd("EVAL").arg(OBSERVE).arg(3).arg(ANNOUNCED).arg(WHOLE_KEY).arg(HANDLED);
        command.arg(kept.as_millis() as u64);
        let ((whole_ms, handled, ages_ms),): ((i64, u64, Vec<i64>),) = self.run(&pipeline).await?;
        let age = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Ok(Batches { whole_for: age(whole_ms), handled, outstanding: ages_ms.into_iter().map(age).collect() })
    }
}

fn end(pipeline: &mut Pipeline, batch: Uuid, messages: u64) {
    pipeline.zrem(ANNOUNCED, batch.to_string()).ignore();
    pipeline.cmd("INCRBY").arg(HANDLED).arg(messages).ignore();
}
