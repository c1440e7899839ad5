//! What the show may say of a poll: creating one, changing one, and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

use super::{Contestant, ContestantNumber, Poll, Results, Timestamp};

const TITLE_CHARS_MAX: usize = 200;
const NAME_CHARS_MAX: usize = 200;
const URL_CHARS_MAX: usize = 2_048;
/// One batch sends the totals of every contestant to Redis: 1,000 members is what still costs well under 1 ms.
const CONTESTANTS_MAX: usize = 1_000;
/// `votes/mine` looks up every ballot a voter may have by its key: 100 index probes.
pub(super) const VOTES_PER_VOTER_MAX: i16 = 100;

/// The definition of a poll before it has a number: the body of `POST /admin/polls`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Draft {
    /// 1 to 200 characters.
    pub title: String,
    /// The first moment whose votes count; absent: the poll is opened by hand.
    #[serde(default)]
    pub opens_at: Option<Timestamp>,
    /// The first moment whose votes no longer count, after `opens_at`; absent: closed by hand.
    #[serde(default)]
    pub closes_at: Option<Timestamp>,
    /// Ballots of each voter, 1 to 100; absent: every vote counts.
    #[serde(default)]
    pub votes_per_voter: Option<i16>,
    /// Who may see the standing; absent: everyone, live.
    #[serde(default)]
    pub results: Results,
    /// 1 to 1,000.
    pub contestants: Vec<DraftContestant>,
}

/// A contestant whose number may be left to us.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DraftContestant {
    /// 1 to 32,767; absent: the lowest number that is free.
    #[serde(default)]
    number: Option<i16>,
    /// 1 to 200 characters.
    name: String,
    /// http or https, up to 2,048 characters.
    #[serde(default)]
    image_url: Option<String>,
}

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
    contestants: Option<Vec<DraftContestant>>,
}

/// Tells a `null`, which only some fields may be, from an absent field.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Why a definition is refused. The message names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Empty, blank or too long.
    #[error("title: expected 1 to {TITLE_CHARS_MAX} characters")]
    Title,
    /// The window is empty or reversed.
    #[error("closesAt: must be after opensAt")]
    ClosesBeforeOpening,
    /// Out of range.
    #[error("votesPerVoter: expected 1 to {VOTES_PER_VOTER_MAX}, or null for no limit")]
    VotesPerVoter,
    /// None or too many.
    #[error("contestants: expected 1 to {CONTESTANTS_MAX}, got {0}")]
    ContestantCount(usize),
    /// Two contestants of one number.
    #[error("contestants[{index}].number: {number} is already taken")]
    NumberTaken {
        /// Place in the list, from 0.
        index: usize,
        /// The number.
        number: i16,
    },
    /// Zero or negative.
    #[error("contestants[{0}].number: expected 1 to 32767")]
    Number(usize),
    /// Empty, blank or too long.
    #[error("contestants[{0}].name: expected 1 to {NAME_CHARS_MAX} characters")]
    Name(usize),
    /// Not a web address.
    #[error(
        "contestants[{0}].imageUrl: expected an http or https address of at most {URL_CHARS_MAX} characters"
    )]
    ImageUrl(usize),
    /// Votes would change hands.
    #[error("contestants: the poll has votes, so number {0} must stay with its contestant")]
    Renumbered(i16),
    /// Votes would get other keys and count again.
    #[error("votesPerVoter: the poll has votes, so a limit can be changed but neither set nor removed")]
    LimitWithVotes,
    /// Votes would be lost.
    #[error("poll: it has votes, so it cannot be deleted")]
    DeletedWithVotes,
    /// The certified result would no longer follow from the definition.
    #[error(
        "poll: its result is certified; only its title, `results` and the looks of its contestants can change"
    )]
    Certified,
    /// Nothing to close.
    #[error("poll: it is not open, so it cannot be closed")]
    NotOpen,
}

impl Invalid {
    /// The stable code of the HTTP contract.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Title => "invalidTitle",
            Self::ClosesBeforeOpening => "invalidWindow",
            Self::VotesPerVoter => "invalidVotesPerVoter",
            Self::ContestantCount(_) => "invalidContestants",
            Self::NumberTaken { .. } => "contestantNumberTaken",
            Self::Number(_) => "invalidContestantNumber",
            Self::Name(_) => "invalidContestantName",
            Self::ImageUrl(_) => "invalidImageUrl",
            Self::Renumbered(_) | Self::LimitWithVotes | Self::DeletedWithVotes => "pollHasVotes",
            Self::Certified => "pollCertified",
            Self::NotOpen => "pollNotOpen",
        }
    }

    /// Whether the same request could be right for a poll in another state (409) or never is (422).
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Renumbered(_)
                | Self::LimitWithVotes
                | Self::DeletedWithVotes
                | Self::Certified
                | Self::NotOpen
        )
    }
}

