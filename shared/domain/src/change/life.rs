//! Any sequence of what the crew may do, with votes in between that wait for any time.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{tests::patch, *};
use crate::{
    Message, PollId, VoteRequest, VoterHasher, judge,
    key::tests::hasher,
    names::folded,
    poll::tests::{at, poll},
};

/// What the crew may try, whenever it likes.
#[derive(Debug, Clone)]
enum Try {
    Patch(Value),
    Open,
    Close,
    Withdraw(i64),
    Archive,
    Freeze,
    Delete,
}

fn tries() -> impl Strategy<Value = Try> {
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
        4 => list.prop_map(Try::Patch),
        3 => moment.clone().prop_map(|moment| Try::Patch(json!({"closesAt": moment}))),
        1 => moment.prop_map(|moment| Try::Patch(json!({"opensAt": moment}))),
        1 => limit.prop_map(|limit| Try::Patch(json!({"votesPerVoter": limit}))),
        1 => prop::bool::ANY.prop_map(|draft| Try::Patch(json!({"draft": draft}))),
        1 => Just(Try::Patch(json!({"title": "Another", "results": "hidden"}))),
        3 => Just(Try::Open),
        3 => Just(Try::Close),
        2 => (1_i64..4).prop_map(Try::Withdraw),
        1 => Just(Try::Archive),
        1 => Just(Try::Freeze),
        1 => Just(Try::Delete),
    ]
}

/// A poll, as the ledger would keep it, and the votes on their way to it.
struct Life {
    poll: Poll,
    facts: Facts,
    /// What was cast, with what its voter saw where it was valid then; not counted yet.
    waiting: Vec<(Message, Option<Seen>)>,
    /// What has been counted: when it was cast, and for which number.
    counted: Vec<(Timestamp, ContestantNumber, Option<Seen>)>,
    deleted: bool,
}

/// The name that a vote was cast for, and who had borne it.
type Seen = (String, BorneNames);

impl Life {
    /// As `Ledger::change_poll` does it.
    fn attempt(&mut self, what: &Try, now: Timestamp) {
        let before = self.poll.clone();
        let after = match what {
            Try::Patch(changes) => before.patched(patch(changes.clone()), &self.facts, now),
            Try::Open => before.opened(now),
            Try::Close => before.closed(now),
            Try::Withdraw(number) => before.withdrawn(*number, now),
            Try::Archive => before.archived(now),
            Try::Freeze if before.status(now) == Status::Closed && before.frozen_at.is_none() => {
                // A poll is certified when nothing is outstanding.
                self.count_all();
                Ok(Poll { frozen_at: Some(now), ..before.clone() })
            }
            Try::Freeze => return,
            Try::Delete => {
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
        let seen = judge(&message, Some(&self.poll), hasher).ok().map(|vote| {
            let contestant = self.poll.contestant(vote.contestant).expect("voted for");
            (contestant.name.clone(), self.facts.names.with(&self.poll.contestants))
        });
        self.waiting.push((message, seen));
    }

    fn count_all(&mut self) {
        for (message, seen) in std::mem::take(&mut self.waiting) {
            match judge(&message, Some(&self.poll), &hasher()) {
                Ok(vote) => self.counted.push((vote.cast_at, vote.contestant, seen)),
                Err(rejected) => assert!(seen.is_none(), "was valid, and is {:?}", rejected.reason),
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
            let Some((name, borne)) = seen else { continue };
            let others = self.poll.contestants.iter().filter(|other| other.number != *number);
            for other in others.filter(|other| folded(&other.name) == folded(name)) {
                let bore_it_too = borne.check(std::slice::from_ref(other)).is_ok();
                assert!(bore_it_too, "{number:?} was {name} when the vote was cast, and {other:?} is now");
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

    /// Votes wait for up to the whole of it, and each valid one counts in the end, for whom its voter saw.
    #[test]
    fn whatever_the_crew_tries_no_valid_vote_is_lost_or_changes_hands(
        limit in prop::option::of(2_i16..4),
        steps in prop::collection::vec((tries(), 0_i64..20, 1_i64..4, prop::bool::weighted(0.3)), 1..30)
    ) {
        let scheduled = Poll {
            id: PollId(1), opens_at: None, closes_at: None, created_at: at(0), draft: true,
            votes_per_voter: limit, contestants: poll().contestants[..2].to_vec(), ..poll()
        };
        let mut life = Life {
            poll: scheduled, facts: Facts::default(), waiting: Vec::new(), counted: Vec::new(), deleted: false,
        };
        let mut now = 1;
        for (index, (what, pause, number, counts)) in steps.into_iter().enumerate() {
            now += pause;
            life.cast(number, index as u128 * 2 + 1, at(now), &hasher());
            life.attempt(&what, at(now + 1));
            if life.deleted {
                prop_assert!(life.counted.is_empty() && life.waiting.iter().all(|(_, seen)| seen.is_none()));
                return Ok(());
            }
            now += 1;
            life.cast(number, index as u128 * 2 + 2, at(now), &hasher());
            if counts {
                life.count_all();
            }
            life.assert_votes_fit();
        }
        life.count_all();
        life.assert_votes_fit();
    }
}
