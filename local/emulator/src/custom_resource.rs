//! Stands in for CloudFormation where it asks a function to make a resource: `Custom::…` in the template.
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::put};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    lambda::Functions,
    template::{Resource, Template, physical},
};

/// Custom resources have a type of one's own, which begins with this.
const KIND: &str = "Custom::";

/// Where functions put their answers, as they would into a presigned address of S3.
#[derive(Debug)]
pub struct AnswerBox {
    /// For `ResponseURL`.
    pub url: String,
    answers: mpsc::Receiver<Bytes>,
    server: tokio::task::JoinHandle<()>,
}

impl AnswerBox {
    /// Opens one, on a free port.
    ///
    /// # Errors
    /// There is none.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/answer?X-Amz-Signature=secret", listener.local_addr()?);
        let (sender, answers) = mpsc::channel(16);
        let router = Router::new().route("/answer", put(keep)).with_state(sender);
        let server = tokio::spawn(async move {
            // Without connections there are no answers, which is told where they are missed.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { url, answers, server })
    }

    /// The oldest answer that nobody has taken yet.
    ///
    /// # Errors
    /// There is none, or it is not JSON.
    pub fn take(&mut self) -> Result<Value> {
        let answer = self.answers.try_recv().context("it did not answer CloudFormation")?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

impl Drop for AnswerBox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn keep(State(answers): State<mpsc::Sender<Bytes>>, body: Bytes) -> StatusCode {
    match answers.try_send(body) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Has every custom resource of the template made, in the template's order.
///
/// # Errors
/// Names the resource, and the reason that its function gave.
pub async fn create_all(template: &Template, functions: &Arc<Functions>) -> Result<()> {
    for resource in template.of_family(KIND) {
        create(template, resource, functions).await.with_context(|| resource.id.clone())?;
    }
    Ok(())
}

async fn create(template: &Template, resource: &Resource, functions: &Arc<Functions>) -> Result<()> {
    let function = behind(template, resource)?;
    let mut answers = AnswerBox::open().await?;
    let event = request("Create", resource, &answers.url);
    functions.invoke(&function, event.to_string().into()).await?;
    let answer = answers.take()?;
    ensure!(answer["RequestId"] == event["RequestId"], "the answer is to another request");
    match answer["Status"].as_str() {
        Some("SUCCESS") => Ok(()),
        Some("FAILED") => bail!("{}", answer["Reason"].as_str().unwrap_or("no reason given")),
        _ => bail!("{answer} is no answer to CloudFormation"),
    }
}

/// The function that `ServiceToken` names.
fn behind(template: &Template, resource: &Resource) -> Result<String> {
    let token = resource.properties["ServiceToken"].as_str().context("there is no ServiceToken")?;
    let is_it = |function: &&Resource| {
        let name = function.properties["FunctionName"].as_str().unwrap_or(&function.id);
        physical::function_arn(name) == token
    };
    let function = template.of_kind("AWS::Serverless::Function").find(is_it);
    Ok(function.with_context(|| format!("there is no function {token}"))?.id.clone())
}

/// What CloudFormation sends.
pub fn request(kind: &str, resource: &Resource, response_url: &str) -> Value {
    json!({
        "RequestType": kind,
        "ServiceToken": resource.properties["ServiceToken"],
        "ResponseURL": response_url,
        "StackId": physical::stack_id(),
        "RequestId": uuid::Uuid::new_v4(),
        "LogicalResourceId": resource.id,
        "ResourceType": resource.kind,
        "ResourceProperties": resource.properties,
    })
}

/// What CloudFormation sends when a resource, made before, is to become what the template says now: at a deployment,
/// and the other way round when it takes one back. `from`: the properties it has.
pub fn update(resource: &Resource, from: &Value, response_url: &str) -> Value {
    let mut event = request("Update", resource, response_url);
    event["OldResourceProperties"] = from.clone();
    event
}
