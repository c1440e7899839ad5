//! The counting protocol as a model: every order of its steps, with every fault at every step.
//!
//! Two or three workers take batches out of the queue, judge them, call `count_votes`, raise the ranking and
//! acknowledge, while messages come twice, clients retry, functions and stores die, Redis forgets, the show moves a
//! poll's window and rebuilds its tally. What is checked is in [`properties`]; that each promise would be missed is
//! shown by the mutations that break it, in [`mutation`].
//!
//! | model | code |
//! |---|---|
//! | [`step::Step`] | each step says which file, function or statement it stands for: the one place for that |
//! | [`scenario::Verdicts`] | `domain::judge` itself: it decides what counts, and makes the keys |
//! | [`ledger`] | `count_votes` in `shared/ledger/migrations/0001_ledger.sql`; `shared/ledger/src/{polls,audit}.rs` |
//! | [`redis`] | `shared/ranking/src/lib.rs`, `shared/stores/src/catalog.rs` |
//! | [`certification`] | `shared/domain/src/evidence.rs`, `functions/results/src/lib.rs` |
//! | [`worker`] | `functions/votes/src/lib.rs`, `functions/votes/src/definitions.rs` |
//!
//! What the model leaves out:
//! - Contestants. All totals of a poll change in one statement and travel in one `ZADD`; polls do not, so there are
//!   two.
//! - Locks held while waiting for others: a call waits before it does anything. That no two calls wait for each
//!   other is a matter of their order, and tested on PostgreSQL.
//! - Time: whatever takes longer is a step that comes later. `JUDGEMENTS_MAX`: there are fewer changes than that.
//!   The retry budget: a message is delivered as often as it takes.
//! - A message that is twice in one batch, more than one abandoned call or pipeline adrift at a time, a Redis that
//!   comes back with older data (rather than all, or none), creating and deleting polls.
//!
//! `cargo test -p stores --test model -- --nocapture` prints the number of states and the way to each broken
//! promise; `MODEL=wide` goes further.

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
