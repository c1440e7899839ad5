//! Changing a poll. The rules here keep four promises to voters:
//! - a vote that was valid when it was cast stays so, whatever the crew changes before it is counted;
//! - a vote counts for the contestant that its voter saw;
//! - a vote that counts was cast within the window that the poll shows, and outside its gaps;
//! - what is certified never changes.
//!
//! Votes wait in a queue that knows nothing of polls. So a poll that has opened may have votes that nobody has counted, and
//! most rules ask whether it has opened, not whether it has votes.

use serde::{Deserialize, Deserializer};

use super::{
    AfterOpening, BorneNames, Contestant, ContestantNumber, Draft, Erratum, Gap, Invalid, Poll, Results,
    Status, Timestamp,
    definition::{DraftContestant, ERRATA_MAX, ERRATUM_CHARS_MAX, GAPS_MAX, check_window, is_visible_text},
};

/// A change of some fields: the body of `PATCH /admin/polls/{id}`. An explicit `null` clears a field
/// that may be absent.
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
    results: Option<Results>,
    #[serde(default, deserialize_with = "given")]
    draft: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    contestants: Option<Vec<DraftContestant>>,
}

/// Tells a `null`, which only some fields may be, from an absent field.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What the ledger knows of a poll besides its definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether votes have been counted.
    pub has_votes: bool,
    /// The names that its numbers have borne since votes may be there, but for those of now.
    pub names: BorneNames,
}

impl Facts {
    /// Whether votes may be there: counted, or cast and not yet counted.
    pub fn may_have_votes(&self, poll: &Poll, now: Timestamp) -> bool {
        self.has_votes || poll.has_opened(now)
    }
}

impl Poll {
    /// The poll after a change at `now`. A change that changes nothing is always allowed.
    ///
    /// A closed poll whose `closes_at` moves is open again, with a [`Gap`] between.
    ///
    /// # Errors
    /// What is wrong with the definition that would result, or with changing it in the poll's state.
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

    /// The fields of the patch in place of the poll's.
    fn with(&self, patch: Patch) -> Result<Self, Invalid> {
        let unchanged = || self.contestants.iter().map(DraftContestant::from).collect();
        let draft = Draft {
            title: patch.title.unwrap_or_else(|| self.title.clone()),
            opens_at: patch.opens_at.unwrap_or(self.opens_at),
            closes_at: patch.closes_at.unwrap_or(self.closes_at),
            votes_per_voter: patch.votes_per_voter.unwrap_or(self.votes_per_voter),
            results: patch.results.unwrap_or(self.results),
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
            results: draft.results,
            draft: draft.draft,
            contestants,
            ..self.clone()
        })
    }

    /// Votes may be on their way: their window, contestants and ballots stay.
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

    /// Votes belong to numbers, names and ballots.
    fn check_votes_stay(&self, after: &Self, facts: &Facts) -> Result<(), Invalid> {
        let switches_limit = after.votes_per_voter.is_some() != self.votes_per_voter.is_some();
        if switches_limit && facts.has_votes {
            return Err(Invalid::LimitWithVotes);
        }
        if switches_limit || after.votes_per_voter < self.votes_per_voter {
            return Err(Invalid::Opened(AfterOpening::Limit));
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

    /// What was cast while the poll was closed stays uncounted. In the list again, too.
    fn reopened(mut self, closed_at: Option<Timestamp>, now: Timestamp) -> Result<Self, Invalid> {
        self.archived_at = None;
        let Some(from) = closed_at.filter(|&from| from < now) else { return Ok(self) };
        let is_full = self.gaps.len() == GAPS_MAX;
        match self.gaps.last_mut() {
            // Reopened and closed within one millisecond.
            Some(last) if last.to == from => last.to = now,
            _ if is_full => return Err(Invalid::ReopenedTooOften),
            _ => self.gaps.push(Gap { from, to: now }),
        }
        Ok(self)
    }

    /// The poll opened by hand at `now`, and public from now on. An open poll stays as it is. A closed one is open again,
    /// with its first opening, so that votes still on their way from then count; those cast in between do not.
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

    /// The poll closed by hand at `now`: votes cast before still count. A closed poll stays as it is.
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

    /// The poll with one contestant withdrawn: votes cast for it before `now` stay, later ones are rejected. A contestant
    /// that is withdrawn stays so from its own moment on.
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

    /// The poll out of the public list, from `now` on; its file stays. An archived poll stays as it is.
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

    /// The poll with one erratum more, dated `now`: beside the certified result, which stays. Not idempotent.
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

    /// Whether the poll may be deleted at `now`: only one that no valid vote can have been cast in.
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
