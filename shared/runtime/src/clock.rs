//! The clock. Callers pass it in; nothing else in the functions reads the wall clock.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use domain::Timestamp;

/// A source of the current time. Clones share it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Returns this machine's clock. In debug builds it is off by `CLOCK_SKEW_MS`, if set, for tests that prove an
    /// independence of the clock.
    ///
    /// # Panics
    /// If `CLOCK_SKEW_MS` is no whole number, and after the year 9999.
    pub fn system() -> Self {
        let skew_ms = skew_ms();
        Self::from_fn(move || {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
            let now = SystemTime::now();
            let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since_epoch.as_millis())
                .ok()
                .map(|millis| millis + skew_ms)
                .and_then(Timestamp::from_millis)
                .expect("the clock is before the year 10000")
        })
    }

    /// Creates a clock from a function.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

#[cfg(debug_assertions)]
fn skew_ms() -> i64 {
    let text = crate::environment::variable("CLOCK_SKEW_MS");
    text.map_or(0, |text| text.parse().expect("CLOCK_SKEW_MS: expected a whole number"))
}

#[cfg(not(debug_assertions))]
const fn skew_ms() -> i64 {
    0
}
