//! Cache behaviors, origins and custom error responses of a distribution.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use serde_json::Value;

use crate::{
    edge::{
        firewall::Firewall,
        freshness::ERROR_TTL,
        function::Function,
        policy::{CachePolicy, Lookup, Parameters, is_true, origin_request_policy},
        response_headers::ResponseHeaders,
    },
    http_api::{definition::strings, number},
    template::Resource,
};

/// One of `CacheBehaviors`, or `DefaultCacheBehavior`.
#[derive(Debug)]
pub struct Behavior {
    pattern: String,
    /// `AllowedMethods`; other methods get 403.
    pub allowed: Vec<Method>,
    /// `CachedMethods`; other methods always go to the origin.
    pub cached: Vec<Method>,
    /// `TargetOriginId`.
    pub origin: String,
    /// `CachePolicyId`: the cache key and the TTLs.
    pub cache: CachePolicy,
    /// `OriginRequestPolicyId`: the values forwarded to the origin in addition to the cache key.
    pub forward: Parameters,
    /// `ResponseHeadersPolicyId`: headers of viewer responses.
    pub response_headers: Option<ResponseHeaders>,
    /// `FunctionAssociations`: runs on each viewer request before the cache lookup.
    pub function: Option<Function>,
    /// `Compress`.
    pub compress: bool,
}

impl Behavior {
    fn read(config: &Value, resources: Lookup<'_>) -> Result<Self> {
        let text = |name: &str| config[name].as_str();
        let methods = |name: &str| -> Result<Vec<Method>> {
            let listed = strings(&config[name]);
            let listed = if listed.is_empty() { vec!["GET".to_owned(), "HEAD".to_owned()] } else { listed };
            listed
                .iter()
                .map(|method| method.parse().with_context(|| format!("{name}: {method:?}")))
                .collect()
        };
        let policy = text("CachePolicyId")
            .context("CachePolicyId is missing: ForwardedValues is not available here")?;
        Ok(Self {
            pattern: text("PathPattern").unwrap_or("*").to_owned(),
            allowed: methods("AllowedMethods")?,
            cached: methods("CachedMethods")?,
            origin: text("TargetOriginId").context("TargetOriginId is missing")?.to_owned(),
            cache: CachePolicy::find(policy, resources)?,
            forward: origin_request_policy(text("OriginRequestPolicyId"), resources)?,
            response_headers: ResponseHeaders::find(text("ResponseHeadersPolicyId"), resources)?,
            function: Function::find(&config["FunctionAssociations"], resources)?,
            compress: is_true(&config["Compress"]),
        })
    }

    /// Returns `PathPattern`, or `*`.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the path pattern matches.
    pub fn matches(&self, path: &str) -> bool {
        glob(self.pattern.strip_prefix('/').unwrap_or(&self.pattern), path.strip_prefix('/').unwrap_or(path))
    }

    /// Whether responses to this method are cacheable.
    pub fn caches(&self, method: &Method) -> bool {
        !self.cache.max_ttl.is_zero() && self.cached.contains(method)
    }

    /// Whether simultaneous requests are collapsed: CloudFront does so unless it forwards cookies.
    pub fn collapses(&self) -> bool {
        self.cache.key.cookies.is_none() && self.forward.cookies.is_none()
    }
}

/// Whether a pattern matches: `*` matches any number of characters, `?` exactly one.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, matched)) => {
                    star = Some((at, matched + 1));
                    p = at + 1;
                    t = matched + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// CloudFront's defaults of `OriginReadTimeout` and `ConnectionAttempts`.
const READ_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const ATTEMPTS_DEFAULT: u32 = 3;

/// One of `Origins`.
#[derive(Debug, Clone)]
pub struct OriginConfig {
    /// `Id`.
    pub id: String,
    /// `DomainName`, sent to the origin as `Host`.
    pub domain_name: String,
    /// `OriginPath`, the prefix of every path.
    pub path: String,
    /// `OriginCustomHeaders`.
    pub headers: Vec<(String, String)>,
    /// `OriginReadTimeout`: how long one attempt waits for a response.
    pub read_timeout: Duration,
    /// `ConnectionAttempts`: how often a read is tried.
    pub attempts: u32,
}

/// One of `CustomErrorResponses`.
#[derive(Debug, Clone)]
pub struct ErrorRule {
    /// `ErrorCode`.
    pub status: u16,
    /// `ResponseCode` and `ResponsePagePath`.
    pub page: Option<(u16, String)>,
    /// `ErrorCachingMinTTL`.
    pub ttl: Duration,
}

