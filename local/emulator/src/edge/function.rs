//! CloudFront Functions: the template's JavaScript, run on viewer requests by a JavaScript engine.
use std::{cell::RefCell, collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, request::Parts};
use rquickjs::{Context, Runtime};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::edge::policy::Lookup;

/// CloudFront's memory limit: 2 MB.
const MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024;

thread_local! {
    /// This thread's engine of each function, by its code: an engine takes longer to start than a function runs.
    static ENGINES: RefCell<BTreeMap<Arc<str>, Context>> = const { RefCell::new(BTreeMap::new()) };
}

/// A viewer-request function.
#[derive(Debug, Clone)]
pub struct Function {
    code: Arc<str>,
}

/// The result of a function.
#[derive(Debug)]
pub enum Outcome {
    /// The request continues to this path and query.
    Forward(Uri),
    /// The function itself returned the response.
    Answer(Box<Response<String>>),
}

#[derive(Deserialize)]
struct Returned {
    uri: Option<String>,
    #[serde(rename = "statusCode")]
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, HeaderField>,
    #[serde(default)]
    body: String,
}

#[derive(Deserialize)]
struct HeaderField {
    value: String,
}

impl Function {
    /// Finds the viewer-request function of `FunctionAssociations`.
    ///
    /// # Errors
    /// A function that is not in the template, or one of another event type.
    pub fn find(associations: &Value, resources: Lookup<'_>) -> Result<Option<Self>> {
        let Some(association) = associations.as_array().and_then(|all| all.first()) else { return Ok(None) };
        ensure!(
            association["EventType"] == "viewer-request",
            "FunctionAssociations: only viewer-request runs on one machine"
        );
        let arn = association["FunctionARN"].as_str().unwrap_or_default();
        let id = arn.strip_suffix(".FunctionARN").unwrap_or(arn);
        let function = resources(id)
            .filter(|resource| resource.kind == "AWS::CloudFront::Function")
            .with_context(|| format!("FunctionARN {arn:?} is not a function of the template"))?;
        let code = function.properties["FunctionCode"].as_str().context("FunctionCode is missing")?;
        Ok(Some(Self { code: code.into() }))
    }

    /// Runs the function on a request. Of CloudFront's event, headers and cookies are empty.
    ///
    /// # Errors
    /// The function threw, or returned neither a request nor a response.
    pub fn run(&self, viewer: &Parts) -> Result<Outcome> {
        let query: serde_json::Map<String, Value> =
            form_urlencoded::parse(viewer.uri.query().unwrap_or("").as_bytes())
                .map(|(name, value)| (name.into_owned(), json!({ "value": value })))
                .collect();
        let event = json!({"version": "1.0", "request": {
            "method": viewer.method.as_str(),
            "uri": viewer.uri.path(),
            "querystring": query,
            "headers": {},
            "cookies": {},
        }});
        let returned: Returned = serde_json::from_str(&self.call(&event)?).context("returned no request")?;
        if let Some(status) = returned.status {
            return Ok(Outcome::Answer(Box::new(answer(status, &returned.headers, returned.body)?)));
        }
        let path = returned.uri.context("returned neither a request nor a response")?;
        let query = viewer.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Outcome::Forward(format!("{path}{query}").parse()?))
    }

    fn call(&self, event: &Value) -> Result<String> {
        let engine = ENGINES.with_borrow(|engines| engines.get(&self.code).cloned());
        let engine = engine.map_or_else(|| self.load(), Ok)?;
        let text = evaluate(&engine, format!("JSON.stringify(handler({event}))"));
        ENGINES.with_borrow_mut(|engines| match &text {
            Ok(_) => engines.insert(Arc::clone(&self.code), engine),
            // It may be out of memory.
            Err(_) => engines.remove(&self.code),
        });
        text
    }

    fn load(&self) -> Result<Context> {
        let runtime = Runtime::new()?;
        runtime.set_memory_limit(MEMORY_BYTES_MAX);
        let engine = Context::full(&runtime)?;
        evaluate(&engine, format!("{};''", self.code))?;
        Ok(engine)
    }
}

fn evaluate(engine: &Context, script: String) -> Result<String> {
    engine.with(|context| match context.eval::<String, _>(script) {
        Ok(text) => Ok(text),
        Err(_) => bail!("the function failed: {:?}", context.catch()),
    })
}

fn answer(status: u16, fields: &BTreeMap<String, HeaderField>, body: String) -> Result<Response<String>> {
    let mut headers = HeaderMap::new();
    for (name, field) in fields {
        let name: HeaderName = name.parse().map_err(|_| anyhow!("{name:?} is not a header name"))?;
        headers.insert(name, HeaderValue::from_str(&field.value)?);
    }
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status)?;
    *response.headers_mut() = headers;
    Ok(response)
}

#[cfg(test)]
mod tests;
