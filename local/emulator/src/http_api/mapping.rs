//! Parameter mapping of first-class integrations: sources (`$request.body.x`, `$context.requestId`), static text,
//! and sources inside text (`${context.authorizer.claims.sub}`). Mappings are compiled once, from the template.
//!
//! To add a context variable: 1. add a variant to `Variable`; 2. parse its name in `Source::parse_context`; 3. return
//! its value in `Variable::evaluate`.
use std::{borrow::Cow, net::IpAddr};

use anyhow::{Result, bail};
use axum::http::HeaderMap;
use serde_json::Value;

use crate::http_api::authorizer::Claims;

/// The values of a request that a mapping can use.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The body; the gateway itself does not require UTF-8.
    pub body: &'a str,
    /// The client's headers.
    pub headers: &'a HeaderMap,
    /// Percent-decoded.
    pub path_parameters: &'a [(String, String)],
    /// Percent-decoded, in order; names may repeat.
    pub query: &'a [(String, String)],
    /// The values of `$context`.
    pub context: &'a RequestContext<'a>,
}

/// `$context` of one request.
#[derive(Debug)]
pub struct RequestContext<'a> {
    /// The request id, also sent as the `apigw-requestid` header.
    pub request_id: &'a str,
    /// The key of the route: `POST /items`.
    pub route_key: &'a str,
    /// The request's method, not the route's.
    pub method: &'a str,
    /// The path, percent-encoded, without the query.
    pub path: &'a str,
    /// `HTTP/1.1`.
    pub protocol: &'a str,
    /// The request's `Host`.
    pub domain_name: &'a str,
    /// The first label of the domain name, which is the API's id.
    pub domain_prefix: &'a str,
    /// The viewer's address.
    pub source_ip: IpAddr,
    /// The `User-Agent`; empty if the client sent none.
    pub user_agent: &'a str,
    /// The claims of the verified token.
    pub claims: Option<&'a Claims>,
    /// The time of the request, in milliseconds since 1970.
    pub time_ms: i128,
}

/// The error of a mapping whose value is missing in the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Body,
    BodyField(Vec<String>),
    Header(String),
    Path(String),
    Query(String),
    Claim(String),
    Context(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    ApiId,
    AccountId,
    DomainName,
    HttpMethod,
    Path,
    Protocol,
    RequestId,
    RequestTimeEpoch,
    RouteKey,
    SourceIp,
    Stage,
    UserAgent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Source),
}

/// One compiled `requestParameters` value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pieces: Vec<Piece>,
}

impl Mapping {
    /// Compiles a value of `requestParameters` or `responseParameters`.
    ///
    /// # Errors
    /// An unknown source.
    pub fn compile(text: &str) -> Result<Self> {
        if text.starts_with("$request.") || text.starts_with("$context.") {
            return Ok(Self { pieces: vec![Piece::Value(Source::parse(&text[1..])?)] });
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else { bail!("{text:?}: a ${{ without its }}") };
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            pieces.push(Piece::Value(Source::parse(&rest[start + 2..start + length])?));
            rest = &rest[start + length + 1..];
        }
        if !rest.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Evaluates the mapping for one request.
    ///
    /// # Errors
    /// [`Missing`] if the request lacks a mapped value; API Gateway then fails the request.
    pub fn evaluate<'a>(&'a self, inputs: &Inputs<'a>) -> Result<Cow<'a, str>, Missing> {
        if let [only] = self.pieces.as_slice() {
            return only.evaluate(inputs);
        }
        let mut text = String::new();
        for piece in &self.pieces {
            text.push_str(&piece.evaluate(inputs)?);
        }
        Ok(Cow::Owned(text))
    }
}

impl Piece {
    fn evaluate<'a>(&'a self, inputs: &Inputs<'a>) -> Result<Cow<'a, str>, Missing> {
        match self {
            Self::Text(text) => Ok(Cow::Borrowed(text)),
            Self::Value(source) => source.evaluate(inputs).ok_or(Missing),
        }
    }
}

impl Source {
    fn parse(text: &str) -> Result<Self> {
        let (kind, name) = match text.strip_prefix("request.") {
            Some("body") => return Ok(Self::Body),
            Some(rest) => rest.split_once('.').unwrap_or((rest, "")),
            None => match text.strip_prefix("context.") {
                Some(variable) => return Self::parse_context(variable),
                None => bail!("${{{text}}}: a source starts with request. or context."),
            },
        };
        Ok(match (kind, name) {
            (_, "") => bail!("${{{text}}}: the name is missing"),
            ("body", path) => Self::BodyField(path.split('.').map(str::to_owned).collect()),
            ("header", name) => Self::Header(name.to_ascii_lowercase()),
            ("path", name) => Self::Path(name.to_owned()),
            ("querystring", name) => Self::Query(name.to_owned()),
            _ => bail!("${{{text}}}: sources of a request are body, header, path and querystring"),
        })
    }

