//! When a closed poll's result may be certified: when every vote cast before the bell has been processed, as far as
//! that can be known.
//!
//! SQS tells neither the age of what it holds nor what it holds of one poll. What can be seen is that the poll's
//! counted votes no longer grow, and how many messages of any kind the queue says it has. So a vote cast in time may
//! be missing only
//! - in a batch that is being counted: for at most the function's `Timeout`;
//! - in a batch that failed, or whose function died: for at most the queue's `VisibilityTimeout`, then it is delivered
//!   again, within one batching window, since the pollers ask all of the queue's servers (long polling);
//! - in a backlog: then the poll's votes grow, unless it is a backlog of others.
//!
//! Hence two rules, of which either is enough. The queue was empty, nothing in flight either, at every look for as long
//! as a batch may take; the queue's own count may be a minute behind. Or the votes have been quiet for longer than
//! a failed batch stays away; this rule needs no empty queue, so it holds while other polls go on, and fails only for a
//! batch that fails twice without any other of the poll's being counted. What arrives later all the same is recorded
//! as [`Late`](super::Rejection::Late).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What has been seen of a closed poll that is not frozen yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing {
    /// How long its counted votes have not grown; 0 where nobody has looked since the bell.
    pub quiet: Duration,
    /// How long the queue has said that it holds nothing, in flight included; `None`: it holds something.
    pub empty: Option<Duration>,
    /// Messages in the queue, of any poll, in flight included, as it tells; `None`: it does not.
    pub queued: Option<u64>,
    /// How long ago somebody looked; `None`: never since the bell.
    pub looked: Option<Duration>,
}

/// How long either rule wants to see what it looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longer than a batch may take: the function's `Timeout` and the batching window.
    pub empty: Duration,
    /// Longer than a failed batch stays away: the queue's `VisibilityTimeout`, and the above.
    pub quiet: Duration,
}

/// Why it is taken that no vote is outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// The queue was empty for long enough.
    QueueEmpty,
    /// The poll's votes have been quiet for long enough.
    Quiet,
    /// It is not: the show said so.
    Forced,
}

impl Basis {
    /// Its name in the ledger and in the certificate.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueEmpty => "queueEmpty",
            Self::Quiet => "quiet",
            Self::Forced => "forced",
        }
    }

    /// The basis of that name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::QueueEmpty, Self::Quiet, Self::Forced].into_iter().find(|basis| basis.name() == name)
    }
}

/// An observation older than this says nothing of now: whoever looks does so every 3 s.
pub const LOOKED_MAX: Duration = Duration::from_secs(30);

impl Closing {
    /// Why the result may be certified now; `None`: votes may be outstanding.
    pub fn basis(&self, patience: Patience) -> Option<Basis> {
        if self.looked.is_none_or(|ago| ago > LOOKED_MAX) {
            None
        } else if self.quiet >= patience.quiet {
            Some(Basis::Quiet)
        } else if self.quiet >= patience.empty && self.empty.is_some_and(|empty| empty >= patience.empty) {
            Some(Basis::QueueEmpty)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { empty: Duration::from_secs(23), quiet: Duration::from_secs(146) };

    fn basis(quiet: u64, empty: Option<u64>, looked: Option<u64>) -> Option<Basis> {
        let seconds = Duration::from_secs;
        let closing = Closing {
            quiet: seconds(quiet),
            empty: empty.map(seconds),
            queued: None,
            looked: looked.map(seconds),
        };
        closing.basis(PATIENCE)
    }

    #[test]
    fn an_empty_queue_is_enough_and_so_is_long_silence() {
        assert_eq!(basis(23, Some(23), Some(1)), Some(Basis::QueueEmpty));
        assert_eq!(basis(22, Some(60), Some(1)), None, "a batch may be under way");
        assert_eq!(basis(60, Some(22), Some(1)), None);
        assert_eq!(basis(145, None, Some(1)), None, "a failed batch may come again");
        assert_eq!(basis(146, None, Some(1)), Some(Basis::Quiet));
    }

    #[test]
    fn what_nobody_has_looked_at_lately_is_not_known() {
        assert_eq!(basis(500, Some(500), Some(31)), None);
        assert_eq!(basis(0, None, None), None);
    }
}
