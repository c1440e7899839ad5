//! Property test of a poll's life: random sequences of crew actions, with votes in between that wait for any time.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{tests::patch, *};
use crate::{
    Message, PollId, VoteRequest, VoterHasher, judge,
    key::tests::hasher,
    names::folded,
    poll::tests::{at, poll},
};

/// An action that the crew may try at any time.
#[derive(Debug, Clone)]
enum CrewAction {
    Patch(Value),
    Open,
    Close,
    Withdraw(i64),
    Archive,
    Freeze,
    Delete,
}

fn crew_actions() -> impl Strategy<Value = CrewAction> {
    let name = prop::sample::select(vec!["Ana", "ANA ", "Bia", "bia", "Caio", "Dora", "Eva"]);
    let names = prop::collection::vec(name, 1..4);
    let list = (names, prop::bool::ANY).prop_map(|(names, gives_numbers)| {
        let one = |(index, name): (usize, &&str)| match gives_numbers {
            true => json!({"number": index + 1, "name": name}),
            false => json!({ "name": name }),
        };
        json!({"contestants": names.iter().enumerate().map(one).collect::<Vec<_>>()})
    });
    let moment = prop_oneof![Just(Value::Null), (0_i64..400).prop_map(|millis| json!(at(millis)))];
    let limit = prop_oneof![Just(Value::Null), (1_i64..4).prop_map(|limit| json!(limit))];
    prop_oneof![
        4 => list.prop_map(CrewAction::Patch),
        3 => moment.clone().prop_map(|moment| CrewAction::Patch(json!({"closesAt": moment}))),
        1 => moment.prop_map(|moment| CrewAction::Patch(json!({"opensAt": moment}))),
        1 => limit.prop_map(|limit| CrewAction::Patch(json!({"votesPerVoter": limit}))),
        1 => prop::bool::ANY.prop_map(|draft| CrewAction::Patch(json!({"draft": draft}))),
        1 => Just(CrewAction::Patch(json!({"title": "Another", "results": "hidden"}))),
        3 => Just(CrewAction::Open),
        3 => Just(CrewAction::Close),
        2 => (1_i64..4).prop_map(CrewAction::Withdraw),
        1 => Just(CrewAction::Archive),
        1 => Just(CrewAction::Freeze),
        1 => Just(CrewAction::Delete),
    ]
}

/// A poll as the ledger stores it, and the votes in flight.
struct Simulation {
    poll: Poll,
    facts: Facts,
    /// Votes that are cast and not counted yet. Votes valid at casting carry the name that the voter saw.
    waiting: Vec<(Message, Option<SeenName>)>,
    /// Counted votes: time of casting, contestant, and the name that the voter saw.
    counted: Vec<(Timestamp, ContestantNumber, Option<SeenName>)>,
    deleted: bool,
}

/// The name that a vote was cast for, and the name history of the poll at that time.
type SeenName = (String, NameHistory);

impl Simulation {
    /// Tries an action in the same way as `Ledger::change_poll`.
    fn attempt(&mut self, action: &CrewAction, now: Timestamp) {
        let before = self.poll.clone();
        let after = match action {
            CrewAction::Patch(changes) => before.patched(patch(changes.clone()), &self.facts, now),
            CrewAction::Open => before.opened(now),
            CrewAction::Close => before.closed(now),
            CrewAction::Withdraw(number) => before.withdrawn(*number, now),
            CrewAction::Archive => before.archived(now),
            CrewAction::Freeze if before.status(now) == Status::Closed && before.frozen_at.is_none() => {
                // A poll is certified when no vote is outstanding.
                self.count_all();
                Ok(Poll { frozen_at: Some(now), ..before.clone() })
            }
            CrewAction::Freeze => return,
            CrewAction::Delete => {
                self.deleted = before.check_deletable(&self.facts, now).is_ok();
                return;
            }
        };
        let Ok(after) = after else { return };
        if before.frozen_at.is_some() {
            assert_eq!(
                Poll { archived_at: None, ..after.clone() },
                Poll { archived_at: None, ..before.clone() }
            );
        }
        if self.facts.may_have_votes(&before, now) && before.contestants != after.contestants {
            self.facts.names = self.facts.names.with(&before.contestants);
        }
        self.poll = after;
    }

