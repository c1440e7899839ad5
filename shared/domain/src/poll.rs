use serde::{Deserialize, Serialize};

use super::{Tally, Timestamp};

/// A poll's number: positive, given by the ledger, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollId(pub i32);

/// What a viewer votes for ("vote 7"): 1 to 32,767, unique within its poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContestantNumber(pub i16);

/// One option of a poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contestant {
    /// How viewers name it.
    pub number: ContestantNumber,
    /// Shown on pages.
    pub name: String,
    /// A picture, http or https.
    pub image_url: Option<String>,
    /// The first moment whose votes for it no longer count; `None`: it takes part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn_at: Option<Timestamp>,
}

/// A time in which a poll was closed, before it was opened again: votes cast in it do not count.
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
    /// When it was published.
    pub at: Timestamp,
    /// What it says.
    pub text: String,
}

/// Who may see the standing, and when.
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

/// Where a poll stands in its life. It follows from the window and the clock: nothing runs to change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Not yet open, or without an opening time.
    Scheduled,
    /// Votes cast now count.
    Open,
    /// Votes cast now are refused; earlier ones may still be on their way.
    Closed,
}

/// A poll as the ledger defines it. Contestants are in the order of their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// Its number.
    pub id: PollId,
    /// The question.
    pub title: String,
    /// The first moment whose votes count; `None`: not scheduled.
    pub opens_at: Option<Timestamp>,
    /// The first moment whose votes no longer count; `None`: open until closed by hand.
    pub closes_at: Option<Timestamp>,
    /// Ballots of each voter; `None`: every vote counts.
    pub votes_per_voter: Option<i16>,
    /// Who may see the standing.
    pub results: Results,
    /// The options, ascending by number.
    pub contestants: Vec<Contestant>,
    /// Whether the public must not know of it before it opens. See [`is_draft`](Self::is_draft).
    pub draft: bool,
    /// Since when it is out of the public list.
    pub archived_at: Option<Timestamp>,
    /// Times within the window whose votes do not count, ascending.
    pub gaps: Vec<Gap>,
    /// Corrections of its certified result, oldest first.
    pub errata: Vec<Erratum>,
    /// Moves at every change of the definition; a batch counts only by the current one.
    pub version: i32,
    /// Moves at every rebuild; a ranking belongs to one epoch.
    pub epoch: i32,
    /// Never changes: the time prefix of keys that have no time of their own.
    pub created_at: Timestamp,
    /// Since when no vote is counted any more, not even one cast in time: the result is certified, or about to be.
    pub frozen_at: Option<Timestamp>,
}

impl Poll {
    /// Where the poll stands at `now`.
    pub fn status(&self, now: Timestamp) -> Status {
        if self.closes_at.is_some_and(|bell| now >= bell) {
            Status::Closed
        } else if self.opens_at.is_some_and(|opening| now >= opening) {
            Status::Open
        } else {
            Status::Scheduled
        }
    }

    /// Whether votes cast at `now` or before may be valid, closed since or not.
    pub fn has_opened(&self, now: Timestamp) -> bool {
        self.opens_at.is_some_and(|opening| opening <= now)
    }

    /// Whether the poll is to the public, at `now`, as one that does not exist. A poll that has opened is no draft,
    /// whatever it was before.
    pub fn is_draft(&self, now: Timestamp) -> bool {
        self.draft && !self.has_opened(now)
    }

    /// Whether votes cast at that moment are between a close and a reopening.
    pub fn is_in_gap(&self, moment: Timestamp) -> bool {
        self.gaps.iter().any(|gap| gap.from <= moment && moment < gap.to)
    }

    /// The contestant with that number.
    pub fn contestant(&self, number: ContestantNumber) -> Option<&Contestant> {
        let found = self.contestants.binary_search_by_key(&number, |contestant| contestant.number);
        found.ok().map(|index| &self.contestants[index])
    }

    /// Whether the public may see the standing at `now`.
    pub fn shows_results(&self, now: Timestamp) -> bool {
        match self.results {
            Results::Live => true,
            Results::AfterClose => self.status(now) == Status::Closed,
            Results::Hidden => false,
        }
    }

    /// The poll as the HTTP contract shows it to the crew.
    pub fn crew_view(&self, now: Timestamp) -> CrewView<'_> {
        CrewView {
            poll: self.view(now),
            draft: self.is_draft(now),
            archived_at: self.archived_at,
            version: self.version,
        }
    }

    /// The poll as the HTTP contract shows it to everyone.
    pub fn view(&self, now: Timestamp) -> PollView<'_> {
        PollView {
            id: self.id,
            title: &self.title,
            status: self.status(now),
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            votes_per_voter: self.votes_per_voter,
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
    results: Results,
    contestants: &'a [Contestant],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    gaps: &'a [Gap],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errata: &'a [Erratum],
}

/// A poll with its counters, read in one statement: what a view of it is made of.
#[derive(Debug, Clone)]
pub struct PollWithTally {
    /// The definition.
    pub poll: Poll,
    /// Votes of every contestant.
    pub tally: Tally,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis).unwrap()
    }

    /// Contestants 1, 2 and 7; open from 1,000 to 2,000 ms.
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
            results: Results::Live,
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
        for absent in ["gaps", "errata", "draft", "archivedAt", "version"] {
            assert!(shown.get(absent).is_none(), "{absent}");
        }
        assert!(shown["contestants"][0].get("withdrawnAt").is_none());
        let crew = serde_json::to_value(poll().crew_view(at(1))).unwrap();
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
