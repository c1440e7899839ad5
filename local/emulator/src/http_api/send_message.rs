//! The first-class SQS-SendMessage integration: maps a request to a queue message without running a function.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use axum::{
    body::Bytes,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    http_api::{
        Backend, Call,
        mapping::{Inputs, Mapping, Missing},
        message,
    },
    sqs::{Attribute, NewMessage, SendError, Sent},
};

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";

/// A compiled integration.
#[derive(Debug)]
pub struct SendMessage {
    queue_url: Mapping,
    body: Mapping,
    attributes: Option<Mapping>,
    group_id: Option<Mapping>,
    delay_seconds: Option<Mapping>,
    responses: BTreeMap<u16, Vec<ResponseChange>>,
}

#[derive(Debug)]
enum ResponseChange {
    Status(StatusCode),
    Append(HeaderName, Mapping),
    Overwrite(HeaderName, Mapping),
    Remove(HeaderName),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MappedAttribute {
    data_type: String,
    string_value: Option<String>,
    binary_value: Option<String>,
}

impl SendMessage {
    /// Compiles `requestParameters` and `responseParameters`.
    ///
    /// # Errors
    /// A parameter is missing, unknown, or has an unknown source.
    pub fn compile(request: &Map<String, Value>, response: &Map<String, Value>) -> Result<Self> {
        let mut mappings = BTreeMap::new();
        for (name, value) in request {
            ensure!(
                matches!(
                    name.as_str(),
                    "QueueUrl"
                        | "MessageBody"
                        | "MessageAttributes"
                        | "MessageGroupId"
                        | "DelaySeconds"
                        | "Region"
                ),
                "requestParameters.{name} is not available for a standard queue here"
            );
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            mappings.insert(
                name.as_str(),
                Mapping::compile(&text).with_context(|| format!("requestParameters.{name}"))?,
            );
        }
        let mut take = |name: &str| mappings.remove(name);
        Ok(Self {
            queue_url: take("QueueUrl").context("requestParameters.QueueUrl is missing")?,
            body: take("MessageBody").context("requestParameters.MessageBody is missing")?,
            attributes: take("MessageAttributes"),
            group_id: take("MessageGroupId"),
            delay_seconds: take("DelaySeconds"),
            responses: response.iter().map(compile_response).collect::<Result<_>>()?,
        })
    }

    /// Sends the message and returns SQS's response, changed by `responseParameters`.
    pub(super) fn call(&self, call: &Call<'_>, backend: &dyn Backend) -> Response<Bytes> {
        let Ok(body) = str::from_utf8(call.body) else {
            let error =
                SendError { code: "InvalidMessageContents", message: "The body is not UTF-8.".to_owned() };
            return self.finish(error_response(&error, call.context.request_id), call, "");
        };
        let inputs = inputs(call, body);
        let mapped = self.map(&inputs);
        let response = match mapped {
            Err(Refusal::Missing) => message(StatusCode::BAD_REQUEST, "Bad Request"),
            Err(Refusal::Sqs(error)) => error_response(&error, call.context.request_id),
            Ok((queue_url, message)) => match backend.send(&queue_url, message) {
                Some(Ok(sent)) => success_response(&sent, call.context.request_id),
                Some(Err(error)) => error_response(&error, call.context.request_id),
                None => error_response(
                    &SendError {
                        code: "AWS.SimpleQueueService.NonExistentQueue",
                        message: "The specified queue does not exist.".to_owned(),
                    },
                    call.context.request_id,
                ),
            },
        };
        self.finish(response, call, body)
    }

    fn map<'a>(&'a self, inputs: &Inputs<'a>) -> Result<(std::borrow::Cow<'a, str>, NewMessage), Refusal> {
        let queue_url = self.queue_url.evaluate(inputs)?;
        let body = self.body.evaluate(inputs)?.into_owned();
        if body.is_empty() {
            return Err(refusal("MissingParameter", "The request must contain the parameter MessageBody."));
        }
        let attributes = match &self.attributes {
            Some(mapping) => parse_attributes(&mapping.evaluate(inputs)?)?,
            None => BTreeMap::new(),
        };
        let group_id = self.group_id.as_ref().map(|mapping| mapping.evaluate(inputs)).transpose()?;
        let group_id = group_id.map(std::borrow::Cow::into_owned);
        let delay_seconds = match &self.delay_seconds {
            Some(mapping) => Some(mapping.evaluate(inputs)?.parse().map_err(|_| {
                refusal("InvalidParameterValue", "DelaySeconds must be a number of seconds from 0 to 900.")
            })?),
            None => None,
        };
        Ok((queue_url, NewMessage { body, attributes, delay_seconds, group_id }))
    }

