//! The stores of `shared` against real servers.
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
