//! CORS of the API itself: responds to preflights without a route, and replaces an integration's CORS headers.
use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts},
};
use serde_json::Value;

use crate::http_api::{definition::strings, number};

/// `CorsConfiguration`, or SAM's short form: one origin as a string, or `true`.
#[derive(Debug, Clone)]
pub struct Cors {
    origins: Vec<String>,
    methods: String,
    headers: String,
    expose: String,
    max_age: Option<u64>,
    credentials: bool,
}

const CORS_HEADERS: [header::HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
];

impl Cors {
    /// Reads the configuration; `None` if the template has none.
    pub fn read(configuration: &Value) -> Option<Self> {
        let object = match configuration {
            Value::Object(_) => configuration,
            Value::Bool(true) | Value::String(_) => &Value::Null,
            _ => return None,
        };
        let origins = match configuration {
            Value::Bool(_) => vec!["*".to_owned()],
            Value::String(origin) => vec![origin.trim_matches('\'').to_owned()],
            _ => strings(&configuration["AllowOrigins"]),
        };
        let joined = |name: &str| strings(&object[name]).join(",");
        Some(Self {
            origins,
            methods: joined("AllowMethods"),
            headers: joined("AllowHeaders"),
            expose: joined("ExposeHeaders"),
            max_age: number(&object["MaxAge"]).map(|seconds| seconds as u64),
            credentials: object["AllowCredentials"] == true,
        })
    }

    /// Returns the response to a preflight, which needs neither a route nor a token; `None` for any other request.
    pub fn preflight(&self, parts: &Parts) -> Option<Response<Bytes>> {
        let names_method = parts.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if parts.method != Method::OPTIONS || !names_method || !parts.headers.contains_key(header::ORIGIN) {
            return None;
        }
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Some(response)
    }

    /// Replaces the CORS headers of a response: the configured ones if the request has an allowed origin, else none.
    pub fn set_headers(&self, request: &HeaderMap, response: &mut HeaderMap) {
        for name in &CORS_HEADERS {
            response.remove(name);
        }
        let Some(origin) = request.get(header::ORIGIN) else { return };
        let all = self.origins.iter().any(|allowed| allowed == "*");
        if !all && !self.origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
            return;
        }
        let allowed = if all { HeaderValue::from_static("*") } else { origin.clone() };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let max_age = self.max_age.map(|seconds| seconds.to_string()).unwrap_or_default();
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.as_str()),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (header::ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose),
            (header::ACCESS_CONTROL_MAX_AGE, &max_age),
            (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, if self.credentials { "true" } else { "" }),
        ] {
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                response.insert(name, value);
            }
        }
    }
}
