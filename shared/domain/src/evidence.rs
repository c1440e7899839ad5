//! When a closed poll's result may be certified: on evidence that every vote cast before the close is counted.
//!
//! SQS tells neither the age of what it holds nor what it holds of one poll, and votes that do not grow are no evidence:
//! perhaps nothing counts them. So there is one series of probes for all polls, messages of our own that go through the
//! votes' queue and are decided in the transaction of the batch they are in. A result is certified when
//! 1. [`PROBES_NEEDED`] probes cast after the close are decided, and with them every probe since the opening up to them;
//!    (twice as long again is waited as the slowest took, if the queue is so full that it may keep no order);
//! 2. no sign of a failed or vanished batch is so young that the batch may not have come again
//!    ([`CertificationPolicy::sign`], and the backlog), and no batch that began before the last of these probes was decided is under way;
//! 3. the queue's own count does not say otherwise: it holds no more than was handled between the close and the decision
//!    of these probes. What is handled later was mostly sent later, and explains nothing that was there at the close.
//!
//! What stays undetected, and how likely that is: `docs/ARCHITECTURE.md`, "Certification".

use std::time::Duration;

use super::{CertificationPolicy, Sign, Timestamp, Waiting, WaitsFor, closing::OBSERVED_MAX};

/// Probes after a close. A standard queue is many servers, each of which a message is on: twenty probes are on most of
/// them.
pub const PROBES_NEEDED: usize = 20;

/// Probes on their way at a time: more tell nothing when nothing is counted.
const UNDECIDED_MAX: usize = 60;

/// Probes of one tick after a close, so that all are sent within two ticks.
const BURST: usize = 10;

/// A probe that is older and undecided is taken to be lost when it is asked whether anything is counted, and how many
/// are on their way: so a queue that was purged does not silence the series for good.
const RECENT: Duration = Duration::from_secs(600);

/// A longer pause in the series is a sign: nothing is known of that time. It is ten ticks.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Messages that one batch can take all at once. A queue that holds no more hands them out together, in whatever order.
/// From one that holds more, the last of twenty probes may be handed out before some votes that were sent earlier: so it
/// is watched for twice as long again as the slowest of them took. From a queue that stays as full as it is, and hands out
/// by lot alone, 5 in 10,000 of what it held at the close are then left, on average: 20! · 3! / 23!.
const ONE_BATCH: u64 = 300;

/// Of the time in which a probe is not late, as much as Lambda may stretch a quiet queue's window by. A sign allows for the
/// rest: the window as it is set, and the function's `Timeout`.
const STRETCHED: Duration = Duration::from_secs(20);

/// How long after its commit a batch's messages may still be in the queue's count: they are deleted after the answer.
const DELETED_WITHIN: Duration = Duration::from_secs(3);

/// An announcement travels unawaited: it may arrive a little after the batch that made it began.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(1);

/// One probe as the ledger has it. All moments are the database's but `cast_at`, which is the queue's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Before it was sent.
    pub sent_at: Timestamp,
    /// The message's `SentTimestamp`, by which votes are judged; `None`: not decided.
    pub cast_at: Option<Timestamp>,
    /// When the batch it was in was counted; `None`: not yet.
    pub decided_at: Option<Timestamp>,
    /// What the counter of handled messages said when it was sent; `None`: Redis did not tell.
    pub handled: Option<u64>,
    /// The queue has not confirmed that it took it: it may or may not be on its way.
    pub failed: bool,
}

/// What is known, at one moment, of the way that all votes take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The moment, by the database's clock.
    pub now: Timestamp,
    /// The series, by the moment of sending: all undecided ones, and the decided ones of the last minutes.
    pub probes: Vec<Probe>,
    /// The latest of each kind that the ledger knows.
    pub signs: Vec<(Sign, Timestamp)>,
    /// When the batches that have announced themselves and not taken it back did so. Read after the probes.
    pub outstanding: Vec<Timestamp>,
    /// Messages that the queue says it holds, in flight included; `None`: it does not say. Read after the probes.
    pub queued: Option<u64>,
    /// The counter of handled messages that were no probes; `None`: Redis did not tell.
    pub handled: Option<u64>,
}

/// Whether anything is counted at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Probes are decided.
    Moving,
    /// None is, since then.
    Stopped(Timestamp),
    /// None has been sent lately, so nothing is known.
    Unknown,
}

