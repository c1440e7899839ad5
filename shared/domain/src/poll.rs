use serde::{Deserialize, Serialize};

use super::{Pace, Tally, Timestamp};

/// A poll's number: positive, assigned by the ledger, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollId(pub i32);

impl PollId {
    /// The first number of a rehearsal; a show's polls have lower ones.
    pub const REHEARSALS_FROM: Self = Self(1_000_000_000);
}

/// The number of a contestant ("vote 7"): 1 to 32,767, unique within its poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContestantNumber(pub i16);

/// One option of a poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contestant {
    /// The number that viewers vote for.
    pub number: ContestantNumber,
    /// The name on pages.
    pub name: String,
    /// The address of a picture, http or https.
    pub image_url: Option<String>,
    /// The first moment whose votes for the contestant no longer count. `None` if it takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Timestamp>,
}

/// A period between a close and a reopening. Votes cast in it do not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first moment whose votes do not count.
    pub from: Timestamp,
    /// The first moment whose votes count again.
    pub to: Timestamp,
}

/// A correction beside a certified result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erratum {
    /// The time of publication.
    pub at: Timestamp,
    /// The correction.
    pub text: String,
}

/// The visibility of the standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Results {
    /// Everyone, always.
    #[default]
    Live,
    /// Everyone, once the poll is closed.
    AfterClose,
    /// Only the show.
    Hidden,
}

/// The status of a poll. It is derived from the window and the clock, so no job has to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Not yet open, or without an opening time.
    Scheduled,
    /// Votes cast now count.
    Open,
    /// Votes cast now are rejected. Earlier votes may still be in flight.
    Closed,
}

/// The definition of a poll in the ledger. Contestants are sorted by number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// The poll's number.
    pub id: PollId,
    /// The question.
    pub title: String,
    /// The first moment whose votes count. `None` if not scheduled.
    pub opens_at: Option<Timestamp>,
    /// The first moment whose votes no longer count. `None` if the poll is closed by hand.
    pub closes_at: Option<Timestamp>,
    /// Ballots of each voter. `None` if every vote counts.
    pub votes_per_voter: Option<i16>,
    /// The taps that one vote may stand for, from 1.
    pub taps_max: i16,
    /// The visibility of the standing.
    pub results: Results,
    /// How often pages request the poll's file.
    pub pace: Pace,
    /// The options, ascending by number.
    pub contestants: Vec<Contestant>,
    /// Whether the poll is hidden from the public until it opens. See [`is_draft`](Self::is_draft).
    pub draft: bool,
    /// The time when the poll left the public list.
    pub archived_at: Option<Timestamp>,
    /// Periods within the window whose votes do not count, ascending.
    pub gaps: Vec<Gap>,
    /// Corrections of the certified result, oldest first.
    pub errata: Vec<Erratum>,
    /// Incremented with every change of the definition. A batch counts only by the current version.
    pub version: i32,
    /// Incremented with every rebuild. A ranking belongs to one epoch.
    pub epoch: i32,
    /// The time of creation, constant: the prefix of keys that have no time of their own.
    pub created_at: Timestamp,
    /// The time since when no vote is counted, not even one cast in time: the result is certified, or about to be.
    pub frozen_at: Option<Timestamp>,
}

impl Poll {
    /// Returns the poll's status at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        if self.closes_at.is_some_and(|close| now >= close) {
            Status::Closed
        } else if self.opens_at.is_some_and(|opening| now >= opening) {
            Status::Open
        } else {
            Status::Scheduled
        }
    }

    /// Returns whether the poll's opening has passed at `now`. A poll that has closed since has opened, too.
    pub fn has_opened(&self, now: Timestamp) -> bool {
        self.opens_at.is_some_and(|opening| opening <= now)
    }

    /// Returns whether the poll does not exist for the public at `now`. A poll that has opened is never a draft.
    pub fn is_draft(&self, now: Timestamp) -> bool {
        self.draft && !self.has_opened(now)
    }

    /// Returns whether `moment` lies between a close and a reopening.
    pub fn is_in_gap(&self, moment: Timestamp) -> bool {
        self.gaps.iter().any(|gap| gap.from <= moment && moment < gap.to)
    }

    /// Returns the contestant with this number.
    pub fn contestant(&self, number: ContestantNumber) -> Option<&Contestant> {
        let found = self.contestants.binary_search_by_key(&number, |contestant| contestant.number);
        found.ok().map(|index| &self.contestants[index])
    }

    /// Returns whether the public may see the standing at `now`.
    pub fn shows_results(&self, now: Timestamp) -> bool {
        match self.results {
            Results::Live => true,
            Results::AfterClose => self.status(now) == Status::Closed,
            Results::Hidden => false,
        }
    }

    /// Returns the poll as the HTTP contract shows it to the crew.
    pub fn crew_view(&self, now: Timestamp) -> CrewView<'_> {
        CrewView {
            poll: self.view(now),
            pace: self.pace,
            draft: self.is_draft(now),
            archived_at: self.archived_at,
            version: self.version,
        }
    }

    /// Returns the poll as the HTTP contract shows it to everyone.
    pub fn view(&self, now: Timestamp) -> PollView<'_> {
        PollView {
            id: self.id,
            title: &self.title,
            status: self.status(now),
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            votes_per_voter: self.votes_per_voter,
            taps_max: self.taps_max,
            results: self.results,
            contestants: &self.contestants,
            gaps: &self.gaps,
            errata: &self.errata,
        }
    }
}

