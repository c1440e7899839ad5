//! Cache policies and origin request policies: managed ones by id, the template's own by reference.
//!
//! To add a managed policy: add its id, with its name as a comment, to [`CachePolicy::find`] or
//! [`origin_request_policy`].
use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, bail};
use axum::http::{HeaderMap, header};
use serde_json::Value;

use crate::{
    http_api::{definition::strings, number},
    template::Resource,
};

/// Finds a resource of the template by the result of its `!Ref`.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<&'a Resource>;

/// A policy's selection of headers, cookies or query strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Names {
    /// Only these; header names are lower-case.
    Only(BTreeSet<String>),
    /// All but these; header names are lower-case.
    AllExcept(BTreeSet<String>),
}

impl Names {
    /// Selects nothing.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }
    /// Selects everything.
    pub fn all() -> Self {
        Self::AllExcept(BTreeSet::new())
    }
    fn only(names: &[&str]) -> Self {
        Self::Only(names.iter().map(|name| (*name).to_owned()).collect())
    }
    /// Whether a name is selected.
    pub fn includes(&self, name: &str) -> bool {
        match self {
            Self::Only(names) => names.contains(name),
            Self::AllExcept(names) => !names.contains(name),
        }
    }
    /// Whether no name is selected.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Only(names) if names.is_empty())
    }
    /// Whether every name is selected.
    pub fn is_all(&self) -> bool {
        matches!(self, Self::AllExcept(names) if names.is_empty())
    }

    fn read(config: &Value, kind: &str, list: &str) -> Result<Self> {
        let names = strings(&config[list]).into_iter();
        let names =
            names.map(|name| if list == "Headers" { name.to_ascii_lowercase() } else { name }).collect();
        Ok(match config[kind].as_str().unwrap_or("none") {
            "none" => Self::none(),
            "whitelist" => Self::Only(names),
            "allExcept" => Self::AllExcept(names),
            "all" | "allViewer" | "allViewerAndWhitelistCloudFront" => Self::all(),
            other => bail!("{kind} {other:?} is unknown"),
        })
    }
}

/// The selection of headers, cookies and query strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Lower-case names.
    pub headers: Names,
    /// By cookie name.
    pub cookies: Names,
    /// By parameter name.
    pub queries: Names,
}

impl Parameters {
    fn none() -> Self {
        Self { headers: Names::none(), cookies: Names::none(), queries: Names::none() }
    }

    fn read(config: &Value) -> Result<Self> {
        Ok(Self {
            headers: Names::read(&config["HeadersConfig"], "HeaderBehavior", "Headers")?,
            cookies: Names::read(&config["CookiesConfig"], "CookieBehavior", "Cookies")?,
            queries: Names::read(&config["QueryStringsConfig"], "QueryStringBehavior", "QueryStrings")?,
        })
    }
}

/// A cache policy: the TTLs and the cache key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePolicy {
    /// `MinTTL`: the lower bound of an object's TTL.
    pub min_ttl: Duration,
    /// `DefaultTTL`: the TTL if the origin sets none.
    pub default_ttl: Duration,
    /// `MaxTTL`: the upper bound; zero disables caching.
    pub max_ttl: Duration,
    /// The cache key, which is also forwarded.
    pub key: Parameters,
    /// `EnableAcceptEncodingGzip`: whether the key includes the acceptance of gzip.
    pub gzip: bool,
    /// `EnableAcceptEncodingBrotli`: whether the key includes the acceptance of Brotli.
    pub brotli: bool,
}

impl CachePolicy {
    /// Finds a policy by managed id or by reference to an `AWS::CloudFront::CachePolicy` of the template.
    ///
    /// # Errors
    /// An unknown policy.
    pub fn find(id: &str, resources: Lookup<'_>) -> Result<Self> {
        const YEAR_S: u64 = 31_536_000;
        const DAY_S: u64 = 86_400;
        let method_override =
            ["host", "origin", "x-http-method", "x-http-method-override", "x-method-override"];
        let origin_controlled = Parameters {
            headers: Names::only(&method_override),
            cookies: Names::all(),
            queries: Names::none(),
        };
        let managed = |ttl_s: [u64; 3], key: Parameters, compressed: bool| {
            let [min_ttl, default_ttl, max_ttl] = ttl_s.map(Duration::from_secs);
            Ok(Self { min_ttl, default_ttl, max_ttl, key, gzip: compressed, brotli: compressed })
        };
        match id {
            // CachingDisabled
            "4135ea2d-6df8-44a3-9df3-4b5a84be39ad" => managed([0, 0, 0], Parameters::none(), false),
            // CachingOptimized
            "658327ea-f89d-4fab-a63d-7e88639e58f6" => managed([1, DAY_S, YEAR_S], Parameters::none(), true),
            // CachingOptimizedForUncompressedObjects
            "b2884449-e4de-46a7-ac36-70bc7f1ddd6d" => managed([1, DAY_S, YEAR_S], Parameters::none(), false),
            // UseOriginCacheControlHeaders
            "83da9c7e-98b4-4e11-a168-04f0df8e2c65" => managed([0, 0, YEAR_S], origin_controlled, true),
            // UseOriginCacheControlHeaders-QueryStrings
            "4cc15a8a-d715-48a4-82b8-cc0b614638fe" => {
                managed([0, 0, YEAR_S], Parameters { queries: Names::all(), ..origin_controlled }, true)
            }
            _ => {
                let resource = resources(id)
                    .filter(|resource| resource.kind == "AWS::CloudFront::CachePolicy")
                    .with_context(|| {
                        format!("CachePolicyId {id:?} is neither managed nor in the template")
                    })?;
                Self::read(&resource.properties["CachePolicyConfig"])
                    .with_context(|| format!("{id}.Properties.CachePolicyConfig"))
            }
        }
    }

