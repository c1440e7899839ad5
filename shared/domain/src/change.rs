//! Changes of a poll by the crew. The rules guarantee four things to voters:
//! - a vote that was valid when it was cast stays valid, whatever the crew changes before it is counted;
//! - a vote counts for the contestant that its voter saw;
//! - a counted vote was cast within the window that the poll shows, and outside its gaps;
//! - a certified result never changes.
//!
//! Votes wait in a queue that is not divided by poll. So a poll that has opened may have uncounted votes, and most
//! rules check whether the poll has opened, not whether it has votes.
//!
//! To add a rule: 1. Add the refusal to [`Invalid`] with its code. 2. Check it in [`Poll::patched`] or in the method
//! of the action. 3. Extend the random sequences of crew actions in `change/life.rs` if the rule concerns votes.

use serde::{Deserialize, Deserializer};

use super::{
    AfterOpening, Contestant, ContestantNumber, Draft, Erratum, Gap, Invalid, NameHistory, Pace, Poll,
    Results, Status, Timestamp,
    definition::{DraftContestant, ERRATA_MAX, ERRATUM_CHARS_MAX, GAPS_MAX, check_window, is_visible_text},
};

/// A partial update: the body of `PATCH /admin/polls/{id}`. An explicit `null` clears an optional field.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Patch {
    #[serde(default, deserialize_with = "given")]
    title: Option<String>,
    #[serde(default, deserialize_with = "given")]
    opens_at: Option<Option<Timestamp>>,
    #[serde(default, deserialize_with = "given")]
    closes_at: Option<Option<Timestamp>>,
    #[serde(default, deserialize_with = "given")]
    votes_per_voter: Option<Option<i16>>,
    #[serde(default, deserialize_with = "given")]
    taps_max: Option<i16>,
    #[serde(default, deserialize_with = "given")]
    results: Option<Results>,
    #[serde(default, deserialize_with = "given")]
    pace: Option<Pace>,
    #[serde(default, deserialize_with = "given")]
    draft: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    contestants: Option<Vec<DraftContestant>>,
}

/// Distinguishes an explicit `null` from an absent field.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The state of a poll in the ledger besides its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether votes have been counted.
    pub has_votes: bool,
    /// The former names of its numbers since its opening or first vote, without the current ones.
    pub names: NameHistory,
}

impl Facts {
    /// Returns whether the poll may have votes: counted ones, or ones in flight.
    pub fn may_have_votes(&self, poll: &Poll, now: Timestamp) -> bool {
        self.has_votes || poll.has_opened(now)
    }
}

impl Poll {
    /// Returns the poll after a change at `now`. A change without effect is always allowed.
    ///
    /// Moving the `closes_at` of a closed poll reopens it, with a [`Gap`] between close and reopening.
    ///
    /// # Errors
    /// The error in the resulting definition, or the reason why the poll's state forbids the change.
    pub fn patched(&self, patch: Patch, facts: &Facts, now: Timestamp) -> Result<Self, Invalid> {
        let before = Self { draft: self.is_draft(now), ..self.clone() };
        let moves_window = patch.opens_at.is_some() || patch.closes_at.is_some();
        let after = before.with(patch)?;
        if after == before {
            return Ok(self.clone());
        }
        if self.frozen_at.is_some() {
            return Err(Invalid::Certified);
        }
        if after.draft && !before.draft {
            return Err(Invalid::Published);
        }
        if moves_window {
            check_window(after.opens_at, after.closes_at)?;
        }
        if self.has_opened(now) {
            self.check_opened(&after, now)?;
        }
        if facts.may_have_votes(self, now) {
            self.check_votes_stay(&after, facts)?;
        }
        let reopens = self.has_closed_after_opening(now) && after.closes_at != self.closes_at;
        let after = if reopens { after.reopened(self.closes_at, now)? } else { after };
        Ok(Self { draft: after.is_draft(now), ..after })
    }