/// `CrewPoll` of the HTTP contract.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CrewView<'a> {
    #[serde(flatten)]
    poll: PollView<'a>,
    pace: Pace,
    draft: bool,
    archived_at: Option<Timestamp>,
    version: i32,
}

/// `Poll` of the HTTP contract.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PollView<'a> {
    id: PollId,
    title: &'a str,
    status: Status,
    opens_at: Option<Timestamp>,
    closes_at: Option<Timestamp>,
    votes_per_voter: Option<i16>,
    taps_max: i16,
    results: Results,
    contestants: &'a [Contestant],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gaps: &'a [Gap],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errata: &'a [Erratum],
}

/// A poll with its counters, read in one statement.
#[derive(Debug, Clone)]
pub struct PollWithTally {
    /// The definition.
    pub poll: Poll,
    /// The votes of every contestant.
    pub tally: Tally,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    /// Returns a poll with contestants 1, 2 and 7 that is open from 1,000 to 2,000 ms.
    pub fn poll() -> Poll {
        let contestant = |number, name: &str| Contestant {
            number: ContestantNumber(number),
            name: name.to_owned(),
            image_url: None,
            withdrawn_at: None,
        };
        Poll {
            id: PollId(1),
            title: "Who stays?".to_owned(),
            opens_at: Some(at(1_000)),
            closes_at: Some(at(2_000)),
            votes_per_voter: None,
            taps_max: 1,
            results: Results::Live,
            pace: Pace::Auto,
            contestants: vec![contestant(1, "Ana"), contestant(2, "Bia"), contestant(7, "Caio")],
            draft: false,
            archived_at: None,
            gaps: Vec::new(),
            errata: Vec::new(),
            version: 1,
            epoch: 1,
            created_at: at(500),
            frozen_at: None,
        }
    }

    #[test]
    fn the_window_includes_its_first_moment_and_excludes_its_last() {
        let poll = poll();
        let status = [999, 1_000, 1_999, 2_000].map(|millis| poll.status(at(millis)));
        assert_eq!(status, [Status::Scheduled, Status::Open, Status::Open, Status::Closed]);
    }

    #[test]
    fn a_poll_without_an_opening_is_scheduled_for_ever() {
        let poll = Poll { opens_at: None, closes_at: None, ..poll() };
        assert_eq!(poll.status(at(1_000_000)), Status::Scheduled);
    }

    #[test]
    fn a_draft_is_one_until_it_opens() {
        let draft = Poll { draft: true, ..poll() };
        assert!(draft.is_draft(at(999)) && !draft.is_draft(at(1_000)) && !draft.is_draft(at(3_000)));
        assert!(!poll().is_draft(at(999)));
        assert!(Poll { opens_at: None, ..draft }.is_draft(at(1_000_000)));
    }

    #[test]
    fn a_gap_includes_its_first_moment_and_excludes_its_last() {
        let poll = Poll { gaps: vec![Gap { from: at(1_200), to: at(1_300) }], ..poll() };
        let within = [1_199, 1_200, 1_299, 1_300].map(|millis| poll.is_in_gap(at(millis)));
        assert_eq!(within, [false, true, true, false]);
    }

    #[test]
    fn what_a_poll_does_not_have_is_not_shown() {
        let shown = serde_json::to_value(poll().view(at(1))).unwrap();
        for absent in ["gaps", "errata", "pace", "draft", "archivedAt", "version"] {
            assert!(shown.get(absent).is_none(), "{absent}");
        }
        assert!(shown["contestants"][0].get("withdrawnAt").is_none());
        let crew = serde_json::to_value(poll().crew_view(at(1))).unwrap();
        assert_eq!(crew["pace"], "auto");
        assert_eq!((&crew["draft"], &crew["archivedAt"]), (&false.into(), &serde_json::Value::Null));
        assert_eq!((&crew["version"], &crew["id"]), (&1.into(), &1.into()));
    }

    #[test]
    fn results_are_shown_as_the_poll_says() {
        let shown = |results, millis| Poll { results, ..poll() }.shows_results(at(millis));
        assert!(shown(Results::Live, 1_500));
        assert!(!shown(Results::AfterClose, 1_999));
        assert!(shown(Results::AfterClose, 2_000));
        assert!(!shown(Results::Hidden, 2_000));
    }
}
