//! Cache behaviours: which rules a path falls under.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::http::Method;
use serde_json::Value;

use crate::{
    edge::{
        freshness::ERROR_TTL,
        function::Function,
        policy::{CachePolicy, Lookup, Parameters, is_true, origin_request_policy},
        response_headers::ResponseHeaders,
    },
    http_api::{definition::strings, number},
    template::Resource,
};

/// One of `CacheBehaviors`, or the default.
#[derive(Debug)]
pub struct Behavior {
    pattern: String,
    /// Others get 403.
    pub allowed: Vec<Method>,
    /// Others always go to the origin.
    pub cached: Vec<Method>,
    /// `TargetOriginId`.
    pub origin: String,
    /// Key and lifetimes.
    pub cache: CachePolicy,
    /// What the origin gets beyond the key.
    pub forward: Parameters,
    /// Headers for viewers.
    pub response_headers: Option<ResponseHeaders>,
    /// Run on each request before the cache is looked into.
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

    /// `PathPattern`, or `*`.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the path is this behaviour's.
    pub fn matches(&self, path: &str) -> bool {
        glob(self.pattern.strip_prefix('/').unwrap_or(&self.pattern), path.strip_prefix('/').unwrap_or(path))
    }

    /// Whether the edge may keep answers to this method.
    pub fn caches(&self, method: &Method) -> bool {
        !self.cache.max_ttl.is_zero() && self.cached.contains(method)
    }

    /// CloudFront does not collapse simultaneous requests once it forwards cookies.
    pub fn collapses(&self) -> bool {
        self.cache.key.cookies.is_none() && self.forward.cookies.is_none()
    }
}

/// `*` stands for any number of characters, `?` for one.
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

/// One of `Origins`.
#[derive(Debug, Clone)]
pub struct OriginConfig {
    /// `Id`.
    pub id: String,
    /// `DomainName`, which the origin sees as `Host`.
    pub domain_name: String,
    /// `OriginPath`, put before every path.
    pub path: String,
    /// `OriginCustomHeaders`.
    pub headers: Vec<(String, String)>,
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

/// What the template says about a distribution.
#[derive(Debug)]
pub struct Distribution {
    /// In order; the last one is the default.
    pub behaviors: Vec<Behavior>,
    /// By position.
    pub origins: Vec<OriginConfig>,
    /// By position.
    pub errors: Vec<ErrorRule>,
    /// `DefaultRootObject`: what `/` stands for.
    pub root: Option<String>,
}

impl Distribution {
    /// Reads an `AWS::CloudFront::Distribution`.
    ///
    /// # Errors
    /// Names the behaviour or policy that does not fit.
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
                "{}: TargetOriginId {:?} is none of the Origins",
                resource.id,
                behavior.origin
            );
        }
        let errors =
            config["CustomErrorResponses"].as_array().into_iter().flatten().filter_map(read_error).collect();
        let root = config["DefaultRootObject"].as_str().map(|root| format!("/{root}"));
        Ok(Self { behaviors, origins, errors, root })
    }

    /// The first behaviour whose pattern matches.
    pub fn behavior(&self, path: &str) -> Option<(usize, &Behavior)> {
        self.behaviors.iter().enumerate().find(|(_, behavior)| behavior.matches(path))
    }

    /// Time an error answer is kept at least.
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
