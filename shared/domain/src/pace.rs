//! The pace of the audience: how long a page waits between two requests of a public file. Each file says it, since a
//! million pages follow a poll and only the show knows when something will happen.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::{Poll, Status, Timestamp};

/// The shortest interval: as long as the edge keeps a file, so that a sooner request would get the same bytes.
const SHORTEST_S: u8 = 3;

/// The longest interval: an opening or a close by hand comes at no foreseeable moment, and every page learns of it
/// within this time.
const LONGEST_S: u8 = 10;

/// The interval is this part of the distance to the nearest opening or close. A page that waits a tenth of what is left
/// cannot sleep through the moment, and at 30 s it asks every 3 s.
const PART_OF_DISTANCE: u64 = 10;

/// A fixed pace of a scheduled poll holds for the list from this time before the opening.
const LIST_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How often pages request a poll's file. Its JSON form is `"auto"`, 3, 5 or 10.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pace {
    /// By the clock: every 3 s near opening and close, up to 10 s in between.
    #[default]
    Auto,
    /// Every 3 s.
    Every3,
    /// Every 5 s.
    Every5,
    /// Every 10 s.
    Every10,
}

impl Pace {
    const FIXED: [Self; 3] = [Self::Every3, Self::Every5, Self::Every10];

    /// Returns the interval. `None` if the clock decides.
    pub fn seconds(self) -> Option<u8> {
        match self {
            Self::Auto => None,
            Self::Every3 => Some(3),
            Self::Every5 => Some(5),
            Self::Every10 => Some(10),
        }
    }

    /// Returns the pace with this interval. `None` if there is none.
    pub fn of_seconds(seconds: u64) -> Option<Self> {
        Self::FIXED.into_iter().find(|pace| pace.seconds().map(u64::from) == Some(seconds))
    }
}

impl Serialize for Pace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.seconds() {
            Some(seconds) => serializer.serialize_u8(seconds),
            None => serializer.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for Pace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let fixed = value.as_u64().and_then(Self::of_seconds);
        fixed
            .or_else(|| (value == "auto").then_some(Self::Auto))
            .ok_or_else(|| D::Error::custom("expected \"auto\", 3, 5 or 10"))
    }
}

impl Poll {
    /// Returns the seconds that a page waits until it requests the poll's file again.
    pub fn next_in_seconds(&self, now: Timestamp) -> u8 {
        if self.frozen_at.is_some() {
            return LONGEST_S;
        }
        self.pace.seconds().unwrap_or_else(|| self.pace_by_clock(now))
    }

    /// Returns the seconds that a page that follows no open poll waits until it requests the list again, as far as this
    /// poll matters: its pages wait for the opening.
    pub(crate) fn list_next_in_seconds(&self, now: Timestamp) -> u8 {
        let is_soon = self.opens_at.is_none_or(|opening| opening.saturating_sub(LIST_AHEAD) <= now);
        let is_awaited = self.status(now) != Status::Closed && is_soon;
        match self.pace.seconds().filter(|_| is_awaited) {
            Some(seconds) => seconds,
            None if self.frozen_at.is_some() => LONGEST_S,
            None => self.pace_by_clock(now),
        }
    }

    /// Returns the interval by the distance to the nearest opening, close or reopening, before it or after.
    fn pace_by_clock(&self, now: Timestamp) -> u8 {
        let reopened_at = self.gaps.last().map(|gap| gap.to);
        let moments = [self.opens_at, self.closes_at, reopened_at].into_iter().flatten();
        let distances_s = moments.map(|moment| now.millis().abs_diff(moment.millis()) / 1_000);
        let interval = distances_s.min().map_or(u64::from(LONGEST_S), |distance| distance / PART_OF_DISTANCE);
        u8::try_from(interval).unwrap_or(LONGEST_S).clamp(SHORTEST_S, LONGEST_S)
    }
}

