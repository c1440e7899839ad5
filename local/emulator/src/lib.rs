//! AWS's managed services on one machine, driven by a SAM template: API Gateway, SQS and its redrive, event source
//! mappings, Lambda, S3, CloudFront, EventBridge's schedules, custom resources, and an issuer of tokens.
//!
//! Functions are real binaries, spoken to over the real Lambda Runtime API. Each module is named after the service that
//! it stands in for. Nothing here knows what the functions are for.

pub mod aws_endpoint;
pub mod clock;
pub mod cloudfront;
pub mod cloudwatch;
pub mod custom_resource;
pub mod edge;
pub mod event_source;
pub mod http_api;
pub mod issuer;
pub mod lambda;
pub mod s3;
pub mod schedule;
pub mod sqs;
pub mod template;
