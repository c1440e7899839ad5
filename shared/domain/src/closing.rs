//! What a closed poll's certification waits for, in types and in a sentence. [`Observation`](super::Observation) says
//! when it waits for nothing.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::Timestamp;

/// An observation older than this says nothing of now: an observer makes one every 3 s.
pub const OBSERVED_MAX: Duration = Duration::from_secs(30);

/// How long certification waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificationPolicy {
    /// How long a sign of a failed batch counts: until the batch has come again, which takes the queue's
    /// `VisibilityTimeout`, the function's `Timeout` and the batching window.
    pub sign: Duration,
    /// A probe is late beyond this. Longer than a healthy queue takes from sending a message to its commit: the
    /// batching window, which a quiet queue may stretch to 20 s, and the function's `Timeout`.
    pub probe_late: Duration,
}

impl CertificationPolicy {
    /// How long what an observation is made of is kept: for as long as a sign counts, and a quarter of an hour more, in
    /// which what is late may still come.
    pub fn kept(self) -> Duration {
        self.sign + Duration::from_secs(900)
    }
}

/// Why it is taken that no vote is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// Probes went through the queue after the close, and nothing speaks against it.
    Evidence,
    /// It is not: the show said so.
    Forced,
}

/// A reason to take it that a batch has failed or vanished, and its votes come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sign {
    /// A message was delivered again, so a batch had failed.
    Redelivered,
    /// A batch announced itself and never took that back.
    Announced,
    /// A probe was decided late.
    ProbeLate,
    /// A probe is not decided though it should be, could not be sent, or was not sent when one was due.
    ProbeMissing,
    /// Redis, which holds the announcements, was away or has lost data.
    RedisAway,
}

/// What certification waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitsFor {
    /// Nothing is counted at all.
    Counting,
    /// Probes sent after the close are not all decided.
    Probes,
    /// The latest sign of a failed batch is too young.
    Sign,
    /// The queue says that it holds more than has been handled since the close, or says nothing.
    Queue,
    /// There was no observation lately.
    Look,
}

/// Why a result is not certified now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// What for.
    pub waits_for: WaitsFor,
    /// The sign that keeps it waiting.
    pub sign: Option<Sign>,
    /// When that sign will not count any more; `None`: not known.
    pub until: Option<Timestamp>,
    /// Votes that the queue says it holds; `None`: it does not say.
    pub waiting: Option<u64>,
}

/// What is known of a closed poll that is not frozen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// How long ago it was observed; `None`: never since its close.
    pub observed: Option<Duration>,
    /// What it waited for then; `None`: nothing.
    pub waiting: Option<Waiting>,
}

impl Basis {
    /// Its name in the ledger and in the certificate.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evidence => "evidence",
            Self::Forced => "forced",
        }
    }

    /// The basis of that name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Evidence, Self::Forced].into_iter().find(|basis| basis.name() == name)
    }
}

impl Sign {
    const ALL: [Self; 5] =
        [Self::Redelivered, Self::Announced, Self::ProbeLate, Self::ProbeMissing, Self::RedisAway];

    /// Its name in the ledger and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Redelivered => "redelivered",
            Self::Announced => "announced",
            Self::ProbeLate => "probeLate",
            Self::ProbeMissing => "probeMissing",
            Self::RedisAway => "redisAway",
        }
    }

    /// The sign of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sign| sign.name() == name)
    }
}

impl WaitsFor {
    const ALL: [Self; 5] = [Self::Counting, Self::Probes, Self::Sign, Self::Queue, Self::Look];

    /// Its name in the ledger and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Probes => "probes",
            Self::Sign => "sign",
            Self::Queue => "queue",
            Self::Look => "look",
        }
    }

    /// What that name stands for.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waits_for| waits_for.name() == name)
    }
}

impl Closing {
    /// The basis of a certificate made now.
    ///
    /// # Errors
    /// What it waits for.
    pub fn verdict(&self) -> Result<Basis, Waiting> {
        if self.observed.is_none_or(|ago| ago > OBSERVED_MAX) {
            return Err(Waiting { waits_for: WaitsFor::Look, sign: None, until: None, waiting: None });
        }
        self.waiting.map_or(Ok(Basis::Evidence), Err)
    }
}

/// One English sentence for the crew.
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
            (WaitsFor::Look, _) => {
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

/// Hours, minutes and seconds.
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
            assert_eq!(verdict(observed, None).unwrap_err().waits_for, WaitsFor::Look);
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