    /// Replaces the fields that the patch contains.
    fn with(&self, patch: Patch) -> Result<Self, Invalid> {
        let unchanged = || self.contestants.iter().map(DraftContestant::from).collect();
        let draft = Draft {
            title: patch.title.unwrap_or_else(|| self.title.clone()),
            opens_at: patch.opens_at.unwrap_or(self.opens_at),
            closes_at: patch.closes_at.unwrap_or(self.closes_at),
            votes_per_voter: patch.votes_per_voter.unwrap_or(self.votes_per_voter),
            taps_max: patch.taps_max.unwrap_or(self.taps_max),
            results: patch.results.unwrap_or(self.results),
            pace: patch.pace.unwrap_or(self.pace),
            draft: patch.draft.unwrap_or(self.draft),
            contestants: patch.contestants.unwrap_or_else(unchanged),
        };
        let withdrawn_at = |number| self.contestant(number).and_then(|contestant| contestant.withdrawn_at);
        let contestants = draft.check_fields()?.into_iter();
        let contestants = contestants
            .map(|contestant| Contestant { withdrawn_at: withdrawn_at(contestant.number), ..contestant })
            .collect();
        Ok(Self {
            title: draft.title,
            opens_at: draft.opens_at,
            closes_at: draft.closes_at,
            votes_per_voter: draft.votes_per_voter,
            taps_max: draft.taps_max,
            results: draft.results,
            pace: draft.pace,
            draft: draft.draft,
            contestants,
            ..self.clone()
        })
    }

    /// Checks a change of a poll that may have votes in flight: opening and contestants stay, the close is not in
    /// the past.
    fn check_opened(&self, after: &Self, now: Timestamp) -> Result<(), Invalid> {
        if after.opens_at != self.opens_at {
            return Err(Invalid::Opened(AfterOpening::MoveOpening));
        }
        if after.closes_at != self.closes_at && after.closes_at.is_some_and(|close| close < now) {
            return Err(Invalid::ClosesInThePast);
        }
        if let Some(number) = self.first_removed(after) {
            return Err(Invalid::Opened(AfterOpening::Remove(number)));
        }
        Ok(())
    }

    /// Checks that the votes of a poll keep their ballots, numbers and names.
    fn check_votes_stay(&self, after: &Self, facts: &Facts) -> Result<(), Invalid> {
        let switches_limit = after.votes_per_voter.is_some() != self.votes_per_voter.is_some();
        if switches_limit && facts.has_votes {
            return Err(Invalid::LimitWithVotes);
        }
        if switches_limit || after.votes_per_voter < self.votes_per_voter {
            return Err(Invalid::Opened(AfterOpening::Limit));
        }
        if after.taps_max < self.taps_max {
            return Err(Invalid::Opened(AfterOpening::LowerTaps));
        }
        if let Some(number) = self.first_removed(after) {
            return Err(Invalid::RemovedWithVotes(number));
        }
        facts.names.with(&self.contestants).check(&after.contestants)
    }

    fn first_removed(&self, after: &Self) -> Option<i16> {
        let mut numbers = self.contestants.iter().map(|contestant| contestant.number);
        numbers.find(|&number| after.contestant(number).is_none()).map(|number| number.0)
    }

    fn has_closed_after_opening(&self, now: Timestamp) -> bool {
        self.has_opened(now) && self.status(now) == Status::Closed
    }

    /// Adds a gap for the time in which the poll was closed, whose votes stay uncounted, and unarchives the poll.
    fn reopened(mut self, closed_at: Option<Timestamp>, now: Timestamp) -> Result<Self, Invalid> {
        self.archived_at = None;
        let Some(from) = closed_at.filter(|&from| from < now) else { return Ok(self) };
        let is_full = self.gaps.len() == GAPS_MAX;
        match self.gaps.last_mut() {
            // The poll was reopened and closed within one millisecond.
            Some(last) if last.to == from => last.to = now,
            _ if is_full => return Err(Invalid::ReopenedTooOften),
            _ => self.gaps.push(Gap { from, to: now }),
        }
        Ok(self)
    }

