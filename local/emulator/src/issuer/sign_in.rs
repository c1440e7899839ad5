//! Sign-in without passwords: the OpenID Connect code flow with PKCE, for any valid name.
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Issuer, TOKEN_LIFETIME, unix_now_s};

/// Short: a page redeems its code at once.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// The text of [`super::SUBJECT_RULE`] for the form: the name becomes the subject.
const NAME_RULE: &str =
    "name: use 1 to 128 letters, digits and . _ : | @ + = / -, without blanks and accents";
/// Limit on unredeemed codes, to bound the memory.
const CODES_MAX: usize = 10_000;

/// An authentication request of a page (OpenID Connect Core, 3.1.2.1), with the form's input.
#[derive(Debug, Clone, Deserialize)]
pub struct Authorization {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    code_challenge: String,
    #[serde(default)]
    code_challenge_method: String,
    /// The name entered in the form.
    #[serde(default)]
    name: String,
    /// The token's lifetime entered in the form, for testing expiry.
    #[serde(default)]
    lifetime_s: Option<u64>,
}

/// A token request of a page (RFC 6749, 4.1.3, and RFC 7636, 4.5).
#[derive(Debug, Clone, Deserialize)]
pub struct Redemption {
    grant_type: String,
    code: String,
    redirect_uri: String,
    client_id: String,
    code_verifier: String,
}

/// The issued and not yet redeemed authorization codes.
#[derive(Debug)]
pub struct Codes {
    accepts: fn(&str) -> bool,
    issued: Mutex<HashMap<String, (Instant, Authorization)>>,
}

impl Authorization {
    /// Returns the problem of an invalid request. It is shown to the user: an invalid request must not be redirected.
    fn problem(&self, audience: &str) -> Option<&'static str> {
        let here = ["http://localhost:", "http://127.0.0.1:", "http://[::1]:"];
        if !here.iter().any(|start| self.redirect_uri.starts_with(start)) {
            return Some("redirect_uri: must be on this machine");
        }
        if self.client_id != audience {
            return Some("client_id: not known here");
        }
        if self.response_type != "code" {
            return Some("response_type: must be code");
        }
        if self.code_challenge_method != "S256" || self.code_challenge.is_empty() {
            return Some("code_challenge: PKCE with S256 is required");
        }
        None
    }
}

impl Codes {
    /// Creates an empty store. `accepts` decides whether a name may become a subject.
    pub fn new(accepts: fn(&str) -> bool) -> Self {
        Self { accepts, issued: Mutex::default() }
    }

    /// Returns the sign-in form.
    ///
    /// # Errors
    /// The problem of an invalid request.
    pub fn form(&self, request: &Authorization, audience: &str) -> Result<String, &'static str> {
        match request.problem(audience) {
            Some(problem) => Err(problem),
            None => Ok(form(request)),
        }
    }

    /// Issues a code and returns the URL to redirect the user to.
    ///
    /// # Errors
    /// The problem of an invalid request or name, or too many unredeemed codes.
    pub fn grant(&self, request: Authorization, audience: &str) -> Result<String, &'static str> {
        if let Some(problem) = request.problem(audience) {
            return Err(problem);
        }
        if !(self.accepts)(request.name.trim()) {
            return Err(NAME_RULE);
        }
        let code = Uuid::new_v4().simple().to_string();
        let answer = form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", &request.state)
            .finish();
        let separator = if request.redirect_uri.contains('?') { '&' } else { '?' };
        let location = format!("{}{separator}{answer}", request.redirect_uri);
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, (since, _)| since.elapsed() < CODE_LIFETIME);
        if issued.len() >= CODES_MAX {
            return Err("too many sign-ins under way: try again in a minute");
        }
        issued.insert(code, (Instant::now(), request));
        Ok(location)
    }

    /// Redeems a code for tokens. A code is valid once.
    ///
    /// # Errors
    /// The error code of RFC 6749, 5.2: the code is unknown, used, expired or issued to another page, the grant type
    /// is not supported, or signing failed.
    pub fn redeem(&self, redemption: &Redemption, issuer: &Issuer) -> Result<Value, &'static str> {
        if redemption.grant_type != "authorization_code" {
            return Err("unsupported_grant_type");
        }
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner).remove(&redemption.code);
        let (since, request) = issued.ok_or("invalid_grant")?;
        let challenge =
            BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, redemption.code_verifier.as_bytes()).as_ref());
        let same = request.client_id == redemption.client_id
            && request.redirect_uri == redemption.redirect_uri
            && request.code_challenge == challenge
            && since.elapsed() < CODE_LIFETIME;
        if !same {
            return Err("invalid_grant");
        }
        tokens(&request, issuer).map_err(|_| "server_error")
    }
}

