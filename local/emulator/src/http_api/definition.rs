//! The definition of the HTTP API, read from the template and merged as SAM does: routes of the inline OpenAPI body
//! and of functions' `HttpApi` events, authorizers, throttles.
use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use axum::http::Method;
use serde_json::{Map, Value};

use crate::{http_api::number, template::Resource};

/// The key of a route: `POST /items`, `ANY /items/{id}` or `$default`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteKey {
    /// `None`: `ANY`.
    pub method: Option<Method>,
    /// With `{name}` and `{name+}`; `$default` for the catch-all route.
    pub path: String,
}

impl RouteKey {
    fn new(method: &str, path: &str) -> Result<Self> {
        let path = path.strip_prefix("/$default").map_or(path, |_| "$default");
        let method = match method.to_ascii_uppercase().as_str() {
            "ANY" | "X-AMAZON-APIGATEWAY-ANY-METHOD" => None,
            name => {
                Some(name.parse().with_context(|| format!("route {path}: {name:?} is not an HTTP method"))?)
            }
        };
        Ok(Self { method, path: path.to_owned() })
    }
}

impl std::fmt::Display for RouteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.method, self.path.as_str()) {
            (_, "$default") => f.write_str("$default"),
            (None, path) => write!(f, "ANY {path}"),
            (Some(method), path) => write!(f, "{method} {path}"),
        }
    }
}

/// A route's requirements on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Name of the authorizer.
    pub authorizer: String,
    /// One of these scopes is required; empty: any valid token is accepted.
    pub scopes: Vec<String>,
}

/// The integration of a route.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// Lambda proxy integration, payload format 2.0, of the function with this logical id.
    Lambda(String),
    /// The first-class SQS-SendMessage integration.
    SendMessage {
        /// `requestParameters`.
        request: Map<String, Value>,
        /// `responseParameters`, by status code.
        response: Map<String, Value>,
    },
}

/// A throttle: a sustained rate and a burst.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throttle {
    /// `ThrottlingRateLimit`.
    pub requests_per_second: f64,
    /// `ThrottlingBurstLimit`.
    pub burst: u32,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The method and path to match.
    pub key: RouteKey,
    /// `None`: public.
    pub authorization: Option<Authorization>,
    /// `None`: only the account's quota applies, which is not emulated.
    pub throttle: Option<Throttle>,
    /// The integration.
    pub target: Target,
}

/// `JwtConfiguration` of an authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfiguration {
    /// The required `iss`.
    pub issuer: String,
    /// One of these must be among `aud`, or, without `aud`, equal `client_id`.
    pub audience: Vec<String>,
}

/// The complete API.
#[derive(Debug, Clone)]
pub struct Definition {
    /// In no particular order.
    pub routes: Vec<Route>,
    /// By name.
    pub authorizers: BTreeMap<String, JwtConfiguration>,
    /// `CorsConfiguration`; `Null` without one.
    pub cors: Value,
}

/// Reads the API and the functions' `HttpApi` events that belong to it.
///
/// # Errors
/// An invalid route or setting, with its name.
pub fn read<'a>(api: &Resource, functions: impl IntoIterator<Item = &'a Resource>) -> Result<Definition> {
    let auth = &api.properties["Auth"];
    let body = &api.properties["DefinitionBody"];
    let functions: Vec<&Resource> = functions.into_iter().collect();
    let mut routes = body_routes(body, &functions)?;
    for function in functions {
        routes.extend(event_routes(function, &api.id, auth)?);
    }
    for route in &mut routes {
        apply_default_authorizer(route, auth);
    }
    let mut routes: Vec<Route> = routes.into_iter().map(|(route, _)| route).collect();
    apply_throttles(&mut routes, &api.properties)?;
    let authorizers = read_authorizers(auth, body)?;
    for route in &routes {
        if let Some(needed) = &route.authorization {
            ensure!(
                authorizers.contains_key(&needed.authorizer),
                "{}: route {} names the authorizer {:?}, which is not defined under Auth.Authorizers",
                api.id,
                route.key,
                needed.authorizer
            );
        }
    }
    ensure!(!routes.is_empty(), "{}: the API has no routes", api.id);
    Ok(Definition { routes, authorizers, cors: api.properties["CorsConfiguration"].clone() })
}

