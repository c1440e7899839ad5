//! A model of the counting protocol, checked in every order of its steps and with every fault at every step.
//!
//! Two or three workers receive batches, judge them, call `count_votes`, raise the ranking and acknowledge.
//! Meanwhile messages are redelivered, clients retry, functions and stores crash, Redis loses its data, and the
//! crew changes a poll's window and rebuilds its tally. [`properties`] has the promises; [`mutation`] has protocols
//! with one defect each, which must break a promise.
//!
//! To add a step: 1. add it to [`step::Step`] with the code it stands for. 2. Offer it in `Protocol::fair_steps`
//! or, with a budget, in `optional_steps`. 3. Apply it in `Protocol::apply`. 4. Make [`state::State::work_left`]
//! decrease. To add a promise: add it to [`properties::all`], and a mutation that breaks it with its test in
//! [`mutation`]. To add a scenario: add it to [`scenarios::all`] with the events it must show, and a test in
//! [`check`].
//!
//! | model | code |
//! |---|---|
//! | [`step::Step`] | each step names its file, function or statement: the only place that does |
//! | [`scenario::Verdicts`] | `domain::judge` itself, which decides outcomes and makes keys |
//! | [`ledger`] | `count_votes` in `shared/ledger/migrations/0001_ledger.sql`; `shared/ledger/src/{change,audit}.rs` |
//! | [`redis`] | `shared/ranking/src/lib.rs`, `shared/stores/src/catalog.rs` |
//! | [`certification`] | `shared/domain/src/evidence.rs`, `functions/results/src/certify.rs` |
//! | [`worker`] | `functions/votes/src/lib.rs`, `functions/votes/src/definitions.rs` |
//!
//! The model leaves out:
//! - Contestants. All totals of a poll change in one statement and are sent in one `ZADD`; those of several polls are
//!   not, so there are two polls.
//! - Locks held while waiting for others: a call waits before its first effect. The order of locks excludes
//!   deadlocks and is tested on PostgreSQL.
//! - Time: a slow operation is a step that comes later. `JUDGEMENTS_MAX`: scenarios have fewer changes. The retry
//!   budget: a message is delivered as often as needed.
//! - A message that is twice in one batch, more than one abandoned call or detached pipeline at a time, a Redis that
//!   returns with a part of its data, creating and deleting polls.
//!
//! `cargo test -p stores --test model -- --nocapture` prints the number of states and the steps to each broken
//! promise; `MODEL=wide` checks larger scenarios.

mod certification;
mod check;
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
