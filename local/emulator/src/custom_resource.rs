//! Emulates CloudFormation's custom resources: `Custom::…` resources, which a function of the template creates.
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::put};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    lambda::Functions,
    template::{Resource, Template, physical},
};

/// The prefix of a custom resource's type.
const KIND: &str = "Custom::";

/// An endpoint that receives functions' responses, in place of a presigned S3 URL.
#[derive(Debug)]
pub struct AnswerBox {
    /// The value of `ResponseURL`.
    pub url: String,
    answers: mpsc::Receiver<Bytes>,
    server: tokio::task::JoinHandle<()>,
}

impl AnswerBox {
    /// Opens an endpoint on a free port.
    ///
    /// # Errors
    /// No port is available.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/answer?X-Amz-Signature=secret", listener.local_addr()?);
        let (sender, answers) = mpsc::channel(16);
        let router = Router::new().route("/answer", put(receive)).with_state(sender);
        let server = tokio::spawn(async move {
            // The result is ignored: a missing response is reported by `take`.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Self { url, answers, server })
    }

    /// Takes the oldest response.
    ///
    /// # Errors
    /// No response has arrived, or it is not JSON.
    pub fn take(&mut self) -> Result<Value> {
        let answer = self.answers.try_recv().context("the function sent no response to CloudFormation")?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

impl Drop for AnswerBox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(State(answers): State<mpsc::Sender<Bytes>>, body: Bytes) -> StatusCode {
    match answers.try_send(body) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Creates every custom resource of the template, in the template's order.
///
/// # Errors
/// The function of a resource failed; the error names the resource and the function's reason.
pub async fn create_all(template: &Template, functions: &Arc<Functions>) -> Result<()> {
    for resource in template.of_family(KIND) {
        create(template, resource, functions).await.with_context(|| resource.id.clone())?;
    }
    Ok(())
}

async fn create(template: &Template, resource: &Resource, functions: &Arc<Functions>) -> Result<()> {
    let function = service_function(template, resource)?;
    let mut answers = AnswerBox::open().await?;
    let event = request("Create", resource, &answers.url);
    functions.invoke(&function, event.to_string().into()).await?;
    let answer = answers.take()?;
    ensure!(answer["RequestId"] == event["RequestId"], "the response belongs to another request");
    match answer["Status"].as_str() {
        Some("SUCCESS") => Ok(()),
        Some("FAILED") => bail!("{}", answer["Reason"].as_str().unwrap_or("no reason given")),
        _ => bail!("{answer} is not a response to CloudFormation"),
    }
}

/// Finds the function of `ServiceToken`.
fn service_function(template: &Template, resource: &Resource) -> Result<String> {
    let token = resource.properties["ServiceToken"].as_str().context("there is no ServiceToken")?;
    let is_target = |function: &&Resource| {
        let name = function.properties["FunctionName"].as_str().unwrap_or(&function.id);
        physical::function_arn(name) == token
    };
    let function = template.of_kind("AWS::Serverless::Function").find(is_target);
    Ok(function.with_context(|| format!("there is no function {token}"))?.id.clone())
}

/// Builds CloudFormation's request to the function.
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

/// Builds CloudFormation's update request, from the properties `from` to those of `resource`. A rollback sends the
/// reverse update.
pub fn update(resource: &Resource, from: &Value, response_url: &str) -> Value {
    let mut event = request("Update", resource, response_url);
    event["OldResourceProperties"] = from.clone();
    event
}
