//! Emulates an identity provider: an OpenID issuer with its own RSA key.
pub mod sign_in;

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use crate::clock;
use anyhow::{Context, Result, anyhow};
use aws_lc_rs::{
    encoding::AsDer as _,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde_json::{Value, json};

/// Long enough for a day's work, short enough that expired tokens occur in practice.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The rule for the subjects of the stack's accounts.
pub const SUBJECT_RULE: &str = "1 to 128 of the characters A-Z a-z 0-9 . _ : | @ + = / -";

/// Limit on the tokens of one request: enough for the users of a load test, and about a minute of signing.
pub const TOKENS_PER_REQUEST_MAX: usize = 100_000;

/// A token issuer with a persistent key.
pub struct Issuer {
    key: RsaKeyPair,
    key_id: String,
    url: String,
    audience: String,
    scopes: &'static [&'static str],
    header: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("url", &self.url).field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl Issuer {
    /// Reads the key from `key_file`, or generates and stores it there, readable by the owner only.
    ///
    /// # Errors
    /// The file cannot be written, or does not contain an RSA key.
    pub fn open(key_file: &Path, url: &str, audience: &str) -> Result<Self> {
        let key = match fs::read(key_file) {
            Ok(der) => RsaKeyPair::from_pkcs8(&der).map_err(|e| {
                anyhow!("{} contains no RSA key ({e}): delete it to get a new one", key_file.display())
            })?,
            Err(_) => make_key(key_file)?,
        };
        let modulus = key.public_key().modulus().big_endian_without_leading_zero().to_vec();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &modulus);
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(&digest.as_ref()[..12]);
        let header =
            BASE64_URL_SAFE_NO_PAD.encode(json!({"alg": "RS256", "typ": "JWT", "kid": key_id}).to_string());
        Ok(Self { key, key_id, url: url.to_owned(), audience: audience.to_owned(), scopes: &[], header })
    }

    /// Sets the scopes besides `openid`. The first one is the default of a token.
    #[must_use]
    pub fn with_scopes(self, scopes: &'static [&'static str]) -> Self {
        Self { scopes, ..self }
    }

    /// Returns the `iss` of the tokens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the `aud` of the tokens.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Signs an access token for a subject, which the caller must have validated.
    ///
    /// # Errors
    /// Signing failed.
    pub fn token(&self, subject: &str, scope: Option<&str>) -> Result<String> {
        let issued_s = unix_now_s();
        self.sign(&json!({
            "iss": self.url,
            "aud": self.audience,
            "sub": subject,
            "scope": scope.or(self.scopes.first().copied()).unwrap_or_default(),
            "iat": issued_s,
            "exp": issued_s + TOKEN_LIFETIME.as_secs(),
        }))
    }

    /// Signs arbitrary claims.
    ///
    /// # Errors
    /// Signing failed.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        // jsonwebtoken would parse and validate the key for each token, at several times the cost of signing.
        let mut token = format!("{}.{}", self.header, BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| anyhow!("the token could not be signed"))?;
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Signs tokens for `count` different subjects on all cores. Blocks.
    ///
    /// # Errors
    /// Signing failed.
    pub fn tokens(&self, count: usize) -> Result<Vec<String>> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(workers).max(1);
        std::thread::scope(|scope| {
            let numbers: Vec<usize> = (1..=count).collect();
            let parts: Vec<_> = numbers
                .chunks(share)
                .map(|part| {
                    let part = part.to_vec();
                    scope
                        .spawn(move || part.iter().map(|n| self.token(&format!("voter-{n}"), None)).collect())
                })
                .collect();
            let mut tokens = Vec::with_capacity(count);
            for part in parts {
                let part: Result<Vec<String>> =
                    part.join().map_err(|_| anyhow!("a signing thread panicked"))?;
                tokens.extend(part?);
            }
            Ok(tokens)
        })
    }

    /// Returns the public key with its key id, for a verifier.
    pub fn verifying_keys(&self) -> Vec<(String, DecodingKey)> {
        let public = self.key.public_key();
        let key = DecodingKey::from_rsa_raw_components(
            public.modulus().big_endian_without_leading_zero(),
            public.exponent().big_endian_without_leading_zero(),
        );
        vec![(self.key_id.clone(), key)]
    }

    /// Returns the document of `/.well-known/jwks.json`.
    pub fn key_set(&self) -> Value {
        let public = self.key.public_key();
        let encode = |number: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(number);
        json!({"keys": [{
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.key_id,
            "n": encode(public.modulus().big_endian_without_leading_zero()),
            "e": encode(public.exponent().big_endian_without_leading_zero()),
        }]})
    }

    /// Returns the document of `/.well-known/openid-configuration`.
    pub fn configuration(&self) -> Value {
        let scopes: Vec<_> = std::iter::once(&"openid").chain(self.scopes).collect();
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/.well-known/jwks.json", self.url),
            "authorization_endpoint": format!("{}/authorize", self.url),
            "token_endpoint": format!("{}/token", self.url),
            "code_challenge_methods_supported": ["S256"],
            "grant_types_supported": ["authorization_code"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "response_types_supported": ["code"],
            "scopes_supported": scopes,
            "subject_types_supported": ["public"],
            "token_endpoint_auth_methods_supported": ["none"],
        })
    }
}

fn unix_now_s() -> u64 {
    clock::now_ms() / 1_000
}

fn make_key(key_file: &Path) -> Result<RsaKeyPair> {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("cannot generate an RSA key"))?;
    let der = key.as_der().map_err(|_| anyhow!("the RSA key could not be encoded"))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(key_file)
        .with_context(|| format!("{} cannot be written", key_file.display()))?;
    file.write_all(der.as_ref())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let first = Issuer::open(&file, "http://issuer", "votes").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Issuer::open(&file, "http://issuer", "votes").unwrap();
        assert_eq!(first.key_set(), second.key_set());
        fs::write(&file, "nonsense").unwrap();
        assert!(Issuer::open(&file, "http://issuer", "votes").unwrap_err().to_string().contains("delete it"));
    }

    #[test]
    fn tokens_hold_under_the_published_keys() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(&folder.path().join("key"), "http://issuer", "votes").unwrap();
        let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(issuer.key_set()).unwrap();
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        validation.set_audience(&["votes"]);
        validation.set_issuer(&["http://issuer"]);
        let tokens = issuer.tokens(5).unwrap();
        let mut subjects = Vec::new();
        for token in tokens {
            let key_id = jsonwebtoken::decode_header(&token).unwrap().kid.unwrap();
            let key = DecodingKey::from_jwk(keys.find(&key_id).unwrap()).unwrap();
            let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
            let lifetime_s = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
            assert_eq!(lifetime_s, TOKEN_LIFETIME.as_secs());
            subjects.push(claims["sub"].as_str().unwrap().to_owned());
        }
        assert_eq!(subjects, ["voter-1", "voter-2", "voter-3", "voter-4", "voter-5"]);
    }
}
