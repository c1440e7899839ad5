//! The votes of a run. The n-th vote depends only on the seed.
//!
//! To add a kind of vote: 1. add it with its weight to [`WEIGHTS`]. 2. Build its body and expected outcome in
//! [`Votes::body`]. 3. For a new rejection reason, correct the count in the test
//! `every_kind_and_every_reason_is_there`.
use uuid::Uuid;

use crate::polls::{KINDS, Poll};

/// Voters with a token, who vote through the edge. Other voters' votes are sent to the queue directly.
pub const TOKEN_HOLDERS: u32 = 300;

/// Number of voters.
const VOTERS: u32 = 1_000_000;

/// Number of earlier votes among which a retry looks for one with an id.
const RETRY_SEARCH: u64 = 50;

/// Maximum distance of a late retry from its original, in votes.
const LATE_RETRY_MAX: u64 = 20_000;

/// The identity by which a vote counts once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The message's id; a resent message is another vote.
    Message,
    /// The id chosen by the client.
    Client(Uuid),
    /// The voter's ballot.
    Ballot(i16),
}

/// The expected outcome of a vote, apart from its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The vote counts if it is in time.
    Counts {
        /// Index of the poll in the run.
        poll: usize,
        /// Number of the contestant.
        contestant: i16,
        /// The identity by which the vote counts once.
        identity: Identity,
    },
    /// The vote is rejected for this reason.
    Rejected(&'static str),
}

/// A vote to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Number of the voter; `None` for a message without a voter.
    pub voter: Option<u32>,
    /// The request's body.
    pub body: String,
    /// Kind of vote, for the table.
    pub kind: &'static str,
    /// The expected outcome.
    pub outcome: Outcome,
    /// Whether the vote goes through the edge; else it goes to the queue directly.
    pub by_http: bool,
}

/// Kinds of votes with their weights.
const WEIGHTS: [(&str, u32); 20] = [
    ("plain", 340),
    ("with an id", 200),
    ("retry at once", 70),
    ("retry later", 70),
    ("ballot", 110),
    ("around a close", 40),
    ("ballot around a close", 30),
    ("around one of many closes", 150),
    ("around an opening", 25),
    ("after closing", 10),
    ("before opening", 10),
    ("while the window moves", 35),
    ("unknown poll", 12),
    ("unknown contestant", 12),
    ("malformed", 20),
    ("ballot above the limit", 6),
    ("ballot missing", 3),
    ("ballot below one", 3),
    ("ballot not allowed", 2),
    ("no voter", 2),
];

/// Generates votes.
#[derive(Debug, Clone)]
pub struct Votes {
    seed: u64,
    polls: Vec<Poll>,
    count: u64,
    http_percent: u32,
    total_weight: u32,
}

impl Votes {
    /// Returns a generator. `count` votes are spread evenly over the run; `http_percent` of them go through the edge.
    pub fn new(seed: u64, polls: Vec<Poll>, count: u64, http_percent: u32) -> Self {
        let total_weight = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        Self { seed, polls, count, http_percent, total_weight }
    }

    /// Returns the n-th vote.
    pub fn vote(&self, number: u64) -> Vote {
        let mut rng = self.rng(number);
        let kind = self.kind(&mut rng);
        let back = match kind {
            "retry at once" => rng.u64(1..4),
            "retry later" => rng.u64(100..LATE_RETRY_MAX),
            _ => return self.first(number, kind),
        };
        let original = (back..back + RETRY_SEARCH)
            .map_while(|back| number.checked_sub(back))
            .find(|&number| self.kind(&mut self.rng(number)) == "with an id");
        match original {
            Some(original) => Vote { kind, ..self.first(original, "with an id") },
            None => self.first(number, "plain"),
        }
    }

