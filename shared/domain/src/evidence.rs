//! Decides whether a closed poll's result may be certified: on evidence that every vote cast before the close is
//! counted.
//!
//! SQS reports neither the age of its messages nor their number for one poll, and a total that does not grow is no
//! evidence: counting may have stopped. So there is one series of probes for all polls: messages of our own that pass
//! through the votes' queue and are decided in the transaction of their batch. A result is certified when
//! 1. [`PROBES_NEEDED`] probes cast after the close are decided, and so are all earlier probes since the opening. If
//!    the queue is so full that it may reorder messages, certification waits for twice the slowest probe's latency
//!    more;
//! 2. no sign of a failed or vanished batch is so recent that the batch may not have been redelivered
//!    ([`CertificationPolicy::sign`], plus the backlog), and no batch is in flight that began before the last of
//!    these probes was decided;
//! 3. the queue's own count agrees: the queue holds no more messages than were handled between the close and the
//!    decision of these probes. Messages handled later were mostly sent later, so they do not explain messages that
//!    were in the queue at the close.
//!
//! `docs/ARCHITECTURE.md`, "Certification", states which failures stay undetected, and how likely they are.

use std::time::Duration;

use super::{CertificationPolicy, Sign, Timestamp, Waiting, WaitsFor, closing::OBSERVED_MAX};

/// The number of probes needed after a close. A standard queue spreads its messages over many servers, and twenty
/// probes reach most of them.
pub const PROBES_NEEDED: usize = 20;

/// The maximum number of probes in flight. More probes add no information while counting has stopped.
const IN_FLIGHT_MAX: usize = 60;

/// The number of probes per tick after a close, so that all are sent within two ticks.
const BURST: usize = 10;

/// The age at which an undecided probe no longer counts as in flight, neither for the counting status nor for the
/// limit of probes in flight. So purging the queue does not stop the series for good.
const PROBE_LOST_AFTER: Duration = Duration::from_secs(600);

/// The maximum gap in the series: ten ticks. A longer gap is a sign, since nothing is known of that time.
const PROBE_GAP_MAX: Duration = Duration::from_secs(30);

/// The size of a batch. A queue with no more messages delivers them all at once, in any order. A fuller queue may
/// deliver the last of twenty probes before some votes that were sent earlier, so certification then waits for twice
/// the slowest probe's latency more. If the queue stays equally full and delivers at random, 5 in 10,000 of the
/// messages that it held at the close are then left, on average: 20! · 3! / 23!.
const ONE_BATCH: u64 = 300;

/// The part of `probe_late` by which Lambda may stretch a quiet queue's batching window. The duration of a sign
/// already covers the rest: the configured window and the function's `Timeout`.
const WINDOW_STRETCH_MAX: Duration = Duration::from_secs(20);

/// How long the queue may still count a batch's messages after its commit: they are deleted after the function
/// returns.
const DELETE_DELAY_MAX: Duration = Duration::from_secs(3);

/// The maximum delay of an announcement after the start of its batch, since the batch does not await it.
const ANNOUNCE_DELAY_MAX: Duration = Duration::from_secs(1);

/// One probe in the ledger. All times come from the database's clock, except `cast_at`, which comes from the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The time just before sending.
    pub sent_at: Timestamp,
    /// The message's `SentTimestamp`, by which votes are judged. `None` while undecided.
    pub cast_at: Option<Timestamp>,
    /// The time when its batch was counted. `None` while undecided.
    pub decided_at: Option<Timestamp>,
    /// The counter of handled messages at sending. `None` if Redis did not answer.
    pub handled: Option<u64>,
    /// Whether the queue has not confirmed the message. The probe may or may not be in flight.
    pub failed: bool,
}

/// A snapshot of the pipeline that all votes pass through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The time of the observation, by the database's clock.
    pub now: Timestamp,
    /// The series of probes by time of sending: all undecided ones, and the decided ones of the last minutes.
    pub probes: Vec<Probe>,
    /// The latest sign of each kind in the ledger.
    pub signs: Vec<(Sign, Timestamp)>,
    /// The start times of batches whose announcements have not been withdrawn. Read after the probes.
    pub outstanding: Vec<Timestamp>,
    /// The queue's number of messages, in flight included. `None` if the queue does not report it. Read after the
    /// probes.
    pub queued: Option<u64>,
    /// The counter of handled messages, without probes. `None` if Redis did not answer.
    pub handled: Option<u64>,
}

