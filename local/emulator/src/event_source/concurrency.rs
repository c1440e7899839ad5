//! The concurrency of a mapping: the number of batches that run at a time.
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Lambda's scaling for a standard queue without `MaximumConcurrency`: it starts with 5 concurrent batches…
const INITIAL: u64 = 5;
/// …adds 300 a minute while all slots are in use…
const GROWTH_PER_SECOND: u64 = 300 / 60;
/// …up to 1,250.
const MAX: u64 = 1_250;

/// A limiter of concurrent batches.
#[derive(Debug)]
pub(super) struct Concurrency {
    fixed: Option<u64>,
    state: Mutex<State>,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    used: u64,
    /// The time of the first demand beyond the limit, from which the limit grows.
    scaling_since: Option<Instant>,
}

/// The permit to run one batch, released on drop.
#[derive(Debug)]
pub(super) struct Slot(Arc<Concurrency>);

impl Concurrency {
    /// Creates a limiter. `fixed`: `MaximumConcurrency`; `None`: Lambda's own scaling.
    pub fn new(fixed: Option<u64>) -> Arc<Self> {
        Arc::new(Self { fixed, state: Mutex::default(), released: Notify::new() })
    }

    /// Waits for a slot. Supports one caller at a time.
    pub async fn acquire(self: &Arc<Self>) -> Slot {
        loop {
            // Subscribed before the check: a slot released between the check and the wait must not be missed.
            let released = self.released.notified();
            let Some(next_growth) = self.try_acquire() else { return Slot(Arc::clone(self)) };
            match next_growth {
                Some(at) => tokio::select! {
                    () = released => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => released.await,
            }
        }
    }

    /// Tries to acquire a slot. Returns `None` on success, else the time of the next growth of the limit, if any.
    fn try_acquire(&self) -> Option<Option<Instant>> {
        let mut state = self.lock();
        let now = Instant::now();
        let limit = self.fixed.unwrap_or_else(|| state.scaled(now));
        if state.used < limit {
            state.used += 1;
            return None;
        }
        if self.fixed.is_some() || limit >= MAX {
            return Some(None);
        }
        let since = *state.scaling_since.get_or_insert(now);
        let seconds = (limit - INITIAL) / GROWTH_PER_SECOND + 1;
        Some(Some(since + Duration::from_secs(seconds)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn scaled(&self, now: Instant) -> u64 {
        let seconds = self.scaling_since.map_or(0, |since| (now - since).as_secs());
        (INITIAL + seconds * GROWTH_PER_SECOND).min(MAX)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.0.lock();
            state.used -= 1;
            // The mapping holds one slot while it waits for messages: with one slot in use, no batch is running.
            if state.used <= 1 {
                state.scaling_since = None;
            }
        }
        self.0.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Acquires slots until the next one would wait.
    async fn fill(concurrency: &Arc<Concurrency>) -> Vec<Slot> {
        let mut slots = Vec::new();
        while let Ok(slot) = tokio::time::timeout(Duration::from_millis(1), concurrency.acquire()).await {
            slots.push(slot);
        }
        slots
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_limit_holds_and_slots_come_back() {
        let concurrency = Concurrency::new(Some(3));
        let mut slots = fill(&concurrency).await;
        assert_eq!(slots.len(), 3);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(fill(&concurrency).await.len(), 0);
        slots.pop();
        assert_eq!(fill(&concurrency).await.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn lambdas_own_scaling_starts_at_5_and_adds_300_a_minute_to_1250() {
        let concurrency = Concurrency::new(None);
        let mut slots = fill(&concurrency).await;
        assert_eq!(slots.len(), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        slots.extend(fill(&concurrency).await);
        assert_eq!(slots.len(), 305);
        tokio::time::advance(Duration::from_secs(600)).await;
        slots.extend(fill(&concurrency).await);
        assert_eq!(slots.len(), 1_250);
        drop(slots);
        assert_eq!(fill(&concurrency).await.len(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_mapping_is_woken_by_a_free_slot_and_by_growth() {
        let concurrency = Concurrency::new(None);
        let mut slots = fill(&concurrency).await;
        let start = Instant::now();
        slots.push(concurrency.acquire().await);
        assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
