//! Emulates CloudFormation: reads `template.yaml` and resolves it to plain values.
//!
//! Parameters, mappings, conditions, SAM's globals and intrinsic functions are resolved as CloudFormation does.
//! Values that exist only in AWS (role ARNs, domain names) become deterministic placeholders.
mod globals;
mod intrinsics;
mod overrides;
mod parameters;
pub mod physical;
mod yaml;

use std::{collections::BTreeMap, fmt, path::Path};

use anyhow::{Context as _, anyhow};
use serde_json::{Map, Value};

use intrinsics::Resolver;

/// The inputs of the resolution of a template.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Template parameters that differ from their defaults.
    pub parameters: BTreeMap<String, String>,
    /// Overrides of the form `Resource.Property.Path=value`, applied to the resources before the resolution.
    pub overrides: Vec<String>,
    /// Base URL of the AWS endpoint, for queue URLs, such as `http://localhost:4566`.
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
    aws_endpoint: String,
}

impl Template {
    /// Reads a template, applies the overrides and resolves it.
    ///
    /// # Errors
    /// An unreadable file or an invalid template; the error names the file, the path in the template and the problem.
    pub fn load(path: &Path, context: &Context) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text, &path.display().to_string(), context)
    }

    /// Parses like [`Template::load`], from text; `name` is the file name in errors.
    ///
    /// # Errors
    /// Those of [`Template::load`].
    pub fn parse(text: &str, name: &str, context: &Context) -> anyhow::Result<Self> {
        let mut document =
            yaml::parse(text).map_err(|e| anyhow!("{name}:{}:{}: {}", e.line, e.column, e.message))?;
        let resources = resolve(&mut document.value, &document.resource_ids, context)
            .map_err(|e| anyhow!("{name}: {e}"))?;
        Ok(Self { resources, aws_endpoint: context.aws_endpoint.clone() })
    }

    /// Returns all resources of a type, in the template's order.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(move |r| r.kind == kind)
    }

    /// Returns all resources whose type has this prefix, in the template's order.
    pub fn of_family<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(move |r| r.kind.starts_with(prefix))
    }

    /// Finds a resource by its logical id.
    pub fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.iter().find(|r| r.id == id)
    }

    /// Returns the base URL of the AWS endpoint, from the [`Context`].
    pub fn aws_endpoint(&self) -> &str {
        &self.aws_endpoint
    }
}

impl Resource {
    /// Reads a whole number at a path of keys in the properties; as in CloudFormation, it may be a string of digits.
    ///
    /// # Errors
    /// The value is not a whole number, or is outside `range`.
    pub fn number(&self, keys: &[&str], range: std::ops::RangeInclusive<u64>) -> anyhow::Result<Option<u64>> {
        let value = keys.iter().try_fold(&self.properties, |value, key| value.get(key));
        number(value, range).with_context(|| format!("{}.{}", self.id, keys.join(".")))
    }
}

/// Reads a number like [`Resource::number`], from any value.
pub(crate) fn number(
    value: Option<&Value>,
    range: std::ops::RangeInclusive<u64>,
) -> anyhow::Result<Option<u64>> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    match number.filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(anyhow!("{value} is not a whole number from {} to {}", range.start(), range.end())),
    }
}

fn resolve(root: &mut Value, ids: &[String], context: &Context) -> Result<Vec<Resource>, ResolveError> {
    let section = |name: &str| root.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let parameters =
        parameters::resolve(&section("Parameters"), &context.parameters).map_err(|e| e.at("Parameters"))?;
    let (conditions, mappings) = (section("Conditions"), section("Mappings"));
    let globals = root.get("Globals").cloned().unwrap_or_default();
    let mut resources = match root.get_mut("Resources").map(Value::take) {
        Some(Value::Object(resources)) => resources,
        _ => return Err(ResolveError::new("there is no Resources section: this is not a template")),
    };
    check_shapes(&resources).map_err(|e| e.at("Resources"))?;
    globals::merge_into(&mut resources, &globals);
    for text in &context.overrides {
        overrides::apply(&mut resources, text)?;
    }
    let resolver = Resolver::new(parameters, conditions, mappings, &resources, &context.aws_endpoint);
    ids.iter()
        .filter_map(|id| Some((id, resources.get(id)?)))
        .filter_map(|(id, raw)| {
            resource(&resolver, id, raw).map_err(|e| e.at(id).at("Resources")).transpose()
        })
        .collect()
}

fn check_shapes(resources: &Map<String, Value>) -> Result<(), ResolveError> {
    for (id, resource) in resources {
        let problem = if !resource["Type"].is_string() {
            "a resource needs a Type"
        } else if resource.get("Properties").is_some_and(|p| !p.is_object() && !p.is_null()) {
            "Properties must be a map"
        } else {
            continue;
        };
        return Err(ResolveError::new(problem).at(id));
    }
    Ok(())
}

fn resource(resolver: &Resolver<'_>, id: &str, raw: &Value) -> Result<Option<Resource>, ResolveError> {
    if !resolver.exists(raw)? {
        return Ok(None);
    }
    let section = |name: &str| -> Result<Value, ResolveError> {
        let value = raw.get(name).unwrap_or(&Value::Null);
        Ok(resolver.resolve(value).map_err(|e| e.at(name))?.unwrap_or_default())
    };
    Ok(Some(Resource {
        id: id.to_owned(),
        kind: text_of(&raw["Type"]),
        properties: section("Properties")?,
        metadata: section("Metadata")?,
    }))
}

/// A problem and its path in the template.
#[derive(Debug)]
struct ResolveError {
    path: Vec<String>,
    message: String,
}

impl ResolveError {
    fn new(message: impl Into<String>) -> Self {
        Self { path: Vec::new(), message: message.into() }
    }

    /// Prepends a key to the path.
    fn at(mut self, key: impl Into<String>) -> Self {
        self.path.insert(0, key.into());
        self
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path.join("."))?;
        }
        f.write_str(&self.message)
    }
}

fn is_intrinsic(key: &str) -> bool {
    key == "Ref" || key.starts_with("Fn::")
}

/// Returns the intrinsic function of a value, with its argument; `None` for a plain value.
fn intrinsic_of(value: &Value) -> Option<(&str, &Value)> {
    let map = value.as_object().filter(|map| map.len() == 1)?;
    map.iter().next().filter(|(key, _)| is_intrinsic(key)).map(|(key, value)| (key.as_str(), value))
}

/// Formats a scalar as CloudFormation does within a string.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn as_f64(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests;
