//! The reasons for which the certification of a closed poll waits, as types and as sentences for the crew.
//! [`Observation`](super::Observation) decides when certification need not wait.
//!
//! To add a reason or a sign: 1. Add the variant, its name and its place in `ALL`. 2. Add its sentence to the
//! `Display` of [`Waiting`]. 3. Return it from `evidence.rs`. 4. Name it in `docs/openapi.yaml` and `frontend/text`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Timestamp;

/// The maximum age of a valid observation. `functions/results` makes one every 3 s.
pub const OBSERVED_MAX: Duration = Duration::from_secs(30);

/// The waiting times of certification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificationPolicy {
    /// How long a sign of a failed batch counts: until the batch has been redelivered, which takes the queue's
    /// `VisibilityTimeout`, the function's `Timeout` and the batching window.
    pub sign: Duration,
    /// The age at which a probe is late. It exceeds the time from sending to commit in a healthy queue: the batching
    /// window, which a quiet queue may stretch to 20 s, and the function's `Timeout`.
    pub probe_late: Duration,
}

impl CertificationPolicy {
    /// Returns the retention of observation data: as long as a sign counts, and 15 minutes more for late arrivals.
    pub fn kept(self) -> Duration {
        self.sign + Duration::from_secs(900)
    }
}

/// The basis for the assumption that no vote is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// Probes passed through the queue after the close, and no sign contradicts them.
    Evidence,
    /// No evidence: the crew forced the certificate.
    Forced,
}

/// A sign that a batch has failed or vanished, so that its votes will be redelivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sign {
    /// A message was delivered again, so a batch had failed.
    Redelivered,
    /// A batch announced itself and never withdrew the announcement.
    Announced,
    /// A probe was decided late.
    ProbeLate,
    /// A probe is overdue, could not be sent, or was not sent when one was due.
    ProbeMissing,
    /// Redis, which holds the announcements, was unavailable or has lost data.
    RedisAway,
}

/// The condition that certification waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitsFor {
    /// Counting has stopped.
    Counting,
    /// Not all probes sent after the close are decided.
    Probes,
    /// The latest sign of a failed batch is too recent.
    Sign,
    /// The queue reports more messages than were handled since the close, or reports nothing.
    Queue,
    /// There was no recent observation.
    #[serde(rename = "look")]
    Observation,
}

/// The reason why a result is not certified now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The condition that certification waits for.
    pub waits_for: WaitsFor,
    /// The sign that delays certification.
    pub sign: Option<Sign>,
    /// The time when the sign expires. `None` if unknown.
    pub until: Option<Timestamp>,
    /// The votes in the queue. `None` if the queue does not report them.
    pub waiting: Option<u64>,
}

/// The last observation of a closed poll that is not frozen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// The age of the observation. `None` if there was none since the close.
    pub observed: Option<Duration>,
    /// The reason to wait. `None`: there was none.
    pub waiting: Option<Waiting>,
}

impl Basis {
    /// Returns the name in the ledger and in the certificate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Forced => "forced",
        }
    }

    /// Returns the basis with this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Evidence, Self::Forced].into_iter().find(|basis| basis.name() == name)
    }
}

impl Sign {
    const ALL: [Self; 5] =
        [Self::Redelivered, Self::Announced, Self::ProbeLate, Self::ProbeMissing, Self::RedisAway];

    /// Returns the name in the ledger and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redelivered => "redelivered",
            Self::Announced => "announced",
            Self::ProbeLate => "probeLate",
            Self::ProbeMissing => "probeMissing",
            Self::RedisAway => "redisAway",
        }
    }

    /// Returns the sign with this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sign| sign.name() == name)
    }
}

impl WaitsFor {
    const ALL: [Self; 5] = [Self::Counting, Self::Probes, Self::Sign, Self::Queue, Self::Observation];

    /// Returns the name in the ledger and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Probes => "probes",
            Self::Sign => "sign",
            Self::Queue => "queue",
            Self::Observation => "look",
        }
    }

    /// Returns the condition with this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waits_for| waits_for.name() == name)
    }
}

impl Closing {
    /// Returns the basis of a certificate issued now.
    ///
    /// # Errors
    /// The reason to wait.
    pub fn verdict(&self) -> Result<Basis, Waiting> {
        if self.observed.is_none_or(|ago| ago > OBSERVED_MAX) {
            let waits_for = WaitsFor::Observation;
            return Err(Waiting { waits_for, sign: None, until: None, waiting: None });
        }
        self.waiting.map_or(Ok(Basis::Evidence), Err)
    }
}

