//! Response headers policies: CORS, security and custom headers of viewer responses.
//!
//! To add a managed policy: add its id, with its name as a comment, to [`ResponseHeaders::find`].
use anyhow::{Context, Result, anyhow};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Value, json};

use crate::{
    edge::policy::{Lookup, is_true},
    http_api::{definition::strings, number},
};

/// A compiled response headers policy.
#[derive(Debug, Clone)]
pub struct ResponseHeaders {
    /// Name, value, and whether it overrides the origin's header.
    fixed: Vec<(HeaderName, HeaderValue, bool)>,
    removed: Vec<HeaderName>,
    origins: Option<(Vec<String>, bool)>,
}

impl ResponseHeaders {
    /// Finds a policy by managed id or by reference to an `AWS::CloudFront::ResponseHeadersPolicy` of the template.
    ///
    /// # Errors
    /// An unknown policy or an invalid header.
    pub fn find(id: Option<&str>, resources: Lookup<'_>) -> Result<Option<Self>> {
        let Some(id) = id else { return Ok(None) };
        let security = json!({
            "ContentTypeOptions": {"Override": true},
            "FrameOptions": {"FrameOption": "SAMEORIGIN", "Override": false},
            "ReferrerPolicy": {"ReferrerPolicy": "strict-origin-when-cross-origin", "Override": false},
            "StrictTransportSecurity": {"AccessControlMaxAgeSec": 31_536_000, "Override": false},
            "XSSProtection": {"Protection": true, "ModeBlock": true, "Override": false},
        });
        let simple = json!({"AccessControlAllowOrigins": {"Items": ["*"]}, "OriginOverride": false});
        let preflight = json!({
            "AccessControlAllowOrigins": {"Items": ["*"]},
            "AccessControlAllowHeaders": {"Items": ["*"]},
            "AccessControlAllowMethods": {"Items": ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]},
            "AccessControlExposeHeaders": {"Items": ["*"]},
            "OriginOverride": false,
        });
        let config = match id {
            // SimpleCORS
            "60669652-455b-4ae9-85a4-c4c02393f86c" => json!({"CorsConfig": simple}),
            // CORS-With-Preflight
            "5cc3b908-e619-4b99-88e5-2cf7f45965bd" => json!({"CorsConfig": preflight}),
            // SecurityHeadersPolicy
            "67f7725c-6f97-4210-82d7-5512b31e9d03" => json!({"SecurityHeadersConfig": security}),
            // CORS-and-SecurityHeadersPolicy
            "e61eb60c-9c35-4d20-a928-2b84e02af89c" => {
                json!({"CorsConfig": simple, "SecurityHeadersConfig": security})
            }
            // CORS-with-preflight-and-SecurityHeadersPolicy
            "eaab4381-ed33-4a86-88ca-d9558dc6cd63" => {
                json!({"CorsConfig": preflight, "SecurityHeadersConfig": security})
            }
            _ => resources(id)
                .filter(|resource| resource.kind == "AWS::CloudFront::ResponseHeadersPolicy")
                .with_context(|| {
                    format!("ResponseHeadersPolicyId {id:?} is neither managed nor in the template")
                })?
                .properties["ResponseHeadersPolicyConfig"]
                .clone(),
        };
        Self::read(&config).map(Some).with_context(|| format!("ResponseHeadersPolicyId {id}"))
    }

    /// Reads a `ResponseHeadersPolicyConfig`.
    ///
    /// # Errors
    /// An invalid header.
    pub fn read(config: &Value) -> Result<Self> {
        let mut fixed = Vec::new();
        let mut add = |name: &str, value: &str, overrides: bool| -> Result<()> {
            let name = name.parse().map_err(|_| anyhow!("{name:?} is not a header name"))?;
            fixed.push((
                name,
                HeaderValue::from_str(value).with_context(|| format!("{value:?}"))?,
                overrides,
            ));
            Ok(())
        };
        for item in config["CustomHeadersConfig"]["Items"].as_array().into_iter().flatten() {
            let text = |name: &str| item[name].as_str().unwrap_or_default();
            add(text("Header"), text("Value"), is_true(&item["Override"]))?;
        }
        for (name, value, overrides) in security_headers(&config["SecurityHeadersConfig"]) {
            add(name, &value, overrides)?;
        }
        let cors = &config["CorsConfig"];
        let overrides = is_true(&cors["OriginOverride"]);
        for (key, name) in [
            ("AccessControlAllowMethods", "access-control-allow-methods"),
            ("AccessControlAllowHeaders", "access-control-allow-headers"),
            ("AccessControlExposeHeaders", "access-control-expose-headers"),
        ] {
            let items = strings(&cors[key]["Items"]);
            if !items.is_empty() {
                add(name, &items.join(", "), overrides)?;
            }
        }
        if let Some(seconds) = number(&cors["AccessControlMaxAgeSec"]) {
            add("access-control-max-age", &seconds.to_string(), overrides)?;
        }
        if is_true(&cors["AccessControlAllowCredentials"]) {
            add("access-control-allow-credentials", "true", overrides)?;
        }
        let origins =
            cors.is_object().then(|| (strings(&cors["AccessControlAllowOrigins"]["Items"]), overrides));
        let removed = config["RemoveHeadersConfig"]["Items"].as_array().into_iter().flatten();
        let removed = removed.filter_map(|item| item["Header"].as_str()?.parse().ok()).collect();
        Ok(Self { fixed, removed, origins })
    }

    /// Applies the policy to the headers of a viewer response.
    pub fn apply(&self, request: &HeaderMap, response: &mut HeaderMap) {
        for name in &self.removed {
            response.remove(name);
        }
        let origin = request.get(header::ORIGIN);
        for (name, value, overrides) in &self.fixed {
            // Only cross-origin requests get CORS headers.
            let applies = origin.is_some() || !name.as_str().starts_with("access-control-");
            if applies && (*overrides || !response.contains_key(name)) {
                response.insert(name, value.clone());
            }
        }
        let (Some((allowed, overrides)), Some(origin)) = (&self.origins, origin) else { return };
        if !*overrides && response.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        if allowed.iter().any(|item| item == "*") {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        } else if allowed.iter().any(|item| item.as_bytes() == origin.as_bytes()) {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            response.append(header::VARY, HeaderValue::from_static("Origin"));
        }
    }
}