    fn finish(&self, mut response: Response<Bytes>, call: &Call<'_>, body: &str) -> Response<Bytes> {
        let inputs = inputs(call, body);
        let value_of = |mapping: &Mapping| HeaderValue::from_str(&mapping.evaluate(&inputs).ok()?).ok();
        for change in self.responses.get(&response.status().as_u16()).into_iter().flatten() {
            match change {
                ResponseChange::Status(status) => *response.status_mut() = *status,
                ResponseChange::Remove(name) => drop(response.headers_mut().remove(name)),
                ResponseChange::Append(name, mapping) => {
                    if let Some(value) = value_of(mapping) {
                        response.headers_mut().append(name, value);
                    }
                }
                ResponseChange::Overwrite(name, mapping) => {
                    if let Some(value) = value_of(mapping) {
                        response.headers_mut().insert(name, value);
                    }
                }
            }
        }
        response
    }
}

fn inputs<'a>(call: &Call<'a>, body: &'a str) -> Inputs<'a> {
    Inputs {
        body,
        headers: &call.parts.headers,
        path_parameters: call.path_parameters,
        query: call.query,
        context: call.context,
    }
}

enum Refusal {
    Missing,
    Sqs(SendError),
}

impl From<Missing> for Refusal {
    fn from(Missing: Missing) -> Self {
        Self::Missing
    }
}

fn refusal(code: &'static str, message: &str) -> Refusal {
    Refusal::Sqs(SendError { code, message: message.to_owned() })
}

fn parse_attributes(text: &str) -> Result<BTreeMap<String, Attribute>, Refusal> {
    let mapped: BTreeMap<String, MappedAttribute> = serde_json::from_str(text)
        .map_err(|_| refusal("InvalidParameterValue", "MessageAttributes is not a map of attributes."))?;
    let attributes = mapped.into_iter().map(|(name, attribute)| {
        let value = attribute.string_value.or(attribute.binary_value).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| {
            refusal("InvalidParameterValue", &format!("The message attribute '{name}' must have a value."))
        })?;
        Ok((name, Attribute { data_type: attribute.data_type, value }))
    });
    attributes.collect()
}

fn compile_response((status, changes): (&String, &Value)) -> Result<(u16, Vec<ResponseChange>)> {
    let at = || format!("responseParameters.{status}");
    let number = status.parse().with_context(at)?;
    let mut compiled = Vec::new();
    for (target, value) in changes.as_object().with_context(at)? {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let name = |name: &str| HeaderName::try_from(name).with_context(at);
        compiled.push(match target.split_once([':', '.']) {
            Some(("overwrite", "statuscode")) => ResponseChange::Status(text.parse().with_context(at)?),
            _ => match target.split_once(":header.").or_else(|| target.split_once(".header.")) {
                Some(("append", header)) => ResponseChange::Append(name(header)?, Mapping::compile(&text)?),
                Some(("overwrite", header)) => {
                    ResponseChange::Overwrite(name(header)?, Mapping::compile(&text)?)
                }
                Some(("remove", header)) => ResponseChange::Remove(name(header)?),
                _ => bail!("{}: {target:?} is not a change of a response", at()),
            },
        });
    }
    Ok((number, compiled))
}

fn success_response(sent: &Sent, request_id: &str) -> Response<Bytes> {
    let attributes = sent
        .md5_of_attributes
        .as_ref()
        .map_or_else(String::new, |md5| format!("<MD5OfMessageAttributes>{md5}</MD5OfMessageAttributes>"));
    xml(
        StatusCode::OK,
        format!(
            "<?xml version=\"1.0\"?><SendMessageResponse xmlns=\"{NAMESPACE}\"><SendMessageResult>\
             <MessageId>{}</MessageId><MD5OfMessageBody>{}</MD5OfMessageBody>{attributes}</SendMessageResult>\
             <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></SendMessageResponse>",
            sent.message_id, sent.md5_of_body
        ),
    )
}

fn error_response(error: &SendError, request_id: &str) -> Response<Bytes> {
    let text = error.message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    xml(
        StatusCode::BAD_REQUEST,
        format!(
            "<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type>\
             <Code>{}</Code><Message>{text}</Message><Detail/></Error><RequestId>{request_id}</RequestId>\
             </ErrorResponse>",
            error.code
        ),
    )
}

fn xml(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}