/// Formats one English sentence for the crew.
impl fmt::Display for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.waits_for, self.waiting) {
            (WaitsFor::Counting, Some(1)) => formatter.write_str("1 vote waits and nothing is counting it."),
            (WaitsFor::Counting, Some(votes)) if votes > 0 => {
                write!(formatter, "{votes} votes wait and nothing is counting them.")
            }
            (WaitsFor::Counting, _) => formatter.write_str("Votes may wait, and nothing is counting them."),
            (WaitsFor::Probes, _) if self.sign.is_some() => {
                formatter.write_str("A probe has been in the queue for too long, so votes may be, too.")
            }
            (WaitsFor::Probes, _) => {
                formatter.write_str("Probes sent after the close are still on their way through the queue.")
            }
            (WaitsFor::Sign, _) => self.write_sign(formatter),
            (WaitsFor::Queue, Some(1)) => formatter.write_str("The queue says that it still holds 1 vote."),
            (WaitsFor::Queue, Some(votes)) => {
                write!(formatter, "The queue says that it still holds {votes} votes.")
            }
            (WaitsFor::Queue, None) => formatter.write_str("The queue does not say what it holds."),
            (WaitsFor::Observation, _) => {
                formatter.write_str("Nothing has observed the counting lately: functions/results does.")
            }
        }
    }
}

impl Waiting {
    fn write_sign(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.sign {
            Some(Sign::Redelivered) => "Votes were delivered again, so a batch had failed",
            Some(Sign::Announced) => "A batch has begun and not ended",
            Some(Sign::ProbeLate) => "A probe was counted late",
            Some(Sign::ProbeMissing) => "A probe is missing",
            Some(Sign::RedisAway) => "Redis was away, so a batch may have failed unseen",
            None => "A batch may have failed",
        };
        match self.until {
            Some(until) => write!(formatter, "{what}: votes may come again until {} UTC.", TimeOfDay(until)),
            None => write!(formatter, "{what}: votes may come again."),
        }
    }
}

/// A time of day, formatted as hours, minutes and seconds.
struct TimeOfDay(Timestamp);

impl fmt::Display for TimeOfDay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from(self.0);
        write!(formatter, "{:02}:{:02}:{:02}", moment.hour(), moment.minute(), moment.second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(waits_for: WaitsFor, sign: Option<Sign>, waiting: Option<u64>) -> Waiting {
        let until = sign.and_then(|_| Timestamp::from_millis(1_795_377_809_000));
        Waiting { waits_for, sign, until, waiting }
    }

    #[test]
    fn the_crew_is_told_in_a_sentence() {
        for (waiting, sentence) in [
            (waiting(WaitsFor::Counting, None, Some(50)), "50 votes wait and nothing is counting them."),
            (waiting(WaitsFor::Counting, None, Some(1)), "1 vote waits and nothing is counting it."),
            (waiting(WaitsFor::Counting, None, None), "Votes may wait, and nothing is counting them."),
            (
                waiting(WaitsFor::Sign, Some(Sign::Redelivered), None),
                "Votes were delivered again, so a batch had failed: votes may come again until 20:03:29 UTC.",
            ),
            (waiting(WaitsFor::Queue, None, Some(12)), "The queue says that it still holds 12 votes."),
            (waiting(WaitsFor::Queue, None, None), "The queue does not say what it holds."),
        ] {
            assert_eq!(waiting.to_string(), sentence);
        }
    }

    #[test]
    fn what_nothing_has_observed_lately_is_not_known() {
        let verdict = |observed, waiting| Closing { observed, waiting }.verdict();
        let seconds = Duration::from_secs;
        assert_eq!(verdict(Some(seconds(30)), None), Ok(Basis::Evidence));
        for observed in [None, Some(seconds(31))] {
            assert_eq!(verdict(observed, None).unwrap_err().waits_for, WaitsFor::Observation);
        }
        let queue = waiting(WaitsFor::Queue, None, Some(1));
        assert_eq!(verdict(Some(seconds(1)), Some(queue)), Err(queue));
    }

    #[test]
    fn names_are_read_back() {
        assert!(Sign::ALL.into_iter().all(|sign| Sign::of(sign.name()) == Some(sign)));
        assert!(WaitsFor::ALL.into_iter().all(|what| WaitsFor::of(what.name()) == Some(what)));
        assert_eq!((Basis::of("evidence"), Basis::of("quiet")), (Some(Basis::Evidence), None));
    }
}
