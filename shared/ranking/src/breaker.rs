//! Leaves a store alone that does not answer, so that its timeout is not waited for again and again.

use std::time::{Duration, Instant};

/// How long a store that did not answer in time is left alone: as long as readers are shown what was read before
/// anyway, so resting shows nowhere. With a timeout of 0.5 s, a store that hangs then costs an instance a seventh of its
/// time.
const REST: Duration = Duration::from_secs(3);

/// Knows whether the store is being left alone. Only silence counts: a store that refuses does so at once.
#[derive(Debug, Default)]
pub struct Breaker {
    rests_until: Option<Instant>,
}

impl Breaker {
    /// Whether the store is not to be asked now.
    pub fn is_resting(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    /// Takes note of how asking it ended.
    pub fn note(&mut self, timed_out: bool, now: Instant) {
        self.rests_until = timed_out.then(|| now + REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_followed_by_a_rest_and_the_rest_by_another_try() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.is_resting(start));
        breaker.note(true, start);
        assert!(breaker.is_resting(start) && breaker.is_resting(start + REST - Duration::from_millis(1)));
        assert!(!breaker.is_resting(start + REST), "asked again");
        breaker.note(true, start + REST);
        assert!(breaker.is_resting(start + REST), "silent again");
        breaker.note(false, start + 2 * REST);
        assert!(!breaker.is_resting(start + 2 * REST), "it answered");
    }

    #[test]
    fn what_answers_is_never_left_alone() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.note(false, start);
        assert!(!breaker.is_resting(start));
    }
}
