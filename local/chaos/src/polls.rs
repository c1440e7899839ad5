//! The polls of a run: one for each kind of window and limit.
//!
//! To add a kind of poll: 1. append it to [`KINDS`], whose indices `vote.rs` uses. 2. Send votes to it in
//! `Votes::body`. 3. For a new kind of window, extend [`Window`] and [`make`].
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::Crew;

/// A day.
pub const DAY_MS: i64 = 24 * 3600 * 1000;

/// A poll's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Open for the whole run.
    Open,
    /// Closes at this percentage of the run.
    Closes(i64),
    /// Opens at this percentage of the run.
    Opens(i64),
    /// Closed yesterday.
    Past,
    /// Opens tomorrow.
    Future,
    /// Closed and reopened by the crew while votes come in.
    Moving,
}

/// A kind of poll.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The window.
    pub window: Window,
    /// Number of contestants; they are numbered from 1.
    pub contestants: i64,
    /// Ballots of each voter; `None` without a limit.
    pub limit: Option<i64>,
    /// Taps that one vote may stand for.
    pub taps_max: i64,
}

const fn kind(window: Window, contestants: i64, limit: Option<i64>) -> Kind {
    Kind { window, contestants, limit, taps_max: 1 }
}

const fn tapped(window: Window, contestants: i64, taps_max: i64) -> Kind {
    Kind { window, contestants, limit: None, taps_max }
}

/// Every kind; a poll's index in the run is that of its kind.
pub const KINDS: [Kind; 13] = [
    kind(Window::Open, 10, None),
    kind(Window::Open, 3, None),
    kind(Window::Open, 8, None),
    kind(Window::Open, 5, Some(3)),
    kind(Window::Open, 6, Some(10)),
    kind(Window::Closes(40), 4, None),
    kind(Window::Closes(75), 4, Some(5)),
    kind(Window::Opens(30), 4, None),
    kind(Window::Past, 4, None),
    kind(Window::Future, 4, None),
    kind(Window::Moving, 4, None),
    tapped(Window::Open, 6, 10),
    tapped(Window::Closes(60), 4, 100),
];

/// Contestants and limit of the closing polls beyond those of [`KINDS`].
const CLOSING: (i64, Option<i64>) = (3, None);

/// A created poll.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// Id in the ledger.
    pub id: i32,
    /// The kind.
    pub kind: Kind,
    /// First moment of the window, in ms since 1970.
    pub opens_ms: i64,
    /// First moment after the window. A moving poll has several, not known in advance.
    pub closes_ms: Option<i64>,
}

impl Poll {
    /// Tells whether both ends of the window are known.
    pub fn is_fixed(&self) -> bool {
        self.kind.window != Window::Moving
    }

    /// Tells whether a vote sent between `first_ms` and `last_ms` was in the window; `None` if only part of that
    /// time was.
    pub fn holds(&self, first_ms: i64, last_ms: i64) -> Option<bool> {
        if !self.is_fixed() {
            return None;
        }
        let inside = |ms: i64| self.opens_ms <= ms && self.closes_ms.is_none_or(|closes_ms| ms < closes_ms);
        (inside(first_ms) == inside(last_ms)).then(|| inside(first_ms))
    }

    /// Tells whether the poll closes at `closesAt` and must be certified.
    pub fn closes(&self) -> bool {
        matches!(self.kind.window, Window::Closes(_) | Window::Past)
    }

    /// Returns the rejection reason of a vote outside the window.
    pub fn outside_reason(&self) -> &'static str {
        match self.kind.window {
            Window::Opens(_) | Window::Future => "beforeOpening",
            _ => "afterClosing",
        }
    }
}

/// Creates one poll of each kind, in the order of [`KINDS`], and `closing` more that close one after the other while
/// votes come in. Uses the admin API.
///
/// # Errors
/// The admin API answers with an error.
pub async fn make(crew: &mut Crew, start_ms: i64, duration: Duration, closing: u16) -> Result<Vec<Poll>> {
    let duration_ms = duration.as_millis() as i64;
    let at = |percent: i64| start_ms + duration_ms * percent / 100;
    let mut polls = Vec::with_capacity(KINDS.len() + usize::from(closing));
    for kind in KINDS {
        let (opens_ms, closes_ms) = match kind.window {
            Window::Open | Window::Moving => (start_ms - DAY_MS, None),
            Window::Closes(percent) => (start_ms - DAY_MS, Some(at(percent))),
            Window::Opens(percent) => (at(percent), None),
            Window::Past => (start_ms - 2 * DAY_MS, Some(start_ms - DAY_MS)),
            Window::Future => (start_ms + DAY_MS, None),
        };
        polls.push(create(crew, kind, opens_ms, closes_ms).await?);
    }
    let (contestants, limit) = CLOSING;
    for number in 1..=i64::from(closing) {
        let share = number * 100 / (i64::from(closing) + 1);
        let closes_ms = start_ms + duration_ms * number / (i64::from(closing) + 1);
        let closing = kind(Window::Closes(share), contestants, limit);
        polls.push(create(crew, closing, start_ms - DAY_MS, Some(closes_ms)).await?);
    }
    Ok(polls)
}

async fn create(crew: &mut Crew, kind: Kind, opens_ms: i64, closes_ms: Option<i64>) -> Result<Poll> {
    let contestants: Vec<Value> = (1..=kind.contestants)
        .map(|number| json!({ "number": number, "name": format!("No. {number}") }))
        .collect();
    let draft = json!({
        "title": "Chaos", "contestants": contestants, "votesPerVoter": kind.limit, "tapsMax": kind.taps_max, "draft": false,
        "opensAt": moment(opens_ms)?, "closesAt": closes_ms.map(moment).transpose()?,
    });
    let created = crew.call("POST", "/admin/polls", &draft).await?;
    let id = created["id"].as_i64().and_then(|id| i32::try_from(id).ok()).context("a poll without an id")?;
    Ok(Poll { id, kind, opens_ms, closes_ms })
}

/// Formats a moment as the HTTP contract does.
///
/// # Errors
/// The moment is out of range.
pub fn moment(ms: i64) -> Result<Value> {
    let moment = domain::Timestamp::from_millis(ms).context("a moment out of range")?;
    Ok(serde_json::to_value(moment)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_sent_around_the_close_may_be_on_either_side() {
        let closing = Poll { id: 1, kind: KINDS[5], opens_ms: 0, closes_ms: Some(100) };
        assert_eq!(closing.holds(98, 99), Some(true));
        assert_eq!(closing.holds(99, 100), None);
        assert_eq!(closing.holds(100, 101), Some(false));
        let moving = Poll { kind: KINDS[10], ..closing };
        assert_eq!(moving.holds(50, 50), None);
    }
}
