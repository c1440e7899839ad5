//! Integration tests of the stores against real servers of PostgreSQL and Redis.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod catalog;
mod counting;
mod durability;
mod evidence;
mod late;
mod outage;
mod polls;
mod rebuild;
mod receipts;
mod reconnect;
mod stampede;
mod support;
mod voters;
