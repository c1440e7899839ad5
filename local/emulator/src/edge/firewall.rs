//! Emulates AWS WAF before the edge: the rate-based rules of the distribution's web ACL. Its other rules are not
//! available on one machine.
//!
//! To add a statement: add a variant to `Condition`, and read it in `Condition::read`.
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header},
};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    edge::policy::Lookup,
    http_api::{Viewer, number},
};

/// WAF's default of `EvaluationWindowSec`.
const WINDOW_SECONDS_DEFAULT: f64 = 300.0;

/// The rate-based rules of a web ACL, in the order of their priorities.
#[derive(Debug)]
pub struct Firewall {
    rules: Vec<RateRule>,
}

#[derive(Debug)]
struct RateRule {
    limit: u64,
    window: Duration,
    key: Key,
    scope: Condition,
    blocked: Blocked,
    counts: Mutex<Counts>,
}

/// The value that requests are counted by.
#[derive(Debug)]
enum Key {
    Address,
    Header(HeaderName, Vec<Transformation>),
}

/// Whether a rule applies to a request.
#[derive(Debug)]
enum Condition {
    Always,
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Matches { field: Field, position: Position, text: String, transformations: Vec<Transformation> },
}

#[derive(Debug)]
enum Field {
    Path,
    Method,
}

#[derive(Debug)]
enum Position {
    Exactly,
    Start,
    End,
    Anywhere,
}

#[derive(Debug, Clone, Copy)]
enum Transformation {
    None,
    Lowercase,
    CompressWhiteSpace,
    UrlDecode,
    NormalizePath,
}

/// The answer to a blocked request.
#[derive(Debug)]
struct Blocked {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

/// Requests by key, in this window and the one before.
#[derive(Debug)]
struct Counts {
    began: Instant,
    current: HashMap<String, u64>,
    previous: HashMap<String, u64>,
}

impl Firewall {
    /// Finds the web ACL of a distribution's `WebACLId`.
    ///
    /// # Errors
    /// A web ACL that is not in the template, or a rate-based rule with a part that is not available here.
    pub fn find(arn: &str, resources: Lookup<'_>) -> Result<Self> {
        let id = arn.rsplit([':', '/']).next().unwrap_or(arn);
        let acl = resources(id)
            .filter(|resource| resource.kind == "AWS::WAFv2::WebACL")
            .with_context(|| format!("WebACLId {arn:?} is not in the template"))?;
        let mut rules: Vec<&Value> = acl.properties["Rules"].as_array().into_iter().flatten().collect();
        rules.sort_by_key(|rule| rule["Priority"].as_u64());
        let rated = rules.into_iter().filter(|rule| rule["Statement"]["RateBasedStatement"].is_object());
        let rules = rated.map(|rule| {
            let bodies = &acl.properties["CustomResponseBodies"];
            RateRule::read(rule, bodies).with_context(|| format!("{id}: rule {}", rule["Name"]))
        });
        Ok(Self { rules: rules.collect::<Result<_>>()? })
    }

    /// Counts a request, and returns the answer of the first rule that blocks it.
    pub fn block<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        self.rules.iter().find_map(|rule| rule.block(request))
    }
}

impl RateRule {
    fn read(rule: &Value, bodies: &Value) -> Result<Self> {
        let statement = &rule["Statement"]["RateBasedStatement"];
        let window = number(&statement["EvaluationWindowSec"]).unwrap_or(WINDOW_SECONDS_DEFAULT);
        let scope = &statement["ScopeDownStatement"];
        Ok(Self {
            limit: number(&statement["Limit"]).context("Limit is missing")? as u64,
            window: Duration::try_from_secs_f64(window)?,
            key: Key::read(statement)?,
            scope: if scope.is_null() { Condition::Always } else { Condition::read(scope)? },
            blocked: Blocked::read(&rule["Action"]["Block"]["CustomResponse"], bodies)?,
            counts: Mutex::new(Counts::new()),
        })
    }

    fn block<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        if !self.scope.holds(request) {
            return None;
        }
        // A request without the key is not counted.
        let key = self.key.of(request)?;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        (counts.add(key, self.window) > self.limit).then(|| self.blocked.response())
    }
}

impl Key {
    fn read(statement: &Value) -> Result<Self> {
        let custom = statement["CustomKeys"].as_array().map(Vec::as_slice).unwrap_or_default();
        match (statement["AggregateKeyType"].as_str(), custom) {
            (Some("IP"), []) => Ok(Self::Address),
            (Some("CUSTOM_KEYS"), [one]) if one["Header"].is_object() => {
                let name = one["Header"]["Name"].as_str().context("Header: Name is missing")?;
                let transformations = read_transformations(&one["Header"])?;
                Ok(Self::Header(name.to_ascii_lowercase().parse()?, transformations))
            }
            _ => bail!("only the address or one header is counted by on one machine"),
        }
    }

    fn of<B>(&self, request: &Request<B>) -> Option<String> {
        match self {
            Self::Address => request.extensions().get::<Viewer>().map(|Viewer(address)| address.to_string()),
            Self::Header(name, transformations) => {
                let value = request.headers().get(name)?.to_str().ok()?;
                Some(transformed(value, transformations))
            }
        }
    }
}