fn security_headers(config: &Value) -> Vec<(&'static str, String, bool)> {
    let mut headers = Vec::new();
    let mut add = |key: &str, name: &'static str, value: &dyn Fn(&Value) -> Option<String>| {
        if let Some(item) = config.get(key).filter(|item| item.is_object())
            && let Some(text) = value(item)
        {
            headers.push((name, text, is_true(&item["Override"])));
        }
    };
    let text = |key: &'static str| move |item: &Value| item[key].as_str().map(str::to_owned);
    add("ContentTypeOptions", "x-content-type-options", &|_| Some("nosniff".to_owned()));
    add("FrameOptions", "x-frame-options", &text("FrameOption"));
    add("ReferrerPolicy", "referrer-policy", &text("ReferrerPolicy"));
    add("ContentSecurityPolicy", "content-security-policy", &text("ContentSecurityPolicy"));
    add("StrictTransportSecurity", "strict-transport-security", &|item| {
        let mut value = format!("max-age={}", number(&item["AccessControlMaxAgeSec"])?);
        for (key, directive) in [("IncludeSubdomains", "; includeSubDomains"), ("Preload", "; preload")] {
            if is_true(&item[key]) {
                value.push_str(directive);
            }
        }
        Some(value)
    });
    add("XSSProtection", "x-xss-protection", &|item| {
        let mode = if is_true(&item["ModeBlock"]) { "; mode=block" } else { "" };
        Some(if is_true(&item["Protection"]) { format!("1{mode}") } else { "0".to_owned() })
    });
    headers
}
