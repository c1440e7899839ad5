//! The TTL of an object by CloudFront's rules: the origin's value, clamped by the cache policy.
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_cache_semantics::{CacheOptions, CachePolicy as HttpCachePolicy};

use crate::clock;
use crate::edge::policy::CachePolicy;

/// CloudFront's default `ErrorCachingMinTTL`.
pub const ERROR_TTL: Duration = Duration::from_secs(10);

/// The TTLs of an object, counted from the arrival of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Served without revalidation.
    pub fresh: Duration,
    /// Served stale during a background revalidation; at least `fresh`.
    pub while_revalidating: Duration,
    /// Served stale if the origin fails; `None`: as long as the object is in the cache.
    pub on_error: Option<Duration>,
}

/// Returns the TTLs of a response; `None`: the response must not be cached.
pub fn lifetime(policy: &CachePolicy, headers: &HeaderMap) -> Option<Lifetime> {
    let forbidden = ["no-store", "no-cache", "private"].iter().any(|name| directive(headers, name).is_some());
    if forbidden && policy.min_ttl.is_zero() {
        return None;
    }
    let requested =
        if forbidden { Duration::ZERO } else { origin_ttl(headers).unwrap_or(policy.default_ttl) };
    let fresh = requested.max(policy.min_ttl).min(policy.max_ttl);
    if fresh.is_zero() {
        return None;
    }
    let must_revalidate =
        ["must-revalidate", "proxy-revalidate"].iter().any(|d| directive(headers, d).is_some());
    // Stale serving counts towards MaxTTL: a MaxTTL not longer than `fresh` disables it.
    let beyond = |seconds: u64| (fresh + Duration::from_secs(seconds)).min(policy.max_ttl).max(fresh);
    Some(Lifetime {
        fresh,
        while_revalidating: match seconds(headers, "stale-while-revalidate") {
            Some(seconds) if !must_revalidate => beyond(seconds),
            _ => fresh,
        },
        on_error: if must_revalidate { Some(fresh) } else { seconds(headers, "stale-if-error").map(beyond) },
    })
}

/// Returns the TTL of an error response; `None`: the response must not be cached.
pub fn error_ttl(status: StatusCode, headers: &HeaderMap, minimum: Duration) -> Option<Duration> {
    let requested = origin_ttl(headers);
    match status.as_u16() {
        404 | 414 | 500..=504 => Some(requested.unwrap_or_default().max(minimum)),
        400 | 403 | 405 | 412 | 415 => Some(requested?.max(minimum)),
        _ => None,
    }
}

/// Returns `s-maxage`, else `max-age`, else the time until `Expires`, minus the response's `Age`; `None`: the origin
/// sets none of them.
fn origin_ttl(headers: &HeaderMap) -> Option<Duration> {
    let has_max_age = ["s-maxage", "max-age"].iter().any(|name| directive(headers, name).is_some());
    if !has_max_age && !headers.contains_key(header::EXPIRES) {
        return None;
    }
    // CloudFront uses only these headers: unlike the RFC, it ignores cookies, `Vary` and the status.
    let mut response = Response::new(());
    for name in [header::CACHE_CONTROL, header::EXPIRES, header::DATE, header::AGE] {
        for value in headers.get_all(&name) {
            response.headers_mut().append(&name, value.clone());
        }
    }
    let now = clock::now();
    let options = CacheOptions { shared: true, cache_heuristic: 0.0, ..CacheOptions::default() };
    Some(HttpCachePolicy::new_options(&Request::new(()), &response, now, options).time_to_live(now))
}

/// Returns the current time as a `Date` header.
pub fn date_now() -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(clock::now())).unwrap_or(HeaderValue::from_static(""))
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<u64> {
    directive(headers, name)?.parse().ok()
}

/// Returns the value of a `Cache-Control` directive, empty if it has none. The crate that computes freshness does not
/// expose its parsed directives, and does not support the two stale ones.
fn directive<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(|item| {
        let (found, value) = item.split_once('=').unwrap_or((item, ""));
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(min: u64, default: u64, max: u64, cache_control: &str) -> Option<(u64, u64, Option<u64>)> {
        let policy =
            CachePolicy::read(&json!({"MinTTL": min, "DefaultTTL": default, "MaxTTL": max})).unwrap();
        let mut headers = HeaderMap::new();
        if !cache_control.is_empty() {
            headers.insert(header::CACHE_CONTROL, cache_control.parse().unwrap());
        }
        let found = lifetime(&policy, &headers)?;
        let on_error = found.on_error.map(|d| d.as_secs());
        Some((found.fresh.as_secs(), found.while_revalidating.as_secs(), on_error))
    }

    #[test]
    fn the_ttl_is_clamped() {
        assert_eq!(read(0, 3, 60, "max-age=1, s-maxage=5"), Some((5, 5, None)));
        assert_eq!(read(0, 3, 60, "max-age=90"), Some((60, 60, None)));
        assert_eq!(read(10, 10, 60, "max-age=1"), Some((10, 10, None)));
        assert_eq!(read(0, 3, 60, ""), Some((3, 3, None)));
        assert_eq!(read(0, 3, 60, "public"), Some((3, 3, None)));
        assert_eq!(read(0, 0, 60, ""), None);
        assert_eq!(read(0, 3, 60, "max-age=0"), None);
    }

    #[test]
    fn private_objects_are_cached_only_under_a_minimum() {
        for header in ["no-store", "private, max-age=5", "no-cache"] {
            assert_eq!(read(0, 3, 60, header), None, "{header}");
            assert_eq!(read(2, 3, 60, header), Some((2, 2, None)), "{header}");
        }
    }

    #[test]
    fn stale_serving_is_capped_by_the_maximum() {
        let header = "max-age=1, s-maxage=3, stale-while-revalidate=30, stale-if-error=300";
        assert_eq!(read(0, 3, 3600, header), Some((3, 33, Some(303))));
        assert_eq!(read(0, 3, 20, header), Some((3, 20, Some(20))));
        assert_eq!(read(0, 3, 3, header), Some((3, 3, Some(3))));
    }

    #[test]
    fn must_revalidate_forbids_stale_serving() {
        let header = "max-age=3, must-revalidate, stale-while-revalidate=30, stale-if-error=30";
        assert_eq!(read(0, 3, 60, header), Some((3, 3, Some(3))));
    }

    #[test]
    fn errors_are_kept_for_ten_seconds_or_longer_if_they_say_so() {
        let no_headers = HeaderMap::new();
        let mut max_age = HeaderMap::new();
        max_age.insert(header::CACHE_CONTROL, "max-age=60".parse().unwrap());
        let ttl = |status: u16, headers: &HeaderMap| {
            error_ttl(StatusCode::from_u16(status).unwrap(), headers, ERROR_TTL).map(|ttl| ttl.as_secs())
        };
        assert_eq!(
            (ttl(404, &no_headers), ttl(503, &no_headers), ttl(404, &max_age)),
            (Some(10), Some(10), Some(60))
        );
        assert_eq!((ttl(403, &no_headers), ttl(403, &max_age)), (None, Some(60)));
        assert_eq!(ttl(429, &max_age), None);
    }

    #[test]
    fn an_age_on_arrival_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, "max-age=10".parse().unwrap());
        headers.insert(header::AGE, "4".parse().unwrap());
        assert_eq!(origin_ttl(&headers), Some(Duration::from_secs(6)));
    }
}
