//! The backoff of a mapping whose function is throttled.
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Pause after the first throttled invocation; it doubles with each further one, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Much shorter than common visibility timeouts, to bound the delay of messages.
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pause: Duration,
    until: Option<Instant>,
}

impl Backoff {
    /// Records the result of an invocation.
    pub fn record(&self, throttled: bool) {
        let mut state = self.lock();
        if throttled {
            state.pause = (state.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            state.until = Some(Instant::now() + state.pause);
        } else {
            *state = State::default();
        }
    }

    /// Waits until the pause is over.
    pub async fn wait(&self) {
        let until = self.lock().until;
        if let Some(until) = until {
            sleep_until(until).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_pause_grows_while_throttled_and_ends_with_a_success() {
        let backoff = Backoff::default();
        let mut pauses_ms = Vec::new();
        for throttled in [false, true, true, true, false, true].into_iter().chain([true; 8]) {
            backoff.record(throttled);
            let start = Instant::now();
            backoff.wait().await;
            pauses_ms.push(start.elapsed().as_millis());
        }
        assert_eq!(pauses_ms, [0, 100, 200, 400, 0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }
}
