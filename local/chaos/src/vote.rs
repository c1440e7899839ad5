//! The votes of a run. The n-th vote depends only on the seed.
//!
//! To add a kind of vote: 1. add it with its weight to [`WEIGHTS`]. 2. Build its body and expected outcome in
//! [`Votes::body`]. 3. For a new rejection reason, correct the count in the test
//! `every_kind_and_every_reason_is_there`.
use uuid::Uuid;

use crate::polls::{KINDS, Kind, Poll};

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
    /// The id chosen by the client, with the vote's place in its request.
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
        /// Taps that the vote stands for.
        taps: i16,
        /// The identity by which the vote counts once.
        identity: Identity,
    },
    /// The vote is rejected for this reason.
    Rejected(&'static str),
    /// The vote is rejected for this reason; or it is a duplicate, if another request has its identity and has counted.
    RejectedUnlessKnown {
        /// Index of the poll in the run.
        poll: usize,
        /// The reason.
        reason: &'static str,
        /// The identity.
        identity: Identity,
    },
}

/// A request with votes to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Number of the voter; `None` for a message without a voter.
    pub voter: Option<u32>,
    /// The request's body.
    pub body: String,
    /// Kind of vote, for the table.
    pub kind: &'static str,
    /// The expected outcome of each vote, in their order; of a malformed request there is one.
    pub outcomes: Vec<Outcome>,
    /// Whether the vote goes through the edge; else it goes to the queue directly.
    pub by_http: bool,
}

/// Kinds of votes with their weights.
const WEIGHTS: [(&str, u32); 25] = [
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
    ("taps", 60),
    ("list", 60),
    ("list sent again", 40),
    ("list of ballots", 20),
    ("count of no use", 10),
];

/// Votes of a list.
const LIST_MAX: usize = domain::VOTES_MAX;

