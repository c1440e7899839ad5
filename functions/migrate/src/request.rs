use serde::Deserialize;

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
}

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

fn physical_id() -> String {
    PHYSICAL_ID.to_owned()
}