/// Returns the seconds that a page that follows no open poll waits until it requests the list again.
pub(crate) fn list_next_in_seconds<'a>(polls: impl Iterator<Item = &'a Poll>, now: Timestamp) -> u8 {
    polls.map(|poll| poll.list_next_in_seconds(now)).min().unwrap_or(LONGEST_S)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{from_value, json, to_value};

    use super::*;
    use crate::{
        Gap,
        poll::tests::{at, poll},
    };

    /// An hour, from 1,000 s on.
    fn hour() -> Poll {
        Poll { opens_at: Some(at(1_000_000)), closes_at: Some(at(4_600_000)), ..poll() }
    }

    fn seconds(poll: &Poll, now_s: i64) -> u8 {
        poll.next_in_seconds(at(now_s * 1_000))
    }

    #[test]
    fn a_pace_is_auto_or_one_of_three_numbers() {
        for (json, pace) in [
            (json!("auto"), Pace::Auto),
            (json!(3), Pace::Every3),
            (json!(5), Pace::Every5),
            (json!(10), Pace::Every10),
        ] {
            assert_eq!(from_value::<Pace>(json.clone()).unwrap(), pace);
            assert_eq!(to_value(pace).unwrap(), json);
        }
        for json in
            [json!(1), json!(0), json!(-3), json!(4), json!("3"), json!("Auto"), json!(null), json!(3.5)]
        {
            let error = from_value::<Pace>(json.clone()).unwrap_err().to_string();
            assert_eq!(error, "expected \"auto\", 3, 5 or 10", "{json}");
        }
    }

    #[test]
    fn pages_hurry_near_opening_and_close_and_rest_in_between() {
        let poll = hour();
        for (now_s, expected) in [
            (0, 10),
            (900, 10),
            (930, 7),
            (961, 3),
            (1_000, 3),
            (1_039, 3),
            (1_070, 7),
            (1_100, 10),
            (2_800, 10),
            (4_500, 10),
            (4_550, 5),
            (4_570, 3),
            (4_600, 3),
            (4_630, 3),
            (4_700, 10),
        ] {
            assert_eq!(seconds(&poll, now_s), expected, "at {now_s} s");
        }
    }

    #[test]
    fn a_reopening_is_an_opening() {
        let gaps = vec![Gap { from: at(2_000_000), to: at(2_500_000) }];
        let poll = Poll { gaps, closes_at: None, ..hour() };
        assert_eq!((seconds(&poll, 2_200), seconds(&poll, 2_501)), (10, 3));
    }

    #[test]
    fn the_crew_fixes_the_pace_until_the_result_is_final() {
        for (pace, expected) in [(Pace::Every3, 3), (Pace::Every5, 5), (Pace::Every10, 10)] {
            let poll = Poll { pace, ..hour() };
            for now_s in [0, 1_000, 2_800, 4_600, 9_000] {
                assert_eq!(seconds(&poll, now_s), expected);
            }
            let certified = Poll { frozen_at: Some(at(4_700_000)), ..poll };
            assert_eq!(seconds(&certified, 4_701), 10);
        }
    }

    #[test]
    fn the_list_is_as_quick_as_its_quickest_poll() {
        let list = |polls: &[Poll], now_s: i64| list_next_in_seconds(polls.iter(), at(now_s * 1_000));
        assert_eq!(list(&[], 0), 10);
        let by_hand = Poll { opens_at: None, closes_at: None, ..poll() };
        assert_eq!(list(std::slice::from_ref(&by_hand), 0), 10);
        assert_eq!(list(&[by_hand.clone(), hour()], 990), 3, "one is about to open");
        let quick = Poll { pace: Pace::Every3, ..by_hand };
        assert_eq!(list(&[hour(), quick], 2_800), 3, "one may open at any moment");
    }

    #[test]
    fn a_fixed_pace_holds_for_the_list_while_the_poll_is_awaited() {
        let list = |poll: Poll, now_s: i64| list_next_in_seconds([poll].iter(), at(now_s * 1_000));
        let quick = Poll { pace: Pace::Every3, ..hour() };
        assert_eq!(list(quick.clone(), 2_800), 3, "open");
        assert_eq!(list(quick.clone(), 9_000), 10, "closed long ago");
        let next_week = Poll { opens_at: Some(at(7 * 86_400_000)), closes_at: None, ..quick };
        assert_eq!((list(next_week.clone(), 0), list(next_week, 6 * 86_400)), (10, 3));
    }

    proptest! {
        /// Pages add up to a half to each interval. Even so they ask at least once in the 30 s before a moment.
        #[test]
        fn no_page_sleeps_through_an_opening_or_a_close(start_s in 0_i64..5_000, spread in prop::collection::vec(1.0_f64..1.5, 2_000)) {
            let (poll, mut now_ms) = (hour(), start_s * 1_000);
            let mut asked = Vec::new();
            for factor in spread {
                asked.push(now_ms);
                now_ms += (f64::from(poll.next_in_seconds(at(now_ms))) * factor * 1_000.0) as i64;
            }
            for moment in [1_000_000, 4_600_000] {
                let near = asked.iter().filter(|&&at| (moment - 30_000..moment).contains(&at)).count();
                prop_assert!(near >= 4 || start_s * 1_000 > moment - 45_000, "{near} requests");
            }
        }
    }
}