    /// Reads a `CachePolicyConfig`.
    ///
    /// # Errors
    /// A value outside its range.
    pub fn read(config: &Value) -> Result<Self> {
        let key = &config["ParametersInCacheKeyAndForwardedToOrigin"];
        let ttl = |name: &str, default_s: f64| {
            let seconds = number(&config[name]).unwrap_or(default_s);
            Duration::try_from_secs_f64(seconds)
                .with_context(|| format!("{name} {seconds} is not a time in seconds"))
        };
        let policy = Self {
            min_ttl: ttl("MinTTL", 0.0)?,
            default_ttl: ttl("DefaultTTL", 86_400.0)?,
            max_ttl: ttl("MaxTTL", 31_536_000.0)?,
            key: Parameters::read(key)?,
            gzip: is_true(&key["EnableAcceptEncodingGzip"]),
            brotli: is_true(&key["EnableAcceptEncodingBrotli"]),
        };
        if policy.min_ttl > policy.default_ttl || policy.default_ttl > policy.max_ttl {
            bail!("MinTTL, DefaultTTL and MaxTTL must not decrease in this order");
        }
        Ok(policy)
    }

    /// Normalizes a viewer's `Accept-Encoding` to the encodings in the policy's key.
    pub fn encodings(&self, headers: &HeaderMap) -> Option<&'static str> {
        let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok())?;
        let accepts = |coding: &str| {
            accepted.split(',').any(|item| item.split(';').next().map(str::trim) == Some(coding))
        };
        match (self.brotli && accepts("br"), self.gzip && accepts("gzip")) {
            (true, true) => Some("br,gzip"),
            (true, false) => Some("br"),
            (false, true) => Some("gzip"),
            (false, false) => None,
        }
    }
}

/// Finds the selection of an origin request policy by managed id or by reference; none without an id.
///
/// # Errors
/// An unknown policy.
pub fn origin_request_policy(id: Option<&str>, resources: Lookup<'_>) -> Result<Parameters> {
    let all = |headers| Parameters { headers, cookies: Names::all(), queries: Names::all() };
    Ok(match id {
        None => Parameters::none(),
        // AllViewer
        Some("216adef6-5c7f-47e4-b989-5492eafa07d3") => all(Names::all()),
        // AllViewerExceptHostHeader
        Some("b689b0a8-53d0-40ab-baf2-68738e2966ac") => {
            all(Names::AllExcept(BTreeSet::from(["host".to_owned()])))
        }
        // CORS-CustomOrigin
        Some("59781a5b-3903-41f3-afcb-af62929ccde1") => {
            Parameters { headers: Names::only(&["origin"]), ..Parameters::none() }
        }
        // CORS-S3Origin
        Some("88a5eaf4-2fd4-4709-b370-b4c650ea3fcf") => Parameters {
            headers: Names::only(&[
                "origin",
                "access-control-request-headers",
                "access-control-request-method",
            ]),
            ..Parameters::none()
        },
        Some(id) => {
            let resource = resources(id)
                .filter(|resource| resource.kind == "AWS::CloudFront::OriginRequestPolicy")
                .with_context(|| {
                    format!("OriginRequestPolicyId {id:?} is neither managed nor in the template")
                })?;
            Parameters::read(&resource.properties["OriginRequestPolicyConfig"])
                .with_context(|| format!("{id}.Properties.OriginRequestPolicyConfig"))?
        }
    })
}

/// Whether a value is `true`, or the text "true" of a template parameter.
pub fn is_true(value: &Value) -> bool {
    value == true || value == "true"
}