/// Whether a route configures its own security; otherwise the default authorizer applies.
type Explicit = bool;

fn body_routes(body: &Value, functions: &[&Resource]) -> Result<Vec<(Route, Explicit)>> {
    let mut routes = Vec::new();
    for (path, item) in body["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let integration = &operation["x-amazon-apigateway-integration"];
            if !integration.is_object() {
                continue;
            }
            let key = RouteKey::new(method, path)?;
            let target = body_target(integration, functions).with_context(|| format!("route {key}"))?;
            // SAM applies the default authorizer to an empty list, too.
            let security = operation["security"].as_array().filter(|list| !list.is_empty());
            let authorization = security.and_then(|list| security_authorization(list));
            routes.push((Route { key, authorization, throttle: None, target }, security.is_some()));
        }
    }
    Ok(routes)
}

fn security_authorization(list: &[Value]) -> Option<Authorization> {
    let (name, scopes) =
        list.iter().filter_map(Value::as_object).flatten().find(|(name, _)| *name != "NONE")?;
    Some(Authorization { authorizer: name.clone(), scopes: strings(scopes) })
}

fn body_target(integration: &Value, functions: &[&Resource]) -> Result<Target> {
    let kind = integration["type"].as_str().unwrap_or_default();
    ensure!(
        kind.eq_ignore_ascii_case("aws_proxy"),
        "integration type {kind:?} is not available here: use aws_proxy"
    );
    if let Some(subtype) = integration["integrationSubtype"].as_str() {
        ensure!(subtype == "SQS-SendMessage", "integrationSubtype {subtype:?} is not available here");
        let object = |name: &str| integration[name].as_object().cloned().unwrap_or_default();
        return Ok(Target::SendMessage {
            request: object("requestParameters"),
            response: object("responseParameters"),
        });
    }
    let version = integration["payloadFormatVersion"].as_str().unwrap_or("1.0");
    ensure!(version == "2.0", "payloadFormatVersion {version:?} is not available here: use \"2.0\"");
    let uri = integration["uri"].as_str().unwrap_or_default();
    let name = function_of_uri(uri);
    let function = functions.iter().find(|function| {
        name == Some(function.id.as_str())
            || (name.is_some() && function.properties["FunctionName"].as_str() == name)
    });
    let function = function.with_context(|| format!("uri {uri:?} is not a function of the template"))?;
    Ok(Target::Lambda(function.id.clone()))
}

/// Returns the function's name from `arn:aws:apigateway:…:lambda:path/2015-03-31/functions/<arn>/invocations` or
/// from the function's ARN.
fn function_of_uri(uri: &str) -> Option<&str> {
    let arn = uri.rsplit_once("/functions/").map_or(uri, |(_, arn)| arn);
    let name = arn.strip_suffix("/invocations").unwrap_or(arn).split_once(":function:")?.1;
    name.split(':').next().filter(|name| !name.is_empty())
}

