//! The polls function against real stores.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod reads;
mod receipts;
mod support;
