//! The function against real stores.

mod reads;
mod receipts;
mod support;
