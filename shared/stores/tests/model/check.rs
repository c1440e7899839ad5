//! Checks scenarios: the protocol keeps every promise, and each mutation breaks one.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::{
    mutation::Mutation, protocol::Protocol, scenario::Scenario, scenarios, state::State, step::Step,
    witness::Event,
};

/// Checks every promise in every state of a scenario, and that the scenario's events have happened.
fn keeps_every_promise(scenario: Scenario) {
    let Scenario { name, shows, .. } = scenario;
    let started = Instant::now();
    let checker = Protocol::new(scenario, None).checker().spawn_bfs().join();
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    println!("{name}: {states} states, {steps} steps, at most {depth} in a row, {:.1?}", started.elapsed());
    if let Some((promise, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: broken: {promise}: {:#?}", steps_to(checker.model(), promise, path));
    }
    let witness = &checker.model().witness;
    let unseen: Vec<_> = shows.iter().filter(|&&event| !witness.has_seen(event)).collect();
    assert!(unseen.is_empty(), "{name}: events that did not happen: {unseen:?}");
}

/// Checks that a mutation breaks these promises.
pub fn breaks(mutation: Mutation, scenario: Scenario, promises: &[&'static str]) {
    let name = scenario.name;
    let started = Instant::now();
    let enough = HasDiscoveries::AllOf(promises.iter().copied().collect());
    let checker = Protocol::new(scenario, Some(mutation)).checker().finish_when(enough).spawn_bfs().join();
    let (states, steps) = (checker.unique_state_count(), checker.state_count());
    println!("{mutation:?}, {name}: {states} states, {steps} steps, {:.1?}", started.elapsed());
    for promise in promises {
        let Some(path) = checker.discovery(promise) else { panic!("{mutation:?} does not break: {promise}") };
        println!("  broken: {promise}: {:?}", steps_to(checker.model(), promise, path));
    }
}

/// Returns the steps up to the first state that breaks a promise; a path may continue after it.
fn steps_to(protocol: &Protocol, promise: &'static str, path: Path<State, Step>) -> Vec<Step> {
    let is_kept = protocol.property(promise).condition;
    path.into_vec()
        .into_iter()
        .take_while(|(state, _)| is_kept(protocol, state))
        .filter_map(|(_, step)| step)
        .collect()
}

#[test]
fn deaths() {
    keeps_every_promise(scenarios::deaths());
}

#[test]
fn lists() {
    keeps_every_promise(scenarios::lists());
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
fn redis_fails_twice() {
    keeps_every_promise(scenarios::redis_fails_twice());
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
fn certification() {
    keeps_every_promise(scenarios::certification());
}

#[test]
fn certification_and_redis() {
    keeps_every_promise(scenarios::certification_and_redis());
}

#[test]
fn every_event_happens_in_some_scenario() {
    let scenarios = scenarios::all();
    for event in Event::ALL {
        assert!(scenarios.iter().any(|scenario| scenario.shows.contains(event)), "{event:?}");
    }
}

/// Checks the first larger scenario; with `MODEL=wide` all of them, which takes more than a minute and half a
/// gigabyte.
#[test]
fn wider_scenarios() {
    let is_wide = std::env::var("MODEL").is_ok_and(|model| model == "wide");
    let scenarios = scenarios::wider();
    let count = if is_wide { scenarios.len() } else { 1 };
    for scenario in scenarios.into_iter().take(count) {
        keeps_every_promise(scenario);
    }
}
