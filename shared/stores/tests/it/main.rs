//! Integration tests of the stores against real servers of PostgreSQL and Redis.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod catalog;
mod counting;
mod durability;
mod evidence;
mod history;
mod late;
mod log;
mod outage;
mod polls;
mod rebuild;
mod receipts;
mod reconnect;
mod rejections;
mod stampede;
mod support;
mod voters;
