//! How many people voted in a poll, estimated: a `HyperLogLog` for each poll, which takes 12 kB however many there are.
//! A voter added twice is one voter, so batches may come late, twice or in any order.

use redis::Pipeline;

use super::{
    Error, RankingStore,
    batches::{WHOLE_KEY, WHOLE_SINCE},
};
use domain::{PollId, Timestamp, Voters};

/// The standard error of an estimate, as a part of it: <https://redis.io/docs/latest/commands/pfcount/>
pub const VOTERS_ERROR: f64 = 0.0081;

impl RankingStore {
    /// The estimate of each poll, in the order asked for, and since when Redis has lost nothing: a poll that opened
    /// before has voters that are not in its estimate.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn voters(&self, polls: &[PollId], now: Timestamp) -> Result<(Vec<u64>, Timestamp), Error> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("EVAL").arg(WHOLE_SINCE).arg(1).arg(WHOLE_KEY);
        for &poll in polls {
            pipeline.pfcount(voters_key(poll));
        }
        let answers: Vec<i64> = self.run(&pipeline).await?;
        let (since, counts) =
            answers.split_first().map_or((now.millis(), &[][..]), |(since, rest)| (*since, rest));
        let since = Timestamp::from_millis(since).unwrap_or(now);
        Ok((counts.iter().map(|count| count.unsigned_abs()).collect(), since))
    }

    pub(super) fn add_voters(&self, pipeline: &mut Pipeline, voters: &Voters) {
        for (&poll, voters) in voters {
            let key = voters_key(poll);
            pipeline.pfadd(&key, voters).ignore();
            pipeline.expire(&key, self.lifetime_seconds.cast_signed()).ignore();
        }
    }
}

fn voters_key(poll: PollId) -> String {
    format!("voters:{}", poll.0)
}
