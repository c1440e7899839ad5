//! The wall clock of this machine, which all services share.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the current time.
pub fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    SystemTime::now()
}

/// Returns the current time in milliseconds since 1970; 0 if the machine's clock is before 1970.
pub fn now_ms() -> u64 {
    now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
