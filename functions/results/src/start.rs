//! The event that starts a shift.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The trigger of a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Event")]
pub enum Start {
    /// The schedule, every minute.
    Scheduled,
    /// Messages in the wake queue. Their polls do not matter, since a tick handles all polls.
    Woken,
}

/// An SQS event has records; an event of the schedule has none.
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Option<IgnoredAny>,
}

impl From<Event> for Start {
    fn from(event: Event) -> Self {
        if event.records.is_some() { Self::Woken } else { Self::Scheduled }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_wake_is_told_from_the_schedule() {
        let start = |event| from_value::<Start>(event).unwrap();
        assert_eq!(start(json!({"Records": [{"body": "{\"poll\":7}"}]})), Start::Woken);
        assert_eq!(start(json!({"source": "aws.events", "detail": {}})), Start::Scheduled);
        assert_eq!(start(json!({})), Start::Scheduled);
    }
}
