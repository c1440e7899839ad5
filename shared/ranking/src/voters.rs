//! Estimates of a poll's distinct voters: one `HyperLogLog` for each poll, which takes 12 kB for any number of
//! voters. A voter added twice counts once, so batches may arrive late, twice or in any order.

use redis::Pipeline;

use super::{
    Error, RankingStore,
    batches::{WHOLE_KEY, WHOLE_SINCE},
};
use domain::{PollId, Timestamp, Voters};

/// The relative standard error of an estimate: <https://redis.io/docs/latest/commands/pfcount/>
pub const VOTERS_ERROR: f64 = 0.0081;

impl RankingStore {
    /// Returns the estimate of each poll in the requested order, and the time since when Redis has lost no data. The
    /// estimate of a poll that opened before that time lacks voters.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn voters(&self, polls: &[PollId], now: Timestamp) -> Result<(Vec<u64>, Timestamp), Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("EVAL").arg(WHOLE_SINCE).arg(1).arg(self.key(WHOLE_KEY));
        for &poll in polls {
            pipeline.pfcount(self.voters_key(poll));
        }
        let answers: Vec<i64> = self.run(&pipeline).await?;
        let (since, counts) =
            answers.split_first().map_or((now.millis(), &[][..]), |(since, rest)| (*since, rest));
        let since = Timestamp::from_millis(since).unwrap_or(now);
        Ok((counts.iter().map(|count| count.unsigned_abs()).collect(), since))
    }

    pub(super) fn add_voters(&self, pipeline: &mut Pipeline, voters: &Voters) {
        for (&poll, voters) in voters {
            let key = self.voters_key(poll);
            pipeline.pfadd(&key, voters).ignore();
            pipeline.expire(&key, self.lifetime_seconds.cast_signed()).ignore();
        }
    }

    pub(super) fn voters_key(&self, poll: PollId) -> String {
        self.key(format_args!("voters:{}", poll.0))
    }
}
