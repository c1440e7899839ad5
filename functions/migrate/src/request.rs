use serde::Deserialize;
use serde_json::{Map, Value};

/// The physical id of the resource. It never changes: CloudFormation would delete the resource of the old id.
const PHYSICAL_ID: &str = "schema";

/// A request of CloudFormation to a custom resource: the fields that the function uses.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Request {
    #[serde(rename = "RequestType")]
    pub(crate) kind: Kind,
    /// A presigned S3 URL. Anyone with this URL can answer, so it is never logged.
    #[serde(rename = "ResponseURL")]
    pub(crate) response_url: String,
    pub(crate) stack_id: String,
    pub(crate) request_id: String,
    pub(crate) logical_resource_id: String,
    #[serde(default = "physical_id")]
    pub(crate) physical_resource_id: String,
    #[serde(default)]
    resource_properties: Properties,
    /// The properties before an update.
    old_resource_properties: Option<Properties>,
}

/// The resource's properties in the template: `Release`, and its dependencies, one of which may contain a password.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
struct Properties(Map<String, Value>);

#[derive(Debug, Clone, Deserialize)]
#[serde(from = "String")]
pub(crate) enum Kind {
    Create,
    Update,
    Delete,
    Unknown(String),
}

impl From<String> for Kind {
    fn from(kind: String) -> Self {
        match kind.as_str() {
            "Create" => Self::Create,
            "Update" => Self::Update,
            "Delete" => Self::Delete,
            _ => Self::Unknown(kind),
        }
    }
}

impl Request {
    /// Returns whether this update is a rollback to an earlier release, or changes nothing. The schema of that
    /// release is in place then, and no migration since has removed anything.
    pub(crate) fn needs_no_migration(&self) -> bool {
        let (Kind::Update, Some(from)) = (&self.kind, &self.old_resource_properties) else { return false };
        let is_rollback = match (self.resource_properties.release(), from.release()) {
            (Some((function, to)), Some((before, from))) => function == before && to < from,
            _ => false,
        };
        is_rollback || self.resource_properties == *from
    }
}

impl Properties {
    /// Returns the function and its version number, which Lambda increments and never reuses:
    /// `arn:…:function:name:7`.
    fn release(&self) -> Option<(&str, u64)> {
        let (function, number) = self.0.get("Release")?.as_str()?.rsplit_once(':')?;
        Some((function, number.parse().ok()?))
    }
}

fn physical_id() -> String {
    PHYSICAL_ID.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FUNCTION: &str = "arn:aws:lambda:us-east-1:000000000000:function:migrate";

    fn request(kind: &str, to: &Value, from: &Value) -> Request {
        let event = json!({
            "RequestType": kind, "ResponseURL": "", "StackId": "", "RequestId": "", "LogicalResourceId": "Schema",
            "ResourceProperties": to, "OldResourceProperties": from,
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn only_a_rollback_or_an_unchanged_update_needs_no_migration() {
        let release = |number: &str| json!({"Release": format!("{FUNCTION}:{number}"), "Database": "first"});
        let needs_no_migration = |to: &Value, from: &Value| request("Update", to, from).needs_no_migration();
        assert!(needs_no_migration(&release("9"), &release("10")));
        assert!(needs_no_migration(&release("9"), &release("9")));
        assert!(!needs_no_migration(&release("10"), &release("9")));
        // Another function, another database, or unknown properties.
        let other = json!({"Release": format!("{FUNCTION}-2:1"), "Database": "first"});
        assert!(!needs_no_migration(&other, &release("9")));
        let database = json!({"Release": format!("{FUNCTION}:9"), "Database": "second"});
        assert!(!needs_no_migration(&database, &release("9")));
        for unknown in [json!({}), json!({"Release": 1}), release("$LATEST")] {
            assert!(!needs_no_migration(&unknown, &release("9")), "{unknown}");
            assert!(!needs_no_migration(&release("9"), &unknown), "{unknown}");
        }
        assert!(!needs_no_migration(&release("9"), &Value::Null));
        for kind in ["Create", "Delete", "Observe"] {
            assert!(!request(kind, &release("1"), &release("2")).needs_no_migration(), "{kind}");
        }
    }
}
