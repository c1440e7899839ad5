use serde::Deserialize;
use serde_json::{Map, Value};

/// The resource's name to CloudFormation. It never changes: another name would have CloudFormation delete the old one.
const PHYSICAL_ID: &str = "schema";

/// What CloudFormation asks of a custom resource; of the rest nothing depends.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Request {
    #[serde(rename = "RequestType")]
    pub(crate) kind: Kind,
    /// A presigned address in S3: whoever has it can answer.
    #[serde(rename = "ResponseURL")]
    pub(crate) response_url: String,
    pub(crate) stack_id: String,
    pub(crate) request_id: String,
    pub(crate) logical_resource_id: String,
    #[serde(default = "physical_id")]
    pub(crate) physical_resource_id: String,
    #[serde(default)]
    resource_properties: Properties,
    /// Those from which an update starts.
    old_resource_properties: Option<Properties>,
}

/// What the template says of the resource: `Release`, and what must be there before. It may hold a password.
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
    /// Whether this takes the stack back to a release that has been at work, or leaves it at the one it has: what
    /// that release needs of the schema is there, and nothing was taken away since.
    pub(crate) fn asks_for_nothing_new(&self) -> bool {
        let (Kind::Update, Some(from)) = (&self.kind, &self.old_resource_properties) else { return false };
        let goes_back = match (self.resource_properties.release(), from.release()) {
            (Some((function, to)), Some((before, from))) => function == before && to < from,
            _ => false,
        };
        goes_back || self.resource_properties == *from
    }
}

impl Properties {
    /// A function and the number of its version, which Lambda counts up and gives once: `arn:…:function:name:7`.
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
    fn only_an_update_to_what_was_there_asks_for_nothing_new() {
        let release = |number: &str| json!({"Release": format!("{FUNCTION}:{number}"), "Database": "first"});
        let asks_for_nothing_new =
            |to: &Value, from: &Value| request("Update", to, from).asks_for_nothing_new();
        assert!(asks_for_nothing_new(&release("9"), &release("10")));
        assert!(asks_for_nothing_new(&release("9"), &release("9")));
        assert!(!asks_for_nothing_new(&release("10"), &release("9")));
        // Of another function, of another database, or of nobody knows what.
        let other = json!({"Release": format!("{FUNCTION}-2:1"), "Database": "first"});
        assert!(!asks_for_nothing_new(&other, &release("9")));
        let database = json!({"Release": format!("{FUNCTION}:9"), "Database": "second"});
        assert!(!asks_for_nothing_new(&database, &release("9")));
        for unknown in [json!({}), json!({"Release": 1}), release("$LATEST")] {
            assert!(!asks_for_nothing_new(&unknown, &release("9")), "{unknown}");
            assert!(!asks_for_nothing_new(&release("9"), &unknown), "{unknown}");
        }
        assert!(!asks_for_nothing_new(&release("9"), &Value::Null));
        for kind in ["Create", "Delete", "Observe"] {
            assert!(!request(kind, &release("1"), &release("2")).asks_for_nothing_new(), "{kind}");
        }
    }
}