impl Draft {
    /// Checks the whole definition and numbers the contestants, which it returns ascending by number.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Result<Vec<Contestant>, Invalid> {
        if !is_text(&self.title, TITLE_CHARS_MAX) {
            return Err(Invalid::Title);
        }
        if let (Some(opening), Some(bell)) = (self.opens_at, self.closes_at)
            && bell <= opening
        {
            return Err(Invalid::ClosesBeforeOpening);
        }
        if self.votes_per_voter.is_some_and(|limit| !(1..=VOTES_PER_VOTER_MAX).contains(&limit)) {
            return Err(Invalid::VotesPerVoter);
        }
        numbered(&self.contestants)
    }
}

fn is_text(text: &str, chars_max: usize) -> bool {
    !text.trim().is_empty() && text.chars().count() <= chars_max && !text.contains('\0')
}

fn is_web_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty())
        && text.len() <= URL_CHARS_MAX
        && !text.contains(|char: char| char.is_whitespace() || char.is_control())
}

fn numbered(drafts: &[DraftContestant]) -> Result<Vec<Contestant>, Invalid> {
    if !(1..=CONTESTANTS_MAX).contains(&drafts.len()) {
        return Err(Invalid::ContestantCount(drafts.len()));
    }
    let mut taken = BTreeSet::new();
    for (index, draft) in drafts.iter().enumerate() {
        if !is_text(&draft.name, NAME_CHARS_MAX) {
            return Err(Invalid::Name(index));
        }
        if draft.image_url.as_deref().is_some_and(|url| !is_web_address(url)) {
            return Err(Invalid::ImageUrl(index));
        }
        match draft.number {
            Some(number) if number < 1 => return Err(Invalid::Number(index)),
            Some(number) if !taken.insert(number) => return Err(Invalid::NumberTaken { index, number }),
            _ => {}
        }
    }
    let mut free = (1..=i16::MAX).filter(|number| !taken.contains(number));
    let mut contestants: Vec<_> = drafts
        .iter()
        .map(|draft| Contestant {
            number: ContestantNumber(
                draft.number.or_else(|| free.next()).expect("1,000 contestants leave numbers free"),
            ),
            name: draft.name.clone(),
            image_url: draft.image_url.clone(),
        })
        .collect();
    contestants.sort_by_key(|contestant| contestant.number);
    Ok(contestants)
}

impl Poll {
    /// The poll after a change. Moving the window judges votes still to come; it does not judge again what has
    /// been counted or rejected.
    ///
    /// # Errors
    /// What is wrong with the definition that would result, or with changing it while the poll has votes.
    pub fn patched(&self, patch: Patch, has_votes: bool) -> Result<Self, Invalid> {
        let unchanged = || self.contestants.iter().map(DraftContestant::from).collect();
        let draft = Draft {
            title: patch.title.unwrap_or_else(|| self.title.clone()),
            opens_at: patch.opens_at.unwrap_or(self.opens_at),
            closes_at: patch.closes_at.unwrap_or(self.closes_at),
            votes_per_voter: patch.votes_per_voter.unwrap_or(self.votes_per_voter),
            results: patch.results.unwrap_or(self.results),
            contestants: patch.contestants.unwrap_or_else(unchanged),
        };
        let contestants = draft.check()?;
        if has_votes {
            self.check_votes_stay(&draft, &contestants)?;
        }
        if self.frozen_at.is_some() {
            self.check_frozen(&draft, &contestants)?;
        }
        Ok(Self {
            title: draft.title,
            opens_at: draft.opens_at,
            closes_at: draft.closes_at,
            votes_per_voter: draft.votes_per_voter,
            results: draft.results,
            contestants,
            ..self.clone()
        })
    }

    fn check_frozen(&self, draft: &Draft, contestants: &[Contestant]) -> Result<(), Invalid> {
        let numbers = |all: &[Contestant]| all.iter().map(|one| one.number).collect::<Vec<_>>();
        let stays = (draft.opens_at, draft.closes_at, draft.votes_per_voter)
            == (self.opens_at, self.closes_at, self.votes_per_voter)
            && numbers(contestants) == numbers(&self.contestants);
        if stays { Ok(()) } else { Err(Invalid::Certified) }
    }

