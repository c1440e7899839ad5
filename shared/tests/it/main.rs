//! The stores of `shared` against real servers.

mod catalog;
mod counting;
mod outage;
mod polls;
mod rebuild;
mod receipts;
mod support;
