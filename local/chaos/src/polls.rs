//! The polls of a run: one for each way in which a window or a limit can decide about a vote.
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::Crew;

const DAY_MS: i64 = 24 * 3600 * 1000;

/// When votes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Always.
    Open,
    /// Until the bell, at this percentage of the run.
    Closes(i64),
    /// From this percentage of the run on.
    Opens(i64),
    /// Until yesterday.
    Past,
    /// From tomorrow on.
    Future,
    /// The crew closes it and opens it again while votes come in.
    Moving,
}

/// What a poll is like.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its window.
    pub window: Window,
    /// Numbered from 1.
    pub contestants: i64,
    /// Ballots of each voter.
    pub limit: Option<i64>,
}

const fn kind(window: Window, contestants: i64, limit: Option<i64>) -> Kind {
    Kind { window, contestants, limit }
}

/// Every kind, by its place in [`Polls`].
pub const KINDS: [Kind; 11] = [
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
];

/// A poll that closes in the run, besides those of [`KINDS`].
const CLOSING: (i64, Option<i64>) = (3, None);

/// A poll that is there.
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    /// Its number in the ledger.
    pub id: i32,
    /// What it is like.
    pub kind: Kind,
    /// First moment that counts, in ms since 1970.
    pub opens_ms: i64,
    /// First moment that no longer counts. A moving poll has several, which nobody knows before.
    pub closes_ms: Option<i64>,
}

impl Poll {
    /// Whether both ends of its window are known.
    pub fn is_fixed(&self) -> bool {
        self.kind.window != Window::Moving
    }

    /// Whether a vote that was sent at some time from `first` to `last` was in the window; `None`: it depends.
    pub fn holds(&self, first_ms: i64, last_ms: i64) -> Option<bool> {
        if !self.is_fixed() {
            return None;
        }
        let inside = |ms: i64| self.opens_ms <= ms && self.closes_ms.is_none_or(|closes_ms| ms < closes_ms);
        (inside(first_ms) == inside(last_ms)).then(|| inside(first_ms))
    }

    /// Whether it closes by itself and is to be certified.
    pub fn closes(&self) -> bool {
        matches!(self.kind.window, Window::Closes(_) | Window::Past)
    }

    /// Why a vote outside the window is rejected.
    pub fn outside_reason(&self) -> &'static str {
        match self.kind.window {
            Window::Opens(_) | Window::Future => "beforeOpening",
            _ => "afterClosing",
        }
    }
}

/// Makes one poll of each kind, in the order of [`KINDS`], and `closing` more that close one after the other while votes
/// come in, through the admin routes.
///
/// # Errors
/// The admin API does not answer as it should.
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
        polls.push(make_one(crew, kind, opens_ms, closes_ms).await?);
    }
    let (contestants, limit) = CLOSING;
    for number in 1..=i64::from(closing) {
        let share = number * 100 / (i64::from(closing) + 1);
        let closes_ms = start_ms + duration_ms * number / (i64::from(closing) + 1);
        let closing = kind(Window::Closes(share), contestants, limit);
        polls.push(make_one(crew, closing, start_ms - DAY_MS, Some(closes_ms)).await?);
    }
    Ok(polls)
}

async fn make_one(crew: &mut Crew, kind: Kind, opens_ms: i64, closes_ms: Option<i64>) -> Result<Poll> {
    let contestants: Vec<Value> = (1..=kind.contestants)
        .map(|number| json!({ "number": number, "name": format!("No. {number}") }))
        .collect();
    let draft = json!({
        "title": "Chaos", "contestants": contestants, "votesPerVoter": kind.limit, "draft": false,
        "opensAt": moment(opens_ms)?, "closesAt": closes_ms.map(moment).transpose()?,
    });
    let made = crew.call("POST", "/admin/polls", &draft).await?;
    let id = made["id"].as_i64().and_then(|id| i32::try_from(id).ok()).context("a poll without an id")?;
    Ok(Poll { id, kind, opens_ms, closes_ms })
}

/// As the HTTP contract writes it.
///
/// # Errors
/// A moment out of range.
pub fn moment(ms: i64) -> Result<Value> {
    let moment = domain::Timestamp::from_millis(ms).context("a moment out of range")?;
    Ok(serde_json::to_value(moment)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_votes_around_the_bell_may_be_on_either_side() {
        let bell = Poll { id: 1, kind: KINDS[5], opens_ms: 0, closes_ms: Some(100) };
        assert_eq!(bell.holds(98, 99), Some(true));
        assert_eq!(bell.holds(99, 100), None);
        assert_eq!(bell.holds(100, 101), Some(false));
        let moving = Poll { kind: KINDS[10], ..bell };
        assert_eq!(moving.holds(50, 50), None);
    }
}