/// The polls without a limit whose lists are sent: with taps, closing with taps, and without.
const LISTED: [usize; 4] = [11, 11, 12, 0];

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
            "list sent again" => rng.u64(1..200),
            _ => return self.first(number, kind),
        };
        let repeated = if kind == "list sent again" { "list" } else { "with an id" };
        let original = (back..back + RETRY_SEARCH)
            .map_while(|back| number.checked_sub(back))
            .find(|&number| self.kind(&mut self.rng(number)) == repeated);
        match original {
            Some(original) if repeated == "list" => self.list_again(original, &mut rng),
            Some(original) => Vote { kind, ..self.first(original, repeated) },
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
        let (outcomes, body) = self.body(kind, number, &mut rng);
        let voter = (kind != "no voter").then_some(voter);
        // Few voters cast ballots, so that some ballots are used twice.
        let voter = voter.map(|voter| if kind.contains("ballot") && !by_http { voter / 100 } else { voter });
        Vote { voter, body, kind, outcomes, by_http }
    }

    /// Sends part of an earlier list again, under its id. Some of its votes have another content.
    fn list_again(&self, original: u64, rng: &mut fastrand::Rng) -> Vote {
        let mut again = self.first(original, "list");
        let mut original = self.rng(original);
        // As in `first`: the numbers of the kind, of the way and of the voter.
        original.u64(..);
        original.u32(0..100);
        original.u32(0..if again.by_http { TOKEN_HOLDERS } else { VOTERS });
        let mut list = self.list(&mut original);
        list.elements.truncate(rng.usize(1..=list.elements.len()));
        for element in &mut list.elements {
            if rng.u32(0..4) == 0 {
                *element = self.element(list.poll, list.id, rng);
            }
        }
        (again.outcomes, again.body) = self.written(list);
        again.kind = "list sent again";
        again
    }

    fn body(&self, kind: &str, number: u64, rng: &mut fastrand::Rng) -> (Vec<Outcome>, String) {
        match kind {
            "list" => {
                let list = self.list(rng);
                self.written(list)
            }
            "list of ballots" => self.list_of_ballots(rng),
            _ => {
                let (outcome, body) = self.single(kind, number, rng);
                (vec![outcome], body)
            }
        }
    }

    fn single(&self, kind: &str, number: u64, rng: &mut fastrand::Rng) -> (Outcome, String) {
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
            "taps" => {
                let poll = [11, 12][rng.usize(0..2)];
                let id = random_id(rng.u128(..));
                let (outcome, element) = self.good(poll, id, rng);
                (outcome, format!(r#"{{"poll":{},"id":"{id}",{element}}}"#, self.polls[poll].id))
            }
            "count of no use" => self.useless_count(limited, rng),
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
        (Outcome::Counts { poll, contestant, taps: 1, identity }, body)
    }

    fn list(&self, rng: &mut fastrand::Rng) -> List {
        let poll = LISTED[rng.usize(0..LISTED.len())];
        let id = random_id(rng.u128(..));
        let length = rng.usize(1..=LIST_MAX);
        List { poll, id, elements: (0..length).map(|_| self.element(poll, id, rng)).collect() }
    }

    fn written(&self, List { poll, id, elements }: List) -> (Vec<Outcome>, String) {
        let (outcomes, votes): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
        let votes = votes.join("},{");
        (outcomes, format!(r#"{{"poll":{},"id":"{id}","votes":[{{{votes}}}]}}"#, self.polls[poll].id))
    }

    /// Returns the fields of a vote in a list: a good one, or in one of five a bad one.
    fn element(&self, poll: usize, id: Uuid, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let above = self.polls[poll].kind.taps_max + rng.i64(1..100_000);
        let (reason, fields) = match rng.u32(0..30) {
            0 => ("unknownContestant", r#""contestant":999"#.to_owned()),
            1 => ("wrongType", r#""contestant":"1""#.to_owned()),
            2 => ("missingField", r#""count":1"#.to_owned()),
            3 => ("ballotNotAllowed", r#""contestant":1,"ballot":1"#.to_owned()),
            4 => {
                // With a greater `tapsMax` it would count, so a request with the same id may have counted.
                let outcome = Outcome::RejectedUnlessKnown {
                    poll,
                    reason: "countOutOfRange",
                    identity: Identity::Client(id),
                };
                return (outcome, format!(r#""contestant":1,"count":{above}"#));
            }
            5 => ("countOutOfRange", format!(r#""contestant":1,"count":{}"#, -rng.i64(0..9))),
            _ => return self.good(poll, id, rng),
        };
        (Outcome::Rejected(reason), fields)
    }

    /// Returns the fields of a vote that counts if it is in time.
    fn good(&self, poll: usize, id: Uuid, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let Kind { contestants, taps_max, .. } = self.polls[poll].kind;
        let (contestant, taps) = (rng.i64(1..=contestants), rng.i64(1..=taps_max));
        let fields = match taps {
            1 if rng.bool() => format!(r#""contestant":{contestant}"#),
            _ if rng.bool() => format!(r#""contestant":{contestant}.0,"count":{taps}"#),
            _ => format!(r#""contestant":{contestant},"count":{taps}"#),
        };
        let (contestant, taps) = (contestant as i16, taps as i16);
        (Outcome::Counts { poll, contestant, taps, identity: Identity::Client(id) }, fields)
    }

    /// Several ballots in one request. Some are used by other requests, or twice in this one.
    fn list_of_ballots(&self, rng: &mut fastrand::Rng) -> (Vec<Outcome>, String) {
        let poll = [3, 4][rng.usize(0..2)];
        let Kind { contestants, limit, .. } = KINDS[poll];
        let elements = (0..rng.usize(2..5)).map(|_| {
            let contestant = rng.i64(1..=contestants) as i16;
            let ballot = rng.i64(1..=limit.unwrap_or(1) + 1) as i16;
            let fields = format!(r#""contestant":{contestant},"ballot":{ballot}"#);
            if i64::from(ballot) > limit.unwrap_or(1) {
                return (Outcome::Rejected("ballotAboveLimit"), fields);
            }
            (Outcome::Counts { poll, contestant, taps: 1, identity: Identity::Ballot(ballot) }, fields)
        });
        let elements = elements.collect();
        self.written(List { poll, id: random_id(rng.u128(..)), elements })
    }

    fn useless_count(&self, limited: usize, rng: &mut fastrand::Rng) -> (Outcome, String) {
        let (reason, poll, fields) = match rng.u32(0..2) {
            0 => ("countWithoutId", 11, r#""count":2"#.to_owned()),
            _ => {
                let id = random_id(rng.u128(..));
                ("countNotAllowed", limited, format!(r#""ballot":1,"count":1,"id":"{id}""#))
            }
        };
        let body = format!(r#"{{"poll":{},"contestant":1,{fields}}}"#, self.polls[poll].id);
        (Outcome::Rejected(reason), body)
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
        let random = random_id(rng.u128(..));
        let weak = Uuid::from_u128(random.as_u128() & !(0xF << 76) | (1 << 76));
        let votes =
            |votes: &[&str]| format!(r#"{{"poll":{id},"id":"{random}","votes":[{}]}}"#, votes.join(","));
        let (reason, body) = match rng.u32(0..10) {
            0 => ("notJson", format!(r#"{{"poll":{id},"contestant":"#)),
            1 => ("notJson", "vote for me".to_owned()),
            2 => ("wrongType", format!(r#"{{"poll":"{id}","contestant":1}}"#)),
            3 => ("wrongType", format!("[{id},1]")),
            4 => ("missingField", format!(r#"{{"poll":{id}}}"#)),
            5 => ("weakId", format!(r#"{{"poll":{id},"contestant":1,"id":"{weak}"}}"#)),
            6 => ("noVotes", votes(&[])),
            7 => ("tooManyVotes", votes(&[r#"{"contestant":1}"#; LIST_MAX + 1])),
            8 => ("missingField", format!(r#"{{"poll":{id},"votes":[{{"contestant":1}}]}}"#)),
            _ => ("tooLarge", format!(r#"{{"poll":{id},"contestant":1,"more":"{}"}}"#, "x".repeat(1_024))),
        };
        (Outcome::Rejected(reason), body)
    }
}

/// Votes of one request in a poll.
struct List {
    poll: usize,
    id: Uuid,
    /// The outcome and the fields of each vote.
    elements: Vec<(Outcome, String)>,
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
            for outcome in vote.outcomes {
                if let Outcome::Rejected(reason) = outcome {
                    reasons.insert(reason);
                }
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
            if let [Outcome::Counts { identity: Identity::Client(id), .. }] = vote.outcomes[..]
                && !vote.kind.contains("list")
            {
                sent += 1;
                by_id.entry(id).or_default().insert((vote.voter, vote.body));
            }
        }
        assert!(by_id.values().all(|votes| votes.len() == 1));
        assert!(sent - by_id.len() > 1_500, "{sent} sent, {} different", by_id.len());
    }

    #[test]
    fn every_request_is_within_the_contracts_size_and_read_as_expected() {
        let votes = votes(1);
        let (mut lists, mut others, mut taps) = (0, 0, 0);
        for number in 0..COUNT {
            let vote = votes.vote(number);
            match domain::VoteRequest::parse(&vote.body) {
                Ok(request) => assert_eq!(request.votes.len(), vote.outcomes.len(), "{vote:?}"),
                Err(_) => assert!(matches!(vote.outcomes[..], [Outcome::Rejected(_)]), "{vote:?}"),
            }
            lists += u64::from(vote.kind == "list");
            if vote.kind == "list sent again" {
                let original = (0..number)
                    .rev()
                    .map(|number| votes.vote(number))
                    .find(|earlier| earlier.kind == "list" && earlier.body.get(..60) == vote.body.get(..60));
                let original = original.expect("the list has been sent before");
                assert_eq!((original.voter, original.by_http), (vote.voter, vote.by_http));
                let same =
                    original.outcomes.iter().zip(&vote.outcomes).filter(|(one, other)| one == other).count();
                others += u64::from(same < vote.outcomes.len());
            }
            taps +=
                vote.outcomes.iter().filter(|one| matches!(one, Outcome::Counts { taps: 2.., .. })).count();
        }
        assert!(lists > 500 && others > 100 && taps > 5_000, "{lists} {others} {taps}");
    }

    #[test]
    fn each_closing_poll_gets_votes_on_both_sides_of_its_close() {
        let votes = votes(1);
        let mut sides = BTreeMap::<usize, (u32, u32)>::new();
        for number in 0..COUNT {
            let vote = votes.vote(number);
            if vote.kind == "around one of many closes"
                && let [Outcome::Counts { poll, .. }] = vote.outcomes[..]
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
