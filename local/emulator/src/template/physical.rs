//! Physical names of resources: the results of `Ref` and `Fn::GetAtt`.
//!
//! To add a resource type: 1. add its name property to `name_property`; 2. add its `Ref` to `reference` and its
//! attributes to `attribute`, unless the defaults fit.
use super::{ResolveError, text_of};

/// The stack's Region.
pub const REGION: &str = "us-east-1";
/// The account id that local AWS endpoints use by convention.
pub const ACCOUNT: &str = "000000000000";
/// The stack's name.
pub const STACK: &str = "local";

/// Returns the URL of a queue.
pub fn queue_url(aws_endpoint: &str, name: &str) -> String {
    format!("{}/{ACCOUNT}/{name}", aws_endpoint.trim_end_matches('/'))
}

/// Returns the ARN of a queue.
pub fn queue_arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// Returns the ARN of a function.
pub fn function_arn(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

/// Returns the stack's id.
pub fn stack_id() -> String {
    format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/0")
}

/// Returns the value of a pseudo parameter. `AWS::NoValue` is handled by the resolver: it removes its property.
pub(super) fn pseudo_parameter(name: &str) -> Option<String> {
    Some(match name {
        "AWS::Region" => REGION.to_owned(),
        "AWS::AccountId" => ACCOUNT.to_owned(),
        "AWS::StackName" => STACK.to_owned(),
        "AWS::StackId" => stack_id(),
        "AWS::Partition" => "aws".to_owned(),
        "AWS::URLSuffix" => "amazonaws.com".to_owned(),
        _ => return None,
    })
}

/// Returns the property that names a resource of this type; `None`: the logical id is its name.
pub(super) fn name_property(kind: &str) -> Option<&'static str> {
    match kind {
        "AWS::SQS::Queue" => Some("QueueName"),
        "AWS::S3::Bucket" => Some("BucketName"),
        "AWS::Serverless::Function" | "AWS::Lambda::Function" => Some("FunctionName"),
        _ => None,
    }
}

/// Returns the result of `Ref`.
pub(super) fn reference(kind: &str, name: &str, aws_endpoint: &str) -> String {
    match kind {
        "AWS::SQS::Queue" => queue_url(aws_endpoint, name),
        "AWS::S3::Bucket" => name.to_lowercase(),
        _ => name.to_owned(),
    }
}

/// Returns the result of `Fn::GetAtt`.
pub(super) fn attribute(
    kind: &str,
    name: &str,
    attribute: &str,
    aws_endpoint: &str,
) -> Result<String, ResolveError> {
    let service = kind.split("::").nth(1).unwrap_or("aws").to_lowercase();
    Ok(match (kind, attribute) {
        ("AWS::SQS::Queue", "Arn") => queue_arn(name),
        ("AWS::SQS::Queue", "QueueName") => name.to_owned(),
        ("AWS::SQS::Queue", "QueueUrl") => queue_url(aws_endpoint, name),
        ("AWS::SQS::Queue", _) => {
            return Err(ResolveError::new(format!("a queue has no attribute {attribute}")));
        }
        ("AWS::Serverless::Function" | "AWS::Lambda::Function", "Arn") => function_arn(name),
        ("AWS::IAM::Role", "Arn") => format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
        ("AWS::S3::Bucket", "Arn") => format!("arn:aws:s3:::{}", name.to_lowercase()),
        ("AWS::S3::Bucket", "RegionalDomainName") => {
            format!("{}.s3.{REGION}.amazonaws.com", name.to_lowercase())
        }
        ("AWS::CloudFront::Distribution", "DomainName") => format!("{}.cloudfront.net", name.to_lowercase()),
        (_, "Arn") => format!("arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"),
        _ => format!("{name}.{attribute}"),
    })
}

/// Whether SAM generates a resource of this id from another one (`MyFunctionRole`, `ApiApiGatewayDefaultStage`).
pub(super) fn is_generated_by_sam<'a>(
    id: &str,
    mut resources: impl Iterator<Item = (&'a String, &'a serde_json::Value)>,
) -> bool {
    id.starts_with("ServerlessHttpApi")
        || resources.any(|(other, raw)| {
            id.starts_with(other.as_str()) && text_of(&raw["Type"]).starts_with("AWS::Serverless::")
        })
}