impl Condition {
    fn read(statement: &Value) -> Result<Self> {
        let all_of = |kind: &str| -> Result<Vec<Self>> {
            statement[kind]["Statements"].as_array().into_iter().flatten().map(Self::read).collect()
        };
        if statement["AndStatement"].is_object() {
            return Ok(Self::All(all_of("AndStatement")?));
        }
        if statement["OrStatement"].is_object() {
            return Ok(Self::Any(all_of("OrStatement")?));
        }
        if statement["NotStatement"].is_object() {
            return Ok(Self::Not(Box::new(Self::read(&statement["NotStatement"]["Statement"])?)));
        }
        let matched = &statement["ByteMatchStatement"];
        let field = match &matched["FieldToMatch"] {
            field if field["UriPath"].is_object() => Field::Path,
            field if field["Method"].is_object() => Field::Method,
            _ => bail!("a rate is limited by path and method only on one machine"),
        };
        let position = match matched["PositionalConstraint"].as_str() {
            Some("EXACTLY") => Position::Exactly,
            Some("STARTS_WITH") => Position::Start,
            Some("ENDS_WITH") => Position::End,
            Some("CONTAINS") => Position::Anywhere,
            other => bail!("PositionalConstraint {other:?} is not available"),
        };
        let text = matched["SearchString"].as_str().context("SearchString is missing")?.to_owned();
        Ok(Self::Matches { field, position, text, transformations: read_transformations(matched)? })
    }

    fn holds<B>(&self, request: &Request<B>) -> bool {
        match self {
            Self::Always => true,
            Self::All(parts) => parts.iter().all(|part| part.holds(request)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(request)),
            Self::Not(part) => !part.holds(request),
            Self::Matches { field, position, text, transformations } => {
                let value = match field {
                    Field::Path => request.uri().path(),
                    Field::Method => request.method().as_str(),
                };
                let value = transformed(value, transformations);
                match position {
                    Position::Exactly => value == *text,
                    Position::Start => value.starts_with(text),
                    Position::End => value.ends_with(text),
                    Position::Anywhere => value.contains(text),
                }
            }
        }
    }
}

fn read_transformations(parent: &Value) -> Result<Vec<Transformation>> {
    let mut listed: Vec<&Value> = parent["TextTransformations"].as_array().into_iter().flatten().collect();
    listed.sort_by_key(|one| one["Priority"].as_u64());
    let read = |one: &Value| {
        Ok(match one["Type"].as_str() {
            Some("NONE") => Transformation::None,
            Some("LOWERCASE") => Transformation::Lowercase,
            Some("COMPRESS_WHITE_SPACE") => Transformation::CompressWhiteSpace,
            Some("URL_DECODE") => Transformation::UrlDecode,
            Some("NORMALIZE_PATH") => Transformation::NormalizePath,
            other => bail!("TextTransformation {other:?} is not available"),
        })
    };
    listed.into_iter().map(read).collect()
}

fn transformed(text: &str, transformations: &[Transformation]) -> String {
    transformations.iter().fold(text.to_owned(), |text, one| match one {
        Transformation::None => text,
        Transformation::Lowercase => text.to_lowercase(),
        Transformation::CompressWhiteSpace => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Transformation::UrlDecode => {
            percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
        }
        Transformation::NormalizePath => normalized(&text),
    })
}

/// Removes empty segments, `.` and `..` from a path.
fn normalized(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    let end = if path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

impl Blocked {
    fn read(custom: &Value, bodies: &Value) -> Result<Self> {
        let status =
            number(&custom["ResponseCode"]).map_or(StatusCode::FORBIDDEN.as_u16(), |code| code as u16);
        let mut headers = HeaderMap::new();
        for given in custom["ResponseHeaders"].as_array().into_iter().flatten() {
            let name: HeaderName = given["Name"].as_str().context("ResponseHeaders: Name")?.parse()?;
            headers.insert(name, given["Value"].as_str().context("ResponseHeaders: Value")?.parse()?);
        }
        let body = custom["CustomResponseBodyKey"].as_str().map(|key| &bodies[key]);
        if let Some(body) = body {
            let kind = match body["ContentType"].as_str() {
                Some("APPLICATION_JSON") => "application/json",
                Some("TEXT_HTML") => "text/html",
                _ => "text/plain",
            };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        let body = body.and_then(|body| body["Content"].as_str()).unwrap_or_default().to_owned();
        Ok(Self { status: StatusCode::from_u16(status)?, headers, body })
    }

    fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body.clone()));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers.clone();
        response
    }
}

impl Counts {
    fn new() -> Self {
        Self { began: Instant::now(), current: HashMap::new(), previous: HashMap::new() }
    }

    /// Adds a request, and returns the estimated number of requests with this key in the last `window`: those of the
    /// current window, and the part of the previous one that has not passed yet. A blocked request counts as well.
    fn add(&mut self, key: String, window: Duration) -> u64 {
        let now = Instant::now();
        let passed = now - self.began;
        if passed >= window {
            let current = std::mem::take(&mut self.current);
            self.previous = if passed < window * 2 { current } else { HashMap::new() };
            let whole = passed.as_nanos() / window.as_nanos().max(1);
            self.began += window * u32::try_from(whole).unwrap_or(u32::MAX);
        }
        let left = 1.0 - (now - self.began).as_secs_f64() / window.as_secs_f64();
        let before = self.previous.get(&key).copied().unwrap_or_default() as f64 * left;
        let count = self.current.entry(key).or_default();
        *count += 1;
        *count + before as u64
    }
}

#[cfg(test)]
mod tests;