    /// Votes belong to numbers and ballots: a contestant may be renamed or added, but none may leave its number.
    fn check_votes_stay(&self, draft: &Draft, contestants: &[Contestant]) -> Result<(), Invalid> {
        if draft.votes_per_voter.is_some() != self.votes_per_voter.is_some() {
            return Err(Invalid::LimitWithVotes);
        }
        let after: BTreeMap<_, _> = contestants.iter().map(|one| (one.number, one.name.as_str())).collect();
        for before in &self.contestants {
            let stays = match after.get(&before.number) {
                Some(name) if *name == before.name => true,
                Some(_) => !after.values().any(|name| *name == before.name),
                None => false,
            };
            if !stays {
                return Err(Invalid::Renumbered(before.number.0));
            }
        }
        Ok(())
    }

    /// The poll opened by hand at `now`. An open poll stays as it is. A closed one is open again, with its first
    /// opening, so that votes still on their way from then count.
    ///
    /// # Errors
    /// [`Invalid::Certified`] for a poll whose result is final.
    pub fn opened(&self, now: Timestamp) -> Result<Self, Invalid> {
        if self.frozen_at.is_some() {
            return Err(Invalid::Certified);
        }
        let opens_at = Some(self.opens_at.map_or(now, |opening| opening.min(now)));
        let closes_at = self.closes_at.filter(|&bell| bell > now);
        Ok(Self { opens_at, closes_at, ..self.clone() })
    }

    /// The poll closed by hand at `now`: votes cast before still count. A closed poll stays as it is.
    ///
    /// # Errors
    /// [`Invalid::NotOpen`] for a scheduled poll.
    pub fn closed(&self, now: Timestamp) -> Result<Self, Invalid> {
        if self.closes_at.is_some_and(|bell| bell <= now) {
            return Ok(self.clone());
        }
        if self.opens_at.is_none_or(|opening| opening > now) {
            return Err(Invalid::NotOpen);
        }
        Ok(Self { closes_at: Some(now), ..self.clone() })
    }
}

