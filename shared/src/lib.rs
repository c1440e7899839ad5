//! What the functions share: the rules of voting, and the two stores they are applied to.
//!
//! - [`domain`]: the rules, pure. It knows neither SQL, Redis, AWS, the environment nor the clock.
//! - [`ledger`]: PostgreSQL, the truth. All SQL is here and in `migrations/`.
//! - [`ranking`]: Redis, a view of the ledger that may be lost at any time. All Redis commands are here.
//! - [`clock`]: the wall clock.
//! - [`catalog`]: polls as the functions find them, from Redis or else from the ledger.
//! - [`api`]: what every HTTP answer of ours has in common.
//! - [`config`]: the one reader of the environment.
//! - [`telemetry`]: metric names and their format, and how errors are logged.
//! - [`tls`]: whom the stores' certificates must come from.

pub mod api;
mod breaker;
pub mod catalog;
pub mod clock;
pub mod config;
pub mod domain;
pub mod ledger;
pub mod ranking;
pub mod telemetry;
pub mod tls;