/// The status of counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Probes are being decided.
    Moving,
    /// No probe has been decided since this time.
    Stopped(Timestamp),
    /// No probe has been sent recently, so the status is unknown.
    Unknown,
}

impl Observation {
    /// Decides whether the result of a poll that was open from `opens_at` to `closes_at` may be certified now.
    ///
    /// # Errors
    /// The reason to wait.
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
        let mut started_until = decided.saturating_add(ANNOUNCE_DELAY_MAX);
        if let Some((sign, at)) = self.latest_sign(opens_at, closes_at, policy) {
            let until = at.saturating_add(policy.sign + self.backlog_since(at, policy));
            if self.now < until {
                return Err(Waiting { sign: Some(sign), until: Some(until), ..waits_for_sign });
            }
            // Votes redelivered by then may be in a batch that is still in flight.
            started_until = started_until.max(until);
        }
        let may_be_in_flight =
            |&at: &Timestamp| at <= started_until && self.now < at.saturating_add(policy.sign);
        if self.outstanding.iter().any(may_be_in_flight) {
            return Err(Waiting { sign: Some(Sign::Announced), ..waits_for_sign });
        }
        // By then, a batch that vanished at the close has been redelivered.
        let is_redelivered = self.now >= closes_at.saturating_add(policy.sign);
        let explained_until = if is_redelivered { self.now } else { decided };
        match waiting.waiting {
            Some(votes) if votes <= self.handled_between(closes_at, explained_until) => Ok(()),
            _ => Err(Waiting { waits_for: WaitsFor::Queue, ..waiting }),
        }
    }

    /// Returns whether votes are being counted.
    pub fn counting(&self, policy: CertificationPolicy) -> Counting {
        let is_old = |at: Timestamp| at.saturating_add(policy.probe_late) < self.now;
        let recent =
            self.probes.iter().filter(|probe| self.now < probe.sent_at.saturating_add(PROBE_LOST_AFTER));
        let oldest = recent.filter(|probe| probe.is_in_flight()).map(|probe| probe.sent_at).min();
        let last = self.probes.iter().filter_map(|probe| probe.decided_at).max();
        match oldest.filter(|&oldest| is_old(oldest) && last.is_none_or(is_old)) {
            Some(oldest) => Counting::Stopped(last.map_or(oldest, |last| last.max(oldest))),
            None if self
                .probes
                .last()
                .is_some_and(|last| self.now <= last.sent_at.saturating_add(OBSERVED_MAX)) =>
            {
                Counting::Moving
            }
            None => Counting::Unknown,
        }
    }

    /// Returns the number of probes to send now, given the closing times of the polls that wait for certification.
    pub fn probes_due(&self, closes_at: impl IntoIterator<Item = Timestamp>) -> usize {
        let recent = |probe: &&Probe| self.now < probe.sent_at.saturating_add(PROBE_LOST_AFTER);
        let in_flight = self.probes.iter().filter(recent).filter(|probe| probe.is_in_flight()).count();
        let missing = |closes_at| {
            let is_after =
                |probe: &&Probe| !probe.failed && probe.cast_at.unwrap_or(probe.sent_at) >= closes_at;
            PROBES_NEEDED.saturating_sub(self.probes.iter().filter(is_after).count())
        };
        let due = closes_at.into_iter().map(missing).max().unwrap_or(0);
        due.clamp(1, BURST).min(IN_FLIGHT_MAX.saturating_sub(in_flight))
    }

    /// Returns the queue's number of messages without our own probes. `None` if the queue does not report it.
    pub fn votes_queued(&self) -> Option<u64> {
        let may_be_queued = |probe: &&Probe| {
            probe.decided_at.map_or(!probe.failed, |at| self.now <= at.saturating_add(DELETE_DELAY_MAX))
        };
        let ours = self.probes.iter().filter(may_be_queued).count() as u64;
        Some(self.queued?.saturating_sub(ours))
    }

    /// Returns the time when the last probe was decided that certification needs. `None` while some are undecided.
    fn decided_after(&self, opens_at: Timestamp, closes_at: Timestamp) -> Option<Timestamp> {
        let is_after = |probe: &&Probe| probe.cast_at.is_some_and(|at| at >= closes_at);
        let last_sent = self.probes.iter().filter(is_after).nth(PROBES_NEEDED - 1)?.sent_at;
        let needed = || self.probes.iter().filter(|probe| (opens_at..=last_sent).contains(&probe.sent_at));
        if needed().any(Probe::is_in_flight) {
            return None;
        }
        let decided = needed().filter_map(|probe| probe.decided_at).max()?;
        let slowest =
            needed().filter(is_after).map(|probe| probe.latency(self.now)).max().unwrap_or_default();
        let may_overtake = self.queue_length(closes_at, slowest) > ONE_BATCH;
        (!may_overtake || self.now >= decided.saturating_add(slowest * 2)).then_some(decided)
    }

    /// Estimates the queue's average length since the close from the slowest probe's latency (Little's law).
    fn queue_length(&self, closes_at: Timestamp, slowest: Duration) -> u64 {
        let since_ms = self.now.millis().saturating_sub(closes_at.millis()).max(1).unsigned_abs();
        let slowest_ms = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
        self.handled_between(closes_at, self.now).saturating_mul(slowest_ms) / since_ms
    }

    /// Returns the time by which messages wait longer than a sign's duration allows for. Redelivered messages of a
    /// failed batch wait as long.
    fn backlog_since(&self, sign: Timestamp, policy: CertificationPolicy) -> Duration {
        let probes = self.probes.iter().filter(|probe| !probe.failed && probe.sent_at >= sign);
        let slowest = probes.map(|probe| probe.latency(self.now)).max().unwrap_or_default();
        slowest.saturating_sub(policy.probe_late.saturating_sub(WINDOW_STRETCH_MAX))
    }

    /// Returns the latest sign that a batch with votes of this poll may have failed.
    fn latest_sign(
        &self,
        opens_at: Timestamp,
        closes_at: Timestamp,
        policy: CertificationPolicy,
    ) -> Option<(Sign, Timestamp)> {
        let is_late = |probe: &&Probe| {
            probe.decided_at.is_some_and(|decided| decided > probe.sent_at.saturating_add(policy.probe_late))
        };
        let late = self.probes.iter().filter(is_late).filter_map(|probe| probe.decided_at).max();
        let unsent = self.probes.iter().filter(|probe| probe.failed && probe.decided_at.is_none());
        let unsent = unsent.map(|probe| probe.sent_at).max();
        let vanished =
            self.outstanding.iter().filter(|&&at| at.saturating_add(policy.probe_late) < self.now).max();
        let found = [
            late.map(|at| (Sign::ProbeLate, at)),
            unsent.map(|at| (Sign::ProbeMissing, at)),
            self.missing(opens_at, policy),
            self.pause(opens_at.max(closes_at.saturating_sub(policy.sign)))
                .map(|at| (Sign::ProbeMissing, at)),
            vanished.map(|&at| (Sign::Announced, at)),
        ];
        self.signs.iter().copied().chain(found.into_iter().flatten()).max_by_key(|&(_, at)| at)
    }

    /// Returns a sign of the present moment if a probe is overdue.
    fn missing(&self, opens_at: Timestamp, policy: CertificationPolicy) -> Option<(Sign, Timestamp)> {
        let is_missing = |probe: &Probe| {
            probe.is_in_flight()
                && probe.sent_at >= opens_at
                && probe.sent_at.saturating_add(policy.probe_late) < self.now
        };
        self.probes.iter().any(is_missing).then_some((Sign::ProbeMissing, self.now))
    }

    /// Returns the end of the last gap in the series since `start` that was too long.
    fn pause(&self, start: Timestamp) -> Option<Timestamp> {
        let series = self.probes.iter().filter(|probe| !probe.failed).map(|probe| probe.sent_at);
        let (mut before, mut end) = (start, None);
        for sent_at in series.chain([self.now]).filter(|&at| at > start) {
            if sent_at > before.saturating_add(PROBE_GAP_MAX) {
                end = Some(sent_at);
            }
            before = sent_at;
        }
        end
    }

    /// Counts the messages handled since the last probe before the close, or since the first known probe, up to the
    /// first probe after `until`. A counter that decreased was reset together with Redis.
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
    /// Returns the time from sending until the decision, or until now.
    fn latency(&self, now: Timestamp) -> Duration {
        let until = self.decided_at.unwrap_or(now);
        let taken_ms = until.millis().saturating_sub(self.sent_at.millis());
        Duration::from_millis(u64::try_from(taken_ms).unwrap_or(0))
    }

    fn is_in_flight(&self) -> bool {
        self.decided_at.is_none() && !self.failed
    }
}

#[cfg(test)]
mod tests;
