//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::Timestamp;

/// Now, by this machine.
pub fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis())
        .ok()
        .map(|millis| millis + skew_ms())
        .and_then(Timestamp::from_millis)
        .expect("the clock is before the year 10000")
}

/// In debug builds, by how much `CLOCK_SKEW_MS` puts this process's clock wrong: what must not depend on the clock
/// is proved by getting it wrong.
#[cfg(debug_assertions)]
fn skew_ms() -> i64 {
    static SKEW_MS: std::sync::LazyLock<i64> = std::sync::LazyLock::new(|| {
        let text = crate::config::environment("CLOCK_SKEW_MS");
        text.map_or(0, |text| text.parse().expect("CLOCK_SKEW_MS: expected a whole number"))
    });
    *SKEW_MS
}

#[cfg(not(debug_assertions))]
const fn skew_ms() -> i64 {
    0
}
