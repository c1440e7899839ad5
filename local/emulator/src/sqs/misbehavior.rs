//! How badly a queue behaves, within what SQS documents of a standard queue.
//!
//! SQS promises that a message is handed out at least once. It promises no order, no punctual delivery of each message,
//! and no exact count. The emulator does better than that by itself, so a protocol that relies on more than the promise
//! would pass every test. A queue that misbehaves shows what the protocol relies on.
use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Counts, Queue};

/// What a queue does badly. The default is nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Misbehavior {
    /// `GetQueueAttributes` tells counts of some moment up to this long ago.
    pub counts_age: Duration,
    /// Each count that is told is too low by up to this percentage.
    pub counts_low_percent: u64,
    /// One message in so many is withheld by itself when it is sent; 0: none.
    pub withheld_one_in: u64,
    /// A message that is withheld is handed out after half of this time at the earliest, after all of it at the latest.
    pub withheld_for: Duration,
    /// Messages are handed out in any order.
    pub any_order: bool,
    /// Lambda's pollers pause for up to this long: after a batch that failed, and now and then for no reason.
    pub poller_pause: Duration,
    /// How long Lambda waits for a batch to fill on a quiet queue, whatever the batching window is.
    pub quiet_window: Duration,
}

/// A poller that has no reason to pause does so before one batch in so many.
const PAUSE_ONE_IN: u32 = 8;

/// Samples of the counts that are kept for each [`Misbehavior::counts_age`].
const SAMPLES: u32 = 64;

impl Misbehavior {
    /// As bad as SQS and Lambda may be. AWS documents the age of the counts ("at least 1 minute") and the window on a
    /// quiet queue ("up to 20 seconds"); the other figures are taken from what is reported of them.
    pub const WORST: Self = Self {
        counts_age: Duration::from_secs(60),
        counts_low_percent: 100,
        withheld_one_in: 10_000,
        withheld_for: Duration::from_secs(300),
        any_order: true,
        poller_pause: Duration::from_secs(30),
        quiet_window: Duration::from_secs(20),
    };

    /// The same with every time divided by `divisor`, for a stack whose timeouts are.
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
    /// What `GetQueueAttributes` tells: the exact figures, unless the queue misbehaves.
    pub fn reported_counts(&self) -> Counts {
        let mut inner = self.lock();
        let present = inner.counts();
        inner.mischief.as_mut().map_or(present, |mischief| mischief.report(present))
    }

    /// From now on the queue misbehaves like this, or no more. What it withholds already stays withheld for its time.
    /// `seed`: of all that is left to chance.
    pub fn misbehave(&self, how: Misbehavior, seed: u64) {
        let is_bad = how != Misbehavior::default();
        self.lock().mischief = is_bad.then(|| Mischief::new(how, seed));
    }

    /// Ids of the messages that the queue has ever withheld by themselves.
    pub fn withheld(&self) -> Vec<Uuid> {
        self.lock().withheld.clone()
    }

    /// Whether this message is one of those.
    pub fn has_withheld(&self, message: Uuid) -> bool {
        self.lock().withheld.contains(&message)
    }

    /// How long a poller pauses before it asks this queue for another batch. `has_failed`: its last batch did.
    pub fn poller_pause(&self, has_failed: bool) -> Duration {
        self.lock().mischief.as_mut().map_or(Duration::ZERO, |mischief| mischief.pause(has_failed))
    }

    /// How long a batch of this queue is waited for while the queue is quiet; zero: for the batching window.
    pub fn quiet_window(&self) -> Duration {
        self.lock().mischief.as_ref().map_or(Duration::ZERO, |mischief| mischief.settings.quiet_window)
    }
}

/// The state of a queue that misbehaves.
#[derive(Debug)]
pub(super) struct Mischief {
    pub settings: Misbehavior,
    pub rng: fastrand::Rng,
    /// The counts just before a change, with the moment of the change, oldest first.
    samples: VecDeque<(Instant, Counts)>,
}

impl Mischief {
    pub fn new(settings: Misbehavior, seed: u64) -> Self {
        Self { settings, rng: fastrand::Rng::with_seed(seed), samples: VecDeque::new() }
    }

    /// Whether counts are to be remembered before the change that comes now.
    pub fn is_sample_due(&self) -> bool {
        let interval = self.settings.counts_age / SAMPLES;
        let last = self.samples.back();
        !self.settings.counts_age.is_zero() && last.is_none_or(|(at, _)| at.elapsed() >= interval)
    }

    /// Remembers the counts from before a change that comes now.
    pub fn remember(&mut self, counts: Counts) {
        let now = Instant::now();
        let age = self.settings.counts_age;
        while self.samples.front().is_some_and(|(at, _)| now - *at > age) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, counts));
    }

    /// What the queue tells of itself: the counts of an earlier moment, or too low, or both.
    pub fn report(&mut self, present: Counts) -> Counts {
        let age = self.settings.counts_age.mul_f64(self.rng.f64());
        let low =
            |rng: &mut fastrand::Rng, count: u64, percent: u64| count * (100 - rng.u64(0..=percent)) / 100;
        // The first sample since that moment was taken before a change, so it held at that moment, or a 64th later.
        let told = self.samples.iter().find(|(at, _)| at.elapsed() <= age);
        let told = told.map_or(present, |(_, counts)| *counts);
        let percent = self.settings.counts_low_percent.min(100);
        Counts {
            visible: low(&mut self.rng, told.visible, percent),
            in_flight: low(&mut self.rng, told.in_flight, percent),
            delayed: low(&mut self.rng, told.delayed, percent),
            ..present
        }
    }

    /// How long the message that is sent now is withheld, if it is.
    pub fn withholds(&mut self) -> Option<Duration> {
        let one_in = self.settings.withheld_one_in;
        let hit = one_in > 0 && self.rng.u64(0..one_in) == 0;
        hit.then(|| self.settings.withheld_for.mul_f64(0.5 + self.rng.f64() / 2.0))
    }

    /// How long a poller pauses before its next batch.
    pub fn pause(&mut self, has_failed: bool) -> Duration {
        if has_failed || self.rng.u32(0..PAUSE_ONE_IN) == 0 {
            self.settings.poller_pause.mul_f64(self.rng.f64())
        } else {
            Duration::ZERO
        }
    }
}
