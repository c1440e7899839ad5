use super::*;
use crate::template::Context;

const DOMAIN: &str = "pages.s3.us-east-1.amazonaws.com";

fn open(folder: &Path, bucket: &str) -> Result<Storage> {
    let text =
        format!("Resources: {{Pages: {{Type: AWS::S3::Bucket, Properties: {{BucketName: '{bucket}'}}}}}}");
    let context = Context { aws_endpoint: "http://localhost:4566".to_owned(), ..Context::default() };
    Storage::open(folder, &Template::parse(&text, "template.yaml", &context)?)
}

fn get(path: &str) -> Request<Body> {
    Request::builder().uri(path).header(header::HOST, "votes.example").body(Body::empty()).unwrap()
}

async fn fetched(storage: &Storage, path: &str) -> (StatusCode, HeaderMap, Bytes) {
    let origin = BucketOrigin::find(storage, DOMAIN).unwrap();
    let (response, route) = origin.fetch(get(path)).await;
    assert_eq!(route, "s3 pages");
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body)
}

#[tokio::test]
async fn the_edge_serves_the_latest_object_with_its_headers() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), "pages").unwrap();
    for body in ["first", "second"] {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
        storage.put("pages", "control/index.html", headers, Bytes::from(body)).await.unwrap();
    }
    // The next start opens the same folder.
    let storage = open(folder.path(), "pages").unwrap();
    let (status, headers, body) = fetched(&storage, "/control/index.html?lang=pt").await;
    assert_eq!((status, body), (StatusCode::OK, Bytes::from("second")));
    assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "public, max-age=60");
}

#[tokio::test]
async fn a_missing_object_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), "pages").unwrap();
    assert_eq!(fetched(&storage, "/results/1.json").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn unsigned_requests_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), "pages").unwrap();
    storage.put("pages", "config.json", HeaderMap::new(), Bytes::from("{}")).await.unwrap();
    let mut request = get("/pages/config.json");
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost:4566"));
    let response = storage.handle(request).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let text = to_bytes(response.into_body(), EDGE_OBJECT_BYTES_MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("sign the request"), "{text:?}");
}

#[test]
fn only_a_buckets_own_domain_is_its_origin() {
    let folder = tempfile::tempdir().unwrap();
    let storage = open(folder.path(), "pages").unwrap();
    for (domain, is_bucket) in
        [(DOMAIN, true), ("x.execute-api.us-east-1.amazonaws.com", false), ("a.s3.example", false)]
    {
        assert_eq!(BucketOrigin::find(&storage, domain).is_some(), is_bucket, "{domain}");
    }
}

#[test]
fn a_name_that_s3_would_refuse_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ab", "Pages", "../pages", ".pages", "pa_ges"] {
        let error = open(folder.path(), name).unwrap_err();
        assert!(error.to_string().contains("is not a bucket name"), "{name}: {error}");
    }
}
