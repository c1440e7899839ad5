//! Attributes of a queue, with SQS's ranges and defaults.
//!
//! To add an attribute: 1. add a field to `Settings`, its range as a constant, and SQS's default; 2. add its name
//! to `Settings::field`; 3. report it in `Queue::attributes`.
use std::{ops::RangeInclusive, time::Duration};

use super::SendError;

/// SQS's limit on the messages of one `ReceiveMessage`.
pub const RECEIVE_MAX: usize = 10;
/// SQS's limit on the entries of a batch call.
pub const BATCH_ENTRIES_MAX: usize = 10;
/// SQS's limit on the wait time of a long poll.
pub const WAIT_MAX: Duration = Duration::from_secs(20);

/// SQS's range of the visibility timeout: up to 12 hours.
pub(super) const VISIBILITY_SECONDS: RangeInclusive<u64> = 0..=43_200;
/// SQS's range of the delay: up to 15 minutes.
pub(super) const DELAY_SECONDS: RangeInclusive<u64> = 0..=900;
/// SQS's range of the retention period: 1 minute to 14 days.
const RETENTION_SECONDS: RangeInclusive<u64> = 60..=1_209_600;
/// SQS's range of the maximum message size: 1 KiB to 1 MiB.
const MESSAGE_BYTES: RangeInclusive<u64> = 1_024..=1_048_576;
const WAIT_SECONDS: RangeInclusive<u64> = 0..=WAIT_MAX.as_secs();

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub visibility_seconds: u64,
    pub delay_seconds: u64,
    pub retention_seconds: u64,
    pub message_bytes_max: u64,
    pub wait_seconds: u64,
}

impl Default for Settings {
    /// Returns SQS's defaults.
    fn default() -> Self {
        Self {
            visibility_seconds: 30,
            delay_seconds: 0,
            retention_seconds: 345_600,
            message_bytes_max: *MESSAGE_BYTES.end(),
            wait_seconds: 0,
        }
    }
}

/// Whether the emulator supports the attribute.
pub(super) fn is_settable(name: &str) -> bool {
    name == "RedrivePolicy" || Settings::default().field(name).is_some()
}

impl Settings {
    fn field(&mut self, name: &str) -> Option<(&mut u64, RangeInclusive<u64>)> {
        Some(match name {
            "VisibilityTimeout" => (&mut self.visibility_seconds, VISIBILITY_SECONDS),
            "DelaySeconds" => (&mut self.delay_seconds, DELAY_SECONDS),
            "MessageRetentionPeriod" => (&mut self.retention_seconds, RETENTION_SECONDS),
            "MaximumMessageSize" => (&mut self.message_bytes_max, MESSAGE_BYTES),
            "ReceiveMessageWaitTimeSeconds" => (&mut self.wait_seconds, WAIT_SECONDS),
            _ => return None,
        })
    }

    pub fn set(&mut self, name: &str, value: &str) -> Result<(), SendError> {
        let (field, range) = self
            .field(name)
            .ok_or_else(|| SendError::new("InvalidAttributeName", format!("unknown attribute {name}")))?;
        let number = value.parse().ok().filter(|number| range.contains(number));
        *field = number.ok_or_else(|| {
            SendError::new(
                "InvalidAttributeValue",
                format!(
                    "{name} is {value}; it must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            )
        })?;
        Ok(())
    }
}
