//! A fake S3 with the calls of an export.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Query, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};

#[derive(Default)]
struct Contents {
    begun: usize,
    uploads: BTreeMap<String, BTreeMap<usize, Bytes>>,
    objects: BTreeMap<String, Vec<u8>>,
    /// The number of calls before the failing one, and whether that one takes effect.
    failing: Option<(usize, bool)>,
}

/// One bucket, called `exports`.
pub struct Bucket {
    pub endpoint: String,
    contents: Arc<Mutex<Contents>>,
}

impl Bucket {
    pub async fn start() -> Self {
        let contents = Arc::<Mutex<Contents>>::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).layer(DefaultBodyLimit::disable());
        let router = router.with_state(Arc::clone(&contents));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { endpoint, contents }
    }

    pub fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.contents.lock().unwrap().objects.get(&format!("/exports/{key}")).cloned()
    }

    pub fn begun(&self) -> usize {
        self.contents.lock().unwrap().begun
    }

    /// Makes the call after `after` others fail, with or without effect.
    pub fn fail(&self, after: usize, is_done: bool) {
        self.contents.lock().unwrap().failing = Some((after, is_done));
    }

    pub fn lose_uploads(&self) {
        self.contents.lock().unwrap().uploads.clear();
    }
}

type Parameters = Query<BTreeMap<String, String>>;

async fn answer(
    State(contents): State<Arc<Mutex<Contents>>>,
    method: Method,
    uri: Uri,
    Query(parameters): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert!(headers["authorization"].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 "), "signed");
    let mut contents = contents.lock().unwrap();
    let fails = match contents.failing {
        Some((0, is_done)) => Some(is_done),
        Some((after, is_done)) => {
            contents.failing = Some((after - 1, is_done));
            None
        }
        None => None,
    };
    match fails {
        Some(false) => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown").into_response(),
        Some(true) => {
            drop(carry_out(&mut contents, &method, uri.path(), &parameters, body));
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError").into_response()
        }
        None => carry_out(&mut contents, &method, uri.path(), &parameters, body),
    }
}

fn carry_out(
    contents: &mut Contents,
    method: &Method,
    path: &str,
    parameters: &BTreeMap<String, String>,
    body: Bytes,
) -> Response {
    if parameters.contains_key("uploads") {
        contents.begun += 1;
        let id = format!("upload.{}_-", contents.begun);
        contents.uploads.insert(id.clone(), BTreeMap::new());
        let text = format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        return text.into_response();
    }
    if *method == Method::HEAD {
        let found = contents.objects.contains_key(path);
        return if found { StatusCode::OK } else { StatusCode::FORBIDDEN }.into_response();
    }
    let no_upload = || (StatusCode::NOT_FOUND, "<Error><Code>NoSuchUpload</Code></Error>").into_response();
    let upload = &parameters["uploadId"];
    let Some(parts) = contents.uploads.get_mut(upload) else { return no_upload() };
    if *method == Method::PUT {
        let number: usize = parameters["partNumber"].parse().unwrap();
        let etag = format!("\"{number}-{}\"", body.len());
        parts.insert(number, body);
        return ([("etag", etag)], "").into_response();
    }
    let text = String::from_utf8(body.to_vec()).unwrap();
    let listed: Vec<usize> = text
        .split("<PartNumber>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
        .collect();
    assert!(listed.iter().copied().eq(1..=parts.len()), "{text}");
    let object = parts.values().flat_map(|part| part.iter().copied()).collect();
    contents.uploads.remove(upload);
    contents.objects.insert(path.to_owned(), object);
    "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>".into_response()
}