    /// Opens the poll by hand at `now` and publishes it. An open poll stays unchanged. A closed poll is reopened
    /// with its first opening, so that votes in flight from before the close still count. Votes cast in between do
    /// not.
    ///
    /// # Errors
    /// [`Invalid::Certified`] for a poll whose result is final; [`Invalid::ReopenedTooOften`].
    pub fn opened(&self, now: Timestamp) -> Result<Self, Invalid> {
        if self.frozen_at.is_some() {
            return Err(Invalid::Certified);
        }
        if self.has_closed_after_opening(now) {
            let open = Self { closes_at: None, draft: false, ..self.clone() };
            return open.reopened(self.closes_at, now);
        }
        let opens_at = Some(self.opens_at.map_or(now, |opening| opening.min(now)));
        let closes_at = self.closes_at.filter(|&close| close > now);
        Ok(Self { opens_at, closes_at, draft: false, ..self.clone() })
    }

    /// Closes the poll by hand at `now`. Votes cast before still count. A closed poll stays unchanged.
    ///
    /// # Errors
    /// [`Invalid::NotOpen`] for a scheduled poll.
    pub fn closed(&self, now: Timestamp) -> Result<Self, Invalid> {
        match self.status(now) {
            Status::Closed => Ok(self.clone()),
            Status::Scheduled => Err(Invalid::NotOpen),
            Status::Open => Ok(Self { closes_at: Some(now), ..self.clone() }),
        }
    }

    /// Withdraws one contestant: votes cast for it before `now` stay, later ones are rejected. A second withdrawal
    /// of the same contestant changes nothing.
    ///
    /// # Errors
    /// [`Invalid::UnknownContestant`]; [`Invalid::Certified`].
    pub fn withdrawn(&self, number: i64, now: Timestamp) -> Result<Self, Invalid> {
        let mut after = self.clone();
        let known = i16::try_from(number).map(ContestantNumber).ok();
        let found = after.contestants.iter_mut().find(|contestant| Some(contestant.number) == known);
        let contestant = found.ok_or(Invalid::UnknownContestant(number))?;
        if contestant.withdrawn_at.is_some() {
            return Ok(after);
        }
        if self.frozen_at.is_some() {
            return Err(Invalid::Certified);
        }
        contestant.withdrawn_at = Some(now);
        Ok(after)
    }

    /// Removes the poll from the public list at `now`. Its public file stays. An archived poll stays unchanged.
    ///
    /// # Errors
    /// [`Invalid::NotClosed`].
    pub fn archived(&self, now: Timestamp) -> Result<Self, Invalid> {
        if self.archived_at.is_some() {
            return Ok(self.clone());
        }
        if self.status(now) != Status::Closed {
            return Err(Invalid::NotClosed);
        }
        Ok(Self { archived_at: Some(now), ..self.clone() })
    }

    /// Adds an erratum dated `now`. The certified result stays unchanged. Not idempotent.
    ///
    /// # Errors
    /// [`Invalid::Erratum`]; [`Invalid::NotCertified`]; [`Invalid::TooManyErrata`].
    pub fn corrected(&self, text: &str, now: Timestamp) -> Result<Self, Invalid> {
        if !is_visible_text(text, ERRATUM_CHARS_MAX) {
            return Err(Invalid::Erratum);
        }
        if self.frozen_at.is_none() {
            return Err(Invalid::NotCertified);
        }
        if self.errata.len() >= ERRATA_MAX {
            return Err(Invalid::TooManyErrata);
        }
        let mut after = self.clone();
        after.errata.push(Erratum { at: now, text: text.to_owned() });
        Ok(after)
    }

    /// Checks that the poll may be deleted at `now`: no valid vote can have been cast in it.
    ///
    /// # Errors
    /// [`Invalid::Certified`]; [`Invalid::Opened`]; [`Invalid::DeletedWithVotes`].
    pub fn check_deletable(&self, facts: &Facts, now: Timestamp) -> Result<(), Invalid> {
        if self.frozen_at.is_some() {
            Err(Invalid::Certified)
        } else if self.has_opened(now) {
            Err(Invalid::Opened(AfterOpening::Delete))
        } else if facts.has_votes {
            Err(Invalid::DeletedWithVotes)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod life;
#[cfg(test)]
mod tests;
