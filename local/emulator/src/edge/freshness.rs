//! How long an object may be served, by CloudFront's table: the origin's wish clamped by the cache policy.
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_cache_semantics::{CacheOptions, CachePolicy as HttpCachePolicy};

use crate::clock;
use crate::edge::policy::CachePolicy;

/// CloudFront's default `ErrorCachingMinTTL`.
pub const ERROR_TTL: Duration = Duration::from_secs(10);

/// Counted from the response's arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Served without a question.
    pub fresh: Duration,
    /// Served while the origin is asked in the background; at least `fresh`.
    pub while_revalidating: Duration,
    /// Served when the origin fails; `None`: for as long as the object is kept.
    pub on_error: Option<Duration>,
}

/// `None`: the object must not be cached.
pub fn lifetime(policy: &CachePolicy, headers: &HeaderMap) -> Option<Lifetime> {
    let forbidden = ["no-store", "no-cache", "private"].iter().any(|name| directive(headers, name).is_some());
    if forbidden && policy.min_ttl.is_zero() {
        return None;
    }
    let wished = if forbidden { Duration::ZERO } else { origin_ttl(headers).unwrap_or(policy.default_ttl) };
    let fresh = wished.max(policy.min_ttl).min(policy.max_ttl);
    if fresh.is_zero() {
        return None;
    }
    let must_revalidate =
        ["must-revalidate", "proxy-revalidate"].iter().any(|d| directive(headers, d).is_some());
    // Stale serving counts towards MaxTTL: a MaxTTL no longer than the freshness cancels it.
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

/// How long an error answer is kept; `None`: not at all.
pub fn error_ttl(status: StatusCode, headers: &HeaderMap, minimum: Duration) -> Option<Duration> {
    let wished = origin_ttl(headers);
    match status.as_u16() {
        404 | 414 | 500..=504 => Some(wished.unwrap_or_default().max(minimum)),
        400 | 403 | 405 | 412 | 415 => Some(wished?.max(minimum)),
        _ => None,
    }
}

/// s-maxage before max-age before `Expires`, less the `Age` it arrives with; `None`: the origin says nothing.
fn origin_ttl(headers: &HeaderMap) -> Option<Duration> {
    let says = ["s-maxage", "max-age"].iter().any(|name| directive(headers, name).is_some());
    if !says && !headers.contains_key(header::EXPIRES) {
        return None;
    }
    // CloudFront judges by these headers alone: unlike the RFC, neither cookies, `Vary` nor the status matter.
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

/// The `Date` of an answer made now.
pub fn date_now() -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(clock::now())).unwrap_or(HeaderValue::from_static(""))
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<u64> {
    directive(headers, name)?.parse().ok()
}

/// The value of a `Cache-Control` directive, empty where it has none. The crate that computes freshness keeps
/// its parsed directives to itself and knows nothing of the two stale ones.
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
        let silent = HeaderMap::new();
        let mut spoken = HeaderMap::new();
        spoken.insert(header::CACHE_CONTROL, "max-age=60".parse().unwrap());
        let ttl = |status: u16, headers: &HeaderMap| {
            error_ttl(StatusCode::from_u16(status).unwrap(), headers, ERROR_TTL).map(|ttl| ttl.as_secs())
        };
        assert_eq!((ttl(404, &silent), ttl(503, &silent), ttl(404, &spoken)), (Some(10), Some(10), Some(60)));
        assert_eq!((ttl(403, &silent), ttl(403, &spoken)), (None, Some(60)));
        assert_eq!(ttl(429, &spoken), None);
    }

    #[test]
    fn an_age_on_arrival_counts() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CACHE_CONTROL, "max-age=10".parse().unwrap());
        headers.insert(header::AGE, "4".parse().unwrap());
        assert_eq!(origin_ttl(&headers), Some(Duration::from_secs(6)));
    }
}