impl Observation {
    /// Whether the result of a poll that was open from `opens_at` to `closes_at` may be certified now.
    ///
    /// # Errors
    /// What it waits for.
    pub fn judge(
        &self,
        opens_at: Timestamp,
        closes_at: Timestamp,
        policy: CertificationPolicy,
    ) -> Result<(), Waiting> {
        let waiting =
            Waiting { waits_for: WaitsFor::Counting, sign: None, until: None, waiting: self.votes_queued() };
        if matches!(self.counting(policy), Counting::Stopped(_)) {
            return Err(waiting);
        }
        let Some(decided) = self.decided_after(opens_at, closes_at) else {
            let missing = self.missing(opens_at, policy).map(|(sign, _)| sign);
            return Err(Waiting { waits_for: WaitsFor::Probes, sign: missing, ..waiting });
        };
        let waits_for_sign = Waiting { waits_for: WaitsFor::Sign, ..waiting };
        let mut begun_until = later(decided, ANNOUNCED_WITHIN);
        if let Some((sign, at)) = self.latest_sign(opens_at, closes_at, policy) {
            let until = later(at, policy.sign + self.backlog_since(at, policy));
            if self.now < until {
                return Err(Waiting { sign: Some(sign), until: Some(until), ..waits_for_sign });
            }
            // What came again by then may be in a batch that is not done.
            begun_until = begun_until.max(until);
        }
        let under_way = |&at: &Timestamp| at <= begun_until && self.now < later(at, policy.sign);
        if self.outstanding.iter().any(under_way) {
            return Err(Waiting { sign: Some(Sign::Announced), ..waits_for_sign });
        }
        // A batch that vanished at the close has come again by then.
        let is_back = self.now >= later(closes_at, policy.sign);
        let explained_until = if is_back { self.now } else { decided };
        match waiting.waiting {
            Some(votes) if votes <= self.handled_between(closes_at, explained_until) => Ok(()),
            _ => Err(Waiting { waits_for: WaitsFor::Queue, ..waiting }),
        }
    }

    /// Whether anything is counted at all.
    pub fn counting(&self, policy: CertificationPolicy) -> Counting {
        let is_old = |at: Timestamp| later(at, policy.probe_late) < self.now;
        let recent = self.probes.iter().filter(|probe| self.now < later(probe.sent_at, RECENT));
        let oldest = recent.filter(|probe| probe.is_on_its_way()).map(|probe| probe.sent_at).min();
        let last = self.probes.iter().filter_map(|probe| probe.decided_at).max();
        match oldest.filter(|&oldest| is_old(oldest) && last.is_none_or(is_old)) {
            Some(oldest) => Counting::Stopped(last.map_or(oldest, |last| last.max(oldest))),
            None if self.probes.last().is_some_and(|last| self.now <= later(last.sent_at, OBSERVED_MAX)) => {
                Counting::Moving
            }
            None => Counting::Unknown,
        }
    }

    /// How many probes to send now, given when the polls closed that wait for their certificates.
    pub fn probes_due(&self, closes_at: impl IntoIterator<Item = Timestamp>) -> usize {
        let recent = |probe: &&Probe| self.now < later(probe.sent_at, RECENT);
        let on_their_way = self.probes.iter().filter(recent).filter(|probe| probe.is_on_its_way()).count();
        let missing = |closes_at| {
            let is_after =
                |probe: &&Probe| !probe.failed && probe.cast_at.unwrap_or(probe.sent_at) >= closes_at;
            PROBES_NEEDED.saturating_sub(self.probes.iter().filter(is_after).count())
        };
        let due = closes_at.into_iter().map(missing).max().unwrap_or(0);
        due.clamp(1, BURST).min(UNDECIDED_MAX.saturating_sub(on_their_way))
    }

    /// What the queue says it holds, our own probes taken off; `None`: it does not say.
    pub fn votes_queued(&self) -> Option<u64> {
        let may_be_there = |probe: &&Probe| {
            probe.decided_at.map_or(!probe.failed, |at| self.now <= later(at, DELETED_WITHIN))
        };
        let ours = self.probes.iter().filter(may_be_there).count() as u64;
        Some(self.queued?.saturating_sub(ours))
    }

    /// When the last was decided of the probes that a certificate needs; `None`: they are not all decided.
    fn decided_after(&self, opens_at: Timestamp, closes_at: Timestamp) -> Option<Timestamp> {
        let is_after = |probe: &&Probe| probe.cast_at.is_some_and(|at| at >= closes_at);
        let last_sent = self.probes.iter().filter(is_after).nth(PROBES_NEEDED - 1)?.sent_at;
        let needed = || self.probes.iter().filter(|probe| (opens_at..=last_sent).contains(&probe.sent_at));
        if needed().any(Probe::is_on_its_way) {
            return None;
        }
        let decided = needed().filter_map(|probe| probe.decided_at).max()?;
        let longest =
            needed().filter(is_after).map(|probe| probe.time_taken(self.now)).max().unwrap_or_default();
        let may_overtake = self.in_queue(closes_at, longest) > ONE_BATCH;
        (!may_overtake || self.now >= later(decided, longest * 2)).then_some(decided)
    }

