//! The JWT authorizer: RS256, `iss`, `aud` or `client_id`, `exp`, `nbf`, `iat`, and the route's scopes.
use std::sync::Arc;

use anyhow::Result;
use aws_lc_rs::digest;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::http_api::definition::JwtConfiguration;

/// Limit on cached tokens: enough for the users of a big load test, at about 1 KiB each.
const TOKENS_MAX: usize = 50_000;

/// No leeway: the issuer and the gateway share one machine's clock.
const LEEWAY_S: u64 = 0;

/// The claims of a verified token, as strings: the only type that API Gateway forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    values: Vec<(String, String)>,
}

impl Claims {
    fn from_map(map: Map<String, Value>) -> Self {
        let text = |value| match value {
            Value::String(text) => text,
            // API Gateway formats a list as `[a b]`.
            Value::Array(list) => {
                let words =
                    list.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                format!("[{}]", words.collect::<Vec<_>>().join(" "))
            }
            other => other.to_string(),
        };
        Self { values: map.into_iter().map(|(name, value)| (name, text(value))).collect() }
    }

    /// Parses a token's payload.
    ///
    /// # Errors
    /// The payload is not a JSON object.
    pub fn from_json(payload: &str) -> Result<Self> {
        Ok(Self::from_map(serde_json::from_str(payload)?))
    }

    /// Returns one claim.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Returns all claims.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn scopes(&self) -> impl Iterator<Item = &str> {
        self.get("scope").or_else(|| self.get("scp")).unwrap_or_default().split([' ', '[', ']'])
    }
}

/// The reason for refusing a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// 401: no token.
    Missing,
    /// 401: an invalid token.
    Invalid(&'static str),
    /// 403: a valid token without a required scope.
    Scope,
}

#[derive(Debug)]
struct Verified {
    claims: Arc<Claims>,
    expires_s: u64,
}

/// A verifier of one issuer's tokens.
#[derive(Debug)]
pub struct Authorizer {
    validation: Validation,
    audience: Vec<String>,
    keys: Vec<(String, DecodingKey)>,
    /// A cache of verified tokens by SHA-256. Clients send the same token with each request, and an RSA verification
    /// costs more than the rest of the gateway's work for a small request. API Gateway caches only keys; caching
    /// results until `exp` behaves the same, since a JWT cannot be revoked.
    verified: Cache<[u8; 32], Arc<Verified>>,
}

impl Authorizer {
    /// Creates an authorizer that trusts the issuer's `keys`, each with its key id.
    pub fn new(configuration: &JwtConfiguration, keys: Vec<(String, DecodingKey)>) -> Self {
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        // Checked in `has_valid_audience`: without `aud`, API Gateway uses `client_id`.
        validation.validate_aud = false;
        validation.set_issuer(&[&configuration.issuer]);
        validation.set_required_spec_claims(&["exp", "iss"]);
        let audience = configuration.audience.clone();
        Self { validation, audience, keys, verified: Cache::new(TOKENS_MAX) }
    }

    /// Verifies the token of an `Authorization` header and requires one of the route's scopes.
    ///
    /// # Errors
    /// The reason for refusing the request.
    pub fn authorize(
        &self,
        header: Option<&str>,
        scopes: &[String],
        now_s: u64,
    ) -> Result<Arc<Claims>, Denial> {
        let header = header.map(str::trim).filter(|header| !header.is_empty()).ok_or(Denial::Missing)?;
        let bearer = header.split_at_checked(7).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer "));
        let token = bearer.map_or(header, |(_, token)| token.trim());
        let claims = self.verify(token, now_s)?;
        let allowed = scopes.is_empty() || claims.scopes().any(|scope| scopes.iter().any(|s| s == scope));
        if allowed { Ok(claims) } else { Err(Denial::Scope) }
    }

    fn verify(&self, token: &str, now_s: u64) -> Result<Arc<Claims>, Denial> {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let key: [u8; 32] = digest.as_ref().try_into().map_err(|_| Denial::Invalid("malformed token"))?;
        if let Some(known) = self.verified.get(&key) {
            if now_s < known.expires_s {
                return Ok(Arc::clone(&known.claims));
            }
            self.verified.remove(&key);
        }
        let verified = Arc::new(self.check(token, now_s)?);
        self.verified.insert(key, Arc::clone(&verified));
        Ok(Arc::clone(&verified.claims))
    }

    fn check(&self, token: &str, now_s: u64) -> Result<Verified, Denial> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| Denial::Invalid("malformed token"))?;
        let key_id = header.kid.unwrap_or_default();
        let (_, key) =
            self.keys.iter().find(|(id, _)| *id == key_id).ok_or(Denial::Invalid("unknown key"))?;
        let token = jsonwebtoken::decode::<Map<String, Value>>(token, key, &self.validation);
        let claims = token.map_err(|error| Denial::Invalid(reason(error.kind())))?.claims;
        if !self.has_valid_audience(&claims) {
            return Err(Denial::Invalid("the token has an invalid audience"));
        }
        if claims.get("iat").and_then(Value::as_f64).is_some_and(|iat| iat > now_s as f64) {
            return Err(Denial::Invalid("the token was issued in the future"));
        }
        let expires_s = claims.get("exp").and_then(Value::as_f64).unwrap_or_default() as u64;
        Ok(Verified { claims: Arc::new(Claims::from_map(claims)), expires_s })
    }

    fn has_valid_audience(&self, claims: &Map<String, Value>) -> bool {
        let known =
            |value: &Value| value.as_str().is_some_and(|name| self.audience.iter().any(|a| a == name));
        match claims.get("aud") {
            Some(Value::Array(audiences)) => audiences.iter().any(known),
            Some(audience) => known(audience),
            None => claims.get("client_id").is_some_and(known),
        }
    }
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token has an invalid issuer",
        ErrorKind::InvalidAlgorithm => "the signing method is invalid",
        ErrorKind::InvalidSignature => "the signature is invalid",
        ErrorKind::MissingRequiredClaim(_) => "a required claim is missing",
        _ => "malformed token",
    }
}
