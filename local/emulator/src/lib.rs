//! Emulates AWS's managed services on one machine, driven by a SAM template: API Gateway, SQS with redrive, event
//! source mappings, Lambda, S3, CloudFront, EventBridge schedules, custom resources, and a token issuer.
//!
//! Functions are real binaries behind the real Lambda Runtime API. Each module is named after the service that it
//! emulates. No module depends on the purpose of the functions.
//!
//! To add a service:
//! 1. Write a module whose type reads its resources from a [`template::Template`] and refuses properties outside
//!    AWS's ranges.
//! 2. Add the results of `Ref` and `Fn::GetAtt` for these resources to `template/physical.rs`.
//! 3. If SDKs call the service, add it to [`aws_endpoint::Services`] and to the dispatch in `aws_endpoint.rs`.

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
