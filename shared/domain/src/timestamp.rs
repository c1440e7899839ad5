use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A point in time, in whole milliseconds since the Unix epoch: the resolution of SQS's `SentTimestamp`.
///
/// Its JSON form is RFC 3339: any offset is read, UTC is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last millisecond of the year 9999, the last that RFC 3339 can represent.
const MILLIS_MAX: i64 = 253_402_300_799_999;

impl Timestamp {
    /// The earliest timestamp: the Unix epoch.
    pub const MIN: Self = Self(0);
    /// The latest timestamp: the end of the year 9999.
    pub const MAX: Self = Self(MILLIS_MAX);

    /// Creates a timestamp between 1970 and 9999. Returns `None` outside this range.
    pub fn from_millis(millis: i64) -> Option<Self> {
        (0..=MILLIS_MAX).contains(&millis).then_some(Self(millis))
    }

    /// Returns the milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Adds a duration. The result is at most [`Self::MAX`].
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(millis(by)).min(MILLIS_MAX))
    }

    /// Subtracts a duration. The result is at least [`Self::MIN`].
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(millis(by)).max(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl From<Timestamp> for SystemTime {
    fn from(Timestamp(millis): Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(millis.unsigned_abs())
    }
}

impl TryFrom<OffsetDateTime> for Timestamp {
    type Error = time::error::ComponentRange;

    /// Rounds down to the millisecond.
    fn try_from(moment: OffsetDateTime) -> Result<Self, Self::Error> {
        let millis = moment.unix_timestamp_nanos().div_euclid(1_000_000);
        let in_range = i64::try_from(millis).ok().and_then(Self::from_millis);
        in_range.ok_or_else(|| OffsetDateTime::from_unix_timestamp(i64::MAX).expect_err("out of range"))
    }
}

impl From<Timestamp> for OffsetDateTime {
    fn from(Timestamp(millis): Timestamp) -> Self {
        Self::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).expect("a Timestamp is within range")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = OffsetDateTime::from(*self).format(&Rfc3339).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let expected = "expected a time between 1970 and 9999 as RFC 3339, like 2026-11-21T20:30:00Z";
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| D::Error::custom(expected))?;
        Self::try_from(moment).map_err(|_| D::Error::custom(expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_is_read_and_utc_is_written() {
        let read: Timestamp = serde_json::from_str(r#""2026-11-21T17:30:00.25-03:00""#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#""2026-11-21T20:30:00.25Z""#);
    }

    #[test]
    fn what_cannot_be_written_is_not_read() {
        for text in [r#""1969-12-31T23:59:59Z""#, r#""9999-12-31T23:59:59-01:00""#, r#""tomorrow""#, "0"] {
            assert!(serde_json::from_str::<Timestamp>(text).is_err(), "{text}");
        }
    }
}