    fn parse_context(variable: &str) -> Result<Self> {
        if let Some(claim) = variable.strip_prefix("authorizer.claims.") {
            return Ok(Self::Claim(claim.to_owned()));
        }
        Ok(Self::Context(match variable {
            "apiId" | "domainPrefix" => Variable::ApiId,
            "accountId" => Variable::AccountId,
            "domainName" => Variable::DomainName,
            "httpMethod" => Variable::HttpMethod,
            "path" => Variable::Path,
            "protocol" => Variable::Protocol,
            "requestId" | "extendedRequestId" => Variable::RequestId,
            "requestTimeEpoch" => Variable::RequestTimeEpoch,
            "routeKey" => Variable::RouteKey,
            "identity.sourceIp" => Variable::SourceIp,
            "stage" => Variable::Stage,
            "identity.userAgent" => Variable::UserAgent,
            _ => bail!("${{context.{variable}}}: this context variable does not resolve in a mapping"),
        }))
    }

    fn evaluate<'a>(&'a self, inputs: &Inputs<'a>) -> Option<Cow<'a, str>> {
        match self {
            Self::Body => Some(Cow::Borrowed(inputs.body)),
            Self::BodyField(path) => body_field(inputs.body, path).map(Cow::Owned),
            Self::Header(name) => joined_header(inputs.headers, name),
            Self::Path(name) => value_of(inputs.path_parameters, name).map(Cow::Borrowed),
            Self::Query(name) => value_of(inputs.query, name).map(Cow::Borrowed),
            Self::Claim(name) => inputs.context.claims?.get(name).map(Cow::Borrowed),
            Self::Context(variable) => Some(variable.evaluate(inputs.context)),
        }
    }
}

impl Variable {
    fn evaluate<'a>(self, context: &RequestContext<'a>) -> Cow<'a, str> {
        Cow::Borrowed(match self {
            Self::ApiId => context.domain_prefix,
            Self::AccountId => super::ACCOUNT_ID,
            Self::DomainName => context.domain_name,
            Self::HttpMethod => context.method,
            Self::Path => context.path,
            Self::Protocol => context.protocol,
            Self::RequestId => context.request_id,
            Self::RequestTimeEpoch => return Cow::Owned(context.time_ms.to_string()),
            Self::RouteKey => context.route_key,
            Self::SourceIp => return Cow::Owned(context.source_ip.to_string()),
            Self::Stage => super::STAGE,
            Self::UserAgent => context.user_agent,
        })
    }
}

fn value_of<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

fn body_field(body: &str, path: &[String]) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let found = path.iter().try_fold(&body, |value, name| value.get(name))?;
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Joins all values of a header with commas, as API Gateway does; `None` if the header is absent or not text.
pub fn joined_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let first = Cow::Borrowed(values.next()?.to_str().ok()?);
    Some(values.fold(first, |all, value| Cow::Owned(format!("{all},{}", value.to_str().unwrap_or_default()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(mapping: &str) -> Result<String, Missing> {
        let mut headers = HeaderMap::new();
        headers.append("x-show", "a".parse().unwrap());
        headers.append("x-show", "b".parse().unwrap());
        let claims = Claims::from_json(r#"{"sub":"alice","exp":12}"#).unwrap();
        let context = RequestContext {
            request_id: "R1",
            route_key: "POST /votes",
            method: "POST",
            path: "/votes",
            protocol: "HTTP/1.1",
            domain_name: "api.example.com",
            domain_prefix: "api",
            source_ip: IpAddr::from([127, 0, 0, 1]),
            user_agent: "curl",
            claims: Some(&claims),
            time_ms: 1_000,
        };
        let pairs = [("id".to_owned(), "7".to_owned())];
        let inputs = Inputs {
            body: r#"{"poll":1,"by":{"name":"x"},"none":null}"#,
            headers: &headers,
            path_parameters: &pairs,
            query: &pairs,
            context: &context,
        };
        Mapping::compile(mapping).unwrap().evaluate(&inputs).map(Cow::into_owned)
    }

    #[test]
    fn every_source_resolves() {
        for (mapping, value) in [
            ("$request.body", r#"{"poll":1,"by":{"name":"x"},"none":null}"#),
            ("$request.body.poll", "1"),
            ("$request.body.by.name", "x"),
            ("$request.header.X-Show", "a,b"),
            ("$request.path.id", "7"),
            ("$request.querystring.id", "7"),
            ("$context.requestId", "R1"),
            ("$context.identity.sourceIp", "127.0.0.1"),
            ("$context.authorizer.claims.sub", "alice"),
            ("$context.authorizer.claims.exp", "12"),
            ("$context.stage", "$default"),
            ("static", "static"),
            ("", ""),
            (
                r#"{"v":"${context.authorizer.claims.sub}","r":"${request.path.id}"}"#,
                r#"{"v":"alice","r":"7"}"#,
            ),
        ] {
            assert_eq!(evaluate(mapping).as_deref(), Ok(value), "{mapping}");
        }
    }

    #[test]
    fn a_missing_value_fails_the_request() {
        for mapping in [
            "$request.body.contestant",
            "$request.body.none",
            "$request.header.y",
            "$request.path.poll",
            "$request.querystring.q",
            "x ${context.authorizer.claims.email}",
        ] {
            assert_eq!(evaluate(mapping), Err(Missing), "{mapping}");
        }
    }

    #[test]
    fn an_unknown_source_is_refused_when_the_template_is_read() {
        for mapping in ["$request.cookie.a", "$context.authorizer", "${request.header}", "${oops", "${stage}"]
        {
            assert!(Mapping::compile(mapping).is_err(), "{mapping}");
        }
    }
}
