//! The clock, which is passed in: nothing else in the functions reads the time of day.

use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use domain::Timestamp;

/// Tells the time of day. Clones tell the same time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// This machine's clock. In debug builds it is wrong by `CLOCK_SKEW_MS`, if that is set: a wrong clock proves what
    /// must not depend on the clock.
    ///
    /// # Panics
    /// When `CLOCK_SKEW_MS` is no whole number, and after the year 9999.
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

    /// A clock that tells what `now` returns.
    pub fn from_fn(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present moment.
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
