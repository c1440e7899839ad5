//! The public list of polls, `results/polls.json`.

use std::{collections::HashMap, time::Duration};

use serde::Serialize;

use super::{Poll, PollId, Results, Status, Timestamp, pace};

/// How long a closed poll stays in the list. Its own file stays.
const CLOSED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The list of current polls, in the order of `GET /polls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PublicList<'a> {
    /// Greater with each change of the list. Every open poll's file carries it.
    list_version: i64,
    next_in_seconds: u8,
    polls: Vec<ListedPoll<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedPoll<'a> {
    id: PollId,
    opens_at: Option<Timestamp>,
    closes_at: Option<Timestamp>,
    votes_per_voter: Option<i16>,
    taps_max: i16,
    results: Results,
    /// The path of the names' file. Absent if the poll's own file has the names.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a str>,
}

impl<'a> PublicList<'a> {
    /// Builds the list of these public polls for a reader at `now`. `names`: the path of each names' file that exists.
    /// Polls that closed a day ago are left out.
    pub fn new(version: i64, polls: &[Poll], names: &'a HashMap<PollId, String>, now: Timestamp) -> Self {
        let is_over = |poll: &Poll| {
            poll.closes_at.is_some_and(|close| close.saturating_add(CLOSED_FOR) <= now)
                && poll.status(now) == Status::Closed
        };
        let listed = || polls.iter().filter(|poll| !is_over(poll));
        Self {
            list_version: version,
            next_in_seconds: pace::list_next_in_seconds(listed(), now),
            polls: listed().map(|poll| ListedPoll::new(poll, names)).collect(),
        }
    }
}

impl<'a> ListedPoll<'a> {
    fn new(poll: &Poll, names: &'a HashMap<PollId, String>) -> Self {
        Self {
            id: poll.id,
            opens_at: poll.opens_at,
            closes_at: poll.closes_at,
            votes_per_voter: poll.votes_per_voter,
            taps_max: poll.taps_max,
            results: poll.results,
            names: names.get(&poll.id).map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::poll::tests::{at, poll};

    #[test]
    fn the_list_has_windows_and_the_names_paths_and_forgets_what_closed_a_day_ago() {
        let names = HashMap::from([(PollId(1), "/results/1.names-ab.json".to_owned())]);
        let certified =
            Poll { id: PollId(2), votes_per_voter: Some(3), frozen_at: Some(at(2_100)), ..poll() };
        let old = Poll { id: PollId(3), closes_at: Some(at(1_100)), ..poll() };
        let now = at(1_100 + 86_400_000);
        let list = PublicList::new(7, &[poll(), certified, old], &names, now);
        let expected = json!({"listVersion": 7, "nextInSeconds": 10, "polls": [
            {"id": 1, "opensAt": at(1_000), "closesAt": at(2_000), "votesPerVoter": null, "tapsMax": 1,
                "results": "live", "names": "/results/1.names-ab.json"},
            {"id": 2, "opensAt": at(1_000), "closesAt": at(2_000), "votesPerVoter": 3, "tapsMax": 1,
                "results": "live"},
        ]});
        assert_eq!(serde_json::to_value(&list).unwrap(), expected);
    }
}
