//! `Compress`: compresses text for viewers that accept gzip. CloudFront prefers Brotli, which compresses better, so
//! sizes measured on this machine are upper bounds.
use std::io::Write as _;

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use flate2::{Compression, write::GzEncoder};

/// CloudFront's range of compressible lengths, in bytes.
const LENGTHS: std::ops::RangeInclusive<usize> = 1_000..=10_000_000;

/// The types of CloudFront's list that are common in web services.
const TYPES: [&str; 10] = [
    "application/javascript",
    "application/json",
    "application/manifest+json",
    "application/xml",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/javascript",
    "text/plain",
    "text/xml",
];

/// Compresses a response that the origin did not, if the request accepts gzip.
pub fn compress(accepted: Option<&str>, response: &mut Response<Bytes>) {
    let takes_gzip = accepted.is_some_and(|codings| codings.contains("gzip"));
    if !takes_gzip || response.status() != StatusCode::OK || !is_compressible(response) {
        return;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let Ok(packed) = encoder.write_all(response.body()).and_then(|()| encoder.finish()) else { return };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(packed.len()));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    weaken_etag(headers);
    *response.body_mut() = Bytes::from(packed);
}

fn is_compressible(response: &Response<Bytes>) -> bool {
    let headers = response.headers();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    !headers.contains_key(header::CONTENT_ENCODING)
        && LENGTHS.contains(&response.body().len())
        && TYPES.contains(&kind)
}

/// Makes the `ETag` weak: the compressed object is equivalent but not identical.
fn weaken_etag(headers: &mut HeaderMap) {
    let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
    if let Some(weak) = tag.filter(|tag| tag.starts_with('"')).map(|tag| format!("W/{tag}"))
        && let Ok(weak) = HeaderValue::from_str(&weak)
    {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(kind: &'static str, length: usize, accepted: Option<&str>) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from("a".repeat(length)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert(header::ETAG, HeaderValue::from_static("\"tag\""));
        compress(accepted, &mut response);
        response
    }

    #[test]
    fn text_is_compressed_for_viewers_that_accept_gzip() {
        let packed = answered("text/css; charset=utf-8", 2_000, Some("br,gzip"));
        assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
        assert_eq!(packed.headers()[header::ETAG], "W/\"tag\"");
        assert!(packed.body().len() < 200);
        for (kind, length, accepted) in [
            ("text/css", 999, Some("gzip")),
            ("text/css", 2_000, None),
            ("text/css", 2_000, Some("br")),
            ("image/png", 2_000, Some("gzip")),
        ] {
            let plain = answered(kind, length, accepted);
            assert!(!plain.headers().contains_key(header::CONTENT_ENCODING), "{kind} {length} {accepted:?}");
        }
    }
}
