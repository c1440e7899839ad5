//! Stands in for CloudFormation: reads `template.yaml` and resolves it to plain values.
use std::{collections::BTreeMap, path::Path};

use serde_json::Value;

/// What resolving a template needs to know of the world.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Template parameters that differ from their defaults.
    pub parameters: BTreeMap<String, String>,
    /// `--set Resource.Property.Path=value`, applied to the resources before resolution.
    pub overrides: Vec<String>,
    /// Base URL of the AWS endpoint, for queue URLs: `http://localhost:4566`.
    pub aws_endpoint: String,
}

/// One resource with every intrinsic function resolved.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Logical id.
    pub id: String,
    /// `AWS::SQS::Queue` and so on.
    pub kind: String,
    /// Resolved `Properties`.
    pub properties: Value,
    /// Resolved `Metadata`.
    pub metadata: Value,
}

/// A resolved template; resources whose `Condition` is false are absent.
#[derive(Debug, Clone)]
pub struct Template {
    resources: Vec<Resource>,
}

impl Template {
    /// Reads, overrides and resolves. Errors name the file, the path in it and what to do.
    pub fn load(_path: &Path, _context: &Context) -> anyhow::Result<Self> {
        todo!()
    }
    /// All resources of a type, in the template's order.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(move |r| r.kind == kind)
    }
    /// A resource by its logical id.
    pub fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.id == id)
    }
}
