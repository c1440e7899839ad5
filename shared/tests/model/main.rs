//! The counting protocol, checked in every order of its steps, with every fault at every step.
mod ledger;
mod mutation;
mod properties;
mod protocol;
mod redis;
mod scenario;
mod scenarios;
mod set;
mod state;
mod step;
mod witness;
mod worker;

use std::time::Instant;

use mutation::Mutation;
use properties::{
    BY_CURRENT_DEFINITION, COUNTED_ONCE, NEVER_AHEAD, NOTHING_DROPPED, ONE_OUTCOME, SETTLES, TALLY_IS_LEDGER,
    WHOLE_BY_ITSELF,
};
use protocol::Protocol;
use scenario::Scenario;
use stateright::{Checker, HasDiscoveries, Model};
use witness::Event;

/// Goes through every state of a scenario, and finds every promise kept.
fn keeps_every_promise(scenario: Scenario) {
    let (name, unseen) = (scenario.name, scenario.unseen);
    let protocol = Protocol::new(scenario, None);
    let witness = protocol.witness.clone();
    let started = Instant::now();
    let checker = protocol.checker().spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {states} states, {steps} steps, depth {depth}, {:.1?}", started.elapsed());
    for (promise, path) in checker.discoveries() {
        panic!("{name}: not so: {promise}: {:#?}", path.into_actions());
    }
    assert_eq!(witness.missing(), unseen, "{name}: what was not seen");
}

/// Finds these promises broken by a mutation.
fn breaks(mutation: Mutation, scenario: Scenario, promises: &[&'static str]) {
    let name = scenario.name;
    let started = Instant::now();
    let enough = HasDiscoveries::AllOf(promises.iter().copied().collect());
    let enough = if std::env::var("FULL").is_ok() { HasDiscoveries::All } else { enough };
    let checker = Protocol::new(scenario, Some(mutation)).checker().finish_when(enough).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{mutation:?} in {name}: {states} states, {:.1?}", started.elapsed());
    let mut discoveries = checker.discoveries();
    if std::env::var("FULL").is_ok() {
        println!("   all: {:?}", discoveries.keys().collect::<Vec<_>>());
    }
    for promise in promises {
        let path =
            discoveries.remove(promise).unwrap_or_else(|| panic!("{mutation:?}: unnoticed: {promise}"));
        println!("  not so: {promise}: {:?}", path.into_actions());
    }
}

#[test]
fn deaths() {
    keeps_every_promise(scenarios::deaths());
}

#[test]
fn crowd() {
    keeps_every_promise(scenarios::crowd());
}

#[test]
fn redis_faults() {
    keeps_every_promise(scenarios::redis_faults());
}

#[test]
fn window_moves() {
    keeps_every_promise(scenarios::window_moves());
}

#[test]
fn window_moves_back() {
    keeps_every_promise(scenarios::window_moves_back());
}

#[test]
fn window_and_redis() {
    keeps_every_promise(scenarios::window_and_redis());
}

#[test]
fn rebuild() {
    keeps_every_promise(scenarios::rebuild());
}

#[test]
fn everything_is_seen_in_some_scenario() {
    let scenarios = scenarios::all();
    for event in Event::ALL {
        assert!(scenarios.iter().any(|scenario| !scenario.unseen.contains(event)), "{event:?}");
    }
}

#[test]
fn m_increments() {
    breaks(Mutation::Increments, scenarios::redis_faults(), &[WHOLE_BY_ITSELF, NEVER_AHEAD]);
}
#[test]
fn m_new() {
    breaks(Mutation::TotalsOfNewVotesOnly, scenarios::deaths(), &[WHOLE_BY_ITSELF]);
}
#[test]
fn m_gt() {
    breaks(Mutation::LastTotalStays, scenarios::crowd(), &[WHOLE_BY_ITSELF]);
}
#[test]
fn m_ack() {
    breaks(Mutation::AcknowledgedBeforeCommit, scenarios::deaths(), &[NOTHING_DROPPED, SETTLES]);
}
#[test]
fn m_version() {
    breaks(Mutation::NoVersionCheck, scenarios::window_moves(), &[BY_CURRENT_DEFINITION, ONE_OUTCOME]);
}
#[test]
fn m_fence() {
    breaks(Mutation::NoFence, scenarios::window_moves(), &[BY_CURRENT_DEFINITION, ONE_OUTCOME]);
}
#[test]
fn m_apart() {
    breaks(Mutation::TallyApart, scenarios::deaths(), &[TALLY_IS_LEDGER, SETTLES]);
}
#[test]
fn m_key() {
    breaks(Mutation::KeyNotUnique, scenarios::deaths(), &[COUNTED_ONCE]);
}
#[test]
fn m_cr() {
    breaks(Mutation::CountsWhatWasRejected, scenarios::window_moves(), &[ONE_OUTCOME]);
}
#[test]
fn m_rc() {
    breaks(Mutation::RejectsWhatWasCounted, scenarios::window_moves(), &[ONE_OUTCOME]);
}
#[test]
fn m_loads() {
    breaks(Mutation::LoadsDoNotRaise, scenarios::redis_faults(), &[SETTLES]);
}
#[test]
fn m_rebuild() {
    breaks(Mutation::RebuildInSameEpoch, scenarios::rebuild(), &[NEVER_AHEAD]);
}