    fn rng(&self, number: u64) -> fastrand::Rng {
        // Random streams of neighbours must differ: the multiplier is 2⁶⁴ divided by the golden ratio.
        fastrand::Rng::with_seed(self.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }

    fn kind(&self, rng: &mut fastrand::Rng) -> &'static str {
        let mut left = rng.u32(0..self.total_weight);
        for (kind, weight) in WEIGHTS {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return kind,
            }
        }
        WEIGHTS[0].0
    }

    fn first(&self, number: u64, kind: &'static str) -> Vote {
        let mut rng = self.rng(number);
        // Skips the number that chose the kind.
        rng.u64(..);
        let by_http = kind != "no voter" && rng.u32(0..100) < self.http_percent;
        let voter = rng.u32(0..if by_http { TOKEN_HOLDERS } else { VOTERS });
        let (outcome, body) = self.body(kind, number, &mut rng);
        let voter = (kind != "no voter").then_some(voter);
        // Few voters cast ballots, so that some ballots are used twice.
        let voter = voter.map(|voter| if kind.contains("ballot") && !by_http { voter / 100 } else { voter });
        Vote { voter, body, kind, outcome, by_http }
    }

    fn body(&self, kind: &str, number: u64, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let unlimited = [0, 0, 0, 1, 2][rng.usize(0..5)];
        let limited = [3, 4][rng.usize(0..2)];
        match kind {
            "with an id" => {
                let random = rng.u128(..);
                let id = if rng.bool() {
                    random_id(random)
                } else {
                    let [random_bytes @ .., _, _, _, _, _, _] = random.to_be_bytes();
                    let millis = self.polls[0].opens_ms.unsigned_abs() + u64::from(random_bytes[0]) * 1_000;
                    uuid::Builder::from_unix_timestamp_millis(millis, &random_bytes).into_uuid()
                };
                self.counts(unlimited, Identity::Client(id), rng)
            }
            "around one of many closes" => self.around_a_close(number, rng),
            "ballot" => self.ballot(limited, rng),
            "around a close" => self.counts(5, Identity::Message, rng),
            "ballot around a close" => self.ballot(6, rng),
            "around an opening" => self.counts(7, Identity::Message, rng),
            "after closing" => self.counts(8, Identity::Message, rng),
            "before opening" => self.counts(9, Identity::Message, rng),
            "while the window moves" => self.counts(10, Identity::Message, rng),
            "unknown poll" => {
                let poll = [0, -1, 900_000 + rng.i64(0..40), i64::MAX][rng.usize(0..4)];
                (Outcome::Rejected("unknownPoll"), format!(r#"{{"poll":{poll},"contestant":1}}"#))
            }
            "unknown contestant" => {
                let contestant = [0, -7, 999, 70_000][rng.usize(0..4)];
                let poll = self.polls[unlimited].id;
                let body = format!(r#"{{"poll":{poll},"contestant":{contestant}}}"#);
                (Outcome::Rejected("unknownContestant"), body)
            }
            "malformed" => self.malformed(unlimited, rng),
            "ballot above the limit" => {
                let above = KINDS[limited].limit.unwrap_or(0) + rng.i64(1..100_000);
                self.rejected("ballotAboveLimit", limited, Some(above), rng)
            }
            "ballot missing" => self.rejected("ballotMissing", limited, None, rng),
            "ballot below one" => self.rejected("ballotBelowOne", limited, Some(-rng.i64(0..9)), rng),
            "ballot not allowed" => self.rejected("ballotNotAllowed", unlimited, Some(1), rng),
            "no voter" => self.rejected("noVoter", unlimited, None, rng),
            _ => self.counts(unlimited, Identity::Message, rng),
        }
    }

    /// Votes mostly in the poll that closes next, sometimes in the one after it or the one that has just closed.
    fn around_a_close(&self, number: u64, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let closing = self.polls.len() - KINDS.len();
        if closing == 0 {
            return self.counts(5, Identity::Message, rng);
        }
        let next = (number * (closing as u64 + 1) / self.count.max(1)) as usize;
        let index =
            [next, next, next, next, next + 1, next.saturating_sub(1)][rng.usize(0..6)].min(closing - 1);
        let identity = if rng.bool() { Identity::Message } else { Identity::Client(random_id(rng.u128(..))) };
        self.counts(KINDS.len() + index, identity, rng)
    }

    fn ballot(&self, poll: usize, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let ballot = rng.i64(1..=KINDS[poll].limit.unwrap_or(1)) as i16;
        self.counts(poll, Identity::Ballot(ballot), rng)
    }

    fn counts(&self, poll: usize, identity: Identity, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let contestant = rng.i64(1..=self.polls[poll].kind.contestants) as i16;
        let more = match identity {
            Identity::Message => String::new(),
            Identity::Client(id) => format!(r#","id":"{id}""#),
            Identity::Ballot(ballot) => format!(r#","ballot":{ballot}"#),
        };
        let body = format!(r#"{{"poll":{},"contestant":{contestant}{more}}}"#, self.polls[poll].id);
        (Outcome::Counts { poll, contestant, identity }, body)
    }

    fn rejected(
        &self,
        reason: &'static str,
        poll: usize,
        ballot: Option<i64>,
        rng: &mut fastrand::Rng,
    ) -> (Outcome, String) {
        let contestant = rng.i64(1..=KINDS[poll].contestants);
        let more = ballot.map_or_else(String::new, |ballot| format!(r#","ballot":{ballot}"#));
        let body = format!(r#"{{"poll":{},"contestant":{contestant}{more}}}"#, self.polls[poll].id);
        (Outcome::Rejected(reason), body)
    }

    fn malformed(&self, poll: usize, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let id = self.polls[poll].id;
        let (reason, body) = match rng.u32(0..6) {
            0 => ("notJson", format!(r#"{{"poll":{id},"contestant":"#)),
            1 => ("notJson", "vote for me".to_owned()),
            2 => ("wrongType", format!(r#"{{"poll":"{id}","contestant":1}}"#)),
            3 => ("wrongType", format!("[{id},1]")),
            4 => ("missingField", format!(r#"{{"poll":{id}}}"#)),
            _ => ("tooLarge", format!(r#"{{"poll":{id},"contestant":1,"more":"{}"}}"#, "x".repeat(1_024))),
        };
        (Outcome::Rejected(reason), body)
    }
}

fn random_id(random: u128) -> Uuid {
    uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const CLOSING: usize = 9;
    const COUNT: u64 = 20_000;

    fn votes(seed: u64) -> Votes {
        let closing = [KINDS[5]; CLOSING];
        let polls = KINDS.iter().chain(&closing).zip(1..);
        let polls = polls.map(|(&kind, id)| Poll { id, kind, opens_ms: 1_700_000_000_000, closes_ms: None });
        Votes::new(seed, polls.collect(), COUNT, 30)
    }

    #[test]
    fn a_seed_determines_the_votes() {
        let run = |seed| (0..500).map(|number| votes(seed).vote(number)).collect::<Vec<_>>();
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn every_kind_and_every_reason_is_there() {
        let votes = votes(1);
        let mut kinds = BTreeSet::new();
        let mut reasons = BTreeSet::new();
        for number in 0..COUNT {
            let vote = votes.vote(number);
            kinds.insert(vote.kind);
            if let Outcome::Rejected(reason) = vote.outcome {
                reasons.insert(reason);
            }
        }
        assert_eq!(kinds.len(), WEIGHTS.len(), "{kinds:?}");
        // The other five are for votes outside their window, for a withdrawn contestant or after the certificate,
        // and for messages that no queue produces.
        assert_eq!(reasons.len(), domain::Rejection::ALL.len() - 5, "{reasons:?}");
    }

    #[test]
    fn a_retry_is_the_same_vote() {
        let votes = votes(1);
        let mut by_id = BTreeMap::<Uuid, BTreeSet<(Option<u32>, String)>>::new();
        let mut sent = 0;
        for number in 0..COUNT {
            let vote = votes.vote(number);
            if let Outcome::Counts { identity: Identity::Client(id), .. } = vote.outcome {
                sent += 1;
                by_id.entry(id).or_default().insert((vote.voter, vote.body));
            }
        }
        assert!(by_id.values().all(|votes| votes.len() == 1));
        assert!(sent - by_id.len() > 1_500, "{sent} sent, {} different", by_id.len());
    }

    #[test]
    fn each_closing_poll_gets_votes_on_both_sides_of_its_close() {
        let votes = votes(1);
        let mut sides = BTreeMap::<usize, (u32, u32)>::new();
        for number in 0..COUNT {
            if let Vote { kind: "around one of many closes", outcome: Outcome::Counts { poll, .. }, .. } =
                votes.vote(number)
            {
                let index = poll - KINDS.len();
                let (before, after) = sides.entry(index).or_default();
                let close = COUNT * (index as u64 + 1) / (CLOSING as u64 + 1);
                *(if number < close { before } else { after }) += 1;
            }
        }
        assert_eq!(sides.len(), CLOSING);
        assert!(sides.values().all(|(before, after)| *before > 100 && *after > 20), "{sides:?}");
    }
}
