//! The whole backend on one machine: stand-ins for AWS's managed edges, driven by `template.yaml`.
//!
//! The functions are the real binaries, spoken to over the real Lambda Runtime API. Each module is named
//! after what it stands in for.

pub mod cloudwatch;
pub mod lambda;
pub mod scratch;
pub mod sqs;
pub mod template;
