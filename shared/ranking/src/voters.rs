//! Estimates of a poll's distinct voters: one `HyperLogLog` for each poll, which takes 12 kB for any number of
//! voters. A voter added twice counts once, so batches may arrive late, twice or in any order.
//!
//! A marker for each poll says that no voter is missing. The batch with the poll's first votes sets it. A later batch
//! that finds no voters deletes it, since Redis has lost or evicted them.

use std::collections::BTreeSet;

use redis::Pipeline;

use super::{Error, RankingStore};
use domain::{PollId, Voters};

/// The relative standard error of an estimate: <https://redis.io/docs/latest/commands/pfcount/>
pub const VOTERS_ERROR: f64 = 0.0081;

/// Script: sets or deletes a poll's marker, then adds voters. Keys: voters, marker. Arguments: lifetime, 1 if the votes are
/// the poll's first, voters. Lua passes on only some thousand arguments at a time.
const ADD_VOTERS: &str = "
if ARGV[2] == '1' then redis.call('SET', KEYS[2], 1)
elseif redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
for index = 3, #ARGV, 1000 do
  redis.call('PFADD', KEYS[1], unpack(ARGV, index, math.min(index + 999, #ARGV)))
end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1";

/// Voters to add to the estimates.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct VotersUpdate {
    /// The voters by poll.
    pub voters: Voters,
    /// The polls whose first votes are those of these voters. A concurrent later batch may have reached Redis before.
    pub first: BTreeSet<PollId>,
    /// Polls that have lost voters: they have no estimate any more.
    pub lost: BTreeSet<PollId>,
}

impl RankingStore {
    /// Returns the estimate of each poll in the requested order. `None` where voters may be missing, and where nobody
    /// has voted yet.
    ///
    /// # Errors
    /// [`Error::Outage`], [`Error::Defect`].
    pub async fn voters(&self, polls: &[PollId]) -> Result<Vec<Option<u64>>, Error> {
        let mut pipeline = redis::pipe();
        for &poll in polls {
            // The marker is read last: a batch that adds voters to evicted ones deletes it first.
            pipeline.pfcount(self.voters_key(poll));
            pipeline.exists(&[self.voters_key(poll), self.whole_key(poll)]);
        }
        let answers: Vec<u64> = self.run(&pipeline).await?;
        Ok(answers.chunks_exact(2).map(|answer| (answer[1] == 2).then_some(answer[0])).collect())
    }

    pub(super) fn add_voters(&self, pipeline: &mut Pipeline, update: &VotersUpdate) {
        for (&poll, voters) in &update.voters {
            let is_first = u8::from(update.first.contains(&poll));
            let command = pipeline.cmd("EVAL").arg(ADD_VOTERS).arg(2);
            command.arg(&[self.voters_key(poll), self.whole_key(poll)]);
            command.arg(self.lifetime_seconds).arg(is_first).arg(voters).ignore();
        }
        for &poll in &update.lost {
            pipeline.del(self.whole_key(poll)).ignore();
        }
    }

    pub(super) fn voters_key(&self, poll: PollId) -> String {
        self.key(format_args!("voters:{}", poll.0))
    }

    pub(super) fn whole_key(&self, poll: PollId) -> String {
        self.key(format_args!("voters_whole:{}", poll.0))
    }
}
