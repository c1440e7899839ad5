//! Worst-case behavior of a standard queue, within SQS's documented guarantees.
//!
//! SQS guarantees at-least-once delivery. It guarantees no order, no bound on the delay of a single message, and no
//! exact count. The emulator's default behavior is better, so a protocol that depends on more than the guarantees
//! would pass every test. A misbehaving queue exposes such a dependency.
//!
//! To add a misbehavior: 1. add a field to [`Misbehavior`], off by default; 2. set it in [`Misbehavior::WORST`] and,
//! if it is a time, in [`Misbehavior::scaled`]; 3. apply it in [`MisbehaviorState`]; 4. add a test to
//! `tests/misbehavior.rs`.
use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Counts, Queue};

/// The misbehavior of a queue. The default is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misbehavior {
    /// Maximum age of the counts in `GetQueueAttributes`.
    pub counts_age: Duration,
    /// Maximum percentage by which each reported count is too low.
    pub counts_low_percent: u64,
    /// On average, one message in this many is withheld on its own after its send; 0: none.
    pub withheld_one_in: u64,
    /// A withheld message becomes receivable after between half of this time and all of it.
    pub withheld_for: Duration,
    /// Receives return messages in random order.
    pub any_order: bool,
    /// Maximum pause of Lambda's pollers: after each failed batch, and at random otherwise.
    pub poller_pause: Duration,
    /// Lambda's minimum batching window on a quiet queue; a longer configured window stays.
    pub quiet_window: Duration,
}

/// Without a failed batch, a poller pauses before one batch in this many, on average.
const PAUSE_ONE_IN: u32 = 8;

/// Number of count samples per [`Misbehavior::counts_age`].
const SAMPLES: u32 = 64;

impl Misbehavior {
    /// The worst case of SQS and Lambda. AWS documents the age of the counts ("at least 1 minute") and the window on
    /// a quiet queue ("up to 20 seconds"); the other figures come from users' reports.
    pub const WORST: Self = Self {
        counts_age: Duration::from_secs(60),
        counts_low_percent: 100,
        withheld_one_in: 10_000,
        withheld_for: Duration::from_secs(300),
        any_order: true,
        poller_pause: Duration::from_secs(30),
        quiet_window: Duration::from_secs(20),
    };

    /// Divides every time by `divisor`, for a stack whose timeouts are divided likewise.
    #[must_use]
    pub fn scaled(self, divisor: u32) -> Self {
        Self {
            counts_age: self.counts_age / divisor,
            withheld_for: self.withheld_for / divisor,
            poller_pause: self.poller_pause / divisor,
            quiet_window: self.quiet_window / divisor,
            ..self
        }
    }
}

impl Queue {
    /// Returns the counts for `GetQueueAttributes`: exact unless the queue misbehaves.
    pub fn reported_counts(&self) -> Counts {
        let mut inner = self.lock();
        let exact = inner.counts();
        inner.misbehavior.as_mut().map_or(exact, |misbehavior| misbehavior.report(exact))
    }

    /// Sets the queue's misbehavior; the default ends it. Messages that are already withheld stay so for their time.
    /// `seed`: of the random numbers.
    pub fn misbehave(&self, how: Misbehavior, seed: u64) {
        let is_bad = how != Misbehavior::default();
        self.lock().misbehavior = is_bad.then(|| MisbehaviorState::new(how, seed));
    }

    /// Returns the ids of all messages that were ever withheld.
    pub fn withheld(&self) -> Vec<Uuid> {
        self.lock().withheld.clone()
    }

    /// Whether this message was ever withheld.
    pub fn has_withheld(&self, message: Uuid) -> bool {
        self.lock().withheld.contains(&message)
    }

    /// Returns a poller's pause before it receives its next batch. `has_failed`: a batch failed since the last one.
    pub fn poller_pause(&self, has_failed: bool) -> Duration {
        self.lock().misbehavior.as_mut().map_or(Duration::ZERO, |misbehavior| misbehavior.pause(has_failed))
    }

    /// Returns the minimum batching window while the queue is quiet; zero: the configured window applies.
    pub fn quiet_window(&self) -> Duration {
        self.lock()
            .misbehavior
            .as_ref()
            .map_or(Duration::ZERO, |misbehavior| misbehavior.settings.quiet_window)
    }
}

/// The state of a misbehaving queue.
#[derive(Debug)]
pub(super) struct MisbehaviorState {
    pub settings: Misbehavior,
    pub rng: fastrand::Rng,
    /// Counts from just before a change, with the time of the change, oldest first.
    samples: VecDeque<(Instant, Counts)>,
}

impl MisbehaviorState {
    pub fn new(settings: Misbehavior, seed: u64) -> Self {
        Self { settings, rng: fastrand::Rng::with_seed(seed), samples: VecDeque::new() }
    }

    /// Whether the counts must be sampled before the next change.
    pub fn is_sample_due(&self) -> bool {
        let interval = self.settings.counts_age / SAMPLES;
        let last = self.samples.back();
        !self.settings.counts_age.is_zero() && last.is_none_or(|(at, _)| at.elapsed() >= interval)
    }

    /// Records the counts from before a change that is about to happen.
    pub fn record_sample(&mut self, counts: Counts) {
        let now = Instant::now();
        let age = self.settings.counts_age;
        while self.samples.front().is_some_and(|(at, _)| now - *at > age) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, counts));
    }

    /// Returns the counts to report: old, too low, or both.
    pub fn report(&mut self, exact: Counts) -> Counts {
        let age = self.settings.counts_age.mul_f64(self.rng.f64());
        let lowered =
            |rng: &mut fastrand::Rng, count: u64, percent: u64| count * (100 - rng.u64(0..=percent)) / 100;
        // A sample precedes its change, so the first sample after the chosen time was valid at that time, or a 64th
        // of `counts_age` later.
        let sample = self.samples.iter().find(|(at, _)| at.elapsed() <= age);
        let sample = sample.map_or(exact, |(_, counts)| *counts);
        let percent = self.settings.counts_low_percent.min(100);
        Counts {
            visible: lowered(&mut self.rng, sample.visible, percent),
            in_flight: lowered(&mut self.rng, sample.in_flight, percent),
            delayed: lowered(&mut self.rng, sample.delayed, percent),
            ..exact
        }
    }

    /// Decides whether to withhold the message that is being sent, and returns for how long.
    pub fn withhold_time(&mut self) -> Option<Duration> {
        let one_in = self.settings.withheld_one_in;
        let hit = one_in > 0 && self.rng.u64(0..one_in) == 0;
        hit.then(|| self.settings.withheld_for.mul_f64(0.5 + self.rng.f64() / 2.0))
    }

    /// Returns a poller's pause before its next batch.
    pub fn pause(&mut self, has_failed: bool) -> Duration {
        if has_failed || self.rng.u32(0..PAUSE_ONE_IN) == 0 {
            self.settings.poller_pause.mul_f64(self.rng.f64())
        } else {
            Duration::ZERO
        }
    }
}