/// The configuration of a distribution, read from the template.
#[derive(Debug)]
pub struct Distribution {
    /// In order of precedence; the last one is the default.
    pub behaviors: Vec<Behavior>,
    /// In the template's order.
    pub origins: Vec<OriginConfig>,
    /// In the template's order.
    pub errors: Vec<ErrorRule>,
    /// `DefaultRootObject`: the path served for `/`.
    pub root: Option<String>,
    /// `WebACLId`: the firewall before everything else.
    pub firewall: Option<Firewall>,
}

impl Distribution {
    /// Reads an `AWS::CloudFront::Distribution`.
    ///
    /// # Errors
    /// An invalid behavior or policy, with its name.
    pub fn read(resource: &Resource, resources: Lookup<'_>) -> Result<Self> {
        let config = &resource.properties["DistributionConfig"];
        let mut behaviors = Vec::new();
        let listed = config["CacheBehaviors"].as_array().into_iter().flatten();
        for (index, behavior) in listed.enumerate() {
            ensure!(
                behavior["PathPattern"].is_string(),
                "{}.CacheBehaviors.{index}: PathPattern is missing",
                resource.id
            );
            let behavior = Behavior::read(behavior, resources);
            behaviors.push(behavior.with_context(|| format!("{}.CacheBehaviors.{index}", resource.id))?);
        }
        let default = Behavior::read(&config["DefaultCacheBehavior"], resources);
        behaviors.push(default.with_context(|| format!("{}.DefaultCacheBehavior", resource.id))?);
        let origins: Vec<OriginConfig> =
            config["Origins"].as_array().into_iter().flatten().map(read_origin).collect();
        for behavior in &behaviors {
            ensure!(
                origins.iter().any(|origin| origin.id == behavior.origin),
                "{}: TargetOriginId {:?} is not one of the Origins",
                resource.id,
                behavior.origin
            );
        }
        let errors =
            config["CustomErrorResponses"].as_array().into_iter().flatten().filter_map(read_error).collect();
        let root = config["DefaultRootObject"].as_str().map(|root| format!("/{root}"));
        let firewall = config["WebACLId"].as_str().map(|id| Firewall::find(id, resources)).transpose()?;
        Ok(Self { behaviors, origins, errors, root, firewall })
    }

    /// Returns the first behavior whose path pattern matches, and its index.
    pub fn behavior(&self, path: &str) -> Option<(usize, &Behavior)> {
        self.behaviors.iter().enumerate().find(|(_, behavior)| behavior.matches(path))
    }

    /// Returns the minimum TTL of an error response.
    pub fn error_ttl(&self, status: u16) -> Duration {
        self.errors.iter().find(|rule| rule.status == status).map_or(ERROR_TTL, |rule| rule.ttl)
    }
}

fn read_origin(config: &Value) -> OriginConfig {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers = config["OriginCustomHeaders"].as_array().into_iter().flatten();
    OriginConfig {
        id: text(&config["Id"]),
        domain_name: text(&config["DomainName"]),
        path: text(&config["OriginPath"]),
        headers: headers.map(|header| (text(&header["HeaderName"]), text(&header["HeaderValue"]))).collect(),
        read_timeout: ["CustomOriginConfig", "S3OriginConfig"]
            .iter()
            .find_map(|kind| number(&config[*kind]["OriginReadTimeout"]))
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(READ_TIMEOUT_DEFAULT),
        attempts: number(&config["ConnectionAttempts"]).map_or(ATTEMPTS_DEFAULT, |attempts| attempts as u32),
    }
}

fn read_error(config: &Value) -> Option<ErrorRule> {
    let status = number(&config["ErrorCode"])? as u16;
    let page = config["ResponsePagePath"]
        .as_str()
        .map(|path| (number(&config["ResponseCode"]).map_or(status, |code| code as u16), path.to_owned()));
    let ttl = number(&config["ErrorCachingMinTTL"]).and_then(|s| Duration::try_from_secs_f64(s).ok());
    Some(ErrorRule { status, page, ttl: ttl.unwrap_or(ERROR_TTL) })
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_match_as_cloudfront_does() {
        for (pattern, path, expected) in [
            ("polls", "polls", true),
            ("polls", "polls/1", false),
            ("polls/*", "polls/1/ranking", true),
            ("polls/*/votes/mine", "polls/17/votes/mine", true),
            ("polls/*/votes/mine", "polls/17/ranking", false),
            ("*.jpg", "a/b.jpg", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xxaxxabxb", true),
            ("Polls", "polls", false),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern, path), expected, "{pattern} {path}");
        }
    }
}