    /// About how many messages were in the queue at a time since the close, when each took so long.
    fn in_queue(&self, closes_at: Timestamp, longest: Duration) -> u64 {
        let since_ms = self.now.millis().saturating_sub(closes_at.millis()).max(1).unsigned_abs();
        let longest_ms = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        self.handled_between(closes_at, self.now).saturating_mul(longest_ms) / since_ms
    }

    /// By how much messages wait longer than a sign allows for: those of a failed batch do too, when they come again.
    fn backlog_since(&self, sign: Timestamp, policy: CertificationPolicy) -> Duration {
        let probes = self.probes.iter().filter(|probe| !probe.failed && probe.sent_at >= sign);
        let longest = probes.map(|probe| probe.time_taken(self.now)).max().unwrap_or_default();
        longest.saturating_sub(policy.probe_late.saturating_sub(STRETCHED))
    }

    /// The latest sign that a batch with votes of this poll may have failed.
    fn latest_sign(
        &self,
        opens_at: Timestamp,
        closes_at: Timestamp,
        policy: CertificationPolicy,
    ) -> Option<(Sign, Timestamp)> {
        let is_late = |probe: &&Probe| {
            probe.decided_at.is_some_and(|decided| decided > later(probe.sent_at, policy.probe_late))
        };
        let late = self.probes.iter().filter(is_late).filter_map(|probe| probe.decided_at).max();
        let unsent = self.probes.iter().filter(|probe| probe.failed).map(|probe| probe.sent_at).max();
        let vanished = self.outstanding.iter().filter(|&&at| later(at, policy.probe_late) < self.now).max();
        let found = [
            late.map(|at| (Sign::ProbeLate, at)),
            unsent.map(|at| (Sign::ProbeMissing, at)),
            self.missing(opens_at, policy),
            self.pause(opens_at.max(earlier(closes_at, policy.sign))).map(|at| (Sign::ProbeMissing, at)),
            vanished.map(|&at| (Sign::Announced, at)),
        ];
        self.signs.iter().copied().chain(found.into_iter().flatten()).max_by_key(|&(_, at)| at)
    }

    /// A probe that should be decided and is not: a sign of this very moment.
    fn missing(&self, opens_at: Timestamp, policy: CertificationPolicy) -> Option<(Sign, Timestamp)> {
        let is_missing = |probe: &Probe| {
            probe.is_on_its_way()
                && probe.sent_at >= opens_at
                && later(probe.sent_at, policy.probe_late) < self.now
        };
        self.probes.iter().any(is_missing).then_some((Sign::ProbeMissing, self.now))
    }

    /// The end of the last pause in the series since `start` that was too long.
    fn pause(&self, start: Timestamp) -> Option<Timestamp> {
        let series = self.probes.iter().filter(|probe| !probe.failed).map(|probe| probe.sent_at);
        let (mut before, mut end) = (start, None);
        for sent_at in series.chain([self.now]).filter(|&at| at > start) {
            if sent_at > later(before, PAUSE_MAX) {
                end = Some(sent_at);
            }
            before = sent_at;
        }
        end
    }

    /// Messages handled since the last probe before the close, or since the first one that is still known, up to the first
    /// probe after `until`. A counter that went down has begun anew with Redis.
    fn handled_between(&self, closes_at: Timestamp, until: Timestamp) -> u64 {
        let known = || self.probes.iter().filter_map(|probe| Some((probe.sent_at, probe.handled?)));
        let before = known().rfind(|&(sent_at, _)| sent_at < closes_at);
        let Some((start, first)) = before.or_else(|| known().next()) else { return 0 };
        let now = self.handled.map(|handled| (self.now, handled));
        let (mut last, mut sum) = (first, 0);
        for (at, handled) in known().filter(|&(sent_at, _)| sent_at > start).chain(now) {
            sum += handled.checked_sub(last).unwrap_or(handled);
            last = handled;
            if at > until {
                break;
            }
        }
        sum
    }
}

impl Probe {
    /// From its sending until it was decided, or until now.
    fn time_taken(&self, now: Timestamp) -> Duration {
        let until = self.decided_at.unwrap_or(now);
        let taken_ms = until.millis().saturating_sub(self.sent_at.millis());
        Duration::from_millis(u64::try_from(taken_ms).unwrap_or(0))
    }

    fn is_on_its_way(&self) -> bool {
        self.decided_at.is_none() && !self.failed
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    moved(at, i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    moved(at, i64::try_from(by.as_millis()).map_or(i64::MIN, |ms| -ms))
}

/// As far as time goes.
fn moved(at: Timestamp, by_ms: i64) -> Timestamp {
    Timestamp::from_millis(at.millis().saturating_add(by_ms)).unwrap_or(if by_ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

#[cfg(test)]
mod tests;
