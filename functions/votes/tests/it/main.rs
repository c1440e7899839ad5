//! The votes function, against real stores.
#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod batch;
mod connections;
mod evidence;
mod lists;
mod outage;
mod support;
mod voters;