    fn cast(&mut self, number: i64, id: u128, now: Timestamp, hasher: &VoterHasher) {
        let ballot =
            self.poll.votes_per_voter.map(|limit| format!(r#","ballot":{limit}"#)).unwrap_or_default();
        let message = Message {
            id: uuid::Uuid::from_u128(id),
            sent_at: now,
            voter: Some(hasher.voter(&id.to_string())),
            request: VoteRequest::parse(&format!(r#"{{"poll":1,"contestant":{number}{ballot}}}"#)),
        };
        let vote = judge(&message, Some(&self.poll), hasher).find_map(Result::ok);
        let seen = vote.map(|vote| {
            let contestant = self.poll.contestant(vote.contestant).expect("voted for");
            (contestant.name.clone(), self.facts.names.with(&self.poll.contestants))
        });
        self.waiting.push((message, seen));
    }

    fn count_all(&mut self) {
        for (message, seen) in std::mem::take(&mut self.waiting) {
            for outcome in judge(&message, Some(&self.poll), &hasher()) {
                match outcome {
                    Ok(vote) => self.counted.push((vote.cast_at, vote.contestant, seen.clone())),
                    Err(rejected) => assert!(seen.is_none(), "was valid, and is {:?}", rejected.reason),
                }
            }
        }
        self.facts.has_votes = !self.counted.is_empty();
    }

    fn assert_votes_fit(&self) {
        for (cast_at, number, seen) in &self.counted {
            let late = self.poll.closes_at.is_some_and(|close| *cast_at >= close);
            assert!(self.poll.has_opened(*cast_at) && !late && !self.poll.is_in_gap(*cast_at), "{cast_at:?}");
            let contestant = self.poll.contestant(*number).expect("a contestant with votes stays");
            assert!(contestant.withdrawn_at.is_none_or(|moment| *cast_at < moment));
            let Some((name, history)) = seen else { continue };
            let others = self.poll.contestants.iter().filter(|other| other.number != *number);
            for other in others.filter(|other| folded(&other.name) == folded(name)) {
                let had_it_too = history.check(std::slice::from_ref(other)).is_ok();
                assert!(had_it_too, "{number:?} was {name} when the vote was cast, and {other:?} is now");
            }
        }
        let mut last = None;
        for gap in &self.poll.gaps {
            assert!(gap.from < gap.to && last < Some(gap.from), "{:?}", self.poll.gaps);
            last = Some(gap.to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Votes wait for any time up to the whole sequence. Each valid vote counts in the end, for the contestant that
    /// its voter saw.
    #[test]
    fn whatever_the_crew_tries_no_valid_vote_is_lost_or_changes_hands(
        limit in prop::option::of(2_i16..4),
        steps in prop::collection::vec((crew_actions(), 0_i64..20, 1_i64..4, prop::bool::weighted(0.3)), 1..30)
    ) {
        let scheduled = Poll {
            id: PollId(1), opens_at: None, closes_at: None, created_at: at(0), draft: true,
            votes_per_voter: limit, contestants: poll().contestants[..2].to_vec(), ..poll()
        };
        let mut simulation = Simulation {
            poll: scheduled, facts: Facts::default(), waiting: Vec::new(), counted: Vec::new(), deleted: false,
        };
        let mut now = 1;
        for (index, (action, pause, number, counts)) in steps.into_iter().enumerate() {
            now += pause;
            simulation.cast(number, index as u128 * 2 + 1, at(now), &hasher());
            simulation.attempt(&action, at(now + 1));
            if simulation.deleted {
                prop_assert!(simulation.counted.is_empty() && simulation.waiting.iter().all(|(_, seen)| seen.is_none()));
                return Ok(());
            }
            now += 1;
            simulation.cast(number, index as u128 * 2 + 2, at(now), &hasher());
            if counts {
                simulation.count_all();
            }
            simulation.assert_votes_fit();
        }
        simulation.count_all();
        simulation.assert_votes_fit();
    }
}