fn event_routes(function: &Resource, api: &str, auth: &Value) -> Result<Vec<(Route, Explicit)>> {
    let mut routes = Vec::new();
    for (name, event) in function.properties["Events"].as_object().into_iter().flatten() {
        let properties = &event["Properties"];
        if event["Type"] != "HttpApi" || properties["ApiId"].as_str().is_some_and(|id| id != api) {
            continue;
        }
        let path = properties["Path"].as_str().unwrap_or("$default");
        let method = properties["Method"].as_str().unwrap_or("ANY");
        let key = RouteKey::new(method, path).with_context(|| format!("{}.Events.{name}", function.id))?;
        let authorizer = properties["Auth"]["Authorizer"].as_str();
        let scopes = strings(&properties["Auth"]["AuthorizationScopes"]);
        let named = authorizer.or_else(|| auth["DefaultAuthorizer"].as_str().filter(|_| !scopes.is_empty()));
        let authorization = named.filter(|name| *name != "NONE").map(|name| Authorization {
            authorizer: name.to_owned(),
            scopes: if scopes.is_empty() { default_scopes(auth, name) } else { scopes },
        });
        let target = Target::Lambda(function.id.clone());
        routes.push((Route { key, authorization, throttle: None, target }, named.is_some()));
    }
    Ok(routes)
}

fn default_scopes(auth: &Value, authorizer: &str) -> Vec<String> {
    strings(&auth["Authorizers"][authorizer]["AuthorizationScopes"])
}

fn apply_default_authorizer((route, explicit): &mut (Route, Explicit), auth: &Value) {
    let Some(name) = auth["DefaultAuthorizer"].as_str() else { return };
    // SAM leaves OPTIONS routes public: a browser's preflight carries no token.
    if !*explicit && name != "NONE" && route.key.method != Some(Method::OPTIONS) {
        route.authorization =
            Some(Authorization { authorizer: name.to_owned(), scopes: default_scopes(auth, name) });
    }
}

fn apply_throttles(routes: &mut [Route], properties: &Value) -> Result<()> {
    let read = |at: &str, settings: &Value| -> Result<Option<Throttle>> {
        let rate = number(&settings["ThrottlingRateLimit"]);
        let burst = number(&settings["ThrottlingBurstLimit"]);
        match (rate, burst) {
            (Some(requests_per_second), Some(burst)) => {
                ensure!(requests_per_second >= 0.0 && burst >= 0.0, "{at}: throttles cannot be negative");
                Ok(Some(Throttle { requests_per_second, burst: burst as u32 }))
            }
            (None, None) if settings.is_null() => Ok(None),
            // API Gateway treats a missing value as a limit of 0 and returns 429 for every request.
            _ => bail!("{at}: set both ThrottlingRateLimit and ThrottlingBurstLimit"),
        }
    };
    let default = read("DefaultRouteSettings", &properties["DefaultRouteSettings"])?;
    for route in &mut *routes {
        route.throttle = default;
    }
    for (key, settings) in properties["RouteSettings"].as_object().into_iter().flatten() {
        let throttle = read(&format!("RouteSettings {key:?}"), settings)?;
        let route = routes.iter_mut().find(|route| route.key.to_string() == *key);
        route
            .with_context(|| format!("RouteSettings has {key:?}, which is not a route of the API"))?
            .throttle = throttle;
    }
    Ok(())
}

fn read_authorizers(auth: &Value, body: &Value) -> Result<BTreeMap<String, JwtConfiguration>> {
    let from_sam = auth["Authorizers"].as_object().into_iter().flatten();
    let from_sam = from_sam.map(|(name, value)| (name, &value["JwtConfiguration"]));
    let schemes = body["components"]["securitySchemes"].as_object().into_iter().flatten();
    let from_body = schemes
        .map(|(name, value)| (name, &value["x-amazon-apigateway-authorizer"]["jwtConfiguration"]))
        .filter(|(_, configuration)| configuration.is_object());
    let mut authorizers = BTreeMap::new();
    for (name, configuration) in from_sam.chain(from_body) {
        let issuer = configuration["issuer"].as_str().unwrap_or_default().to_owned();
        let audience = strings(&configuration["audience"]);
        ensure!(
            !issuer.is_empty() && !audience.is_empty(),
            "authorizer {name}: JwtConfiguration needs an issuer and an audience"
        );
        authorizers.insert(name.clone(), JwtConfiguration { issuer, audience });
    }
    Ok(authorizers)
}

/// Returns the strings of a list, or a single string as a list.
pub fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}
