//! The whole backend on one machine: stand-ins for AWS's managed edges, driven by `template.yaml`.
//!
//! The functions are the real binaries, spoken to over the real Lambda Runtime API. Each module is named
//! after what it stands in for.

pub mod aws_endpoint;
pub mod bench;
pub mod chaos;
mod child;
pub mod cli;
pub mod cloudfront;
pub mod cloudwatch;
pub mod custom_resource;
mod demo;
pub mod edge;
pub mod event_source;
pub mod http_api;
pub mod issuer;
pub mod lambda;
mod local_api;
pub mod pages;
pub mod s3;
mod schedule;
pub mod scratch;
pub mod sqs;
pub mod stack;
mod status;
pub mod stores;
pub mod template;
