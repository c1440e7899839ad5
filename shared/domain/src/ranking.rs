use std::collections::BTreeMap;

use serde::Serialize;

use super::{ContestantNumber, Poll, PollId, Status, Timestamp};

/// Votes by contestant. An absent contestant has no votes.
pub type Tally = BTreeMap<ContestantNumber, u64>;

/// The standing of a poll, as the HTTP contract shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranking {
    /// The poll.
    pub poll: PollId,
    /// The sum over all contestants.
    pub total_votes: u64,
    /// Every contestant of the poll: most votes first, then by number.
    pub ranking: Vec<Standing>,
    /// The time when the ledger last confirmed these figures. They may already include votes counted since.
    pub as_of: Timestamp,
    /// The poll's status.
    pub status: Status,
}

/// One line of a ranking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Standing {
    /// The rank from 1. Equal votes share a rank and the next rank is skipped (1, 2, 2, 4).
    pub rank: usize,
    /// The contestant.
    pub contestant: ContestantNumber,
    /// The contestant's name. `None` in a file whose names are in another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Votes counted.
    pub votes: u64,
    /// The share of all votes, 0 to 1, with four decimals. 0 while there are no votes.
    pub share: f64,
}

impl Ranking {
    /// Ranks a poll's contestants by their votes, for a reader at `now`.
    pub fn new(poll: &Poll, tally: &Tally, as_of: Timestamp, now: Timestamp) -> Self {
        let votes_of = |number| tally.get(&number).copied().unwrap_or(0);
        let mut order: Vec<_> = poll.contestants.iter().map(|one| (votes_of(one.number), one)).collect();
        order.sort_by_key(|&(votes, contestant)| (std::cmp::Reverse(votes), contestant.number));
        let total_votes = order.iter().map(|(votes, _)| votes).sum();
        let mut ranking: Vec<Standing> = Vec::with_capacity(order.len());
        for (index, (votes, contestant)) in order.into_iter().enumerate() {
            let rank =
                ranking.last().filter(|above| above.votes == votes).map_or(index + 1, |above| above.rank);
            let (contestant, name) = (contestant.number, Some(contestant.name.clone()));
            ranking.push(Standing { rank, contestant, name, votes, share: share(votes, total_votes) });
        }
        Self { poll: poll.id, total_votes, ranking, as_of, status: poll.status(now) }
    }
}

fn share(votes: u64, total: u64) -> f64 {
    if total == 0 { 0.0 } else { (votes as f64 / total as f64 * 10_000.0).round() / 10_000.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Contestant,
        poll::tests::{at, poll},
    };

    fn rank(votes: &[u64]) -> Ranking {
        let numbers = (1..).map(ContestantNumber);
        let contestant =
            |number| Contestant { number, name: String::new(), image_url: None, withdrawn_at: None };
        let contestants = numbers.clone().take(votes.len()).map(contestant).collect();
        Ranking::new(
            &Poll { contestants, ..poll() },
            &numbers.zip(votes.iter().copied()).collect(),
            at(1_400),
            at(1_500),
        )
    }

    #[test]
    fn equal_votes_share_a_rank_and_the_next_is_skipped() {
        let ranking = rank(&[20, 30, 20, 10]).ranking;
        let lines: Vec<_> = ranking.iter().map(|line| (line.rank, line.contestant.0)).collect();
        assert_eq!(lines, [(1, 2), (2, 1), (2, 3), (4, 4)]);
    }

    #[test]
    fn nobody_leads_before_the_first_vote() {
        let ranking = rank(&[0, 0]);
        assert_eq!(ranking.total_votes, 0);
        assert!(ranking.ranking.iter().all(|line| line.rank == 1 && line.share == 0.0));
    }

    #[test]
    fn a_contestant_the_tally_does_not_know_has_no_votes() {
        assert_eq!(Ranking::new(&poll(), &Tally::new(), at(0), at(0)).ranking.len(), 3);
    }

    proptest! {
        #[test]
        fn a_rank_is_one_more_than_the_contestants_ahead(votes in prop::collection::vec(0_u64..5, 0..12)) {
            let ranking = rank(&votes);
            prop_assert_eq!(ranking.total_votes, votes.iter().sum::<u64>());
            for line in &ranking.ranking {
                let ahead = votes.iter().filter(|&&other| other > line.votes).count();
                prop_assert_eq!(line.rank, ahead + 1);
            }
        }
    }
}