impl From<&Contestant> for DraftContestant {
    fn from(contestant: &Contestant) -> Self {
        Self {
            number: Some(contestant.number.0),
            name: contestant.name.clone(),
            image_url: contestant.image_url.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{
        Status,
        poll::tests::{at, poll},
    };

    #[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
    fn draft(changes: Value) -> Result<Vec<Contestant>, Invalid> {
        let mut body = json!({"title": "Who stays?", "results": "live", "contestants": [{"name": "Ana"}]});
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value::<Draft>(body).unwrap().check()
    }

    fn patched(changes: Value, has_votes: bool) -> Result<Poll, Invalid> {
        poll().patched(serde_json::from_value(changes).unwrap(), has_votes)
    }

    #[test]
    fn each_bad_field_is_named() {
        let contestants = |list: Value| draft(json!({ "contestants": list })).unwrap_err().to_string();
        let field = |error: String| error.split(':').next().unwrap().to_owned();
        assert_eq!(draft(json!({"title": " "})), Err(Invalid::Title));
        assert_eq!(draft(json!({"title": "x".repeat(201)})), Err(Invalid::Title));
        let window = json!({"opensAt": "2026-01-01T00:00:01Z", "closesAt": "2026-01-01T00:00:01Z"});
        assert_eq!(draft(window), Err(Invalid::ClosesBeforeOpening));
        assert_eq!(draft(json!({"votesPerVoter": 0})), Err(Invalid::VotesPerVoter));
        assert_eq!(draft(json!({"votesPerVoter": 101})), Err(Invalid::VotesPerVoter));
        assert_eq!(contestants(json!([])), "contestants: expected 1 to 1000, got 0");
        assert_eq!(field(contestants(json!([{"name": "a"}, {"name": ""}]))), "contestants[1].name");
        assert_eq!(field(contestants(json!([{"name": "a", "number": 0}]))), "contestants[0].number");
        let twice = json!([{"name": "a", "number": 3}, {"name": "b", "number": 3}]);
        assert_eq!(contestants(twice), "contestants[1].number: 3 is already taken");
        for url in ["javascript:alert(1)", "https://", "https://a b"] {
            let error = contestants(json!([{"name": "a", "imageUrl": url}]));
            assert_eq!(field(error), "contestants[0].imageUrl", "{url}");
        }
        assert!(draft(json!({"contestants": vec![json!({"name": "a"}); 1_000]})).is_ok());
        assert_eq!(
            draft(json!({"contestants": vec![json!({"name": "a"}); 1_001]})),
            Err(Invalid::ContestantCount(1_001))
        );
    }

    #[test]
    fn contestants_without_a_number_get_the_lowest_free_ones() {
        let list = json!([{"name": "a"}, {"name": "b", "number": 1}, {"name": "c"}]);
        let numbered = draft(json!({ "contestants": list })).unwrap();
        let lines: Vec<_> = numbered.iter().map(|one| (one.number.0, one.name.as_str())).collect();
        assert_eq!(lines, [(1, "b"), (2, "a"), (3, "c")]);
    }

    #[test]
    fn a_patch_changes_what_it_names_and_null_clears() {
        let after = patched(json!({"title": "Who goes?", "closesAt": null}), true).unwrap();
        assert_eq!(after, Poll { title: "Who goes?".to_owned(), closes_at: None, ..poll() });
        assert_eq!(patched(json!({}), true).unwrap(), poll());
        for field in ["title", "results", "contestants"] {
            assert!(serde_json::from_value::<Patch>(json!({field: null})).is_err(), "{field}");
        }
    }

    #[test]
    fn votes_keep_their_contestants() {
        let list = |names: [&str; 3]| {
            json!({"contestants": [
                {"number": 1, "name": names[0]}, {"number": 2, "name": names[1]}, {"number": 7, "name": names[2]},
            ]})
        };
        let renamed = list(["Anna", "Bia", "Caio"]);
        let swapped = list(["Bia", "Ana", "Caio"]);
        let removed = json!({"contestants": [{"number": 1, "name": "Ana"}, {"number": 2, "name": "Bia"}]});
        assert!(patched(renamed, true).is_ok());
        assert_eq!(patched(swapped.clone(), true), Err(Invalid::Renumbered(1)));
        assert_eq!(patched(removed.clone(), true), Err(Invalid::Renumbered(7)));
        assert!(patched(swapped, false).is_ok());
        assert!(patched(removed, false).is_ok());
    }

    #[test]
    fn what_a_certified_result_follows_from_stays() {
        let frozen = Poll { frozen_at: Some(at(3_000)), ..poll() };
        let patched = |changes: Value| frozen.patched(serde_json::from_value(changes).unwrap(), false);
        let added = json!([{"number": 1, "name": "Ana"}, {"number": 2, "name": "Bia"}, {"number": 7, "name": "Caio"},
            {"number": 8, "name": "Davi"}]);
        for change in [json!({"closesAt": null}), json!({"votesPerVoter": 3}), json!({"contestants": added})]
        {
            assert_eq!(patched(change.clone()), Err(Invalid::Certified), "{change}");
        }
        assert!(patched(json!({"title": "Who stayed?", "results": "hidden"})).is_ok());
        assert_eq!(frozen.opened(at(4_000)), Err(Invalid::Certified));
        assert_eq!(frozen.closed(at(4_000)), Ok(frozen.clone()));
    }

    #[test]
    fn a_limit_is_neither_set_nor_removed_under_votes() {
        assert_eq!(patched(json!({"votesPerVoter": 3}), true), Err(Invalid::LimitWithVotes));
        assert_eq!(patched(json!({"votesPerVoter": 3}), false).unwrap().votes_per_voter, Some(3));
        let limited = Poll { votes_per_voter: Some(3), ..poll() };
        let patch = |value: Value| serde_json::from_value(json!({ "votesPerVoter": value })).unwrap();
        assert_eq!(limited.patched(patch(Value::Null), true), Err(Invalid::LimitWithVotes));
        assert_eq!(limited.patched(patch(json!(5)), true).unwrap().votes_per_voter, Some(5));
    }

    #[test]
    fn opening_and_closing_by_hand() {
        let scheduled = Poll { opens_at: None, closes_at: None, ..poll() };
        assert_eq!(scheduled.closed(at(1_500)), Err(Invalid::NotOpen));
        let open = scheduled.opened(at(1_500)).unwrap();
        assert_eq!((open.status(at(1_500)), open.opens_at), (Status::Open, Some(at(1_500))));
        assert_eq!(open.opened(at(1_600)), Ok(open.clone()), "opening again changes nothing");
        let closed = open.closed(at(1_700)).unwrap();
        assert_eq!((closed.status(at(1_699)), closed.status(at(1_700))), (Status::Open, Status::Closed));
        assert_eq!(closed.closed(at(1_800)).unwrap(), closed, "closing again changes nothing");
        let reopened = closed.opened(at(1_900)).unwrap();
        assert_eq!((reopened.opens_at, reopened.closes_at), (Some(at(1_500)), None));
        assert_eq!(poll().opened(at(800)).unwrap().opens_at, Some(at(800)), "ahead of schedule");
        assert_eq!(poll().opened(at(800)).unwrap().closes_at, Some(at(2_000)), "which keeps its bell");
    }
}
