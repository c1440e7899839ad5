//! Cache keys, and the requests forwarded to origins.
use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header, request::Parts},
};

use crate::{
    edge::{
        behavior::{Behavior, OriginConfig},
        policy::Names,
    },
    http_api::Viewer,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers of one connection, which are never forwarded.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that describe the body, which are forwarded under every policy.
const BODY_HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, header::CONTENT_LENGTH];

/// Builds the cache key: requests with the same key get the same object.
pub fn cache_key(index: usize, behavior: &Behavior, viewer: &Parts) -> Arc<str> {
    let key = &behavior.cache.key;
    let mut text = format!("{index} {} {}", viewer.method, viewer.uri.path());
    if let Some(query) = filtered_query(viewer.uri.query(), &[&key.queries]) {
        text.push('?');
        text.push_str(&query);
    }
    if let Names::Only(names) = &key.headers {
        for name in names {
            for value in viewer.headers.get_all(name) {
                text.push('\n');
                text.push_str(name);
                text.push(':');
                text.push_str(&String::from_utf8_lossy(value.as_bytes()));
            }
        }
    }
    if let Some(cookies) = filtered_cookies(&viewer.headers, &[&key.cookies]) {
        text.push_str("\ncookie:");
        text.push_str(&cookies);
    }
    if let Some(encodings) = behavior.cache.encodings(&viewer.headers) {
        text.push_str("\naccept-encoding:");
        text.push_str(encodings);
    }
    Arc::from(text)
}

/// Returns the path and query of a cache key.
pub fn path_of(key: &str) -> &str {
    let line = key.lines().next().unwrap_or_default();
    line.splitn(3, ' ').nth(2).unwrap_or_default()
}

/// Builds the origin request of a viewer request.
pub fn origin_request(
    behavior: &Behavior,
    origin: &OriginConfig,
    viewer: Parts,
    body: Body,
) -> Request<Body> {
    let (key, forward) = (&behavior.cache.key, &behavior.forward);
    let mut parts = viewer;
    let host = parts.headers.get(header::HOST).cloned();
    let cookies = filtered_cookies(&parts.headers, &[&key.cookies, &forward.cookies]);
    let encodings = behavior.cache.encodings(&parts.headers);
    let everything = matches!(&forward.headers, Names::AllExcept(_));
    let cached = behavior.caches(&parts.method);
    let kept = |name: &HeaderName| {
        // A 304 must not be cached as the object: the edge itself evaluates viewers' conditions.
        let conditional = *name == header::IF_NONE_MATCH || *name == header::IF_MODIFIED_SINCE;
        let named = key.headers.includes(name.as_str())
            || (forward.headers.includes(name.as_str()) && (everything || *name != header::AUTHORIZATION))
            || BODY_HEADERS.contains(name);
        named && !HOP_BY_HOP.contains(name) && *name != header::COOKIE && !(cached && conditional)
    };
    parts.headers = parts
        .headers
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(cookies) = cookies.and_then(|cookies| HeaderValue::from_str(&cookies).ok()) {
        parts.headers.insert(header::COOKIE, cookies);
    }
    if cached && let Some(encodings) = encodings {
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encodings));
    }
    let host_forwarded = key.headers.includes("host") || forward.headers.includes("host");
    let host = if host_forwarded { host } else { HeaderValue::from_str(&origin.domain_name).ok() };
    if let Some(host) = host {
        parts.headers.insert(header::HOST, host);
    }
    add_edge_headers(&mut parts, origin);
    parts.uri = origin_uri(&parts.uri, &[&key.queries, &forward.queries], &origin.path);
    Request::from_parts(parts, body)
}

fn add_edge_headers(parts: &mut Parts, origin: &OriginConfig) {
    if let Some(Viewer(address)) = parts.extensions.get::<Viewer>() {
        let earlier = parts.headers.get(X_FORWARDED_FOR).and_then(|value| value.to_str().ok());
        let all = earlier.map_or_else(|| address.to_string(), |earlier| format!("{earlier}, {address}"));
        if let Ok(all) = HeaderValue::from_str(&all) {
            parts.headers.insert(X_FORWARDED_FOR, all);
        }
    }
    parts.headers.insert(header::VIA, HeaderValue::from_static(super::VIA));
    parts.headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static("Amazon CloudFront"));
    for (name, value) in &origin.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            parts.headers.insert(name, value);
        }
    }
}

fn origin_uri(uri: &Uri, queries: &[&Names], prefix: &str) -> Uri {
    if prefix.is_empty() && (uri.query().is_none() || queries.iter().any(|names| names.is_all())) {
        return uri.clone();
    }
    let query = filtered_query(uri.query(), queries).map(|query| format!("?{query}")).unwrap_or_default();
    format!("{prefix}{}{query}", uri.path()).parse().unwrap_or_else(|_| uri.clone())
}

fn filtered_query(query: Option<&str>, names: &[&Names]) -> Option<String> {
    let pairs = query?.split('&').filter(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && names.iter().any(|names| names.includes(name))
    });
    Some(pairs.collect::<Vec<_>>().join("&")).filter(|query| !query.is_empty())
}

fn filtered_cookies(headers: &HeaderMap, names: &[&Names]) -> Option<String> {
    if names.iter().all(|names| names.is_none()) {
        return None;
    }
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let kept = lines.flat_map(|line| line.split(';')).map(str::trim).filter(|cookie| {
        let name = cookie.split('=').next().unwrap_or_default();
        names.iter().any(|names| names.includes(name))
    });
    Some(kept.collect::<Vec<_>>().join("; ")).filter(|cookies| !cookies.is_empty())
}

/// Removes the headers of one connection from a response.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