fn tokens(request: &Authorization, issuer: &Issuer) -> Result<Value> {
    let issued_s = unix_now_s();
    let lifetime_s = request.lifetime_s.unwrap_or(TOKEN_LIFETIME.as_secs()).min(TOKEN_LIFETIME.as_secs());
    let claims = |extra: Value| {
        let mut claims = json!({
            "iss": issuer.url(),
            "aud": request.client_id,
            "sub": request.name.trim(),
            "iat": issued_s,
            "exp": issued_s + lifetime_s,
        });
        if let (Some(claims), Value::Object(extra)) = (claims.as_object_mut(), extra) {
            claims.extend(extra);
        }
        claims
    };
    let access = issuer.sign(&claims(json!({ "scope": request.scope })))?;
    let identity = match &request.nonce {
        Some(nonce) => issuer.sign(&claims(json!({ "nonce": nonce })))?,
        None => issuer.sign(&claims(json!({})))?,
    };
    Ok(json!({
        "access_token": access,
        "id_token": identity,
        "token_type": "Bearer",
        "expires_in": lifetime_s,
        "scope": request.scope,
    }))
}

fn form(request: &Authorization) -> String {
    let hidden: String = [
        ("response_type", &request.response_type),
        ("client_id", &request.client_id),
        ("redirect_uri", &request.redirect_uri),
        ("scope", &request.scope),
        ("state", &request.state),
        ("code_challenge", &request.code_challenge),
        ("code_challenge_method", &request.code_challenge_method),
    ]
    .into_iter()
    .chain(request.nonce.as_ref().map(|nonce| ("nonce", nonce)))
    .map(|(name, value)| format!("<input type=hidden name={name} value=\"{}\">", escaped(value)))
    .collect();
    let name = if request.scope.split(' ').any(|scope| scope == "admin") { "crew" } else { "alice" };
    include_str!("sign_in.html")
        .replace("{hidden}", &hidden)
        .replace("{name}", name)
        .replace("{scope}", &escaped(&request.scope))
        .replace("{lifetime_s}", &TOKEN_LIFETIME.as_secs().to_string())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "a-verifier-that-is-long-enough-for-the-rule-of-43";

    fn asked(extra: &[(&str, &str)]) -> Authorization {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()).as_ref());
        let mut request = json!({
            "response_type": "code", "client_id": "votes", "redirect_uri": "http://localhost:8080/",
            "scope": "openid", "state": "s&t", "nonce": "n", "name": "alice",
            "code_challenge": challenge, "code_challenge_method": "S256",
        });
        for (name, value) in extra {
            request[name] = (*value).into();
        }
        serde_json::from_value(request).unwrap()
    }

    fn redemption(location: &str, verifier: &str) -> Redemption {
        let query = location.split_once('?').unwrap().1;
        let code = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "code").unwrap().1;
        Redemption {
            grant_type: "authorization_code".to_owned(),
            code: code.into_owned(),
            redirect_uri: "http://localhost:8080/".to_owned(),
            client_id: "votes".to_owned(),
            code_verifier: verifier.to_owned(),
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_the_page_that_asked() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::open(&folder.path().join("key"), "http://issuer", "votes").unwrap();
        let codes = Codes::new(is_a_word);
        let location = codes.grant(asked(&[]), "votes").unwrap();
        assert!(location.starts_with("http://localhost:8080/?code=") && location.ends_with("&state=s%26t"));
        let first = redemption(&location, VERIFIER);
        let tokens = codes.redeem(&first, &issuer).unwrap();
        assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(43_200)));
        assert_eq!(codes.redeem(&first, &issuer).unwrap_err(), "invalid_grant");
        let stolen = redemption(&codes.grant(asked(&[]), "votes").unwrap(), "another verifier");
        assert_eq!(codes.redeem(&stolen, &issuer).unwrap_err(), "invalid_grant");
    }

    fn is_a_word(name: &str) -> bool {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric())
    }

    #[test]
    fn nobody_is_sent_elsewhere() {
        let codes = Codes::new(is_a_word);
        for (name, value) in [
            ("redirect_uri", "https://elsewhere.example/"),
            ("client_id", "other"),
            ("response_type", "token"),
            ("code_challenge_method", "plain"),
            ("name", " "),
            ("name", "anna b"),
            ("name", "jo\u{e3}o"),
            ("name", "a\"b"),
        ] {
            let problem = codes.grant(asked(&[(name, value)]), "votes").unwrap_err();
            assert!(problem.starts_with(name.trim_end_matches("_method")), "{name}: {problem}");
        }
    }

    #[test]
    fn the_form_repeats_the_request_and_nothing_else() {
        let page = Codes::new(is_a_word).form(&asked(&[("state", "\"><script>")]), "votes").unwrap();
        assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\"") && !page.contains("<script"));
    }
}
